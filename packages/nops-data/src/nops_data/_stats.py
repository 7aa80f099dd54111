"""`stats.yaml`, as the_well's tools read it: an export, never read back by this package."""

import os
from pathlib import Path
from typing import Any

import torch
import yaml

from nops_data._hdf5 import PARTIAL, publish
from nops_data._layout import Field
from nops_data._normaliser import Normaliser
from nops_data._reader import WellReader


def write_stats(folder: Path | str, *, normaliser: Normaliser | None = None) -> Path:
    """Write `<folder>/stats.yaml` with the statistics of the train split.

    Keys `mean`, `std`, `rms` and, for fields that vary in time, `mean_delta`, `std_delta`,
    `rms_delta` (one-step changes); under each, field name to a number, a list of D or a D×D list.
    Population statistics, five significant digits.

    Args:
        folder: The data set's folder.
        normaliser: Fitted on all fields of the train split; fitted here when None.

    Returns:
        The path of the file.

    Raises:
        LayoutError: If the train split cannot be read.
        ValueError: If the normaliser has other channels than the train split.
    """
    reader = WellReader(folder, split="train")
    fitted = Normaliser.fit(reader) if normaliser is None else normaliser
    if fitted.channels != reader.channels:
        raise ValueError(
            f"normaliser: found channels {fitted.channels}, expected {reader.channels}"
        )
    path = Path(folder) / "stats.yaml"
    temporary = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")  # ranks may meet here
    temporary.write_text(yaml.dump(_table(fitted, reader), Dumper=_Dumper), encoding="utf-8")
    publish(temporary, path)
    return path


def _table(normaliser: Normaliser, reader: WellReader) -> dict[str, dict[str, Any]]:
    moving = {"mean": normaliser.increment_mean, "std": normaliser.increment_std}
    moving["rms"] = (moving["mean"].square() + moving["std"].square()).sqrt()
    always = {"mean": normaliser.mean, "std": normaliser.std, "rms": normaliser.rms}
    table: dict[str, dict[str, Any]] = {key: {} for key in always}
    table |= {f"{key}_delta": {} for key in moving}
    first = 0
    for field in reader.fields:
        stop = first + len(field.channels)
        for key in always:
            table[key][field.name] = _shaped(always[key][first:stop], field)
            if field.time_varying:
                table[f"{key}_delta"][field.name] = _shaped(moving[key][first:stop], field)
        first = stop
    return table


def _shaped(values: torch.Tensor, field: Field) -> Any:
    size = len(field.dim_varying)
    return values.reshape((size,) * field.order).tolist()


class _Dumper(yaml.SafeDumper):
    """Prints numbers with five significant digits."""


def _five_digits(dumper: _Dumper, value: float) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:float", f"{value:.4E}")


_Dumper.add_representer(float, _five_digits)
