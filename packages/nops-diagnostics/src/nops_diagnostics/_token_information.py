"""What tokens say about the parameters of the trajectories that they are of."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nops_diagnostics._layout import as_double

HIGH = 0.95  # of the shuffled trajectories: above this it is more than chance


@dataclass(frozen=True, kw_only=True)
class TokenInformation:
    """Mutual information of tokens and parameters, in nats; float64 on the CPU.

    Attributes:
        information: I of each quantiser's token and the bin of each parameter `[quantiser, parameter]`.
        null: 95 % quantile of the same with the parameters of other trajectories.
        entropy: H of each quantiser's token `[quantiser]`: no I is larger.
    """

    information: Float[Tensor, "quantiser parameter"]
    null: Float[Tensor, "quantiser parameter"]
    entropy: Float[Tensor, "quantiser"]


def token_information(
    tokens: Int[Tensor, "sample clip quantiser"],
    parameters: Float[Tensor, "sample parameter"],
    *,
    num_codes: Sequence[int],
    bins: int = 4,
    num_null: int = 50,
    seed: int = 0,
) -> TokenInformation:
    """I = Σ p(t, b) ln(p(t, b) / (p(t) p(b))) of tokens and equally filled bins of each parameter.

    Frequencies stand for probabilities, so that I of finitely many clips is above 0 by chance: the null
    gives each trajectory, with all its clips, the parameters of another.

    Args:
        tokens: Of several clips of each trajectory.
        parameters: Of the trajectories, any unit: only their order counts.
        num_codes: Codes of each quantiser.
        bins: Of each parameter; at most one per trajectory.
        num_null: Number of shuffles.
        seed: Of the shuffles.

    Returns:
        Information by quantiser and parameter, its null, and the entropy of each quantiser, in nats.

    Raises:
        ValueError: If shapes do not belong together, there is no trajectory, bin or shuffle, or more bins
            than trajectories.
    """
    if tokens.ndim != 3 or parameters.ndim != 2 or len(tokens) != len(parameters):
        raise ValueError(
            "tokens and parameters need the shapes (sample, clip, quantiser) and (sample, parameter), got "
            f"{tuple(tokens.shape)} and {tuple(parameters.shape)}."
        )
    if len(num_codes) != tokens.shape[2]:
        raise ValueError(f"{len(num_codes)} num_codes for {tokens.shape[2]} quantisers.")
    if not 1 <= bins <= len(tokens) or num_null < 1:
        raise ValueError(
            f"bins={bins} needs to be within 1 and the {len(tokens)} trajectories, and num_null={num_null} "
            "at least 1."
        )
    held = tokens.detach().cpu().long()
    places = _bins(as_double(parameters.detach()).cpu(), bins)
    generator = torch.Generator().manual_seed(seed)
    shuffled = [
        _information(
            held, places[torch.randperm(len(places), generator=generator)], num_codes, bins
        )
        for _ in range(num_null)
    ]
    return TokenInformation(
        information=_information(held, places, num_codes, bins),
        null=torch.stack(shuffled).quantile(HIGH, dim=0),
        entropy=torch.stack(
            [
                _entropy(torch.bincount(held[..., i].flatten(), minlength=count))
                for i, count in enumerate(num_codes)
            ]
        ),
    )


def _bins(parameters: Tensor, bins: int) -> Tensor:
    """Bin of each parameter `[sample, parameter]`; equal values share one."""
    ordered = parameters.sort(dim=0).values.T.contiguous()
    rank = torch.searchsorted(ordered, parameters.T.contiguous()).T
    return rank * bins // len(parameters)


def _information(tokens: Tensor, places: Tensor, num_codes: Sequence[int], bins: int) -> Tensor:
    found = torch.zeros(len(num_codes), places.shape[1], dtype=torch.float64)
    clips = tokens.shape[1]
    for i, count in enumerate(num_codes):
        for j in range(places.shape[1]):
            joint = tokens[..., i] * bins + places[:, j, None].expand(-1, clips)
            table = torch.bincount(joint.flatten(), minlength=count * bins).view(count, bins)
            found[i, j] = _entropy(table.sum(1)) + _entropy(table.sum(0)) - _entropy(table)
    return found.clamp(min=0)


def _entropy(counts: Tensor) -> Tensor:
    return torch.special.entr(counts.double() / counts.sum()).sum()
