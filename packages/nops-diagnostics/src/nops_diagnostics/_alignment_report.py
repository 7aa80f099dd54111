"""Is a surrogate fit for tokens? Four graded sections, four gates, one verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nops_diagnostics._alignment_gates import (
    Gate,
    collapse_gate,
    correspondence_gate,
    parameters_gate,
    skill_gate,
)
from nops_diagnostics._distribution import check_tokens, sizes_of, tokens_of
from nops_diagnostics._layout import as_double

POINTS = {"Excellent": 4, "Good": 3, "Strong": 3, "Moderate": 2, "Weak": 1, "Poor": 0}
VERDICTS = {"EXCELLENT": 3.5, "GOOD": 2.5, "MODERATE": 1.5}
NOT_TRAINED = "not trained"


@dataclass(frozen=True, kw_only=True)
class Section:
    """One graded part of the report.

    Attributes:
        name: "reconstruction", "diversity", "correlation" or "consistency".
        grade: In words; "not trained" without a projector.
        figures: What was measured.
    """

    name: str
    grade: str
    figures: dict[str, Any]

    @property
    def points(self) -> int | None:
        """Of the grade, 0 to 4; None where nothing was graded."""
        return POINTS.get(self.grade)


@dataclass(frozen=True, kw_only=True)
class AlignmentReport:
    """What the diagnosis found.

    Attributes:
        sections: The four, by name.
        gates: The four, by name.
        verdict: "EXCELLENT", "GOOD", "MODERATE" or "POOR"; POOR if a gate failed.
        ungated: The verdict of the grades alone.
        points: Mean of the sections' points.
    """

    sections: dict[str, Section]
    gates: dict[str, Gate]
    verdict: str
    ungated: str
    points: float

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the gates that failed."""
        return tuple(name for name, gate in self.gates.items() if gate.passed is False)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        sections = {
            name: {"grade": section.grade, "points": section.points, **section.figures}
            for name, section in self.sections.items()
        }
        gates = {name: gate.as_dict() for name, gate in self.gates.items()}
        found = {"verdict": self.verdict, "ungated": self.ungated, "points": self.points}
        return {**found, "failed": list(self.failed), "sections": sections, "gates": gates}

    def text(self) -> str:
        """The block of text that a terminal shows."""
        from nops_diagnostics._alignment_text import text_of

        return text_of(self)


def alignment_report(
    *,
    reconstruction: Mapping[str, float],
    indices: Int[Tensor, "sample *quantiser"],
    num_codes: int | Sequence[int],
    projected: Float[Tensor, "sample step dim"] | None,
    latent: Float[Tensor, "sample dim"],
    skill: Mapping[str, Sequence[float] | Tensor],
    theta_shuffle: float,
    diversity: float,
    num_null: int = 200,
    seed: int = 0,
) -> AlignmentReport:
    """Grade how a surrogate's rollouts tokenise, and let gates decide.

    | section | measure | grades |
    |---|---|---|
    | reconstruction | mean squared error of the features | < 0.1 Excellent, < 0.5 Good, < 1 Moderate |
    | diversity | share of the codes in use | > 70 % Excellent, > 50 % Good, > 30 % Moderate |
    | correlation | mean cosine of P and z | > 0.7 Strong, > 0.5 Moderate, > 0.3 Weak |
    | consistency | deviation of ‖P‖ over steps / its mean | < 0.05 Excellent, < 0.1 Good, < 0.2 Moderate |

    and Poor beyond; P is averaged over steps for the cosine. Points are 4, 3 (Good and Strong), 2, 1
    (Weak) and 0; a mean of 3.5 is EXCELLENT, 2.5 GOOD, 1.5 MODERATE, less POOR. A constant vector has
    high cosine and no deviation, so four gates follow, each of which makes the verdict POOR: skill over
    persistence and mean positive; diversity ratio ≥ 0.5 and θ-shuffle ratio ≥ 1.2; effective rank of P
    and z ≥ 2, spread of P ≥ 0.1 of that of z, more than one token per quantiser; and the mean cosine of
    *centred* P and z above the 95 % quantile of that of shuffled samples.

    Args:
        reconstruction: Mean squared error of the rollouts' features through the tokeniser: "total",
            and each category.
        indices: Tokens of the rollouts, `[sample, quantiser]`, or `[sample]` of one quantiser.
        num_codes: Codes of each quantiser, or of all.
        projected: P, the bottleneck of each of some steps mapped to the latents; None without a
            projector: its two sections and the last gate then read "not trained" and drop out.
        latent: z, the latents of the same rollouts before quantisation.
        skill: Over "persistence" and "mean": at half the horizon and at its end.
        theta_shuffle: Error with θ deranged over the error, `shuffle_ratio`.
        diversity: Variance over θ, model over truth, `diversity_ratio`.
        num_null: Shuffles of the last gate.
        seed: Of the shuffles.

    Returns:
        Measures with their grades, gates, and the verdict.

    Raises:
        ValueError: If shapes do not fit, there are fewer than two samples or two steps, a token lies
            outside its codebook, or "total" or a baseline is missing.
    """
    z, p = _checked(latent, projected, indices)
    counts = _counts(indices, num_codes)
    mean = None if p is None else p.mean(1)
    sections = [
        _reconstruction(reconstruction),
        _diversity(counts),
        _correlation(mean, z),
        _consistency(p),
    ]
    gates = [
        skill_gate(skill),
        parameters_gate(float(theta_shuffle), float(diversity)),
        collapse_gate(z, mean, [int((count > 0).sum()) for count in counts]),
        correspondence_gate(z, mean, num_null=num_null, seed=seed),
    ]
    graded = [section.points for section in sections if section.points is not None]
    points = sum(graded) / len(graded)
    ungated = next((name for name, bar in VERDICTS.items() if points >= bar), "POOR")
    return AlignmentReport(
        sections={section.name: section for section in sections},
        gates={gate.name: gate for gate in gates},
        verdict="POOR" if any(gate.passed is False for gate in gates) else ungated,
        ungated=ungated,
        points=points,
    )


