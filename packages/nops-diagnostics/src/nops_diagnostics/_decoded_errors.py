"""nRMSE per lead of decoded predictions, beside every baseline: who is ahead, and until when."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nops_diagnostics._bootstrap import Estimate, bootstrap_estimate
from nops_diagnostics._layout import check_choice
from nops_diagnostics._metrics import THE_WELL_EPS, NrmseConvention
from nops_diagnostics._rollout_errors import RolloutErrors


@dataclass(frozen=True, kw_only=True)
class DecodedErrors:
    """nRMSE of predictions and baselines, dimensionless `Estimate`s.

    Attributes:
        lead_times: Steps after the initial state, 1-based.
        per_lead: By name, `[lead]`.
        horizon: By name, over all leads, a single number.
        predictions: Which names are predictions; the others are baselines.
        num_samples: Number of trajectories.
    """

    lead_times: tuple[int, ...]
    per_lead: dict[str, Estimate]
    horizon: dict[str, Estimate]
    predictions: tuple[str, ...]
    num_samples: int

    def overtaken(self, name: str) -> dict[str, int | None]:
        """The first lead at which each baseline has the smaller error than a prediction.

        None where the prediction is ahead, or level, at every lead; a prediction that is not finite
        is overtaken.

        Raises:
            ValueError: If there is no such prediction.
        """
        if name not in self.predictions:
            raise ValueError(f"{name!r} is no prediction; there is {', '.join(self.predictions)}.")
        own = self.per_lead[name].value.nan_to_num(torch.inf)
        ahead = {
            other: (estimate.value < own).tolist()
            for other, estimate in self.per_lead.items()
            if other not in self.predictions
        }
        return {
            other: self.lead_times[first.index(True)] if True in first else None
            for other, first in ahead.items()
        }

    def rows(self, lead_times: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """One row per lead time, all if None, then `horizon`, as `Report.add_table` takes them.

        Raises:
            ValueError: If a lead time was not scored.
        """
        wanted = self.lead_times if lead_times is None else tuple(lead_times)
        unknown = [lead for lead in wanted if lead not in self.lead_times]
        if unknown:
            raise ValueError(f"lead times {unknown} were not scored; there is {self.lead_times}.")
        places = [(lead, self.lead_times.index(lead)) for lead in wanted]
        rows = [
            {"lead": lead, **{name: estimate[k] for name, estimate in self.per_lead.items()}}
            for lead, k in places
        ]
        return [*rows, {"lead": "horizon", **self.horizon}]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, for JSON; what is undefined stays NaN."""
        return {
            "lead_times": list(self.lead_times),
            "num_samples": self.num_samples,
            "predictions": list(self.predictions),
            "per_lead": {name: value.as_dict() for name, value in self.per_lead.items()},
            "horizon": {name: value.as_dict() for name, value in self.horizon.items()},
            "overtaken": {name: self.overtaken(name) for name in self.predictions},
        }


def decoded_errors(
    errors: Mapping[str, RolloutErrors],
    *,
    convention: NrmseConvention = "pdebench",
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> DecodedErrors:
    """The table of decoded predictions of one truth, per lead and over the horizon.

    Predictions of one truth are, say, free rollouts in latent and in image space, and one-step
    predictions from the true frame before; all are decoded fields in physical units.

    Args:
        errors: By name, from `rollout_errors` of the same target and lead times; baselines are
            those of the first.
        convention: See `nrmse`. The horizon is `nrmse` over all leads at once: the mean over leads,
            but for `"pooled"`, which has one ratio of sums.
        bootstrap: Number of resamples over samples, the same ones for every figure.
        confidence: Coverage aimed at by the intervals.
        seed: Of the resampling.

    Returns:
        nRMSE of each prediction and baseline. A diverged sample makes its leads infinite or NaN.

    Raises:
        ValueError: If there is no prediction, they are of different truths, a name is that of a
            baseline, or an option is unknown or out of range.
    """
    check_choice("convention", convention, ("pdebench", "pooled", "the_well"))
    first = _checked(errors)
    squared = {name: part.error for name, part in errors.items()} | {
        name: error for name, error in first.baselines.items() if name != "noise_floor"
    }

    def estimates(statistic: Callable[..., Tensor], *, horizon: bool) -> dict[str, Estimate]:
        found = {}
        for name, error in squared.items():
            parts = _parts(error, first.power, convention=convention, horizon=horizon)
            found[name] = bootstrap_estimate(
                statistic, *parts, num_resamples=bootstrap, confidence=confidence, seed=seed
            )
        return found

    statistic = _root_ratio if convention == "pooled" else _same
    return DecodedErrors(
        lead_times=first.lead_times,
        per_lead=estimates(statistic, horizon=False),
        horizon=estimates(statistic, horizon=True),
        predictions=tuple(errors),
        num_samples=len(first.error),
    )


def _checked(errors: Mapping[str, RolloutErrors]) -> RolloutErrors:
    if not errors:
        raise ValueError("there is nothing to compare: errors is empty.")
    first = next(iter(errors.values()))
    for name, part in errors.items():
        if part.lead_times != first.lead_times or not torch.equal(part.power, first.power):
            raise ValueError(f"{name!r} is of another truth, or of other lead times or units.")
    taken = sorted(set(errors) & set(first.baselines))
    if taken:
        raise ValueError(f"{', '.join(taken)}: the name of a baseline; call the prediction else.")
    return first


def _parts(error: Tensor, power: Tensor, *, convention: str, horizon: bool) -> tuple[Tensor, ...]:
    """Per sample what is averaged over samples: `[sample, lead]`, or `[sample]` over the horizon."""
    axes = (-2, -1) if horizon else (-1,)
    if convention == "pooled":
        return error.mean(axes), power.mean(axes)
    eps = THE_WELL_EPS if convention == "the_well" else 0.0
    return ((error / (power + eps)).sqrt().mean(axes),)


def _same(values: Tensor) -> Tensor:
    return values


def _root_ratio(error: Tensor, power: Tensor) -> Tensor:
    return (error / power).sqrt()
