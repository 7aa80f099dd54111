"""Group `/nops`: where each trajectory comes from, and whether it is complete.

Datasets, all with a leading sample axis: `weight_seed`, `noise_seed`, `ic_seed` (uint64),
`ic_kind` and `sha256` (fixed-length text), `theta_unit` (float64, parameters in the unit cube),
`done` (boolean). Attributes: domain, solver version, frame interval, units, and the place of the
file among the shards of its split.
"""

from dataclasses import dataclass

import h5py
import numpy as np

from nops_data._errors import layout_error
from nops_data._hdf5 import get_dataset, get_group, get_integer

GROUP = "nops"
SEEDS = ("weight_seed", "noise_seed", "ic_seed")
KIND_LENGTH = 128  # bytes of UTF-8 an initial condition's kind may take
SHARD_KEYS = ("shard", "num_shards", "first_index", "num_in_split")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The part of `/nops` that a reader needs; every part is optional in a file."""

    theta: np.ndarray | None  # [B, P] in [0, 1]
    shard: dict[str, int]  # SHARD_KEYS, empty for files that are no shards


def read_provenance(file: h5py.File, count: int) -> Provenance | None:
    """Read and check `/nops`; None where a file has none.

    Raises:
        LayoutError: If a trajectory is not done, or a parameter is outside [0, 1].
    """
    if GROUP not in file:
        return None
    group = get_group(file, GROUP)
    if "done" in group:
        check_done(file, read_rows(file, "done", count))
    theta = read_rows(file, "theta_unit", count) if "theta_unit" in group else None
    if theta is not None:
        check_unit(file, theta)
    shard = {key: get_integer(group, key) for key in SHARD_KEYS if key in group.attrs}
    return Provenance(theta=theta, shard=shard if len(shard) == len(SHARD_KEYS) else {})


def read_rows(file: h5py.File, name: str, count: int) -> np.ndarray:
    """A dataset of `/nops`, checked to have one row per trajectory."""
    item = get_dataset(file, f"{GROUP}/{name}")
    if item.shape[:1] != (count,):
        raise layout_error(
            file.filename,
            f"dataset '{item.name}'",
            found=f"shape {item.shape}",
            expected=f"{count} rows, one per trajectory",
        )
    return item[()]


def check_done(file: h5py.File, done: np.ndarray) -> None:
    """Refuse a file with trajectories that were never written."""
    if not done.all():
        missing = np.flatnonzero(~done.astype(bool))
        found = f"{missing.size} of {done.size} trajectories missing, the first is sample "
        raise layout_error(
            file.filename,
            f"dataset '/{GROUP}/done'",
            found=found + str(missing[0]),
            expected="all done (generate again to complete the file)",
        )


def check_unit(file: h5py.File, theta: np.ndarray) -> None:
    """Refuse parameters outside the unit cube, naming the sample."""
    where = f"dataset '/{GROUP}/theta_unit'"
    if theta.ndim != 2 or theta.dtype.kind != "f":
        found = f"shape {theta.shape}, dtype {theta.dtype}"
        raise layout_error(
            file.filename, where, found=found, expected="(sample, parameter), floating point"
        )
    bad = np.argwhere(~((theta >= 0) & (theta <= 1)))
    if bad.size:
        sample, parameter = bad[0].tolist()
        found = f"{theta[sample, parameter]} for sample {sample}, parameter {parameter}"
        raise layout_error(file.filename, where, found=found, expected="values in [0, 1]")
