"""What can be said of the notebooks without executing them; `nox -s notebooks` executes them."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])


def cells(page: Path, kind: str) -> list[str]:
    """Sources of the cells of a kind."""
    found = nbformat.read(page, as_version=nbformat.NO_CONVERT).cells
    return [cell.source for cell in found if cell.cell_type == kind]


def test_each_app_has_a_notebook_and_the_page_tells_of_it() -> None:
    """One per app, and no other."""
    names = sorted(page.stem for page in PAGES)
    assert names == sorted(path.name for path in (ROOT / "apps").iterdir())
    told = (ROOT / "docs/notebooks.md").read_text()
    assert sorted(re.findall(r"^\| `(\w+)\.ipynb`", told, re.MULTILINE)) == names


@each
def test_it_is_valid_and_stored_without_results(page: Path) -> None:
    """Results of one machine would change with every execution."""
    notebook = nbformat.read(page, as_version=nbformat.NO_CONVERT)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@each
def test_the_first_cell_installs_what_is_imported(page: Path) -> None:
    """All of our packages that it uses and no other, only where one is missing."""
    first, *rest = cells(page, "code")
    used = set(re.findall(r"^from nops_(\w+)", "\n".join(rest), re.MULTILINE))
    (line,) = re.findall(r"^    %pip install -q (.+)$", first, re.MULTILINE)
    assert used == set(re.findall(r"nops-(\w+)", line))
    (looked,) = re.findall(r"^NEEDED = (.+)$", first, re.MULTILINE)
    assert used == set(re.findall(r'"(\w+)"', looked))


@each
def test_a_rule_by_gradients_comes_with_its_extra(page: Path) -> None:
    """`nops_schedules.gradient` needs torch, which the package alone does not bring."""
    first, *rest = cells(page, "code")
    assert ("nops_schedules.gradient" in "\n".join(rest)) == ("nops-schedules[torch]" in first)


@each
def test_it_links_its_guide_and_no_page_that_is_missing(page: Path) -> None:
    """Beside other pages."""
    links = re.findall(r"\]\(([^)#]+)", "\n".join(cells(page, "markdown")))
    assert f"../docs/{page.stem}.md" in links
    assert [link for link in links if not (page.parent / link).is_file()] == []
