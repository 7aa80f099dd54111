"""How far two sets of features, or of tokens, lie apart, beside what chance gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nops_diagnostics._layout import as_double

HIGH = 0.95  # of the halves: above this a distance is more than chance
PSEUDO_COUNT = 0.5


@dataclass(frozen=True, kw_only=True)
class FeatureDistribution:
    """Distances between two sets of features, each beside its null; float64 on the CPU.

    Attributes:
        wasserstein: Wasserstein-1 distance per column `[feature]`, in the columns' unit.
        energy: Energy distance per family, in that unit.
        wasserstein_null: 95 % quantile of the same between random halves of `a` `[feature]`.
        energy_null: The same per family.
    """

    wasserstein: Float[Tensor, "feature"]
    energy: dict[str, float]
    wasserstein_null: Float[Tensor, "feature"]
    energy_null: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class TokenDivergence:
    """How the frequencies of tokens differ, per quantiser; float64 on the CPU.

    Attributes:
        kl: KL(a‖b) in nats `[quantiser]`.
        null: 95 % quantile of the same between random halves of `a` `[quantiser]`.
    """

    kl: Float[Tensor, "quantiser"]
    null: Float[Tensor, "quantiser"]


def feature_distribution(
    a: Float[Tensor, "sample feature"],
    b: Float[Tensor, "other feature"],
    *,
    families: Mapping[str, Sequence[int]] | None = None,
    groups: Int[Tensor, "sample"] | None = None,
    num_null: int = 50,
    seed: int = 0,
) -> FeatureDistribution:
    """Wasserstein-1 distance of each column, and energy distance of each family of columns.

    W₁ = ∫ |F_a − F_b| dx of the two samples' step functions; the energy distance is
    2E|x − y| − E|x − x′| − E|y − y′| over all pairs, itself included, so that equal sets have
    exactly 0. The null splits `a` at random: halves have fewer samples than `a` and `b`, which
    makes it wider than chance alone, never narrower.

    Args:
        a: Features of the truth.
        b: Features of a model, same columns; any number of samples.
        families: Columns of each family, as `FeatureExtractor.families`; all in one if None.
        groups: Number of the trajectory that each sample of `a` is from, where some share one: the
            null's halves then share none, since samples that resemble each other would make it too
            narrow. None takes every sample alone.
        num_null: Number of splits.
        seed: Of the splits.

    Returns:
        Distances, and those of the null; in the unit of the features.

    Raises:
        ValueError: If columns differ, there are fewer than 4 samples of the truth, or groups of
            them, or none of the model, or there is no split.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"a and b need the same columns, got shapes {tuple(a.shape)} and {tuple(b.shape)}."
        )
    members = _members(groups, len(a))
    _check_halves(len(members), len(b), num_null)
    first, second = (as_double(x.detach()).cpu() for x in (a, b))
    columns = {"all": range(a.shape[1])} if families is None else families
    chosen = {name: torch.tensor(list(places)) for name, places in columns.items()}
    halves = [(first[i], first[j]) for i, j in _halves(members, num_null, seed)]
    return FeatureDistribution(
        wasserstein=_wasserstein(first, second),
        energy={name: _energy(first[:, c], second[:, c]) for name, c in chosen.items()},
        wasserstein_null=torch.stack([_wasserstein(*pair) for pair in halves]).quantile(HIGH, 0),
        energy_null={
            name: float(torch.tensor([_energy(x[:, c], y[:, c]) for x, y in halves]).quantile(HIGH))
            for name, c in chosen.items()
        },
    )


def token_divergence(
    a: Int[Tensor, "sample *quantiser"],
    b: Int[Tensor, "other *quantiser"],
    *,
    num_codes: int | Sequence[int],
    groups: Int[Tensor, "sample"] | None = None,
    num_null: int = 50,
    seed: int = 0,
) -> TokenDivergence:
    """KL divergence of the token frequencies of `b` from those of `a`, per quantiser.

    Each code's count has ½ added in both, so that codes never seen are finite.

    Args:
        a: Tokens of the truth, `[sample, quantiser]`, or `[sample]` of one quantiser.
        b: Tokens of a model, as many quantisers, any number of samples.
        num_codes: Codes of each quantiser, or of all.
        groups: As of `feature_distribution`.
        num_null: Number of splits of `a` for the null.
        seed: Of the splits.

    Returns:
        Divergence per quantiser in nats, and that of the null.

    Raises:
        ValueError: If shapes do not fit, a token lies outside its codebook, or there are fewer than
            4 samples of the truth, or groups of them, or none of the model.
    """
    first, second = (tokens_of(x, name=name) for x, name in ((a, "a"), (b, "b")))
    sizes = sizes_of(num_codes, first.shape[1])
    for tokens, name in ((first, "a"), (second, "b")):
        check_tokens(tokens, sizes, name=name)
    members = _members(groups, len(first))
    _check_halves(len(members), len(second), num_null)
    null = [_kl(first[i], first[j], sizes) for i, j in _halves(members, num_null, seed)]
    return TokenDivergence(
        kl=_kl(first, second, sizes), null=torch.stack(null).quantile(HIGH, dim=0)
    )


