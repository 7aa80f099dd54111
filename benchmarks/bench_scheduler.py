"""A call of the loss scheduler, and what it costs each step, against a training step.

The training step is that of a small U-AFNO on a batch of eight 64 x 64 fields. The scheduler has what costs
most: a monitor that is an expression, a guard, a trend, and weights that move at every other call.
"""

import itertools
from collections.abc import Callable

import torch
from _harness import Claim, compare, paired_ratio, record
from nops_models import UAFNO, UAFNOConfig
from nops_schedules import FlexibleLossScheduler, SchedulerParams
from torch import nn

CALLS = 1000
BAR = 0.001
SHAPE = (8, 2, 64, 64)


def training_step() -> Callable[[], None]:
    """Forward, backward, clip, optimiser."""
    torch.manual_seed(0)
    model = UAFNO(UAFNOConfig(in_channels=2, out_channels=2, base_channels=16, encoder_levels=2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    fields = torch.randn(SHAPE)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        (model(fields) - fields).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def scheduler(*, moves: bool) -> FlexibleLossScheduler:
    """Past its warm-up; with a path too long to be walked here, or waiting."""
    return FlexibleLossScheduler(
        SchedulerParams(
            enabled=True,
            adaptation_trigger="trend",
            monitor_metric="0.3*field_error + 0.7*spectrum_error",
            guard_metric="field_error",
            guard_tolerance=1e9,
            patience=2 if moves else 20,
            min_delta=0.001 if moves else 0.0,
            warmup_epochs=0,
            min_epochs_before_adapt=0,
            max_consecutive_adaptations=10**9,
            transition_schedule="cosine",
            transition_step=1e-9,
            min_step=0.0,
        ),
        scale={"spectrumError": 0.05},
    )


def calls(*, moves: bool) -> Callable[[], None]:
    """`CALLS` validations."""
    made = scheduler(moves=moves)
    epochs = itertools.count()

    def run() -> None:
        for _ in range(CALLS):
            epoch = next(epochs)
            value = 0.5 if moves else 1 / (epoch + 1)
            made.step(epoch, {"field_error": value, "spectrum_error": value})

    return run


def questions() -> Callable[[], None]:
    """What an engine asks in `CALLS` training steps."""
    made = scheduler(moves=False)

    def run() -> None:
        for step in range(CALLS):
            made.active(epoch=0, step=step)
            made.weights(epoch=0, step=step)

    return run


def main() -> None:
    """Measure and record."""
    torch.set_num_threads(1)
    step = training_step()
    candidates = {
        "scheduler.step / training step": calls(moves=False),
        "scheduler.step that moves at every other call / training step": calls(moves=True),
        "active and weights / training step": questions(),
    }
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
    record("scheduler", claims, {"shape": list(SHAPE), "seconds": details})


if __name__ == "__main__":
    main()
