"""The strict check of files: the_well's checker and loader together, plus our own needs."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from nops_data._errors import LayoutError
from nops_data._finite import first_nonfinite
from nops_data._hdf5 import (
    SPLITS,
    get_attribute,
    get_dataset,
    get_group,
    get_names,
    list_hdf5,
    open_hdf5,
    split_files,
)
from nops_data._layout import GROUPS, FileLayout, read_layout
from nops_data._reader import check_agreement, check_shards

_BLOCK = 2**24  # values looked at in one go


def check_well(path: Path | str) -> list[str]:
    """Everything wrong with a file, or with all files of a folder, as sentences.

    A file passes when the_well's own format checker and its loader accept it and all its field
    values are finite; a folder passes when every file does and the files of each split belong
    together. All values are read.

    Args:
        path: An HDF5 file, or a folder with `data/{train,valid,test}`.

    Returns:
        One sentence per problem, each naming file, place, found and expected; empty when there
        is none. An unreadable file yields the first thing that makes it so.
    """
    if Path(path).is_dir():
        return _check_folder(Path(path))
    return _check_file(Path(path))


def _check_folder(folder: Path) -> list[str]:
    splits = [split for split in SPLITS if (folder / "data" / split).is_dir()]
    problems = _caught(lambda: split_files(folder, "train"))
    for split in splits:
        files = list_hdf5(folder / "data" / split)
        found = [problem for path in files for problem in _check_file(path)]
        problems += found
        if files and not found:
            layouts = [read_layout(path) for path in files]
            problems += _caught(lambda layouts=layouts: check_agreement(layouts))
            problems += _caught(lambda layouts=layouts: check_shards(layouts))
    return problems


def _caught(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except LayoutError as error:
        return [str(error)]
    return []


def _check_file(path: Path) -> list[str]:
    try:
        layout = read_layout(path)
        with open_hdf5(path) as file:
            problems = [f"{path}: {problem}." for problem in _strict(file)]
            return problems + [f"{path}: {problem}." for problem in _values(file, layout)]
    except LayoutError as error:
        return [str(error)]
    except OSError as error:
        return [f"{path}: unreadable bytes ({error})."]


def _strict(file: h5py.File) -> Iterator[str]:
    """What the_well needs beyond what reading needs."""
    if not isinstance(file.attrs.get("grid_type"), str):
        yield "root attribute 'grid_type': found no text, expected e.g. 'cartesian'"
    yield from _strict_parameters(file)
    for name in ("boundary_conditions", "scalars", *GROUPS):
        if name not in file:
            yield f"group '/{name}': found nothing, expected a group, empty if need be"
    yield from _strict_time(file)
    for name in get_names(get_group(file, "dimensions"), "spatial_dims"):
        yield from _strict_flags(file[f"dimensions/{name}"])
    for name in GROUPS:
        if name in file:
            yield from _strict_fields(file, name)
    if "boundary_conditions" in file:
        for group in get_group(file, "boundary_conditions").values():
            yield from _strict_flags(group)
            yield from _strict_list(group, "associated_dims")
            yield from _strict_list(group, "associated_fields")


def _strict_parameters(file: h5py.File) -> Iterator[str]:
    if "simulation_parameters" not in file.attrs:
        yield "root attribute 'simulation_parameters': found nothing, expected a list of names"
        return
    for name in get_names(file, "simulation_parameters"):
        if name not in file.attrs:
            yield f"root attribute '{name}': found nothing, expected a simulation parameter"
        if f"scalars/{name}" not in file:
            yield f"'/scalars/{name}': found nothing, expected a simulation parameter"


def _strict_time(file: h5py.File) -> Iterator[str]:
    time = get_dataset(file, "dimensions/time")
    yield from _strict_flags(time)
    if not time.attrs.get("time_varying", True):
        yield "attribute 'time_varying' of '/dimensions/time': found False, expected True"


def _strict_flags(item: Any) -> Iterator[str]:
    for name in ("sample_varying", "time_varying"):
        if not isinstance(item.attrs.get(name), bool | np.bool_):
            found = item.attrs.get(name, "nothing")
            yield f"attribute '{name}' of '{item.name}': found {found}, expected a boolean"


def _strict_list(item: Any, name: str) -> Iterator[str]:
    found = item.attrs.get(name, "nothing")
    if not isinstance(found, np.ndarray):
        yield f"attribute '{name}' of '{item.name}': found {found}, expected a list of names"


def _strict_fields(file: h5py.File, group: str) -> Iterator[str]:
    names = get_names(get_group(file, group), "field_names")
    for name in sorted(set(get_group(file, group)) - set(names)):
        yield f"'/{group}/{name}': found a dataset, expected it in 'field_names'"
    for name in names:
        item = get_dataset(file, f"{group}/{name}")
        yield from _strict_flags(item)
        if not all(np.ravel(get_attribute(item, "dim_varying", expected="booleans"))):
            yield (
                f"dataset '{item.name}': found an axis left out or of length 1, expected full "
                "arrays (the_well's checker and loader disagree about anything else)"
            )


def _values(file: h5py.File, layout: FileLayout) -> Iterator[str]:
    """The first non-finite value of each field."""
    for field in layout.fields:
        item = get_dataset(file, field.dataset)
        rows = max(1, _BLOCK * item.shape[0] // math.prod(item.shape))
        for first in range(0, item.shape[0], rows):
            bad = first_nonfinite(torch.from_numpy(np.asarray(item[first : first + rows])))
            if bad is not None:
                place = [bad[0] + first, *bad[1:]]
                yield f"dataset '{item.name}', index {place}: found a value that is not finite"
                break
