"""Run every Python example of the docs and the READMEs, and find every test that a promise names."""

import os
import re
from pathlib import Path

import pytest
from mktestdocs import check_md_file
from nops_diagnostics._feature_columns import CROSS, FRAME, INITIAL, SUMMARY

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for pattern in ("README.md", "docs/**/*.md", "packages/*/README.md", "apps/*/README.md")
    for page in ROOT.glob(pattern)
    if "```python" in page.read_text()
)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's blocks share one namespace and run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    assert os.listdir() == []
    check_md_file(page, memory=True)


def test_each_promise_names_a_test_that_exists() -> None:
    """A row without a test, or with one that was renamed, is no promise."""
    rows = [
        line
        for line in (ROOT / "docs/promises.md").read_text().splitlines()
        if line.startswith("| ") and "held by" not in line
    ]
    named = [re.findall(r"`([\w/.-]+\.py)::(\w+)`", row.rpartition(" | ")[2]) for row in rows]
    assert len(rows) > 20
    assert all(named)
    for file, name in {one for found in named for one in found}:
        assert re.search(rf"^ *def {name}\(", (ROOT / file).read_text(), re.MULTILINE), name


def test_the_page_on_features_holds_every_definition() -> None:
    """The definitions are hashed into files: the page must say the same."""
    page = (ROOT / "docs/features.md").read_text().replace("&#124;", "|")
    for table in (INITIAL, SUMMARY, FRAME, CROSS):
        for name, column in table.items():
            suffix = "" if column.differentiable else " (no gradient)"
            assert f"| `{name}` | {column.definition}{suffix} |" in page, name
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) >= len(INITIAL) + len(SUMMARY) + len(FRAME) + len(CROSS)
