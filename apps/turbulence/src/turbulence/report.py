"""The report of a comparison, or of one run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nops_diagnostics import (
    FlowDrift,
    Report,
    flow_drift,
    plot_anisotropic_spectra,
    plot_correlation,
    plot_flow_drift,
    plot_lead_errors,
    plot_proper_modes,
    plot_rollout,
    plot_schedule,
    plot_spectra,
    plot_spectrum_evolution,
    plot_temporal_spectrum,
    plot_training,
)
from nops_train import InputError, Invocation, Study, read_events
from rich.console import Console
from rich.table import Table
from torch import Tensor

from turbulence.arms import ARM_TEXTS
from turbulence.comparison import (
    FIGURES,
    Scored,
    by_arm,
    firsts,
    paired_rows,
    scored_runs,
    store_evaluation,
    table_rows,
)
from turbulence.evaluation import INDEPENDENT, PERSISTENCE, THRESHOLD
from turbulence.replay import replayed_schedule, scale_text

TITLE = "Turbulence"
SPACES = {
    "zscore": "each channel less the training mean, over its standard deviation",
    "none": "the data's own units",
}
WINDOWS = {
    "none": "no window",
    "hann": "less the mean of each frame, with a Hann window and its mean square divided out",
    "tukey": "less the mean of each frame, with a Tukey window and its mean square divided out",
}
TRUTH = "truth"
# Where a line stands decides its colour and dashes: those of a short report are told apart best.
ORDER = (
    TRUTH,
    *("field", "schedule", PERSISTENCE, INDEPENDENT, "static", "low"),
    *("matched", "bsp", "wavelet", "constant"),
)
VELOCITY = ("velocity_x", "velocity_y")
CONVENTION = (
    "energy per shell j − ½ ≤ |k|/dk < j + ½ of wave numbers, ½ the mean square summed over "
    "channels, in the data's units"
)


def report_runs(call: Invocation) -> None:
    """Write the report of a run or a comparison again, or one that compares several runs."""
    scored = scored_runs(call.folders)
    alone = len(call.folders) == 1
    path = call.folders[0] / "report.html" if alone else call.folders[0].parent / "report.html"
    print(f"Report: {write_report(scored, path, name=call.folders[0].name)}")


def report_study(study: Study) -> Path:
    """Write the comparison's report."""
    return write_report(scored_runs([study.path]), study.report, name=study.path.name)


def print_comparison(study: Study) -> None:
    """The table that a comparison ends with, in the terminal."""
    scored = scored_runs([study.path])
    first, last = scored[0].evaluation.lead_window
    rows = table_rows(scored)
    columns = ["arm", *(name for name in FIGURES if name in rows[0])]
    table = Table(title=f"Test trajectories, leads {first} to {last}, in units of training")
    for name in columns:
        table.add_column(FIGURES.get(name, name), justify="left" if name == "arm" else "right")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in columns))
    Console().print(table)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else f"{value:.3g}"


def write_report(scored: Sequence[Scored], path: Path, *, name: str) -> Path:
    """One report over runs of the same data.

    Raises:
        InputError: If their test fields have different shapes, so that nothing can be compared.
    """
    shapes = {one.run.name: tuple(one.evaluation.target.shape) for one in scored}
    if len(set(shapes.values())) > 1:
        raise InputError(f"these runs were tested on different data: {shapes}")
    one = scored[0]
    data = one.config.data
    grid = " × ".join(map(str, data.shape))
    report = Report(TITLE, f"{name} · {data.source.replace('_', ' ')}, {grid}")
    _verdict(report, scored)
    _overview(report, scored)
    _leads_section(report, scored)
    _spectra_section(report, scored)
    _flow_section(report, scored)
    _schedule_section(report, scored)
    _pictures_section(report, scored)
    _training_section(report, scored)
    report.add_section("The runs")
    report.add_text(_data_text(one))
    for arm, first in firsts(scored).items():
        report.add_config(first.config.model_dump(mode="json"), caption=f"Configuration of {arm}")
    report.add_machine()
    return report.write(path, plots=path.parent / "plots")


