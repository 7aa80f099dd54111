"""The table of docs/any_weighting.md, from the test that it tells of: `python docs/weighting_table.py` writes it.

Rows that are trained are the test's own parameters, rows that are accepted the apps' own configurations,
so that page, test and apps cannot drift apart.
"""

import importlib
import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

DOCS = Path(__file__).parent
PAGE = DOCS / "any_weighting.md"
TEST = DOCS.parent / "testing/tests/test_any_weighting.py"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def load_test() -> ModuleType:
    """The module of the test, without running it."""
    spec = importlib.util.spec_from_file_location("any_weighting", TEST)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kinds_of(annotation: Any) -> list[str]:
    """Every value of `kind` in a union of weighting sections."""
    if hasattr(annotation, "model_fields"):
        return list(get_args(annotation.model_fields["kind"].annotation))
    return [kind for part in get_args(annotation) for kind in kinds_of(part)]


def accepted(app: str) -> list[str]:
    """The kinds that an app's configuration takes."""
    members = vars(importlib.import_module(f"{app}.config")).values()
    configs = [one for one in members if inspect.isclass(one) and one.__module__ == f"{app}.config"]
    fields = [getattr(one, "model_fields", {}) for one in configs]
    (found,) = [one for one in fields if "weighting" in one]
    return kinds_of(found["weighting"].annotation)


def table() -> str:
    """Rules over apps, those that are trained first."""
    test = load_test()
    apps, trained = list(test.WORDS), list(test.FAMILIES)
    takes = {app: accepted(app) for app in apps}
    others = dict.fromkeys(kind for kinds in takes.values() for kind in kinds)
    rows = [
        f"| `weighting.kind` | {' | '.join(app.replace('_', '-') for app in apps)} |",
        f"|---|{'---|' * len(apps)}",
    ]
    for kind in [*trained, *(kind for kind in others if kind not in trained)]:
        held = ["trained" if kind in trained else "accepted" for _ in apps]
        cells = [word if kind in takes[app] else "–" for word, app in zip(held, apps, strict=True)]
        rows.append(f"| `{kind}` | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def with_table(page: str) -> str:
    """The page with the table as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
