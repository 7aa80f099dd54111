"""Small problems as arrays: an npz file per split, and what they are in `problem.json`."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nops_data._errors import LayoutError, layout_error
from nops_data._hdf5 import SPLITS
from nops_data._sampler import Draw
from nops_data._tables import read_json

FACTS = "problem.json"


def write_arrays(
    folder: Path | str,
    splits: Mapping[str, Mapping[str, np.ndarray]],
    *,
    facts: Mapping[str, Any],
) -> Path:
    """Write `<split>.npz` for each split, and `problem.json` last: it says that all are there.

    Args:
        folder: Made if need be.
        splits: Arrays by name, the sample first, by split.
        facts: What the data are, as JSON holds it.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FACTS).unlink(missing_ok=True)
    for split, arrays in splits.items():
        part = folder / f"{split}.npz.part"
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **dict(arrays))
        part.replace(folder / f"{split}.npz")
    part = folder / f"{FACTS}.part"
    part.write_text(json.dumps(dict(facts), indent=1) + "\n", encoding="utf-8")
    part.replace(folder / FACTS)
    return folder


def has_arrays(folder: Path | str) -> bool:
    """Whether `write_arrays` has finished there.

    Args:
        folder: As given to `write_arrays`.

    Returns:
        Whether its `problem.json` is there.
    """
    return (Path(folder) / FACTS).is_file()


def read_facts(folder: Path | str) -> dict[str, Any]:
    """What `write_arrays` was told of the data.

    Args:
        folder: As given to `write_arrays`.

    Returns:
        The facts, as they were given.

    Raises:
        LayoutError: If there is no readable `problem.json`.
    """
    return read_json(Path(folder) / FACTS)


def read_arrays(folder: Path | str, split: str) -> dict[str, np.ndarray]:
    """The arrays of a split by name.

    Args:
        folder: As given to `write_arrays`.
        split: "train", "valid" or "test".

    Returns:
        Arrays, the sample first.

    Raises:
        LayoutError: If the file is missing or damaged, arrays have unlike numbers of samples, or
            a value is not finite: with the array and how many samples hold one.
    """
    if split not in SPLITS:
        raise LayoutError(f"{folder}: no split {split!r}, expected one of {', '.join(SPLITS)}")
    path = Path(folder) / f"{split}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # whatever a zip file, or what is none, gives rise to
        raise LayoutError(f"{path}: cannot be read: {error}") from error
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise layout_error(path, "samples", found=lengths, expected="one number, 1 at least")
    for name, values in arrays.items():
        rows = ~np.isfinite(values.reshape(len(values), -1)).all(1)
        if rows.any():
            where = f"array {name!r}, {int(rows.sum())} of {len(rows)} samples"
            raise layout_error(path, where, found="NaN or infinity", expected="finite numbers")
    return arrays


def digests(paths: Iterable[Path | str]) -> dict[str, str]:
    """SHA-256 of each file by its own name, every byte: what identifies small data.

    Args:
        paths: The files.

    Returns:
        64 hexadecimal digits by file name, without its folder.

    Raises:
        LayoutError: If one cannot be read.
    """
    found = {}
    for path in map(Path, paths):
        try:
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise LayoutError(f"{path}: cannot be read: {error}") from error
    return found


class Rows:
    """Tensors with a row per sample as a data set; items are rows, or stretches of rows.

    Args:
        values: By name, `[row, …]`, of one number of rows.
        index: Rows of each item: `[item]`, or `[item, length]` for stretches; None is every row.

    Raises:
        ValueError: If numbers of rows differ.
    """

    def __init__(self, values: Mapping[str, Tensor], *, index: Tensor | None = None) -> None:
        lengths = {name: len(held) for name, held in values.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"values have unlike numbers of rows: {lengths}")
        self._values = dict(values)
        self._index = torch.arange(next(iter(lengths.values()))) if index is None else index

    def __len__(self) -> int:
        return len(self._index)

    def batch(self, draws: Sequence[Draw]) -> dict[str, Tensor]:
        """The items of these draws, `[item, …]` or `[item, length, …]`."""
        rows = self._index[torch.tensor([draw.index for draw in draws])]
        return {name: values[rows] for name, values in self._values.items()}
