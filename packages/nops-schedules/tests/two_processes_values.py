"""One of two processes: its share of each step's samples, a sum over both, and weightings of its own.

Each rank writes `FOLDER/RANK.json`.
"""

import torch
from nops_schedules import (
    AdaptiveLossWeights,
    AutoSelect,
    DynamicWeightAverage,
    ReLoBRaLo,
    SoftAdapt,
    Stages,
    VarianceWeights,
)

STEPS = 120
PER_EPOCH = 10
SHARES = (slice(0, 7), slice(7, 10))  # of ten samples
NAMES = ["pde", "ic", "bc"]
SCHEMES = {
    "equal_init": lambda: AdaptiveLossWeights(NAMES),
    "equal_init_ema": lambda: AdaptiveLossWeights(NAMES, strategy="equal_init_ema"),
    "ema": lambda: AdaptiveLossWeights(NAMES, strategy="ema", update_unit="step"),
    "SoftAdapt": lambda: SoftAdapt(NAMES),
    "ReLoBRaLo": lambda: ReLoBRaLo(NAMES, alpha=0.9, beta=0.8),
    "DynamicWeightAverage": lambda: DynamicWeightAverage(NAMES),
    "VarianceWeights": lambda: VarianceWeights(NAMES),
    "Stages": lambda: Stages([(40, ReLoBRaLo(NAMES)), (None, DynamicWeightAverage(NAMES))]),
    "AutoSelect": lambda: AutoSelect(NAMES, window=100, drift=3.0),
}


def errors(step):
    """Ten samples of each term: the last three of `pde` fall later and further than the others."""
    generator = torch.Generator().manual_seed(step)
    noise = 0.5 + torch.rand(3, 10, generator=generator, dtype=torch.float64)
    slope = torch.tensor([*[0.99] * 7, *[0.93] * 3], dtype=torch.float64)
    return dict(zip(NAMES, (slope**step * noise[0], 0.98**step * noise[1], noise[2]), strict=True))


def trace(make, mean_of):
    """The weights after each step."""
    made, found = make(), []
    for step in range(STEPS):
        at = {"epoch": step // PER_EPOCH, "step": step}
        found.append(made.weights(**at))
        losses = {name: mean_of(values) for name, values in errors(step).items()}
        made.observe(losses, **at, split="train")
    return found


if __name__ == "__main__":
    from two_processes_meet import main, mean_over_both

    main(
        lambda rank: {
            name: trace(make, mean_over_both(SHARES[rank])) for name, make in SCHEMES.items()
        }
    )
