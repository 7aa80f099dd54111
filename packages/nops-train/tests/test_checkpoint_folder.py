"""A folder of checkpoints: damage is named and passed over; the last good one is never lost."""

import json
import os

import pytest
import torch
from nops_train import CheckpointError, CheckpointFolder


def fill(path, count, *, keep_last=None):
    folder = CheckpointFolder(path)
    for n in range(1, count + 1):
        state = {"n": n, "x": torch.full((50,), n), "position": {"epoch": n, "batch": 0, "step": n}}
        folder.save(f"step_{n}.pt", state, keep_last=keep_last)
    return folder


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def test_a_damaged_newest_is_named_and_passed_over(tmp_path):
    fill(tmp_path, 3)
    truncate(tmp_path / "step_3.pt")
    found = CheckpointFolder(tmp_path).newest()
    assert found is not None
    assert (found.name, found.state["n"]) == ("step_2.pt", 2)
    (problem,) = found.problems
    assert "step_3.pt: damaged" in problem


def test_several_damaged_ones(tmp_path):
    fill(tmp_path, 3)
    truncate(tmp_path / "step_3.pt")
    (tmp_path / "step_2.pt").unlink()
    found = CheckpointFolder(tmp_path).newest()
    assert found is not None
    assert found.name == "step_1.pt"
    assert "step_3.pt: damaged" in found.problems[0]
    assert "step_2.pt: no such checkpoint" in found.problems[1]


def test_nothing_but_damage_is_an_error_that_names_all(tmp_path):
    fill(tmp_path, 2)
    truncate(tmp_path / "step_1.pt")
    truncate(tmp_path / "step_2.pt")
    with pytest.raises(
        CheckpointError, match=r"no checkpoint can be read(.|\n)*step_2(.|\n)*step_1"
    ):
        CheckpointFolder(tmp_path).newest()


def test_an_empty_folder_has_no_newest(tmp_path):
    assert CheckpointFolder(tmp_path / "none").newest() is None
    assert CheckpointFolder(tmp_path).newest() is None


@pytest.mark.parametrize("damage", ["missing", "{", "[]", '{"files": {"a.pt": {"size": 1}}}'])
def test_without_a_manifest_the_newest_file_is_taken_after_a_check(tmp_path, damage):
    fill(tmp_path, 3)
    for n in (1, 2, 3):
        os.utime(tmp_path / f"step_{n}.pt", (n, n))
    manifest = tmp_path / "manifest.json"
    manifest.unlink() if damage == "missing" else manifest.write_text(damage)
    found = CheckpointFolder(tmp_path).newest()
    assert found is not None
    assert found.name == "step_3.pt"
    assert str(manifest) in found.problems[0]
    truncate(tmp_path / "step_3.pt")
    found = CheckpointFolder(tmp_path).newest()
    assert found is not None
    assert found.name == "step_2.pt"
    assert len(found.problems) == 2
    folder = CheckpointFolder(tmp_path)
    folder.save("step_4.pt", {"n": 4})
    assert CheckpointFolder(tmp_path).newest().state == {"n": 4}
    assert set(json.loads(manifest.read_text())["files"]) == {f"step_{n}.pt" for n in (1, 2, 3, 4)}


def test_a_file_that_is_not_listed_does_not_count(tmp_path):
    """A crash between the file and the manifest: the entry is what makes it a checkpoint."""
    fill(tmp_path, 1)
    torch.save({"n": 9}, tmp_path / "step_9.pt")
    assert CheckpointFolder(tmp_path).newest().name == "step_1.pt"


@pytest.mark.parametrize("renamed", [False, True])
def test_a_crash_while_a_name_is_reused_loses_neither(tmp_path, monkeypatch, renamed):
    """Whichever of the two files the crash leaves in place is recognised."""
    folder = fill(tmp_path, 1)

    class Crash(BaseException):
        pass

    replace = os.replace

    def crash(source, target):
        if str(target).endswith("step_1.pt"):
            if renamed:
                replace(source, target)
            raise Crash
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(Crash):
            folder.save("step_1.pt", {"n": "new"})
    found = CheckpointFolder(tmp_path).newest()
    assert found is not None
    assert found.state["n"] == ("new" if renamed else 1)


def test_keep_last(tmp_path):
    folder = fill(tmp_path, 2, keep_last=2)
    folder.mark_best("step_1.pt")
    for n in range(3, 7):
        folder.save(f"step_{n}.pt", {"n": n}, keep_last=2)
    names = {path.name for path in tmp_path.glob("*.pt")}
    assert names == {"step_4.pt", "step_5.pt", "step_6.pt", "best_model.pt"}
    assert set(CheckpointFolder(tmp_path).entries) == names
    assert CheckpointFolder(tmp_path).load("best_model.pt")["n"] == 1


def test_an_old_one_that_cannot_be_deleted_does_not_stop_the_run(tmp_path, monkeypatch):
    folder = fill(tmp_path, 2)
    from pathlib import Path

    unlink = Path.unlink

    def stubborn(self, missing_ok=False):
        if self.name == "step_1.pt":
            raise PermissionError
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", stubborn)
    folder.save("step_3.pt", {"n": 3}, keep_last=1)
    assert set(CheckpointFolder(tmp_path).entries) == {"step_2.pt", "step_3.pt"}


def test_best_is_a_second_name_and_survives_its_first(tmp_path):
    folder = fill(tmp_path, 2)
    folder.mark_best("step_1.pt")
    folder.save("step_1.pt", {"n": "later"})
    assert CheckpointFolder(tmp_path).load("best_model.pt")["n"] == 1
    folder.mark_best("step_2.pt")
    assert CheckpointFolder(tmp_path).load("best_model.pt")["n"] == 2
    assert folder.entries["best_model.pt"].step == 2


def test_best_is_copied_where_there_are_no_links(tmp_path, monkeypatch):
    folder = fill(tmp_path, 1)

    def no_links(source, target):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    folder.mark_best("step_1.pt")
    assert CheckpointFolder(tmp_path).load("best_model.pt")["n"] == 1


def test_the_periodic_name_of_the_best_is_told(tmp_path):
    folder = fill(tmp_path, 2)
    folder.mark_best("step_2.pt")
    assert CheckpointFolder(tmp_path).newest().name == "step_2.pt"
    (tmp_path / "step_2.pt").unlink()
    assert CheckpointFolder(tmp_path).newest().name == "best_model.pt"  # the same state


def test_superseded_ones_are_left_out(tmp_path):
    folder = fill(tmp_path, 3)
    folder.supersede_after("step_1.pt")
    assert CheckpointFolder(tmp_path).newest().name == "step_1.pt"
    folder.save("step_2.pt", {"n": "again"})
    assert CheckpointFolder(tmp_path).newest().state["n"] == "again"


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    folder = fill(tmp_path, 1)
    (tmp_path / ".step_2.pt.123.tmp").write_text("half")
    folder.remove_leftovers()
    assert {path.name for path in tmp_path.iterdir()} == {"step_1.pt", "manifest.json"}
