"""A run's event log as a table."""

import csv
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from nops_train._errors import InputError
from nops_train._events import read_events
from nops_train._scalars import PREFIXES, scalars

FIXED = ("event", "epoch", "step")
GROUPS = ("", *PREFIXES, "gradient_norm", "valid")


def write_csv(run: Path, destination: Path | None) -> None:
    """Write a row per logged step and per validation.

    Columns are event, epoch, step (0-based; a validation has the number of steps applied), loss,
    gradient_norm, learning_rate, and raw/, weight/, weighted/ by term; gradient_norm/ by term where it
    was logged; valid/ by metric. A cell is empty where the event has no such value.

    Args:
        run: Run folder, or an event log.
        destination: The file; standard output for None.

    Raises:
        InputError: If there is no event log, or the file cannot be written.
    """
    events = [e for e in read_events(run) if e["event"] in ("train", "validation")]
    if destination is None:
        _write(sys.stdout, events)
        return
    try:
        with open(destination, "w", newline="", encoding="utf-8") as file:
            _write(file, events)
    except OSError as error:
        raise InputError(f"{destination}: cannot be written: {error.strerror}") from error


def _write(file: TextIO, events: list[dict[str, Any]]) -> None:
    rows = [{**{k: e[k] for k in FIXED}, **scalars(e)} for e in events]
    writer = csv.DictWriter(file, [*FIXED, *_columns(rows)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """All names that occur, group by group, in a group as they first occur."""
    names = dict.fromkeys(name for row in rows for name in row if name not in FIXED)
    return sorted(names, key=lambda name: GROUPS.index(name.rpartition("/")[0].split("/")[0]))
