"""What a generated data set says of itself."""

from pathlib import Path

import numpy as np

from nops_data._hdf5 import SPLITS, list_hdf5, open_hdf5
from nops_data._provenance import GROUP


def stored_attributes(folder: Path | str) -> dict[str, str | int | float]:
    """Attributes of `/nops` in the first file of a folder: domain, solver version, seed and so on.

    Args:
        folder: With `data/{train,valid,test}/*.hdf5`.

    Returns:
        Plain values by name; empty where the files were not made by `generate`.

    Raises:
        LayoutError: If the first file cannot be opened.
    """
    files = [path for split in SPLITS for path in list_hdf5(Path(folder) / "data" / split)]
    if not files:
        return {}
    with open_hdf5(files[0]) as file:
        if GROUP not in file:
            return {}
        return {name: _plain(value) for name, value in file[GROUP].attrs.items()}


def _plain(value: object) -> str | int | float:
    if isinstance(value, np.generic):
        value = value.item()
    return value.decode() if isinstance(value, bytes) else value  # type: ignore[return-value]
