"""What a generated data set consists of: a value, known before anything is computed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nops_data._boundary import as_sides
from nops_data._hdf5 import SPLITS, as_numpy
from nops_data._provenance import SEEDS
from nops_data._skeleton import MAX_TRAJECTORIES, FileSpec, NewField, make_axes
from nops_data._writer import shard_path

AXES = ("x", "y", "z")


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitPlan:
    """The trajectories of one split.

    Attributes:
        theta: Parameters in the unit cube, (sample, parameter).
        ic_seed: One seed per sample for the initial condition, in [0, 2**64).
        weight_seed: One for all, or one per sample: of the operator's weights, where it has any.
        noise_seed: One for all, or one per sample: of the noise, where there is any.
        parameters: The same parameters in physical units, (sample, parameter); `theta` if None.
    """

    theta: Any
    ic_seed: Sequence[int]
    weight_seed: Sequence[int] | int = 0
    noise_seed: Sequence[int] | int = 0
    parameters: Any | None = None

    def __post_init__(self) -> None:
        theta = np.asarray(as_numpy(self.theta), dtype=np.float64)
        if theta.ndim != 2 or not len(theta):
            raise ValueError(f"theta: found shape {theta.shape}, expected (sample, parameter)")
        bad = np.argwhere(~((theta >= 0) & (theta <= 1)))
        if bad.size:
            row, column = bad[0].tolist()
            raise ValueError(
                f"theta: found {theta[row, column]} for sample {row}, parameter {column}, "
                "expected values in [0, 1]"
            )
        physical = theta if self.parameters is None else self.parameters
        physical = np.asarray(as_numpy(physical), dtype=np.float64)
        if physical.shape != theta.shape or not np.isfinite(physical).all():
            raise ValueError(
                f"parameters: found shape {physical.shape}, expected {theta.shape}, all finite"
            )
        object.__setattr__(self, "theta", theta)
        object.__setattr__(self, "parameters", physical)
        for name in SEEDS:
            object.__setattr__(self, name, _seeds(name, getattr(self, name), len(theta)))

    def __len__(self) -> int:
        return len(self.theta)


def _seeds(name: str, values: Sequence[int] | int, count: int) -> np.ndarray:
    numbers = [values] * count if isinstance(values, int) else [int(value) for value in values]
    if len(numbers) != count or not all(0 <= value < 2**64 for value in numbers):
        raise ValueError(
            f"{name}: found {len(numbers)} values, expected {count} integers in [0, 2**64)"
        )
    return np.array(numbers, dtype=np.uint64)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A few trajectories to compute.

    Attributes:
        split: Their split.
        index: Their places in it.
        theta: Parameters in the unit cube, (sample, parameter) float64.
        ic_seed: Of the initial condition, per sample.
        weight_seed: Of the operator's weights, per sample.
        noise_seed: Of the noise, per sample.
    """

    split: str
    index: tuple[int, ...]
    theta: np.ndarray
    ic_seed: tuple[int, ...]
    weight_seed: tuple[int, ...]
    noise_seed: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.index)

    def describe(self, row: int) -> str:
        """One trajectory's place and seeds, for messages."""
        seeds = ", ".join(f"{name} {getattr(self, name)[row]}" for name in SEEDS)
        return f"split '{self.split}', sample {self.index[row]} ({seeds})"


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A whole data set to generate.

    Attributes:
        dataset_name: Name in the files and of the files.
        domain: Name of the equation or operator.
        solver_version: Version of what computes it; a change makes old files unfit.
        channels: Names of the fields, in channel order.
        parameter_names: Names of the parameters, in column order.
        shape: Grid points per axis.
        num_frames: Frames per trajectory, u0 included.
        frame_interval: Time between frames, in the unit of time.
        splits: "train", "valid", "test" (those wanted) to their trajectories.
        units: Free text on the units of fields, time and length.
        attributes: More settings that the values depend on; stored, and compared when a folder
            is continued.
        lengths: Extent along each axis; 1 by default.
        boundary: As in `WellWriter`.
        shard_size: Trajectories per file.
        chunk_frames: As in `WellWriter`.

    Raises:
        ValueError: If parts do not fit together, or a parameter vector is in two splits.
    """

    dataset_name: str
    domain: str
    solver_version: str
    channels: tuple[str, ...]
    parameter_names: tuple[str, ...]
    shape: tuple[int, ...]
    num_frames: int
    frame_interval: float
    splits: Mapping[str, SplitPlan]
    units: str = ""
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
    lengths: tuple[float, ...] | None = None
    boundary: str | Sequence[str | tuple[str, str]] = "periodic"
    shard_size: int = 64
    chunk_frames: int = 16

    def __post_init__(self) -> None:
        least = {"num_frames": 1, "shard_size": 1, "chunk_frames": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected at least {low}")
        if not 1 <= len(self.shape) <= len(AXES):
            raise ValueError(f"shape: found {self.shape}, expected 1 to {len(AXES)} axes")
        if self.shard_size > MAX_TRAJECTORIES:
            raise ValueError(
                f"shard_size: found {self.shard_size}, expected at most {MAX_TRAJECTORIES}"
            )
        if not self.channels or len(self.lengths or self.shape) != len(self.shape):
            raise ValueError(
                f"channels, lengths: found {self.channels} and {self.lengths}, expected at least "
                f"one channel and {len(self.shape)} lengths"
            )
        as_sides(self.boundary, num_dims=len(self.shape))
        clashes = sorted(set(self.attributes) & {*_ATTRIBUTES, *_PLACE})
        if clashes:
            raise ValueError(f"attributes: found {clashes}, expected other names")
        _check_splits(self.splits, len(self.parameter_names))

    def shards(self, folder: Path | str) -> tuple["Shard", ...]:
        """Every file of the data set, in order of split and number."""
        return tuple(
            Shard(plan=self, split=split, number=number, folder=Path(folder))
            for split in SPLITS
            if split in self.splits
            for number in range(-(-len(self.splits[split]) // self.shard_size))
        )

    def file_spec(self, shard: "Shard") -> FileSpec:
        """The layout of one file."""
        sides = as_sides(self.boundary, num_dims=len(self.shape))
        lengths = self.lengths or (1.0,) * len(self.shape)
        axes = make_axes(AXES[: len(self.shape)], self.shape, sides=sides, lengths=lengths)
        columns = np.asarray(self.splits[shard.split].parameters)[shard.rows].T
        return FileSpec(
            dataset_name=self.dataset_name,
            axes=axes,
            times=np.arange(self.num_frames) * self.frame_interval,
            num_trajectories=len(shard),
            fields=tuple(NewField(name=name) for name in self.channels),
            parameters=dict(zip(self.parameter_names, columns, strict=True)),
            chunk_frames=self.chunk_frames,
        )


_ATTRIBUTES = ("domain", "solver_version", "frame_interval", "units")
_PLACE = ("split", "shard", "num_shards", "first_index", "num_in_split")


@dataclass(frozen=True, kw_only=True, eq=False)
class Shard:
    """One file of a plan: a stretch of one split."""

    plan: Plan
    split: str
    number: int
    folder: Path

    @property
    def rows(self) -> slice:
        """Its trajectories' places in the split."""
        first = self.number * self.plan.shard_size
        return slice(first, min(first + self.plan.shard_size, len(self.plan.splits[self.split])))

    def __len__(self) -> int:
        return self.rows.stop - self.rows.start

    @property
    def path(self) -> Path:
        """The file."""
        place = self.folder / "data" / self.split
        return shard_path(place, self.plan.dataset_name, self.number)

    def attributes(self) -> dict[str, str | int | float]:
        """Attributes of `/nops`."""
        count = len(self.plan.splits[self.split])
        own = {name: getattr(self.plan, name) for name in _ATTRIBUTES}
        place = (
            self.split,
            self.number,
            -(-count // self.plan.shard_size),
            self.rows.start,
            count,
        )
        return {**own, **dict(zip(_PLACE, place, strict=True)), **self.plan.attributes}

    def columns(self) -> dict[str, np.ndarray]:
        """Datasets of `/nops` that are known beforehand."""
        split = self.plan.splits[self.split]
        seeds = {name: np.asarray(getattr(split, name))[self.rows] for name in SEEDS}
        return {**seeds, "theta_unit": np.asarray(split.theta)[self.rows]}

    def requests(self, batch_size: int) -> Iterator[tuple[slice, Request]]:
        """Its trajectories in groups, each with its rows in the file.

        The grouping depends on nothing but `batch_size`, so that what is computed again after
        an interruption is computed in the company it would have had.
        """
        columns = self.columns()
        for first in range(0, len(self), batch_size):
            rows = slice(first, min(first + batch_size, len(self)))
            yield rows, make_request(self.split, self.rows.start, rows, columns)


def make_request(
    split: str, first_index: int, rows: slice, columns: Mapping[str, np.ndarray]
) -> Request:
    """The request for some rows of a file, from the columns of its `/nops`."""
    seeds = {name: tuple(int(value) for value in columns[name][rows]) for name in SEEDS}
    index = tuple(range(first_index + rows.start, first_index + rows.stop))
    return Request(split=split, index=index, theta=columns["theta_unit"][rows], **seeds)


def _check_splits(splits: Mapping[str, SplitPlan], num_parameters: int) -> None:
    unknown = sorted(set(splits) - set(SPLITS))
    if unknown or not splits:
        raise ValueError(f"splits: found {sorted(splits)}, expected some of {SPLITS}")
    owner: dict[bytes, str] = {}
    for name, split in splits.items():
        if split.theta.shape[1] != num_parameters:
            raise ValueError(
                f"split '{name}': found {split.theta.shape[1]} parameters, expected "
                f"{num_parameters} as in parameter_names"
            )
        for row in {row.tobytes() for row in split.theta}:
            if num_parameters and owner.setdefault(row, name) != name:
                raise ValueError(
                    f"splits: found one parameter vector in both '{owner[row]}' and '{name}', "
                    "expected disjoint parameters"
                )
