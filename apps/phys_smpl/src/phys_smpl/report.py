"""The report of one run."""

import math
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from nops_diagnostics import (
    Report,
    jeffries_matusita,
    plot_error_bars,
    plot_parameters_over_time,
    plot_patterns,
    plot_recovery,
    plot_training,
)
from nops_train import (
    Invocation,
    RunFolder,
    keep_evaluation,
    kept_evaluation,
    read_events,
    report_each,
)
from rich.console import Console
from rich.table import Table

from phys_smpl.evaluation import Evaluation, oracle_slice

KINDS = {
    "A": "a network in place of the physics",
    "B": "the physics alone",
    "C": "the physics with a low-rank correction",
    "G": "the physics with a gated correction",
}
GROUPS = {
    "validation": (
        ("reconstruction", "physics_error", "residual", "proposed", "bootstrap"),
        "Validation: Σ squares of x_PB and x_P against the data, of the correction and of what the head "
        "proposes, and the bootstrap error of simulations.",
    ),
    "divergences": (("kl", "kl_physics", "kl_aux"), "Validation: divergences, nats."),
    "progress": (
        (
            *("r", "tau", "gate_mean", "coefficient_norm", "scale_norm"),
            *("basis_departure", "residual_percent"),
        ),
        "Strength r, temperature τ, gate or coefficients, departure of the patterns from orthonormal, "
        "share of the correction in per cent.",
    ),
}
PRINTED = ("parameter", "unit", "r2", "attainable r2", "rmse", "coverage of 90 %")
SUMMED = "Σ squares per observation (standardised, unless data.standardise is false)"
CHANNELS = 60  # in a table; a field in time has a thousand
PAIRS = 12  # of kinds, in a table
COVERED = 0.8  # of 90 %: intervals that hold the truth less often are too narrow


def store_evaluation(run: RunFolder, evaluation: Evaluation) -> None:
    """Keep an evaluation beside the run: for the report, and as `metrics.json`."""
    keep_evaluation(run, evaluation.as_plain())
    run.keep("metrics.json", evaluation.as_metrics())


def load_evaluation(run: RunFolder) -> Evaluation:
    """What `store_evaluation` kept.

    Raises:
        InputError: If the run was not evaluated yet, or the file is damaged.
    """
    again = f"phys-smpl evaluate {run.path}"
    return kept_evaluation(run, Evaluation.from_plain, again=again)


def report_runs(call: Invocation) -> None:
    """Write reports again: of runs, and of studies."""
    from phys_smpl.ablation import report_study

    report_each(call, run=write_report, study=report_study)


