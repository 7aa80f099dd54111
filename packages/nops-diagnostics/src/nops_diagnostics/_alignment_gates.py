"""What no grade can buy: tests that a collapsed, deaf or drifting surrogate does not pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nops_diagnostics._collapse import effective_rank

LEAST_DIVERSITY = 0.5
LEAST_SHUFFLE = 1.2
LEAST_RANK = 2.0
LEAST_SPREAD = 0.1  # of the projection, over that of the latent
LEVEL = 0.95
BASELINES = ("persistence", "mean")
PLACES = ("at half the horizon", "at its end")


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One test.

    Attributes:
        name: "skill", "parameters", "collapse" or "correspondence".
        passed: None where there is no projector to test.
        figures: What was measured.
        reasons: Why it failed, each with what was found and what was expected.
    """

    name: str
    passed: bool | None
    figures: dict[str, Any]
    reasons: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return {"passed": self.passed, **self.figures, "reasons": list(self.reasons)}


def skill_gate(skill: Mapping[str, Sequence[float] | Tensor]) -> Gate:
    """Better than persistence and than the training mean, halfway and at the end.

    Raises:
        ValueError: If a baseline is missing, or has not two values (one, at the end, is allowed).
    """
    figures = {name: [float(value) for value in values] for name, values in skill.items()}
    if lacking := [name for name in BASELINES if len(figures.get(name, ())) not in (1, 2)]:
        raise ValueError(
            f"skill has {figures}, expected two values over {' and '.join(lacking)}: "
            f"{' and '.join(PLACES)}."
        )
    checks = {
        f"skill over {name} {place}": value
        for name in BASELINES
        for place, value in zip(PLACES[-len(figures[name]) :], figures[name], strict=True)
    }
    return _gate("skill", figures, [_above(text, value, 0.0) for text, value in checks.items()])


def parameters_gate(theta_shuffle: float, diversity: float) -> Gate:
    """The parameters matter: as much as in the truth, and the right ones."""
    figures = {"diversity": diversity, "theta_shuffle": theta_shuffle}
    checks = [
        _at_least("diversity ratio", diversity, LEAST_DIVERSITY),
        _at_least("θ-shuffle ratio", theta_shuffle, LEAST_SHUFFLE),
    ]
    return _gate("parameters", figures, checks)


def collapse_gate(latent: Tensor, projected: Tensor | None, used: Sequence[int]) -> Gate:
    """Latents and projections `[sample, dim]` spread out, and every quantiser has choices.

    Args:
        latent: z.
        projected: P, averaged over steps; None without a projector.
        used: Number of different tokens of each quantiser.
    """
    figures: dict[str, Any] = {"latent_rank": effective_rank(latent), "tokens": list(used)}
    checks = [_at_least("effective rank of the latents", figures["latent_rank"], LEAST_RANK)]
    if projected is not None:
        spread = (_spread(projected) / _spread(latent)).item()
        figures |= {"projected_rank": effective_rank(projected), "spread": spread}
        rank = figures["projected_rank"]
        checks.append(_at_least("effective rank of the projections", rank, LEAST_RANK))
        checks.append(_at_least("their spread over that of the latents", spread, LEAST_SPREAD))
    checks += [f"quantiser {i} has one token alone" for i, count in enumerate(used) if count < 2]
    return _gate("collapse", figures, checks)


def correspondence_gate(
    latent: Tensor, projected: Tensor | None, *, num_null: int, seed: int
) -> Gate:
    """Each projection points to its own latent, not to any: centred, against shuffled samples."""
    if projected is None:
        return Gate(name="correspondence", passed=None, figures={})
    a, b = (_units(values - values.mean(0)) for values in (projected, latent))
    found = (a * b).sum(1).mean().item()
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(a), generator=generator) for _ in range(num_null)]
    null = torch.stack([(a * b[order]).sum(1).mean() for order in orders])
    bar = null.quantile(LEVEL).item()
    figures = {"cosine": found, "shuffled": bar}
    return _gate("correspondence", figures, [_above("cosine of centred vectors", found, bar)])


def _gate(name: str, figures: dict[str, Any], checks: Sequence[str]) -> Gate:
    reasons = tuple(reason for reason in checks if reason)
    return Gate(name=name, passed=not reasons, figures=figures, reasons=reasons)


def _above(text: str, value: float, bar: float) -> str:
    return "" if value > bar else f"{text}: {value:.3g}, expected above {bar:.3g}"


def _at_least(text: str, value: float, bar: float) -> str:
    return "" if value >= bar else f"{text}: {value:.3g}, expected at least {bar:g}"


def _spread(values: Tensor) -> Tensor:
    return values.var(0, correction=0).sum().sqrt()


def _units(values: Tensor) -> Tensor:
    return values / values.norm(dim=1, keepdim=True).clamp(min=1e-300)
