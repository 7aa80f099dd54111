"""Half precision: where autocast is on, and the loss scale that fp16 needs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, no_type_check

import torch
from torch import Tensor

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

    @contextmanager
    def measurable(
        self, losses: Mapping[str, Tensor], parameters: Sequence[Tensor]
    ) -> Iterator[dict[str, Tensor]]:
        """The losses with their values, whose gradients arrive as they are through half precision.

        They travel times the loss scale, and are divided by it at the parameters.

        Args:
            losses: Scalars with their graph.
            parameters: Gradients with respect to these are taken inside.
        """
        if not self.scaler.is_enabled():
            yield dict(losses)
            return
        scale = self.scaler.get_scale()
        hooks = [p.register_hook(lambda g: g / scale) for p in parameters if p.requires_grad]
        try:
            yield {name: _Enlarged.apply(value, scale) for name, value in losses.items()}  # type: ignore[misc]
        finally:
            for hook in hooks:
                hook.remove()


@no_type_check
class _Enlarged(torch.autograd.Function):
    """The same value; its gradient times a factor."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, factor: float) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        return grads[0] * ctx.factor, None
