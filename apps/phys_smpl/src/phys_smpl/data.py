"""Observations of three splits, standardised, with all that is known of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nops_data import (
    LayoutError,
    Table,
    digests,
    has_arrays,
    read_arrays,
    read_days,
    read_facts,
    read_table,
    read_vector,
    unbroken,
)
from nops_physics import network_modes
from nops_train import InputError
from torch import Tensor

from phys_smpl.config import PhysConfig
from phys_smpl.generation import SPLITS, noise_of
from phys_smpl.problems import Beside, make_physics

MEAN_FILE, SCALE_FILE = "train_x_mean.npy", "train_x_scale.npy"
AXES = ("ux_", "uy_", "uz_")
ANGLES = {"tts": (0.0, 90.0), "tto": (0.0, 90.0), "psi": (0.0, 180.0)}
TIME_COLUMNS = ("sin_date", "cos_date")
SHOWN = 8  # identities named in an error


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split.

    Attributes:
        x: Standardised observations (row, D).
        inputs: Known inputs by name, (row,) or (row, k).
        truth: Parameters that the rows were simulated with, by name; empty for measurements.
        days: Day of each row, or None.
        kinds: Kind of each row (its species), or None.
        time: Features of the day (row, 2 or 4), or None.
    """

    x: Tensor
    inputs: Mapping[str, Tensor]
    truth: Mapping[str, Tensor]
    days: np.ndarray | None = None
    kinds: list[str] | None = None
    time: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def known(self, rows: slice = slice(None)) -> dict[str, Any]:
        """What the model's calls take beside x, of some rows."""
        found: dict[str, Any] = {"inputs": {k: v[rows] for k, v in self.inputs.items()}}
        return found if self.time is None else {**found, "time_features": self.time[rows]}


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Everything that a run takes from its data.

    Attributes:
        physics: The forward model.
        splits: By name.
        mean: Of each channel, in its unit, (D,).
        scale: Of each channel, alike.
        channels: Their names.
        noise: What is known of the noise of simulated data: standard deviation and covariance
            (D, D) in standardised units; None for measurements.
        fingerprint: SHA-256 of each file.
    """

    physics: Any
    splits: Mapping[str, Split]
    mean: Tensor
    scale: Tensor
    channels: tuple[str, ...]
    noise: Tensor | None
    fingerprint: dict[str, str]

    def physical(self, x: Tensor) -> Tensor:
        """Observations in the data's unit."""
        return x * self.scale.to(x) + self.mean.to(x)


def open_bundle(config: PhysConfig) -> Bundle:
    """Physics and splits of a settled configuration.

    Raises:
        InputError: If files do not fit the physics or each other.
        LayoutError: If a file is missing, damaged or holds what cannot be used.
    """
    assert config.data.path is not None
    folder = Path(config.data.path)
    if has_arrays(folder):
        return _of_arrays(config, folder)
    return _of_tables(config, folder)


def _of_arrays(config: PhysConfig, folder: Path) -> Bundle:
    facts = read_facts(folder)
    physics = make_physics(config, Beside(folder=folder, facts=facts))
    arrays = {split: read_arrays(folder, split) for split in SPLITS}
    width = len(physics.output_names)
    for split, held in arrays.items():
        found = held["x"].shape if "x" in held else "no array x"
        if found != (len(held.get("x", ())), width):
            raise InputError(f"{folder}/{split}.npz: found {found}, expected x of (row, {width})")
    mean, scale = _statistics(config, arrays["train"]["x"], beside=None)
    names = tuple(facts.get("parameter_names", ()))

    def made(held: Mapping[str, np.ndarray]) -> Split:
        inputs = {
            name: _float(held[f"input_{name}"])
            for name in _input_names(config, physics, [k.removeprefix("input_") for k in held])
        }
        truth = torch.from_numpy(held["parameters"]) if "parameters" in held else None
        named = {} if truth is None else dict(zip(names, truth.unbind(1), strict=True))
        return Split(x=_float((held["x"] - mean) / scale), inputs=inputs, truth=named)

    return Bundle(
        physics=physics,
        splits={name: made(held) for name, held in arrays.items()},
        mean=_float(mean),
        scale=_float(scale),
        channels=tuple(physics.output_names),
        noise=_noise(config, physics, scale),
        fingerprint=digests([folder / f"{name}.npz" for name in SPLITS]),
    )


