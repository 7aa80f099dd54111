"""A short text that changes when the data do."""

import hashlib
from pathlib import Path

import numpy as np

from nops_data._errors import layout_error
from nops_data._hdf5 import SPLITS, get_dataset, get_group, list_hdf5, open_hdf5
from nops_data._provenance import GROUP

_WHOLE = 2**26  # files up to this many bytes are read whole
_BLOCKS, _BLOCK = 64, 2**16  # of larger ones, this many blocks of this many bytes, evenly spread


def data_fingerprint(folder: Path | str) -> str:
    """SHA-256 over all files of a data set: names, sizes, sums and bytes; see `file_fingerprints`.

    Args:
        folder: With `data/{train,valid,test}/*.hdf5`.

    Returns:
        64 hexadecimal digits.

    Raises:
        LayoutError: If there is no file, or one cannot be opened.
    """
    total = hashlib.sha256()
    for name, digest in file_fingerprints(folder).items():
        total.update(f"{name}\0{digest}\0".encode())
    return total.hexdigest()


def file_fingerprints(folder: Path | str) -> dict[str, str]:
    """SHA-256 of each file of a data set, by its name within the folder.

    Files up to 64 MiB count with every byte; of larger ones 64 evenly spread blocks of 64 KiB,
    the first and the last included, and everything small (times, axes, scalars, seeds and the
    sums of all trajectories). A changed value between the blocks of a large file is found by
    `verify`, not here. Dates and the folder's own name do not count, so a copy has the same
    fingerprints.

    Args:
        folder: With `data/{train,valid,test}/*.hdf5`.

    Returns:
        64 hexadecimal digits by path within the folder.

    Raises:
        LayoutError: If there is no file, or one cannot be opened.
    """
    files = [path for split in SPLITS for path in list_hdf5(Path(folder) / "data" / split)]
    if not files:
        raise layout_error(folder, "folder", found="no HDF5 file in data/*", expected="data")
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def file_digest(path: Path) -> str:
    """SHA-256 of one file, as `file_fingerprints` describes it."""
    digest = hashlib.sha256(f"{path.stat().st_size}\0".encode())
    _add_bytes(digest, path)
    _add_small(digest, path)
    return digest.hexdigest()


def _add_bytes(total: "hashlib._Hash", path: Path) -> None:
    size = path.stat().st_size
    with open(path, "rb") as file:
        if size <= _WHOLE:
            total.update(hashlib.file_digest(file, "sha256").digest())
            return
        for k in range(_BLOCKS):
            file.seek((size - _BLOCK) * k // (_BLOCKS - 1))
            total.update(file.read(_BLOCK))


def _add_small(total: "hashlib._Hash", path: Path) -> None:
    if path.stat().st_size <= _WHOLE:
        return
    with open_hdf5(path) as file:
        for name in (GROUP, "scalars", "dimensions"):
            for key in sorted(get_group(file, name)) if name in file else ():
                total.update(np.asarray(get_dataset(file, f"{name}/{key}")[()]).tobytes())
