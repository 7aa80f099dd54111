"""When would the weights move? The schedule over a metric that is given, as table and figure."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nops_schedules import SchedulerParams, Simulation, simulate, suggest_params
from nops_train import InputError, Invocation, read_events
from rich.console import Console
from rich.table import Table

from turbulence.config import TurbulenceConfig
from turbulence.config_weighting import SchedulerConfig

Trace = Sequence[float | dict[str, float] | None]


def dry_run(config: TurbulenceConfig, call: Invocation) -> None:
    """Drive the configured schedule with a trace; write `schedule.csv` and `schedule.png`.

    With `--suggest` patience and warm-up are first taken from the trace, and said.
    """
    if not isinstance(config.weighting, SchedulerConfig):
        raise InputError(f"weighting.kind is {config.weighting.kind}: there is no schedule to try")
    params = config.weighting.params()
    trace = read_trace(call.options["metrics"], epochs=call.options["epochs"])
    if params.guard_metric is not None and any(isinstance(one, float) for one in trace):
        print(f"guard_metric {params.guard_metric} is left out: one metric alone is given")
        params = replace(params, guard_metric=None)
    if call.options["suggest"]:
        params = suggested(params, trace, source=call.options["metrics"])
    try:
        found = simulate(params, trace)
    except (ValueError, FloatingPointError) as error:
        raise InputError(f"--metrics {call.options['metrics']}: {error}") from error
    folder = Path(call.options["out"])
    print_moves(found)
    table, figure = write_simulation(found, folder, metric=str(params.monitor_metric))
    print(f"Table: {table}\nFigure: {figure}")


SUGGESTED = ("patience", "warmup_epochs", "min_epochs_before_adapt")


def suggested(params: SchedulerParams, trace: Trace, *, source: str) -> SchedulerParams:
    """The parameters with the patience and warm-up that the trace asks for, printed as options.

    Raises:
        InputError: If the trace is too short or too noisy, or does not hold the monitored metric.
    """
    try:
        found = suggest_params([monitored(params, one) for one in trace], params=params)
    except ValueError as error:
        raise InputError(f"--metrics {source}: {error}") from error
    options = [f"--weighting.{name} {getattr(found, name)}" for name in SUGGESTED]
    print(f"Suggested from {len(trace)} epochs: {' '.join(options)}")
    return found


def monitored(params: SchedulerParams, metrics: float | dict[str, float] | None) -> float | None:
    """The value of the monitored metric, as the schedule itself reads it.

    Raises:
        ValueError: If the metrics lack it.
    """
    if metrics is None or isinstance(metrics, float):
        return metrics
    (value,) = simulate(params, [metrics]).monitored
    return value


def read_trace(text: str, *, epochs: int) -> Trace:
    """Metrics per epoch: of `constant:VALUE`, a CSV file, one of its columns, or a run.

    Args:
        text: `constant:0.5`; `file.csv`, whose columns are metrics; `file.csv:column`; or the
            folder of a run, whose validations are taken.
        epochs: Length of a constant trace.

    Raises:
        InputError: If there is nothing of the kind, or a value is no number.
    """
    kind, _, rest = text.rpartition(":")
    if kind == "constant":
        return [_number(rest, where=f"--metrics {text}")] * epochs
    path = Path(text)
    if path.is_dir():
        return _of_run(path)
    if path.is_file():
        return [_row(row, where=text) for row in _rows(path)]
    if Path(kind).is_file():
        return _column(Path(kind), rest)
    raise InputError(
        f"--metrics: expected constant:VALUE, a CSV file, FILE.csv:COLUMN or a run's folder, found "
        f"nothing at {text}"
    )


def _of_run(folder: Path) -> Trace:
    events = [event for event in read_events(folder) if event["event"] == "validation"]
    if not events:
        raise InputError(f"{folder}: no validation in its events.jsonl")
    by_epoch = {event["epoch"]: event["metrics"] for event in events}
    return [by_epoch.get(epoch) for epoch in range(max(by_epoch) + 1)]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise InputError(f"{path}: expected a header and a line per epoch, found no line")
    return rows


def _column(path: Path, name: str) -> Trace:
    rows = _rows(path)
    if name not in rows[0]:
        raise InputError(f"{path}: no column {name}; there are {', '.join(rows[0])}")
    return [_cell(row[name], where=f"{path}, line {i}") for i, row in enumerate(rows, start=2)]


def _row(row: dict[str, str], *, where: str) -> dict[str, float] | None:
    """A line's metrics; an empty cell is an epoch without validation."""
    found = {name: _cell(text, where=f"{where}: {name}") for name, text in row.items()}
    known = {name: value for name, value in found.items() if value is not None}
    return known or None


def _cell(text: str, *, where: str) -> float | None:
    return None if not text.strip() else _number(text, where=where)


def _number(text: str, *, where: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{where}: expected a number, found {text!r}") from error


def print_moves(found: Simulation) -> None:
    """What the schedule did, in the terminal."""
    table = Table(title=f"{len(found.epochs)} epochs, ends {found.states[-1].lower()}")
    names = list(found.weights[-1])
    for name in ("epoch", "event", *names, "reason"):
        table.add_column(name, justify="left" if name in ("event", "reason") else "right")
    for event in found.events:
        weights = [f"{event.weights.get(name, 0.0):.3g}" for name in names]
        table.add_row(str(event.epoch), event.kind, *weights, event.reason)
    Console().print(table)


def write_simulation(found: Simulation, folder: Path, *, metric: str) -> tuple[Path, Path]:
    """`schedule.csv`, one line per epoch, and `schedule.png`; the folder is made if need be."""
    from nops_diagnostics import plot_schedule

    folder.mkdir(parents=True, exist_ok=True)
    names = list(found.weights[-1])
    columns = ("epoch", *names, "progress", "monitored", "smoothed", "threshold", "state")
    with (folder / "schedule.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for i, epoch in enumerate(found.epochs):
            held: list[Any] = [found.progress[i], found.monitored[i], found.smoothed[i]]
            weights = [found.weights[i].get(name, 0.0) for name in names]
            writer.writerow([epoch, *weights, *held, found.thresholds[i], found.states[i]])
    simulation: Any = found
    figure = plot_schedule(simulation, metric=metric.replace("_", " "))
    figure.savefig(folder / "schedule.png", dpi=200)
    return folder / "schedule.csv", folder / "schedule.png"
