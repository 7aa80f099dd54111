"""Tables of the docs against the code that they tell of."""

import importlib
import inspect
import re
import runpy
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from nops_train import Alias

DOCS = Path(__file__).parent
APPS = {
    "NOA": "noa",
    "Turbulence losses and their schedule": "turbulence",
    "UPT with inverse losses": "upt_inverse",
    "PHYS_SMPL": "phys_smpl",
    "PINN adaptive weighting": "pinn_weighting",
}
PAGES = ("README.md", "docs/**/*.md", "packages/*/README.md", "apps/*/README.md")
Pair = tuple[str, Any]
NO_VALUE = object()


def test_the_table_of_weightings_is_that_of_the_test() -> None:
    """`python docs/weighting_table.py` writes it."""
    made = runpy.run_path(str(DOCS / "weighting_table.py"))
    page = made["PAGE"].read_text()
    assert page == made["with_table"](page)
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert sum("| trained |" in row for row in rows[1:]) == len(made["load_test"]().FAMILIES)


def pictures(page: Path) -> set[Path]:
    """Files of ours that a page shows, in Markdown or HTML."""
    links = re.findall(r"!\[[^\]]*\]\(([^)\s]+)|<img[^>]*\ssrc=\"([^\"]+)", page.read_text())
    return {(page.parent / link).resolve() for link in map("".join, links) if "://" not in link}


def test_every_figure_is_shown_and_drawn_by_the_gallery() -> None:
    """`uv run nox -s gallery`: none is shown that it does not draw, none lies about that no page shows."""
    gallery = runpy.run_path(str(DOCS / "gallery.py"))
    pages = [page for pattern in PAGES for page in DOCS.parent.glob(pattern)]
    shown = {picture for page in pages for picture in pictures(page)}
    assert shown == {gallery["FIGURES"] / name for name in gallery["GALLERY"]}
    assert shown == set(gallery["FIGURES"].iterdir())


def test_the_gallery_asks_for_programs_and_presets_that_exist() -> None:
    """What each report draws is seen when it is trained."""
    for figure in runpy.run_path(str(DOCS / "gallery.py"))["GALLERY"].values():
        command = importlib.import_module(f"{figure.program.replace('-', '_')}.cli").app()
        assert command.name == figure.program
        assert figure.preset in command.preset_names()


def plain(text: str) -> Any:
    """A value as a YAML file has it; numbers such as 1e-4 are numbers here too."""
    value = yaml.safe_load(text)
    return (
        float(value) if isinstance(value, str) and re.fullmatch(r"[\d.]+e-?\d+", value) else value
    )


def pair(text: str) -> Pair:
    """`key: value`, `key=value`, `--flag value`, or a key alone."""
    found = re.fullmatch(r"(-*[\w.-]+)(?:: |=| )(.+)", text)
    return (found[1], plain(found[2])) if found else (text, NO_VALUE)


def rows() -> list[tuple[str, str, str]]:
    """App, old name with a value, and our keys, of each row of the page."""
    found, app = [], ""
    for line in (DOCS / "migration.md").read_text().splitlines():
        if line.startswith("## "):
            app = APPS[line[3:]]
        if line.startswith("| `"):
            _, old, new, _, _ = line.split("|")
            found.append((app, old.strip(" `"), new.strip()))
    return found


def through(aliases: Mapping[str, Alias], old: str, value: Any) -> Mapping[str, Any]:
    """What an old name sets: keys with values."""
    sets = (aliases.get(old) or aliases[f"--{old}"]).sets
    if isinstance(sets, str):
        return {sets: value}
    return sets if isinstance(sets, Mapping) else sets(value)


def by_aliases(app: str, old: str) -> Mapping[str, Any]:
    """Of the command line of an app."""
    command = importlib.import_module(f"{app}.cli").app()
    aliases = {alias.name: alias for alias in command.aliases}
    words = {"--" + old.removeprefix("--"): old}
    if app == "pinn_weighting":
        words = dict.fromkeys(
            importlib.import_module("pinn_weighting.spelling").translated([old])[1:]
        )
    found: dict[str, Any] = {}
    for word in words:
        name, value = pair(word)
        bare = name.removeprefix("--")
        known = name in aliases or bare in aliases
        found |= through(aliases, name if name in aliases else bare, value) if known else {}
        if not known:
            assert app == "pinn_weighting", f"{name} is no other name"
            found[bare if "." in bare else name] = value
    return found


