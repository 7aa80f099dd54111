"""Categories of features: columns that say the same, found within each family."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nops_diagnostics._layout import as_double

CLUSTERS = range(2, 26)
LEAST_COLUMNS = 3


def cluster_features(
    features: Float[Tensor, "sample feature"], *, families: Mapping[str, Sequence[int]]
) -> dict[str, tuple[int, ...]]:
    """Groups of columns by average linkage on 1 − |Pearson correlation| within each family.

    The number of groups, 2 to 25, is that of the greatest mean silhouette (the fewest among equals);
    groups of fewer than 3 columns then join their nearest, the smallest first. A family of fewer
    than 6 columns stays one group.

    Args:
        features: Training features, at least 3 samples, no constant column.
        families: Columns of each family, as `FeatureExtractor.families`.

    Returns:
        Columns of each category, by "family/0", "family/1", … in the order of their first columns:
        the `categories` of a VQ-VAE.

    Raises:
        ValueError: If there are too few samples, a column is constant or not finite, or a family
            names a column that is not there or has none.
    """
    _check(features, families)
    correlation = torch.corrcoef(as_double(features.detach()).cpu().T).clamp(-1, 1)
    if not correlation.isfinite().all():
        bad = (~correlation.diagonal().isfinite()).nonzero().flatten().tolist()
        raise ValueError(f"columns {bad} are constant or not finite: they correlate with nothing.")
    distance = 1 - correlation.abs()
    found = {}
    for family, places in families.items():
        columns = torch.tensor(list(places))
        groups = _groups(distance[columns][:, columns].fill_diagonal_(0))
        found |= {
            f"{family}/{i}": tuple(columns[list(group)].tolist())
            for i, group in enumerate(sorted(groups))
        }
    return found


def _check(features: Tensor, families: Mapping[str, Sequence[int]]) -> None:
    if features.ndim != 2 or len(features) < 3:
        raise ValueError(
            f"features have shape {tuple(features.shape)}, expected (sample, feature) with at least 3 "
            "samples."
        )
    for family, places in families.items():
        if not places or not 0 <= min(places) <= max(places) < features.shape[1]:
            raise ValueError(
                f"family {family!r} has columns {tuple(places)}, expected some of 0 to "
                f"{features.shape[1] - 1}."
            )


def _groups(distance: Tensor) -> list[tuple[int, ...]]:
    """Groups of the columns of a distance matrix."""
    whole = [tuple(range(len(distance)))]
    if len(distance) < 2 * LEAST_COLUMNS:
        return whole
    best, score = whole, -1.0
    levels = [groups for groups in _linkage(distance) if len(groups) in CLUSTERS]
    for groups in reversed(levels):  # from few groups to many
        found = _silhouette(distance, groups)
        if found > score + 1e-12:
            best, score = groups, found
    return _merge_small(distance, best)


def _linkage(distance: Tensor) -> list[list[tuple[int, ...]]]:
    """The groups after each merger of the nearest two, by mean distance; from single columns on."""
    groups: list[tuple[int, ...]] = [(i,) for i in range(len(distance))]
    between = distance.clone().fill_diagonal_(torch.inf)
    levels = [list(groups)]
    while len(groups) > 1:
        i, j = divmod(int(between.argmin()), len(groups))
        groups, between = _join(groups, between, i, j)
        levels.append(list(groups))
    return levels


def _join(
    groups: list[tuple[int, ...]], between: Tensor, i: int, j: int
) -> tuple[list[tuple[int, ...]], Tensor]:
    """Groups i and j as one, in place of the lower, and mean distances between all."""
    i, j = min(i, j), max(i, j)
    a, b = len(groups[i]), len(groups[j])
    row = (a * between[i] + b * between[j]) / (a + b)
    between = between.clone()
    between[i], between[:, i] = row, row
    between[i, i] = torch.inf
    keep = [k for k in range(len(groups)) if k != j]
    joined = [*groups]
    joined[i] = tuple(sorted(groups[i] + groups[j]))
    return [joined[k] for k in keep], between[keep][:, keep]


def _silhouette(distance: Tensor, groups: list[tuple[int, ...]]) -> float:
    """Mean of (b − a) / max(a, b) over columns; 0 for a group of one column."""
    member = torch.zeros(len(distance), len(groups), dtype=torch.float64)
    for place, group in enumerate(groups):
        member[list(group), place] = 1
    size = member.sum(0)
    sums = distance @ member
    own = member.bool()
    inside = sums[own] / (size[None].expand_as(sums)[own] - 1).clamp(min=1)
    outside = (sums / size).masked_fill(own, torch.inf).amin(1)
    value = (outside - inside) / torch.maximum(outside, inside).clamp(min=1e-300)
    alone = (member @ size) == 1
    return value.masked_fill(alone, 0.0).mean().item()


def _merge_small(distance: Tensor, groups: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    groups = list(groups)
    while len(groups) > 1 and len(min(groups, key=len)) < LEAST_COLUMNS:
        small = min(groups, key=len)
        others = [group for group in groups if group is not small]
        near = min(others, key=lambda group: distance[list(small)][:, list(group)].mean().item())
        others[others.index(near)] = tuple(sorted(near + small))
        groups = others
    return groups