def _checked(
    latent: Tensor, projected: Tensor | None, indices: Tensor
) -> tuple[Tensor, Tensor | None]:
    num = len(latent)
    if latent.ndim != 2 or num < 2 or len(indices) != num:
        raise ValueError(
            f"latent has shape {tuple(latent.shape)}, indices {tuple(indices.shape)}; expected "
            "(sample, dim) and (sample, quantiser) of the same samples, at least 2."
        )
    z = as_double(latent.detach()).cpu()
    if projected is None:
        return z, None
    fits = projected.ndim == 3 and projected.shape[::2] == latent.shape
    if not fits or projected.shape[1] < 2:
        raise ValueError(
            f"projected has shape {tuple(projected.shape)}, expected (sample, step, dim) beside a latent "
            f"of {tuple(latent.shape)}, with at least 2 steps."
        )
    return z, as_double(projected.detach()).cpu()


def _counts(indices: Tensor, num_codes: int | Sequence[int]) -> list[Tensor]:
    """How often each code occurs, for each quantiser."""
    tokens = tokens_of(indices, name="indices")
    sizes = sizes_of(num_codes, tokens.shape[1])
    check_tokens(tokens, sizes, name="indices")
    columns = zip(tokens.unbind(1), sizes, strict=True)
    return [torch.bincount(column, minlength=size) for column, size in columns]


def _entropy(counts: Tensor) -> float:
    """Of the codes' shares, in nats."""
    return torch.special.entr(counts.double() / counts.sum()).sum().item()


def _reconstruction(errors: Mapping[str, float]) -> Section:
    if "total" not in errors:
        raise ValueError(f"reconstruction has {sorted(errors)}, expected 'total' too.")
    figures = {name: float(error) for name, error in errors.items()}
    grade = _below(figures["total"], Excellent=0.1, Good=0.5, Moderate=1.0)
    return Section(name="reconstruction", grade=grade, figures=figures)


def _diversity(counts: Sequence[Tensor]) -> Section:
    together = torch.cat(list(counts))
    used = int((together > 0).sum())
    utilisation = used / len(together)
    figures = {
        "utilisation": utilisation,
        "used": used,
        "num_codes": len(together),
        "entropy": _entropy(together),
        "entropies": [_entropy(count) for count in counts],
    }
    grade = _above(utilisation, Excellent=0.7, Good=0.5, Moderate=0.3)
    return Section(name="diversity", grade=grade, figures=figures)


def _correlation(projected: Tensor | None, latent: Tensor) -> Section:
    if projected is None:
        return Section(name="correlation", grade=NOT_TRAINED, figures={})
    cosine = torch.nn.functional.cosine_similarity(projected, latent, dim=1)
    figures = {
        "cosine": cosine.mean().item(),
        "deviation": cosine.std(correction=0).item(),
        "least": cosine.min().item(),
        "greatest": cosine.max().item(),
        "latent_loss": (projected - latent).square().mean().item(),
    }
    grade = _above(figures["cosine"], Strong=0.7, Moderate=0.5, Weak=0.3)
    return Section(name="correlation", grade=grade, figures=figures)


def _consistency(projected: Tensor | None) -> Section:
    if projected is None:
        return Section(name="consistency", grade=NOT_TRAINED, figures={})
    norm = projected.norm(dim=2)
    mean, deviation = norm.mean().item(), norm.var(1, correction=0).mean().sqrt().item()
    variation = deviation / mean if mean > 0 else float("nan")
    figures = {"norm": mean, "deviation": deviation, "variation": variation}
    grade = _below(variation, Excellent=0.05, Good=0.1, Moderate=0.2)
    return Section(name="consistency", grade=grade, figures=figures)


def _below(value: float, **bars: float) -> str:
    return next((name for name, bar in bars.items() if value < bar), "Poor")


def _above(value: float, **bars: float) -> str:
    return next((name for name, bar in bars.items() if value > bar), "Poor")