def _verdict(report: Report, scored: Sequence[Scored]) -> None:
    rows = {row["arm"]: row for row in paired_rows(scored, base="field")}
    row = rows.get("schedule against field")
    if row is None:
        return
    spectrum, field = row["log_spectrum_error_ratio"], row["field_error_ratio"]
    details = [
        f"Log-spectrum error of the schedule: {spectrum:.2f} times that of field error alone.",
        f"Field error: {field:.2f} times.",
        *_rivals(scored),
    ]
    if spectrum <= 0.5 and field <= 1.2:
        text = "The schedule halves the spectral error, or better, at little cost in field error."
        report.add_verdict(text, level="good", details=details)
    elif spectrum < 1.0:
        text = "The schedule lowers the spectral error, less than by half or at a cost."
        report.add_verdict(text, level="warning", details=details)
    else:
        report.add_verdict("The schedule does not help here.", level="bad", details=details)


def _rivals(scored: Sequence[Scored]) -> list[str]:
    """How the schedule stands against each constant mix, whoever wins."""
    lines = []
    for rival in ("static", "matched", "low"):
        rows = {row["arm"]: row for row in paired_rows(scored, base=rival)}
        row = rows.get(f"schedule against {rival}")
        if row is None:
            continue
        spectrum, field = row["log_spectrum_error_ratio"], row["field_error_ratio"]
        worse = spectrum > 0.95 and field > 0.95
        end = ": the schedule is not needed here." if worse else "."
        lines.append(
            f"Against {rival} ({ARM_TEXTS[rival]}): log-spectrum error {spectrum:.2f} times, field "
            f"error {field:.2f} times{end}"
        )
    return lines


def _overview(report: Report, scored: Sequence[Scored]) -> None:
    first, last = scored[0].evaluation.lead_window
    space = SPACES.get(scored[0].facts["normalise"], "published moments of the data set")
    report.add_section("Result")
    report.add_text(
        f"Means over leads {first} to {last} of rollouts on test trajectories, with the "
        f"{_checkpoint(scored)} weights of each run. Errors are in units of training: {space}. "
        "Field error is the squared error over the truth's mean square; log spectrum error the mean "
        "squared difference of log energies per shell. Two figures to hold beside them: "
        f"`{PERSISTENCE}` repeats the first frame, `{INDEPENDENT}` is the truth of another "
        "trajectory, a perfect statistical twin without skill; spectral errors below its are within "
        "natural variability."
    )
    columns = {"arm": "arm", "seeds": "seeds", **FIGURES, "seconds": "training, s"}
    report.add_table(table_rows(scored), caption="Arms and baselines", columns=columns)
    report.add_text(
        "  \n".join(f"`{arm}`: {ARM_TEXTS[arm]}." for arm in by_arm(scored) if arm in ARM_TEXTS)
    )
    for base in ("field", "low"):
        rows = paired_rows(scored, base=base)
        if rows:
            report.add_table(rows, caption=f"Paired by seed, against {base}")


def _checkpoint(scored: Sequence[Scored]) -> str:
    return " or ".join(sorted({one.config.evaluate.checkpoint for one in scored}))


def _leads_section(report: Report, scored: Sequence[Scored]) -> None:
    shown, some = firsts(scored), scored[0].evaluation
    report.add_section("Over lead time")
    errors = {arm: one.evaluation.errors["model"] for arm, one in shown.items()}
    errors |= {name: held for name, held in some.errors.items() if name != "model"}
    report.add_figure(
        plot_lead_errors(errors, order=ORDER),
        name="lead_errors",
        caption="Field error and log spectrum error per lead, with 95 % bootstraps over rollouts.",
    )
    curves = {arm: one.evaluation.correlation for arm, one in shown.items()}
    report.add_figure(
        plot_correlation(
            {**curves, PERSISTENCE: some.persistence},
            frame_interval=some.frame_interval,
            threshold=THRESHOLD,
            order=ORDER,
        ),
        name="correlation",
        caption="Mean correlation with the truth, and when it falls below 0.8.",
    )
    report.add_table(
        [_stability_row(arm, one) for arm, one in shown.items()],
        caption="Stability: mean |change| per time, which stays within 0.5 to 2 times the truth's "
        "range while a rollout is stable",
    )


