"""The report of one run, and the comparison of several."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from nops_diagnostics import (
    Report,
    plot_correlation,
    plot_metric,
    plot_rollout,
    plot_skill,
    plot_spectra,
    plot_training,
)
from nops_train import (
    Invocation,
    RunFolder,
    keep_evaluation,
    kept_evaluation,
    read_events,
)
from rich.console import Console
from rich.table import Table

from noa.diagnosis_report import add_diagnosis
from noa.evaluation import CORRELATION_THRESHOLD, Evaluation
from noa.features import FEATURES
from noa.token_report import write_token_report
from noa.token_section import add_token_terms, rival_of
from noa.validation_report import add_tokens

VALIDATION, DIAGNOSIS = "validation.json", "diagnosis.json"
BASELINES = {"persistence": "persistence", "mean": "training mean", "zero": "zero"}
LEADS_SHOWN = (1, 8, 32, 64)


def store_evaluation(run: RunFolder, evaluation: Evaluation, facts: dict[str, Any]) -> None:
    """Keep what the report needs beside the run, so that it can be written without the data."""
    keep_evaluation(run, {"evaluation": evaluation.as_plain(), "facts": facts})


def load_evaluation(run: RunFolder) -> tuple[Evaluation, dict[str, Any]]:
    """What `store_evaluation` kept.

    Raises:
        InputError: If the run was not evaluated yet, or the file is damaged.
    """
    return kept_evaluation(
        run,
        lambda plain: (Evaluation.from_plain(plain["evaluation"]), plain["facts"]),
        again=f"noa validate {run.path}",
    )


def report_runs(call: Invocation) -> None:
    """Write one run's report again, or a comparison beside the first of several."""
    runs = [RunFolder.at(folder) for folder in call.folders]
    if len(runs) == 1 and (runs[0].path / FEATURES).is_file():
        print(f"Report: {write_token_report(runs[0])}")
    elif len(runs) == 1:
        print(f"Report: {write_report(runs[0])}")
    else:
        print(f"Report: {compare_runs(runs)}")


