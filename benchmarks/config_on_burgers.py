"""ConFIG on Burgers' equation beside plain Adam: the preset `burgers_config` over five seeds, 5,000 steps each.

`python benchmarks/config_on_burgers.py [--runs DIR] [--workers N] [--read]` trains what is missing in
`DIR/pinn-weighting/config_on_burgers_*` and writes `results/config_on_burgers.json`: the mean squared error against
the exact solution at the last step, and the least at a validation for the published seed.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from _harness import Claim, record

PUBLISHED = 19018
SEEDS = {PUBLISHED: 1, 0: 4}  # first seed: how many
ARMS = ("fixed", "config")
Found = dict[str, dict[int, float]]


def main() -> None:
    """Train what is missing, then tabulate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--workers", default="1", help="processes")
    parser.add_argument("--read", action="store_true", help="train nothing")
    given = parser.parse_args()
    final: Found = {arm: {} for arm in ARMS}
    best: Found = {arm: {} for arm in ARMS}
    for first, count in SEEDS.items():
        folder = Path(given.runs) / "pinn-weighting" / f"config_on_burgers_{first}"
        if not given.read:
            train(folder, first, count, given)
        for seed in range(first, first + count):
            for arm in ARMS:
                final[arm][seed], best[arm][seed] = errors_of(folder, arm, seed)
    record("config_on_burgers", claims_of(final, best), {"final": final, "best": best})


def train(folder: Path, first: int, count: int, given: argparse.Namespace) -> None:
    """The comparison of some seeds; one that was begun goes on."""
    command = [sys.executable, "-m", "pinn_weighting", "compare", "--preset", "burgers_config"]
    command += ["--runs", given.runs, "--name", folder.name]
    command += [f"--compare.first_seed={first}", f"--compare.seeds={count}"]
    subprocess.run([*command, f"--compare.workers={given.workers}"], check=True)


def errors_of(folder: Path, arm: str, seed: int) -> tuple[float, float]:
    """Mean squared errors of a run: at the last step, and the least at a validation."""
    run = folder / f"burgers_{arm}_s{seed}"
    summary = json.loads((run / "summary.json").read_text())
    target = torch.load(run / "evaluation.pt", weights_only=True)["target"]
    size = float(target.double().square().mean())  # errors are relative to the square root of this
    return summary["metrics"]["error"] ** 2 * size, summary["best"]["value"] ** 2 * size


def claims_of(final: Found, best: Found) -> list[Claim]:
    """ConFIG reaches what its authors' notebook reached, and half of plain Adam's error."""
    middle = {arm: statistics.median(errors.values()) for arm, errors in final.items()}
    published, ratio = best["config"][PUBLISHED], middle["config"] / middle["fixed"]
    claims: list[Claim] = [
        {
            "claim": "published seed, least mean squared error",
            "value": published,
            "bar": 0.0096,
            "kind": "at_most",
        },
        {
            "claim": "median of five seeds, last mean squared error",
            "value": middle["config"],
            "bar": 0.0104,
            "kind": "at_most",
        },
        {"claim": "the same over plain Adam's", "value": ratio, "bar": 0.5, "kind": "at_most"},
    ]
    return claims


if __name__ == "__main__":
    main()
