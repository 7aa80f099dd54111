"""Batches on their way to the device, beside what it computes."""

from collections import deque
from typing import Any, Protocol

import torch
from torch import Tensor

from nops_train._engine_batch import has_own_move, map_tensors, to_device

AHEAD = 1  # steps that the device may still have to make when the next batch is sent


class Mark(Protocol):
    """A place in what the device was asked to do."""

    def synchronize(self) -> None:
        """Wait until the device has come to it."""
        ...


class Lane(Protocol):
    """A second queue of a device, for copies."""

    def copy(self, tensor: Tensor) -> Tensor:
        """Begin to copy a tensor to the device."""
        ...

    def join(self) -> None:
        """Let what is computed from here on wait for the copies that were begun."""
        ...

    def mark(self) -> Mark:
        """The end of all that was asked of the device so far, copies aside."""
        ...


class CudaLane:
    """A CUDA stream of its own.

    Args:
        device: Where copies go.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._side = torch.cuda.Stream(device)

    def copy(self, tensor: Tensor) -> Tensor:
        """Begin to copy a tensor, by way of page-locked memory unless it lies there."""
        if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
            return tensor.to(self._device, non_blocking=True)
        # One that is not contiguous may use a place twice (`expand`), which cannot be written to.
        source = tensor.pin_memory() if tensor.is_contiguous() else tensor
        with torch.cuda.stream(self._side):
            moved = source.to(self._device, non_blocking=True)
        moved.record_stream(torch.cuda.current_stream(self._device))
        return moved

    def join(self) -> None:
        """Let the current stream wait for the copies."""
        torch.cuda.current_stream(self._device).wait_stream(self._side)

    def mark(self) -> Mark:
        """An event at the end of the current stream."""
        event = torch.cuda.Event(blocking=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


class Feeder:
    """Sends each batch to the device as soon as it is read.

    On CUDA the host does not wait for a step, so the next batch is read and copied while the device makes
    it; nothing is read before its turn. The host is held back to `AHEAD` steps, so that batches do not pile
    up on the device, and a signal is answered soon.

    Args:
        device: Where batches go.
        lane: For copies; by default a `CudaLane` on CUDA, and none elsewhere.
    """

    def __init__(self, device: torch.device, *, lane: Lane | None = None) -> None:
        self._device = device
        self._lane = CudaLane(device) if lane is None and device.type == "cuda" else lane
        self._ends: deque[Mark] = deque()

    def send(self, batch: Any) -> Any:
        """The batch on the device; what is computed from here on finds it there."""
        lane = self._lane
        if lane is None:
            return to_device(batch, self._device)
        self._ends.append(lane.mark())  # of the step before
        while len(self._ends) > AHEAD:
            self._ends.popleft().synchronize()
        if has_own_move(batch):
            return to_device(batch, self._device)
        moved = map_tensors(batch, lane.copy)
        lane.join()
        return moved
