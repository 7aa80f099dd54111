"""Stopped at any moment and called again, `generate` ends with the same files."""

import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from nops_data import LayoutError, WellReader, generate, verify
from nops_data import _generate as generate_module
from nops_data import _shard_file as shard_module
from nops_data._hdf5 import publish
from nops_data._loader import _context


class Stopped(BaseException):
    """Stands for a kill: nothing in the package may catch it."""


@pytest.fixture
def equal(toy, contents):
    """Whether a folder holds exactly what an uninterrupted run made."""

    def check(folder):
        names = sorted(str(path.relative_to(toy)) for path in toy.rglob("*") if path.is_file())
        found = sorted(
            str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
        )
        assert found == names
        for name in names:
            if name.endswith(".hdf5"):
                assert contents(folder / name) == contents(toy / name)
            else:
                assert (folder / name).read_bytes() == (toy / name).read_bytes()

    return check


@pytest.mark.parametrize("stop", range(6))
def test_stopped_in_the_solver_at_every_batch(tmp_path, plan, solve, equal, stop):
    calls = []

    def stopping(request):
        calls.append(request)
        if len(calls) == stop + 1:
            raise Stopped
        return solve(request)

    with pytest.raises(Stopped):
        generate(tmp_path, plan=plan(), solve=stopping, batch_size=3)
    assert all(path.suffix != ".hdf5" or path.stat().st_size for path in tmp_path.rglob("*.hdf5"))
    computed = sum(len(request) for request in calls[:-1])
    result = generate(tmp_path, plan=plan(), solve=solve, batch_size=3)
    assert (result.kept, result.written) == (computed, 13 - computed)
    assert result.notes == ()  # an interruption is no damage
    equal(tmp_path)


