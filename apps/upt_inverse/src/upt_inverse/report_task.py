"""What a report says of one task: verdict, errors over time, fields."""

import torch
from nops_diagnostics import (
    Report,
    plot_correlation,
    plot_decoded_errors,
    plot_profiles,
    plot_rollout,
)

from upt_inverse.evaluation import INITIAL, MAP, PREVIOUS, THRESHOLD, Evaluation

COLUMNS = {
    "lead": "step",
    "latent": "latent rollout",
    "image": "image rollout",
    "one_step": "one step",
    MAP: "map",
    "reconstruction": "reconstruction",
    INITIAL: "initial state held",
    PREVIOUS: "true state before",
    "mean": "mean of training",
    "zero": "zero",
}


TEXT_OF_ROLLOUTS = (
    "nRMSE: root mean squared error over the root mean square of the truth, per trajectory, "
    "channel and time, then averaged; zero has exactly 1. Rollouts are free: they see the "
    "start and nothing of what follows. `latent` encodes once, steps tokens and decodes; "
    "`image` decodes and encodes again at each step. One-step predictions start from the true "
    "state before. Reconstruction encodes and decodes the truth itself. The true state before "
    "is a baseline that no rollout ever sees, so it is a hard one."
)
TEXT_OF_MAP = (
    "nRMSE: root mean squared error over the root mean square of the truth, per sample and channel, "
    "then averaged; zero has exactly 1. There is no time: what is given is encoded, stepped once and "
    "decoded. Reconstruction encodes and decodes the truth itself. The mean of training is the same "
    "field for every sample."
)


def columns_of(evaluation: Evaluation) -> dict[str, str]:
    """The columns of an evaluation's table of errors: predictions, then baselines."""
    found = {"lead", *evaluation.errors.per_lead}
    return {name: heading for name, heading in COLUMNS.items() if name in found}


def named(text: str, task: str) -> str:
    """A heading or name of a task's; that of a run of one task is the text alone."""
    return f"{task}: {text}" if task else text


def file_of(stem: str, task: str) -> str:
    """Name of a figure of a task's."""
    return f"{task}_{stem}" if task else stem


def add_verdict(report: Report, evaluation: Evaluation, task: str = "") -> None:
    """Who wins, the model or a baseline."""
    if evaluation.steady:
        _verdict_of_map(report, evaluation, task)
        return
    own = evaluation.horizon("latent")
    rivals = {name: evaluation.horizon(name) for name in (INITIAL, PREVIOUS)}
    beaten = [name for name, error in rivals.items() if own < error]
    first = evaluation.errors.overtaken("latent")
    details = [
        f"Decoded latent rollout, nRMSE over all leads: {own:.3f}; in image mode "
        f"{evaluation.horizon('image'):.3f}.",
        *(
            f"{COLUMNS[name].capitalize()}: {error:.3f}; {_overtaking(first[name])}."
            for name, error in rivals.items()
        ),
    ]
    if len(beaten) == 2:
        text = named("The latent rollout beats both kinds of persistence.", task)
        report.add_verdict(text, details=details)
    elif beaten:
        text = named(f"The latent rollout beats “{COLUMNS[beaten[0]]}” alone.", task)
        report.add_verdict(text, level="warning", details=details)
    else:
        text = named("Doing nothing is better than this.", task)
        report.add_verdict(text, level="bad", details=details)


def _verdict_of_map(report: Report, evaluation: Evaluation, task: str) -> None:
    own, mean = evaluation.horizon(MAP), evaluation.horizon("mean")
    details = [
        f"Map from what is given to the answer, nRMSE: {own:.3f}; zero has 1.",
        f"{COLUMNS['mean'].capitalize()}, cell by cell: {mean:.3f}.",
    ]
    if own < mean:
        text = named("The map beats the mean of the training answers.", task)
        report.add_verdict(text, details=details)
    else:
        text = named("The mean of the training answers is better than this.", task)
        report.add_verdict(text, level="bad", details=details)


def _overtaking(lead: int | None) -> str:
    return "never ahead" if lead is None else f"first ahead at step {lead}"


def add_errors(report: Report, evaluation: Evaluation, task: str = "") -> None:
    """Errors per step beside the baselines."""
    report.add_section(named("Error" if evaluation.steady else "Error over time", task))
    report.add_text(TEXT_OF_MAP if evaluation.steady else TEXT_OF_ROLLOUTS)
    caption = "nRMSE per step with 95 % bootstraps over trajectories; baselines are broken lines."
    if not evaluation.steady:
        figure = plot_decoded_errors(evaluation.errors, frame_interval=evaluation.frame_interval)
        report.add_figure(figure, name=file_of("errors", task), caption=caption)
    columns = columns_of(evaluation)
    report.add_table(evaluation.errors.rows(), caption="nRMSE per step", columns=columns)
    if evaluation.correlations:
        _correlation(report, evaluation, task)
    rows = [{"prediction": name, **held} for name, held in evaluation.extra.items()]
    report.add_table(
        rows,
        caption="Over all steps, in the data's units: error of the mean, at the border, the "
        "largest, and in bands of wave numbers below 4, below 12 and above",
    )


def _correlation(report: Report, evaluation: Evaluation, task: str) -> None:
    held = {name: levels[THRESHOLD] for name, levels in evaluation.correlations.items()}
    figure = plot_correlation(held, frame_interval=evaluation.frame_interval, threshold=THRESHOLD)
    report.add_figure(
        figure,
        name=file_of("correlation", task),
        caption=f"Correlation with the truth, mean over channels, and when it falls below {THRESHOLD}.",
    )


def add_pictures(report: Report, evaluation: Evaluation, task: str = "") -> None:
    """Truth and predictions of the first test trajectory."""
    report.add_section(named("Fields", task))
    ndim, steps = evaluation.truth.ndim - 3, evaluation.truth.shape[1]
    leads = sorted({1, (steps + 1) // 2, steps})
    channel = evaluation.channels[0]
    if ndim == 1:
        shown = {"truth": evaluation.truth, **evaluation.rollouts}
        report.add_figure(
            plot_profiles(
                {name: values[0, :, 0] for name, values in shown.items()},
                lead_times=leads,
                origin=evaluation.origin[0],
                spacing=evaluation.spacing[0],
                field_name=channel,
            ),
            name=file_of("profiles", task),
            caption=f"The first test trajectory, channel `{channel}`: truth and free rollouts.",
        )
        return
    for name, values in evaluation.rollouts.items():
        pair = [_plane(frames[0, :, 0]) for frames in (values, evaluation.truth)]
        report.add_figure(
            plot_rollout(*pair, lead_times=leads, field_name=channel),
            name=file_of(f"rollout_{name}", task),
            caption=f"The first test trajectory, channel `{channel}`, {name}{'' if evaluation.steady else ' rollout'}"
            + (": the middle plane of the last axis." if ndim == 3 else "."),
        )


def _plane(frames: torch.Tensor) -> torch.Tensor:
    return frames if frames.ndim == 3 else frames[..., frames.shape[-1] // 2]
