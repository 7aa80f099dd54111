"""What generating apps share: a folder's name from its facts, splits that follow each other."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nops_data._hdf5 import SPLITS
from nops_data._plan import SplitPlan


def named_folder(root: Path | str, name: str, facts: Mapping[str, Any]) -> Path:
    """`<root>/<name>-<8 digits>`: a folder for each set of facts, the same wherever it is asked for.

    Args:
        root: Parent folder.
        name: First part of the name, such as that of the equation.
        facts: All that the values depend on, as JSON would hold it; order does not matter.

    Returns:
        The folder; it is not made.
    """
    digest = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()
    return Path(root) / f"{name}-{digest[:8]}"


def consecutive_splits(
    counts: Mapping[str, int], make: Callable[[range], SplitPlan]
) -> dict[str, SplitPlan]:
    """Splits that are consecutive stretches of one sequence, so that no two share a trajectory.

    Args:
        counts: Trajectories of "train", "valid" and "test"; the order given does not matter.
        make: From places in the sequence to those trajectories: their seeds and parameters.

    Returns:
        The splits by name; training comes first in the sequence, then validation, then test.
    """
    splits, first = {}, 0
    for split in SPLITS:
        if split in counts:
            splits[split] = make(range(first, first + counts[split]))
            first += counts[split]
    return splits
