"""The report of one run, and what it is written from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nops_diagnostics import Report, plot_training
from nops_train import (
    CurriculumConfig,
    Invocation,
    RunFolder,
    keep_evaluation,
    kept_evaluation,
    load_run_config,
    read_events,
    report_each,
)
from rich.console import Console
from rich.table import Table

from upt_inverse.config import UptConfig
from upt_inverse.config_data import UptDataConfig
from upt_inverse.evaluation import THRESHOLD, Evaluation
from upt_inverse.report_task import add_errors, add_pictures, add_verdict, columns_of, named

REACH = (
    "Parts of the model that a term's gradient reaches in this run: E the encoder, A the "
    "approximator, G the decoder. A term that reached none would have stopped the run."
)
SHARED = " The tasks share the approximator; encoder and decoder are each task's own."


def store_evaluations(
    run: RunFolder,
    evaluations: Mapping[str, Evaluation],
    facts: Mapping[str, Mapping[str, Any]],
) -> None:
    """Keep what the report needs beside the run, and the figures as `metrics.json`; by task."""
    plain = {
        name: {"evaluation": e.as_plain(), "facts": dict(facts[name])}
        for name, e in evaluations.items()
    }
    metrics = {name: evaluation.as_metrics() for name, evaluation in evaluations.items()}
    run.keep("metrics.json", metrics.get("", {"tasks": metrics}))
    keep_evaluation(run, plain.get("", {"tasks": plain}))


def summaries(evaluations: Mapping[str, Evaluation]) -> dict[str, dict[str, float]]:
    """Figures of the model and of baselines for `summary.json`, with tasks as `<task>.<figure>`."""

    def joined(figures: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        return {
            f"{name}.{key}" if name else key: value
            for name, held in figures.items()
            for key, value in held.items()
        }

    return {
        "metrics": joined({name: held.summary() for name, held in evaluations.items()}),
        "baselines": joined({name: held.baselines() for name, held in evaluations.items()}),
    }


def load_evaluation(run: RunFolder) -> tuple[Evaluation, dict[str, Any]]:
    """What `store_evaluations` kept of a run without tasks.

    Raises:
        InputError: If the run was not evaluated yet, or the file is damaged.
    """
    return load_evaluations(run)[""]


def load_evaluations(run: RunFolder) -> dict[str, tuple[Evaluation, dict[str, Any]]]:
    """What `store_evaluations` kept, by task.

    Raises:
        InputError: If the run was not evaluated yet, or the file is damaged.
    """
    return kept_evaluation(run, _read, again=f"upt-inverse evaluate {run.path}")


def _read(plain: Mapping[str, Any]) -> dict[str, tuple[Evaluation, dict[str, Any]]]:
    return {
        name: (Evaluation.from_plain(held["evaluation"]), held["facts"])
        for name, held in plain.get("tasks", {"": plain}).items()
    }


def report_runs(call: Invocation) -> None:
    """Write reports again: of runs, and of studies."""
    from upt_inverse.ablation import report_study

    report_each(call, run=write_report, study=report_study)


def print_errors(evaluation: Evaluation, task: str = "") -> None:
    """The table that a run ends with, in the terminal."""
    title = "nRMSE of decoded fields on held-out trajectories, in the data's units"
    table, columns = Table(title=named(title, task)), columns_of(evaluation)
    for heading in columns.values():
        table.add_column(heading, justify="right")
    for row in evaluation.errors.rows():
        table.add_row(*(_cell(row[name]) for name in columns))
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, str | int):
        return str(value)
    return f"{float(value.value):.3f}"


def write_report(run: RunFolder) -> Path:
    """The report of one evaluated run: verdicts, then a section on the errors of each task."""
    found, config = load_evaluations(run), load_run_config(UptConfig, run.path)
    report = Report("UPT with inverse losses", f"{run.name} · {_subject(config)}")
    for name, (evaluation, _) in found.items():
        add_verdict(report, evaluation, name)
    report.add_facts(_facts(run, found))
    for name, (evaluation, _) in found.items():
        add_errors(report, evaluation, name)
        add_pictures(report, evaluation, name)
    _terms_section(report, run, config, {name: facts for name, (_, facts) in found.items()})
    report.add_section("The run")
    for name, own in config.parts().items():
        report.add_text(named(_data_text(own.data), name))
    report.add_config(run.config)
    report.add_machine()
    return report.write(run.report, plots=run.plots)


def _subject(config: UptConfig) -> str:
    return "; ".join(_equation(own.data) for own in config.parts().values())


def _equation(data: UptDataConfig) -> str:
    return f"{data.pde.replace('_', ' ')}, {' × '.join(map(str, data.shape))}"


def _facts(
    run: RunFolder, found: Mapping[str, tuple[Evaluation, Mapping[str, Any]]]
) -> dict[str, Any]:
    summary, (_, first) = run.summary(), next(iter(found.values()))
    seconds, steps = summary.get("seconds"), summary.get("steps")
    shown = {
        "model parameters": first["num_parameters"],
        "optimizer steps": steps,
        "training, s": seconds,
        "steps per s": steps / seconds if steps and seconds else None,
        "peak memory, MiB": (summary.get("peak_memory_bytes") or 0) / 2**20,
    }
    for name, (evaluation, facts) in found.items():
        own = _facts_of(evaluation, facts)
        shown |= {named(label, name): value for label, value in own.items()}
    return {label: value for label, value in shown.items() if value is not None}


def _facts_of(evaluation: Evaluation, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Those of one task."""
    all_points = facts.get("predicted_memory_of_all_points", 0)
    until = {
        f"correlation above {THRESHOLD} until, {name}": float(held[THRESHOLD].time)
        for name, held in evaluation.correlations.items()
    }
    return {
        "trajectories scored": evaluation.errors.num_samples,
        "forecast of a step, MiB": facts.get("predicted_memory", 0) / 2**20 or None,
        f"the same of all {facts['points']} points, MiB": all_points / 2**20 or None,
        **until,
    }


def _terms_section(
    report: Report, run: RunFolder, config: UptConfig, facts: Mapping[str, Mapping[str, Any]]
) -> None:
    report.add_section("Terms and training")
    reach = {
        f"{name}.{term}" if name else term: groups
        for name, held in facts.items()
        for term, groups in held["reach"].items()
    }
    rows = [
        {"term": term, "base weight": weight, "reaches": " ".join(reach[term])}
        for term, weight in config.weights().items()
    ]
    report.add_text(REACH + SHARED if config.tasks else REACH)
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


def _data_text(data: UptDataConfig) -> str:
    return (
        f"`{data.path}`: {data.num_train} trajectories to train on, {data.num_valid} to validate "
        f"on, {data.num_test} held out, {data.num_steps} steps each, {data.dt:g} apart."
    )
