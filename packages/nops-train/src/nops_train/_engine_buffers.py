"""Buffers that a forward pass changes (running statistics), put back when a step is skipped."""

from typing import Any

import torch
from torch import Tensor, nn


class BufferGuard:
    """Remembers a module's buffers before each step, so that a skipped step leaves them alone.

    Some kernels write to buffers without raising their version number (batch norm's running statistics),
    and some buffers are large and never change (grids). So one exact comparison around a first forward
    pass finds those that change; they are copied before every step. The rest are watched by version.

    Args:
        module: The module whose buffers are kept.
    """

    def __init__(self, module: nn.Module) -> None:
        self._places = [
            (owner, name)
            for owner in module.modules()
            for name, buffer in owner._buffers.items()
            if buffer is not None
        ]
        self._copies = [_copy(owner._buffers[name]) for owner, name in self._places]
        self._changing: set[int] = set()
        self._versions = self._marks()

    def find_changing(self) -> None:
        """Compare all buffers with their copies; those that differ are copied before each step."""
        for i, (owner, name) in enumerate(self._places):
            if not _equal(owner._buffers[name], self._copies[i]):
                self._changing.add(i)

    def changing(self) -> list[Tensor]:
        """The buffers that forward passes are known to change."""
        found = (self._buffer(i) for i in sorted(self._changing))
        return [buffer for buffer in found if buffer is not None]

    def remember(self) -> None:
        """Copy the buffers that may have changed since they were last copied."""
        if self._places:
            self._remember()

    @torch.no_grad()
    def _remember(self) -> None:
        for i in self._changing | self._touched():
            self._copies[i] = _copy_into(self._copies[i], self._buffer(i))
        self._versions = self._marks()

    @torch.no_grad()
    def restore(self) -> None:
        """Put back what `remember` copied."""
        touched = self._touched()
        self._changing |= touched
        for i in self._changing:
            owner, name = self._places[i]
            owner._buffers[name] = _copy_into(self._buffer(i), self._copies[i])
        self._versions = self._marks()

    @torch.no_grad()
    def restore_where(self, bad: Tensor) -> None:
        """Put back what `remember` copied where `bad` (bool, scalar, on the device) is true.

        Nothing waits for the device, unless a buffer was given another shape.
        """
        pairs = [(self._buffer(i), self._copies[i]) for i in self._changing | self._touched()]
        if any(_differ(buffer, copy) for buffer, copy in pairs):
            if bool(bad):
                self.restore()
            return
        for buffer, copy in pairs:
            if buffer is not None and copy is not None:
                buffer.copy_(torch.where(bad, copy, buffer))

    def _buffer(self, i: int) -> Tensor | None:
        owner, name = self._places[i]
        return owner._buffers[name]

    def _marks(self) -> list[tuple[Any, int]]:
        buffers = (self._buffer(i) for i in range(len(self._places)))
        return [(buffer, -1 if buffer is None else buffer._version) for buffer in buffers]

    def _touched(self) -> set[int]:
        pairs = enumerate(zip(self._marks(), self._versions, strict=True))
        return {i for i, (now, then) in pairs if now[0] is not then[0] or now[1] != then[1]}


def _copy(buffer: Tensor | None) -> Tensor | None:
    return None if buffer is None else buffer.detach().clone()


def _copy_into(place: Tensor | None, source: Tensor | None) -> Tensor | None:
    if place is None or source is None or _differ(place, source):
        return _copy(source)
    return place.copy_(source)


def _differ(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether one cannot be copied into the other."""
    if a is None or b is None:
        return a is not b
    return a.shape != b.shape or a.dtype != b.dtype


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    # Bitwise: NaN equals itself here.
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
