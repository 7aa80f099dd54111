"""Numbers below the smallest normal one, in processes of an app's own."""

import subprocess
import sys
from pathlib import Path

import pytest

# Half of 1e-38 is no normal number of float32; a million of them are shared out to all threads.
APP = """
import sys, warnings
warnings.simplefilter("error")
from nops_train import App, Command, Config, run_cli

COMMANDS = (
    Command(name="halve", help="", run="tiny:halve", config="none"),
    Command(name="plain", help="", run="tiny:plain", config="none"),
)
APP = App(name="tiny", version="1", help="", config=Config, presets=None, commands=COMMANDS)
words = sys.argv[1:] if sys.argv.pop(1) == "handed over" else None
sys.exit(run_cli(APP, words))
"""
TINY = """
import threading
import torch

def zeros():
    return int((torch.full((2**20,), 1e-38) / 2 == 0).sum())

def halve(call):
    torch.set_num_threads(2)
    found = [zeros()]
    beside = threading.Thread(target=lambda: found.append(zeros()))
    beside.start()
    beside.join()
    print(*found)
    import numpy as np
    np.finfo(np.float32), np.finfo(np.float64)
    print(torch.full((), 1.2e-38).item() > 0)
"""
PLAIN = """
import sys

def plain(call):
    print("torch" in sys.modules)
"""


def out_of(folder: Path, *words: str) -> list[str]:
    (folder / "app.py").write_text(APP)
    command = [sys.executable, "app.py", *words]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.mark.parametrize(("way", "zeros"), [("own", 2**20), ("handed over", 0)])
def test_a_process_of_the_app_counts_them_as_0_in_all_threads(
    tmp_path: Path, way: str, zeros: int
) -> None:
    (tmp_path / "tiny.py").write_text(TINY)
    assert out_of(tmp_path, way, "halve") == [str(zeros)] * 2 + ["True"]


def test_a_command_without_torch_stays_without(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(PLAIN)
    assert out_of(tmp_path, "own", "plain") == ["False"]