def print_evaluation(evaluation: Evaluation) -> None:
    """What a run ends with, in the terminal."""
    console = Console()
    table = Table(title=f"Test observations: {SUMMED}")
    for heading in ("", "Σ squares"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, value in error_bars(evaluation).items():
        table.add_row(name, f"{value:.4g}")
    console.print(table)
    if evaluation.recovery:
        table = Table(title="Recovered parameters")
        for heading in PRINTED:
            table.add_column(heading, justify="right")
        for row in evaluation.recovery:
            shown = (row[name] for name in PRINTED)
            table.add_row(*(f"{v:.4g}" if isinstance(v, float) else v for v in shown))
        console.print(table)
    for warning in warnings_of(evaluation):
        console.print(f"warning: {warning}")


def error_bars(evaluation: Evaluation) -> dict[str, float]:
    """Errors of the model beside the baselines."""
    physics = {} if evaluation.kind == "A" else {"x_P": evaluation.errors["x_p"]}
    own = {f"{evaluation.kind}, x_PB": evaluation.errors["x_pb"], **physics}
    return {**own, **{baseline_name(k): v for k, v in evaluation.baselines.items()}}


def baseline_name(name: str) -> str:
    """`PCA, k = 4` of `pca_4`."""
    return f"PCA, k = {name[4:]}" if name.startswith("pca_") else name


def warnings_of(evaluation: Evaluation) -> list[str]:
    """Signs of collapse, and a correction that dominates."""
    found = [] if evaluation.collapse is None else list(evaluation.collapse["warnings"])
    if evaluation.dominated > 0.5:
        found.append(
            f"the correction is more than half of the physics in {evaluation.dominated:.0%} of the rows"
        )
    return found


def coverage_note(evaluation: Evaluation) -> str | None:
    """Whose 90 % intervals hold the truth too seldom, and why that is; None if all hold it."""
    held = {row["parameter"]: row["coverage of 90 %"] for row in evaluation.recovery}
    narrow = [f"{name} in {share:.0%}" for name, share in held.items() if share < COVERED]
    if not narrow:
        return None
    return (
        f"90 % intervals that are too narrow: they hold the truth of {', '.join(narrow)} of the rows. A "
        "posterior is as wide as noise of variance loss.noise_variance leaves each parameter, the others "
        "known; the encoder's own error and what the physics lacks are not in it. A larger "
        "loss.noise_variance widens it."
    )


def write_report(run: RunFolder) -> Path:
    """Write `report.html` and `plots/` of an evaluated run."""
    evaluation = load_evaluation(run)
    report = Report("Physics-integrated VAE", f"{run.name} · {evaluation.problem}")
    _verdict(report, evaluation)
    _errors_section(report, evaluation, run.config)
    if evaluation.parameters:
        _parameters_section(report, evaluation)
    if len(evaluation.patterns):
        _correction_section(report, evaluation)
    _training_section(report, run, evaluation)
    report.add_config(run.config)
    report.add_machine()
    return report.write(run.report, plots=run.plots)


def _verdict(report: Report, evaluation: Evaluation) -> None:
    signs = warnings_of(evaluation)
    error, mean = evaluation.errors["x_pb"], evaluation.baselines["mean"]
    text = f"Σ squares {error:.3g}, of the mean {mean:.3g}."
    if evaluation.parameters:
        oracle = evaluation.baselines.get("oracle")
        best = "" if oracle is None else f", which at best has {oracle:.3g}"
        text += f" The physics alone: {evaluation.errors['x_p']:.3g}{best}."
    if evaluation.recovery:
        worst = min(evaluation.recovery, key=lambda row: row["r2"])
        text += f" Least recovered parameter: {worst['parameter']}, R² {worst['r2']:.3f}."
    if signs:
        report.add_verdict(f"Signs of collapse. {text}", level="warning", details=signs)
    else:
        report.add_verdict(f"No sign of collapse. {text}", level="good")


def _errors_section(report: Report, evaluation: Evaluation, config: Mapping[str, Any]) -> None:
    report.add_section("Reconstruction")
    every = oracle_slice(len(evaluation.estimate), config["evaluate"]["oracle_rows"]).step
    report.add_text(
        f"{evaluation.kind}: {KINDS[evaluation.kind]}. x_P is the physics alone, x_PB with its correction, "
        "both at the means of the latents; the oracle is the best fit of the physics to each "
        f"observation{f' (to every {every}th here)' if every > 1 else ''}, which no encoder beats through "
        "the same physics. PCA stands at as many "
        "components as the correction has latents, and at as many as the model has."
    )
    bars = error_bars(evaluation)
    report.add_figure(
        plot_error_bars(bars, ylabel="Σ squares"),
        name="errors",
        caption=f"{SUMMED}, on test observations.",
    )
    rows = [{"what": name, "Σ squares": value} for name, value in bars.items()]
    report.add_table(rows, caption=SUMMED)
    shown = thinned(evaluation.channel_rows)
    few = "" if len(shown) == len(evaluation.channel_rows) else f", {len(shown)} of all"
    report.add_table(shown, caption=f"Per channel{few}, in the data's unit")


def thinned(rows: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """At most `CHANNELS` rows, evenly over all."""
    return rows[:: max(1, -(-len(rows) // CHANNELS))]


def _parameters_section(report: Report, evaluation: Evaluation) -> None:
    report.add_section("Parameters")
    known = evaluation.identifiability
    weakest = ", ".join(f"{v:+.2f} {k}" for k, v in known["weakest"].items())
    report.add_text(
        "Attainable R² is what an observation of this noise can tell at all (Fisher information with "
        f"the range as prior). Condition number {known['condition']:.3g}; weakest direction, in units of "
        f"the ranges: {weakest}."
    )
    report.add_table(
        [{"parameter": k, "attainable R²": v} for k, v in known["attainable_r2"].items()],
        caption="Identifiability",
    )
    report.add_table(evaluation.posterior, caption="Posteriors of the test rows")
    if evaluation.recovery:
        report.add_table(evaluation.recovery, caption="Recovery of known parameters")
        if note := coverage_note(evaluation):
            report.add_text(note)
        report.add_figure(
            plot_recovery(
                evaluation.estimate.double(),
                evaluation.truth,
                names=evaluation.parameters,
                units=evaluation.parameter_units,
                bound=_bounds(evaluation),
            ),
            name="recovery",
            caption="Estimated over true parameters; the band is the attainable standard deviation.",
        )
    if evaluation.days is not None and evaluation.problem in ("mogi", "okada"):
        _over_time(report, evaluation)
    if evaluation.kinds is not None:
        _separability(report, evaluation)


def _bounds(evaluation: Evaluation) -> list[float]:
    """Attainable standard deviations in the parameters' units: that of the truth, √(1 − R²) of it."""
    spread = evaluation.truth.std(0).nan_to_num(0.0).tolist()
    r2 = evaluation.identifiability["attainable_r2"]
    return [
        s * math.sqrt(max(0.0, 1 - r2[name]))
        for s, name in zip(spread, evaluation.parameters, strict=True)
    ]


def _over_time(report: Report, evaluation: Evaluation) -> None:
    assert evaluation.days is not None
    shown = [
        i for i, name in enumerate(evaluation.parameters) if name in ("dV", "d", "depth", "opening")
    ]
    first = date.fromordinal(min(evaluation.days))
    report.add_figure(
        plot_parameters_over_time(
            [
                first.year + (day - first.replace(month=1, day=1).toordinal()) / 365.25
                for day in evaluation.days
            ],
            evaluation.estimate[:, shown],
            evaluation.spread[:, shown],
            names=[evaluation.parameters[i] for i in shown],
            units=[evaluation.parameter_units[i] for i in shown],
            xlabel="year",
        ),
        name="time",
        caption="Posterior means of the test rows, with two standard deviations.",
    )


def _separability(report: Report, evaluation: Evaluation) -> None:
    assert evaluation.kinds is not None
    report.add_table(
        closest_kinds(jeffries_matusita(evaluation.estimate, evaluation.kinds)),
        caption="Jeffries–Matusita distance of kinds in the inferred parameters, 0 alike, 1.41 apart: "
        f"the closest pairs, at most {PAIRS}",
    )


def closest_kinds(distances: Mapping[tuple[str, str], float]) -> list[dict[str, Any]]:
    """The pairs of kinds that are least apart, the closest first."""
    ordered = sorted(distances.items(), key=lambda item: item[1])
    return [
        {"pair": f"{one} – {other}", "distance": value} for (one, other), value in ordered[:PAIRS]
    ]


def _correction_section(report: Report, evaluation: Evaluation) -> None:
    report.add_section("Correction")
    report.add_facts(
        {
            "Σ squares of the correction": evaluation.errors["residual"],
            "rows that it dominates": evaluation.dominated,
        }
    )
    report.add_figure(
        plot_patterns(evaluation.patterns, evaluation.shares, channels=evaluation.channels),
        name="patterns",
        caption="Leading directions of x_PB − x_P over the test rows, in the units of training.",
    )
    if evaluation.collapse is not None:
        held = {k: v for k, v in evaluation.collapse.items() if isinstance(v, int | float)}
        report.add_table([held], caption="Does the physics still explain the data?")


def _training_section(report: Report, run: RunFolder, evaluation: Evaluation) -> None:
    report.add_section("Training")
    events = [dict(event) for event in read_events(run.path)]
    plain = [event for event in events if event.get("event") != "validation"]
    report.add_figure(
        plot_training(plain),
        name="training",
        caption="Raw terms, their weights and weighted values; learning rate; norm of the gradient.",
    )
    for name, (metrics, caption) in GROUPS.items():
        if shown := picked(events, metrics):
            report.add_figure(plot_training(shown), name=name, caption=caption)
    for what, caption in (("mean", "Mean"), ("sd", "Standard deviation")):
        if shown := latent_events(events, evaluation.parameters, what):
            text = f"{caption} over the validation rows of each latent's posterior mean, in logits."
            report.add_figure(plot_training(shown), name=f"latents_{what}", caption=text)


def picked(events: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Validations with some of their metrics."""
    found = []
    for event in events:
        held = {k: event["metrics"][k] for k in names if k in event.get("metrics", {})}
        if event.get("event") == "validation" and held:
            found.append({**event, "metrics": held})
    return found


def latent_events(
    events: Sequence[Mapping[str, Any]], parameters: Sequence[str], what: str
) -> list[dict[str, Any]]:
    """Validations with the mean, or the standard deviation over rows, of each latent's mean."""
    names = [f"u_{part}_{name}" for name in parameters for part in ("mean", "square")]
    found = []
    for event in picked(events, names):
        held = event["metrics"]
        means = {name: float(held[f"u_mean_{name}"]) for name in parameters}
        squares = {name: float(held[f"u_square_{name}"]) for name in parameters}
        spread = {name: math.sqrt(max(0.0, squares[name] - means[name] ** 2)) for name in means}
        found.append({**event, "metrics": means if what == "mean" else spread})
    return found
