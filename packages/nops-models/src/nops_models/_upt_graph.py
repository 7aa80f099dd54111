"""Points near a few of them: a radius graph in plain tensors."""

from collections.abc import Iterator

import torch
from torch import Tensor

from nops_models._upt_config import UPTConfig

DISTANCES_AT_ONCE = 2**22  # 16 MiB in float32


@torch.no_grad()
def neighbours(positions: Tensor, nodes: Tensor, config: UPTConfig) -> tuple[Tensor, Tensor]:
    """The nearest points within the radius of each node, itself included.

    Args:
        positions: Points `[B, N, d]`.
        nodes: Indices of the nodes `[B, S]`.
        config: Gives radius, number of neighbours, lengths and periodic axes.

    Returns:
        Indices `[B, S, K]` and which of them count, K = min(max_neighbors, N). A place that does not
        count holds the node itself.
    """
    count = min(config.max_neighbors, positions.shape[1])
    indices, inside = [], []
    for squares in _squared_distances(positions, nodes, config):
        nearest, index = squares.topk(count, dim=-1, largest=False)
        indices.append(index)
        inside.append(nearest <= _squared_radius(config))
    index, within = torch.cat(indices, dim=1), torch.cat(inside, dim=1)
    return torch.where(within, index, nodes[..., None]), within


@torch.no_grad()
def crowded_share(positions: Tensor, nodes: Tensor, config: UPTConfig) -> Tensor:
    """Share of nodes with more points within the radius than they may hear: a scalar tensor."""
    crowded = [
        (squares <= _squared_radius(config)).sum(-1) > config.max_neighbors
        for squares in _squared_distances(positions, nodes, config)
    ]
    return torch.cat(crowded, dim=1).float().mean()


def draw_nodes(
    samples: int,
    points: int,
    count: int,
    *,
    device: torch.device,
    generator: torch.Generator | None,
) -> Tensor:
    """Indices `[samples, count]` of a uniform random subset of the points for each sample."""
    drawn_on = device if generator is None else generator.device
    keys = torch.rand(samples, points, generator=generator, device=drawn_on, dtype=torch.float64)
    return keys.topk(count, dim=1).indices.to(device)


def _squared_radius(config: UPTConfig) -> float:
    assert config.radius is not None
    return config.radius**2


def _squared_distances(positions: Tensor, nodes: Tensor, config: UPTConfig) -> Iterator[Tensor]:
    """Squared distances `[B, s, N]` of a few nodes at a time; periodic axes close."""
    positions = positions.to(torch.promote_types(positions.dtype, torch.float32))
    samples, points, _ = positions.shape
    chosen = positions.gather(1, nodes[..., None].expand(-1, -1, config.ndim))
    for some in chosen.split(max(1, DISTANCES_AT_ONCE // (samples * points)), dim=1):
        squares = positions.new_zeros(())
        for axis, length in enumerate(config.domain):
            gap = some[:, :, None, axis] - positions[:, None, :, axis]
            if axis in config.periodic:
                gap = gap - length * (gap / length).round()
            squares = squares + gap.square()
        yield squares
