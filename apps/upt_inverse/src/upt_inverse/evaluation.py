"""What a trained model is worth on trajectories it never saw, in the data's units."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from nops_diagnostics import (
    CorrelationTime,
    DecodedErrors,
    Estimate,
    brmse,
    correlation_times,
    crmse,
    decoded_errors,
    frmse,
    max_error,
    nrmse,
    rollout_errors,
)
from torch import Tensor

from upt_inverse.build import Bundle, build_forecaster
from upt_inverse.config import UptConfig
from upt_inverse.states import States

THRESHOLD = 0.8  # of the correlation time
SHOWN = 4  # trajectories kept for pictures
INITIAL, PREVIOUS = "persistence", "previous_truth"
BASELINES = ("zero", INITIAL, PREVIOUS, "mean")
ROLLOUTS = ("latent", "image")
MAP = "operator"  # of a steady equation: one step, what is given to the answer
BANDS = ("low", "middle", "high")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of free rollouts and single steps beside the baselines, and what the report draws.

    Attributes:
        errors: nRMSE per lead of `latent` and `image` rollouts, of `one_step` predictions from true
            states, and of the baselines: `zero`, `persistence` (the initial state), `previous_truth`
            (the true state before, which no rollout sees) and `reconstruction` (no step in time). Of
            a steady equation: of `operator`, the one step, and of `zero`, `mean` (of the training
            answers, cell by cell) and `reconstruction`.
        correlations: By rollout, then by threshold.
        extra: Further measures of each rollout over all leads, by name; those of errors in the data's
            unit.
        frame_interval: Time between frames.
        history: States that the model starts from.
        channels: Their names.
        origin: Coordinates of the first cell.
        spacing: Distance between neighbours.
        truth: Some trajectories `[sample, time, channel, *grid]`, leads only.
        rollouts: The same of each rollout.
    """

    errors: DecodedErrors
    correlations: dict[str, dict[float, CorrelationTime]]
    extra: dict[str, dict[str, float]]
    frame_interval: float
    history: int
    channels: tuple[str, ...]
    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    truth: Tensor
    rollouts: dict[str, Tensor]

    def as_plain(self) -> dict[str, Any]:
        """Tensors, numbers, strings, lists and dictionaries, to be stored beside the run."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Evaluation":
        """The evaluation that `as_plain` gave."""
        errors = dict(plain["errors"])
        for part in ("per_lead", "horizon"):
            errors[part] = {name: Estimate(**held) for name, held in errors[part].items()}
        correlations = {
            name: {level: CorrelationTime(**held) for level, held in levels.items()}
            for name, levels in plain["correlations"].items()
        }
        return cls(**{**plain, "errors": DecodedErrors(**errors), "correlations": correlations})

    @property
    def steady(self) -> bool:
        """Whether it is of a map without time."""
        return MAP in self.errors.predictions

    @property
    def main(self) -> str:
        """The prediction that a run is judged by."""
        return MAP if self.steady else "latent"

    def horizon(self, name: str) -> float:
        """NRMSE over all leads of a prediction or baseline."""
        return float(self.errors.horizon[name].value)

    def summary(self) -> dict[str, float]:
        """The model's figures for `summary.json`."""
        found = {f"{name}_nrmse": self.horizon(name) for name in self.errors.predictions}
        found["reconstruction_nrmse"] = self.horizon("reconstruction")
        for name, levels in self.correlations.items():
            found[f"{name}_correlation_time"] = float(levels[THRESHOLD].time)
        return found

    def baselines(self) -> dict[str, float]:
        """NRMSE over all leads of what is no model."""
        found = (name for name in BASELINES if name in self.errors.horizon)
        return {f"{name}_nrmse": self.horizon(name) for name in found}

    def as_metrics(self) -> dict[str, Any]:
        """Everything but pictures, in plain values, for `metrics.json`."""
        correlations = {
            name: {str(level): float(held.time) for level, held in levels.items()}
            for name, levels in self.correlations.items()
        }
        return {
            **self.errors.as_dict(),
            "correlation_times": correlations,
            "extra": self.extra,
            "frame_interval": self.frame_interval,
        }


