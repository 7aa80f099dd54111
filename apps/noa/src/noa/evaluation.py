"""What a trained surrogate is worth on trajectories it never saw.

Everything is in normalised units: each channel less the training split's mean, over its standard
deviation. The baseline `zero` is therefore that mean.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from nops_diagnostics import (
    CorrelationTime,
    Estimate,
    RolloutScores,
    ShuffleRatio,
    correlation_time,
    diversity_ratio,
    lead_mean,
    rollout_scores,
    shuffle_ratio,
)
from nops_models import UAFNO
from nops_physics import Domain, derive_seed, sobol_parameters
from torch import Tensor

CORRELATION_THRESHOLD = 0.8
SHUFFLED = ("parameters", "initial")

Rollout = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of a rollout, and what the report shows of it.

    Attributes:
        scores: Per lead time, every lead.
        lead_times: Those that tables show.
        shuffles: By shuffled input (`parameters`, `initial`): error with it deranged over error.
        diversity: Per lead, variance over parameters at fixed initial field, model over truth;
            None where no solver is at hand or nothing varies.
        correlation: When the mean correlation falls below 0.8, and its curve.
        frame_interval: Physical time between frames.
        shown: What each trajectory of the pictures is chosen for, and its place in the split.
        pred: Rollouts of those trajectories, normalised `[sample, time, channel, *grid]`.
        target: Their truth.
    """

    scores: RolloutScores
    lead_times: tuple[int, ...]
    shuffles: dict[str, ShuffleRatio]
    diversity: Tensor | None
    correlation: CorrelationTime
    frame_interval: float
    shown: dict[str, int]
    pred: Tensor
    target: Tensor

    def as_plain(self) -> dict[str, Any]:
        """Tensors, numbers, strings, lists and dictionaries, to be stored beside the run."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Evaluation":
        """The evaluation that `as_plain` gave."""
        scores = plain["scores"]
        rebuilt = RolloutScores(
            **{
                **scores,
                "metrics": _estimates(scores["metrics"]),
                "skill": _estimates(scores["skill"]),
                "baselines": {k: _estimates(v) for k, v in scores["baselines"].items()},
            }
        )
        shuffles = {
            name: ShuffleRatio(**{**value, "ratio": Estimate(**value["ratio"])})
            for name, value in plain["shuffles"].items()
        }
        correlation = CorrelationTime(**plain["correlation"])
        changed = {"scores": rebuilt, "shuffles": shuffles, "correlation": correlation}
        return cls(**{**plain, **changed})

    def summary(self) -> dict[str, Any]:
        """Figures for `summary.json`, by lead time."""
        rows = {}
        for lead in self.lead_times:
            row = self.scores.at(lead)
            row |= {f"{name}_shuffle": s.ratio[lead - 1] for name, s in self.shuffles.items()}
            if self.diversity is not None:
                row["diversity"] = float(self.diversity[lead - 1])
            rows[str(lead)] = {
                key: value.as_dict() if isinstance(value, Estimate) else value
                for key, value in row.items()
                if key != "lead"
            }
        return {"lead": rows, "correlation_time": float(self.correlation.time)}


def _estimates(plain: dict[str, dict[str, Tensor]]) -> dict[str, Estimate]:
    return {name: Estimate(**value) for name, value in plain.items()}


def batched_rollout(model: UAFNO, *, num_steps: int, batch_size: int) -> Rollout:
    """The model's rollout, batch by batch, the result on the CPU."""
    device = next(model.parameters()).device

    def rollout(initial: Tensor, parameters: Tensor) -> Tensor:
        parts = zip(initial.split(batch_size), parameters.split(batch_size), strict=True)
        with torch.no_grad():
            return torch.cat(
                [
                    model.rollout(u.to(device), p.to(device), num_steps=num_steps).cpu()
                    for u, p in parts
                ]
            )

    return rollout


