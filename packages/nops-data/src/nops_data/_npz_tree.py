"""Trees of one npz file per frame and field, as `sim_000003/velocity_000120.npz`.

A file holds one array `arr_0` of shape [C, *grid], the streamwise axis first. Beside the frames lie
`src/description.json` with the simulation's parameters and, where there is an obstacle,
`obstacle_mask.npz` of shape [*grid], 1 in the fluid.
"""

import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from nops_data._errors import DamagedFileError, LayoutError, layout_error

KEY = "arr_0"
MASK = "obstacle_mask"


@dataclass(frozen=True, kw_only=True)
class NpzSplit:
    """The simulations and frames of one split.

    Attributes:
        simulations: Numbers of the simulations, in the order of the trajectories.
        frames: Numbers of the frames; its step is the stride, as `range(800, 1300, 2)`.
    """

    simulations: Sequence[int]
    frames: range

    def __post_init__(self) -> None:
        if not self.simulations or not self.frames or self.frames.step < 1:
            raise ValueError(
                f"a split needs simulations and rising frames, got {list(self.simulations)} and "
                f"{self.frames}"
            )
        if min(*self.simulations, self.frames[0], 0) < 0:
            raise ValueError(f"numbers need to be at least 0, got {self}")


@dataclass(frozen=True, kw_only=True)
class NpzTree:
    """Which fields of which folder are read, on how many axes."""

    folder: Path
    fields: tuple[str, ...]
    parameters: tuple[str, ...]
    num_dims: int

    def survey(self, splits: Sequence[NpzSplit]) -> tuple[tuple[int, ...], bool]:
        """Look at every file once, without its values.

        Returns:
            The grid, and whether there are masks.

        Raises:
            LayoutError: At the first file that is missing, damaged or of another shape than the
                first frame, and at the first parameter that is missing.
        """
        first = splits[0].simulations[0], splits[0].frames[0]
        grid = _header(self.frame_path(self.fields[0], *first))[0][1:]
        masked = self.mask_path(first[0]).exists()
        for split in splits:
            for simulation in split.simulations:
                self._check_simulation(simulation, split.frames, grid=grid, masked=masked)
        return grid, masked

    def frame_path(self, field: str, simulation: int, frame: int) -> Path:
        """Where one frame of one field lies."""
        return self._place(simulation) / f"{field}_{frame:06d}.npz"

    def mask_path(self, simulation: int) -> Path:
        """Where the mask of a simulation lies, if it has one."""
        return self._place(simulation) / f"{MASK}.npz"

    def read(self, field: str, simulation: int, frames: Sequence[int]) -> np.ndarray:
        """Frames of one field: [1, T, *grid] of a scalar, [1, T, *grid, D] of a vector, float32."""
        paths = [self.frame_path(field, simulation, frame) for frame in frames]
        values = np.stack([_load(path) for path in paths])[None]
        return values[:, :, 0] if values.shape[2] == 1 else np.moveaxis(values, 2, -1)

    def read_mask(self, simulation: int) -> np.ndarray:
        """The mask of one simulation, [1, *grid], float32."""
        values = _load(self.mask_path(simulation))
        return values.reshape(1, *values.shape[-self.num_dims :])

    def read_parameters(self, simulation: int, frames: range) -> dict[str, float]:
        """The parameters of one simulation, under names such as `reynolds_number`.

        Raises:
            LayoutError: If one is missing, is no finite number, or changes over the frames.
        """
        if not self.parameters:
            return {}
        path = self._place(simulation) / "src" / "description.json"
        known = _read_json(path)
        return {
            parameter_name(key): _one_value(path, known, key, frames) for key in self.parameters
        }

    def _place(self, simulation: int) -> Path:
        return self.folder / f"sim_{simulation:06d}"

    def _check_simulation(
        self, simulation: int, frames: range, *, grid: tuple[int, ...], masked: bool
    ) -> None:
        for field, frame in ((field, frame) for frame in frames for field in self.fields):
            path = self.frame_path(field, simulation, frame)
            components = self.num_dims if field == "velocity" else 1
            _check_header(path, {(components, *grid)})
        if self.mask_path(simulation).exists() != masked:
            found = "no mask" if masked else "a mask"
            other = "the first simulation has one" if masked else "the first simulation has none"
            raise layout_error(self.mask_path(simulation), "file", found=found, expected=other)
        if masked:
            _check_header(self.mask_path(simulation), {grid, (1, *grid)})
        self.read_parameters(simulation, frames)


def parameter_name(key: str) -> str:
    """`Reynolds Number` as `reynolds_number`."""
    return re.sub(r"\W+", "_", key.strip().lower())


def _check_header(path: Path, shapes: set[tuple[int, ...]]) -> None:
    shape, dtype = _header(path)
    if shape not in shapes:
        expected = " or ".join(str(option) for option in sorted(shapes, key=len))
        raise layout_error(path, f"array '{KEY}'", found=f"shape {shape}", expected=expected)
    if dtype.kind not in "fiub":
        raise layout_error(path, f"array '{KEY}'", found=f"type {dtype}", expected="real numbers")


def _header(path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array in a file, without reading its values."""
    with _array_stream(path) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    return shape, dtype


def _load(path: Path) -> np.ndarray:
    with _array_stream(path) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False).astype(np.float32)


@contextmanager
def _array_stream(path: Path) -> Iterator[IO[bytes]]:
    """The array of a file, as a stream; what is wrong with the file names it."""
    if not path.is_file():
        raise layout_error(path, "file", found="nothing", expected=f"an npz file with '{KEY}'")
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{KEY}.npy" not in archive.namelist():
                found = [name.removesuffix(".npy") for name in archive.namelist()]
                raise layout_error(path, "arrays", found=found, expected=f"'{KEY}'")
            with archive.open(f"{KEY}.npy") as stream:
                yield stream
    except LayoutError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedFileError(
            f"{path}: file: found damage ({error}), expected a complete npz file."
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise layout_error(path, "file", found="nothing", expected="the parameters") from None
    except ValueError as error:
        raise DamagedFileError(f"{path}: file: found {error}, expected JSON.") from error
    if not isinstance(known, dict):
        raise layout_error(path, "content", found=type(known).__name__, expected="names and values")
    return known


def _one_value(path: Path, known: dict[str, Any], key: str, frames: range) -> float:
    where = f"parameter '{key}'"
    if key not in known:
        raise layout_error(path, where, found=f"only {sorted(known)}", expected="a number")
    value = known[key]
    if isinstance(value, list):
        chosen = value[frames[0] : frames[-1] + 1 : frames.step]
        if len(chosen) != len(frames) or any(other != chosen[0] for other in chosen):
            found = f"{len(value)} values, which change or end within the frames"
            raise layout_error(path, where, found=found, expected="one value for all of them")
        value = chosen[0]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise layout_error(path, where, found=repr(value), expected="a finite number")
    return float(value)
