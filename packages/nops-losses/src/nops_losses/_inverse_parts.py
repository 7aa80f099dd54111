"""What the inverse losses share: fields at points, calls of decoder and encoder, masked means."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nops_losses._checks import to_working_dtype
from nops_losses._names import did_you_mean
from nops_losses._queries import QuerySample, Strategy, sample_queries

Fields = Mapping[str, Tensor]
Decoder = Callable[..., Fields]
Encoder = Callable[..., Tensor]


def check_fields(fields: Fields, *, name: str) -> tuple[int, int]:
    """Samples and points of fields (sample, point, channel), of which there is at least one.

    Raises:
        ValueError: If there is none, or they differ in samples or points.
    """
    shapes = {field: tuple(values.shape) for field, values in fields.items()}
    sizes = {shape[:2] for shape in shapes.values()}
    if len(sizes) != 1 or not all(len(shape) == 3 for shape in shapes.values()):
        raise ValueError(
            f"{name} needs one field or more with axes (sample, point, channel), the same samples and "
            f"points in all; got {shapes}."
        )
    samples, points = sizes.pop()
    return samples, points


def points_of(positions: Tensor, *, samples: int) -> Tensor:
    """Positions with axes (sample, point, dim); those that all samples share are expanded.

    Raises:
        ValueError: If they have neither these axes nor (point, dim), or another number of samples.
    """
    if positions.ndim == 2:
        return positions.expand(samples, -1, -1)
    if positions.ndim != 3 or len(positions) != samples:
        raise ValueError(
            f"positions have axes (point, dim) or (sample, point, dim) with {samples} samples; got "
            f"{tuple(positions.shape)}."
        )
    return positions


def resolve_sample(
    sample: QuerySample | None,
    num_queries: int | None,
    positions: Tensor,
    *,
    strategy: Strategy,
    grid_shape: Sequence[int] | None,
    generator: torch.Generator | None,
) -> QuerySample | None:
    """The sample given, one drawn from `positions` [B, N, d], or None for all points.

    Raises:
        ValueError: If both are given, or the sample is of other points.
    """
    samples, points = positions.shape[:2]
    if sample is None and num_queries is None:
        return None
    if sample is None:
        places = positions if strategy == "stratified" and grid_shape is None else None
        return sample_queries(
            points,
            num_queries or 0,
            batch_size=samples,
            strategy=strategy,
            grid_shape=grid_shape,
            positions=places,
            generator=generator,
            device=positions.device,
        )
    if num_queries is not None:
        raise ValueError(
            f"sample and num_queries={num_queries} both say which points to take; give one of them."
        )
    if (len(sample.indices), sample.num_points) != (samples, points):
        raise ValueError(
            f"the sample is of {len(sample.indices)} x {sample.num_points} points (sample, point), the "
            f"positions are {samples} x {points}."
        )
    return sample


def decode_at(
    decoder: Decoder,
    positions: Tensor,
    latent: Tensor,
    *,
    condition: Tensor | None,
    chunk_size: int | None,
) -> dict[str, Tensor]:
    """Fields at positions [B, Q, d]; in chunks, each is computed again in the backward pass.

    Raises:
        ValueError: If `chunk_size` is below 1.
    """
    call = partial(decoder, **_condition(condition))
    if chunk_size is None or chunk_size >= positions.shape[1] > 0:
        return dict(call(positions, latent))
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}.")
    parts: list[Any] = [
        checkpoint(call, part, latent, use_reentrant=False)
        for part in positions.split(chunk_size, 1)
    ]
    return {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}


def encode(
    encoder: Encoder, fields: Fields, positions: Tensor, *, condition: Tensor | None
) -> Tensor:
    """Latent of fields at positions; a condition of None is not passed on."""
    return encoder(fields, positions, **_condition(condition))


def _condition(condition: Tensor | None) -> dict[str, Tensor]:
    return {} if condition is None else {"condition": condition}


def named(fields: Fields, name: str, *, source: str) -> Tensor:
    """One field of several.

    Raises:
        KeyError: If it is missing.
    """
    if name not in fields:
        hint = did_you_mean(name, fields)
        raise KeyError(f"{source} lacks the field {name!r}; it has {sorted(fields)}.{hint}")
    return fields[name]


def shares_of(weights: Mapping[str, float] | None, names: Sequence[str]) -> dict[str, float]:
    """Share of each field in the mean: equal, or by weight.

    Raises:
        ValueError: If the weights are of other fields, negative, not finite or all 0.
    """
    if weights is None:
        return {name: 1 / len(names) for name in names}
    valid = set(weights) == set(names) and all(0 <= w < math.inf for w in weights.values())
    if not valid or not any(weights.values()):
        raise ValueError(
            f"field_weights needs a weight for each of {sorted(names)}, finite, not negative and not "
            f"all 0; got {dict(weights)}."
        )
    return {name: weights[name] / sum(weights.values()) for name in names}


def squared_error(pred: Tensor, target: Tensor, keep: Tensor | None, *, field: str) -> Tensor:
    """Mean over channels of (pred − target)² at each point, [B, Q]; 0 where `keep` is False."""
    if pred.shape != target.shape:
        raise ValueError(
            f"the decoder gives the field {field!r} with shape {tuple(pred.shape)}, expected "
            f"{tuple(target.shape)}."
        )
    truth = to_working_dtype(target.detach(), name=field)
    difference = to_working_dtype(pred, name=f"decoded {field}") - truth
    if keep is not None:
        difference = difference.where(keep[..., None], 0.0)
    return difference.square().mean(-1)


def mean_over_points(values: Tensor, sample: QuerySample | None, keep: Tensor | None) -> Tensor:
    """Mean over samples and all N points, estimated from the points drawn.

    Args:
        values: One for each point drawn, [B, Q], 0 where the mask is False.
        sample: How they were drawn; None where they are all points.
        keep: The mask of all points, [B, N]; the mean is over the points that it keeps, 0 for none.
    """
    mean = values.mean(-1) if sample is None else sample.mean(values)
    if keep is None:
        return mean.mean()
    return mean.sum() * keep.shape[-1] / keep.sum().clamp(min=1)
