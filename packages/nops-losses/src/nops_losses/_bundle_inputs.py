"""What each term of the loss bundle needs, and which of it is there."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nops_losses._bundle_weights import TermWeights

OWN = {
    "L_forward": ("pred_next", "target_next"),
    "L_inv_enc": ("input_fields", "input_positions"),
    "L_inv_dec": ("encoder", "query_positions"),
    "L_rollout": ("pred_rollout", "target_rollout"),
    "L_spec": ("pred_next", "target_next"),
}
SHARED = {
    "L_inv_enc": ("encoded_latent", "decoder"),
    "L_inv_dec": ("inverted_latent", "inverted_decoder"),
}
SPELLED = {"query_positions": "query_positions (or coords)", "inverted_decoder": "decoder"}


def left_out(given: Mapping[str, Any], weights: TermWeights, preset: str) -> dict[str, str]:
    """The terms that are left out, each with the reason; the rest is to be computed.

    Raises:
        ValueError: If some but not all inputs of a term that is wanted are there.
    """
    skipped = {}
    for term, own in OWN.items():
        if all(given[name] is None for name in own):
            skipped[term] = f"none of its inputs is given: {', '.join(own)}"
            continue
        missing = [name for name in (*own, *SHARED.get(term, ())) if given[name] is None]
        if weights.base[term] > 0 and missing:
            latent = "encoded_latent" if preset == "seed" else "next_latent (or pred_next)"
            spelled = {**SPELLED, "inverted_latent": latent}
            names = ", ".join(spelled.get(name, name) for name in missing)
            raise ValueError(f"{term} has a weight of {weights.base[term]:g} but lacks {names}.")
        if weights.base[term] == 0:
            skipped[term] = "its weight is 0"
        elif weights.now[term] == 0:
            skipped[term] = f"its weight is still 0, {weights.base[term]:g} later"
    return skipped


def one_of(coords: Tensor | None, query_positions: Tensor | None) -> Tensor | None:
    """The positions to decode at, by either name.

    Raises:
        ValueError: If both are given and differ.
    """
    if coords is None or query_positions is None:
        return query_positions if coords is None else coords
    if not same_memory(coords, query_positions) and not _equal(coords, query_positions):
        raise ValueError(
            "coords and query_positions are two names of one thing and differ, with shapes "
            f"{tuple(coords.shape)} and {tuple(query_positions.shape)}; give one of them."
        )
    return query_positions


def same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether both are one tensor, or two views that are the same; the values are not looked at."""
    if a is b:
        return True
    layout = [(t.data_ptr(), t.shape, t.stride(), t.dtype, t.device) for t in (a, b)]
    return layout[0] == layout[1]


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a == b).all())


@dataclass(frozen=True)
class WithMeta:
    """An encoder whose signature has `meta`, with that argument given."""

    encoder: Callable[..., Tensor]
    meta: Any

    @property
    def accepts_point_subset(self) -> bool:
        """As the encoder says."""
        return bool(getattr(self.encoder, "accepts_point_subset", False))

    def __call__(self, *arguments: Any, **options: Any) -> Tensor:
        return self.encoder(*arguments, **options, meta=self.meta)


def with_meta(encoder: Any, meta: Any) -> Any:
    """The encoder, given `meta` where there is one and its signature names it."""
    if encoder is None or meta is None:
        return encoder
    function = encoder.forward if isinstance(encoder, nn.Module) else encoder
    takes = "meta" in inspect.signature(function).parameters
    return WithMeta(encoder, meta) if takes else encoder


def first_device(*inputs: Any) -> torch.device:
    """The device of the first tensor among the inputs; the CPU's where there is none."""
    tensors = (tensor for value in inputs for tensor in _tensors(value))
    first = next(tensors, None)
    return torch.device("cpu") if first is None else first.device


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
