"""Do two vocabularies say the same? Codes paired one to one, beside what chance would pair."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nops_diagnostics._alignment_modes import (
    MODES,
    Comparison,
    Geometry,
    assign,
    at_least,
)
from nops_diagnostics._codebooks import Codebook
from nops_diagnostics._layout import check_choice

GRADES = {"strong": 0.7, "moderate": 0.5, "weak": 0.3}
CHANCE = "indistinguishable from chance"
LEVEL = 0.05
QUANTILES = (0.5, 0.95, 0.99)
NUM_FEATURES = 3


@dataclass(frozen=True, kw_only=True)
class AlignedPair:
    """A code of one vocabulary with its partner in the other.

    Attributes:
        a: Number of the code in the first.
        b: Number of the code in the second.
        similarity: −1 to 1.
        p: Share of random draws, this one included, in which code `a` finds any code as similar.
        q: Benjamini–Hochberg's, over the pairs.
        features: What both stand for: up to three shared columns that are most extreme, to the same
            side, in both, with their values in the two. Empty without signatures.
    """

    a: int
    b: int
    similarity: float
    p: float
    q: float
    features: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How well two vocabularies match; float64 on the CPU.

    Attributes:
        mode: What was compared.
        matrix: Similarity of the codes in use, `[codes of a, codes of b]`.
        rows: Number in `a` of each row.
        columns: Number in `b` of each column.
        pairs: One-to-one partners, best first.
        score: "signature": mean similarity of the pairs. "behaviour": adjusted mutual information,
            1 for equal partitions of the probe set, 0 by chance, the mean over quantisers paired one to
            one. "geometry": linear centred kernel alignment, 0 to 1.
        procrustes: "geometry" alone, else None: share of the latents' size that a rotation
            brings together.
        null_quantiles: 50, 95 and 99 % of the score by chance; of the null that is harder to beat.
        p_value: (1 + draws that reach the score) / (1 + draws), of that null.
        verdict: "strong" above 0.7, "moderate" above 0.5, "weak" above 0.3, else "none"; but
            "indistinguishable from chance" whenever p > 0.05.
    """

    mode: str
    matrix: Float[Tensor, "a b"]
    rows: Int[Tensor, "a"]
    columns: Int[Tensor, "b"]
    pairs: tuple[AlignedPair, ...]
    score: float
    procrustes: float | None
    null_quantiles: dict[float, float]
    p_value: float
    verdict: str


def compute_alignment(
    a: Codebook, b: Codebook, *, mode: str = "signature", num_null: int = 200, seed: int = 0
) -> Alignment:
    """Pair the codes of two vocabularies, and ask whether random ones would match as well.

    Latent bases are arbitrary, so tables are never compared as they are. One-to-one matching finds
    good pairs even among random codes (a mean cosine of 0.67 for 24 codes in 8 dimensions), so a score means nothing
    without its null, and permuting codes is none, since matching undoes it. Random draws are:

    - "signature", the cosine of codes in shared standardised features about the mean code: b's codes
      mixed by a random rotation, which keeps their number, mean and covariance; and b's columns
      shuffled one by one. Both must be beaten: the larger p counts.
    - "behaviour", tokens of one probe set, and "geometry", latents of one probe set turned onto each
      other (Procrustes, widths may differ): b's samples in random order.

    Args:
        a: First vocabulary, with what the mode needs: `names` and `signatures`; `tokens`; or
            `latents` and `codes`. Signatures add features to the pairs of any mode.
        b: Second vocabulary. The number of codes may differ.
        mode: "signature", "behaviour" or "geometry".
        num_null: Random draws; p is at least 1 / (1 + num_null).
        seed: Of the draws.

    Returns:
        Matrix, pairs, score, its null and the verdict.

    Raises:
        ValueError: If what the mode needs is missing or does not fit, or no column is shared.
        ModuleNotFoundError: Without scipy: `pip install 'nops-diagnostics[alignment]'`.

    Source:
        Kuhn, Naval Res. Logist. Quart. 2 (1955); Benjamini and Hochberg, J. R. Stat. Soc. B 57
        (1995); Kornblith et al., arXiv 1905.00414.
    """
    check_choice("mode", mode, tuple(MODES))
    if num_null < 1:
        raise ValueError(f"num_null must be at least 1, got {num_null}.")
    way = MODES[mode](a, b)
    found = way.compare()
    rows, columns = assign(found.matrix)
    similarity = found.matrix[rows, columns]
    score = _score(found, similarity)
    generator = torch.Generator().manual_seed(seed)
    nulls = [_draws(draws, rows) for draws in way.nulls(num_null, generator).values()]
    hardest = max(
        (scores for scores, _ in nulls), key=lambda s: (at_least(s, score).item(), s.mean())
    )
    p_value = at_least(hardest, score).item()
    p = torch.stack([at_least(pairs, similarity) for _, pairs in nulls]).amax(0)
    return Alignment(
        mode=mode,
        matrix=found.matrix,
        rows=way.rows,
        columns=way.columns,
        pairs=_pairs(a, b, way.rows[rows], way.columns[columns], similarity, p),
        score=score,
        procrustes=way.procrustes() if isinstance(way, Geometry) else None,
        null_quantiles={q: hardest.quantile(q).item() for q in QUANTILES},
        p_value=p_value,
        verdict=_verdict(score, p_value),
    )


