"""Losses that make an encoder and a decoder undo each other."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nops_losses._checks import check_same_shape, to_working_dtype
from nops_losses._inverse_parts import (
    Fields,
    check_fields,
    decode_at,
    encode,
    mean_over_points,
    named,
    points_of,
    resolve_sample,
    shares_of,
    squared_error,
)
from nops_losses._points import mask_of_points
from nops_losses._queries import QuerySample, Strategy


def inverse_encoding_loss(
    input_fields: Mapping[str, Float[Tensor, "sample point _"]],
    latent: Float[Tensor, "sample token channel"],
    decoder: Callable[..., Mapping[str, Tensor]],
    input_positions: Float[Tensor, "*sample point dim"],
    *,
    sample: QuerySample | None = None,
    num_queries: int | None = None,
    query_strategy: Strategy = "uniform",
    grid_shape: Sequence[int] | None = None,
    condition: Float[Tensor, "sample parameter"] | None = None,
    field_weights: Mapping[str, float] | None = None,
    mask: Bool[Tensor, "sample ..."] | None = None,
    detach_latent: bool = False,
    chunk_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Does the decoder read out of the latent what the encoder put in?

    Mean over fields f of the mean over samples, points and channels of (G(x, z)_f − u_f)². At some of
    the points only, it is an unbiased estimate of that: each is weighed by 1/(N·π), π being its chance.

    Args:
        input_fields: u, fields by name, axes (sample, point, channel), normalised.
        latent: z = E(u), axes (sample, token, channel).
        decoder: G, called as `decoder(positions, latent)` with `condition=` where there is one; gives
            fields by name. Fields that it gives besides are ignored.
        input_positions: x, axes (point, dim) or (sample, point, dim), any unit.
        sample: The points to decode. None: all, or as many as `num_queries` says.
        num_queries: Draw that many points here, by `query_strategy`; from N on, all.
        query_strategy: "uniform" or "stratified", along `grid_shape` or else the positions.
        grid_shape: Points along each axis, row-major.
        condition: Parameters for the decoder.
        field_weights: Weight of each field in the mean; None weighs all the same, whatever their
            number of channels.
        mask: True where a sample, (sample,), or a point, (sample, point), counts; the mean is over
            the points that count.
        detach_latent: Train the decoder alone.
        chunk_size: Points decoded at once; each chunk is computed again in the backward pass, which
            saves memory and takes time. None: all at once.
        generator: Source of the draws; None takes torch's own.

    Returns:
        Scalar, dimensionless for normalised fields; 0 when equal, and exactly 0 with gradient 0 where the
        mask is False throughout. float32 (float64 for float64 fields).

    Raises:
        KeyError: If the decoder does not give one of the fields.
        ValueError: If shapes do not fit, both `sample` and `num_queries` are given, or an option is out of
            range.
        TypeError: If a field is not real floating point, or the mask holds no flags.

    Source:
        The inverse encoding loss of Alkin et al., "Universal Physics Transformers", arXiv 2402.12365.
    """
    positions = fitting_points(input_positions, input_fields)
    chosen = resolve_sample(
        sample,
        num_queries,
        positions,
        strategy=query_strategy,
        grid_shape=grid_shape,
        generator=generator,
    )
    places = positions if chosen is None else chosen.gather(positions)
    code = latent.detach() if detach_latent else latent
    decoded = decode_at(decoder, places, code, condition=condition, chunk_size=chunk_size)
    return encoding_error(decoded, input_fields, chosen, mask=mask, field_weights=field_weights)


def encoding_error(
    decoded: Fields,
    input_fields: Fields,
    sample: QuerySample | None,
    *,
    mask: Tensor | None,
    field_weights: Mapping[str, float] | None,
) -> Tensor:
    """`inverse_encoding_loss` of what is decoded already, at the points of the sample."""
    samples, points = check_fields(input_fields, name="input_fields")
    keep = mask_of_points(mask, samples=samples, points=points)
    kept = keep if keep is None or sample is None else keep.gather(1, sample.indices)
    terms = []
    for name, share in shares_of(field_weights, [*input_fields]).items():
        target = input_fields[name] if sample is None else sample.gather(input_fields[name])
        pred = named(decoded, name, source="the decoder's output")
        errors = squared_error(pred, target, kept, field=name)
        terms.append(share * mean_over_points(errors, sample, keep))
    return torch.stack(terms).sum()


