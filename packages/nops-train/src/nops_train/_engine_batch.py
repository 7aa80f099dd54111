"""Batches: nested dicts, lists and tuples of tensors whose dimension 0 is the sample."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from nops_train._errors import InputError


def map_tensors(batch: Any, function: Callable[[Tensor], Any]) -> Any:
    """`batch` with `function` applied to each tensor; anything else stays as it is."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, dict):
        return {key: map_tensors(item, function) for key, item in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_tensors(item, function) for item in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(map_tensors(item, function) for item in batch)
    return batch


def named_tensors(batch: Any, name: str = "batch") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a batch with their places, such as `batch.frames` or `batch[0]`."""
    if isinstance(batch, Tensor):
        yield name, batch
    elif isinstance(batch, dict):
        for key, item in batch.items():
            yield from named_tensors(item, f"{name}.{key}")
    elif isinstance(batch, (list, tuple)):
        for index, item in enumerate(batch):
            yield from named_tensors(item, f"{name}[{index}]")


def has_own_move(batch: Any) -> bool:
    """Whether a batch is an object that is moved by a `to` of its own."""
    return not isinstance(batch, (Tensor, dict, list, tuple)) and hasattr(batch, "to")


def to_device(batch: Any, device: torch.device) -> Any:
    """`batch` with its tensors on `device`; an object with a `to` of its own is moved by that."""
    if has_own_move(batch):
        return batch.to(device)
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


def num_samples(batch: Any) -> int:
    """Length of dimension 0 of the first tensor that has one; 1 where there is none."""
    if isinstance(batch, Tensor) and batch.dim():
        return batch.shape[0]
    return next((len(tensor) for _, tensor in named_tensors(batch) if tensor.dim()), 1)


def split_batch(batch: Any, parts: int) -> list[Any]:
    """`batch` in `parts` micro-batches of nearly equal size; fewer where it has fewer samples.

    Raises:
        InputError: If tensors differ in the length of dimension 0, with both places.
    """
    if parts == 1:
        return [batch]
    sizes = {name: len(tensor) for name, tensor in named_tensors(batch) if tensor.dim()}
    if not sizes:
        raise InputError("accumulate > 1 needs batches of tensors, whose dimension 0 can be split")
    first, length = next(iter(sizes.items()))
    for name, size in sizes.items():
        if size != length:
            raise InputError(
                f"accumulate > 1 splits dimension 0, the sample: {first} has {length} and {name} {size}"
            )
    bounds = [length * i // min(parts, length) for i in range(min(parts, length) + 1)]
    return [
        map_tensors(batch, lambda t, a=start, b=stop: t[a:b] if t.dim() else t)
        for start, stop in itertools.pairwise(bounds)
    ]
