"""What one HDF5 file of spinlock holds, and the checks that make it readable as trajectories."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from nops_data._errors import LayoutError, layout_error
from nops_data._hdf5 import get_dataset, get_names, open_hdf5

PARAMETERS, INPUTS, OUTPUTS = "parameters/params", "inputs/fields", "outputs/fields"
KINDS = ("ic_types", "evolution_policies")
NAMES = {
    "c": "channels",
    "channels": "channels",
    "m": "realisations",
    "realisations": "realisations",
    "realizations": "realisations",
}
SAME = 1e-5  # of the largest value: what storage in another precision explains

Axis1 = Literal["channels", "realisations"]
FirstFrame = Literal["start", "step"]


@dataclass(frozen=True, kw_only=True)
class SpinlockFile:
    """All of a file but its fields.

    Attributes:
        path: The file.
        parameters: θ of each row [N, P] float64, in [0, 1].
        num_realisations: Trajectories of each row.
        num_outputs: Frames of `/outputs/fields`.
        num_channels: Of the fields.
        shape: Grid points along both axes.
        axis1: What axis 1 of `/inputs/fields` counts.
        begins_with_input: Whether the start of a trajectory is its input, and the outputs follow;
            otherwise the first output is the start.
        kinds: Texts of `/metadata`, by name, one per row; only those that there are.
    """

    path: str
    parameters: np.ndarray = field(repr=False)
    num_realisations: int
    num_outputs: int
    num_channels: int
    shape: tuple[int, int]
    axis1: Axis1
    begins_with_input: bool
    kinds: dict[str, tuple[str, ...]] = field(repr=False)

    @property
    def num_frames(self) -> int:
        """Frames of a trajectory, its start included."""
        return self.num_outputs + self.begins_with_input


def read_spinlock(
    path: Path | str, *, axis1: Axis1 | None, first_frame: FirstFrame | None
) -> SpinlockFile:
    """Read and check everything in a file but its field values.

    Args:
        path: The file.
        axis1: As in `SpinlockReader`.
        first_frame: As in `SpinlockReader`.

    Raises:
        LayoutError: At the first thing that would make the file unreadable as trajectories.
    """
    if Path(path).is_dir():
        raise layout_error(path, "file", found="a folder", expected="one HDF5 file")
    with open_hdf5(path) as file:
        rows = _parameters(file)
        outputs = _outputs(file, len(rows))
        _, realisations, frames, channels, *grid = outputs.shape
        named = _axis1(file, outputs.shape, axis1)
        found = SpinlockFile(
            path=str(path),
            parameters=rows,
            num_realisations=realisations,
            num_outputs=frames,
            num_channels=channels,
            shape=(grid[0], grid[1]),
            axis1=named,
            begins_with_input=first_frame == "step",
            kinds={name: _texts(file, name, len(rows)) for name in KINDS if _has(file, name)},
        )
        if first_frame is None:
            _check_start(file, found)
        if found.num_frames < 2:
            raise _shape_error(outputs, "at least 2 frames on axis 2")
    return found


def input_of(item: h5py.Dataset, axis1: Axis1, *, row: int, realisation: int) -> np.ndarray:
    """The initial state [C, H, W] of one trajectory, from `/inputs/fields`."""
    if axis1 == "channels":
        return item[row]
    state = item[row, realisation]
    return state[None] if state.ndim == 2 else state


def _parameters(file: h5py.File) -> np.ndarray:
    item = _numbers(file, PARAMETERS)
    if item.ndim != 2:
        raise _shape_error(item, "[N, P], a row of parameters for each N")
    rows = item[()].astype(np.float64)
    bad = np.argwhere(~((rows >= 0) & (rows <= 1)))
    if len(bad):
        row, column = bad[0].tolist()
        where = f"dataset '{item.name}', row {row}, parameter {column}"
        raise layout_error(
            file.filename, where, found=rows[row, column], expected="a value in [0, 1]"
        )
    return rows


def _outputs(file: h5py.File, rows: int) -> h5py.Dataset:
    if OUTPUTS not in file:
        raise layout_error(
            file.filename,
            f"'/{OUTPUTS}'",
            found="nothing, as in files written with feature_only_mode",
            expected="[N, M, T, C, H, W]: without it there are no trajectories",
        )
    item = _numbers(file, OUTPUTS)
    if item.ndim != 6 or len(item) != rows:
        raise _shape_error(item, f"[N, M, T, C, H, W] with N = {rows}, as '/{PARAMETERS}' has")
    return item


def _axis1(file: h5py.File, outputs: tuple[int, ...], given: Axis1 | None) -> Axis1:
    """What axis 1 of the inputs counts; sizes are checked, never used to guess it."""
    item = _numbers(file, INPUTS)
    if item.ndim not in (4, 5):
        raise _shape_error(item, "[N, C, H, W] or [N, M, H, W] or [N, M, C, H, W]")
    stored = _stored_axis1(item)
    if None not in (stored, given) and stored != given:
        raise _axis_error(item, f"{stored} by its attribute 'dims'", f"{given}, as axis1 says")
    named = given or stored or ("realisations" if item.ndim == 5 else None)
    if named is None:
        raise _axis_error(item, "no attribute 'dims'", "that, or axis1 to name it")
    if item.ndim == 5 and named == "channels":
        raise _axis_error(item, "channels in five axes", "realisations, as in [N, M, C, H, W]")
    _check_sizes(item, outputs, named)
    return named


def _axis_error(item: h5py.Dataset, found: str, expected: str) -> LayoutError:
    where = f"axis 1 of dataset '{item.name}'"
    return layout_error(item.file.filename, where, found=found, expected=expected)


def _check_sizes(item: h5py.Dataset, outputs: tuple[int, ...], axis1: Axis1) -> None:
    rows, realisations, _, channels, *grid = outputs
    apart = (channels,) if item.ndim == 5 else ()
    lead = (channels,) if axis1 == "channels" else (realisations, *apart)
    expected = (rows, *lead, *grid)
    alone = axis1 == "realisations" and item.ndim == 4 and channels != 1
    if item.shape != expected or alone:
        raise _shape_error(item, f"{expected}, axis 1 {axis1}, as '/{OUTPUTS}' is {outputs}")


def _stored_axis1(item: h5py.Dataset) -> Axis1 | None:
    if "dims" not in item.attrs:
        return None
    text = " ".join(get_names(item, "dims"))
    names = re.findall(r"[A-Za-z_]+", text)
    named = NAMES.get(names[1].lower()) if len(names) == item.ndim else None
    if named is None:
        where = f"attribute 'dims' of dataset '{item.name}'"
        raise layout_error(
            item.file.filename,
            where,
            found=repr(text),
            expected=f"{item.ndim} names, the second of them one of {sorted(NAMES)}",
        )
    return named  # pyright: ignore[reportReturnType]


def _check_start(file: h5py.File, facts: SpinlockFile) -> None:
    """Refuse outputs that do not begin with their inputs, where nobody said what they begin with."""
    inputs, outputs = get_dataset(file, INPUTS), get_dataset(file, OUTPUTS)
    for row in (0, len(facts.parameters) - 1):
        for realisation in range(facts.num_realisations):
            start = input_of(inputs, facts.axis1, row=row, realisation=realisation)
            first = np.asarray(outputs[row, realisation, 0], dtype=np.float64)
            apart = np.abs(first - start).max()
            if not apart <= SAME * np.abs(start).max():
                raise layout_error(
                    file.filename,
                    f"dataset '/{OUTPUTS}', row {row}, realisation {realisation}, first frame",
                    found=f"up to {apart:.3g} from '/{INPUTS}'",
                    expected="the same state, or first_frame to say what it is: the start all "
                    "the same, or the state a step after the input",
                )


def _has(file: h5py.File, name: str) -> bool:
    return f"metadata/{name}" in file


def _texts(file: h5py.File, name: str, rows: int) -> tuple[str, ...]:
    item = get_dataset(file, f"metadata/{name}")
    if h5py.check_string_dtype(item.dtype) is None or item.shape != (rows,):
        where = f"dataset '{item.name}'"
        found = f"{item.dtype} of shape {item.shape}"
        raise layout_error(file.filename, where, found=found, expected=f"{rows} texts, one per row")
    return tuple(str(text) for text in item.asstr()[()])


def _numbers(file: h5py.File, name: str) -> h5py.Dataset:
    item = get_dataset(file, name)
    where = f"dataset '{item.name}'"
    if item.dtype.kind != "f":
        raise layout_error(file.filename, where, found=item.dtype, expected="real numbers")
    if 0 in item.shape:
        raise _shape_error(item, "at least one value")
    return item


def _shape_error(item: h5py.Dataset, expected: str) -> LayoutError:
    where = f"dataset '{item.name}'"
    return layout_error(item.file.filename, where, found=f"shape {item.shape}", expected=expected)
