"""Learned corrections of a physics model's output, bounded so that they cannot replace it."""

import itertools
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nops_models._checks import check_sizes
from nops_models._vae_config import ACTIVATIONS

CONTEXT = 128  # width of the gated head's context, after its publication
HIDDEN = 64


class Correction(NamedTuple):
    """What a head makes of the physics' output x_P; x_P + correction is the model's.

    Attributes:
        delta: Proposed correction δ, (sample, output), before gate or strength.
        gain: The gate g, (sample, output), or the coefficients c, (sample, rank), dimensionless;
            zero-width where there are none.
        correction: What is added, (sample, output), in the unit of x_P.
    """

    delta: Tensor
    gain: Tensor
    correction: Tensor


def mlp(widths: list[int], activation: str) -> nn.Sequential:
    """Linear layers with an activation between them; the last is linear."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


class GatedResidual(nn.Module):
    """x_P + g ⊙ δ: a proposed correction, and a gate for each output that starts nearly shut.

    A context is made of the latents; δ and g = σ(…) are made of x_P and the context.

    Args:
        output_dim: Outputs D.
        physics_dim: Physics latents P.
        aux_dim: Auxiliary latents A, at least 1.
        gate_bias: Bias of the gate's last layer at the start: −4.6 is g = 0.009952 for zero weights.
        activation: See `PhysicsVAEConfig`.
        stop_gradient: The context sees z without a gradient into it; x_P always has one.

    Raises:
        ValueError: If there is no output or no auxiliary latent.
    """

    def __init__(
        self,
        output_dim: int,
        physics_dim: int,
        aux_dim: int,
        *,
        gate_bias: float = -4.6,
        activation: str = "elu",
        stop_gradient: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(output_dim=output_dim, aux_dim=aux_dim)
        self.stop_gradient = stop_gradient
        self.context = mlp([physics_dim + aux_dim, HIDDEN, CONTEXT], activation)
        self.propose = mlp([output_dim + CONTEXT, CONTEXT, output_dim], activation)
        self.gate = mlp([output_dim + CONTEXT, HIDDEN, output_dim], activation)
        last = self.gate[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias, gate_bias)

    def forward(
        self,
        x_p: Float[Tensor, "sample output"],
        z: Float[Tensor, "sample physics"],
        z_aux: Float[Tensor, "sample aux"],
    ) -> Correction:
        """Correct x_P given the latents; `gain` is g in (0, 1)."""
        seen = z.detach() if self.stop_gradient else z
        features = torch.cat([x_p, self.context(torch.cat([seen, z_aux], 1))], 1)
        delta, gate = self.propose(features), torch.sigmoid(self.gate(features))
        return Correction(delta, gate, gate * delta)


class LowRankResidual(nn.Module):
    """x_P + r·(c ⊙ s)Bᵀ: k patterns B with bounded coefficients c = tanh(Linear[…]/τ).

    The rank of δ over any samples is at most k, and |δ_j| ≤ Σ_k |s_k B_jk|. Strength r and
    temperature τ are buffers, 1 at the start, for a schedule to set.

    Args:
        output_dim: Outputs D.
        aux_dim: Auxiliary latents A, at least 1.
        rank: Patterns k, from 1 to D; orthonormal at the start.
        extra_dim: Further features of a sample that the coefficients see, such as of its time.
        stop_gradient: The coefficients see x_P without a gradient into it.

    Raises:
        ValueError: If a size is out of range.
    """

    r: Tensor
    tau: Tensor

    def __init__(
        self,
        output_dim: int,
        aux_dim: int,
        *,
        rank: int,
        extra_dim: int = 0,
        stop_gradient: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(output_dim=output_dim, aux_dim=aux_dim, rank=rank)
        if rank > output_dim:
            raise ValueError(f"rank={rank} is above the {output_dim} outputs that patterns have.")
        self.stop_gradient = stop_gradient
        self.coefficients = nn.Linear(aux_dim + output_dim + extra_dim, rank)
        self.basis = nn.Parameter(torch.empty(output_dim, rank))
        nn.init.orthogonal_(self.basis)
        self.scale = nn.Parameter(torch.ones(rank))
        self.register_buffer("r", torch.tensor(1.0))
        self.register_buffer("tau", torch.tensor(1.0))

    def forward(
        self,
        x_p: Float[Tensor, "sample output"],
        z: Float[Tensor, "sample physics"],
        z_aux: Float[Tensor, "sample aux"],
        extra: Float[Tensor, "sample extra"] | None = None,
    ) -> Correction:
        """Correct x_P given the auxiliary latents; `gain` is c in (−1, 1). z is not looked at."""
        seen = x_p.detach() if self.stop_gradient else x_p
        features = [z_aux, seen] if extra is None else [z_aux, seen, extra]
        c = torch.tanh(self.coefficients(torch.cat(features, 1)) / self.tau)
        delta = (c * self.scale) @ self.basis.mT
        return Correction(delta, c, self.r * delta)


class NoPhysicsHead(nn.Module):
    """A network of the auxiliary latents alone in the place of the physics: the control without it.

    Args:
        output_dim: Outputs D.
        aux_dim: Auxiliary latents A, at least 1.
        activation: See `PhysicsVAEConfig`.

    Raises:
        ValueError: If there is no output or no auxiliary latent.
    """

    def __init__(self, output_dim: int, aux_dim: int, *, activation: str = "elu") -> None:
        super().__init__()
        check_sizes(output_dim=output_dim, aux_dim=aux_dim)
        self.network = mlp([aux_dim, 16, 32, HIDDEN, output_dim], activation)

    def forward(
        self,
        x_p: Float[Tensor, "sample output"],
        z: Float[Tensor, "sample physics"],
        z_aux: Float[Tensor, "sample aux"],
    ) -> Correction:
        """The network's output less x_P, so that their sum is the network's; δ is 0."""
        output = self.network(z_aux)
        return Correction(torch.zeros_like(output), output[:, :0], output - x_p)
