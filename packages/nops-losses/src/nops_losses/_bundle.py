"""All terms of the joint training of encoder, approximator and decoder, weighed and added up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nops_losses._bundle_inputs import first_device, left_out, one_of, with_meta
from nops_losses._bundle_inverse import InverseTerms, check_decoded, limited
from nops_losses._bundle_weights import term_weights
from nops_losses._checks import check_choice
from nops_losses._inverse import latent_error
from nops_losses._inverse_parts import Fields, resolve_sample
from nops_losses._latent import latent_spectrum_error
from nops_losses._queries import Strategy


@dataclass(frozen=True, eq=False, kw_only=True)
class LossBundle:
    """Terms by name, with their weights and their sum.

    Attributes:
        raw: Unweighted terms, scalars with their graph; only what was computed.
        weights: Weight of every term now, those left out included.
        weighted: weights · raw.
        total: Sum of `weighted`; with no term at all a zero without a graph.
        skipped: Why each of the other terms was left out.
    """

    raw: dict[str, Tensor]
    weights: dict[str, float]
    weighted: dict[str, Tensor]
    total: Tensor
    skipped: dict[str, str]

    @property
    def components(self) -> dict[str, Tensor]:
        """The weighted terms under their other name."""
        return self.weighted

    def as_floats(self) -> dict[str, float]:
        """The raw terms and "total" as numbers; the host waits for the device once."""
        names = [*self.raw, "total"]
        values = torch.stack(
            [value.detach().double() for value in (*self.raw.values(), self.total)]
        )
        return dict(zip(names, values.tolist(), strict=True))


def compute_operator_loss_bundle(
    *,
    input_fields: Mapping[str, Float[Tensor, "sample point _"]] | None = None,
    encoded_latent: Float[Tensor, "sample token channel"] | None = None,
    decoder: Callable[..., Fields] | None = None,
    input_positions: Float[Tensor, "... point dim"] | None = None,
    encoder: Callable[..., Tensor] | None = None,
    query_positions: Float[Tensor, "... query dim"] | None = None,
    coords: Float[Tensor, "... query dim"] | None = None,
    meta: Any = None,
    pred_next: Float[Tensor, "..."] | None = None,
    target_next: Float[Tensor, "..."] | None = None,
    pred_rollout: Float[Tensor, "..."] | None = None,
    target_rollout: Float[Tensor, "..."] | None = None,
    weights: Mapping[str, float] | None = None,
    current_epoch: float | None = None,
    num_queries: int | None = None,
    query_strategy: Strategy = "uniform",
    grid_shape: Sequence[int] | None = None,
    condition: Float[Tensor, "sample parameter"] | None = None,
    mask: Bool[Tensor, "sample ..."] | None = None,
    field_weights: Mapping[str, float] | None = None,
    generator: torch.Generator | None = None,
    chunk_size: int | None = None,
    preset: Literal["seed", "original"] = "seed",
    decoded_next: Mapping[str, Float[Tensor, "sample query _"]] | None = None,
    next_latent: Float[Tensor, "sample token channel"] | None = None,
) -> LossBundle:
    """Compute, weigh and add up the terms whose inputs are given.

    | term | formula | key of its weight, default |
    |---|---|---|
    | `L_forward` | mean (pred_next − target_next)² | `lambda_forward`, 1 |
    | `L_inv_enc` | `inverse_encoding_loss` | `lambda_inv_enc`, 0 |
    | `L_inv_dec` | `inverse_decoding_loss` | `lambda_inv_dec`, 0 |
    | `L_rollout` | mean (pred_rollout − target_rollout)² | `lambda_rollout`, 0 |
    | `L_spec` | `latent_spectrum_error` of pred_next | `lambda_spectral`, 0 |

    A term is left out where its weight is 0, and then nothing is decoded or encoded for it; or where none
    of its own inputs is given. Where some of them are given and some lack, a positive weight is an
    error, also while a warm-up still keeps it at 0.

    The weights of the two inverse terms follow `inverse_loss_warmup_epochs` (15) and
    `inverse_loss_max_weight` (0.05): 0 for so many epochs, then as many of a straight ramp, each clipped at
    the maximum. Without `current_epoch` they are full.

    Args:
        input_fields: u, fields by name, axes (sample, point, channel), normalised.
        encoded_latent: z = E(u), axes (sample, token, channel).
        decoder: G, called as `decoder(positions, latent)`, gives fields by name.
        input_positions: Where `input_fields` are, axes (point, dim) or (sample, point, dim).
        encoder: E, called as `encoder(fields, positions)`.
        query_positions: Where to decode for `L_inv_dec`, the same axes.
        coords: Another name of `query_positions`.
        meta: Handed to the encoder as `meta=` if its signature has that; else not used.
        pred_next: Predicted next latent or field, any axes.
        target_next: The true one, same shape; it gets no gradient.
        pred_rollout: Predicted latents over several steps, any axes.
        target_rollout: The true ones, same shape; they get no gradient.
        weights: Numbers by the keys above, finite and not negative.
        current_epoch: 0-based.
        num_queries: Decode at that many points; an encoder that is no set encoder still gets all.
        query_strategy: "uniform" or "stratified", along `grid_shape` or else the positions.
        grid_shape: Points along each axis, row-major.
        condition: Parameters for decoder and encoder.
        mask: What counts in the two inverse terms, (sample,) or (sample, point).
        field_weights: Weight of each field in `L_inv_enc`.
        generator: Source of the draws; None takes torch's own.
        chunk_size: Points decoded at once; each chunk is computed again in the backward pass.
        preset: How `L_inv_dec` inverts. "seed": z, with z as a target that gets no gradient. "original", as
            published: the next latent, nothing detached.
        decoded_next: For "original": the next latent decoded already, at all of `query_positions`.
        next_latent: For "original": the next latent; None takes `pred_next`.

    Returns:
        The bundle. Terms are at least float32.

    Raises:
        ValueError: If a key of `weights` is unknown or a weight negative, inputs of a wanted term lack,
            shapes do not fit, `coords` and `query_positions` differ, or what only "original" uses is given
            with "seed".
        KeyError: If the decoder does not give one of the input fields.
        TypeError: If a term's input is not real floating point.
    """
    check_choice("preset", preset, ("seed", "original"))
    places = one_of(coords, query_positions)
    now = term_weights(weights, current_epoch)
    if preset == "seed" and (decoded_next is not None or next_latent is not None):
        raise ValueError(
            'decoded_next and next_latent belong to preset="original"; leave them out.'
        )
    ahead = pred_next if next_latent is None else next_latent
    inverted = encoded_latent if preset == "seed" else ahead
    given: dict[str, Any] = {
        "input_fields": input_fields,
        "encoded_latent": encoded_latent,
        "decoder": decoder,
        "input_positions": input_positions,
        "encoder": encoder,
        "query_positions": places,
        "inverted_latent": inverted,
        "inverted_decoder": decoder if decoded_next is None else decoded_next,
        "pred_next": pred_next,
        "target_next": target_next,
        "pred_rollout": pred_rollout,
        "target_rollout": target_rollout,
    }
    skipped = left_out(given, now, preset)
    check_decoded(decoded_next, places)
    inverse = InverseTerms(
        fields=given["input_fields"],
        latent=given["encoded_latent"],
        decoder=limited(decoder, input_fields),
        input_positions=given["input_positions"],
        encoder=with_meta(given["encoder"], meta),
        query_positions=given["query_positions"],
        inverted=given["inverted_latent"],
        decoded=decoded_next,
        is_latent=preset == "seed",
        draw=partial(
            resolve_sample,
            None,
            num_queries,
            strategy=query_strategy,
            grid_shape=grid_shape,
            generator=generator,
        ),
        options={"condition": condition, "chunk_size": chunk_size},
        mask=mask,
        field_weights=field_weights,
    )
    terms = {
        "L_forward": partial(_error, given["pred_next"], given["target_next"]),
        "L_rollout": partial(_error, given["pred_rollout"], given["target_rollout"]),
        "L_spec": partial(latent_spectrum_error, given["pred_next"], given["target_next"]),
    }
    raw = inverse.compute({*now.now} - {*skipped})
    raw |= {name: term() for name, term in terms.items() if name not in skipped}
    raw = {name: raw[name] for name in now.now if name in raw}
    return _bundle(raw, now.now, skipped, device=first_device(*given.values()))


def _error(pred: Tensor, target: Tensor) -> Tensor:
    return latent_error(pred, target.detach())


def _bundle(
    raw: dict[str, Tensor],
    weights: dict[str, float],
    skipped: dict[str, str],
    *,
    device: torch.device,
) -> LossBundle:
    weighted = {name: weights[name] * term for name, term in raw.items()}
    total = sum(weighted.values(), start=torch.zeros((), device=device))
    return LossBundle(raw=raw, weights=weights, weighted=weighted, total=total, skipped=skipped)
