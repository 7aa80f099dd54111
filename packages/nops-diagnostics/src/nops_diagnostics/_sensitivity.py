"""Does the model use what it is given? Shuffle an input, or vary it alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nops_diagnostics._bootstrap import Estimate, bootstrap_estimate
from nops_diagnostics._layout import (
    as_double,
    check_axes,
    check_choice,
    check_pair,
    per_channel,
    pick_leads,
)
from nops_diagnostics._metrics import mse

Shuffled = Literal["parameters", "initial"]


@dataclass(frozen=True, kw_only=True)
class ShuffleRatio:
    """Error with one input deranged over the error with the right one.

    Attributes:
        lead_times: Steps after the initial state, 1-based.
        ratio: Per lead, `[lead]`; 1 means that the input is ignored.
        permutation: Which sample's input each sample was given.
    """

    lead_times: tuple[int, ...]
    ratio: Estimate
    permutation: Int[Tensor, "sample"]


def derangement(
    num_samples: int, *, groups: Int[Tensor, "sample"] | None = None, seed: int = 0
) -> Int[Tensor, "sample"]:
    """A permutation that leaves no element in place, uniform among all of those.

    Drawn by rejection, about e trials. With groups, no element comes from its own group: all are laid in a
    circle, group by group in random order, and moved on by the size of the largest. Where that holds more
    than half of them, as few as possible stay within it.

    Args:
        num_samples: Number of elements, at least 2.
        groups: Of each element, a number that it shares with those it must not be given, such as samples
            of equal parameters.
        seed: Of a generator of its own.

    Returns:
        Indices, each of 0 … num_samples − 1 once.

    Raises:
        ValueError: If `num_samples` is below 2, where one element cannot move, or not that of `groups`, or
            all are of one group.
    """
    if num_samples < 2:
        raise ValueError(f"a derangement needs at least 2 samples, got {num_samples}.")
    generator = torch.Generator().manual_seed(seed)
    if groups is not None:
        return _deranged_groups(num_samples, groups.cpu(), generator)
    identity = torch.arange(num_samples)
    while True:
        drawn = torch.randperm(num_samples, generator=generator)
        if not (drawn == identity).any():
            return drawn


def _deranged_groups(
    num_samples: int, groups: Tensor, generator: torch.Generator
) -> Int[Tensor, "sample"]:
    _, group, sizes = torch.unique(groups, return_inverse=True, return_counts=True)
    if group.shape != (num_samples,) or len(sizes) < 2:
        raise ValueError(
            f"groups need {num_samples} numbers, at least two of them different, got "
            f"{tuple(groups.shape)} in {len(sizes)} group(s)."
        )
    rank = torch.randperm(len(sizes), generator=generator)[group]
    drawn = torch.randperm(num_samples, generator=generator)
    circle = drawn[rank[drawn].argsort(stable=True)]
    order = torch.empty_like(circle)
    order[circle] = circle.roll(-int(sizes.max()))
    return order


def shuffle_ratio(
    rollout: Callable[[Tensor, Tensor], Tensor],
    initial: Float[Tensor, "sample channel *space"],
    parameters: Float[Tensor, "sample parameter"],
    target: Float[Tensor, "sample time channel *space"],
    *,
    shuffle: Shuffled = "parameters",
    pred: Float[Tensor, "sample time channel *space"] | None = None,
    scale: Float[Tensor, "channel"] | None = None,
    lead_times: Sequence[int] | None = None,
    spatial_dims: int = 2,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> ShuffleRatio:
    """How much worse the rollout gets when samples swap their parameters, or initial states.

    Args:
        rollout: `(initial, parameters) -> [sample, time, channel, *space]`, at least as many steps
            as leads are asked for; called under `no_grad`, and free to work in batches.
        initial: Initial states.
        parameters: Parameters of the operator, one row per sample. Samples that share a row, or
            an initial state, are not given each other's, where others are at hand.
        target: Truth without the initial state.
        shuffle: Which of the two inputs is deranged.
        pred: The rollout with nothing shuffled, if at hand; made by `rollout` if None.
        scale: Per-channel scale by which errors are divided; see `rollout_errors`.
        lead_times: Which leads, 1-based and increasing; all if None.
        spatial_dims: Number of trailing axes that are space.
        bootstrap: Number of resamples over samples.
        confidence: Coverage aimed at by the interval.
        seed: Of the derangement and of the resampling.

    Returns:
        Ratio of the sample-mean squared errors per lead, dimensionless. Infinite for a perfect
        model.

    Raises:
        ValueError: If there are fewer than two samples, all share the shuffled input, or shapes
            differ.
    """
    check_choice("shuffle", shuffle, ("parameters", "initial"))
    given = parameters if shuffle == "parameters" else initial
    if len(given) > 1 and bool((given == given[:1]).all()):
        raise ValueError(f"all {len(given)} samples share one {shuffle}: nothing to shuffle.")
    order = derangement(len(target), groups=_equal_rows(given), seed=seed)
    moved = given[order.to(given.device)]
    leads = pick_leads(target.shape[1], None if lead_times is None else tuple(lead_times))
    with torch.no_grad():
        plain = rollout(initial, parameters) if pred is None else pred
        inputs = (initial, moved) if shuffle == "parameters" else (moved, parameters)
        shuffled = rollout(*inputs)
    errors = [
        _lead_errors(field, target, leads=leads, scale=scale, spatial_dims=spatial_dims)
        for field in (shuffled, plain)
    ]
    ratio = bootstrap_estimate(
        torch.div, *errors, num_resamples=bootstrap, confidence=confidence, seed=seed
    )
    return ShuffleRatio(lead_times=leads, ratio=ratio, permutation=order)


def _equal_rows(given: Tensor) -> Tensor | None:
    """A number for each row that equal rows share; None where all differ."""
    rows, group = torch.unique(given.flatten(1), dim=0, return_inverse=True)
    return None if len(rows) == len(given) else group


def diversity_ratio(
    pred: Float[Tensor, "initial parameter time channel *space"],
    target: Float[Tensor, "initial parameter time channel *space"],
    *,
    scale: Float[Tensor, "channel"] | None = None,
    spatial_dims: int = 2,
) -> Float[Tensor, "time"]:
    """Variance over the parameters at fixed initial state, of the model over that of the truth.

    1 where the model answers to its parameters as strongly as the truth, 0 where it ignores them.

    Args:
        pred: Rollouts of every initial state under every parameter set, without the initial state.
        target: Truth for the same pairs, same shape and unit.
        scale: Per-channel scale by which the fields are divided first; see `rollout_errors`.
        spatial_dims: Number of trailing axes that are space.

    Returns:
        Per lead time, dimensionless, float64 on the CPU: variance over the parameter axis, averaged
        over initial states, channels and space, then divided. Infinite or NaN where the truth does
        not depend on the parameters.

    Raises:
        ValueError: If the shapes differ, or there are fewer than two parameter sets.
    """
    check_pair(pred, target, spatial_dims=spatial_dims, leading=3)
    if pred.shape[1] < 2:
        raise ValueError(f"need at least 2 parameter sets, got {pred.shape[1]}.")
    variances = [
        torch.stack([_spread(f, scale=scale, spatial_dims=spatial_dims) for f in field.unbind(2)])
        for field in (pred, target)
    ]
    return (variances[0] / variances[1]).detach().cpu()


def _spread(frame: Tensor, *, scale: Tensor | None, spatial_dims: int) -> Tensor:
    """Variance over axis 1 of `[initial, parameter, channel, *space]`, one number."""
    field = as_double(frame)
    if scale is not None:
        field = field / per_channel(scale, field, spatial_dims=spatial_dims)
    return field.var(1).mean()


def _lead_errors(
    pred: Tensor,
    target: Tensor,
    *,
    leads: tuple[int, ...],
    scale: Tensor | None,
    spatial_dims: int,
) -> Tensor:
    """Mean squared error `[sample, lead]` over channels and space, each lead in float64."""
    check_axes("rollout", pred, spatial_dims=spatial_dims, leading=2)
    if pred.shape[1] < leads[-1]:
        raise ValueError(f"the rollout has {pred.shape[1]} steps; lead {leads[-1]} was asked for.")
    frames = [
        mse(pred[:, i - 1], target[:, i - 1], spatial_dims=spatial_dims, reduction="none")
        for i in leads
    ]
    errors = torch.stack(frames, dim=1)
    if scale is not None:
        errors = errors / scale.to(errors).square()
    return errors.mean(-1)
