"""Half precision: where autocast is on, and the loss scale that fp16 needs."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

PrecisionName = Literal["fp32", "bf16", "fp16"]

_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocast and gradient scaling for one of the three precisions.

    Weights, gradients and optimizer state stay in their own dtype. fp16 scales the loss so that small
    gradients survive; a step whose scaled gradient overflows is skipped and the scale is halved.

    Args:
        name: "fp32", "bf16" or "fp16".
        device: Where the model computes.
    """

    def __init__(self, name: PrecisionName, *, device: torch.device) -> None:
        self.name = name
        self._device_type = device.type
        self._dtype = _DTYPES[name]
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self, *, enabled: bool = True) -> AbstractContextManager[Any]:
        """A context of one forward pass; never around a backward pass."""
        if self._dtype is None or not enabled:
            return nullcontext()
        return torch.autocast(self._device_type, dtype=self._dtype)

    @property
    def can_lower_scale(self) -> bool:
        """Whether a gradient that overflows may be the loss scale's doing."""
        return self.scaler.is_enabled() and self.scaler.get_scale() > 1.0
