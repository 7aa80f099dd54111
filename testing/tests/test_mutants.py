"""What the mutation run changes, which tests it picks, and what it calls killed."""

import subprocess
import sys
from pathlib import Path

import pytest
from nops_testing.mutants.__main__ import Verdict, draw, report
from nops_testing.mutants._sites import find_mutations
from nops_testing.mutants._tests import tests_of as picked

ROOT = Path(__file__).parents[2]


def changes(source: str) -> set[tuple[str, str, str]]:
    return {(m.kind, m.before, m.after) for m in find_mutations("f.py", source.encode())}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("y = a + b", {("operator", "a + b", "(a - b)")}),
        ("y *= b", {("operator", "y *= b", "y /= b")}),
        ("y = a**2", {("operator", "a**2", "(a * 2)"), ("constant", "2", "(3)")}),
        ("y = -a", {("sign", "-a", "(a)")}),
        ("y = not a", {("logic", "not a", "(a)")}),
        ("y = a and b", {("logic", "a and b", "(a or b)")}),
        ("y = a < b", {("comparison", "a < b", "(a <= b)"), ("comparison", "a < b", "(a > b)")}),
        ("y = 1e-3", {("constant", "1e-3", "(0.002)")}),
        ("y = a.mean()", {("function", "a.mean()", "(a.sum())")}),
        ("y = min(a, b)", {("function", "min(a, b)", "(max(a, b))")}),
        ("y = f(a, b, k=c)", {("order", "f(a, b, k=c)", "(f(b, a, k=c))")}),
    ],
)
def test_each_kind(source: str, expected: set[tuple[str, str, str]]) -> None:
    assert changes(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Text with 1 + 1."""',
        "def f(x: Float[Tensor, 'n+1']) -> Array[3]: pass",
        "@decorate(1 + 1)\ndef f(): pass",
        "raise ValueError(1 + 1)",
        "assert a < 1",
        "if a < 1:\n    raise ValueError",
        "def check_it(a): return a + 1",
        "text = f'{a + 1}'",
        "shape = (a, b) + c",
        "warnings.warn(a + 1)",
        "y = f(a, a)",
        "flag = True",
    ],
)
def test_left_alone(source: str) -> None:
    assert changes(source) == set()


def test_the_change_is_where_it_says() -> None:
    source = "σ = (\n    'ü',\n    α * β,\n)\n".encode()
    (found,) = (m for m in find_mutations("f.py", source) if m.kind == "operator")
    assert found.line == 3
    assert found.apply(source).decode() == "σ = (\n    'ü',\n    (α / β),\n)\n"


def write(folder: Path, **files: str) -> Path:
    """A workspace with one package, under the name of one of ours."""
    for name, text in files.items():
        place = "tests" if name.startswith("test_") else "src/nops_losses"
        path = folder / "packages/nops-losses" / place / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "packages/nops-losses/src/nops_losses"


def test_the_nearest_tests_come_first(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        __init__="from nops_losses._user import use\nfrom nops_losses._other import other\n",
        _core="def core(): pass",
        _user="from nops_losses._core import core\ndef use(): pass",
        _other="def other(): pass",
        test_a="from nops_losses import use",
        test_b="from nops_losses._core import core",
        test_c="from nops_losses import other",
        test_core="import nothing",
    )
    names = [Path(name).stem for name in picked(source, source / "_core.py")]
    assert names == ["test_core", "test_b", "test_a"]


def test_a_draw_is_repeated_by_its_seed_and_spreads_over_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    first = draw("nops_schedules", 6, 0)
    assert first == draw("nops_schedules", 6, 0)
    assert first != draw("nops_schedules", 6, 1)
    assert len({m.path for m in first}) == 6


AREA = """
def last(width):
    while width < 9:
        width += 2
    return width
"""
TESTS = """
from nops_losses import last
def test_last():
    assert last(0) == 10
"""


@pytest.mark.fault
def test_killed_hung_and_survived_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, __init__="from nops_losses._area import last", _area=AREA, test_area=TESTS)
    command = [sys.executable, "-m", "nops_testing.mutants", "nops_losses", "--limit", "5"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    rows = [line.split("|")[2:4] for line in done.stdout.split("\n\n")[0].splitlines()]
    told = {change.strip(): outcome.strip() for change, outcome in rows}
    assert told == {
        "comparison: `width < 9` → `(width <= 9)`": "survived",
        "comparison: `width < 9` → `(width > 9)`": "killed",
        "constant: `9` → `(10)`": "survived",
        "constant: `2` → `(3)`": "killed",
        "operator: `width += 2` → `width -= 2`": "hung",
    }
    assert done.returncode == 1


def test_tests_that_fail_anyway_prove_nothing(tmp_path: Path) -> None:
    red = TESTS.replace("10", "11")
    write(tmp_path, __init__="from nops_losses._area import last", _area=AREA, test_area=red)
    command = [sys.executable, "-m", "nops_testing.mutants", "nops_losses", "--count", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "0 killed, 0 killed by the time limit, 0 survived, 1 doubtful" in done.stdout


def test_the_bar_counts_what_is_equal_to_neither_side() -> None:
    (mutation,) = find_mutations("packages/p/src/p/_f.py", b"y = a + b")
    outcomes = ["killed"] * 18 + ["hung", "survived", "equal"]
    verdicts = [Verdict(mutation=mutation, outcome=o, by="", seconds=1.0) for o in outcomes]
    text, passed = report(verdicts, 0)
    assert "95.0% of 20 killed" in text
    assert passed
    assert not report(verdicts[1:], 0)[1]