def tokens_of(tokens: Tensor, *, name: str) -> Tensor:
    """`[sample, quantiser]` on the CPU, from that or from `[sample]`."""
    if tokens.ndim not in (1, 2) or tokens.is_floating_point():
        raise ValueError(
            f"{name} has shape {tuple(tokens.shape)} and {tokens.dtype}, expected integers "
            "(sample, quantiser) or (sample)."
        )
    return tokens.detach().cpu().reshape(len(tokens), -1).long()


def sizes_of(num_codes: int | Sequence[int], num_quantisers: int) -> tuple[int, ...]:
    """Codes of each quantiser."""
    sizes = (num_codes,) * num_quantisers if isinstance(num_codes, int) else tuple(num_codes)
    if len(sizes) != num_quantisers:
        raise ValueError(f"num_codes has {len(sizes)} entries for {num_quantisers} quantisers.")
    return sizes


def check_tokens(tokens: Tensor, sizes: Sequence[int], *, name: str) -> None:
    """Raise unless every token of `[sample, quantiser]` lies in its codebook."""
    if tokens.shape[1] != len(sizes):
        raise ValueError(f"{name} has {tokens.shape[1]} quantisers, expected {len(sizes)}.")
    for place, (column, size) in enumerate(zip(tokens.unbind(1), sizes, strict=True)):
        if len(column) and not 0 <= int(column.min()) <= int(column.max()) < size:
            raise ValueError(
                f"tokens of {name}, quantiser {place}, range from {int(column.min())} to "
                f"{int(column.max())}, expected 0 to {size - 1}."
            )


def _check_halves(num: int, num_other: int, num_null: int) -> None:
    if num < 4 or num_other < 1 or num_null < 1:
        raise ValueError(
            f"need at least 4 samples (or groups) of a, 1 of b and 1 split, got {num}, {num_other} and {num_null}."
        )


def _members(groups: Tensor | None, num: int) -> list[Tensor]:
    """Samples of each group."""
    if groups is None:
        return list(torch.arange(num).split(1))
    if groups.shape != (num,):
        raise ValueError(f"groups has shape {tuple(groups.shape)}, expected ({num},).")
    held = groups.detach().cpu()
    return [(held == group).nonzero().flatten() for group in held.unique()]


def _halves(members: Sequence[Tensor], num_null: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Samples of one random half of the groups, and of the other."""
    generator = torch.Generator().manual_seed(seed)
    middle = len(members) // 2
    halves = []
    for _ in range(num_null):
        order = torch.randperm(len(members), generator=generator).tolist()
        first, second = (
            torch.cat([members[group] for group in part])
            for part in (order[:middle], order[middle:])
        )
        halves.append((first, second))
    return halves


def _wasserstein(a: Tensor, b: Tensor) -> Tensor:
    both = torch.cat([a, b])
    ordered, order = both.sort(0)
    step = torch.cat([a.new_full((len(a),), 1 / len(a)), a.new_full((len(b),), -1 / len(b))])
    return (step[order].cumsum(0)[:-1].abs() * ordered.diff(dim=0)).sum(0)


def _energy(a: Tensor, b: Tensor) -> float:
    between, first, second = (_mean_distance(*pair) for pair in ((a, b), (a, a), (b, b)))
    return (2 * between - first - second).item()


def _mean_distance(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").mean()


def _kl(a: Tensor, b: Tensor, sizes: Sequence[int]) -> Tensor:
    found = []
    for x, y, size in zip(a.unbind(1), b.unbind(1), sizes, strict=True):
        p, q = (torch.bincount(t, minlength=size).double() + PSEUDO_COUNT for t in (x, y))
        p, q = p / p.sum(), q / q.sum()
        found.append((p * (p / q).log()).sum())
    return torch.stack(found)
