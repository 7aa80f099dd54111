"""Random convolutional operators: untrained networks whose iteration is the dynamics."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

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
from nops_physics._random_smooth import (
    Bank,
    SmoothSpec,
    Weights,
    draw_bank,
    smooth_step,
    smooth_weights,
)
from nops_physics._random_stack import StackNetwork, StackSpec, draw_network, stack_step
from nops_physics._seeds import derive_seed, generator_of
from nops_physics._spectral import check_shape

NetworkOf = Callable[[Tensor, int], StackNetwork]
"""The network of a row of theta and the seed of its weights."""


@dataclass(frozen=True, kw_only=True)
class RandomConvOperator:
    """An untrained random convolutional network, iterated, on the periodic unit square.

    With the default `SmoothSpec`:

    h1 = tanh(g W1 * u + 0.3 b),  h2 = tanh(g W2 * h1),
    u' = (1 - r) exp(-D |k|^2) u + 1.5 r W3 h2  (+ noise_scale N(0, 1)),

    where * is the periodic convolution, k is in cycles per domain, and theta gives the mix
    W = cos(pi theta_0 / 2) W(0) + sin(pi theta_0 / 2) W(1) of two random banks, the gain g in
    [0.7, 2] (logarithmic), the rate r in [0.02, 0.08] (logarithmic) and the blur D in [0, 0.005].
    Kernels hold few wavenumbers, so the dynamics are the same on every grid that carries them.
    With `StackSpec`, an ordinary network whose architecture is theta and whose weights are random
    for each sample: no two samples share dynamics, so a surrogate does not generalise to a theta
    that it has not seen. Neither is the "convolutional neural operator" of arXiv 2302.01178.

    A trajectory depends on the initial field, theta, the fields of this object, the noise seeds
    where there is noise, and nothing else: no global generator, no batch size, no neighbour in
    the batch. On the CPU the same library version gives the same bits in every process.

    Attributes:
        shape: Height and width in cells, each at least 17 (2 max_wavenumber + 1), or the widest
            kernel of a stack.
        channels: Fields of the state.
        weight_seed: The operator: weights are drawn with `derive_seed("weights", weight_seed)`;
            those of sample i of a stack with `derive_seed("weights", weight_seed, i)`.
        spec: The network and its distribution of weights.
        noise_scale: Standard deviation of the white noise added to each cell in each step; of a
            stack, a factor on theta's own, of the noise added to its last hidden features.

    Raises:
        ValueError: If the grid is too small or not of two axes, or a number is out of range.
    """

    shape: tuple[int, ...] = (32, 32)
    channels: int = 1
    weight_seed: int = 0
    spec: SmoothSpec | StackSpec = field(default_factory=SmoothSpec)
    noise_scale: float = 0.0

    name = "random_conv"
    version = "1"
    frame_interval = 1.0
    lengths = (1.0, 1.0)
    boundary = "periodic"

    def __post_init__(self) -> None:
        if isinstance(self.spec, StackSpec):
            smallest = max(self.spec.kernels)
        else:
            smallest = 2 * self.spec.max_wavenumber + 1
        check_shape(self.shape, smallest=smallest)
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
        """The random weights of a smooth operator, drawn when first used."""
        assert isinstance(self.spec, SmoothSpec)
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

    def network(self, theta: Float[Tensor, " parameter"], weight_seed: int) -> StackNetwork:
        """The network of one sample of a stack: a function of theta and the seed of its weights.

        Raises:
            ValueError: If the operator is smooth: its samples share one bank.
        """
        if not isinstance(self.spec, StackSpec):
            raise ValueError(f"{self.name}: a smooth operator has one bank for all samples")
        settings = self.spec.settings(theta.tolist())
        generator = generator_of(weight_seed)
        return draw_network(settings, channels=self.channels, generator=generator)

    def step(
        self,
        state: Float[Tensor, "sample channel height width"],
        theta: Float[Tensor, "sample parameter"],
        *,
        generator: torch.Generator | None = None,
        weight_seeds: Sequence[int] | None = None,
    ) -> Float[Tensor, "sample channel height width"]:
        """The next state, float64, differentiable in `state`, and of a smooth operator in `theta`.

        Args:
            state: Any unit; computed in float64.
            theta: One row per sample, in [0, 1].
            generator: Source of the noise, sample after sample; needed if `noise_scale` is not 0.
            weight_seeds: As `trajectory` takes them.

        Returns:
            The state one step later, same shape.

        Raises:
            ValueError: If a shape does not fit, theta is outside [0, 1], or the generator is
                missing.
        """
        check_state(state, name=self.name, channels=self.channels, shape=self.shape)
        check_theta(theta, len(state), self.parameters)
        seeds = self._weight_seeds(len(state), weight_seeds)
        if self.noise_scale and generator is None:
            raise ValueError(f"noise_scale is {self.noise_scale}: step needs a generator")
        if isinstance(self.spec, StackSpec):
            networks = [self.network(*row) for row in zip(theta, seeds, strict=True)]
            noise = {"noise_scale": self.noise_scale, "generator": generator}
            parts = zip(state.double().split(1), networks, strict=True)
            return torch.cat([stack_step(*part, **noise) for part in parts])
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
        weight_seeds: Sequence[int] | None = None,
    ) -> Float[Tensor, "sample time channel height width"]:
        """Frames 0 to `num_steps`, one step apart, each sample with its own theta.

        Args:
            initial: State at frame 0, any unit.
            theta: One row per sample, in [0, 1].
            num_steps: Frames after the initial one, at least 0.
            noise_seeds: The seed of each sample's noise; needed if `noise_scale` is not 0, and
                without effect if it is.
            weight_seeds: Of a stack, the seed of each sample's weights; None takes
                `derive_seed("weights", weight_seed, i)` for the sample at place i. A smooth operator
                has none.

        Returns:
            Frames `[sample, num_steps + 1, channel, height, width]`, float64 inside, float32 out.

        Raises:
            ValueError: If a shape does not fit, theta is outside [0, 1], seeds are missing, or a
                value of the result is not finite (sample, frame and channel are named).
        """
        return iterate(
            self,
            initial,
            theta,
            num_steps=num_steps,
            noise_seeds=noise_seeds,
            weight_seeds=weight_seeds,
            network_of=self.network,
        )

    def _weight_seeds(self, count: int, given: Sequence[int] | None) -> list[int]:
        if not isinstance(self.spec, StackSpec):
            if given is not None:
                raise ValueError(f"{self.name}: weight_seeds are for a stack, and this is smooth")
            return []
        if given is None:
            return [derive_seed("weights", self.weight_seed, sample) for sample in range(count)]
        if len(given) != count:
            raise ValueError(
                f"{self.name}: need one weight seed per sample: {count} samples, {len(given)} seeds"
            )
        return list(given)

    def _noise_seeds(self, count: int, given: Sequence[int] | None) -> list[int]:
        if given is None and not self.noise_scale:
            return [0] * count
        if given is None or len(given) != count:
            raise ValueError(
                f"noise_scale is {self.noise_scale}: trajectory needs one noise seed for each of "
                f"{count} samples, got {given}"
            )
        return list(given)

    def _smooth_frames(
        self, initial: Tensor, theta: Tensor, noise_seeds: Sequence[int], *, num_steps: int
    ) -> Tensor:
        def compute(state: Tensor, seeds: Tensor, *weights: Tensor) -> Tensor:
            generators = [generator_of(seed) for seed in seeds.tolist()]
            frames = [state]
            for _ in range(num_steps):
                state = self._advance(state, Weights(*weights))
                if self.noise_scale:
                    state = state + self._noise(generators).to(state.device)
                frames.append(state)
            return torch.stack(frames, dim=1).float()

        assert isinstance(self.spec, SmoothSpec)
        numel = self.spec.hidden_channels * math.prod(self.shape)
        seeds = torch.tensor(noise_seeds, dtype=torch.int64)
        return by_chunks(compute, initial, seeds, *self._weights(theta, initial), numel=numel)

    def _stack_frames(
        self, state: Tensor, network: StackNetwork, noise_seed: int, *, num_steps: int
    ) -> Tensor:
        """Frames [1, time, channel, height, width] of one sample."""
        generator = generator_of(noise_seed) if self.noise_scale else None
        frames = [state]
        for _ in range(num_steps):
            state = stack_step(state, network, noise_scale=self.noise_scale, generator=generator)
            frames.append(state)
        return torch.stack(frames, dim=1).float()

    def _noise(self, generators: Sequence[torch.Generator]) -> Tensor:
        size = (self.channels, *self.shape)
        drawn = [torch.randn(size, generator=g, dtype=torch.float64) for g in generators]
        return self.noise_scale * torch.stack(drawn)

    def _weights(self, theta: Tensor, state: Tensor) -> Weights:
        """Weights per sample; made one by one, so that no bit depends on the batch."""
        assert isinstance(self.spec, SmoothSpec)
        physical = physical_parameters(theta, self.parameters).to(state.device)
        bank = Bank(*(tensor.to(state.device) for tensor in self.bank))
        rows = [
            smooth_weights(self.spec, bank, row, shape=self.shape, lengths=self.lengths)
            for row in physical
        ]
        return Weights(*(torch.stack(tensors) for tensors in zip(*rows, strict=True)))

    def _advance(self, state: Tensor, weights: Weights) -> Tensor:
        assert isinstance(self.spec, SmoothSpec)
        return smooth_step(state, weights, max_wavenumber=self.spec.max_wavenumber)


def iterate(
    operator: RandomConvOperator,
    initial: Tensor,
    theta: Tensor,
    *,
    num_steps: int,
    noise_seeds: Sequence[int] | None,
    weight_seeds: Sequence[int] | None,
    network_of: NetworkOf,
) -> Tensor:
    """What `RandomConvOperator.trajectory` says, with the networks of a stack from `network_of`."""
    count = len(initial)
    check_state(initial, name=operator.name, channels=operator.channels, shape=operator.shape)
    check_theta(theta, count, operator.parameters)
    check_num_steps(num_steps)
    noise = operator._noise_seeds(count, noise_seeds)
    weights = operator._weight_seeds(count, weight_seeds)
    if isinstance(operator.spec, StackSpec):
        rows = zip(initial.double().split(1), theta, weights, noise, strict=True)
        parts = [
            operator._stack_frames(state, network_of(row, weight_seed), seed, num_steps=num_steps)
            for state, row, weight_seed, seed in rows
        ]
        frames = torch.cat(parts)
    else:
        frames = operator._smooth_frames(initial.double(), theta, noise, num_steps=num_steps)
    return check_finite(frames, name=operator.name, channel_names=operator.channel_names)
