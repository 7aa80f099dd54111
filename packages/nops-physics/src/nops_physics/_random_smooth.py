"""The smooth random network: kernels of few wavenumbers, a map that depends smoothly on theta."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from nops_physics._domain import Parameter
from nops_physics._spectral import squared_cycles
from nops_physics._transforms import grid_of, modes_of


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


def smooth_weights(
    spec: SmoothSpec, bank: Bank, row: Tensor, *, shape: tuple[int, ...], lengths: tuple[float, ...]
) -> Weights:
    """The weights of one sample, without its axis, from physical (mix, gain, rate, blur)."""
    mix, gain, rate, blur = row.unbind()
    angle = math.pi / 2 * mix

    def mixed(pair: Tensor) -> Tensor:
        return torch.cos(angle) * pair[0] + torch.sin(angle) * pair[1]

    squared = squared_cycles(shape, lengths).to(row.device)
    return Weights(
        first=gain * _stored_half(mixed(bank.first)),
        second=gain * _stored_half(mixed(bank.second)),
        readout=spec.output_scale * rate * mixed(bank.readout),
        bias=spec.bias_scale * bank.bias[:, None, None],
        keep=(1 - rate) * torch.exp(-blur * squared)[None],
    )


def smooth_step(state: Tensor, weights: Weights, *, max_wavenumber: int) -> Tensor:
    """The next state [sample, channel, height, width], float64."""
    shape = (state.shape[-2], state.shape[-1])
    spectrum = modes_of(state, num_dims=2)
    kept = grid_of(weights.keep * spectrum, shape=shape)

    def convolve(transfer: Tensor, spectrum: Tensor) -> Tensor:
        return _convolve(transfer, spectrum, m=max_wavenumber, shape=shape)

    hidden = torch.tanh(convolve(weights.first, spectrum) + weights.bias)
    hidden = torch.tanh(convolve(weights.second, modes_of(hidden, num_dims=2)))
    return kept + (weights.readout[..., None, None] * hidden[:, None]).sum(2)


def _convolve(transfer: Tensor, spectrum: Tensor, *, m: int, shape: tuple[int, int]) -> Tensor:
    """Convolution with kernels given by their modes up to m: [sample, output, height, width]."""
    low = torch.cat((spectrum[..., : m + 1, : m + 1], spectrum[..., -m:, : m + 1]), dim=-2)
    # in real numbers: a complex product may be rounded another way at the end of a buffer
    real, imag = low.real[:, None], low.imag[:, None]
    a, b = transfer.unbind(-1)
    product = torch.complex((a * real - b * imag).sum(2), (a * imag + b * real).sum(2))
    padded = product.new_zeros(*product.shape[:2], shape[0], shape[1] // 2 + 1)
    padded[..., : m + 1, : m + 1] = product[..., : m + 1, :]
    padded[..., -m:, : m + 1] = product[..., m + 1 :, :]
    return grid_of(padded, shape=shape)


def _stored_half(transfer: Tensor) -> Tensor:
    """From wavenumbers -m ... m to the order of rfft2's low modes, as real pairs."""
    m = transfer.shape[-1] // 2
    half = transfer[..., m:]
    rows = torch.cat((half[..., m:, :], half[..., :m, :]), dim=-2)  # 0 ... m, -m ... -1
    return torch.view_as_real(rows.resolve_conj())
