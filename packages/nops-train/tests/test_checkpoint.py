"""One checkpoint file: plain content only, written at once or not at all, read without running code."""

import io
import os
import pickle
import resource
import signal
import struct
import zipfile
from collections import OrderedDict, namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from nops_train import CheckpointError, InputError, load_checkpoint, save_checkpoint
from nops_train._checkpoint import plain


def files(folder):
    return {path.name for path in folder.iterdir()}


def test_what_is_saved_comes_back(tmp_path):
    state = {
        "tensor": torch.arange(3),
        "numbers": [1, 2.5, True, None],
        "nested": {"text": "a", 3: {"pair": (1, 2)}},
    }
    sha256 = save_checkpoint(tmp_path / "deep/a.pt", state)
    loaded = load_checkpoint(tmp_path / "deep/a.pt")
    assert torch.equal(loaded.pop("tensor"), state.pop("tensor"))
    assert loaded == state
    assert len(sha256) == 64
    assert files(tmp_path / "deep") == {"a.pt", "manifest.json"}


def test_a_foreign_loop_saves_objects_with_a_state(tmp_path):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    save_checkpoint(tmp_path / "step_1.pt", {"model": model, "optimizer": optimizer, "step": 1})
    state = load_checkpoint(tmp_path)
    other = torch.nn.Linear(2, 1)
    other.load_state_dict(state["model"])
    fresh = torch.optim.AdamW(other.parameters())
    fresh.load_state_dict(state["optimizer"])
    assert torch.equal(other.weight, model.weight)
    assert fresh.state_dict()["state"][0]["step"] == 1
    assert state["step"] == 1


def test_the_newest_of_a_folder_is_the_last_written(tmp_path):
    for step in (10, 2, 7):
        save_checkpoint(tmp_path / f"step_{step}.pt", {"step": step})
    assert load_checkpoint(tmp_path)["step"] == 7


def test_plain_makes_containers_plain():
    Point = namedtuple("Point", "x y")
    value = plain(
        OrderedDict(a=Point(1, np.float64(2.5)), b=[torch.nn.Parameter(torch.ones(2))]), name="s"
    )
    assert type(value) is dict
    assert value["a"] == (1, 2.5)
    assert type(value["a"]) is tuple
    assert type(value["b"][0]) is torch.Tensor
    assert not value["b"][0].requires_grad


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": {"b": [1, {2}]}}, r"state.a.b\[1\] is a builtins.set"),
        ({"a": np.ones(2)}, "state.a is a numpy.ndarray"),
        ({"a": Path("x")}, "state.a is a pathlib"),
        ({"a": len}, "state.a is a builtins.builtin_function_or_method"),
        ({"a": {(1, 2): 3}}, r"state.a has the key \(1, 2\)"),
    ],
)
def test_what_is_not_plain_is_named(tmp_path, state, message):
    with pytest.raises(TypeError, match=message):
        save_checkpoint(tmp_path / "a.pt", state)
    assert files(tmp_path) == set()


def test_a_view_does_not_bring_its_whole_storage(tmp_path):
    save_checkpoint(tmp_path / "a.pt", {"view": torch.zeros(1_000_000)[:3]})
    assert (tmp_path / "a.pt").stat().st_size < 10_000


def test_tied_tensors_are_stored_once(tmp_path):
    weight = torch.zeros(100_000)
    save_checkpoint(tmp_path / "a.pt", {"a": weight, "b": weight})
    assert (tmp_path / "a.pt").stat().st_size < 1.5 * weight.numel() * 4


class Bomb:
    def __reduce__(self):
        return os.system, ("touch /tmp/nops_bomb_went_off",)


def test_a_pickle_is_refused_and_never_executed(tmp_path):
    mark = Path("/tmp/nops_bomb_went_off")
    mark.unlink(missing_ok=True)
    bare = tmp_path / "bare.pt"
    bare.write_bytes(pickle.dumps({"model": Bomb()}))
    zipped = tmp_path / "zipped.pt"
    torch.save({"model": Bomb()}, zipped)
    with pytest.raises(
        CheckpointError, match=r"bare.pt: refused: .* could run code. It was not exec"
    ):
        load_checkpoint(bare)
    with pytest.raises(
        CheckpointError, match=r"refused: it holds a pickled object \(posix.system\)"
    ):
        load_checkpoint(zipped)
    assert not mark.exists()


