"""Scores of a rollout per lead time, against the baselines anyone would try first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from nops_diagnostics._bootstrap import Estimate, bootstrap_estimate
from nops_diagnostics._layout import check_choice
from nops_diagnostics._metrics import skill
from nops_diagnostics._rollout_errors import RolloutErrors, rollout_errors

Ratios = Literal["pooled", "per_sample"]


@dataclass(frozen=True, kw_only=True)
class RolloutScores:
    """Scores per lead time, each an `Estimate` with float64 tensors `[lead]`.

    Attributes:
        lead_times: Steps after the initial state, 1-based.
        metrics: `mse`, `nmse`, `vrmse`, `relative_l2` and `spectrum_error` of the model.
        skill: `1 - MSE / MSE_baseline` by baseline: `zero`, `persistence`, and those of
            `mean`, `noise_floor`, `previous_truth` and `reconstruction` that were asked for.
        baselines: `mse`, `nmse` and `vrmse` of each baseline.
        num_samples: Number of trajectories.
        num_diverged: Per lead, how many of them were no longer finite.
    """

    lead_times: tuple[int, ...]
    metrics: dict[str, Estimate]
    skill: dict[str, Estimate]
    baselines: dict[str, dict[str, Estimate]]
    num_samples: int
    num_diverged: tuple[int, ...]

    def at(self, lead_time: int) -> dict[str, Any]:
        """The scores of one lead time by name: `lead`, the metrics, `skill_<baseline>`.

        Raises:
            ValueError: If that lead time was not scored.
        """
        if lead_time not in self.lead_times:
            raise ValueError(f"lead time {lead_time} was not scored; there is {self.lead_times}.")
        index = self.lead_times.index(lead_time)
        named = {name: estimate[index] for name, estimate in self.metrics.items()}
        over = {f"skill_{name}": estimate[index] for name, estimate in self.skill.items()}
        return {"lead": lead_time, **named, **over}

    def rows(self, lead_times: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """`at` for each of `lead_times` (all if None), as `Report.add_table` takes them."""
        wanted = self.lead_times if lead_times is None else lead_times
        return [self.at(lead_time) for lead_time in wanted]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, for JSON; what is undefined stays NaN."""
        return {
            "lead_times": list(self.lead_times),
            "num_samples": self.num_samples,
            "num_diverged": list(self.num_diverged),
            "metrics": {name: value.as_dict() for name, value in self.metrics.items()},
            "skill": {name: value.as_dict() for name, value in self.skill.items()},
            "baselines": {
                name: {metric: value.as_dict() for metric, value in scores.items()}
                for name, scores in self.baselines.items()
            },
        }


def score_errors(
    errors: RolloutErrors,
    *,
    ratios: Ratios = "pooled",
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> RolloutScores:
    """Average errors over samples, with bootstrap intervals over samples.

    Args:
        errors: From `rollout_errors`; batches are joined by `RolloutErrors.concatenate`.
        ratios: How NMSE and VRMSE average over samples, before they average over channels.
            `"pooled"` divides the mean error by the mean power (or variance), so that a sample
            whose field has died out does not rule the figure; `"per_sample"` averages each
            sample's own ratio, as The Well does. Relative L2, one norm over all channels, is
            always per sample.
        bootstrap: Number of resamples, the same ones for every figure.
        confidence: Coverage aimed at by the intervals.
        seed: Of the resampling.

    Returns:
        Scores per lead time. A diverged sample makes the scores of its lead infinite or NaN.

    Raises:
        ValueError: If an option is unknown or out of range.
    """
    check_choice("ratios", ratios, ("pooled", "per_sample"))

    def estimate(statistic: Callable[..., Tensor], *samples: Tensor) -> Estimate:
        return bootstrap_estimate(
            statistic, *samples, num_resamples=bootstrap, confidence=confidence, seed=seed
        )

    def ratio(statistic: Callable[..., Tensor], error: Tensor, scale: Tensor) -> Estimate:
        if ratios == "pooled":
            return estimate(statistic, error, scale)
        return estimate(_same, statistic(error, scale))

    def relative(error: Tensor) -> dict[str, Estimate]:
        return {
            "mse": estimate(_over_channels, error),
            "nmse": ratio(_nmse, error, errors.power),
            "vrmse": ratio(_vrmse, error, errors.variance),
        }

    alone = {
        "relative_l2": estimate(_same, errors.relative_l2),
        "spectrum_error": estimate(_same, errors.spectrum),
    }
    rivals = errors.baselines.items()
    return RolloutScores(
        lead_times=errors.lead_times,
        metrics=relative(errors.error) | alone,
        skill={name: estimate(_skill, errors.error, error) for name, error in rivals},
        baselines={name: relative(error) for name, error in rivals},
        num_samples=len(errors.error),
        num_diverged=tuple((~errors.finite).sum(0).tolist()),
    )


def rollout_scores(
    pred: Float[Tensor, "sample time channel *space"],
    target: Float[Tensor, "sample time channel *space"],
    *,
    initial: Float[Tensor, "sample channel *space"],
    mean: Float[Tensor, "time channel"] | None = None,
    noise_floor: Float[Tensor, "time channel"] | None = None,
    reconstruction: Float[Tensor, "sample time channel *space"] | None = None,
    previous_truth: bool = False,
    scale: Float[Tensor, "channel"] | None = None,
    lead_times: Sequence[int] | None = None,
    spatial_dims: int = 2,
    ddof: int = 0,
    lengths: tuple[float, ...] | None = None,
    ratios: Ratios = "pooled",
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> RolloutScores:
    """Score rollouts that fit into memory at once: `score_errors(rollout_errors(...))`.

    Arguments, result and errors are those of the two functions.

    Args:
        pred: Rollouts without the initial state.
        target: Truth at the same times, same shape and unit.
        initial: The state both start from.
        mean: Mean of the training trajectories per lead time and channel, a further baseline.
        noise_floor: Mean squared error that no prediction can beat, a further baseline.
        reconstruction: The truth encoded and decoded, a further baseline.
        previous_truth: Whether the true frame before is one too.
        scale: What the fields of each channel are divided by first; None: as they are.
        lead_times: Which leads, 1-based; None takes all.
        spatial_dims: Number of trailing axes that are space.
        ddof: Of the variance in VRMSE.
        lengths: Physical extent of each axis, for the spectrum; 2 pi each if None.
        ratios: "pooled" or "per_sample"; see `score_errors`.
        bootstrap: Number of resamplings over samples.
        confidence: Of the intervals.
        seed: Of the resampling.

    Returns:
        Metrics with intervals per lead, and those of each baseline.
    """
    errors = rollout_errors(
        pred,
        target,
        initial=initial,
        mean=mean,
        noise_floor=noise_floor,
        reconstruction=reconstruction,
        previous_truth=previous_truth,
        scale=scale,
        lead_times=lead_times,
        spatial_dims=spatial_dims,
        ddof=ddof,
        lengths=lengths,
    )
    return score_errors(
        errors, ratios=ratios, bootstrap=bootstrap, confidence=confidence, seed=seed
    )


def _same(value: Tensor) -> Tensor:
    return value


def _over_channels(error: Tensor) -> Tensor:
    return error.mean(-1)


def _nmse(error: Tensor, power: Tensor) -> Tensor:
    return (error / power).mean(-1)


def _vrmse(error: Tensor, variance: Tensor) -> Tensor:
    return (error / variance).sqrt().mean(-1)


def _skill(error: Tensor, baseline: Tensor) -> Tensor:
    return skill(error.mean(-1), baseline.mean(-1))
