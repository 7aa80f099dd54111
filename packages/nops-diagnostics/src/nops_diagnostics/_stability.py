"""Whether a rollout keeps changing as fast as the truth does."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nops_diagnostics._layout import check_axes


@dataclass(frozen=True, kw_only=True)
class TemporalStability:
    """Rates of change of rollouts and truth, and when each rollout leaves the truth's range.

    Attributes:
        time: Of each rate of `predicted`, that of the later of its two frames, `[step]`.
        predicted: Rates of the rollouts, `[sample, step]`, field unit per time unit.
        reference: Rates of the truth, `[sample, step]`.
        stable_fraction: Share of rollouts that were stable up to and at each time, `[step]`.
        first_unstable: Time of the first unstable rate of each rollout, infinite where there is
            none, `[sample]`.
    """

    time: Float[Tensor, "step"]
    predicted: Float[Tensor, "sample step"]
    reference: Float[Tensor, "reference_sample reference_step"]
    stable_fraction: Float[Tensor, "step"]
    first_unstable: Float[Tensor, "sample"]


def temporal_stability(
    pred: Float[Tensor, "sample time channel *space"],
    target: Float[Tensor, "reference_sample reference_time channel *space"],
    *,
    frame_interval: float,
    band: tuple[float, float] = (0.5, 2.0),
    spatial_dims: int = 2,
) -> TemporalStability:
    """Mean |s_t - s_(t-1)| / frame_interval per step, and how long it stays what is usual.

    A rollout is stable at a step while this rate is finite and lies between `band[0]` times the
    truth's lowest and `band[1]` times its highest, over all its samples and steps. A rollout that
    blew up changes too fast, one that froze too slowly. It says nothing of being right: the truth
    of another trajectory is stable. Frame `j` is lead `j + 1`.

    Args:
        pred: Rollout without the initial state, any unit.
        target: Truth in the same unit; it may have other samples, and fewer or more frames.
        frame_interval: Physical time between frames, of both.
        band: Factors on the truth's lowest and highest rate.
        spatial_dims: Number of trailing axes that are space.

    Returns:
        float64 on the CPU. Channels count as they are: normalise them before, or the one with the
        largest numbers decides.

    Raises:
        ValueError: If channels or space differ, one has fewer than two frames, the truth is not
            finite, or an option is out of range.

    Source:
        Kohl, Chen and Thuerey, arXiv 2309.01745, "temporal stability".
    """
    _check(pred, target, spatial_dims=spatial_dims)
    if not (0.0 < frame_interval < math.inf and 0.0 <= band[0] <= 1.0 <= band[1]):
        raise ValueError(
            f"need frame_interval > 0 and 0 <= band[0] <= 1 <= band[1], got "
            f"frame_interval={frame_interval} and band={band}."
        )
    predicted, reference = (_rates(field) / frame_interval for field in (pred, target))
    if not reference.isfinite().all():
        raise ValueError("the target holds values that are not finite; there is no range to keep.")
    # NaN compares as False: what is not finite is not stable
    inside = (predicted >= band[0] * reference.min()) & (predicted <= band[1] * reference.max())
    stable = inside.int().cumprod(1)
    time = frame_interval * torch.arange(2, pred.shape[1] + 1, dtype=torch.float64)
    ends = torch.cat([time, torch.tensor([math.inf], dtype=torch.float64)])
    return TemporalStability(
        time=time,
        predicted=predicted,
        reference=reference,
        stable_fraction=stable.double().mean(0),
        first_unstable=ends[stable.sum(1)],
    )


def _check(pred: Tensor, target: Tensor, *, spatial_dims: int) -> None:
    for name, field in (("pred", pred), ("target", target)):
        check_axes(name, field, spatial_dims=spatial_dims, leading=2)
        if field.shape[1] < 2 or field.shape[0] < 1:
            raise ValueError(
                f"{name} has shape {tuple(field.shape)}: a rate of change needs a sample and two "
                "frames."
            )
    if pred.shape[2:] != target.shape[2:]:
        raise ValueError(
            f"pred and target need one shape after sample and time, got {tuple(pred.shape)} and "
            f"{tuple(target.shape)}."
        )


def _rates(field: Tensor) -> Tensor:
    """Mean absolute change from frame to frame, `[sample, step]`, two frames at a time."""
    frames = field.detach().unbind(1)
    steps = zip(frames[1:], frames[:-1], strict=True)
    changes = [(b.double() - a.double()).abs().flatten(1).mean(1).cpu() for b, a in steps]
    return torch.stack(changes, dim=1)