def false_discovery(p: Float[Tensor, "test"]) -> Float[Tensor, "test"]:
    """Benjamini–Hochberg's q: the least share of false discoveries at which each is one."""
    order = p.argsort(descending=True)
    rank = torch.arange(len(p), 0, -1, dtype=p.dtype)
    ordered = (p[order] * len(p) / rank).cummin(0).values
    return torch.empty_like(p).index_copy(0, order, ordered.clamp(max=1))


def _score(found: Comparison, similarity: Tensor) -> float:
    return similarity.mean().item() if found.score is None else found.score


def _draws(draws: Iterator[Comparison], rows: Tensor) -> tuple[Tensor, Tensor]:
    """Scores `[draw]`, and the best similarity that each of `rows` finds `[draw, row]`."""
    scores, similarities = [], []
    for drawn in draws:
        scores.append(_score(drawn, drawn.matrix[assign(drawn.matrix)]))
        similarities.append(drawn.matrix[rows].amax(1))
    return torch.tensor(scores, dtype=torch.float64), torch.stack(similarities)


def _pairs(
    a: Codebook, b: Codebook, codes_a: Tensor, codes_b: Tensor, similarity: Tensor, p: Tensor
) -> tuple[AlignedPair, ...]:
    numbers = (codes_a.tolist(), codes_b.tolist(), similarity.tolist())
    chances = (p.tolist(), false_discovery(p).tolist())
    found = [
        AlignedPair(a=i, b=j, similarity=s, p=p, q=q, features=_features(a, b, i, j))
        for i, j, s, p, q in zip(*numbers, *chances, strict=True)
    ]
    return tuple(sorted(found, key=lambda pair: -pair.similarity))


def _features(a: Codebook, b: Codebook, i: int, j: int) -> tuple[tuple[str, float, float], ...]:
    if a.signatures is None or b.signatures is None:
        return ()
    names = [name for name in a.names if name in b.names]
    if not names:
        return ()
    x, y = a.columns(names)[i], b.columns(names)[j]
    common = torch.minimum(x.abs(), y.abs()) * (x * y > 0)
    best = common.argsort(descending=True)[:NUM_FEATURES].tolist()
    return tuple((names[n], x[n].item(), y[n].item()) for n in best if common[n] > 0)


def _verdict(score: float, p_value: float) -> str:
    if p_value > LEVEL:
        return CHANCE
    return next((name for name, bar in GRADES.items() if score > bar), "none")
