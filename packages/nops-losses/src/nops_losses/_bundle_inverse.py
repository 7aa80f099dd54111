"""The two inverse terms of the bundle, which share draws and decodes where they can."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nops_losses._bundle_inputs import same_memory
from nops_losses._inverse import encoding_error, fitting_points, inverse_decoding_loss
from nops_losses._inverse_parts import (
    Fields,
    check_fields,
    decode_at,
    named,
    points_of,
)
from nops_losses._queries import QuerySample


@dataclass(frozen=True, kw_only=True)
class InverseTerms:
    """Inputs of `L_inv_enc` and `L_inv_dec`; those of a term that is not wanted are not looked at, and may be None.

    Attributes:
        fields: What was encoded.
        latent: What it was encoded into.
        decoder: Decoder, giving the fields that are needed.
        input_positions: Where the fields are.
        encoder: Encoder.
        query_positions: Where to decode what is encoded again.
        inverted: The latent that `L_inv_dec` inverts.
        decoded: That latent decoded, at all query positions; None to decode it here.
        is_latent: Whether `inverted` is `latent`, the "seed" preset: a target without a gradient.
        draw: Draws the points to decode, of positions (sample, point, dim); None for all.
        options: `condition` and `chunk_size`.
        mask: What counts.
        field_weights: Weight of each field.
    """

    fields: Any
    latent: Any
    decoder: Any
    input_positions: Any
    encoder: Any
    query_positions: Any
    inverted: Any
    decoded: Fields | None
    is_latent: bool
    draw: Callable[[Tensor], QuerySample | None]
    options: dict[str, Any]
    mask: Tensor | None
    field_weights: Mapping[str, float] | None

    def compute(self, wanted: set[str]) -> dict[str, Tensor]:
        """The wanted ones of the two terms."""
        found: dict[str, Tensor] = {}
        sample, fields = None, None
        if "L_inv_enc" in wanted:
            found["L_inv_enc"], sample, fields = self._encoding()
        if "L_inv_dec" in wanted:
            shared = "L_inv_enc" in wanted and self._same_points()
            found["L_inv_dec"] = self._decoding(shared, sample, fields)
        return found

    def _encoding(self) -> tuple[Tensor, QuerySample | None, Fields]:
        """The term, the points drawn for it, and what was decoded there."""
        positions = fitting_points(self.input_positions, self.fields)
        sample = self.draw(positions)
        places = positions if sample is None else sample.gather(positions)
        decoded = decode_at(self.decoder, places, self.latent, **self.options)
        error = encoding_error(
            decoded, self.fields, sample, mask=self.mask, field_weights=self.field_weights
        )
        return error, sample, decoded

    def _decoding(self, shared: bool, sample: QuerySample | None, fields: Fields | None) -> Tensor:
        """The term; `sample` and `fields` are those of the other one, and serve where `shared`."""
        positions = points_of(self.query_positions, samples=len(self.inverted))
        chosen = sample if shared else self.draw(positions)
        decoded = self.decoded
        subset = getattr(self.encoder, "accepts_point_subset", False)
        if shared and self.is_latent and (chosen is None or subset):
            decoded = fields
        condition = self.options["condition"]
        return inverse_decoding_loss(
            self.inverted,
            _no_decoder if self.decoder is None else self.decoder,
            self.encoder,
            positions,
            sample=chosen,
            decoded=decoded,
            detach_target=self.is_latent,
            encoder_condition=condition,
            mask=self.mask,
            **self.options,
        )

    def _same_points(self) -> bool:
        return same_memory(self.input_positions, self.query_positions)


def limited(decoder: Any, fields: Fields | None) -> Any:
    """The decoder without what it gives besides the fields that were encoded."""
    if decoder is None or fields is None:
        return decoder

    def decode(*arguments: Any, **options: Any) -> Fields:
        decoded = decoder(*arguments, **options)
        return {name: named(decoded, name, source="the decoder's output") for name in fields}

    return decode


def check_decoded(decoded: Fields | None, positions: Tensor | None) -> None:
    """Raise unless the fields are at all positions: the points drawn here are known to nobody else."""
    if decoded is None or positions is None:
        return
    points = check_fields(decoded, name="decoded_next")[1]
    if points != positions.shape[-2]:
        raise ValueError(
            f"decoded_next is given at {points} points, the query positions are {positions.shape[-2]}."
        )


def _no_decoder(*_: Any) -> Fields:
    raise AssertionError("what is decoded already needs no decoder")
