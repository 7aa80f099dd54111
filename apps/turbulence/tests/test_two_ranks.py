"""A comparison under `torchrun` on two processes (gloo): one study, the result of one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from nops_train import RunFolder, read_events

pytestmark = pytest.mark.fault

TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone")
TIMEOUT = 600  # seconds; about twenty on an idle machine


@pytest.fixture(scope="module")
def two(data_folder: Path, tiny_run: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The comparison that two processes made."""
    folder = tmp_path_factory.mktemp("two")
    words = [word for word in tiny_run if not word.startswith("--arms=")]
    words += [f"--data={data_folder}", "--arms=field,schedule,matched"]
    ended = subprocess.run(
        [sys.executable, *TORCHRUN, "-m", "turbulence", "train", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("Report: ") == 1
    return folder / "runs" / "turbulence" / "study"


def test_two_processes_make_the_comparison_of_one(two: Path, trained: Path) -> None:
    for name in ("field_s0", "schedule_s0"):
        found, expected = (read_events(study / name) for study in (two, trained))
        kinds = [[event["event"] for event in events] for events in (found, expected)]
        assert kinds[0] == kinds[1]
        for one, other in zip(found, expected, strict=True):
            assert one.get("weight") == other.get("weight")
            assert one.get("metrics", {}) == pytest.approx(other.get("metrics", {}), rel=1e-2)
        summaries = [RunFolder.at(study / name).summary() for study in (two, trained)]
        assert summaries[0]["metrics"] == pytest.approx(summaries[1]["metrics"], rel=1e-2)
    assert (two / "report.html").is_file()


def test_the_matched_arm_has_the_schedules_average(two: Path) -> None:
    def weights(name: str) -> list[dict[str, float]]:
        return [e["weight"] for e in read_events(two / name) if e["event"] == "epoch"]

    moved = [weight.get("spectrumError", 0.0) for weight in weights("schedule_s0")]
    assert weights("matched_s0")[0]["spectrumError"] == pytest.approx(sum(moved) / len(moved))