def _stability_row(arm: str, one: Scored) -> dict[str, Any]:
    held = one.evaluation.stability
    return {
        "arm": arm,
        "rate, truth": float(held.reference.mean()),
        "rate, rollout": float(held.predicted.mean()),
        "rate, last step": float(held.predicted[:, -1].mean()),
        "stable to the end": float(held.stable_fraction[-1]),
        "first unstable at": float(held.first_unstable.min()),
    }


def _fields(scored: Sequence[Scored]) -> dict[str, Tensor]:
    """The truth and each arm's first run, `[sample, time, channel, *grid]` in the data's units."""
    rollouts = {arm: one.evaluation.pred for arm, one in firsts(scored).items()}
    return {TRUTH: scored[0].evaluation.target, **rollouts}


def _spectra_section(report: Report, scored: Sequence[Scored]) -> None:
    fields, some = _fields(scored), scored[0].evaluation
    options: dict[str, Any] = {"lengths": some.lengths, "window": some.window}
    leads = scored[0].config.evaluate.leads()
    convention = f"{CONVENTION}; {WINDOWS[some.window]}"
    report.add_section("Spectra")
    for name, compensate in (("spectra", 0.0), ("spectra_compensated", 5 / 3)):
        times = "" if not compensate else ", times k^(5/3), which is flat in an inertial range"
        report.add_figure(
            plot_spectra(fields, lead_times=leads, compensate=compensate, order=ORDER, **options),
            name=name,
            caption=f"Spectra of truth and rollouts at chosen leads{times}: {convention}. Lines are "
            f"means over {len(some.target)} rollouts, bands their 5 to 95 % quantiles.",
        )
    report.add_figure(
        plot_anisotropic_spectra(fields, order=ORDER, **options),
        name="anisotropy",
        caption="Energy along each axis over all leads, energies at ±k and those along the other axis "
        "added, and the preference of each shell: 1 where all energy varies along the first axis, −1 "
        f"along the second. In the data's units squared; {WINDOWS[some.window]}.",
    )
    report.add_figure(
        plot_spectrum_evolution(fields, frame_interval=some.frame_interval, **options),
        name="evolution",
        caption="The truth's energy over wave number and time, and each arm's ratio to it: "
        f"{convention}.",
    )
    report.add_figure(
        plot_temporal_spectrum(
            fields, frame_interval=some.frame_interval, window="hann", order=ORDER
        ),
        name="temporal",
        caption="Energy by frequency of the time series at every cell, averaged over cells and summed "
        "over channels, in the data's units squared, times f². Each series has its mean taken out and "
        "a Hann window, as it does not repeat. Energies of all frequencies sum to half the variance.",
    )


