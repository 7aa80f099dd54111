"""Is a surrogate fit for tokens? Everything that the diagnosis measures, on a model's own rollouts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from nops_diagnostics import AlignmentReport, alignment_report
from nops_losses import sample_steps
from nops_models import UAFNO
from torch import Tensor

from noa.evaluation import Evaluation, batched_rollout, evaluate_model
from noa.readings import Tokeniser, check_finite, clips_of, code_counts, read

STEPS = 10  # of a clip, at which the projection is asked for
BASELINES = ("persistence", "mean")

Projector = Callable[[Tensor], Tensor]  # features [B, F, h, w] to latents [B, D]
ToData = Callable[[Tensor], Tensor]  # normalised fields to the data's units


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The verdict, and what it rests on.

    Attributes:
        report: Four sections, four gates.
        evaluation: Of the same rollouts against the truth.
        counts: How often each code stands for the rollouts, by quantizer.
        truth: The same of the truth.
    """

    report: AlignmentReport
    evaluation: Evaluation
    counts: dict[str, Tensor]
    truth: dict[str, Tensor]


def diagnose_model(
    model: UAFNO,
    vocabulary: Tokeniser,
    *,
    projector: Projector | None,
    frames: Tensor,
    parameters: Tensor,
    mean: Tensor,
    probe: tuple[Tensor, Tensor],
    to_data: ToData,
    batch_size: int,
    bootstrap: int = 1000,
    frame_interval: float = 1.0,
    seed: int = 0,
) -> Diagnosis:
    """Roll out from every initial field, read the rollouts' tokens, and grade both.

    Args:
        model: The surrogate, in eval mode.
        vocabulary: That reads the fields in the data's units.
        projector: From the model's bottleneck to all latents side by side, in eval mode; None where none
            was trained.
        frames: Held-out trajectories, normalised, `[sample, time + 1, channel, height, width]`.
        parameters: Theirs, in the unit cube.
        mean: Of the training trajectories per lead and channel, from `train_mean`.
        probe: From `probe_set`, normalised, as many steps.
        to_data: From normalised fields to the data's units.
        batch_size: Trajectories at a time.
        bootstrap: Resamples behind each interval.
        frame_interval: Physical time between frames.
        seed: Of the shuffles.

    Raises:
        CheckFailed: If a rollout is not finite: there is nothing to read.
        ValueError: If all samples share their parameters, or shapes do not fit.
    """
    initial, target = frames[:, 0], frames[:, 1:]
    num_steps = target.shape[1]
    pred = batched_rollout(model, num_steps=num_steps, batch_size=batch_size)(initial, parameters)
    check_finite(pred)
    leads = tuple(sorted({max(1, num_steps // 2), num_steps}))
    evaluation = evaluate_model(
        model,
        frames=frames,
        parameters=parameters,
        mean=mean,
        lead_times=leads,
        frame_interval=frame_interval,
        bootstrap=bootstrap,
        batch_size=batch_size,
        probe=probe,
        pred=pred,
    )
    if "parameters" not in evaluation.shuffles or evaluation.diversity is None:
        raise ValueError("all trajectories share their parameters: nothing tells if they matter.")
    model_reads, truth = (
        read(vocabulary, to_data(values), to_data(initial)) for values in (pred, target)
    )
    before = torch.cat(
        [initial[:, None], pred[:, :-1]], dim=1
    )  # the states that frames are made of
    report = alignment_report(
        reconstruction={name: error.mean().item() for name, error in model_reads.errors.items()},
        indices=model_reads.tokens,
        num_codes=vocabulary.num_codes,
        projected=_projected(model, projector, before, parameters, vocabulary, batch_size),
        latent=model_reads.latents,
        skill={name: _skill(evaluation, name, leads) for name in BASELINES},
        theta_shuffle=float(evaluation.shuffles["parameters"].ratio.value[-1]),
        diversity=float(evaluation.diversity[-1]),
        seed=seed,
    )
    return Diagnosis(
        report=report,
        evaluation=evaluation,
        counts=code_counts(vocabulary, model_reads),
        truth=code_counts(vocabulary, truth),
    )


def _skill(evaluation: Evaluation, baseline: str, leads: Sequence[int]) -> list[float]:
    value = evaluation.scores.skill[baseline].value
    return [float(value[lead - 1]) for lead in leads]


def _projected(
    model: UAFNO,
    projector: Projector | None,
    states: Tensor,
    parameters: Tensor,
    vocabulary: Tokeniser,
    batch_size: int,
) -> Tensor | None:
    """Projections `[clip, step, D]` of the bottleneck at some steps of each clip, as `read` orders them."""
    if projector is None:
        return None
    length = vocabulary.clip_length
    steps = sample_steps(length, min(STEPS, length))
    parts = []
    for clip in clips_of(states, length=length):
        batches = clip[:, steps].split(batch_size), parameters.split(batch_size)
        parts += [_project(model, projector, *pair) for pair in zip(*batches, strict=True)]
    return torch.cat(parts)


@torch.no_grad()
def _project(model: UAFNO, projector: Projector, states: Tensor, theta: Tensor) -> Tensor:
    """Of `states [B, step, channel, height, width]`."""
    device = next(model.parameters()).device
    repeated = theta.repeat_interleave(states.shape[1], 0).to(device)
    flat: Any = states.flatten(0, 1).to(device)
    features = model.get_intermediate_features(flat, "bottleneck", parameters=repeated)
    return projector(features).unflatten(0, states.shape[:2]).cpu()
