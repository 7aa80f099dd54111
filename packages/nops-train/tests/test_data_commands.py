"""Data as found or to be made: what settles a config, what `generate` says and refuses."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from nops_train import (
    CheckFailed,
    Config,
    DataConfig,
    InputError,
    require_data,
    run_generation,
    run_verification,
    settled_config,
)
from pydantic import Field, model_validator


class Toy(Config):
    """A section `data`, and a key that has to fit it."""

    data: DataConfig = Field(default=DataConfig(num_train=9, num_steps=8), description="Data.")
    window: int = Field(default=2, description="Steps.")

    @model_validator(mode="after")
    def _fits(self) -> "Toy":
        if self.window > self.data.num_steps:
            raise ValueError("the window is longer than the data")
        return self


FACTS = {"num_train": 6, "num_steps": 4, "shape": (16, 16)}


def test_what_is_on_disk_decides() -> None:
    found = settled_config(Toy(), folder="there", facts=FACTS)
    assert found == Toy(
        data=DataConfig(path="there", num_train=6, num_steps=4, shape=(16, 16)), window=2
    )


def test_data_to_be_made_only_get_their_folder() -> None:
    data = Toy().data.model_copy(update={"path": "there"})
    assert settled_config(Toy(), folder=Path("there")) == Toy(data=data)


def test_the_first_so_many_where_the_user_named_a_number() -> None:
    wanted = Toy(data=DataConfig(num_train=5, num_steps=3, shape=(8,)))
    found = settled_config(
        wanted, folder="d", facts=FACTS, explicit=["data.num_train", "data.num_steps", "window"]
    )
    assert (found.data.num_train, found.data.num_steps, found.data.shape) == (5, 3, (16, 16))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_train", 7, "data.num_train = 7, but d holds 6"),
        ("shape", (8, 8), "data.shape = (8, 8), but d holds (16, 16)"),
    ],
)
def test_what_the_folder_does_not_hold_is_refused(key: str, value: Any, message: str) -> None:
    config = Toy(data=DataConfig.model_validate({key: value}))
    with pytest.raises(InputError, match=re.escape(message)):
        settled_config(config, folder="d", facts=FACTS, explicit=[f"data.{key}"])


def test_a_config_that_does_not_fit_the_data_is_refused() -> None:
    with pytest.raises(InputError, match="the window is longer than the data"):
        settled_config(Toy(window=5), folder="d", facts=FACTS)


def test_a_folder_that_is_not_there_comes_with_the_command_that_makes_it(tmp_path: Path) -> None:
    assert require_data(str(tmp_path), app="toy") == tmp_path
    missing = tmp_path / "none"
    with pytest.raises(InputError, match=f"`toy generate --data {missing}` would make one"):
        require_data(missing, app="toy")


@dataclass(frozen=True)
class At:
    """A position, or what was done."""

    done: int = 0
    total: int = 0
    written: int = 3
    kept: int = 1
    notes: tuple[str, ...] = ("a.hdf5: was cut short",)


@dataclass
class Found:
    """What a check found."""

    num_checked: int = 4
    num_replayed: int = 2
    max_difference: float = 2.5e-7
    problems: list[str] = field(default_factory=list)


@pytest.fixture
def threads() -> list[int]:
    """Threads that were seen inside; as many as before have to be left."""
    return []


def test_generation_says_what_it_did_on_one_thread(
    capsys: pytest.CaptureFixture[str], threads: list[int]
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)

    def make(*, progress: Any) -> At:
        threads.append(torch.get_num_threads())
        progress(At(done=1, total=4))
        progress(At(done=4, total=4))
        return At()

    try:
        done = run_generation(make, folder="there", text="Generating toys")
        assert (threads, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)
    assert done == At()
    said = capsys.readouterr().out
    assert "Generating toys" in said
    assert "4/4" in said
    assert said.endswith("a.hdf5: was cut short\nData: there (3 trajectories written, 1 kept)\n")


def test_threads_come_back_after_an_error() -> None:
    before = torch.get_num_threads()

    def fail(*, progress: Any) -> At:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run_generation(fail, folder="there", text="Generating")
    assert torch.get_num_threads() == before


def test_verification_says_what_it_checked(capsys: pytest.CaptureFixture[str]) -> None:
    run_verification(Found, folder="there")
    run_verification(Found, folder="there", replayed="flows solved again")
    assert capsys.readouterr().out.splitlines() == [
        "there: 4 checksums match; 2 trajectories replayed, largest relative difference 2.5e-07",
        "there: 4 checksums match; 2 flows solved again, largest relative difference 2.5e-07",
    ]


def test_all_that_does_not_match_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckFailed, match="sample 1\nsample 2"):
        run_verification(lambda: Found(problems=["sample 1", "sample 2"]), folder="there")
    assert capsys.readouterr().out == ""
