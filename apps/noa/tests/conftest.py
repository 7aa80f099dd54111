"""A tiny configuration on generated data, shared by the tests of one process."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from noa.cli import main
from nops_train import RunFolder, load_checkpoint

TINY_DATA = [
    "--data.num_train=6",
    "--data.num_valid=3",
    "--data.num_test=3",
    "--data.num_steps=4",
    "--data.shape=16,16",
]
TINY_RUN = [
    "--name=default",
    "--rollout.window=2",
    "--model.base_channels=4",
    "--model.afno_groups=2",
    "--model.embedding=4",
    "--train.epochs=2",
    "--train.batch_size=2",
    "--train.warmup_steps=1",
    "--train.validate_every=1",
    "--train.log_every=1",
    "--train.save_every=2",
    "--evaluate.bootstrap=20",
    "--evaluate.probe_initials=2",
    "--evaluate.probe_parameters=2",
]
TINY_TOKENS = [
    "--name=tokens",
    "--features.clip=4",
    "--vqvae.epochs=2",
    "--vqvae.batch_size=12",
    "--vqvae.codebook_sizes=3,2,2",
    "--vqvae.latent_dims=4,4,8",
    "--vqvae.hidden=8,8",
    "--train.validate_every=1",
    "--train.log_every=1",
    "--train.save_every=2",
]
TIMES = ("time", "seconds")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated data set: 6, 3 and 3 Gray-Scott trajectories of 4 steps on 16 x 16."""
    folder = tmp_path_factory.mktemp("data") / "gray_scott"
    assert main(["generate", f"--data={folder}", *TINY_DATA]) == 0
    return folder


@pytest.fixture(scope="session")
def tiny_run() -> list[str]:
    """Settings of a run of 6 steps."""
    return TINY_RUN


@pytest.fixture(scope="session")
def tiny_tokens() -> list[str]:
    """Settings of a vocabulary of 4 steps."""
    return TINY_TOKENS


@pytest.fixture
def run_noa(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """`noa` in an empty folder with the tiny settings; further words override them.

    Reports are not drawn: that takes longer than all the rest.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("noa.training.write_report", lambda run: run.path / "report.html")
    monkeypatch.setattr("noa.token_training.write_token_report", lambda run: run.report)

    def run(command: str, *words: str, data: Path | str = data_folder) -> int:
        given = {word.split("=")[0] for word in words}
        tiny = [word for word in TINY_RUN if word.split("=")[0] not in given]
        return main([command, f"--data={data}", *tiny, *words])

    return run


@pytest.fixture(scope="session")
def whole(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its report, not to be changed."""
    runs = tmp_path_factory.mktemp("whole")
    assert main(["train", f"--data={data_folder}", *TINY_RUN, f"--runs={runs}"]) == 0
    return runs / "noa" / "default"


@pytest.fixture
def train_tokens(run_noa: Callable[..., int], data_folder: Path) -> Callable[..., int]:
    """`noa train-vqvae` in an empty folder with tiny settings; further words override them."""

    def run(*words: str, data: Path | str = data_folder) -> int:
        given = {word.split("=")[0] for word in words}
        tiny = [word for word in TINY_TOKENS if word.split("=")[0] not in given]
        return main(["train-vqvae", f"--data={data}", *tiny, *words])

    return run


@pytest.fixture(scope="session")
def tokens(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `train-vqvae` with its report, not to be changed."""
    runs = tmp_path_factory.mktemp("tokens")
    assert main(["train-vqvae", f"--data={data_folder}", *TINY_TOKENS, f"--runs={runs}"]) == 0
    return runs / "noa" / "tokens"


@pytest.fixture
def finished(run_noa: Callable[..., int], whole: Path, tmp_path: Path) -> Path:
    """A copy of the finished run where `run_noa` goes on with it."""
    return Path(shutil.copytree(whole, tmp_path / "runs" / "noa" / "default"))


def read_events(run: Path) -> list[dict]:
    lines = (run / "events.jsonl").read_text().splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if key not in TIMES}
        for line in lines
    ]


@pytest.fixture(scope="session")
def events() -> Callable[[Path], list[dict]]:
    """A run's event log without the times."""
    return read_events


def flatten(value: object, path: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {path: value}
    return {k: v for key, part in items for k, v in flatten(part, f"{path}.{key}").items()}


def check_same_state(left: dict, right: dict, *, aside: str = "") -> None:
    # "events" is the length of a log that holds times
    a, b = (flatten({k: v for k, v in s.items() if k != "events"}) for s in (left, right))
    times = {key for key in a if "seconds" in key or "time" in key.rsplit(".", 1)[-1]}
    assert a.keys() == b.keys()
    for key in a.keys() - times - {f".config.{aside}"}:
        same = torch.equal(a[key], b[key]) if isinstance(a[key], torch.Tensor) else a[key] == b[key]
        assert same, f"{key}: {a[key]} != {b[key]}"


@pytest.fixture(scope="session")
def same_state() -> Callable[..., None]:
    """Asserts that two checkpoints are equal to the last bit, times aside."""
    return check_same_state


def summary_of(run: Path) -> dict:
    summary = json.loads((run / "summary.json").read_text())
    return {k: v for k, v in summary.items() if k not in (*TIMES, "peak_memory_bytes")}


@pytest.fixture(scope="session")
def equal_runs() -> Callable[..., None]:
    """Asserts that two run folders are equal to the last bit, times aside.

    Compared: the configuration (but for the key `aside`), the events, the last and the best
    checkpoint, the summary, and that no temporary file is left.
    """

    def check(whole: Path, cut: Path, *, aside: str = "") -> None:
        assert read_events(cut) == read_events(whole)
        last = f"epoch_{summary_of(whole)['epochs']}.pt"
        for name in (last, "best_model.pt"):
            left, right = (load_checkpoint(run / "checkpoints" / name) for run in (whole, cut))
            check_same_state(right, left, aside=aside)
        assert summary_of(cut) == summary_of(whole)
        configs = (flatten(RunFolder.at(run).config) for run in (whole, cut))
        left, right = ({k: v for k, v in c.items() if k != f".{aside}"} for c in configs)
        assert left == right
        assert [p.name for p in cut.rglob("*") if p.suffix in (".tmp", ".part")] == []

    return check
