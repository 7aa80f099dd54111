"""The ablation of the inverse losses: arms none, enc, dec and both over seeds 0 to 2, two equations.

`python benchmarks/upt_study.py [--runs DIR] [--studies NAME,…]` trains each equation at horizon 1 and at its default one,
and the arm `both` on the second with a late start of the inverse losses, with little weight on them, and with both: 63 runs
in all, of fewer steps than the presets take (see `STUDIES`). It writes `results/upt_study.json`: mean and standard deviation over seeds of the
nRMSE of decoded free rollouts, single steps and reconstructions, beside both kinds of persistence. A
study that is finished in `DIR/upt-inverse` is taken as it is; one that was begun goes on.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from _harness import Claim, record
from nops_train import RunFolder
from turbulence_study import spread
from upt_inverse.ablation import BASELINES, FIGURES, effect, scored

BURGERS = "--train.epochs 4 --train.warmup_steps 64"
DIFFUSION_REACTION = f"--data.num_train 128 --train.batch_size 4 {BURGERS}"
CONSTANT = "--weighting.kind constant"
LATE = "--weighting.kind curriculum --weighting.delay 1 --weighting.ramp 1"
LIGHT = "--loss.L_inv_enc 0.05 --loss.L_inv_dec 0.05"
ARMS_OF_BOTH = {
    "late": ("1,3", f"{LATE} --weighting.cap null"),
    "light": ("1", f"{CONSTANT} {LIGHT}"),
    "late_light": ("1,3", f"{LATE} --weighting.cap 0.05"),
}
STUDIES = {
    "burgers": ("ablation", "1,4", BURGERS),
    "diffusion_reaction": ("diffusion_reaction", "1,3", f"{CONSTANT} {DIFFUSION_REACTION}"),
    **{
        f"diffusion_reaction_{name}": (
            "diffusion_reaction",
            horizons,
            f"--arms both {words} {DIFFUSION_REACTION}",
        )
        for name, (horizons, words) in ARMS_OF_BOTH.items()
    },
}  # preset, horizons with the default last, and other words
Runs = dict[tuple[int, str], list[RunFolder]]


def main() -> None:
    """Train what is missing, then tabulate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--studies", default=",".join(STUDIES), help="some of them, by comma")
    given = parser.parse_args()
    root, studies = Path(given.runs), {}
    for study in given.studies.split(","):
        preset, horizons, words = STUDIES[study]
        name = f"{study}_ablation"
        command = [sys.executable, "-m", "upt_inverse", "ablate", "--preset", preset]
        folder = ["--runs", str(root), "--name", name, f"--horizons={horizons}"]
        subprocess.run([*command, *folder, *words.split()], check=True)
        studies[study] = scored(root / "upt-inverse" / name)
    claims = [claim for study, runs in studies.items() for claim in claims_of(study, runs)]
    record("upt_study", claims, {study: details(runs) for study, runs in studies.items()})


def claims_of(study: str, runs: Runs) -> list[Claim]:
    """Mean + spread of arm `both` at the default horizon, over each kind of persistence."""
    held = spread(figures(runs[max(runs)[0], "both"], "latent_nrmse"))
    worst = float(held["mean"]) + float(held["std"])  # type: ignore[arg-type]
    baselines = runs[max(runs)[0], "both"][0].summary()["baselines"]
    return [
        {
            "claim": f"{study}: latent rollout, mean + spread, over {label}",
            "value": worst / baselines[f"{name}_nrmse"],
            "bar": 1.0,
            "kind": "at_most",
        }
        for name, label in BASELINES.items()
    ]


def figures(runs: list[RunFolder], name: str) -> list[float]:
    """One figure of each run."""
    return [run.summary()["metrics"][name] for run in runs]


def details(runs: Runs) -> dict:
    """By horizon: every arm, and whether the inverse losses have an effect; then the baselines."""
    horizons = sorted({horizon for horizon, _ in runs})
    first = next(iter(runs.values()))[0].summary()["baselines"]
    return {
        "horizons": {
            str(horizon): {
                "arms": {
                    arm: {name: spread(figures(group, name)) for name in FIGURES}
                    for (steps, arm), group in runs.items()
                    if steps == horizon
                },
                **told_effect(runs, horizon),
            }
            for horizon in horizons
        },
        "baselines": first,
    }


def told_effect(runs: Runs, horizon: int) -> dict[str, str]:
    """Whether `both` is better than `none`, where the study has both."""
    compared = ("both", "none")
    if not all((horizon, arm) in runs for arm in compared):
        return {}
    errors = {arm: figures(runs[horizon, arm], "latent_nrmse") for arm in compared}
    return {"effect": effect(errors)[1]}


if __name__ == "__main__":
    main()
