"""The surrogate's model against others: the default preset of `noa train`, another network or another start in its place.

`python benchmarks/noa_rivals.py [--runs DIR] [--models dense unet fno from_waves] [--seeds 3] [--read]` trains each over
seeds 0 to 2, ours included, on the same data with the same steps, one process after the other, and writes
`results/noa_rivals.json` (or `--results NAME`). `dense` has a matrix per wavenumber in the bottleneck and our widths;
`unet` and `fno` are the controls of nops-models, as wide as our number of parameters allows; `from_waves` is ours, begun
with the weights of a surrogate of waves (`--init-from`). Runs that are there already are taken as they are.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import noa.build
from _dense_reference import dense_uafno
from _harness import Claim, record
from noa.cli import main as noa_main
from noa.report import load_evaluation
from nops_models import FNO, UAFNO, FNOConfig, UAFNOConfig, UNet, UNetConfig
from nops_train import RunFolder
from torch import nn

TRAIN = "train-one"  # in a process of its own
LEADS = ("1", "4", "16", "64")


def unet(config: UAFNOConfig, *, base_channels: int) -> nn.Module:
    """The same pyramid with residual blocks where Fourier blocks are."""
    blocks = {"bottleneck_blocks": config.afno_blocks, "encoder_levels": config.encoder_levels}
    blocks |= {"blocks_per_level": config.blocks_per_level}
    return UNet(UNetConfig(base_channels=base_channels, **blocks, **_shared(config)))


def fno(config: UAFNOConfig, *, base_channels: int) -> nn.Module:
    """Four Fourier layers of eight modes."""
    return FNO(FNOConfig(base_channels=base_channels, modes=8, num_layers=4, **_shared(config)))


def _shared(config: UAFNOConfig) -> dict:
    names = ("in_channels", "num_parameters", "residual_scale", "embedding")
    return {name: getattr(config, name) for name in names}


def as_large(build: Callable[..., nn.Module]) -> Callable[[UAFNOConfig], nn.Module]:
    """A network of the width whose number of parameters is nearest to ours."""

    def nearest(config: UAFNOConfig) -> nn.Module:
        ours, widths = count(UAFNO(config)), itertools.count(2)
        below = model = build(config, base_channels=next(widths))
        while count(model) < ours:
            below, model = model, build(config, base_channels=next(widths))
        return min(below, model, key=lambda model: abs(count(model) - ours))

    return nearest


def count(model: nn.Module) -> int:
    """Parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


MODELS: Mapping[str, Callable[[UAFNOConfig], nn.Module]] = {
    "ours": UAFNO,
    "dense": dense_uafno,
    "unet": as_large(unet),
    "fno": as_large(fno),
    "from_waves": UAFNO,
}


def main() -> None:
    """Train what is missing, then tabulate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--models", nargs="+", default=list(MODELS)[1:], choices=list(MODELS)[1:])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--read", action="store_true", help="train nothing")
    parser.add_argument("--results", default="noa_rivals", help="name of the file in results/")
    given = parser.parse_args()
    names = ("ours", *given.models)
    for name in () if given.read else names:
        for seed in range(given.seeds):
            train_apart(name, seed, given.runs)
    details = {name: read(name, given.seeds, given.runs) for name in names}
    record(given.results, claims_of(details), details)


def train_apart(name: str, seed: int, runs: str) -> None:
    """In a process of its own; what another start needs is trained first."""
    start = ()
    if name == "from_waves":
        waves = f"start-waves-{seed}"
        words = ("--preset", "wave", "--name", waves, f"--seed={seed}", "--runs", runs)
        subprocess.run([sys.executable, "-m", "noa", "train", *words], check=True)
        start = ("--init-from", f"{runs}/noa/{waves}")
    words = (TRAIN, name, "--name", f"rival-{name}-{seed}", f"--seed={seed}", "--runs", runs)
    subprocess.run([sys.executable, __file__, *words, *start], check=True)


def train(name: str, words: list[str]) -> int:
    """`noa train` in this process, with another network."""
    noa.build.UAFNO = MODELS[name]  # pyright: ignore
    return noa_main(["train", *words])


def read(name: str, seeds: int, runs: str) -> dict:
    """Mean and deviation over seeds."""
    folders = [Path(runs) / "noa" / f"rival-{name}-{seed}" for seed in range(seeds)]
    held = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    curves = [validations(folder) for folder in folders]
    values = {"validation": [curve[-1] for curve in curves]} | {
        f"lead {lead}": [run["metrics"]["lead"][lead]["nmse"]["value"] for run in held]
        for lead in LEADS
    }
    return {
        "parameters": load_evaluation(RunFolder.at(folders[0]))[1]["model_parameters"],
        "seconds": [run["seconds"] for run in held],
        "steps": [run["steps"] for run in held],
        "curve": [statistics.fmean(values) for values in zip(*curves, strict=True)],
        "nmse": {key: [statistics.fmean(v), statistics.stdev(v)] for key, v in values.items()},
    }


def validations(folder: Path) -> list[float]:
    """NMSE of every validation: means over whole rollouts."""
    events = map(json.loads, (folder / "events.jsonl").read_text().splitlines())
    return [event["metrics"]["nmse"] for event in events if event["event"] == "validation"]


def claims_of(details: Mapping[str, dict]) -> list[Claim]:
    """At equal steps ours is as good as the dense one, and no worse for having begun elsewhere; the others are reported."""
    error = {name: held["nmse"]["validation"][0] for name, held in details.items()}
    pairs = [("ours", "dense"), ("from_waves", "ours")]
    return [
        {
            "claim": f"validation error at equal steps, {name} / {other}",
            "value": error[name] / error[other],
            "bar": 1.0,
            "kind": "at_most",
        }
        for name, other in pairs
        if {name, other} <= error.keys()
    ]


if __name__ == "__main__":
    sys.exit(train(sys.argv[2], sys.argv[3:]) if sys.argv[1:2] == [TRAIN] else main())