def _flow_section(report: Report, scored: Sequence[Scored]) -> None:
    """Budgets of the velocity where it is one of a periodic plane, and the proper modes."""
    fields, some = _fields(scored), scored[0].evaluation
    report.add_section("Energy, enstrophy, divergence and modes")
    columns = [some.channels.index(name) for name in VELOCITY if name in some.channels]
    if len(columns) == len(VELOCITY) and some.window == "none":
        velocities = {name: field[:, :, columns] for name, field in fields.items()}
        truth = velocities[TRUTH]
        drifts = {
            name: flow_drift(velocity, truth, lengths=some.lengths)
            for name, velocity in velocities.items()
        }
        report.add_figure(
            plot_flow_drift(
                {name: drift for name, drift in drifts.items() if name != TRUTH},
                frame_interval=some.frame_interval,
                order=ORDER,
            ),
            name="drift",
            caption="Energy ½⟨|u|²⟩ and enstrophy ½⟨ω²⟩ of the rollouts over the truth's, less 1, and root "
            "mean square divergence over the truth's root mean square vorticity; all dimensionless, of "
            "velocities in the data's units with derivatives of their Fourier series. Lines are means "
            f"over {len(truth)} rollouts, bands their 5 to 95 % quantiles.",
        )
        last = len(truth[0])
        rows = [_drift_row(name, drifts[name], last) for name in drifts]
        report.add_table(rows, caption=f"Means over rollouts, over all leads and at lead {last}")
    report.add_figure(
        plot_proper_modes(fields, channels=some.channels, order=ORDER),
        name="modes",
        caption="Mean square that each proper orthogonal mode (POD) of the fluctuations holds, channel by "
        f"channel, in the data's units squared. All {len(some.target)} × {some.target.shape[1]} frames "
        "are snapshots, their mean is taken out, and each line has modes of its own; its sum is the "
        "variance. A steeper line means fewer patterns.",
    )


def _drift_row(name: str, drift: FlowDrift, last: int) -> dict[str, Any]:
    row: dict[str, Any] = {"field": name}
    for part, values in drift._asdict().items():
        row |= {f"{part}, all leads": float(values.mean())}
        row |= {f"{part}, lead {last}": float(values[:, -1].mean())}
    return row


def _schedule_section(report: Report, scored: Sequence[Scored]) -> None:
    replays: dict[str, tuple[Scored, Any]] = {
        one.run.name: (one, replayed_schedule(one.run, one.config)) for one in scored
    }
    drawn = {name: pair for name, pair in replays.items() if pair[1] is not None}
    if not drawn:
        return
    report.add_section("Schedule")
    for name, (one, replay) in drawn.items():
        metric = one.config.weighting.model_dump()["monitor_metric"]
        report.add_figure(
            plot_schedule(replay, metric=metric.replace("_", " ")),
            name=f"schedule_{name}",
            caption=f"{name}: weights above (`spectrum_scale` = {scale_text(replay, one.config)} "
            "comes on top), and below what was watched.",
        )
        rows = [
            {"epoch": event.epoch, "event": event.kind, "reason": event.reason}
            for event in replay.events
        ]
        report.add_table(rows, caption=f"{name}: what the schedule did, and why")


def _pictures_section(report: Report, scored: Sequence[Scored]) -> None:
    leads = scored[0].config.evaluate.leads()
    report.add_section("Fields")
    for arm, one in firsts(scored).items():
        held = one.evaluation
        report.add_figure(
            plot_rollout(
                held.pred[0, :, 0],
                held.target[0, :, 0],
                lead_times=leads,
                field_name=held.channels[0],
            ),
            name=f"rollout_{arm}",
            caption=f"{arm}: the first test rollout, channel `{held.channels[0]}`.",
        )


def _training_section(report: Report, scored: Sequence[Scored]) -> None:
    report.add_section("Training")
    for arm, one in firsts(scored).items():
        report.add_figure(
            plot_training(read_events(one.run.path)),
            name=f"training_{arm}",
            caption=f"{one.run.name}: raw terms, weights, weighted terms; validation; learning rate; "
            "norm of the gradient. Thin lines are single steps, thick ones means of an epoch.",
        )


def _data_text(one: Scored) -> str:
    data = one.config.data
    return (
        f"`{data.path}`: {data.num_train} trajectories to train on, {data.num_valid} to validate on, "
        f"{data.num_test} held out, {data.num_steps} steps each, {data.frame_interval:g} apart; "
        f"channels {', '.join(one.evaluation.channels)}; parameters "
        f"{', '.join(data.parameters) or 'none'}. {one.facts['num_parameters']} weights in the model."
    )


__all__ = ["print_comparison", "report_runs", "report_study", "store_evaluation", "write_report"]
