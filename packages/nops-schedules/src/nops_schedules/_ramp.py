"""One ramp for all that changes steadily: curricula, annealing, fade-in, temperatures."""

import math
from collections.abc import Sequence

from nops_schedules._curves import CURVES, between
from nops_schedules._names import did_you_mean


def ramp(
    position: float,
    *,
    start: float,
    stop: float,
    begin: float = 0.0,
    end: float = 1.0,
    curve: str = "linear",
) -> float:
    """`begin` up to `start`, `end` from `stop` on, and along a curve in between.

    begin + (end − begin)·φ(q) with q = (position − start) / (stop − start), and φ(q) = q ("linear"),
    ½(1 − cos πq) ("cosine") or (1 − e^{−3q}) / (1 − e^{−3}) ("exponential").

    Args:
        position: Epoch or step, 0-based, whole or not.
        start: Last position at `begin`; it may be negative.
        stop: First position at `end`, not less than `start`; where equal, the value jumps there.
        begin: Value before, any unit.
        end: Value after, in the same unit; it may be lower.
        curve: "linear", "cosine" or "exponential".

    Returns:
        The value, within `begin` and `end`.

    Raises:
        ValueError: If a number is not finite, `stop` is less than `start`, or the curve is unknown.
    """
    numbers = (position, start, stop, begin, end)
    if not all(map(math.isfinite, numbers)) or stop < start:
        raise ValueError(
            f"need finite numbers and start <= stop, got position={position}, start={start}, "
            f"stop={stop}, begin={begin}, end={end}."
        )
    if curve not in CURVES:
        raise ValueError(
            f"curve is one of {list(CURVES)}, got {curve!r}.{did_you_mean(curve, CURVES)}"
        )
    if position >= stop:
        return end
    if position <= start:
        return begin
    fraction = (position - start) / (stop - start)
    return between(begin, end, CURVES[curve].value(fraction))


def grown_length(
    epoch: float, interval: Sequence[float], *, longest: int, linear: bool = False
) -> int:
    """Frames of a training sequence that grows over epochs `[a, b]`, from 2 to `longest`.

    It doubles, or with `linear` grows by one, at epochs evenly spaced from a to b, both included; with
    n increases the k-th (k = 0 … n − 1) is at a + k·(b − a)/(n − 1), a single one at a.

    Args:
        epoch: 0-based.
        interval: `[a, b]`: first and last epoch at which it grows; `[-1, 0]` is `longest` throughout.
        longest: Frames in the end, at least 2.
        linear: Grow by one frame each time.

    Returns:
        A number of frames from 2 to `longest`.

    Raises:
        ValueError: If the interval has not two finite numbers a <= b, or `longest` is below 2.
    """
    if longest < 2:
        raise ValueError(f"longest is at least 2 frames, got {longest}.")
    if len(interval) != 2:
        raise ValueError(f"interval is [a, b], got {list(interval)}.")
    total = longest - 2 if linear else (longest - 1).bit_length() - 1
    start, stop = interval
    # The share of the n − 1 gaps that are over; 1e-9 keeps a growth due at this very epoch.
    gaps = ramp(epoch, start=start, stop=stop, end=total - 1.0) if total else 0.0
    done = 0 if epoch < start else min(math.floor(gaps + 1e-9) + 1, total)
    return min(2 + done if linear else 2 ** (done + 1), longest)


def fade_in(epoch: float, interval: Sequence[float]) -> float:
    """Factor on what is faded in over epochs `[a, b]`: clip((epoch − a) / (b − a), 0, 1).

    Args:
        epoch: 0-based.
        interval: `[a, b]`: last epoch at 0 and first epoch at 1; `[-1, 0]` is 1 throughout.

    Returns:
        A factor in [0, 1], dimensionless.

    Raises:
        ValueError: If the interval has not two finite numbers a <= b.
    """
    if len(interval) != 2:
        raise ValueError(f"interval is [a, b], got {list(interval)}.")
    return ramp(epoch, start=interval[0], stop=interval[1])
