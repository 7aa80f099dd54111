"""A training step of U-AFNO against the same network with a dense spectral bottleneck.

One step is forward, backward, clip, AdamW on a 64² field: base 32, three levels, batch 4, window 1.
Peak memory is measured in a fresh process for each model, `bench_uafno.py --peak ours|dense`: the
highest resident set over two steps, less the resident set just before the model is built.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from _dense_reference import dense_uafno
from _harness import Claim, compare, peak_of, record
from nops_losses import trajectory_loss
from nops_models import UAFNO, UAFNOConfig

CONFIG = UAFNOConfig(base_channels=32, encoder_levels=3)
BATCH, SIZE = 4, 64
MODELS: dict[str, Callable[[UAFNOConfig], UAFNO]] = {"ours": UAFNO, "dense": dense_uafno}


def training_step(model: UAFNO) -> Callable[[], None]:
    """One whole step on one fixed batch, as a function of nothing."""
    generator = torch.Generator().manual_seed(0)
    state, target = torch.randn(2, BATCH, 1, SIZE, SIZE, generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.01)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        pred = model.rollout(state, num_steps=1)
        trajectory_loss(pred, target[:, None]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def resident(field: str) -> int:
    """Bytes of this process's resident set from the kernel: "VmRSS" now, "VmHWM" at its highest.

    `getrusage` would not do: the kernel lets a child start from its parent's peak.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}; peak memory needs Linux.")


def print_peak(name: str) -> None:
    before = resident("VmRSS")
    step = training_step(MODELS[name](CONFIG))
    for _ in range(2):  # the optimizer's state is there from the second on
        step()
    print(resident("VmHWM") - before)


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def measure() -> tuple[list[Claim], dict[str, object]]:
    peaks = {name: peak_of(__file__, "--peak", name) for name in MODELS}
    models = {name: build(CONFIG) for name, build in MODELS.items()}
    parameters = {name: count(model) for name, model in models.items()}
    seconds = compare({name: training_step(model) for name, model in models.items()}, repeat=9)
    claims: list[Claim] = [
        {
            "claim": "training step, time dense / ours",
            "value": seconds["dense"] / seconds["ours"],
            "bar": 2.0,
            "kind": "at_least",
        },
        {
            "claim": "parameters, ours / dense",
            "value": parameters["ours"] / parameters["dense"],
            "bar": 0.10,
            "kind": "at_most",
        },
        {
            "claim": "peak memory of a training step, ours / dense",
            "value": peaks["ours"] / peaks["dense"],
            "bar": 0.4,
            "kind": "at_most",
        },
    ]
    details = {
        "shape": [BATCH, 1, SIZE, SIZE],
        "seconds": seconds,
        "parameters": parameters,
        "peak_bytes": peaks,
        "memory_method": "VmHWM over two steps less VmRSS before the model, one process each",
    }
    return claims, details


def main() -> None:
    """Measure and record, or print the peak of one model."""
    if sys.argv[1:2] == ["--peak"]:
        print_peak(sys.argv[2])
    else:
        record("uafno", *measure())


if __name__ == "__main__":
    main()
