"""Which PDEBench files and which of their trajectories a reader takes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nops_data._errors import layout_error
from nops_data._hdf5 import list_hdf5
from nops_data._pdebench_layout import PDEFile

PDE_SPLITS = ("train", "valid", "test", "pdebench", "pdebench_train")
SAME = 1e-3  # relative difference of times and positions that float32 storage explains


def files_at(path: Path | str | Sequence[Path | str]) -> list[Path]:
    """One file, those of a folder, or those of a sequence.

    Raises:
        LayoutError: If a folder has none.
        ValueError: If a sequence has none.
    """
    if isinstance(path, Path | str):
        found = list_hdf5(Path(path)) if Path(path).is_dir() else [Path(path)]
        if not found:
            raise layout_error(path, "folder", found="no HDF5 file", expected="*.hdf5 or *.h5")
        return found
    if not path:
        raise ValueError("path: found no file, expected at least one")
    return [Path(part) for part in path]


def samples_of(file: PDEFile, split: str) -> range:
    """Numbers of a file's trajectories in a split.

    Raises:
        LayoutError: If there are fewer than ten.
    """
    count, tenth = file.num_trajectories, file.num_trajectories // 10
    if not tenth:
        raise layout_error(
            file.path,
            "file",
            found=f"{count} trajectories",
            expected="at least 10, to hold out a tenth for each of valid and test",
        )
    bounds = {
        "test": (0, tenth),
        "valid": (tenth, 2 * tenth),
        "train": (2 * tenth, count),
        "pdebench": (0, tenth),
        "pdebench_train": (tenth, count),
    }
    first, stop = bounds[split]
    return range(count - stop, count - first) if file.groups else range(first, stop)


def check_agreement(files: Sequence[PDEFile]) -> None:
    """Refuse files that are not parts of one data set, or on different grids.

    Raises:
        LayoutError: Naming the first file that differs, in what, and the file it differs from.
    """
    first = files[0]
    for file in files[1:]:
        for key in ("shape", "boundary"):
            found, expected = getattr(file, key), getattr(first, key)
            if found != expected:
                hint = "; read other grids apart and mix them by task" if key == "shape" else ""
                raise layout_error(
                    file.path, key, found=found, expected=f"{expected} as in {first.path}{hint}"
                )
        if not (_close(file.times, first.times) and _close(*map(_joined, (file, first)))):
            raise layout_error(
                file.path,
                "times or coordinates",
                found="others",
                expected=f"those of {first.path}",
            )


def _joined(file: PDEFile) -> np.ndarray:
    return np.concatenate(file.coordinates)


def _close(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and np.allclose(found, expected, rtol=SAME)
