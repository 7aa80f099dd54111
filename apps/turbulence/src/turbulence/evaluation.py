"""What a trained emulator is worth on trajectories it never saw.

Errors, correlation and stability are in units of training (each channel less its mean, over its
deviation); fields that are kept for pictures and spectra are in the data's units.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from nops_diagnostics import (
    CorrelationTime,
    Estimate,
    LeadErrors,
    TemporalStability,
    correlation_time,
    lead_errors,
    temporal_stability,
)
from nops_models import StepModel
from torch import Tensor

from turbulence.build import Bundle
from turbulence.config import TurbulenceConfig

THRESHOLD = 0.8  # of the correlation time
SHOWN = 8  # rollouts kept for pictures and spectra
Window = Literal["none", "hann", "tukey"]
PERSISTENCE, INDEPENDENT = "persistence", "independent frame"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of rollouts beside the baselines, and what the report draws.

    Attributes:
        errors: Field and log-spectrum error per lead: the `model`, `persistence`, and, with two
            trajectories at least, the `independent frame` (the truth of another trajectory).
        correlation: When the mean correlation with the truth falls below 0.8, and its curve.
        persistence: The same of persistence.
        stability: How fast rollouts change, beside the truth.
        lead_window: First and last lead that the headline figures average.
        frame_interval: Time between frames.
        lengths: Extent of the domain along each axis.
        window: That spectra are taken with: `none` on a periodic domain.
        channels: Their names.
        pred: Some rollouts `[sample, time, channel, height, width]`, in the data's units.
        target: Their truth.
    """

    errors: dict[str, LeadErrors]
    correlation: CorrelationTime
    persistence: CorrelationTime
    stability: TemporalStability
    lead_window: tuple[int, int]
    frame_interval: float
    lengths: tuple[float, ...]
    channels: tuple[str, ...]
    pred: Tensor
    target: Tensor
    window: Window = "none"

    def as_plain(self) -> dict[str, Any]:
        """Tensors, numbers, strings, lists and dictionaries, to be stored beside the run."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Evaluation":
        """The evaluation that `as_plain` gave."""
        rebuilt = {
            "errors": {
                name: LeadErrors(**{part: Estimate(**held) for part, held in parts.items()})
                for name, parts in plain["errors"].items()
            },
            "correlation": CorrelationTime(**plain["correlation"]),
            "persistence": CorrelationTime(**plain["persistence"]),
            "stability": TemporalStability(**plain["stability"]),
        }
        return cls(**{**plain, **rebuilt})

    def figures(self, name: str = "model") -> dict[str, float]:
        """Headline figures of the model or of a baseline, dimensionless."""
        errors, (first, last) = self.errors[name], self.lead_window
        window = slice(first - 1, last)
        return {
            "field_error": float(errors.field.value[window].mean()),
            "log_spectrum_error": float(errors.spectrum.value[window].mean()),
            "one_step_field_error": float(errors.field.value[0]),
            "one_step_log_spectrum_error": float(errors.spectrum.value[0]),
        }

    def summary(self) -> dict[str, float]:
        """The model's figures for `summary.json`."""
        stable = float(self.stability.stable_fraction[-1])
        own = {"correlation_time": float(self.correlation.time), "stable_fraction": stable}
        return {**self.figures(), **own}


def evaluate_model(config: TurbulenceConfig, bundle: Bundle, model: StepModel) -> Evaluation:
    """Roll out from every stretch of every test trajectory and score it.

    Args:
        config: Of the run.
        bundle: Of its data.
        model: The emulator, with the weights to be scored.
    """
    history, target, parameters, repeats = _test_set(config, bundle)
    model.eval()
    pred = _rollout(model, history, parameters, config)
    if bundle.domain.mask is not None:  # cells in an obstacle are nobody's error
        pred = pred.where(bundle.domain.mask, target)
    options: dict[str, Any] = {"bootstrap": config.evaluate.bootstrap}
    rivals = {"model": pred, PERSISTENCE: history[:, -1:].expand_as(target)}
    if len(target) > repeats:
        rivals[INDEPENDENT] = target.roll(repeats, dims=0)
    interval = bundle.frame_interval
    times = {"frame_interval": interval, "threshold": THRESHOLD, **options}
    back = bundle.normaliser.denormalise
    window = spectra_window(config, bundle)
    spectra = {"lengths": bundle.domain.lengths, "window": window, **options}
    return Evaluation(
        errors={name: lead_errors(rival, target, **spectra) for name, rival in rivals.items()},
        correlation=correlation_time(pred, target, **times),
        persistence=correlation_time(rivals[PERSISTENCE], target, **times),
        stability=temporal_stability(pred, target, frame_interval=interval),
        lead_window=config.evaluate.lead_window,
        frame_interval=interval,
        lengths=bundle.domain.lengths,
        channels=bundle.channels,
        pred=back(pred[:SHOWN]),
        target=back(target[:SHOWN]),
        window=window,
    )


def spectra_window(config: TurbulenceConfig, bundle: Bundle) -> Window:
    """None on a periodic domain; else that of the loss, or Hann's where it names none."""
    if all(bundle.domain.periodic):
        return "none"
    named = config.loss.spectrum_options.window
    return "hann" if named == "none" else named


def _test_set(config: TurbulenceConfig, bundle: Bundle) -> tuple[Tensor, Tensor, Tensor, int]:
    """Frames to start from, truths and parameters of all rollouts, and rollouts per trajectory.

    Rollouts of one trajectory follow each other in it without overlap, and in the result too.
    """
    reader, steps, given = bundle.test, config.evaluate.rollout, config.model.previous_frames
    frames, parameters, starts = [], [], []
    for sample in range(config.data.num_test):
        starts = list(range(0, config.data.num_steps - given - steps + 2, steps))
        for start in starts:
            frames.append(reader.read(sample, start=start, stop=start + given + steps))
            parameters.append(reader.parameters[sample, list(bundle.parameters)])
    normalised = bundle.normaliser.normalise(torch.stack(frames))
    return normalised[:, :given], normalised[:, given:], torch.stack(parameters), len(starts)


def _rollout(
    model: StepModel, history: Tensor, parameters: Tensor, config: TurbulenceConfig
) -> Tensor:
    """The model's rollouts, batch by batch, on the CPU."""
    return torch.cat(list(_parts(model, history, parameters, config)))


def _parts(
    model: StepModel, history: Tensor, parameters: Tensor, config: TurbulenceConfig
) -> Iterator[Tensor]:
    device, size = next(model.parameters()).device, config.train.batch_size
    for frames, given in zip(history.split(size), parameters.split(size), strict=True):
        theta = given.to(device) if given.shape[1] else None
        with torch.no_grad():
            pred = model.rollout(
                model.state_of(frames).to(device), theta, num_steps=config.evaluate.rollout
            )
        yield pred.cpu()
