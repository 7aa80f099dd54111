"""Boundary conditions as the_well stores them: a mask per spatial axis and kind."""

import h5py
import numpy as np

from nops_data._errors import layout_error
from nops_data._hdf5 import get_attribute, get_dataset, get_group, get_names

KINDS = ("wall", "open", "periodic")
Sides = tuple[str, str]  # kind at the low and at the high end of one axis


def as_sides(boundary: object, *, num_dims: int) -> tuple[Sides, ...]:
    """One (low, high) pair of kinds per axis from one kind, or one kind or pair per axis.

    Raises:
        ValueError: If a kind is unknown, the number of axes differs, or only one end of an
            axis is periodic.
    """
    per_axis = (boundary,) * num_dims if isinstance(boundary, str) else boundary
    if not isinstance(per_axis, tuple | list) or len(per_axis) != num_dims:
        raise ValueError(f"boundary: found {boundary!r}, expected one entry per axis ({num_dims})")
    sides = [(entry, entry) if isinstance(entry, str) else tuple(entry) for entry in per_axis]
    for pair in sides:
        if len(pair) != 2 or any(kind not in KINDS for kind in pair):
            raise ValueError(f"boundary: found {pair!r}, expected kinds out of {KINDS}")
        if (pair[0] == "periodic") != (pair[1] == "periodic"):
            raise ValueError(f"boundary: found {pair!r}, expected both ends periodic or neither")
    return tuple((low, high) for low, high in sides)


def read_boundary(file: h5py.File, dims: tuple[str, ...]) -> tuple[Sides, ...]:
    """The kind at both ends of each axis; open where no mask says otherwise.

    A mask over several axes counts for an end as the_well's loader counts it: a wall must cover
    the whole end, anything else only touch it.
    """
    found = {dim: ["open", "open"] for dim in dims}
    if "boundary_conditions" in file:
        group = get_group(file, "boundary_conditions")
        for name in group:
            _apply(file, f"boundary_conditions/{name}", found)
    return tuple((low, high) for low, high in found.values())


def _apply(file: h5py.File, place: str, found: dict[str, list[str]]) -> None:
    group = get_group(file, place)
    kind = str(get_attribute(group, "bc_type", expected=f"one of {KINDS}")).lower()
    if kind not in KINDS:
        where = f"attribute 'bc_type' of '/{place}'"
        raise layout_error(file.filename, where, found=repr(kind), expected=f"one of {KINDS}")
    dims = get_names(group, "associated_dims")
    mask = np.asarray(get_dataset(file, f"{place}/mask")[()], dtype=bool)
    if any(dim not in found for dim in dims) or mask.ndim != len(dims):
        raise layout_error(
            file.filename,
            f"'/{place}'",
            found=f"a mask of shape {mask.shape} over {dims}",
            expected=f"one axis per name, each one of {tuple(found)}",
        )
    covers = np.all if kind == "wall" else np.any
    for axis, dim in enumerate(dims):
        for end, position in enumerate((0, -1)):
            if covers(np.take(mask, position, axis=axis)):
                found[dim][end] = kind
