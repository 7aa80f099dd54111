"""Break formulas one at a time and see whether a test goes red: `python -m nops_testing.mutants`.

A draw with a seed takes as many changes from each package. Each is applied in a copy of the
package that comes before the working tree on the path, and the package's tests that reach the
changed module run against it, the nearest first, up to the first failure. Each runs in a fork of
this process, which has imported torch and none of ours. The tests that failed must pass on the
unchanged copy, or prove nothing. The exit code is 1 below `BAR`.
"""

import argparse
import importlib
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nops_testing.mutants._equal import EQUAL
from nops_testing.mutants._run import run_tests
from nops_testing.mutants._sites import Mutation, find_mutations
from nops_testing.mutants._tests import tests_of

BAR = 0.95
FOUND = ("killed", "hung")
NEAREST = 3  # files of tests that run first; the rest only when these stay green
# Modules with formulas: all of a package but these, or these alone.
WITHOUT = {
    "nops_diagnostics": "figure|files|format|layout|machine|order|report|.*_report|.*_text|plot_.*|series",
    "nops_losses": "checks|names|query_checks",
    "nops_models": "checks|.*config|ranks",
    "nops_physics": "once|registry|sentinel|stations",
    "nops_schedules": "check|events|intake|kinds|legacy|names|restore|suggest",
}
ONLY = {
    "nops_data": "arrays|balanced|boundary|finite|frames|keyed|loader|mixture|moments|normaliser|"
    "pdebench_frames|rounds|sampler|splits|stats|trajectories|windows",
    "nops_train": "bptt|ema|engine_(balance|batch|lbfgs|settle|source|step|term_norms|validate|verdict)|"
    "inert|initialise|learning_rate|loss_task|memory|precision|scalars|shards",
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a change, and by which test or why.

    `killed`; `hung`, killed by the time limit; `survived`; `equal` to the original; `doubtful`, where
    the test fails without the change, too.
    """

    mutation: Mutation
    outcome: str
    by: str
    seconds: float


def source_of(package: str) -> Path:
    """The folder of a package's sources, from the workspace's root."""
    return Path("packages") / package.replace("_", "-") / "src" / package


def formula_files(package: str) -> list[Path]:
    """The files of a package that the draw takes from, sorted."""
    files = [p for p in sorted(source_of(package).rglob("*.py")) if not p.stem.startswith("__")]
    if package in ONLY:
        return [p for p in files if re.fullmatch(ONLY[package], p.stem.lstrip("_"))]
    return [p for p in files if not re.fullmatch(WITHOUT[package], p.stem.lstrip("_"))]


def draw(package: str, count: int, seed: int) -> list[Mutation]:
    """`count` changes of a package: file after file in random order, of each a random kind."""
    rng = random.Random(f"{seed} {package}")
    found = [find_mutations(p.as_posix(), p.read_bytes()) for p in formula_files(package)]
    files = [sites for sites in found if sites]
    rng.shuffle(files)
    drawn: list[Mutation] = []
    while len(drawn) < count and any(files):
        for sites in filter(None, files[:]):
            kind = rng.choice(sorted({site.kind for site in sites}))
            drawn.append(rng.choice([site for site in sites if site.kind == kind]))
            sites.remove(drawn[-1])
    return drawn[:count]


class Copy:
    """A package's sources in a folder of their own, to be broken and mended."""

    def __init__(self, package: str, folder: Path, limit: float) -> None:
        self.source, self.folder, self.limit = source_of(package), folder, limit
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(self.source, folder / package, ignore=ignore)

    def judge(self, mutation: Mutation) -> Verdict:
        """Run the tests that reach the change, nearest first, until one fails."""
        start, path = time.monotonic(), Path(mutation.path)
        tests = tests_of(self.source, path)
        outcome, by = "survived", ""
        self._write(path, mutation.apply(path.read_bytes()))
        for some in filter(None, (tests[:NEAREST], tests[NEAREST:])):
            if outcome == "survived":
                outcome, by = self.run(some)
        self._write(path, path.read_bytes())
        if (reason := equal_because(mutation)) and outcome == "survived":
            outcome, by = "equal", reason
        seconds = time.monotonic() - start
        return Verdict(mutation=mutation, outcome=outcome, by=by, seconds=seconds)

    def failing(self, verdicts: Sequence[Verdict]) -> set[str]:
        """Which of the tests that found changes fail on the sources as they are."""
        left = {v.by: None for v in verdicts if v.outcome in FOUND and v.by}
        found = set()
        while left:
            outcome, by = self.run(list(left))
            if outcome == "survived":
                break
            found |= {by} if by in left else set(left)  # a test that none of them is: believe none
            left = {name: None for name in left if name not in found}
        return found

    def run(self, tests: Sequence[str]) -> tuple[str, str]:
        """As `run_tests`, against the copy as it is."""
        return run_tests(tests, package=self.source.name, folder=self.folder, limit=self.limit)

    def _write(self, path: Path, content: bytes) -> None:
        place = self.folder / path.relative_to(self.source.parent)
        place.write_bytes(content)
        for compiled in place.parent.glob(f"__pycache__/{place.stem}.*"):
            compiled.unlink()  # Python tells it apart by size and second alone


def equal_because(mutation: Mutation) -> str:
    """Why no test can see the change, if we know; the place is its file and the line's text."""
    return EQUAL.get((short(mutation.path), mutation.text, mutation.after), "")


def short(path: str) -> str:
    """The path below `src`."""
    return "/".join(Path(path).parts[3:])


def judge_package(package: str, args: argparse.Namespace) -> list[Verdict]:
    """Every change of a package, each told as it ends, and then the tests that failed once more."""
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        copy = Copy(package, Path(name).resolve(), args.limit)
        for mutation in draw(package, args.count, args.seed):
            if args.only in mutation.path:
                verdicts.append(copy.judge(mutation))
                print(row(verdicts[-1]), flush=True)
        failing = copy.failing(verdicts)
    return [doubted(v, failing) for v in verdicts]


def doubted(verdict: Verdict, failing: Collection[str]) -> Verdict:
    """The verdict, or that nothing is proven where its test fails without the change."""
    if verdict.outcome not in FOUND or verdict.by not in failing:
        return verdict
    return replace(verdict, outcome="doubtful")


def row(verdict: Verdict) -> str:
    """A line of the table, in Markdown."""
    m = verdict.mutation
    change = " → ".join(f"`{' '.join(t.split())}`".replace("|", "\\|") for t in (m.before, m.after))
    by = verdict.by.split("/tests/")[-1].replace("|", "\\|")
    return f"| {short(m.path)}:{m.line} | {m.kind}: {change} | {verdict.outcome} | {by} |"


def report(verdicts: Sequence[Verdict], seed: int) -> tuple[str, bool]:
    """The table with its figure, and whether the bar is met."""
    count = Counter(v.outcome for v in verdicts)
    told = len(verdicts) - count["equal"]
    share = sum(count[outcome] for outcome in FOUND) / max(told, 1)
    seconds = sum(v.seconds for v in verdicts)
    lines = [
        f"Seed {seed}: {len(verdicts)} changes, {count['killed']} killed, {count['hung']} killed by "
        f"the time limit, {count['survived']} survived, {count['doubtful']} doubtful, "
        f"{count['equal']} equal to the original; "
        f"{share:.1%} of {told} killed (bar {BAR:.0%}), {seconds / 60:.0f} minutes.",
        "",
        "| file | change | outcome | by |",
        "|---|---|---|---|",
        *(row(v) for v in verdicts),
    ]
    return "\n".join(lines) + "\n", told > 0 and share >= BAR


def main() -> int:
    """Judge the changes that the words ask for, print and write the table."""
    packages = sorted([*WITHOUT, *ONLY])
    parser = argparse.ArgumentParser(prog="mutants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help="import names; default: all")
    parser.add_argument("--count", type=int, default=10, help="changes of each package (10)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    parser.add_argument("--only", default="", help="of the drawn files, those whose path has this")
    parser.add_argument("--limit", type=float, default=300, help="seconds for one test (300)")
    parser.add_argument("--report", type=Path, help="where the table goes, too")
    args = parser.parse_args()
    if unknown := sorted(set(args.packages) - set(packages)):
        parser.error(f"no package {unknown[0]!r}; there are {', '.join(packages)}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in ("torch", "numpy", "scipy.stats", "h5py", "matplotlib.pyplot", "pydantic"):
        importlib.import_module(name)  # once, for all forks
    verdicts = [v for name in args.packages or packages for v in judge_package(name, args)]
    text, passed = report(verdicts, args.seed)
    print(f"\n{text}")
    if args.report:
        args.report.write_text(text)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
