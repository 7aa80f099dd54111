"""The stack of ordinary convolutions: a random network whose theta picks an architecture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from nops_physics._domain import Parameter

RESIDUAL_STEP, CONVEX_SHARE = 0.01, 0.5  # of the published generator's policies
PLAIN_LAYERS = 3  # deeper stacks add each block's input to its output
NORM_EPS = 1e-5


@dataclass(frozen=True, kw_only=True)
class StackSpec:
    """Blocks of convolution, instance norm and GELU, then a 1 x 1 output; theta has 12 entries.

    Entry by entry: `num_layers` and `base_channels` b are rounded to whole numbers; `kernel` picks
    a width; `noise_scale` is a factor on the operator's; `policy` picks how a step uses the output
    O(x): "autoregressive" x <- O(x), "residual" x <- x + 0.01 O(x), "convex" x <- (x + O(x)) / 2.
    `activation`, `noise_type`, `noise_schedule`, `normalisation` and `grid` have one choice each,
    and `dropout` and `spatial_correlation` do nothing: they are there so that a theta of the
    published generator fits.

    Block i has b 2^min(i, 2) channels, and adds its input (through a 1 x 1 convolution where widths
    differ) if there are more than three. Weights are normal with variance 1 / fan-in, without
    biases, drawn anew for each sample: theta picks an architecture, its weights are a matter of
    seeds. **So nothing that is learned of some samples says anything about another theta**: a model
    trained on these operators does not generalise to unseen theta. `SmoothSpec` does.

    Attributes:
        num_layers: Least and largest number of blocks.
        base_channels: Least and largest width b.
        kernels: Widths to choose from, odd; the grid needs as many cells per axis.
        policies: Names and their shares of the unit interval, in this order.
    """

    num_layers: tuple[int, int] = (2, 5)
    base_channels: tuple[int, int] = (16, 64)
    kernels: tuple[int, ...] = (3, 5, 7)
    policies: tuple[tuple[str, float], ...] = (("residual", 0.75), ("convex", 0.25))

    def __post_init__(self) -> None:
        for name in ("num_layers", "base_channels"):
            low, high = getattr(self, name)
            if not 1 <= low < high:
                raise ValueError(f"{name} needs 1 <= least < largest, got {low} and {high}")
        if not self.kernels or any(width < 1 or width % 2 == 0 for width in self.kernels):
            raise ValueError(f"kernels needs odd widths, got {self.kernels}")
        unknown = {name for name, _ in self.policies} - {"autoregressive", "residual", "convex"}
        shares = [share for _, share in self.policies]
        if unknown or min(shares, default=0) <= 0 or not math.isclose(sum(shares), 1):
            raise ValueError(
                "policies are autoregressive, residual and convex with shares that add up to 1, "
                f"got {self.policies}"
            )

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Name and range of each column of theta; a choice has the unit interval."""
        ranges = {
            "num_layers": self.num_layers,
            "base_channels": self.base_channels,
            "dropout": (0.0, 0.3),
            "spatial_correlation": (0.0, 0.3),
        }
        names = "num_layers base_channels kernel activation dropout noise_type noise_scale"
        names += " noise_schedule spatial_correlation normalisation grid policy"
        return tuple(
            Parameter(name=name, low=1e-5, high=1.0, scale="log")
            if name == "noise_scale"
            else Parameter(
                name=name, low=ranges.get(name, (0, 1))[0], high=ranges.get(name, (0, 1))[1]
            )
            for name in names.split()
        )

    def settings(self, theta: Sequence[float]) -> "StackSettings":
        """What one row of theta picks; a half is rounded to the even number."""
        unit = dict(zip((p.name for p in self.parameters), theta, strict=True))
        return StackSettings(
            num_layers=_whole(unit["num_layers"], self.num_layers),
            base_channels=_whole(unit["base_channels"], self.base_channels),
            kernel=self.kernels[
                min(int(unit["kernel"] * len(self.kernels)), len(self.kernels) - 1)
            ],
            noise_scale=10.0 ** (5.0 * (unit["noise_scale"] - 1.0)),
            policy=self._policy(unit["policy"]),
        )

    def _policy(self, unit: float) -> str:
        reached = 0.0
        for name, share in self.policies:
            reached += share
            if unit < reached:
                return name
        return self.policies[-1][0]


def _whole(unit: float, bounds: tuple[int, int]) -> int:
    return round(bounds[0] + unit * (bounds[1] - bounds[0]))


class StackSettings(NamedTuple):
    """What a row of theta picks of a stack."""

    num_layers: int
    base_channels: int
    kernel: int
    noise_scale: float
    policy: str


class StackNetwork(NamedTuple):
    """One sample's network: its settings and weights, float64."""

    settings: StackSettings
    kernels: tuple[Tensor, ...]  # [output, input, k, k] of each block
    skips: tuple[Tensor | None, ...]  # [output, input, 1, 1]; None for the identity
    readout: Tensor  # [channel, hidden, 1, 1]


def draw_network(
    settings: StackSettings, *, channels: int, generator: torch.Generator
) -> StackNetwork:
    """Draw the weights: block after block, its kernel and its skip, then the output."""

    def draw(outputs: int, inputs: int, width: int) -> Tensor:
        size = (outputs, inputs, width, width)
        weights = torch.randn(size, generator=generator, dtype=torch.float64)
        return weights / math.sqrt(inputs * width**2)

    widths = [settings.base_channels * 2 ** min(i, 2) for i in range(settings.num_layers)]
    deep = settings.num_layers > PLAIN_LAYERS
    kernels, skips = [], []
    for inputs, outputs in pairwise([channels, *widths]):
        kernels.append(draw(outputs, inputs, settings.kernel))
        skips.append(draw(outputs, inputs, 1) if deep and inputs != outputs else None)
    return StackNetwork(settings, tuple(kernels), tuple(skips), draw(channels, widths[-1], 1))


def stack_step(
    state: Tensor, network: StackNetwork, *, noise_scale: float, generator: torch.Generator | None
) -> Tensor:
    """The next state of one sample [1, channel, height, width], float64, differentiable in it."""
    hidden, pad = state, network.settings.kernel // 2
    for kernel, skip in zip(network.kernels, network.skips, strict=True):
        wrapped = functional.pad(hidden, (pad,) * 4, mode="circular")
        block = functional.gelu(_normalised(functional.conv2d(wrapped, kernel.to(state.device))))
        if len(network.kernels) > PLAIN_LAYERS:
            block = block + (
                hidden if skip is None else functional.conv2d(hidden, skip.to(state.device))
            )
        hidden = block
    if noise_scale and generator is not None:
        noise = torch.randn(hidden.shape, generator=generator, dtype=torch.float64)
        hidden = hidden + noise_scale * network.settings.noise_scale * noise.to(state.device)
    return _next(state, functional.conv2d(hidden, network.readout.to(state.device)), network)


def _next(state: Tensor, output: Tensor, network: StackNetwork) -> Tensor:
    policy = network.settings.policy
    if policy == "autoregressive":
        return output
    if policy == "residual":
        return state + RESIDUAL_STEP * output
    return (1 - CONVEX_SHARE) * state + CONVEX_SHARE * output


def _normalised(field: Tensor) -> Tensor:
    """Instance norm: each channel of each sample with mean 0 and variance 1."""
    offset = field - field.mean((-2, -1), keepdim=True)
    return offset / (offset.square().mean((-2, -1), keepdim=True) + NORM_EPS).sqrt()