def _noise(config: PhysConfig, physics: Any, scale: np.ndarray) -> Tensor:
    """Covariance of noise and disturbances, standardised."""
    covariance = noise_of(config) ** 2 * np.eye(len(scale))
    if hasattr(physics, "stations"):
        modes = network_modes(physics.stations).numpy()
        covariance += config.data.disturbance**2 * modes.T @ modes
    return torch.from_numpy(covariance / np.outer(scale, scale))


def _of_tables(config: PhysConfig, folder: Path) -> Bundle:
    tables = {split: read_table(folder / f"{split}.csv") for split in SPLITS}
    reader = TableReader.of(config, folder, tables["train"])
    check_disjoint(tables)
    return Bundle(
        physics=reader.physics,
        splits={name: reader.split(table) for name, table in tables.items()},
        mean=_float(reader.mean),
        scale=_float(reader.scale),
        channels=reader.channels,
        noise=None,
        fingerprint=digests([folder / f"{name}.csv" for name in SPLITS]),
    )


@dataclass(frozen=True, kw_only=True)
class TableReader:
    """Turns tables of one layout into splits.

    Attributes:
        config: Of the run.
        physics: The forward model.
        channels: Columns of the observations, in the order of the physics' outputs.
        mean: Of each channel.
        scale: Of each channel.
        is_standardised: Whether the tables hold standardised values already.
    """

    config: PhysConfig
    physics: Any
    channels: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    is_standardised: bool

    @classmethod
    def of(cls, config: PhysConfig, folder: Path, train: Table) -> "TableReader":
        """The reader that fits a table of training rows.

        Raises:
            InputError: If stations, columns or physics do not fit each other.
        """
        stations = _station_names(train)
        physics = make_physics(config, Beside(folder=folder, stations=stations))
        channels = _channels(train, physics, stations)
        given = config.data.x_mean or config.data.x_scale or (folder / MEAN_FILE).is_file()
        values = train.numbers(channels)
        mean, scale = _statistics(config, values, beside=folder)
        return cls(
            config=config,
            physics=physics,
            channels=channels,
            mean=mean,
            scale=scale,
            is_standardised=bool(given),
        )

    def split(self, table: Table) -> Split:
        """The rows of a table.

        Raises:
            InputError: If an angle is none, or reflectances were scaled otherwise.
            LayoutError: If a column is missing or a value not finite.
        """
        values = table.numbers(self.channels)
        x = values if self.is_standardised else (values - self.mean) / self.scale
        if self.config.problem == "inform":
            self._check_reflectance(table, x)
        names = _input_names(self.config, self.physics, table.columns)
        for name in names:
            _check_angle(table, name)
        return Split(
            x=_float(x),
            inputs={name: _float(table.numbers([name])[:, 0]) for name in names},
            truth={},
            days=read_days(table) if "date" in table.columns else None,
            kinds=table.texts("class") if "class" in table.columns else None,
            time=self._time(table),
        )

    def _check_reflectance(self, table: Table, x: np.ndarray) -> None:
        mean = (x * self.scale + self.mean).mean(0)
        for name, value in zip(self.channels, mean, strict=True):
            if not 0 <= value <= 1:
                raise InputError(
                    f"{table.path}: column {name!r} has a mean reflectance of {value:.3g}, expected 0 "
                    "to 1: data scaled with another scaler?"
                )

    def _time(self, table: Table) -> Tensor | None:
        count = self.config.model.time_features
        if not count:
            return None
        sine, cosine = table.numbers(TIME_COLUMNS).T
        rows = [sine, cosine, 2 * sine * cosine, cosine**2 - sine**2]  # of twice the angle
        return _float(np.stack(rows[:count], 1))


def _station_names(table: Table) -> tuple[str, ...]:
    first = AXES[0]
    return tuple(name.removeprefix(first) for name in table.columns if name.startswith(first))


