"""Parameters and boundary of one PDEBench file: from attributes, its name, or the user."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from nops_data._boundary import Sides, as_sides
from nops_data._errors import LayoutError, layout_error
from nops_data._pdebench_tasks import KNOWN_TOKENS, PDETask

logger = logging.getLogger(__name__)

# No leading zeros: the "M01" of some test files means 0.1.
_NUMBER = r"((?:0|[1-9]\d*)(?:\.\d*)?(?:e[+-]?\d+)?)"
_NAME = "the file's name"
_ENDS = {"periodic": "periodic", "trans": "open"}


def read_parameters(
    file: h5py.File, task: PDETask, given: Mapping[str, float]
) -> tuple[float, ...]:
    """The task's parameters, in its order: from root attributes, else the file's name, else `given`.

    Attribute names count without case. A value from the file's name is logged.

    Raises:
        LayoutError: If one is missing, is not a finite number, or two of the places disagree, or
            the file has a parameter of another task.
    """
    for name, token in sorted(KNOWN_TOKENS - set(task.tokens)):
        places = _places(file, name, token)
        if places and name not in task.parameters:
            raise layout_error(
                file.filename,
                "parameters",
                found=f"{name} = {next(iter(places.values())):g} in {next(iter(places))}",
                expected=f"only {list(task.parameters)}, those of task {task.name!r}",
            )
    return tuple(_parameter(file, name, token, given) for name, token in task.tokens)


def check_given(task: PDETask, given: Mapping[str, float]) -> None:
    """Refuse parameters that the task does not have.

    Raises:
        ValueError: Naming them and those it has.
    """
    unknown = sorted(set(given) - set(task.parameters))
    if unknown:
        raise ValueError(
            f"parameters: found {unknown}, expected some of {list(task.parameters)}, those of "
            f"task {task.name!r}"
        )


def read_sides(
    path: str, task: PDETask, given: str | tuple[str | Sides, ...] | None
) -> tuple[Sides, ...]:
    """The kind at the ends of each axis: the task's, else that of the file's name, else `given`.

    Raises:
        LayoutError: If nothing says it, or two of them disagree.
        ValueError: If `given` is no boundary.
    """
    stem = Path(path).stem
    named = [kind for token, kind in _ENDS.items() if f"_{token}_" in f"{stem}_"]
    known = task.boundary or (as_sides(named[0], num_dims=len(task.dims)) if named else None)
    asked = None if given is None else as_sides(given, num_dims=len(task.dims))
    if known is None and asked is None:
        raise layout_error(
            path,
            "boundary",
            found=f"neither '_periodic_' nor '_trans_' in the name {stem!r}",
            expected="one of them, or the argument boundary",
        )
    if known is not None and asked is not None and known != asked:
        raise layout_error(path, "boundary", found=asked, expected=f"{known} as the file has it")
    return known or asked or ()


def _parameter(file: h5py.File, name: str, token: str, given: Mapping[str, float]) -> float:
    stem = Path(file.filename).stem
    places = _places(file, name, token)
    if list(places) == [_NAME]:
        logger.info("%s: %s = %g from the file's name", file.filename, name, places[_NAME])
    if name in given:
        places["the argument parameters"] = float(given[name])
    if not places:
        raise layout_error(
            file.filename,
            f"parameter '{name}'",
            found=f"neither an attribute nor '{token}<number>' in the name {stem!r}",
            expected=f"one of them, or parameters={{'{name}': …}}",
        )
    return _one_value(file.filename, name, places)


def _places(file: h5py.File, name: str, token: str) -> dict[str, float]:
    """Where a file tells a parameter, and the value there."""
    keys = [key for key in map(str, file.attrs) if key.lower() == name.lower()]
    places = {f"attribute '{key}'": _number(file, key) for key in keys}
    written = re.search(rf"(?:^|_){token}{_NUMBER}(?:_|$)", Path(file.filename).stem)
    return {**places, _NAME: float(written[1])} if written else places


def _number(file: h5py.File, key: str) -> float:
    value = np.asarray(file.attrs[key])
    if value.size != 1 or value.dtype.kind not in "fiu" or not np.isfinite(value).all():
        where = f"root attribute '{key}'"
        raise layout_error(file.filename, where, found=value, expected="one finite number")
    return float(value.item())


def _one_value(path: str, name: str, places: Mapping[str, float]) -> float:
    first = next(iter(places.values()))
    if not all(np.isclose(value, first, rtol=1e-6, atol=0.0) for value in places.values()):
        found = ", ".join(f"{value:g} in {place}" for place, value in places.items())
        raise LayoutError(f"{path}: parameter '{name}': found {found}, expected one value.")
    return first
