"""One shard on disk: a `.partial` file that fills up, sample by sample, and is then renamed.

The file is complete in form from the start: all bytes are reserved, and from then on only raw
values change. A sample's values, sum and kind are on their way to the disk before its `done` is
set; on continuing, the sum of every sample that claims to be done is recomputed.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nops_data._boundary import read_boundary
from nops_data._errors import DamagedFileError, layout_error
from nops_data._hdf5 import PARTIAL, get_dataset, get_group, open_hdf5, publish
from nops_data._plan import Shard
from nops_data._provenance import GROUP, KIND_LENGTH
from nops_data._skeleton import create_file

_READY = "ready"  # attribute set last, when the empty file is complete in form


def checksum(trajectory: np.ndarray) -> str:
    """SHA-256 of a trajectory's float32 values [T, C, *grid], little-endian, in C order."""
    return hashlib.sha256(np.ascontiguousarray(trajectory, dtype="<f4").tobytes()).hexdigest()


def partial_path(shard: Shard) -> Path:
    """Where the shard grows; no reader takes this for data."""
    return shard.path.with_name(shard.path.name + PARTIAL)


def begin(shard: Shard) -> h5py.File:
    """Create the shard's partial file, all samples undone, and leave it open."""
    path = partial_path(shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = create_file(path, shard.plan.file_spec(shard))
    try:
        group = file.create_group(GROUP)
        for key, value in shard.attributes().items():
            group.attrs[key] = value
        for name, values in shard.columns().items():
            group.create_dataset(name, data=values)
        count = len(shard)
        group.create_dataset("ic_kind", shape=(count,), dtype=_text(KIND_LENGTH))
        group.create_dataset("sha256", shape=(count,), dtype=_text(64))
        group.create_dataset("done", data=np.zeros(count, dtype=bool))
        group.attrs[_READY] = True
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def _text(length: int) -> np.dtype:
    return h5py.string_dtype("utf-8", length)


def is_ready(file: h5py.File) -> bool:
    """Whether `begin` came to its end."""
    return GROUP in file and bool(file[GROUP].attrs.get(_READY, False))


def check_plan(file: h5py.File, shard: Shard) -> None:
    """Refuse a file that was made by another plan.

    Raises:
        LayoutError: Naming the first thing that differs.
    """
    for where, found, wanted in _comparisons(file, shard):
        if not np.array_equal(found, wanted):
            raise layout_error(
                file.filename,
                where,
                found=_short(found),
                expected=f"{_short(wanted)}; the folder holds another data set, choose another",
            )


def _comparisons(file: h5py.File, shard: Shard) -> Iterator[tuple[str, Any, Any]]:
    """Place, found and wanted value of everything that the plan fixes."""
    plan, spec = shard.plan, shard.plan.file_spec(shard)
    yield "root attribute 'dataset_name'", file.attrs.get("dataset_name"), plan.dataset_name
    for key, value in shard.attributes().items():
        yield f"'/{GROUP}' attribute '{key}'", get_group(file, GROUP).attrs.get(key), value
    size = (len(shard), plan.num_frames, *plan.shape)
    for name in plan.channels:
        found = getattr(file.get(f"t0_fields/{name}"), "shape", None)
        yield f"dataset '/t0_fields/{name}'", found, size
    for axis in spec.axes:
        place = f"dimensions/{axis.name}"
        yield f"dataset '/{place}'", get_dataset(file, place)[()], axis.coordinates
    sides = tuple(axis.sides for axis in spec.axes)
    names = tuple(axis.name for axis in spec.axes)
    yield "boundary", read_boundary(file, names), sides
    for name, values in spec.parameters.items():
        place = f"scalars/{name}"
        yield f"dataset '/{place}'", get_dataset(file, place)[()], values.astype(np.float32)
    for name, values in shard.columns().items():
        yield f"dataset '/{GROUP}/{name}'", get_dataset(file, f"{GROUP}/{name}")[()], values


def _short(value: object) -> str:
    text = str(value).replace("\n", " ")
    return text if len(text) <= 80 else text[:77] + "..."


def read_trajectory(file: h5py.File, channels: Sequence[str], row: int) -> np.ndarray:
    """One trajectory [T, C, *grid] of scalar fields."""
    return np.stack([get_dataset(file, f"t0_fields/{name}")[row] for name in channels], axis=1)


def wrong_sums(file: h5py.File, channels: Sequence[str]) -> list[int]:
    """Rows that claim to be done but whose values do not have the stored sum."""
    done = get_dataset(file, f"{GROUP}/done")[()]
    sums = get_dataset(file, f"{GROUP}/sha256")[()]
    return [
        int(row)
        for row in np.flatnonzero(done)
        if checksum(read_trajectory(file, channels, int(row))) != sums[row].decode()
    ]


def undo(file: h5py.File, rows: Sequence[int]) -> None:
    """Mark samples as not done."""
    done = get_dataset(file, f"{GROUP}/done")
    for row in rows:
        done[row] = False
    file.flush()


def put(
    file: h5py.File,
    channels: Sequence[str],
    rows: Sequence[int],
    values: np.ndarray,
    kinds: Sequence[str],
) -> None:
    """Write samples [n, T, C, *grid] into their rows, then mark them as done."""
    for channel, name in enumerate(channels):
        item = get_dataset(file, f"t0_fields/{name}")
        for row, trajectory in zip(rows, values, strict=True):
            item[row] = trajectory[:, channel]
    for row, trajectory, kind in zip(rows, values, kinds, strict=True):
        get_dataset(file, f"{GROUP}/sha256")[row] = checksum(trajectory)
        get_dataset(file, f"{GROUP}/ic_kind")[row] = kind
    file.flush()
    done = get_dataset(file, f"{GROUP}/done")
    for row in rows:
        done[row] = True
    file.flush()


def finish(shard: Shard) -> None:
    """Give the complete file its name."""
    publish(partial_path(shard), shard.path)


def reopen(shard: Shard, *, recheck: bool) -> tuple[h5py.File | None, list[str]]:
    """The partial file to go on with, and what was found wrong on the way.

    None where the shard is complete. A file that cannot be opened, or was not complete in form,
    is begun anew; a complete file with wrong sums becomes partial again.

    Raises:
        LayoutError: If the file was made by another plan, or another process is writing it.
    """
    partial = partial_path(shard)
    if shard.path.exists():
        notes = _fault(shard.path, shard, recheck=recheck)
        if not notes:
            return None, []
        shard.path.replace(partial)
    elif not partial.exists():
        return begin(shard), []
    else:
        notes = []
    return _continue(shard, notes)


def _continue(shard: Shard, notes: list[str]) -> tuple[h5py.File, list[str]]:
    try:
        file = open_hdf5(partial_path(shard), mode="r+")
    except DamagedFileError as error:
        return begin(shard), notes or [f"{error} Begun anew."]
    try:
        if not is_ready(file):
            file.close()
            return begin(shard), notes
        check_plan(file, shard)
        wrong = wrong_sums(file, shard.plan.channels)
        if wrong and not notes:
            notes = [_wrong_text(partial_path(shard), wrong)]
        undo(file, wrong)
    except BaseException:
        file.close()
        raise
    return file, notes


def _fault(path: Path, shard: Shard, *, recheck: bool) -> list[str]:
    """What makes a finished file unfit, as at most one sentence."""
    try:
        with open_hdf5(path) as file:
            if not is_ready(file):
                raise layout_error(path, f"group '/{GROUP}'", found="none", expected="our own file")
            check_plan(file, shard)
            missing = np.flatnonzero(~get_dataset(file, f"{GROUP}/done")[()])
            if missing.size:
                return [f"{path}: {missing.size} samples were not done. Continued."]
            wrong = wrong_sums(file, shard.plan.channels) if recheck else []
            return [_wrong_text(path, wrong)] if wrong else []
    except DamagedFileError as error:
        return [f"{error} Begun anew."]


def _wrong_text(path: Path, rows: list[int]) -> str:
    return f"{path}: samples {rows} have another SHA-256 than stored. Computed again."
