"""The chain: random motions to train on, and the steps that they are judged by."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from nops_physics import GaussianForce, WaveChain
from torch import Tensor

from pinn_weighting.config import ForceConfig, PinnConfig

FIXED_SCALES = (0.08, 0.16, 6.0)  # of u, v and f: sizes of the default motions
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
    following = chain.step(u, v, f, scheme="rk4")
    state, target = torch.stack([u, v, f], dim=-1), torch.stack(following, dim=-1)
    return Motions(state=state.flatten(0, 1).float(), target=target.flatten(0, 1).float())


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


def gains(config: PinnConfig) -> tuple[float, ...]:
    """What the network multiplies differences between neighbours by: of u and v, the nodes; of f, one."""
    return (float(config.physics.n_nodes), float(config.physics.n_nodes), 1.0)


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
