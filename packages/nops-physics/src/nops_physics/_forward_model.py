"""What the forward models share: declared parameters and inputs, their checks, and the precision.

A forward model says by itself what it needs, so that a trainer can be written for all of them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

Bounds = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One parameter or known input.

    Attributes:
        name: Its name.
        unit: Its unit; empty if dimensionless.
        low: Lower end of the usual range, which values may leave.
        high: Upper end of it.
        default: Value of an input that is not given.
        least: No value below this one means anything; such values are refused.
        most: As `least`, from above.
        open_ends: Whether `least` and `most` themselves are refused too.
    """

    name: str
    unit: str
    low: float
    high: float
    default: float | Tensor = 0.0
    least: float = -math.inf
    most: float = math.inf
    open_ends: bool = False

    def outside(self, values: Tensor) -> Tensor:
        """Where values mean nothing. NaN passes: who trains decides about it."""
        if self.open_ends:
            return (values <= self.least) | (values >= self.most)
        return (values < self.least) | (values > self.most)

    @property
    def expected(self) -> str:
        """The values that mean something, in words."""
        if math.isinf(self.most):
            return f"{'above' if self.open_ends else 'at least'} {self.least:g}"
        return f"{self.least:g} to {self.most:g}{', without the ends' if self.open_ends else ''}"


