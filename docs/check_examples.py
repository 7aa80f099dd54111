"""Run every Python example of the docs and the READMEs, file by file, in its order on the page."""

import os
from pathlib import Path

import pytest
from mktestdocs import check_md_file

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
