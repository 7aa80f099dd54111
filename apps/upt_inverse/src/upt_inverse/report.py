"""The report of one run, and the comparison of several."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from nops_diagnostics import (
    Report,
    plot_correlation,
    plot_decoded_errors,
    plot_profiles,
    plot_rollout,
    plot_training,
)
from nops_train import (
    CurriculumConfig,
    InputError,
    Invocation,
    RunFolder,
    load_run_config,
    read_events,
    report_each,
)
from rich.console import Console
from rich.table import Table

from upt_inverse.config import UptConfig
from upt_inverse.evaluation import INITIAL, PREVIOUS, THRESHOLD, Evaluation

EVALUATION = "evaluation.pt"
COLUMNS = {
    "lead": "step",
    "latent": "latent rollout",
    "image": "image rollout",
    "one_step": "one step",
    "reconstruction": "reconstruction",
    INITIAL: "initial state held",
    PREVIOUS: "true state before",
    "zero": "zero",
}
REACH = (
    "Parts of the model that a term's gradient reaches in this run: E the encoder, A the "
    "approximator, G the decoder. A term that reached none would have stopped the run."
)


def store_evaluation(run: RunFolder, evaluation: Evaluation, facts: Mapping[str, Any]) -> None:
    """Keep what the report needs beside the run, and the figures as `metrics.json`."""
    write_json(run.path / "metrics.json", evaluation.as_metrics())
    part = run.path / f"{EVALUATION}.part"
    torch.save({"evaluation": evaluation.as_plain(), "facts": dict(facts)}, part)
    part.replace(run.path / EVALUATION)


def load_evaluation(run: RunFolder) -> tuple[Evaluation, dict[str, Any]]:
    """What `store_evaluation` kept.

    Raises:
        InputError: If the run was not evaluated yet, or the file is damaged.
    """
    path, again = run.path / EVALUATION, f"`upt-inverse evaluate {run.path}`"
    if not path.is_file():
        raise InputError(f"{run.path}: not evaluated yet; {again} does it")
    try:
        plain = torch.load(path, weights_only=True)
        return Evaluation.from_plain(plain["evaluation"]), plain["facts"]
    except Exception as error:
        raise InputError(f"{path}: cannot be read ({error}); {again} writes it anew") from error


def report_runs(call: Invocation) -> None:
    """Write reports again: of runs, and of studies."""
    from upt_inverse.ablation import report_study

    report_each(call, run=write_report, study=report_study)


def print_errors(evaluation: Evaluation) -> None:
    """The table that a run ends with, in the terminal."""
    table = Table(title="nRMSE of decoded fields on held-out trajectories, in the data's units")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    for row in evaluation.errors.rows():
        table.add_row(*(_cell(row[name]) for name in COLUMNS))
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, str | int):
        return str(value)
    return f"{float(value.value):.3f}"


def write_report(run: RunFolder) -> Path:
    """The report of one evaluated run."""
    evaluation, facts = load_evaluation(run)
    config = load_run_config(UptConfig, run.path)
    report = Report("UPT with inverse losses", f"{run.name} · {_subject(config)}")
    _verdict(report, evaluation)
    report.add_facts(_facts(run, evaluation, facts))
    _errors_section(report, evaluation)
    _pictures_section(report, evaluation)
    _terms_section(report, run, config, facts)
    report.add_section("The run")
    report.add_text(_data_text(config))
    report.add_config(run.config)
    report.add_machine()
    return report.write(run.report, plots=run.plots)


def _subject(config: UptConfig) -> str:
    data = config.data
    return f"{data.pde.replace('_', ' ')}, {' × '.join(map(str, data.shape))}"


def _verdict(report: Report, evaluation: Evaluation) -> None:
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
        report.add_verdict("The latent rollout beats both kinds of persistence.", details=details)
    elif beaten:
        text = f"The latent rollout beats “{COLUMNS[beaten[0]]}” alone."
        report.add_verdict(text, level="warning", details=details)
    else:
        report.add_verdict("Doing nothing is better than this.", level="bad", details=details)


def _overtaking(lead: int | None) -> str:
    return "never ahead" if lead is None else f"first ahead at step {lead}"


def _facts(run: RunFolder, evaluation: Evaluation, facts: Mapping[str, Any]) -> dict[str, Any]:
    summary = run.summary()
    until = {
        f"correlation above {THRESHOLD} until, {name}": float(held[THRESHOLD].time)
        for name, held in evaluation.correlations.items()
    }
    seconds, steps = summary.get("seconds"), summary.get("steps")
    shown = {
        "trajectories scored": evaluation.errors.num_samples,
        "model parameters": facts["num_parameters"],
        "optimizer steps": steps,
        "training, s": seconds,
        "steps per s": steps / seconds if steps and seconds else None,
        "peak memory, MiB": (summary.get("peak_memory_bytes") or 0) / 2**20,
        "forecast of a step, MiB": facts.get("predicted_memory", 0) / 2**20 or None,
        f"the same of all {facts['points']} points, MiB": facts.get(
            "predicted_memory_of_all_points", 0
        )
        / 2**20
        or None,
        **until,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _errors_section(report: Report, evaluation: Evaluation) -> None:
    report.add_section("Error over time")
    report.add_text(
        "nRMSE: root mean squared error over the root mean square of the truth, per trajectory, "
        "channel and time, then averaged; zero has exactly 1. Rollouts are free: they see the "
        "start and nothing of what follows. `latent` encodes once, steps tokens and decodes; "
        "`image` decodes and encodes again at each step. One-step predictions start from the true "
        "state before. Reconstruction encodes and decodes the truth itself. The true state before "
        "is a baseline that no rollout ever sees, so it is a hard one."
    )
    report.add_figure(
        plot_decoded_errors(evaluation.errors, frame_interval=evaluation.frame_interval),
        name="errors",
        caption="nRMSE per step with 95 % bootstraps over trajectories; baselines are broken lines.",
    )
    report.add_table(evaluation.errors.rows(), caption="nRMSE per step", columns=COLUMNS)
    report.add_figure(
        plot_correlation(
            {name: held[THRESHOLD] for name, held in evaluation.correlations.items()},
            frame_interval=evaluation.frame_interval,
            threshold=THRESHOLD,
        ),
        name="correlation",
        caption=f"Correlation with the truth, mean over channels, and when it falls below {THRESHOLD}.",
    )
    rows = [{"rollout": name, **held} for name, held in evaluation.extra.items()]
    report.add_table(
        rows,
        caption="Over all steps, in the data's units: error of the mean, at the border, the "
        "largest, and in bands of wave numbers below 4, below 12 and above",
    )


def _pictures_section(report: Report, evaluation: Evaluation) -> None:
    report.add_section("Fields")
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
            name="profiles",
            caption=f"The first test trajectory, channel `{channel}`: truth and free rollouts.",
        )
        return
    for name, values in evaluation.rollouts.items():
        pair = [_plane(frames[0, :, 0]) for frames in (values, evaluation.truth)]
        report.add_figure(
            plot_rollout(*pair, lead_times=leads, field_name=channel),
            name=f"rollout_{name}",
            caption=f"The first test trajectory, channel `{channel}`, {name} rollout"
            + (": the middle plane of the last axis." if ndim == 3 else "."),
        )


def _plane(frames: torch.Tensor) -> torch.Tensor:
    return frames if frames.ndim == 3 else frames[..., frames.shape[-1] // 2]


def _terms_section(
    report: Report, run: RunFolder, config: UptConfig, facts: Mapping[str, Any]
) -> None:
    report.add_section("Terms and training")
    weights, reach = config.loss.weights(), facts["reach"]
    rows = [
        {"term": term, "base weight": weight, "reaches": " ".join(reach[term])}
        for term, weight in weights.items()
    ]
    report.add_text(REACH)
    report.add_table(rows, caption="What each term trains")
    report.add_text(_schedule_text(config))
    report.add_figure(
        plot_training(read_events(run.path)),
        name="training",
        caption="Raw terms, their weights and weighted values; validation; learning rate; norm of "
        "the gradient. Thin lines are single steps, thick ones means of an epoch.",
    )


def _schedule_text(config: UptConfig) -> str:
    rule = config.weighting
    if isinstance(rule, CurriculumConfig):
        cap = "no cap" if rule.cap is None else f"at most {rule.cap:g} each"
        return (
            f"{' and '.join(rule.ramped)} have weight 0 up to {rule.unit} {rule.delay:g} and their full "
            f"weight {rule.ramp:g} {rule.unit}s later ({rule.shape}), {cap}, at every {rule.every}. step."
        )
    options = ", ".join(f"{name} = {value}" for name, value in rule.options().items())
    if rule.kind == "constant":
        return "Weights are constant."
    return f"Weights follow the rule `{rule.kind}`{f': {options}' if options else ''}."


def _data_text(config: UptConfig) -> str:
    data = config.data
    return (
        f"`{data.path}`: {data.num_train} trajectories to train on, {data.num_valid} to validate "
        f"on, {data.num_test} held out, {data.num_steps} steps each, {data.dt:g} apart."
    )


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """An object of plain values, written at once; what is not finite is null."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(_finite(values), indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value
