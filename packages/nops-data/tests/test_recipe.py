"""Names of generated folders, and splits that follow each other."""

from pathlib import Path

import numpy as np
from nops_data import SplitPlan, consecutive_splits, named_folder


def test_a_folder_is_named_after_its_facts_in_any_order() -> None:
    # printf '{"a": [2], "b": 1}' | sha256sum
    expected = Path("data/app/heat-41ff4104")
    assert named_folder("data/app", "heat", {"b": 1, "a": [2]}) == expected
    assert named_folder(Path("data/app"), "heat", {"a": (2,), "b": 1}) == expected
    assert named_folder("data/app", "heat", {"a": [2], "b": 2}) != expected


def test_splits_are_stretches_of_one_sequence_in_a_fixed_order() -> None:
    def make(places: range) -> SplitPlan:
        return SplitPlan(theta=np.zeros((len(places), 0)), ic_seed=list(places))

    splits = consecutive_splits({"test": 1, "train": 3, "valid": 2}, make)
    found = {name: split.ic_seed.tolist() for name, split in splits.items()}
    assert found == {"train": [0, 1, 2], "valid": [3, 4], "test": [5]}
    assert list(consecutive_splits({"train": 2}, make)) == ["train"]
