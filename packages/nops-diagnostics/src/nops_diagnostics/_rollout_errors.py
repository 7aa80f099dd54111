"""Errors of a rollout and of its baselines, per sample, so that batches can be merged."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from nops_losses import relative_l2
from torch import Tensor

from nops_diagnostics._layout import (
    as_double,
    check_axes,
    check_pair,
    per_channel,
    pick_leads,
    space_axes,
)
from nops_diagnostics._metrics import mean_square, mse, spatial_variance
from nops_diagnostics._spectra import spectrum_error


@dataclass(frozen=True, kw_only=True)
class RolloutErrors:
    """What `score_errors` averages, one entry per sample; float64 on the CPU.

    Attributes:
        lead_times: Steps after the initial state, 1-based.
        error: Mean squared error over space.
        power: Mean square of the target over space.
        variance: Spatial variance of the target, with the `ddof` asked for.
        relative_l2: Relative error, one norm over channels and space, see `relative_l2`.
        spectrum: Log spectrum error, see `spectrum_error`.
        finite: Whether every cell of the predicted frame was finite.
        baselines: Mean squared error over space of each baseline.
    """

    lead_times: tuple[int, ...]
    error: Float[Tensor, "sample lead channel"]
    power: Float[Tensor, "sample lead channel"]
    variance: Float[Tensor, "sample lead channel"]
    relative_l2: Float[Tensor, "sample lead"]
    spectrum: Float[Tensor, "sample lead"]
    finite: Bool[Tensor, "sample lead"]
    baselines: dict[str, Float[Tensor, "sample lead channel"]]

    @staticmethod
    def concatenate(parts: Sequence["RolloutErrors"]) -> "RolloutErrors":
        """Join the samples of several batches, in order.

        Args:
            parts: Errors of one or more batches with the same lead times and baselines.

        Raises:
            ValueError: If there is none, or they differ in lead times or baselines.
        """
        kinds = {(part.lead_times, tuple(part.baselines)) for part in parts}
        if len(kinds) != 1:
            raise ValueError(
                "need one or more batches with one set of lead times and baselines, got "
                f"{len(parts)} batches with {sorted(kinds)}."
            )
        return _join(parts, dim=0, lead_times=parts[0].lead_times)


def rollout_errors(
    pred: Float[Tensor, "sample time channel *space"],
    target: Float[Tensor, "sample time channel *space"],
    *,
    initial: Float[Tensor, "sample channel *space"],
    mean: Float[Tensor, "time channel *field"] | None = None,
    noise_floor: Float[Tensor, "time channel"] | None = None,
    reconstruction: Float[Tensor, "sample time channel *space"] | None = None,
    previous_truth: bool = False,
    scale: Float[Tensor, "channel"] | None = None,
    lead_times: Sequence[int] | None = None,
    spatial_dims: int = 2,
    ddof: int = 0,
    lengths: tuple[float, ...] | None = None,
) -> RolloutErrors:
    """Errors of one batch of rollouts per sample, lead time and channel, and of the baselines.

    Baselines: `zero`; `persistence`, the initial state held; `mean`, `noise_floor` and
    `reconstruction` where given; `previous_truth`, the *true* frame before, where asked for: a free
    rollout never sees it, which makes it hard to beat. None of them enters the rollout. One lead is taken to float64 at a time.

    Args:
        pred: Rollout without the initial state; frame `j` is lead time `j + 1`.
        target: Truth at the same times, same shape and unit.
        initial: The state both start from.
        mean: Mean of the *training* trajectories per lead time and channel, from `lead_mean`; or
            that of each cell, `[time, channel, *space]`.
        noise_floor: Mean squared error that no prediction can beat, from `paired_noise_floor`.
        reconstruction: The truth encoded and decoded, without a step in time; same shape as
            `target`. What is lost before anything is predicted.
        previous_truth: Whether to add that baseline.
        scale: Per-channel scale by which every field is divided first, so that channels of
            different units weigh alike, such as a train standard deviation. None: as they are.
        lead_times: Which leads, 1-based and increasing; all if None.
        spatial_dims: Number of trailing axes that are space.
        ddof: Of the variance in VRMSE; see `vrmse`.
        lengths: Physical extent of each axis, for the spectrum; 2 pi each if None.

    Returns:
        Squared errors in units of `scale` (or of the field) squared; the rest dimensionless.

    Raises:
        ValueError: If shapes differ or lead times lie outside the rollout.
    """
    check_pair(pred, target, spatial_dims=spatial_dims, leading=2)
    check_axes("initial", initial, spatial_dims=spatial_dims, leading=1)
    steps, channels = target.shape[1:3]
    _check_shape("initial", initial, tuple(target[:, 0].shape))
    is_field = mean is not None and mean.ndim > 2
    _check_shape("mean", mean, tuple(target.shape[1:]) if is_field else (steps, channels))
    _check_shape("noise_floor", noise_floor, (steps, channels))
    _check_shape("reconstruction", reconstruction, tuple(target.shape))
    _check_shape("scale", scale, (channels,))
    unit = torch.ones(channels) if scale is None else scale
    unit = per_channel(unit, target, spatial_dims=spatial_dims)
    leads = pick_leads(steps, None if lead_times is None else tuple(lead_times))
    parts = []
    for lead in leads:
        rivals = {"zero": torch.zeros_like(initial), "persistence": initial}
        if mean is not None:
            at_lead = mean[lead - 1]
            rivals["mean"] = (
                at_lead[None]
                if is_field
                else per_channel(at_lead, target, spatial_dims=spatial_dims)
            )
        if previous_truth:
            rivals["previous_truth"] = initial if lead == 1 else target[:, lead - 2]
        if reconstruction is not None:
            rivals["reconstruction"] = reconstruction[:, lead - 1]
        part = _frame_errors(
            pred[:, lead - 1],
            target[:, lead - 1],
            rivals=rivals,
            floor=None if noise_floor is None else noise_floor[lead - 1],
            unit=unit,
            spatial_dims=spatial_dims,
            ddof=ddof,
            lengths=lengths,
        )
        parts.append(part)
    return _join(parts, dim=1, lead_times=leads)


def lead_mean(
    target: Float[Tensor, "sample time channel *space"], *, spatial_dims: int = 2
) -> Float[Tensor, "time channel"]:
    """Mean over samples and space per lead time and channel: the baseline `mean`.

    Args:
        target: Training trajectories *without* the initial state.
        spatial_dims: Number of trailing axes that are space.

    Returns:
        float64, in the unit of the field. Batches of equal size may be averaged.
    """
    check_axes("target", target, spatial_dims=spatial_dims, leading=2)
    frames = [as_double(frame).mean((0, *space_axes(spatial_dims))) for frame in target.unbind(1)]
    return torch.stack(frames)


def paired_noise_floor(
    first: Float[Tensor, "sample time channel *space"],
    second: Float[Tensor, "sample time channel *space"],
    *,
    spatial_dims: int = 2,
) -> Float[Tensor, "time channel"]:
    """Least mean squared error that any deterministic prediction of a noisy truth can reach.

    Half the mean squared difference of two realisations that differ in nothing but the noise,
    which estimates the variance of the noise.

    Args:
        first: Trajectories without the initial state.
        second: The same with other noise, same shape and unit.
        spatial_dims: Number of trailing axes that are space.

    Returns:
        float64 in the square of the field's unit; 0 for a deterministic truth.

    Raises:
        ValueError: If the shapes differ or have too few axes.
    """
    check_pair(first, second, spatial_dims=spatial_dims, leading=2)
    pairs = zip(first.unbind(1), second.unbind(1), strict=True)
    frames = [mse(a, b, spatial_dims=spatial_dims, reduction="none").mean(0) for a, b in pairs]
    return 0.5 * torch.stack(frames)


def _frame_errors(
    pred: Tensor,
    target: Tensor,
    *,
    rivals: dict[str, Tensor],
    floor: Tensor | None,
    unit: Tensor,
    spatial_dims: int,
    ddof: int,
    lengths: tuple[float, ...] | None,
) -> RolloutErrors:
    """Errors at one lead, with a lead axis of length one."""
    p, t = as_double(pred) / unit, as_double(target) / unit
    spectrum = spectrum_error(
        p,
        t.to(target.dtype),  # its type decides what is round-off
        lengths=lengths,
        spatial_dims=spatial_dims,
        reduction="none",
    )

    def error(field: Tensor) -> Tensor:
        return mse(field.expand_as(t), t, spatial_dims=spatial_dims, reduction="none")

    baselines = {name: error(as_double(rival) / unit) for name, rival in rivals.items()}
    if floor is not None:
        level = floor.to(unit) / unit.flatten().square()
        baselines["noise_floor"] = level.expand_as(baselines["zero"])
    return RolloutErrors(
        lead_times=(1,),
        error=_lead(error(p)),
        power=_lead(mean_square(t, spatial_dims=spatial_dims)),
        variance=_lead(spatial_variance(t, spatial_dims=spatial_dims, ddof=ddof)),
        relative_l2=_lead(relative_l2(p, t, spatial_dims=spatial_dims, reduction="none")),
        spectrum=_lead(spectrum),
        finite=_lead(p.isfinite().flatten(1).all(1)),
        baselines={name: _lead(values) for name, values in baselines.items()},
    )


def _lead(values: Tensor) -> Tensor:
    return values.detach().cpu().unsqueeze(1)


def _join(
    parts: Sequence[RolloutErrors], *, dim: int, lead_times: tuple[int, ...]
) -> RolloutErrors:
    return RolloutErrors(
        lead_times=lead_times,
        error=torch.cat([part.error for part in parts], dim),
        power=torch.cat([part.power for part in parts], dim),
        variance=torch.cat([part.variance for part in parts], dim),
        relative_l2=torch.cat([part.relative_l2 for part in parts], dim),
        spectrum=torch.cat([part.spectrum for part in parts], dim),
        finite=torch.cat([part.finite for part in parts], dim),
        baselines={
            name: torch.cat([part.baselines[name] for part in parts], dim)
            for name in parts[0].baselines
        },
    )


def _check_shape(name: str, given: Tensor | None, expected: tuple[int, ...]) -> None:
    if given is not None and tuple(given.shape) != expected:
        raise ValueError(
            f"{name} has shape {tuple(given.shape)}; beside this target it needs {expected}."
        )