def skill_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One row per reported lead time."""
    rows = []
    for lead in evaluation.lead_times:
        row = evaluation.scores.at(lead)
        row |= {f"{name}_shuffle": s.ratio[lead - 1] for name, s in evaluation.shuffles.items()}
        if evaluation.diversity is not None:
            row["diversity"] = float(evaluation.diversity[lead - 1])
        rows.append(row)
    return rows


COLUMNS = {
    "lead": "lead",
    "nmse": "NMSE",
    "vrmse": "VRMSE",
    "relative_l2": "relative L2",
    "spectrum_error": "spectrum error",
    "skill_persistence": "skill over persistence",
    "skill_mean": "over the mean",
    "skill_zero": "over zero",
    "skill_noise_floor": "over the noise floor",
    "parameters_shuffle": "θ-shuffle",
    "initial_shuffle": "u₀-shuffle",
    "diversity": "diversity",
}


def print_skill(evaluation: Evaluation) -> None:
    """The table that a run ends with, in the terminal."""
    shown = ("lead", "nmse", "skill_persistence", "skill_mean", "skill_noise_floor")
    shown += ("parameters_shuffle", "diversity")
    rows = skill_rows(evaluation)
    columns = [name for name in shown if name in rows[0]]
    table = Table(title="Held-out trajectories, in normalised units")
    for name in columns:
        table.add_column(COLUMNS[name], justify="right")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in columns))
    Console().print(table)


def _cell(value: Any) -> str:
    value = float(getattr(value, "value", value))
    return f"{value:.0f}" if value.is_integer() and value < 1000 and value >= 1 else f"{value:.3f}"


def write_report(run: RunFolder) -> Path:
    """The report of one evaluated run."""
    evaluation, facts = load_evaluation(run)
    summary = run.summary()
    report = Report("Neural operator agents", f"{run.name} · {facts['dynamics']}")
    _verdict(report, evaluation)
    if caution := facts.get("caution"):
        report.add_text(caution)
    report.add_facts(
        {
            "trajectories scored": evaluation.scores.num_samples,
            "model parameters": facts["model_parameters"],
            "optimizer steps": summary.get("steps", "–"),
            "training, s": summary.get("seconds", "–"),
            "peak memory, MiB": summary.get("peak_memory_bytes", 0) / 2**20,
            "correlation above 0.8 until": _until(evaluation),
        }
    )
    _skill_section(report, evaluation)
    _pictures_section(report, evaluation, facts)
    add_token_terms(report, run, evaluation, facts, rival=rival_of(run.config, load_evaluation))
    _token_sections(report, run)
    report.add_section("Training")
    report.add_figure(
        plot_training(read_events(run.path)),
        name="training",
        caption="Raw terms, their weights and weighted values; validation; learning rate; norm of "
        "the gradient. Thin lines are single steps, thick ones means of an epoch.",
    )
    report.add_section("The run")
    report.add_text(facts["data"])
    report.add_config(run.config)
    report.add_machine()
    return report.write(run.report, plots=run.plots)


def _token_sections(report: Report, run: RunFolder) -> None:
    """What the last validation and a diagnosis of the same weights found, where there are any."""
    validation, diagnosis = run.record(VALIDATION), run.record(DIAGNOSIS)
    if validation.get("tokens"):
        add_tokens(report, validation["tokens"])
    if diagnosis and diagnosis["position"] == validation.get("position"):
        add_diagnosis(report, diagnosis)


def _verdict(report: Report, evaluation: Evaluation) -> None:
    names = ("persistence", "mean")
    leads = [evaluation.scores.at(lead) for lead in evaluation.lead_times]
    worst = {name: min(leads, key=lambda row: float(row[f"skill_{name}"].value)) for name in names}
    details = [
        f"Lowest skill over {BASELINES[name]}: {_cell(row[f'skill_{name}'])} at lead {row['lead']}."
        for name, row in worst.items()
    ]
    shuffle = evaluation.shuffles.get("parameters")
    if shuffle is not None:
        last = evaluation.lead_times[-1]
        ratio = _cell(shuffle.ratio[last - 1])
        details.append(
            f"With another trajectory's θ the error is {ratio} times as large (lead {last})."
        )
    if all(float(row[f"skill_{name}"].low) > 0 for name, row in worst.items()):
        headline = "The surrogate beats persistence and the mean at every reported lead time."
        report.add_verdict(headline, level="good", details=details)
    elif all(float(row[f"skill_{name}"].value) > 0 for name, row in worst.items()):
        headline = "The surrogate beats both baselines, at some lead times within the uncertainty."
        report.add_verdict(headline, level="warning", details=details)
    else:
        headline = "A trivial baseline does as well at some lead time."
        report.add_verdict(headline, level="bad", details=details)


def _until(evaluation: Evaluation) -> str:
    steps = float(evaluation.correlation.time) / evaluation.frame_interval
    return f"{'over ' if evaluation.correlation.censored else ''}{steps:.1f} steps"


def _skill_section(report: Report, evaluation: Evaluation) -> None:
    report.add_section("Skill over lead time")
    report.add_text(
        "Skill is 1 − MSE / MSE of a baseline: 0 is as good as the baseline, 1 is perfect. "
        "Fields are in normalised units, each channel less the training mean over its standard "
        "deviation; `zero` is that mean, `mean` the training mean of the lead time. Intervals are "
        "95 % bootstraps over trajectories. `θ-shuffle` and `u₀-shuffle` are the error with "
        "another trajectory's parameters or initial field, over the error; near 1 the input is "
        "ignored. `diversity` is the variance over θ from one initial field, model over truth."
    )
    if "noise_floor" in evaluation.scores.baselines:
        report.add_text(
            "`noise_floor` is half the mean squared difference of realisations that differ in nothing "
            "but noise: the least error that a prediction without noise can have. A skill of 0 over it "
            "is the best there is."
        )
    rows = skill_rows(evaluation)
    columns = {name: label for name, label in COLUMNS.items() if name in rows[0]}
    report.add_table(rows, caption="Scores per lead time", columns=columns)
    for name, figure, caption in (
        ("skill", plot_skill(evaluation.scores), "Skill against each baseline."),
        ("nmse", plot_metric(evaluation.scores, metric="nmse"), "NMSE beside the baselines."),
        (
            "correlation",
            plot_correlation(
                {"rollout": evaluation.correlation},
                frame_interval=evaluation.frame_interval,
                threshold=CORRELATION_THRESHOLD,
                time_unit="",
            ),
            "Mean correlation with the truth, and when it falls below 0.8; lead time in the "
            f"solver's own unit, {evaluation.frame_interval:g} a step.",
        ),
    ):
        report.add_figure(figure, name=name, caption=caption)


def _pictures_section(report: Report, evaluation: Evaluation, facts: dict[str, Any]) -> None:
    steps = evaluation.target.shape[1]
    leads = tuple(lead for lead in LEADS_SHOWN if lead <= steps) or (1,)
    spatial_dims = evaluation.target.ndim - 3
    report.add_section("Pictures and spectra")
    if spatial_dims == 2:
        channel = min(len(facts["channels"]) - 1, 1)
        for sample, (reason, index) in enumerate(evaluation.shown.items()):
            report.add_figure(
                rollout_figure(evaluation, facts, sample=sample, channel=channel, leads=leads),
                name=f"rollout_{sample}",
                caption=f"Held-out trajectory {index} ({reason}), channel "
                f"`{facts['channels'][channel]}`: truth, the model's own rollout from the same "
                "initial field, and the error.",
            )
    report.add_figure(
        plot_spectra(
            {"truth": evaluation.target, "rollout": evaluation.pred},
            lead_times=leads,
            spatial_dims=spatial_dims,
        ),
        name="spectra",
        caption="Energy per wave number shell, summed over channels, normalised units, of the "
        "trajectories above; bands span them.",
    )


def rollout_figure(
    evaluation: Evaluation,
    facts: dict[str, Any],
    *,
    sample: int,
    channel: int,
    leads: tuple[int, ...],
) -> Figure:
    """Truth, rollout and error of one channel of one trajectory, in the data's own units."""
    mean, std = facts["mean"][channel], facts["std"][channel]
    pred, target = (
        field[sample, :, channel] * std + mean for field in (evaluation.pred, evaluation.target)
    )
    return plot_rollout(pred, target, lead_times=leads, field_name=facts["channels"][channel])


