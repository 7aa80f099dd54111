"""What every domain offers, how unit parameters become physical ones, and the shared checks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a domain: its name and the physical range of the unit interval.

    `scale` says how a unit value is spread over [low, high]: evenly ("linear"), or evenly in the
    logarithm ("log", both ends positive).
    """

    name: str
    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"{self.name}: need low < high, got {self.low} and {self.high}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"{self.name}: a log range needs low > 0, got {self.low}")

    def physical(self, unit: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """The physical value of a unit value, in float64, differentiable."""
        unit = unit.double()
        if self.scale == "log":
            return self.low * torch.exp(unit * math.log(self.high / self.low))
        return self.low + (self.high - self.low) * unit


@runtime_checkable
class Domain(Protocol):
    """A family of initial value problems with parameters theta in the unit cube.

    Fields are `[sample, channel, *grid]`, trajectories `[sample, time, channel, *grid]` with the
    initial field as frame 0. Everything is a pure function of its arguments: no global generator,
    no hash, and no sample depends on the batch it is computed in.
    """

    @property
    def name(self) -> str:
        """Canonical name, as `make_domain` takes it."""
        ...

    @property
    def version(self) -> str:
        """Raised whenever the same arguments would give another trajectory."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells per axis."""
        ...

    @property
    def lengths(self) -> tuple[float, ...]:
        """The domain's length per axis, in the domain's unit of length."""
        ...

    @property
    def boundary(self) -> str:
        """The kind of every side: "periodic", or "wall" where points are the centres of cells."""
        ...

    @property
    def channels(self) -> int:
        """Number of fields of the state."""
        ...

    @property
    def channel_names(self) -> tuple[str, ...]:
        """One name per channel."""
        ...

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Name and physical range of each column of theta."""
        ...

    @property
    def frame_interval(self) -> float:
        """Time between two frames, in the domain's unit of time."""
        ...

    def initial(
        self, n: int, *, seed: int | Sequence[int]
    ) -> Float[Tensor, "sample channel *grid"]:
        """Draw n initial fields, float64; one integer, or each sample's own seed."""
        ...

    def initial_kinds(self, n: int, *, seed: int | Sequence[int]) -> list[str]:
        """Name the kind of each field that `initial` draws from the same arguments."""
        ...

    def trajectory(
        self,
        initial: Float[Tensor, "sample channel *grid"],
        theta: Float[Tensor, "sample parameter"],
        *,
        num_steps: int,
    ) -> Float[Tensor, "sample time channel *grid"]:
        """Compute `num_steps` frames after the initial one, float64 inside, float32 out."""
        ...


def physical_parameters(
    theta: Float[Tensor, "sample parameter"], parameters: Sequence[Parameter]
) -> Float[Tensor, "sample parameter"]:
    """Map unit-cube parameters to their physical ranges, float64.

    Args:
        theta: One row per sample, each entry in [0, 1].
        parameters: One entry per column.

    Returns:
        Physical values, same shape, differentiable in theta.

    Raises:
        ValueError: If the width is not the number of parameters, or a value is outside [0, 1].
    """
    check_theta(theta, len(theta), parameters)
    # row by row: a vectorised exp may round another way than the one that serves a short batch
    return torch.stack(
        [
            torch.stack([p.physical(value) for p, value in zip(parameters, row, strict=True)])
            for row in theta
        ]
    )


def check_theta(theta: Tensor, num_samples: int, parameters: Sequence[Parameter]) -> None:
    """Refuse parameters of the wrong shape or outside the unit cube."""
    names = ", ".join(parameter.name for parameter in parameters)
    if theta.shape != (num_samples, len(parameters)):
        raise ValueError(
            f"theta has shape {tuple(theta.shape)}; expected {(num_samples, len(parameters))}: "
            f"{num_samples} samples of ({names})"
        )
    outside = ~((theta >= 0) & (theta <= 1))
    if bool(outside.any()):
        sample, column = (int(index) for index in outside.nonzero()[0])
        raise ValueError(
            f"theta of sample {sample}: {parameters[column].name} is "
            f"{float(theta[sample, column])}; expected a value in [0, 1]"
        )


def check_state(state: Tensor, *, name: str, channels: int, shape: tuple[int, ...]) -> None:
    """Refuse a state that is not `[sample, channel, *grid]` of this domain."""
    if state.ndim == 0 or state.shape[1:] != (channels, *shape) or not len(state):
        raise ValueError(
            f"{name}: state has shape {tuple(state.shape)}; expected "
            f"(sample >= 1, {channels}, {', '.join(map(str, shape))})"
        )


def check_times(times: Sequence[float] | Tensor) -> list[float]:
    """The times as numbers, if they are finite, not negative and do not decrease."""
    values = [float(time) for time in times]
    steps = zip([0.0, *values], values, strict=False)
    if not values or not all(before <= after < math.inf for before, after in steps):
        raise ValueError(f"times need to rise from 0 on (the state's time), got {values}")
    return values


def check_num_steps(num_steps: int) -> None:
    """Refuse a negative number of frames; 0 gives the initial frame alone."""
    if num_steps < 0:
        raise ValueError(f"need num_steps >= 0, got {num_steps}")


def check_positive(name: str, **positive: float) -> None:
    """Refuse numbers that are not positive and finite, by name."""
    for key, value in positive.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: {key} needs to be positive, got {value}")


def check_finite(trajectory: Tensor, *, name: str, channel_names: Sequence[str]) -> Tensor:
    """Return the trajectory, or raise with the first sample, frame and channel not finite."""
    finite = torch.isfinite(trajectory).flatten(3).all(-1)
    if not bool(finite.all()):
        sample, frame, channel = (int(index) for index in (~finite).nonzero()[0])
        raise ValueError(
            f"{name}: sample {sample}, frame {frame}, channel {channel_names[channel]!r} "
            "is not finite"
        )
    return trajectory


def by_chunks(compute: Callable[..., Tensor], *batched: Tensor, numel: int) -> Tensor:
    """Call `compute` on slices of a batch and join them: the work stays in the cache.

    `numel` is the number of float64 values a sample works on at a time. Off the CPU the whole
    batch is one slice. Slicing changes no bit of the result.
    """
    size = len(batched[0])
    if batched[0].device.type == "cpu":
        size = max(1, 2**15 // numel)  # 256 KiB
    slices = zip(*(tensor.split(size) for tensor in batched), strict=True)
    return torch.cat([compute(*part) for part in slices])