class ForwardModel(nn.Module, ABC):
    """A map from physical parameters to an observation, which names everything it takes and gives.

    Attributes:
        parameter_names: Names along the last axis of `parameters`.
        parameter_units: Their units.
        bounds: Buffer `[parameter, 2]`: usual range of each parameter. Values beyond are computed.
        input_names: Known quantities of each sample; empty if there are none.
        input_units: Their units.
        input_defaults: What an input that is not given is taken to be.
        input_bounds: Buffer `[input, 2]`.
        output_names: Names along the last axis of the output.
        output_units: Their units.
    """

    bounds: Tensor
    input_bounds: Tensor
    output_names: tuple[str, ...]
    output_units: tuple[str, ...]
    least_dtype: ClassVar[torch.dtype] = torch.float32

    def __init__(
        self,
        parameters: Sequence[Quantity],
        *,
        inputs: Sequence[Quantity] = (),
        bounds: Bounds | None = None,
    ) -> None:
        super().__init__()
        self._parameters_declared = tuple(parameters)
        self._inputs_declared = tuple(inputs)
        self.parameter_names = tuple(item.name for item in parameters)
        self.parameter_units = tuple(item.unit for item in parameters)
        self.input_names = tuple(item.name for item in inputs)
        self.input_units = tuple(item.unit for item in inputs)
        self.input_defaults = tuple(item.default for item in inputs)
        self.register_buffer("bounds", range_tensor(parameters, bounds, kind=self._kind))
        self.register_buffer("input_bounds", range_tensor(inputs, None, kind=self._kind))

    @property
    def _kind(self) -> str:
        return type(self).__name__

    @abstractmethod
    def _decode(self, parameters: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
        """The output `[*batch, output]` from each parameter and input by name, `[*batch]`."""

    def forward(
        self,
        parameters: Float[Tensor, "*batch parameter"],
        inputs: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "*batch output"]:
        """The observation that these parameters cause.

        Computed with autocast off in float32 or better and cast back. Values are not checked
        inside of `torch.compile` and `torch.func.vmap`, where they cannot be read.

        Args:
            parameters: `[*batch, parameter]` in the order of `parameter_names`, in their units.
            inputs: Known quantities by name, `[*batch]` or, if one has several values,
                `[*batch, value]`; those left out take `input_defaults`.

        Returns:
            `[*batch, output]` in `output_units`, of the parameters' precision.

        Raises:
            ValueError: If the number of parameters is another, an input is unknown, or a value
                means nothing (a negative depth); with its name, what was found and expected.
        """
        if parameters.ndim == 0 or parameters.shape[-1] != len(self.parameter_names):
            raise ValueError(
                f"{self._kind}: parameters need the shape (..., {len(self.parameter_names)}) for "
                f"{', '.join(self.parameter_names)}, got {tuple(parameters.shape)}"
            )
        dtype = torch.promote_types(parameters.dtype, self.least_dtype)
        with torch.autocast(parameters.device.type, enabled=False):
            values = parameters.to(dtype)
            named = dict(zip(self.parameter_names, values.unbind(-1), strict=True))
            known = self._known(inputs or {}, values)
            check_values(named, self._parameters_declared, kind=self._kind)
            check_values(known, self._inputs_declared, kind=self._kind)
            return self._decode(named, known).to(parameters.dtype)

    def _known(self, inputs: Mapping[str, Tensor], like: Tensor) -> dict[str, Tensor]:
        """Every declared input in the precision and on the device of `like`."""
        if extra := sorted(inputs.keys() - set(self.input_names)):
            raise ValueError(
                f"{self._kind}: unknown inputs {extra}, known: {', '.join(self.input_names) or '-'}"
            )
        defaults = dict(zip(self.input_names, self.input_defaults, strict=True))
        known = {
            name: torch.as_tensor(inputs.get(name, default), dtype=like.dtype, device=like.device)
            for name, default in defaults.items()
        }
        batch = like.shape[:-1]
        return {
            name: _over_batch(value, torch.as_tensor(defaults[name]).shape, batch, name, self._kind)
            for name, value in known.items()
        }


def _over_batch(
    value: Tensor, own: Sequence[int], batch: Sequence[int], name: str, kind: str
) -> Tensor:
    wanted = (*batch, *own)
    try:
        return value.expand(wanted)
    except RuntimeError:
        raise ValueError(
            f"{kind}: input {name!r} needs the shape {wanted}, got {tuple(value.shape)}"
        ) from None


def range_tensor(quantities: Sequence[Quantity], bounds: Bounds | None, *, kind: str) -> Tensor:
    """Ranges `[quantity, 2]`: the usual ones, or those of a mapping that has them all.

    Raises:
        ValueError: If a name is missing or unknown, or a low end is not below its high end.
    """
    chosen = {item.name: (item.low, item.high) for item in quantities}
    if bounds is not None:
        check_names(bounds, chosen, what=f"{kind}: bounds")
        chosen = {name: bounds[name] for name in chosen}
    for name, (low, high) in chosen.items():
        if not -math.inf < low < high < math.inf:
            raise ValueError(
                f"{kind}: bounds of {name!r} need low < high, got low={low:g}, high={high:g}"
            )
    return torch.tensor(list(chosen.values()), dtype=torch.get_default_dtype()).reshape(-1, 2)


def check_names(found: Mapping[str, object], expected: Mapping[str, object], *, what: str) -> None:
    """Refuse a mapping whose names are not those expected, with both differences."""
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or extra:
        raise ValueError(
            f"{what}: missing {missing or 'none'}, unknown {extra or 'none'}; "
            f"valid names: {', '.join(expected)}"
        )


def check_values(
    values: Mapping[str, Tensor], quantities: Sequence[Quantity], *, kind: str
) -> None:
    """Refuse values that mean nothing, with the name, the first such value and what is expected."""
    limited = [item for item in quantities if item.least > -math.inf or item.most < math.inf]
    if not limited or torch.compiler.is_compiling():
        return
    outside = torch.stack([item.outside(values[item.name]).any() for item in limited])
    try:
        refused = outside.tolist()
    except RuntimeError:  # inside of torch.func.vmap values cannot be read
        return
    for item, bad in zip(limited, refused, strict=True):
        if bad:
            where = values[item.name].detach()
            first = where[item.outside(where)].flatten()[0].item()
            unit = f" {item.unit}" if item.unit else ""
            raise ValueError(f"{kind}: {item.name!r} is {first:g}{unit}, expected {item.expected}")
