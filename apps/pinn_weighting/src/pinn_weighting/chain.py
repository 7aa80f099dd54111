"""The chain: random motions to train on, and the steps that they are judged by."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from nops_physics import GaussianForce, WaveChain, derive_seed
from nops_train import ListSource, join_world
from torch import Tensor

from pinn_weighting.config import ForceConfig, PinnConfig

FIXED_SCALES = (0.08, 0.16, 6.0)  # of u, v and f: sizes of the default motions
WEAKEST = 0.03  # of the factors of free motions
FALL = 2.5  # of their amplitudes over n; flatter ones left growing steps in some runs
PULSES = ((0.2, 2.0), (0.8, 8.0))  # place over the length, and time, of the rollout's pushes


@dataclass(frozen=True, kw_only=True)
class Motions:
    """States of the chain and one Runge-Kutta step from each, float32.

    Attributes:
        state: u, v, f `[sample, node, 3]`.
        target: Next u, v `[sample, node, 2]`.
    """

    state: Tensor
    target: Tensor

    def samples(self) -> list[dict[str, Tensor]]:
        """One dict per sample."""
        pairs = zip(self.state, self.target, strict=True)
        return [{"state": state, "target": target} for state, target in pairs]

    def batch(self) -> dict[str, Tensor]:
        """All samples at once."""
        return {"state": self.state, "target": self.target}


def make_chain(config: PinnConfig) -> WaveChain:
    """The chain of a config."""
    physics = config.physics
    return WaveChain(
        physics.n_nodes, length=physics.length, c=physics.c, k=physics.k, dt=physics.dt
    )


def make_force(section: ForceConfig) -> GaussianForce | None:
    """The push, or None."""
    if section.kind == "none":
        return None
    return GaussianForce(
        amplitude=section.amplitude, location=section.location, margin=section.margin
    )


def draw_motions(config: PinnConfig, chain: WaveChain) -> tuple[Motions, Motions]:
    """Motions to train on and to validate on; no motion is in both."""
    problem = config.problem
    found = chain.samples(
        problem.num_graphs,
        problem.num_steps,
        seed=problem.data_seed,
        force=make_force(config.physics.force),
    )
    cut = min(max(round(problem.train_ratio * problem.num_graphs), 1), problem.num_graphs - 1)
    u, v, f = found.u, found.v, found.f.expand_as(found.u)
    return _motions(chain, u[:cut], v[:cut], f[:cut]), _motions(chain, u[cut:], v[cut:], f[cut:])


def _motions(chain: WaveChain, u: Tensor, v: Tensor, f: Tensor) -> Motions:
    batch = _stepped(chain, u, v, f)
    return Motions(state=batch["state"].flatten(0, 1), target=batch["target"].flatten(0, 1))


def _stepped(chain: WaveChain, u: Tensor, v: Tensor, f: Tensor) -> dict[str, Tensor]:
    following = chain.step(u, v, f, scheme="rk4")
    state, target = torch.stack([u, v, f], dim=-1), torch.stack(following, dim=-1)
    return {"state": state.float(), "target": target.float()}


@dataclass(frozen=True, kw_only=True)
class NoisyMotions:
    """Batches of motions with a free motion on top of each state, another one at every step.

    Smooth states alone do not show what a step does to the short waves that its own errors hold.

    Attributes:
        motions: A source of batches of `Motions`.
        chain: Steps the sum.
        size: Displacement of `free_motions`.
        seed: Of what is drawn, for a position in the run.
    """

    motions: ListSource
    chain: WaveChain
    size: float
    seed: int

    @property
    def num_batches(self) -> int:
        """Steps of an epoch."""
        return self.motions.num_batches

    def batches(self, *, epoch: int, skip: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of an epoch after the first `skip`."""
        plain = self.motions.batches(epoch=epoch, skip=skip)
        for number, batch in enumerate(plain, start=epoch * self.num_batches + skip):
            u, v, f = batch["state"].double().unbind(-1)
            seed = derive_seed("noise", self.seed, number, join_world().rank)
            more = free_motions(self.chain, len(u), size=self.size, seed=seed)
            yield _stepped(self.chain, u + more[0], v + more[1], f)


def free_motions(chain: WaveChain, count: int, *, size: float, seed: int) -> tuple[Tensor, Tensor]:
    """Random states in which every mode of the chain moves, u and v `[count, node]`, float64.

    Mode n has a normal amplitude of `size` / n^2.5 in u, and as much energy in v: enough of the short
    waves to learn them by, and not so much that they rule. Each state has a factor of its own,
    log-uniform on [0.03, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    number = torch.arange(1, chain.n_nodes - 1, dtype=torch.float64)
    waves = torch.sin(math.pi / chain.length * number[:, None] * chain.x)
    drawn = torch.randn(2, count, len(number), generator=generator, dtype=torch.float64)
    factor = WEAKEST ** torch.rand(count, 1, generator=generator, dtype=torch.float64)
    drawn *= size * factor / number**FALL
    drawn[1] *= chain.c * math.pi / chain.length * number
    u, v = drawn @ waves
    return u, v


def divisors(config: PinnConfig, motions: Motions) -> tuple[float, ...]:
    """What the network divides u, v and f by inside."""
    model = config.model
    if model.scaling == "fixed":
        return FIXED_SCALES
    state = motions.state.double().flatten(0, 1)
    sizes = state.std(0) if model.scaling == "standard" else state.abs().amax(0)
    if not model.per_feature:
        sizes = sizes.max().expand_as(sizes)
    return tuple(sizes.clamp(min=model.scaling_epsilon).tolist())


def units(
    config: PinnConfig, scales: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Gains and increments of the network: what makes all that it sees and says of one size.

    The gained differences of u and v are c^2 u_xx, and what a step adds to it, over the size of
    accelerations; an increment is a step times the size of its rate.
    """
    physics, (of_u, of_v, of_f) = config.physics, scales
    rate = max(of_f, (physics.c * math.pi / physics.length) ** 2 * of_u)  # where nothing pushes
    bend = 2 * (physics.c / make_chain(config).dx) ** 2 / rate
    gains = (bend * of_u, bend * physics.dt * of_v, 1.0)
    return gains, (physics.dt * of_v, physics.dt * rate)


@dataclass(frozen=True)
class EnergyBound:
    """Holds each mode of a step to the energy that it had and that the push can have given.

    Attributes:
        chain: Whose modes they are.
    """

    chain: WaveChain

    def __call__(self, state: Tensor, after: Tensor) -> Tensor:
        """The next u, v `[…, node, 2]` of a state u, v, f `[…, node, 3]`."""
        u, v, f = state.unbind(-1)
        held = self.chain.bound_energy(*after.unbind(-1), u=u, v=v, f=f)
        return torch.stack(held, dim=-1)


def rollout_force(chain: WaveChain, section: ForceConfig) -> Callable[[Tensor, float], Tensor]:
    """The pushes of the test rollout at positions and a time; none where the section has none."""
    pushes = [
        GaussianForce(amplitude=section.amplitude, location=place * chain.length, time=time)
        for place, time in PULSES
        if section.kind == "gaussian"
    ]

    def force(x: Tensor, t: float) -> Tensor:
        return sum((push(x, t) for push in pushes), torch.zeros_like(x))

    return force


def scheme_warning(chain: WaveChain, scheme: str) -> str | None:
    """What is wrong with a scheme whose steps explode; None for a stable one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chain.warn_if_unstable(scheme)
    return str(caught[0].message) if caught else None
