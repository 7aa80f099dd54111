"""Damaged or hostile checkpoints: named, refused, and the one before them used."""

import hashlib
import json
import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from nops_train import CheckpointFolder

pytestmark = pytest.mark.fault


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self._marker,)


def truncate(path, marker):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path, marker):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0b100
    path.write_bytes(content)


def pickle_in_its_place(path, marker):
    path.write_bytes(pickle.dumps({"model": Hostile(marker)}))
    vouch_for(path)


def pickle_in_torchs_format(path, marker):
    torch.save({"schema": 1, "model": Hostile(marker)}, path)
    vouch_for(path)


def vouch_for(path):
    """The sum in the manifest is that of the hostile file: nothing but the format protects."""
    manifest = path.with_name("manifest.json")
    if manifest.exists():
        content = json.loads(manifest.read_text())
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        content["files"][path.name].update(sha256=digest, bytes=path.stat().st_size)
        manifest.write_text(json.dumps(content))


def without_manifest(path, marker):
    path.with_name("manifest.json").unlink()


def nothing(path, marker):
    pass


# what is done to the newest, what to the one before it, and what is said of each
CASES = {
    "truncated, flipped": (truncate, flip_a_bit, "damaged: SHA-256", "damaged: SHA-256"),
    "hostile": (pickle_in_its_place, pickle_in_torchs_format, "refused: .*bare pickle", "mkdir"),
    "no manifest, flipped": (flip_a_bit, without_manifest, "damaged: CRC-32", None),
    "no manifest, hostile": (pickle_in_its_place, without_manifest, "refused", None),
    "no manifest": (without_manifest, nothing, None, None),
}


@pytest.mark.parametrize("case", CASES)
def test_the_one_before_is_used(begun, ends_equal, tmp_path, case):
    runs, marker = begun(tmp_path / "struck"), tmp_path / "executed"
    first, second, *said = CASES[case]
    names = [n for n in CheckpointFolder(runs.checkpoints).entries if n != "best_model.pt"]
    paths = [runs.checkpoints / name for name in reversed(names)]
    first(paths[0], marker)
    second(paths[1] if second is not without_manifest else paths[0], marker)
    text = ends_equal(runs).text.replace("\n", "")
    good = paths[sum(words is not None for words in said)]
    assert f"Resuming from checkpoint: {good.name}" in text
    for path, words in zip(paths, said, strict=False):
        if words is not None:
            assert re.search(rf"{re.escape(str(path.name))}: .*?{words}", text)
    if without_manifest in (first, second):
        assert "manifest.json: missing" in text
    assert not marker.exists()


def test_the_hostile_file_would_run_code(tmp_path):
    pickle_in_torchs_format(tmp_path / "state.pt", tmp_path / "executed")
    torch.load(tmp_path / "state.pt", weights_only=False)
    assert (tmp_path / "executed").is_dir()
