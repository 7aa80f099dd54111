"""A small app around the command line, loaded by the tests and run in subprocesses."""

import json
import signal
import sys
from pathlib import Path
from typing import Literal

from nops_train._command_line import run_cli
from nops_train._command_line_spec import (
    Alias,
    App,
    Command,
    Folders,
    Invocation,
    Needs,
    Option,
)
from nops_train._config import Config, DataConfig, TrainConfig
from nops_train._errors import CheckFailed, Diverged, InertTermError, InputError, Interrupted
from pydantic import Field


class Rollout(Config):
    """Windows of back-propagation."""

    mode: Literal["last", "random_start", "pushforward"] = Field(
        default="random_start", description="Mode."
    )
    window: int = Field(default=4, ge=1, description="Steps through which gradients flow.")
    num_pushforward: int = Field(default=1, ge=1, description="Steps without gradient.")


class Latent(Config):
    """The latent term."""

    enabled: bool = Field(default=False, description="Whether it is trained on.")
    weight: float = Field(default=0.1, ge=0, description="Its weight.")


class Loss(Config):
    """Terms and weights."""

    traj: float = Field(default=1.0, ge=0, description="Trajectory error.")
    latent: Latent = Latent()


class Constant(Config):
    """Weights that stay."""

    kind: Literal["constant"] = Field(default="constant", description="Rule.")


class Ramp(Config):
    """Weights that rise."""

    kind: Literal["ramp"] = Field(default="ramp", description="Rule.")
    start: int = Field(default=5, ge=0, description="Last epoch at 0.")
    stop: int = Field(default=10, ge=1, description="First epoch at full weight.")


class Alignment(Config):
    """The other run."""

    vqvae: str = Field(min_length=1, description="Run folder.")
    levels: int = Field(default=3, ge=1, description="Levels.")


class ToyConfig(Config):
    """The toy's config."""

    data: DataConfig = DataConfig(num_steps=16)
    train: TrainConfig = Field(default=TrainConfig(keep_last=7), description="Optimisation.")
    rollout: Rollout = Rollout()
    loss: Loss = Loss()
    weighting: Constant | Ramp = Field(
        default=Constant(), discriminator="kind", description="Weights."
    )
    alignment: Alignment | None = None
    extra: dict[str, float] = Field(
        default={"smooth": 0.5}, description="Weights of further terms."
    )


def split(samples: int) -> dict[str, int]:
    """Nine tenths to train on."""
    if samples < 10:
        raise ValueError(f"expected 10 samples at least, found {samples}")
    return {"data.num_train": samples * 9 // 10, "data.num_valid": samples - samples * 9 // 10}


class OutOfMemoryError(RuntimeError):
    """Named as torch's, which is known by its name alone."""


RAISED = {
    "check": CheckFailed("skill is below 0"),
    "input": InputError("data.path: nothing there"),
    "inert": InertTermError("the term latent reaches no trainable parameter"),
    "value": ValueError("pred and target need one shape"),
    "file": FileNotFoundError(2, "No such file or directory", "gone.h5"),
    "diverged": Diverged("10 steps in a row were not finite"),
    "term": Interrupted(signal.SIGTERM),
    "int": Interrupted(signal.SIGINT),
    "keyboard": KeyboardInterrupt(),
    "gpu": OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "cpu": RuntimeError(
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    ),
    "numpy": MemoryError(),
    "defect": KeyError("lost"),
}


def train(config: ToyConfig, call: Invocation) -> int | None:
    """Print what was resolved, or end as asked."""
    if call.options["end"] == "config":
        TrainConfig(epochs=0, batch_size=2)
    if call.options["end"]:
        raise RAISED[call.options["end"]]
    print(json.dumps(config.model_dump(mode="json")))
    return call.options["code"]


def align(call: Invocation) -> None:
    """Print what was given."""
    print([str(f) for f in call.folders], call.options)


def infer_preset(path: str) -> tuple[str, str] | None:
    """Paper-sized where the data say so."""
    return ("paper", "the data are paper-sized") if "paper" in path else None


APP = App(
    name="toy",
    version="1.2.3",
    help="A toy.",
    config=ToyConfig,
    presets=Path(__file__).parent / "toy_presets",
    commands=(
        Command(
            name="train",
            help="Train it.",
            run=train,
            options=(
                Option(flag="--end", help="How to end."),
                Option(flag="--code", help="Exit code.", type=int | None),
                Option(flag="--init-from", help="Run to take weights from."),
                Option(flag="--verify", help="Check instead.", type=bool, default=False),
            ),
        ),
        Command(
            name="evaluate",
            help="Evaluate it.",
            run=train,
            config="run",
            spellings=("validate",),
            folders=Folders(metavar="RUN", help="Run folder.", minimum=0),
            options=(Option(flag="--end", help="How."), Option(flag="--code", help="Exit code.")),
        ),
        Command(
            name="align",
            help="Compare two runs.",
            run=align,
            config="none",
            folders=Folders(metavar="RUN", help="Run folders.", minimum=2, maximum=2),
            options=(Option(flag="--seeds", help="Seeds.", type=tuple[int, ...], default=(0,)),),
        ),
        Command(
            name="report",
            help="Write reports.",
            run=align,
            config="none",
            folders=Folders(metavar="PATH", help="Anything.", maximum=None, runs=False),
        ),
    ),
    aliases=(
        Alias(name="--lr", sets="train.learning_rate"),
        Alias(name="--epochs", sets="train.epochs"),
        Alias(name="--batch-size", sets="train.batch_size"),
        Alias(name="--bptt-window", sets="rollout.window"),
        Alias(name="--checkpoint-dir", sets="--runs"),
        Alias(name="--n-samples", sets=split, type=int, help="Nine tenths are trained on."),
        Alias(
            name="--enable-latent-loss", sets={"loss.latent.enabled": True}, help="Switch it on."
        ),
        Alias(name="loss.traj.weight", sets="loss.traj"),
        Alias(name="data.samples", sets=split, type=int, help="Nine tenths are trained on."),
        Alias(name="loss.use_latent", sets={"loss.latent.enabled": True}, help="Switch it on."),
    ),
    needs=(Needs(key="rollout.num_pushforward", other="rollout.mode", values=("pushforward",)),),
    infer_preset=infer_preset,
)

if __name__ == "__main__":
    code = run_cli(APP)
    sys.exit("torch was imported" if "torch" in sys.modules else code)