def collect(batches: Iterable[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """All `frames` and `parameters` of a source of batches."""
    frames, parameters = [], []
    for batch in batches:
        frames.append(batch["frames"])
        parameters.append(batch["parameters"])
    return torch.cat(frames), torch.cat(parameters)


def train_mean(batches: Iterable[dict[str, Tensor]], *, spatial_dims: int) -> Tensor:
    """Mean of the training trajectories per lead time and channel."""
    total, count = None, 0
    for batch in batches:
        target = batch["frames"][:, 1:]
        part = lead_mean(target, spatial_dims=spatial_dims) * len(target)
        total, count = part if total is None else total + part, count + len(target)
    assert total is not None
    return total / count


def evaluate_model(
    model: UAFNO,
    *,
    frames: Tensor,
    parameters: Tensor,
    mean: Tensor,
    lead_times: tuple[int, ...],
    frame_interval: float,
    bootstrap: int,
    batch_size: int,
    probe: tuple[Tensor, Tensor] | None,
    pred: Tensor | None = None,
    noise_floor: Tensor | None = None,
) -> Evaluation:
    """Roll out from every initial field and score it.

    Args:
        model: The surrogate, already in eval mode.
        frames: Held-out trajectories, normalised, `[sample, time + 1, channel, *grid]`.
        parameters: Their parameters in the unit cube.
        mean: From `train_mean`.
        lead_times: Those that tables show.
        frame_interval: Physical time between frames.
        bootstrap: Resamples behind each interval.
        batch_size: Trajectories rolled out at a time.
        probe: From `probe_set`, normalised; None leaves the diversity out.
        pred: The rollouts, if at hand; made here if None.
        noise_floor: From `noise_floor`, a further baseline; None where the truth has no noise.
    """
    initial, target = frames[:, 0], frames[:, 1:]
    spatial_dims = frames.ndim - 3
    rollout = batched_rollout(model, num_steps=target.shape[1], batch_size=batch_size)
    pred = rollout(initial, parameters) if pred is None else pred
    shown = choose_shown(pred, target)
    options: dict[str, Any] = {"spatial_dims": spatial_dims, "bootstrap": bootstrap}
    shuffled: list[Any] = [
        name
        for name, given in zip(SHUFFLED, (parameters, initial), strict=True)
        if given.numel() and len(given) > 1 and bool((given != given[:1]).any())
    ]
    return Evaluation(
        scores=rollout_scores(
            pred, target, initial=initial, mean=mean, noise_floor=noise_floor, **options
        ),
        lead_times=lead_times,
        shuffles={
            name: shuffle_ratio(
                rollout, initial, parameters, target, shuffle=name, pred=pred, **options
            )
            for name in shuffled
        },
        diversity=None if probe is None else _diversity(model, probe, batch_size=batch_size),
        correlation=correlation_time(
            pred,
            target,
            frame_interval=frame_interval,
            threshold=CORRELATION_THRESHOLD,
            **options,
        ),
        frame_interval=frame_interval,
        shown=shown,
        pred=pred[list(shown.values())],
        target=target[list(shown.values())],
    )


def choose_shown(pred: Tensor, target: Tensor) -> dict[str, int]:
    """Trajectories to draw: a typical one that has not become uniform, and the worst.

    Returns:
        Places along the sample axis, by what they are chosen for.
    """
    error = (pred - target).square().flatten(1).mean(1)
    structure = target[:, -1].flatten(2).var(2).mean(1)
    lively = (structure >= structure.median()).nonzero().flatten()
    ranked = lively[error[lively].argsort()]
    return {
        "median error among the half with most structure at the end": int(ranked[len(ranked) // 2]),
        "largest error of all": int(error.argmax()),
    }


def probe_set(
    domain: Domain, *, sizes: tuple[int, int], num_steps: int, seed: int, skip: int
) -> tuple[Tensor, Tensor]:
    """Trajectories of a few initial fields, each under the same parameter sets, none of them trained on.

    Args:
        domain: The dynamics.
        sizes: Numbers of initial fields and of parameter sets.
        num_steps: Frames after the initial one.
        seed: Of the initial fields.
        skip: Parameter sets that are in use already.

    Returns:
        Frames `[initial, parameters, num_steps + 1, channel, *grid]` and parameter sets `[parameters, P]`.
    """
    initials, parameters = sizes
    theta = sobol_parameters(parameters, num_parameters=len(domain.parameters), skip=skip)
    seeds = [derive_seed("probe", seed, index) for index in range(initials)]
    initial = domain.initial(initials, seed=seeds).repeat_interleave(parameters, 0)
    frames = domain.trajectory(initial, theta.repeat(initials, 1), num_steps=num_steps)
    return frames.unflatten(0, sizes), theta.float()


def _diversity(model: UAFNO, probe: tuple[Tensor, Tensor], *, batch_size: int) -> Tensor:
    frames, parameters = probe
    target = frames[:, :, 1:]
    rollout = batched_rollout(model, num_steps=target.shape[2], batch_size=batch_size)
    pred = rollout(frames[:, :, 0].flatten(0, 1), parameters.repeat(len(frames), 1))
    return diversity_ratio(
        pred.unflatten(0, frames.shape[:2]), target, spatial_dims=frames.ndim - 4
    )
