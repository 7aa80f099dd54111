"""Ranks of one script: what they are told, and how a failure ends all of them."""

import time
from pathlib import Path

import pytest
from nops_testing.ranks import run_ranks

SCRIPT = """
import os, sys, time
from pathlib import Path

if __name__ == "__main__":
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    Path(sys.argv[1], os.environ["RANK"]).write_text(" ".join(os.environ[name] for name in names))
    if sys.argv[2:] == ["fail"] and os.environ["RANK"] == "1":
        sys.exit("struck")
    if sys.argv[2:] == ["fail"]:
        time.sleep(100)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def test_each_knows_its_place(script: Path, tmp_path: Path) -> None:
    run_ranks(script, [tmp_path])
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["0 0 2", "1 1 2"]


def test_one_that_fails_ends_the_other(script: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(AssertionError, match="struck"):
        run_ranks(script, [tmp_path, "fail"])
    assert time.monotonic() - start < 60