STEPS = ["create_file", "checksum", "publish", "get_dataset", "undo"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_stopped_in_the_middle_of_writing(tmp_path, plan, solve, equal, monkeypatch, step, count):
    real = getattr(shard_module, step)
    calls = []

    def stopping(*arguments, **options):
        calls.append(step)
        if len(calls) == count:
            raise Stopped
        return real(*arguments, **options)

    monkeypatch.setattr(shard_module, step, stopping)
    try:
        generate(tmp_path, plan=plan(), solve=solve, batch_size=3)
    except Stopped:
        assert len(calls) == count
    monkeypatch.setattr(shard_module, step, real)
    generate(tmp_path, plan=plan(), solve=solve, batch_size=3)
    equal(tmp_path)


def test_stopped_again_and_again(tmp_path, plan, solve, equal):
    """One batch per call, until there is nothing left to do."""

    class OneBatch:
        def __init__(self):
            self.left = 1

        def __call__(self, request):
            self.left -= 1
            if self.left < 0:
                raise Stopped
            return solve(request)

    for call in range(6):
        try:
            generate(tmp_path, plan=plan(), solve=OneBatch(), batch_size=3)
        except Stopped:
            assert call < 5
    equal(tmp_path)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's /proc")
def test_a_file_reaches_the_disk_before_its_name_does(tmp_path, monkeypatch):
    steps = []
    real = os.replace

    def synced(descriptor):
        steps.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))

    def renamed(source, target):
        steps.append("rename")
        real(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    (tmp_path / "a.partial").write_bytes(b"data")
    publish(tmp_path / "a.partial", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"data"
    assert steps == ["a.partial", "rename", tmp_path.name]


def test_stopped_before_the_statistics(tmp_path, plan, solve, equal, monkeypatch):
    def stop(*arguments, **options):
        raise Stopped

    monkeypatch.setattr(generate_module, "write_stats", stop)
    with pytest.raises(Stopped):
        generate(tmp_path, plan=plan(), solve=solve, batch_size=3)
    monkeypatch.undo()
    assert generate(tmp_path, plan=plan(), solve=solve, batch_size=3).written == 0
    equal(tmp_path)


def test_a_file_under_way_is_no_data(tmp_path, plan, solve):
    def stopping(request):
        if request.index[0] == 7:
            raise Stopped
        return solve(request)

    with pytest.raises(Stopped):
        generate(tmp_path, plan=plan(), solve=stopping, batch_size=3)
    names = sorted(path.name for path in (tmp_path / "data" / "train").iterdir())
    assert names == ["toy_train_00000.hdf5", "toy_train_00001.hdf5.partial"]
    with pytest.raises(LayoutError, match=r"found shards \[0\], without \[1, 2\], expected each"):
        WellReader(tmp_path, split="train")
    assert any("found an unfinished file" in text for text in verify(tmp_path).problems)


def rows(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def test_damage_to_a_file_under_way_is_repaired(tmp_path, plan, solve, equal):
    def stopping(request):
        if request.index[0] == 3:
            raise Stopped
        return solve(request)

    path = tmp_path / "data" / "train" / "toy_train_00000.hdf5.partial"
    for damage, kept in (
        (lambda: rows(path, lambda f: f["t0_fields/u"].__setitem__((1, 2, 0, 0), 9.0)), 2),
        (lambda: rows(path, lambda f: f["nops/sha256"].__setitem__(0, "0" * 64)), 2),
        (lambda: path.write_bytes(path.read_bytes()[:5000]), 0),
        (lambda: path.write_bytes(b""), 0),
        (lambda: rows(path, lambda f: f["nops"].attrs.pop("ready")), 0),
    ):
        with pytest.raises(Stopped):
            generate(tmp_path, plan=plan(), solve=stopping, batch_size=3)
        damage()
        steps = []
        with pytest.raises(Stopped):
            generate(tmp_path, plan=plan(), solve=stopping, batch_size=3, progress=steps.append)
        assert next(step.done for step in steps if not step.note) == kept
        assert [str(path) in step.note for step in steps if step.note] in ([True], [])
    generate(tmp_path, plan=plan(), solve=solve, batch_size=3)
    equal(tmp_path)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


DAMAGE = {
    "truncated": (cut, "truncated", 4),
    "empty": (lambda path: path.write_bytes(b""), "0 bytes", 4),
    "not done": (
        lambda path: rows(path, lambda f: f["nops/done"].__setitem__(1, False)),
        "1 samples were not done. Continued.",
        1,
    ),
    "missing": (lambda path: path.unlink(), "", 4),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_to_a_finished_file_is_repaired(fresh, plan, solve, equal, name):
    damage, note, written = DAMAGE[name]
    damage(fresh / "data" / "train" / "toy_train_00001.hdf5")
    result = generate(fresh, plan=plan(), solve=solve, batch_size=3)
    assert result.written == written
    assert [note in text for text in result.notes] == [True] * bool(note)
    equal(fresh)


def test_wrong_values_in_a_finished_file_are_found_on_request(fresh, plan, solve, equal):
    path = fresh / "data" / "train" / "toy_train_00001.hdf5"
    rows(path, lambda file: file["t0_fields/v"].__setitem__((2, 3, 1, 1), 0.5))
    assert generate(fresh, plan=plan(), solve=solve, batch_size=3).written == 0
    [problem] = verify(fresh).problems
    assert problem.startswith(f"{path}: sample 2: found SHA-256 ")
    result = generate(fresh, plan=plan(), solve=solve, batch_size=3, recheck=True)
    assert result.written == 1
    assert result.notes == (
        f"{path}: samples [2] have another SHA-256 than stored. Computed again.",
    )
    equal(fresh)


def test_what_is_computed_again_keeps_its_company(fresh, plan, solve):
    """A solver whose last bits depend on the batch still gives the same bits."""
    path = fresh / "data" / "train" / "toy_train_00001.hdf5"
    rows(path, lambda file: file["nops/done"].__setitem__(1, False))
    requests = []
    generate(
        fresh,
        plan=plan(),
        solve=lambda request: requests.append(request.index) or solve(request),
        batch_size=3,
    )
    assert requests == [(4, 5, 6)]


def test_a_file_that_is_being_written_is_left_alone(tmp_path, plan, solve):
    def stopping(request):
        raise Stopped

    with pytest.raises(Stopped):
        generate(tmp_path, plan=plan(), solve=stopping, batch_size=3)
    path = tmp_path / "data" / "train" / "toy_train_00000.hdf5.partial"
    hold = f"import h5py, time; f = h5py.File({str(path)!r}, 'r+'); print('x', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(LayoutError, match=r"another process is writing this file"):
            generate(tmp_path, plan=plan(), solve=solve, batch_size=3)
    finally:
        other.kill()
        other.communicate()


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import conftest
from nops_data import generate
def solve(request):
    ready.put(request.index)
    return conftest.solve_toy(request)
generate({folder!r}, plan=conftest.plan_toy(), solve=solve, batch_size=1)
"""


def test_killed_for_real_at_several_moments(tmp_path, plan, solve, equal):
    script = SCRIPT.format(tests=os.path.dirname(__file__), folder=str(tmp_path))
    context = _context()
    rng = np.random.default_rng(0)
    for batches in (1, 4, 3):
        ready = context.SimpleQueue()
        process = context.Process(target=exec, args=(script, {"ready": ready}))
        process.start()
        for _ in range(batches):
            ready.get()
        time.sleep(float(rng.uniform(0, 0.01)))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    result = generate(tmp_path, plan=plan(), solve=solve, batch_size=3)
    assert result.kept >= 3
    equal(tmp_path)