def by_file(old: str) -> list[Mapping[str, Any]]:
    """Of a JSON file of the original, with a gated and with a low-rank head."""
    rewrite = importlib.import_module("phys_smpl.seed_layout").rewrite
    path, value = pair(old)
    found = []
    for more in ({}, {"residual_rank": 2}):
        values: dict[str, Any] = {"arch": {"args": {"physics": "Mogi"}, "phys_vae": deepcopy(more)}}
        *blocks, name = path.split(".")
        place = values
        for block in blocks:
            place = place.setdefault(block, {})
        place[name] = value
        found.append(rewrite(values))
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("app", "old", "new"), rows(), ids=lambda text: text[:50])
def test_an_old_name_sets_what_the_page_says(app: str, old: str, new: str) -> None:
    """Through the app's own aliases, or the reader of its old files."""
    made = by_file(old) if app == "phys_smpl" else [by_aliases(app, old)]
    for text in re.findall(r"`([^`]+)`", new):
        key, value = pair(text)
        held = [one[key] for one in made if key in one]
        assert held, f"{key} is not set by {old}: {made}"
        assert value is NO_VALUE or any(plain(str(one)) == value for one in held), held


def test_no_section_of_the_page_is_empty() -> None:
    """Each of the five programs has rows."""
    assert {app for app, _, _ in rows()} == set(APPS.values())
    assert len(rows()) > 100


PACKAGES = {
    "losses": ("nops_losses",),
    "schedules": ("nops_schedules", "nops_schedules.gradient"),
    "models": ("nops_models",),
    "physics": ("nops_physics",),
    "data": ("nops_data",),
    "train": ("nops_train",),
    "diagnostics": ("nops_diagnostics",),
}
PUBLIC = [
    pytest.param(page, module, name, id=f"{module}.{name}")
    for page, modules in PACKAGES.items()
    for module in modules
    for name in importlib.import_module(module).__all__
]


@cache
def anchors(page: str) -> frozenset[str]:
    """What the built page of a package can be linked to."""
    built = DOCS.parent / "site/api" / page / "index.html"
    return frozenset(re.findall(r'id="([^"]+)"', built.read_text()))


def gaps(function: Any) -> list[str]:
    """Sections that the docstring of a function lacks."""
    made = inspect.unwrap(function)
    text, signature = inspect.getdoc(made) or "", inspect.signature(made)
    names = [name for name in signature.parameters if name not in ("self", "cls")]
    answer = signature.return_annotation not in (None, "None", inspect.Signature.empty)
    raises = re.search(
        r"^\s+raise (ValueError|TypeError|KeyError|\w*Error)\(", inspect.getsource(made), re.M
    )
    asked = {"Args:": names, "Returns:|Yields:": answer, "Raises:": raises}
    found = ["all"] if not text else [s for s, on in asked.items() if on and not re.search(s, text)]
    return found + [
        f"Args: {n}" for n in names if "Args:" in text and not re.search(rf"\b{n}\b", text)
    ]


def methods(kind: type) -> Mapping[str, Any]:
    """Public functions and properties that a class defines itself."""
    own = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
    plain = {
        name: getattr(value, "__func__", getattr(value, "fget", value))
        for name, value in own.items()
    }
    return {name: value for name, value in plain.items() if inspect.isfunction(value)}


@pytest.mark.parametrize(("page", "module", "name"), PUBLIC)
def test_a_public_name_is_on_its_page_and_says_what_it_takes(
    page: str, module: str, name: str
) -> None:
    """The site is built before, by `nox -s docs`."""
    assert f"{module}.{name}" in anchors(page)
    held = getattr(importlib.import_module(module), name)
    if inspect.isclass(held):
        assert inspect.getdoc(held)
        for method, function in methods(held).items():
            assert inspect.getdoc(function) or inspect.getdoc(getattr(held, method)), method
    elif inspect.isfunction(inspect.unwrap(held)):
        assert gaps(held) == []