def evaluate_model(config: UptConfig, bundle: Bundle, model: Any) -> Evaluation:
    """Roll out from the start of every test trajectory, and score it.

    Args:
        config: Of the run.
        bundle: Of its data.
        model: With the weights to be scored.
    """
    model.eval()
    forecaster, steps = (
        build_forecaster(config, bundle, model),
        config.frames - config.model.history,
    )
    back, judged = bundle.normaliser.denormalise, list(bundle.judged)

    def predictions(states: States) -> dict[str, Tensor]:
        single = {"reconstruction": forecaster.reconstructions(states)}
        if config.data.steady:
            return {MAP: forecaster.single_steps(states), **single}
        return {
            "latent": forecaster.rollout(states, steps=steps),
            "image": forecaster.rollout(states, steps=steps, mode="image"),
            "one_step": forecaster.single_steps(states),
            **single,
        }

    def physical(values: Tensor) -> Tensor:
        return forecaster.frames(back(values.float(), channel_dim=-1)).cpu()[:, :, judged]

    found = _collected(bundle, model, forecaster.states, predictions, physical)
    return _scored(config, bundle, found)


def _scored(config: UptConfig, bundle: Bundle, found: dict[str, Tensor]) -> Evaluation:
    """Scores of predictions, beside `truth` and `reconstruction`, `[sample, time, channel, *grid]`."""
    ndim, history = len(bundle.geometry.shape), config.model.history
    resamples: Any = {"bootstrap": config.evaluate.bootstrap}
    truth, reconstruction = found.pop("truth"), found.pop("reconstruction")
    target, judged = truth[:, history:], list(bundle.judged)
    shown = [name for name in found if name != "one_step"]
    rivals: dict[str, Any] = {"reconstruction": reconstruction, "previous_truth": True}
    if bundle.mean is not None:
        rivals |= {"mean": bundle.mean[:, judged], "previous_truth": False}
    errors = {
        name: rollout_errors(
            pred, target, initial=truth[:, history - 1], spatial_dims=ndim, **rivals
        )
        for name, pred in found.items()
    }
    options = {"spatial_dims": ndim, "frame_interval": bundle.frame_interval, "channels": "mean"}
    scores = decoded_errors(errors, **resamples)
    return Evaluation(
        errors=_without_start(scores) if config.data.steady else scores,
        correlations={
            name: correlation_times(found[name], target, **options, **resamples)
            for name in ROLLOUTS
            if name in found
        },
        extra={name: _further(found[name], target, ndim) for name in shown},
        frame_interval=bundle.frame_interval,
        history=history,
        channels=tuple(bundle.channels[place] for place in judged),
        origin=bundle.geometry.origin,
        spacing=bundle.geometry.spacing,
        truth=target[:SHOWN],
        rollouts={name: found[name][:SHOWN] for name in shown},
    )


def _without_start(errors: DecodedErrors) -> DecodedErrors:
    """Without the initial state held: a map starts from rest, which is no forecast of its answer."""
    kept = {
        part: {name: held for name, held in getattr(errors, part).items() if name != INITIAL}
        for part in ("per_lead", "horizon")
    }
    return replace(errors, **kept)


def _collected(
    bundle: Bundle,
    model: torch.nn.Module,
    states_of: Callable[..., States],
    predictions: Callable[[States], dict[str, Tensor]],
    physical: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    """Predictions and truth of the test split, batch by batch, on the CPU."""
    device, parts = next(model.parameters()).device, []
    with torch.no_grad():
        for batch in bundle.test.batches(epoch=0):
            names = ("frames", "start", "parameters")
            states = states_of(*(batch[name].to(device) for name in names))
            found = {**predictions(states), "truth": states.values}
            parts.append({name: physical(values) for name, values in found.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _further(pred: Tensor, target: Tensor, ndim: int) -> dict[str, float]:
    """Measures over all leads, as PDEBench has them."""
    bands = frmse(pred, target, spatial_dims=ndim).tolist()
    return {
        "pooled nRMSE": float(nrmse(pred, target, convention="pooled", spatial_dims=ndim)),
        "cRMSE": float(crmse(pred, target, spatial_dims=ndim)),
        "bRMSE": float(brmse(pred, target, spatial_dims=ndim)),
        "max error": float(max_error(pred, target, spatial_dims=ndim)),
        **{f"fRMSE {name}": value for name, value in zip(BANDS, bands, strict=True)},
    }
