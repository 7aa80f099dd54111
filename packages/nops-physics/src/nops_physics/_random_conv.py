"""Random convolutional operators: untrained networks whose iteration is the dynamics."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._domain import (
    Parameter,
    by_chunks,
    check_finite,
    check_num_steps,
    check_state,
    check_theta,
    physical_parameters,
)
from nops_physics._mixture import initial_mixture
from nops_physics._seeds import derive_seed, generator_of
from nops_physics._spectral import check_shape, squared_cycles


@dataclass(frozen=True, kw_only=True)
class SmoothSpec:
    """A two-layer network with smooth kernels, whose map depends smoothly on theta.

    Attributes:
        hidden_channels: Width of both hidden layers.
        max_wavenumber: Kernels have the wavenumbers up to this one along each axis, in cycles per
            domain; the grid needs at least twice that and one cells per axis.
        bandwidth: Standard deviation of a kernel's spectrum, in cycles per domain.
        kernel_power: Sum of |a|^2 over the inputs and wavenumbers of one output.
        bias_scale: Factor on the biases of the first layer.
        output_scale: Factor on the readout.
    """

    hidden_channels: int = 6
    max_wavenumber: int = 8
    bandwidth: float = 3.0
    kernel_power: float = 72.25
    bias_scale: float = 0.3
    output_scale: float = 1.5

    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(name="mix", low=0.0, high=1.0),
        Parameter(name="gain", low=0.7, high=2.0, scale="log"),
        Parameter(name="rate", low=0.02, high=0.08, scale="log"),
        Parameter(name="blur", low=0.0, high=0.005),
    )

    def __post_init__(self) -> None:
        values = (self.hidden_channels, self.max_wavenumber, self.bandwidth, self.kernel_power)
        if min(values) <= 0:
            raise ValueError(f"{self}: widths, wavenumbers and powers need to be positive")


class Bank(NamedTuple):
    """Two sets of random weights, leading axis, between which theta interpolates."""

    first: Tensor  # [2, hidden, channel, 2m + 1, 2m + 1] complex, wavenumbers -m ... m
    second: Tensor  # [2, hidden, hidden, 2m + 1, 2m + 1] complex
    readout: Tensor  # [2, channel, hidden]
    bias: Tensor  # [hidden]


class Weights(NamedTuple):
    """The weights of each sample, every factor of theta included."""

    first: Tensor  # [sample, hidden, channel, 2m + 1, m + 1, 2] real and imaginary part
    second: Tensor  # [sample, hidden, hidden, 2m + 1, m + 1, 2]
    readout: Tensor  # [sample, channel, hidden]
    bias: Tensor  # [sample, hidden, 1, 1]
    keep: Tensor  # [sample, 1, height, width // 2 + 1]


def draw_bank(spec: SmoothSpec, *, channels: int, generator: torch.Generator) -> Bank:
    """Draw the weights in the fixed order first, second, readout, bias."""
    hidden = spec.hidden_channels
    first = _draw_kernels(spec, hidden, channels, generator)
    second = _draw_kernels(spec, hidden, hidden, generator)
    readout = torch.randn(2, channels, hidden, generator=generator, dtype=torch.float64)
    bias = torch.randn(hidden, generator=generator, dtype=torch.float64)
    return Bank(first, second, readout / readout.norm(dim=-1, keepdim=True), bias)


def _draw_kernels(
    spec: SmoothSpec, outputs: int, inputs: int, generator: torch.Generator
) -> Tensor:
    """Transfer functions of real kernels: [2, output, input, 2m + 1, 2m + 1], complex."""
    side = 2 * spec.max_wavenumber + 1
    parts = torch.randn(2, outputs, inputs, side, side, 2, generator=generator, dtype=torch.float64)
    k = torch.arange(side, dtype=torch.float64) - spec.max_wavenumber
    envelope = torch.exp(-(k[:, None] ** 2 + k**2) / (2 * spec.bandwidth**2))
    transfer = torch.view_as_complex(parts) * envelope
    transfer = transfer + transfer.flip(-2, -1).conj()  # a(-k) = conj a(k): a real kernel
    power = transfer.abs().square().sum(dim=(2, 3, 4), keepdim=True)
    return transfer * (spec.kernel_power / power).sqrt()


@dataclass(frozen=True, kw_only=True)
class RandomConvOperator:
    """An untrained random convolutional network, iterated, on the periodic unit square.

    h1 = tanh(g W1 * u + 0.3 b),  h2 = tanh(g W2 * h1),
    u' = (1 - r) exp(-D |k|^2) u + 1.5 r W3 h2  (+ noise_scale N(0, 1)),

    where * is the periodic convolution, k is in cycles per domain, and theta gives the mix
    W = cos(pi theta_0 / 2) W(0) + sin(pi theta_0 / 2) W(1) of two random banks, the gain g in
    [0.7, 2] (logarithmic), the rate r in [0.02, 0.08] (logarithmic) and the blur D in [0, 0.005].
    Kernels hold few wavenumbers, so the dynamics are the same on every grid that carries them.
    This is not the "convolutional neural operator" of arXiv 2302.01178.

    A trajectory depends on the initial field, theta, the fields of this object, the noise seeds
    where there is noise, and nothing else: no global generator, no batch size, no neighbour in
    the batch. On the CPU the same library version gives the same bits in every process.

    Attributes:
        shape: Height and width in cells, each at least 17 (2 max_wavenumber + 1).
        channels: Fields of the state.
        weight_seed: The operator: weights are drawn with `derive_seed("weights", weight_seed)`.
        spec: The network and its distribution of weights.
        noise_scale: Standard deviation of the white noise added to each cell in each step.

    Raises:
        ValueError: If the grid is too small or not of two axes, or a number is out of range.
    """

    shape: tuple[int, ...] = (32, 32)
    channels: int = 1
    weight_seed: int = 0
    spec: SmoothSpec = field(default_factory=SmoothSpec)
    noise_scale: float = 0.0

    name = "random_conv"
    version = "1"
    frame_interval = 1.0
    lengths = (1.0, 1.0)
    boundary = "periodic"

    def __post_init__(self) -> None:
        check_shape(self.shape, smallest=2 * self.spec.max_wavenumber + 1)
        if len(self.shape) != 2 or self.channels < 1 or not 0 <= self.noise_scale < math.inf:
            raise ValueError(
                "random_conv needs a shape of two axes, channels >= 1 and a finite noise_scale "
                f">= 0, got {self.shape}, {self.channels} and {self.noise_scale}"
            )

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Name and physical range of each column of theta."""
        return self.spec.parameters

    @property
    def num_parameters(self) -> int:
        """Width of theta."""
        return len(self.parameters)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """One name per column of theta."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """`u` for one channel, `u0`, `u1`, ... for more."""
        if self.channels == 1:
            return ("u",)
        return tuple(f"u{channel}" for channel in range(self.channels))

    @cached_property
    def bank(self) -> Bank:
        """The random weights, drawn when first used."""
        generator = generator_of(derive_seed("weights", self.weight_seed))
        return draw_bank(self.spec, channels=self.channels, generator=generator)

    def initial(
        self, n: int, *, seed: int | Sequence[int]
    ) -> Float[Tensor, "sample channel *grid"]:
        """Fields of `initial_mixture` with its default kinds, float64."""
        return initial_mixture(n, shape=self.shape, seed=seed, channels=self.channels)[0]

    def initial_kinds(self, n: int, *, seed: int | Sequence[int]) -> list[str]:
        """The kind of each field that `initial` draws from the same arguments."""
        return initial_mixture(n, shape=self.shape, seed=seed, channels=self.channels)[1]

    def step(
        self,
        state: Float[Tensor, "sample channel height width"],
        theta: Float[Tensor, "sample parameter"],
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "sample channel height width"]:
        """The next state, float64, differentiable in `state` and `theta`.

        Args:
            state: Any unit; computed in float64.
            theta: One row per sample, in [0, 1].
            generator: Source of the noise, sample after sample; needed if `noise_scale` is not 0.

        Returns:
            The state one step later, same shape.

        Raises:
            ValueError: If a shape does not fit, theta is outside [0, 1], or the generator is
                missing.
        """
        check_state(state, name=self.name, channels=self.channels, shape=self.shape)
        if self.noise_scale and generator is None:
            raise ValueError(f"noise_scale is {self.noise_scale}: step needs a generator")
        after = self._advance(state.double(), self._weights(theta, state))
        if generator is None:
            return after
        return after + self._noise([generator] * len(state)).to(after.device)

    def trajectory(
        self,
        initial: Float[Tensor, "sample channel height width"],
        theta: Float[Tensor, "sample parameter"],
        *,
        num_steps: int,
        noise_seeds: Sequence[int] | None = None,
    ) -> Float[Tensor, "sample time channel height width"]:
        """Frames 0 to `num_steps`, one step apart, each sample with its own theta.

        Args:
            initial: State at frame 0, any unit.
            theta: One row per sample, in [0, 1].
            num_steps: Frames after the initial one, at least 0.
            noise_seeds: The seed of each sample's noise; needed if `noise_scale` is not 0, and
                without effect if it is.

        Returns:
            Frames `[sample, num_steps + 1, channel, height, width]`, float64 inside, float32 out.

        Raises:
            ValueError: If a shape does not fit, theta is outside [0, 1], noise seeds are missing,
                or a value of the result is not finite (sample, frame and channel are named).
        """
        check_state(initial, name=self.name, channels=self.channels, shape=self.shape)
        check_num_steps(num_steps)
        if noise_seeds is None and not self.noise_scale:
            noise_seeds = [0] * len(initial)
        if noise_seeds is None or len(noise_seeds) != len(initial):
            raise ValueError(
                f"noise_scale is {self.noise_scale}: trajectory needs one noise seed for each of "
                f"{len(initial)} samples, got {noise_seeds}"
            )
        seeds = torch.tensor(noise_seeds, dtype=torch.int64)
        weights = self._weights(theta, initial)

        def compute(state: Tensor, seeds: Tensor, *weights: Tensor) -> Tensor:
            generators = [generator_of(seed) for seed in seeds.tolist()]
            frames = [state]
            for _ in range(num_steps):
                state = self._advance(state, Weights(*weights))
                if self.noise_scale:
                    state = state + self._noise(generators).to(state.device)
                frames.append(state)
            return torch.stack(frames, dim=1).float()

        numel = self.spec.hidden_channels * math.prod(self.shape)
        frames = by_chunks(compute, initial.double(), seeds, *weights, numel=numel)
        return check_finite(frames, name=self.name, channel_names=self.channel_names)

    def _noise(self, generators: Sequence[torch.Generator]) -> Tensor:
        size = (self.channels, *self.shape)
        drawn = [torch.randn(size, generator=g, dtype=torch.float64) for g in generators]
        return self.noise_scale * torch.stack(drawn)

    def _weights(self, theta: Tensor, state: Tensor) -> Weights:
        """Weights per sample; made one by one, so that no bit depends on the batch."""
        check_theta(theta, len(state), self.parameters)
        physical = physical_parameters(theta, self.parameters).to(state.device)
        bank = Bank(*(tensor.to(state.device) for tensor in self.bank))
        rows = [self._weights_of(bank, *row.unbind()) for row in physical]
        return Weights(*(torch.stack(tensors) for tensors in zip(*rows, strict=True)))

    def _weights_of(
        self, bank: Bank, mix: Tensor, gain: Tensor, rate: Tensor, blur: Tensor
    ) -> Weights:
        angle = math.pi / 2 * mix

        def mixed(pair: Tensor) -> Tensor:
            return torch.cos(angle) * pair[0] + torch.sin(angle) * pair[1]

        squared = squared_cycles(self.shape, self.lengths).to(mix.device)
        return Weights(
            first=gain * _stored_half(mixed(bank.first)),
            second=gain * _stored_half(mixed(bank.second)),
            readout=self.spec.output_scale * rate * mixed(bank.readout),
            bias=self.spec.bias_scale * bank.bias[:, None, None],
            keep=(1 - rate) * torch.exp(-blur * squared)[None],
        )

    def _advance(self, state: Tensor, weights: Weights) -> Tensor:
        spectrum = torch.fft.rfft2(state)
        kept = torch.fft.irfft2(weights.keep * spectrum, s=self.shape)
        hidden = torch.tanh(self._convolve(weights.first, spectrum) + weights.bias)
        hidden = torch.tanh(self._convolve(weights.second, torch.fft.rfft2(hidden)))
        return kept + (weights.readout[..., None, None] * hidden[:, None]).sum(2)

    def _convolve(self, transfer: Tensor, spectrum: Tensor) -> Tensor:
        """Convolution with kernels given by their low modes: [sample, output, height, width]."""
        m = self.spec.max_wavenumber
        low = torch.cat((spectrum[..., : m + 1, : m + 1], spectrum[..., -m:, : m + 1]), dim=-2)
        # in real numbers: a complex product may be rounded another way at the end of a buffer
        real, imag = low.real[:, None], low.imag[:, None]
        a, b = transfer.unbind(-1)
        product = torch.complex((a * real - b * imag).sum(2), (a * imag + b * real).sum(2))
        padded = product.new_zeros(*product.shape[:2], self.shape[0], self.shape[1] // 2 + 1)
        padded[..., : m + 1, : m + 1] = product[..., : m + 1, :]
        padded[..., -m:, : m + 1] = product[..., m + 1 :, :]
        return torch.fft.irfft2(padded, s=self.shape)


def _stored_half(transfer: Tensor) -> Tensor:
    """From wavenumbers -m ... m to the order of rfft2's low modes, as real pairs."""
    m = transfer.shape[-1] // 2
    half = transfer[..., m:]
    rows = torch.cat((half[..., m:, :], half[..., :m, :]), dim=-2)  # 0 ... m, -m ... -1
    return torch.view_as_real(rows.resolve_conj())
