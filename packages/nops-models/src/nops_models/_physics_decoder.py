"""What a physics-integrated VAE asks of a forward model, and its known inputs."""

from collections.abc import Mapping
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

MEMBERS = (
    "parameter_names",
    "parameter_units",
    "bounds",
    "input_names",
    "input_units",
    "input_defaults",
    "input_bounds",
    "output_names",
    "output_units",
    "forward",
)


class _SeesBuffers(type(Protocol)):
    """A protocol asks a class for its members, from Python 3.12 on; buffers are with the object."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return all(hasattr(instance, name) for name in MEMBERS)


@runtime_checkable
class PhysicsDecoder(Protocol, metaclass=_SeesBuffers):
    """A differentiable `nn.Module` from P physical parameters to D outputs, that declares itself.

    It keeps no state between calls: any batch size may follow any other.

    Attributes:
        parameter_names: Along the last axis of `parameters`, P.
        parameter_units: Their units.
        bounds: Buffer (P, 2): the range of each, in its unit, low < high.
        input_names: Known quantities of each sample; empty if there are none.
        input_units: Their units.
        input_defaults: For each, the number, or the vector, that stands for it where it is not given.
        input_bounds: Buffer (input, 2): the usual range of each.
        output_names: Along the last axis of the output, D.
        output_units: Their units.
    """

    parameter_names: tuple[str, ...]
    parameter_units: tuple[str, ...]
    bounds: Tensor
    input_names: tuple[str, ...]
    input_units: tuple[str, ...]
    input_defaults: tuple[Any, ...]
    input_bounds: Tensor
    output_names: tuple[str, ...]
    output_units: tuple[str, ...]

    def forward(self, parameters: Tensor, inputs: Mapping[str, Tensor] | None = None) -> Tensor:
        """Outputs (…, D) of parameters (…, P), both in physical units."""
        ...


def check_physics(physics: Any) -> None:
    """Refuse a module that does not declare itself.

    Raises:
        ValueError: With what is missing or contradictory.
    """
    missing = [name for name in MEMBERS if not hasattr(physics, name)]
    is_module = isinstance(physics, nn.Module)
    if missing or not is_module:
        raise ValueError(
            f"physics must be a PhysicsDecoder and an nn.Module; {type(physics).__name__} lacks "
            f"{missing or 'nn.Module'}."
        )
    declared = cast("PhysicsDecoder", physics)
    _check_ranges("bounds", declared.bounds, declared.parameter_names)
    _check_ranges("input_bounds", declared.input_bounds, declared.input_names)
    if len(declared.input_defaults) != len(declared.input_names):
        raise ValueError(
            f"physics has {len(declared.input_names)} inputs and {len(declared.input_defaults)} "
            "input_defaults."
        )


def _check_ranges(what: str, ranges: Tensor, names: tuple[str, ...]) -> None:
    if ranges.shape != (len(names), 2):
        raise ValueError(
            f"{what} of the physics have shape {tuple(ranges.shape)}, expected ({len(names)}, 2)."
        )
    for name, (low, high) in zip(names, ranges.tolist(), strict=True):
        if not low < high:
            raise ValueError(f"{what} of {name!r} need low < high, got {low:g} and {high:g}.")


class KnownInputs(nn.Module):
    """The physics' known inputs as the encoder sees them: one row per sample, in [−1, 1].

    Attributes:
        width: Numbers in a row.
    """

    def __init__(self, physics: PhysicsDecoder) -> None:
        super().__init__()
        self.names = tuple(physics.input_names)
        defaults = [torch.as_tensor(d, dtype=torch.float32) for d in physics.input_defaults]
        self.shapes = tuple(default.shape for default in defaults)
        self.width = sum(default.numel() for default in defaults)
        for index, default in enumerate(defaults):
            self.register_buffer(f"default_{index}", default, persistent=False)
        self.register_buffer("ranges", physics.input_bounds.detach().clone(), persistent=False)
        self.ranges: Tensor

    def forward(self, inputs: Mapping[str, Tensor] | None, like: Tensor) -> Tensor:
        """Rows (sample, width) beside `like` (sample, …); what is not given takes its default.

        Raises:
            ValueError: If a name is unknown, or a shape is another.
        """
        check_names(inputs, self.names)
        rows = [self._scaled(index, inputs or {}, like) for index in range(len(self.names))]
        return torch.cat([like.new_zeros(len(like), 0), *rows], 1)

    def _scaled(self, index: int, inputs: Mapping[str, Tensor], like: Tensor) -> Tensor:
        name = self.names[index]
        given = inputs.get(name, getattr(self, f"default_{index}"))
        shape = (len(like), *self.shapes[index])
        if name in inputs and given.shape != shape:
            raise ValueError(
                f"input {name!r} has shape {tuple(given.shape)}, expected {tuple(shape)}."
            )
        low, high = self.ranges[index].to(like).unbind()
        scaled = 2 * (given.to(like) - low) / (high - low) - 1
        return scaled.expand(shape).reshape(len(like), -1)


def check_names(inputs: Mapping[str, Tensor] | None, names: tuple[str, ...]) -> None:
    """Raise for an input that the physics does not know."""
    if extra := sorted((inputs or {}).keys() - set(names)):
        raise ValueError(f"unknown inputs {extra}; known: {', '.join(names) or 'none'}.")