def compare_runs(runs: Sequence[RunFolder]) -> Path:
    """Mean and standard deviation over runs, beside each run's own figures."""
    loaded = {run.name: load_evaluation(run)[0] for run in runs}
    report = Report("Neural operator agents", f"{len(runs)} runs compared")
    for metric in ("skill_persistence", "skill_mean", "parameters_shuffle", "nmse"):
        rows = _comparison(loaded, metric)
        if rows:
            report.add_section(COLUMNS[metric])
            report.add_table(rows, caption=f"{COLUMNS[metric]}, per lead time")
    report.add_section("Runs")
    report.add_table(
        [{"run": run.name, "folder": str(run.path), **_brief(run)} for run in runs],
        caption="The runs",
    )
    report.add_machine()
    return report.write(runs[0].path.parent / "comparison.html")


def _comparison(loaded: dict[str, Evaluation], metric: str) -> list[dict[str, Any]]:
    tables = {
        name: {row["lead"]: row for row in skill_rows(evaluation)}
        for name, evaluation in loaded.items()
    }
    leads = sorted(set.intersection(*(set(table) for table in tables.values())))
    rows = []
    for lead in leads:
        values = {
            name: float(table[lead][metric].value)
            for name, table in tables.items()
            if metric in table[lead]
        }
        if len(values) == len(tables):
            spread = {
                "mean": statistics.fmean(values.values()),
                "standard deviation": statistics.stdev(values.values()),
            }
            rows.append({"lead": lead, **spread, **values})
    return rows


def _brief(run: RunFolder) -> dict[str, Any]:
    summary = run.summary()
    return {key: summary.get(key) for key in ("status", "steps", "best", "seconds")}
