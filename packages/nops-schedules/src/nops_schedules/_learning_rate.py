"""Learning rates as functions of the step."""

import math


def warmup_cosine(
    step: int,
    *,
    peak: float,
    warmup_steps: int,
    total_steps: int,
    start_factor: float = 0.1,
    end: float = 0.0,
) -> float:
    """Learning rate of a 0-based step: a straight warm-up, then half a cosine down.

    From `start_factor · peak` at step 0 straight up to `peak` at `warmup_steps`, then
    end + (peak − end)·½(1 + cos πp), p = (step − warmup_steps) / (total_steps − warmup_steps),
    down to `end` at `total_steps`, and `end` from there on.

    Args:
        step: Optimizer step, 0-based.
        peak: Highest rate, positive.
        warmup_steps: Step at which the peak is reached; 0 starts there.
        total_steps: Step at which `end` is reached, more than `warmup_steps`.
        start_factor: Rate at step 0 as a fraction of the peak, within [0, 1].
        end: Rate at the end, within [0, peak].

    Returns:
        The rate, in the unit of `peak`.

    Raises:
        ValueError: If the step is negative, or an argument is outside its range.

    Source:
        Cosine: Loshchilov and Hutter, "SGDR", arXiv 1608.03983; warm-up: Goyal et al., "Accurate,
        large minibatch SGD", arXiv 1706.02677.
    """
    _check(step, peak, warmup_steps, total_steps, start_factor, end)
    if step < warmup_steps:
        start = start_factor * peak
        return start + (peak - start) * step / warmup_steps
    progress = min((step - warmup_steps) / (total_steps - warmup_steps), 1.0)
    return end + (peak - end) * 0.5 * (1 + math.cos(math.pi * progress))


def _check(
    step: int,
    peak: float,
    warmup_steps: int,
    total_steps: int,
    start_factor: float,
    end: float,
) -> None:
    if step < 0:
        raise ValueError(f"step is counted from 0, got {step}.")
    if not 0 < peak < math.inf:
        raise ValueError(f"peak must be positive and finite, got {peak}.")
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"need 0 <= warmup_steps < total_steps, got warmup_steps={warmup_steps}, "
            f"total_steps={total_steps}."
        )
    if not 0 <= start_factor <= 1:
        raise ValueError(f"start_factor must be within [0, 1], got {start_factor}.")
    if not 0 <= end <= peak:
        raise ValueError(f"end must be within 0 and peak={peak}, got {end}.")