def test_files_that_are_no_checkpoints(tmp_path):
    with pytest.raises(CheckpointError, match=r"missing.pt: no such checkpoint"):
        load_checkpoint(tmp_path / "missing.pt")
    (tmp_path / "empty.pt").touch()
    with pytest.raises(CheckpointError, match="refused"):
        load_checkpoint(tmp_path / "empty.pt")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match=r"other.pt: damaged"):
        load_checkpoint(tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds a list, expected a dict"):
        load_checkpoint(tmp_path / "list.pt")
    (tmp_path / "none").mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_checkpoint(tmp_path / "none")
    assert issubclass(CheckpointError, InputError)


def test_a_full_disk_leaves_the_one_before(tmp_path, monkeypatch):
    """The size limit stands for the disk: writing beyond it fails as a full disk does."""
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"x": torch.zeros(10)})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(CheckpointError, match=r"a.pt: cannot be written: File too large; what"):
            save_checkpoint(path, {"x": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert load_checkpoint(path)["x"].shape == (10,)
    assert files(tmp_path) == {"a.pt", "manifest.json"}


@pytest.mark.parametrize("calls", [0, 1, 2, 3])
def test_an_error_of_the_disk_at_any_sync_leaves_the_one_before(tmp_path, monkeypatch, calls):
    save_checkpoint(tmp_path / "a.pt", {"x": 1})
    count = iter(range(100))

    def broken(descriptor):
        if next(count) == calls:
            raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(CheckpointError, match="Input/output error"):
            save_checkpoint(tmp_path / "b.pt", {"x": 2})
    assert load_checkpoint(tmp_path / "a.pt") == {"x": 1}
    assert load_checkpoint(tmp_path)["x"] in (1, 2)
    assert not list(tmp_path.glob(".*"))


def test_a_file_where_a_folder_is_wanted(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(CheckpointError, match=r"taken.*: cannot be made"):
        save_checkpoint(tmp_path / "taken/a.pt", {})


def test_the_order_of_writing(tmp_path, monkeypatch):
    """File to disk, then its name, then the folder; the manifest after it, by the same route."""
    log = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: log.append("sync"))
    monkeypatch.setattr(
        os, "replace", lambda a, b: (log.append(f"rename {Path(b).name}"), replace(a, b))
    )
    save_checkpoint(tmp_path / "a.pt", {"x": 1})
    assert log == ["sync", "rename a.pt", "sync", "sync", "rename manifest.json", "sync"]


def test_other_errors_are_not_disguised(tmp_path):
    class Odd(dict):
        def items(self):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        save_checkpoint(tmp_path / "a.pt", {"x": Odd()})


def flip(path: Path, *, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def data_offset(path: Path) -> int:
    """A byte inside the first tensor's data."""
    with zipfile.ZipFile(path) as archive:
        info = next(i for i in archive.infolist() if "/data/" in i.filename)
    with open(path, "rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return info.header_offset + 30 + name + extra


def test_one_flipped_bit_is_found(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"x": torch.zeros(100)})
    flip(path, at=data_offset(path))
    with pytest.raises(CheckpointError, match=r"a.pt: damaged: SHA-256 is .*, manifest.json says"):
        load_checkpoint(path)


def test_without_a_manifest_the_sums_inside_the_file_are_checked(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"x": torch.zeros(100)})
    (tmp_path / "manifest.json").unlink()
    assert load_checkpoint(path)["x"].shape == (100,)
    flip(path, at=data_offset(path))
    with pytest.raises(CheckpointError, match=r"a.pt: damaged: CRC-32 of .*/data/0 differs"):
        load_checkpoint(path)


def test_torch_can_still_read_the_file_by_itself(tmp_path):
    save_checkpoint(tmp_path / "a.pt", {"x": torch.ones(2)})
    assert torch.load(tmp_path / "a.pt", weights_only=True)["x"].tolist() == [1, 1]
    buffer = io.BytesIO((tmp_path / "a.pt").read_bytes())
    with zipfile.ZipFile(buffer) as archive:
        assert archive.testzip() is None


def test_a_copy_that_is_not_listed_is_checked_by_the_sums_inside(tmp_path):
    save_checkpoint(tmp_path / "a.pt", {"x": torch.zeros(100)})
    copy = tmp_path / "copy.pt"
    copy.write_bytes((tmp_path / "a.pt").read_bytes())
    assert load_checkpoint(copy)["x"].shape == (100,)
    flip(copy, at=data_offset(copy))
    with pytest.raises(CheckpointError, match=r"copy.pt: damaged: CRC-32"):
        load_checkpoint(copy)
