"""Any weighting with any app: each cell trains, stops in the middle and goes on to the same end."""

import importlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nops_testing.contract import same
from nops_train import Engine, load_checkpoint, read_events

SHORT = ("--train.log_every=1", "--train.save_every=1", "--train.device=cpu", "--seed=3")
WORDS = {
    "noa": (
        *("--data.num_train=4", "--data.num_valid=2", "--data.num_test=2", "--data.num_steps=4"),
        *("--data.shape=8,8", "--rollout.window=2", "--model.base_channels=4"),
        *("--model.encoder_levels=1", "--model.afno_blocks=1", "--model.afno_groups=2"),
        *("--model.embedding=4", "--train.epochs=2", "--train.batch_size=2"),
        "--train.warmup_steps=1",
    ),
    "turbulence": (
        *("--data.source=random_field", "--data.num_train=4", "--data.num_valid=2"),
        *("--data.num_test=2", "--data.num_steps=5", "--data.shape=16,16"),
        *("--model.base_channels=4", "--model.afno_groups=2", "--model.modes=3"),
        *("--loss.recFieldError=0", "--loss.spectrumError=0.1", "--train.epochs=2"),
        *("--train.steps_per_epoch=2", "--train.batch_size=2", "--evaluate.rollout=2"),
        "--evaluate.lead_window=1,2",
    ),
    "upt_inverse": (
        *("--data.num_train=4", "--data.num_valid=2", "--data.num_test=2", "--data.num_steps=4"),
        *("--data.shape=64", "--data.viscosity=0.05", "--model.tokens=4", "--model.dim=8"),
        *("--model.heads=2", "--model.approximator_depth=1", "--model.decoder_cross_depth=1"),
        *("--loss.rollout_horizon=1", "--train.epochs=2", "--train.batch_size=8"),
        "--train.warmup_steps=1",
    ),
    "phys_smpl": (
        *("--data.num_train=16", "--data.num_valid=4", "--data.num_test=4"),
        *("--model.feature_dim=8", "--model.feature_hidden=8", "--model.physics_hidden=8"),
        *("--model.aux_hidden=8", "--phases.epochs_pretrain=1", "--train.epochs=3"),
        "--phases.kl_warmup_epochs=0",
        "--train.batch_size=8",
    ),
    "pinn_weighting": (
        *("--problem.name=poisson", "--problem.steps_per_epoch=2", "--model.hidden=8"),
        *("--model.layers=1", "--train.epochs=2", "--evaluate.points=10"),
    ),
}
RAMPED = {
    "noa": "ic",
    "turbulence": "spectrumError",
    "upt_inverse": "L_inv_enc",
    "phys_smpl": "kl_aux",
    "pinn_weighting": "bc",
}
FAMILIES = {
    "constant": (),
    "curriculum": ("delay=0", "ramp=4"),
    "adaptive": ("strategy=ema", "eps=1e-12"),
    "relobralo": (),
    "auto": (),
    "uncertainty": (),
    "gradient_norm": ("every=1",),
    "gradnorm": (),
    "config": (),
}  # options that make something happen within a few steps
JOINED = {"config"}  # acts on gradients, not on weights
STILL = {"constant", "auto", *JOINED}  # weights that stay, in so few steps


class Done(BaseException):
    """Ends a command: after training, there is nothing more to see here."""


class Stop(BaseException):
    """Ends a run as a killed process would."""


@pytest.fixture(scope="module", autouse=True)
def only_training() -> Iterator[None]:
    """No evaluation, no report, no waiting for the disk."""
    whole = Engine.fit

    def fit(self: Engine, *sources: Any) -> None:
        whole(self, *sources)
        raise Done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "fit", fit)
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module", params=WORDS)
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An app in a folder of its own, where its data are made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp(request.param))
        yield request.param


def stop_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """The next run ends when it comes to a step."""
    whole = Engine.fit

    def fit(self: Engine, *sources: Any) -> None:
        kind = type(self._task)
        losses = kind.losses

        def until(self: Any, batch: Any, **place: Any) -> Any:
            if place["step"] == step:
                raise Stop
            return losses(self, batch, **place)

        patch.setattr(kind, "losses", until)
        whole(self, *sources)

    patch.setattr(Engine, "fit", fit)


def trained(app: str, kind: str, name: str) -> Path:
    """The folder of a run that was trained to its end."""
    options = [f"--weighting.{option}" for option in FAMILIES[kind]]
    if kind == "curriculum":
        options += [f"--weighting.ramped={RAMPED[app]}", "--weighting.cap=null"]
    if app == "turbulence":
        options += [f"--arms={'constant' if kind == 'constant' else 'schedule'}"]
    words = ["train", f"--name={name}", f"--weighting.kind={kind}", *WORDS[app], *SHORT, *options]
    with pytest.raises(Done):
        importlib.import_module(f"{app}.cli").main(words)
    (found,) = Path("runs").glob(f"*/{name}/**/config.yaml")
    return found.parent


@pytest.mark.filterwarnings("ignore:.*clamped")  # some terms are tiny
@pytest.mark.parametrize("kind", FAMILIES)
def test_it_trains_and_goes_on_to_the_same_end(
    app: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(app, kind, f"{kind}_whole")
    steps = [event for event in read_events(whole) if event["event"] == "train"]
    assert len(steps) >= 4
    assert all(math.isfinite(value) for event in steps for value in event["raw"].values())
    last = len(steps) - 1
    with monkeypatch.context() as patch:
        stop_at(patch, last)
        with pytest.raises(Stop):
            trained(app, kind, f"{kind}_cut")
    runs = [whole, trained(app, kind, f"{kind}_cut")]
    ends = [load_checkpoint(run / "checkpoints") for run in runs]
    for part in ("model", "weighting"):
        assert same(ends[0][part], ends[1][part])
    moved = steps[-3]["weight"] != steps[-1]["weight"]  # of two epochs
    assert moved != (kind in STILL)
