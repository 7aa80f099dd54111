"""Weightings compared: eight schemes, five equations, seeds 0 to 4, at equal steps and at equal time.

`python benchmarks/pinn_study.py [--runs DIR] [--problems NAME,…] [--workers N]` trains 1,500 steps of every scheme of
`pinn-weighting compare` on each equation, fixed weights tuned over a grid among them, and writes
`results/pinn_study.json`: median, least and largest error on the test grid. A comparison that is finished in
`DIR/pinn-weighting/bench_NAME` is taken as it is; one that was begun goes on. With `--read` nothing is trained: what
was compared so far is tabulated.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from _harness import Claim, record
from pinn_weighting.report_study import tables_of
from pinn_weighting.study_scores import Group, rows_of, winner_sentence

PROBLEMS = ("poisson", "kovasznay", "wave", "helmholtz", "burgers")
BARS = {
    "tuned": "poisson: tuned fixed weights, median error",
    "fixed": "poisson: equal weights / tuned, median error",
    "rule": "poisson: the better of gradient norm and ConFIG / tuned, median error",
}
Tables = dict[str, list[Group]]


def main() -> None:
    """Train what is missing, then tabulate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--problems", default=",".join(PROBLEMS), help="some of them, by comma")
    parser.add_argument("--workers", help="processes; one per processor where absent")
    parser.add_argument("--read", action="store_true", help="train nothing")
    given = parser.parse_args()
    found: dict[str, Tables] = {}
    for problem in given.problems.split(","):
        name = f"bench_{problem}"
        words = ["--runs", given.runs, "--name", name, f"--compare.problems={problem}"]
        words += [f"--compare.workers={given.workers}"] if given.workers else []
        if not given.read:
            subprocess.run([sys.executable, "-m", "pinn_weighting", "compare", *words], check=True)
        found[problem] = tables_of(Path(given.runs) / "pinn-weighting" / name)
    claims = claims_of(found["poisson"]["steps"]) if "poisson" in found else []
    record("pinn_study", claims, {name: details(tables, name) for name, tables in found.items()})


def claims_of(groups: Sequence[Group]) -> list[Claim]:
    """The bars on Poisson: fixed weights can be tuned, need it, and a rule comes near them without."""
    medians = {group.arm: group.median for group in groups}
    tuned = medians["tuned"]
    near = min(medians["gradient_norm"], medians["config"])
    return [
        {"claim": BARS["tuned"], "value": tuned, "bar": 0.01, "kind": "at_most"},
        {"claim": BARS["fixed"], "value": medians["fixed"] / tuned, "bar": 5, "kind": "at_least"},
        {"claim": BARS["rule"], "value": near / tuned, "bar": 3, "kind": "at_most"},
    ]


def details(tables: Tables, problem: str) -> dict:
    """Rows and winner of each budget."""
    return {
        budget: {
            "rows": rows_of(groups, problem),
            "winner": winner_sentence(groups, problem, budget=budget),
        }
        for budget, groups in tables.items()
    }


if __name__ == "__main__":
    main()
