"""A tiny run of each kind, shared by the tests of one process."""

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from nops_train import parse_config, resolve_call
from pinn_weighting.cli import app, main
from pinn_weighting.config import PinnConfig

TINY_CHAIN = [
    *("--problem.num_graphs=8", "--problem.num_steps=2", "--train.batch_size=4"),
    *("--physics.n_nodes=12", "--model.hidden=8", "--model.layers=2", "--train.epochs=2"),
    *("--evaluate.duration=0.2", "--train.device=cpu", "--train.progress=none"),
    *("--train.log_every=1",),
]
TINY_POINTS = {"points": {"pde": 12}, "steps_per_epoch": 2}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the chain, not to be changed; what it said is in `said.txt` of the runs."""
    runs = tmp_path_factory.mktemp("trained")
    with redirect_stdout(io.StringIO()) as said:
        assert main(["train", f"--runs={runs}", "--name=tiny", *TINY_CHAIN]) == 0
    (runs / "said.txt").write_text(said.getvalue())
    return runs / "pinn-weighting" / "tiny"


@pytest.fixture
def points_config() -> Callable[..., PinnConfig]:
    """A tiny config of a problem of points, by sections that lie over it."""

    def make(name: str, **sections: Any) -> PinnConfig:
        plain: dict[str, Any] = {
            "problem": {"name": name, **TINY_POINTS, **sections.pop("problem", {})},
            "model": {"hidden": 8, "layers": 1},
            "evaluate": {"points": 10},
            **sections,
        }
        plain["train"] = {
            "epochs": 2,
            "device": "cpu",
            "progress": "none",
            "log_every": 1,
            **sections.get("train", {}),
        }
        return parse_config(PinnConfig, plain, source="test").settled()

    return make


@pytest.fixture
def resolved() -> Callable[..., PinnConfig]:
    """The config that words of the command line amount to."""

    def make(*words: str) -> PinnConfig:
        program = app()
        named = program.respelled(words)
        command = program.command(named[0])
        assert command is not None
        config, _ = resolve_call(program, command, named[1:])
        assert isinstance(config, PinnConfig)
        return config

    return make