def _channels(table: Table, physics: Any, stations: Sequence[str]) -> tuple[str, ...]:
    """Columns in the order of the physics' outputs."""
    if hasattr(physics, "stations"):
        return tuple(f"{axis}{name}" for axis in AXES for name in stations)
    found = []
    for name in physics.output_names:
        column = next((c for c in table.columns if c.split("_")[0] == name or c == name), None)
        if column is None:
            raise LayoutError(
                f"{table.path}: header: found {', '.join(table.columns)}, expected a column {name} or "
                f"{name}_… for each output of the physics."
            )
        found.append(column)
    return tuple(found)


def _statistics(
    config: PhysConfig, train: np.ndarray, *, beside: Path | None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of each channel: of files, or of the train split.

    Raises:
        InputError: If one file is there without the other, or a channel does not vary.
    """
    data, width = config.data, train.shape[1]
    if not data.standardise:
        return np.zeros(width), np.ones(width)
    paths = [data.x_mean, data.x_scale]
    if beside is not None and (beside / MEAN_FILE).is_file():
        paths = [paths[0] or beside / MEAN_FILE, paths[1] or beside / SCALE_FILE]
    if any(paths):
        if not all(paths):
            raise InputError(f"data.x_mean = {paths[0]}, data.x_scale = {paths[1]}: give both")
        assert paths[0] is not None
        assert paths[1] is not None
        mean = read_vector(paths[0], width=width)
        return mean, read_vector(paths[1], width=width, positive=True)
    scale = train.std(0)
    if not (scale > 0).all():
        place = int(np.flatnonzero(~(scale > 0))[0])
        raise InputError(f"channel {place} of the train split does not vary: nothing to scale by")
    return train.mean(0), scale


def _input_names(config: PhysConfig, physics: Any, there: Sequence[str]) -> list[str]:
    """Known inputs to read."""
    asked = config.data.inputs
    if asked is None:
        return [name for name in physics.input_names if name in there]
    for name in asked:
        if name not in physics.input_names or name not in there:
            declared = ", ".join(physics.input_names) or "none"
            raise InputError(
                f"data.inputs: {name!r} needs to be an input of the physics ({declared}) and of the "
                f"data ({', '.join(there)})"
            )
    return list(asked)


def _check_angle(table: Table, name: str) -> None:
    if name not in ANGLES:
        return
    low, high = ANGLES[name]
    values = table.numbers([name])[:, 0]
    bad = (values < low) | (values > high)
    if bad.any():
        raise InputError(
            f"{table.path}: column {name!r}: {int(bad.sum())} of {len(values)} rows outside {low:g} to "
            f"{high:g} degrees, the first is {values[bad][0]:g}"
        )


def check_disjoint(tables: Mapping[str, Table]) -> None:
    """Refuse one plot in two splits.

    Raises:
        InputError: With the identities.
    """
    ids = {
        split: set(table.texts("sample_id"))
        for split, table in tables.items()
        if "sample_id" in table.columns
    }
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        if shared := sorted(ids.get(first, set()) & ids.get(second, set())):
            more = f" and {len(shared) - SHOWN} more" if len(shared) > SHOWN else ""
            raise InputError(
                f"sample_id {', '.join(shared[:SHOWN])}{more} are in both {tables[first].path} and "
                f"{tables[second].path}: splits must not share a plot"
            )


def sequence_index(split: Split, length: int) -> Tensor:
    """Rows of stretches that are unbroken in time, `[item, length]`; they share no row.

    Raises:
        InputError: If there is no date, or no stretch is long enough.
    """
    if split.days is None:
        raise InputError("data.sequence_length: the data have no column `date`")
    starts = [
        start
        for rows in unbroken(split.days)
        for start in range(rows.start, rows.stop - length + 1, length)
    ]
    if not starts:
        raise InputError(f"data.sequence_length = {length}: no stretch without a gap is that long")
    return torch.tensor(starts)[:, None] + torch.arange(length)


def _float(values: Any) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(values)).float()