def inverse_decoding_loss(
    latent: Float[Tensor, "sample token channel"],
    decoder: Callable[..., Mapping[str, Tensor]],
    encoder: Callable[..., Tensor],
    query_positions: Float[Tensor, "*sample point dim"],
    *,
    sample: QuerySample | None = None,
    num_queries: int | None = None,
    query_strategy: Strategy = "uniform",
    grid_shape: Sequence[int] | None = None,
    chunk_size: int | None = None,
    generator: torch.Generator | None = None,
    decoded: Mapping[str, Float[Tensor, "sample _ _"]] | None = None,
    history: Mapping[str, Float[Tensor, "sample _ _"]] | None = None,
    target: Float[Tensor, "sample token channel"] | None = None,
    detach_target: bool = False,
    detach_decoded: bool = False,
    condition: Float[Tensor, "sample parameter"] | None = None,
    encoder_condition: Float[Tensor, "sample parameter"] | None = None,
    mask: Bool[Tensor, "sample ..."] | None = None,
) -> Float[Tensor, ""]:
    """Does the encoder find the latent again in what the decoder read out of it?

    Mean over samples, tokens and channels of (E(G(x, z)) − z)². As published, z = A(E(u)) is the next
    latent, and all of encoder, approximator and decoder learn; with z = E(u) and `detach_target` it is
    the variant that leaves the approximator alone. Smaller latents lower it too, so it wants a norm on
    the latent beside it.

    A set encoder (`accepts_point_subset = True`) is given the points of the sample only. Any other gets
    all points, decoded in chunks as large as the sample unless `chunk_size` says otherwise.

    Args:
        latent: z, axes (sample, token, channel).
        decoder: G, as in `inverse_encoding_loss`; not called where `decoded` is given.
        encoder: E, called as `encoder(fields, positions)` with `condition=` where there is one.
        query_positions: x, axes (point, dim) or (sample, point, dim), any unit.
        sample: The points to decode and encode. None: all, or as many as `num_queries` says.
        num_queries: Draw that many points here, by `query_strategy`; from N on, all.
        query_strategy: "uniform" or "stratified", along `grid_shape` or else the positions.
        grid_shape: Points along each axis, row-major.
        chunk_size: Points decoded at once; each chunk is computed again in the backward pass.
        generator: Source of the draws; None takes torch's own.
        decoded: Fields to encode in place of G(x, z), at all points, or at those of `sample`.
        history: Earlier states that the encoder reads before the decoded one, at the same points, their
            channels oldest first; the encoder is then given these fields alone.
        target: What the encoder should find; None is `latent`. It gets a gradient too.
        detach_target: Stop that gradient.
        detach_decoded: Stop the gradient into the decoded fields: it trains the encoder, and what made
            the target.
        condition: Parameters for the decoder.
        encoder_condition: Parameters for the encoder.
        mask: True where a sample counts, (sample,); of one per point, (sample, point), a sample counts
            where any of its points does.

    Returns:
        Scalar in the latent's unit squared; 0 when equal, and exactly 0 with gradient 0 where the mask is
        False throughout. float32 (float64 for float64 latents).

    Raises:
        KeyError: If a field of `history` is not among the decoded ones.
        ValueError: If shapes do not fit, both `sample` and `num_queries` are given, or an option is out of
            range.
        TypeError: If a latent is not real floating point, or the mask holds no flags.

    Source:
        The inverse decoding loss of Alkin et al., "Universal Physics Transformers", arXiv 2402.12365.
    """
    positions = points_of(query_positions, samples=len(latent))
    chosen = resolve_sample(
        sample,
        num_queries,
        positions,
        strategy=query_strategy,
        grid_shape=grid_shape,
        generator=generator,
    )
    subset = chosen if getattr(encoder, "accepts_point_subset", False) else None
    places = positions if subset is None else subset.gather(positions)
    if decoded is None:
        if chosen is not None and subset is None and chunk_size is None:
            chunk_size = chosen.indices.shape[1]
        fields = decode_at(decoder, places, latent, condition=condition, chunk_size=chunk_size)
    else:
        fields = _at(decoded, subset, positions, name="decoded", drawn_here=sample is None)
    if detach_decoded:
        fields = {name: values.detach() for name, values in fields.items()}
    if history is not None:
        past = _at(history, subset, positions, name="history", drawn_here=sample is None)
        fields = {
            name: torch.cat([past[name], named(fields, name, source="what is decoded")], dim=-1)
            for name in past
        }
    again = encode(encoder, fields, places, condition=encoder_condition)
    wanted = latent if target is None else target
    wanted = wanted.detach() if detach_target else wanted
    keep = mask_of_points(mask, samples=len(latent), points=positions.shape[1])
    return latent_error(again, wanted, None if keep is None else keep.any(-1))


def latent_error(pred: Tensor, target: Tensor, keep: Tensor | None = None) -> Tensor:
    """Mean of (pred − target)² over all elements, of the samples that `keep` [B] is True for.

    Both get a gradient.

    Raises:
        ValueError: If the shapes differ.
    """
    check_same_shape(pred, target)
    error = to_working_dtype(pred, name="pred") - to_working_dtype(target, name="target")
    if keep is None:
        return error.square().mean()
    error = error.where(keep.view(-1, *(1,) * (error.ndim - 1)), 0.0)
    return error.square().mean() * len(keep) / keep.sum().clamp(min=1)


def fitting_points(positions: Tensor, input_fields: Fields) -> Tensor:
    """The positions of the input fields, (sample, point, dim).

    Raises:
        ValueError: If fields or positions have other axes, or are of another number of points.
    """
    samples, points = check_fields(input_fields, name="input_fields")
    found = points_of(positions, samples=samples)
    if found.shape[1] != points:
        raise ValueError(
            f"input_positions are {found.shape[1]} points, the input fields have {points}."
        )
    return found


def _at(
    fields: Fields, sample: QuerySample | None, positions: Tensor, *, name: str, drawn_here: bool
) -> Fields:
    """Fields at the points that the encoder is given: all, or those of the sample."""
    samples, points = positions.shape[:2]
    found = check_fields(fields, name=name)
    if found == (samples, points):
        return fields if sample is None else {n: sample.gather(v) for n, v in fields.items()}
    if sample is not None and not drawn_here and found == tuple(sample.indices.shape):
        return fields
    raise ValueError(
        f"{name} is given at {found[0]} x {found[1]} points (sample, point), expected {samples} x "
        f"{points}, all of them; the points of a sample will do only where a set encoder reads them "
        "and `sample` says which they are."
    )
