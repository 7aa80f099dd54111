"""Opening HDF5 files, and finding things in them, with errors that name file and place."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from nops_data._errors import DamagedFileError, LockedFileError, layout_error

SPLITS = ("train", "valid", "test")
SUFFIXES = (".h5", ".hdf5")
PARTIAL = ".partial"  # appended to the name of a file that is not complete yet
# Old enough for every reader in use, and no consistency flags that a killed writer leaves behind.
LIBVER = ("earliest", "v110")


def open_hdf5(path: Path | str, *, mode: str = "r") -> h5py.File:
    """Open an HDF5 file, or say what is wrong with it.

    Raises:
        LayoutError: If the file is missing.
        DamagedFileError: If it is empty, truncated, no HDF5 file, or may not be read.
        LockedFileError: If another process is writing it.
    """
    if not os.path.isfile(path):
        raise layout_error(path, "file", found="nothing", expected="an HDF5 file")
    if os.path.getsize(path) == 0:
        raise DamagedFileError(f"{path}: file: found 0 bytes, expected an HDF5 file.")
    try:
        return h5py.File(path, mode, libver=LIBVER)
    except BlockingIOError as error:
        raise LockedFileError(f"{path}: another process is writing this file.") from error
    except OSError as error:
        fault = _open_fault(path, error)
        raise DamagedFileError(
            f"{path}: file: found {fault}, expected a complete HDF5 file."
        ) from error


def _open_fault(path: Path | str, error: OSError) -> str:
    if "truncated" in str(error):
        return f"{os.path.getsize(path)} bytes, truncated ({error})"
    if not os.access(path, os.R_OK):
        return "a file that may not be read"
    if not h5py.is_hdf5(path):
        return f"{os.path.getsize(path)} bytes that are not HDF5"
    return f"a damaged file ({error})"


def split_files(folder: Path | str, split: str) -> list[Path]:
    """The files of one split, `<folder>/data/<split>/*.hdf5` and `*.h5`, sorted by path.

    Raises:
        LayoutError: If the folder is missing or holds no such file.
    """
    if split not in SPLITS:
        raise ValueError(f"split: found {split!r}, expected one of {SPLITS}")
    place = Path(folder) / "data" / split
    files = list_hdf5(place)
    if not files:
        raise layout_error(place, "folder", found=_folder_fault(place), expected="*.hdf5 files")
    return files


def list_hdf5(place: Path) -> list[Path]:
    """The HDF5 files directly in one folder, sorted by path; empty where there is no folder."""
    if not place.is_dir():
        return []
    return sorted(path for path in place.iterdir() if path.suffix in SUFFIXES)


def _folder_fault(place: Path) -> str:
    if not place.parent.parent.is_dir():
        return f"no folder {place.parent.parent}"
    if not place.is_dir():
        return "no such folder"
    if any(path.name.endswith(PARTIAL) for path in place.iterdir()):
        return f"only unfinished *{PARTIAL} files (generate again to complete them)"
    return "no HDF5 file"


def get_group(file: h5py.File, name: str) -> h5py.Group:
    """A group of a file, or an error that lists what is there instead."""
    found = file.get(name)
    if not isinstance(found, h5py.Group):
        there = sorted(file) if found is None else type(found).__name__
        raise layout_error(
            file.filename, f"group '/{name}'", found=there, expected="the_well's layout"
        )
    return found


def get_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A dataset of a file, or an error that names it."""
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        there = "nothing" if found is None else type(found).__name__
        raise layout_error(file.filename, f"'/{name}'", found=there, expected="a dataset")
    return found


def get_attribute(item: h5py.Group | h5py.Dataset, name: str, *, expected: str) -> Any:
    """An attribute, or an error that names it and its owner."""
    if name not in item.attrs:
        where = f"attribute '{name}' of '{item.name}'"
        raise layout_error(item.file.filename, where, found="nothing", expected=expected)
    return item.attrs[name]


def get_integer(item: h5py.Group | h5py.Dataset, name: str) -> int:
    """An integer attribute."""
    value = np.asarray(get_attribute(item, name, expected="an integer"))
    if value.size != 1 or value.dtype.kind not in "iu":
        where = f"attribute '{name}' of '{item.name}'"
        raise layout_error(item.file.filename, where, found=value, expected="an integer")
    return int(value.item())


def get_flag(item: h5py.Group | h5py.Dataset, name: str, *, default: bool | None = None) -> bool:
    """A boolean attribute; `default` stands in where writers in use leave it out."""
    if default is not None and name not in item.attrs:
        return default
    value = np.asarray(get_attribute(item, name, expected="a boolean"))
    if value.size != 1 or value.dtype.kind not in "biu" or int(value.item()) not in (0, 1):
        where = f"attribute '{name}' of '{item.name}'"
        raise layout_error(item.file.filename, where, found=value, expected="a boolean")
    return bool(value.item())


def get_names(item: h5py.Group | h5py.Dataset, name: str) -> tuple[str, ...]:
    """A list of names; one plain string counts as a list of one, as writers in use do."""
    value = get_attribute(item, name, expected="a list of names")
    values: Iterable[Any] = [value] if isinstance(value, str | bytes) else np.ravel(value)
    names = tuple(v.decode() if isinstance(v, bytes) else v for v in values)
    if not all(isinstance(v, str) for v in names):
        where = f"attribute '{name}' of '{item.name}'"
        raise layout_error(item.file.filename, where, found=value, expected="a list of names")
    return names


def as_numpy(values: Any) -> np.ndarray:
    """An array without a copy where possible; tensors are taken to the CPU."""
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def publish(temporary: Path, final: Path) -> None:
    """Give a complete file its name so that it survives a power cut: sync, rename, sync folder."""
    with open(temporary, "r+b") as file:
        os.fsync(file.fileno())
    os.replace(temporary, final)
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
