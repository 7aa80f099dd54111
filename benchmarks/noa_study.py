"""The study of the surrogate: each domain over seeds 0 to 2, on 64 parameters it never saw.

`python benchmarks/noa_study.py [--seeds 3] [--domains gray_scott wave …] [--runs DIR] [--read]` goes the recommended
path with the presets as they are, one process after the other: train, train-vqvae, validate, diagnose. It writes
`results/noa_study.json`: mean and standard deviation over seeds of skill and shuffle ratio per lead time, and for each
seed the use of codes, the reconstruction ratio and the verdict. Runs that are there already are continued or taken
as they are; with `--read` nothing is run.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from _harness import Claim, record

FIGURES = ("skill_persistence", "skill_mean", "parameters_shuffle", "nmse")
# Bars at lead 16, mean over seeds.
BARS = {
    "gray_scott": {"skill_persistence": 0.60, "skill_mean": 0.40, "parameters_shuffle": 2.0},
    "random_conv": {"skill_persistence": 0.80, "skill_mean": 0.60, "parameters_shuffle": 1.6},
    "wave": {"skill_persistence": 0.93, "skill_mean": 0.85, "parameters_shuffle": 8.0},
    "navier_stokes": {},
}
NAMES = {
    "skill_persistence": "skill over persistence",
    "skill_mean": "skill over the mean",
    "parameters_shuffle": "θ-shuffle ratio",
}


def main() -> None:
    """Train what is missing, then tabulate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--domains", nargs="+", default=list(BARS), choices=list(BARS))
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--read", action="store_true", help="run nothing")
    words = parser.parse_args()
    runs = [(domain, seed) for domain in words.domains for seed in range(words.seeds)]
    for domain, seed in [] if words.read else runs:
        go(domain, seed, words.runs)
    tables = {
        domain: [read(domain, seed, words.runs) for seed in range(words.seeds)]
        for domain in words.domains
    }
    claims = [claim for domain, runs in tables.items() for claim in claims_of(domain, runs)]
    record("noa_study", claims, {domain: details(runs) for domain, runs in tables.items()})


def folders(domain: str, seed: int, runs: str) -> tuple[Path, Path]:
    """Of the surrogate and of its vocabulary."""
    surrogate = Path(runs) / "noa" / f"study-{domain}-{seed}"
    return surrogate, surrogate.with_name(f"{surrogate.name}-tokens")


def go(domain: str, seed: int, runs: str) -> None:
    """The recommended path by the command line; what is finished is not done again."""
    surrogate, vocabulary = folders(domain, seed, runs)
    for command, folder in (("train", surrogate), ("train-vqvae", vocabulary)):
        words = ["--preset", domain, "--name", folder.name, "--seed", str(seed), "--runs", runs]
        call(command, *words, failing=False)
    for command, file in (("validate", "validation.json"), ("diagnose", "diagnosis.json")):
        if not (surrogate / file).exists():
            call(command, str(surrogate), str(vocabulary), failing=True)


def call(*words: str, failing: bool) -> None:
    """One command; `failing` where 1 says that rollouts are judged unfit."""
    code = subprocess.run([sys.executable, "-m", "noa", *words], check=False).returncode
    if code not in ((0, 1) if failing else (0,)):
        sys.exit(f"noa {' '.join(words)} ended with code {code}")


def read(domain: str, seed: int, runs: str) -> dict:
    """The surrogate's summary, and under `tokens` what its vocabulary, validation and diagnosis found."""
    surrogate, vocabulary = folders(domain, seed, runs)
    held = {
        name: json.loads((folder / f"{name}.json").read_text())
        for folder, name in (
            (surrogate, "summary"),
            (surrogate, "validation"),
            (surrogate, "diagnosis"),
        )
    }
    words = json.loads((vocabulary / "summary.json").read_text())["metrics"]
    codes = words["tokens"].values()
    ratio = held["validation"]["tokens"]["ratio"]["total"]
    tokens = {
        "reconstruction": words["reconstruction"]["all"],
        "used": sum(c["codes"] * c["utilisation"] for c in codes) / sum(c["codes"] for c in codes),
        "perplexity": statistics.fmean(c["perplexity"] / c["codes"] for c in codes),
        "ratio": ratio["value"],
        "grade": held["validation"]["tokens"]["grade"],
        "agreement": held["validation"]["tokens"]["agreement"]["rollouts"]["value"],
        "used_by_rollouts": held["diagnosis"]["sections"]["diversity"]["utilisation"],
        "verdict": held["diagnosis"]["verdict"],
        "points": held["diagnosis"]["points"],
        "failed": held["diagnosis"]["failed"],
    }
    return {**held["summary"], "tokens": tokens}


def spread(runs: list[dict], lead: str, figure: str) -> tuple[float, float]:
    """Mean and standard deviation over the runs."""
    values = [run["metrics"]["lead"][lead][figure]["value"] for run in runs]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def claims_of(domain: str, runs: list[dict]) -> list[Claim]:
    """The bars at lead 16, and skill above 0 by a standard deviation at every lead."""
    claims: list[Claim] = [
        {
            "claim": f"{domain}, lead 16: {NAMES[figure]}",
            "value": spread(runs, "16", figure)[0],
            "bar": bar,
            "kind": "at_least",
        }
        for figure, bar in BARS[domain].items()
    ]
    for figure in ("skill_persistence", "skill_mean"):
        lowest = min(
            mean - deviation
            for mean, deviation in (
                spread(runs, lead, figure) for lead in runs[0]["metrics"]["lead"]
            )
        )
        claims.append(
            {
                "claim": f"{domain}, every lead: {NAMES[figure]}, mean − deviation",
                "value": lowest,
                "bar": 0.0,
                "kind": "at_least",
            }
        )
    return claims


def details(runs: list[dict]) -> dict:
    """Mean and deviation per lead, and what each run took."""
    leads = runs[0]["metrics"]["lead"]
    return {
        "seconds": [run["seconds"] for run in runs],
        "steps": [run["steps"] for run in runs],
        "tokens": [run["tokens"] for run in runs],
        "lead": {
            lead: {
                figure: dict(zip(("mean", "std"), spread(runs, lead, figure), strict=True))
                for figure in FIGURES
            }
            for lead in leads
        },
    }


if __name__ == "__main__":
    main()
