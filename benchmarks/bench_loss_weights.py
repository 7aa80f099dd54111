"""What weights that follow losses cost each step, against a step of a physics-informed network.

The step is Burgers' equation on 2,000 points and 50 each of initial and boundary values, with five layers of
50; three terms. Each scheme is asked for its terms and weights, and shown the losses, at every step.
"""

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import torch
from _harness import Claim, compare, paired_ratio, record
from nops_schedules import (
    AdaptiveLossWeights,
    AutoSelect,
    DynamicWeightAverage,
    ReLoBRaLo,
    SoftAdapt,
    Stages,
    VarianceWeights,
)
from torch import Tensor, nn

CALLS = 1000
BAR = 0.001
TERMS = ["pde", "ic", "bc"]
WIDTH, LAYERS = 50, 5
VISCOSITY = 0.01 / math.pi
SCHEMES: dict[str, Callable[[], Any]] = {
    "equal_init": lambda: AdaptiveLossWeights(TERMS, update_unit="step"),
    "equal_init_ema": lambda: AdaptiveLossWeights(
        TERMS, strategy="equal_init_ema", update_unit="step"
    ),
    "ema, total": lambda: AdaptiveLossWeights(
        TERMS, strategy="ema", normalize="total", update_unit="step"
    ),
    "SoftAdapt": lambda: SoftAdapt(TERMS),
    "ReLoBRaLo": lambda: ReLoBRaLo(TERMS),
    "DynamicWeightAverage": lambda: DynamicWeightAverage(TERMS, update_unit="step"),
    "VarianceWeights": lambda: VarianceWeights(TERMS),
    "Stages": lambda: Stages([(None, ReLoBRaLo(TERMS))]),
    "AutoSelect": lambda: AutoSelect(TERMS, window=10**9),
}


def network() -> nn.Module:
    """From (x, t) to u."""
    torch.manual_seed(0)
    sizes = [2, *[WIDTH] * LAYERS]
    hidden = [[nn.Linear(m, n), nn.Tanh()] for m, n in itertools.pairwise(sizes)]
    return nn.Sequential(*itertools.chain(*hidden), nn.Linear(WIDTH, 1))


def problem() -> tuple[nn.Module, Callable[[], dict[str, Tensor]]]:
    """The network, and what computes its three terms."""
    model = network()
    points = torch.rand(2000, 2, requires_grad=True)
    initial, boundary = torch.rand(50, 2), torch.rand(50, 2)

    def slope(values: Tensor) -> Tensor:
        return torch.autograd.grad(values.sum(), points, create_graph=True)[0]

    def losses() -> dict[str, Tensor]:
        u = model(points)
        first = slope(u)
        second = slope(first[:, 0])
        residual = first[:, 1] + u[:, 0] * first[:, 0] - VISCOSITY * second[:, 0]
        terms = [residual, model(initial), model(boundary)]
        return {n: term.square().mean() for n, term in zip(TERMS, terms, strict=True)}

    return model, losses


def training_step() -> Callable[[], None]:
    """Forward, two derivatives, backward, optimiser."""
    model, losses = problem()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses().values())).sum().backward()
        optimizer.step()

    return step


def calls(make: Callable[[], Any]) -> Callable[[], None]:
    """What an engine does with a weighting in `CALLS` steps."""
    weighting, steps = make(), itertools.count()
    draw = random.Random(0)
    losses = [{name: draw.uniform(0.1, 1.0) for name in TERMS} for _ in range(CALLS)]

    def run() -> None:
        for values in losses:
            at = {"epoch": 0, "step": next(steps)}
            weighting.active(**at)
            weighting.weights(**at)
            weighting.observe(values, **at, split="train")

    return run


def main() -> None:
    """Measure and record."""
    torch.set_num_threads(1)
    step = training_step()
    candidates = {f"{name} / training step": calls(make) for name, make in SCHEMES.items()}
    claims: list[Claim] = [
        {
            "claim": name,
            "value": paired_ratio(run, step) / CALLS,
            "bar": BAR,
            "kind": "at_most",
        }
        for name, run in candidates.items()
    ]
    seconds = compare({"training step": step, **candidates}, repeat=3)
    details = {name: seconds[name] / (1 if name == "training step" else CALLS) for name in seconds}
    record("loss_weights", claims, {"points": 2000, "width": WIDTH, "seconds": details})


if __name__ == "__main__":
    main()
