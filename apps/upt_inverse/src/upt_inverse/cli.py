"""The command line: `upt-inverse generate | train | evaluate | rollout | report | ablate`.

Commands import what they run when they run, so that `--help` answers at once.
"""

import sys
from importlib.metadata import version
from importlib.resources import files
from typing import Literal

from nops_train import (
    App,
    Command,
    Folders,
    Invocation,
    Needs,
    Option,
    one_run,
    run_cli,
    schedule_needs,
    verify_option,
)

from upt_inverse.aliases import ALIASES
from upt_inverse.config import UptConfig


def generate(config: UptConfig, call: Invocation) -> None:
    """Write the trajectories, or check those that are there."""
    from upt_inverse import generation

    if call.options["verify"]:
        generation.verify_data(config)
    else:
        generation.generate_data(config)


def train(config: UptConfig, call: Invocation) -> None:
    """Train, evaluate and report."""
    from upt_inverse.training import train_run

    train_run(config, call)


def evaluate(config: UptConfig, call: Invocation) -> None:
    """Evaluate a run again."""
    from upt_inverse.training import evaluate_run

    evaluate_run(config, call)


def rollout(config: UptConfig, call: Invocation) -> None:
    """Write decoded rollouts."""
    from upt_inverse.rollout import write_rollout

    write_rollout(config, call)


def report(call: Invocation) -> None:
    """Write reports again."""
    from upt_inverse.report import report_runs

    report_runs(call.folders)


def ablate(config: UptConfig, call: Invocation) -> None:
    """Train with and without each inverse loss, and compare."""
    from upt_inverse import ablation

    ablation.ablate(config, call)


GRID = ("model.patch_size",)
SET = ("model.supernodes", "model.radius", "model.max_neighbors")
SIZED = ("tokens", "dim", "encoder_width", "encoder_depth", "approximator_depth", "heads")
MORE_SIZED = ("approximator_width", "decoder_width", "decoder_self_depth", "decoder_cross_depth")
EQUATIONS = {
    "data.viscosity": "burgers",
    "data.speed": "advection",
    "data.Du": "diffusion_reaction",
    "data.Dv": "diffusion_reaction",
    "data.k": "diffusion_reaction",
    "data.beta": "darcy",
}
NEEDS = (
    *schedule_needs(),
    Needs(key="data.time_stride", other="data.source", values=("pdebench",)),
    Needs(
        key="loss.query_sampling.num_queries", other="loss.query_sampling.enabled", values=(True,)
    ),
    Needs(
        key="loss.query_sampling.importance_floor",
        other="loss.query_sampling.strategy",
        values=("importance",),
    ),
    *(Needs(key=key, other="data.pde", values=(name,)) for key, name in EQUATIONS.items()),
    *(Needs(key=key, other="data.source", values=("generate",)) for key in EQUATIONS),
    *(Needs(key=key, other="model.encoder", values=("grid",)) for key in GRID),
    *(Needs(key=key, other="model.encoder", values=("supernodes",)) for key in SET),
    *(
        Needs(key=f"model.{name}", other="model.preset", values=(None,))
        for name in (*SIZED, *MORE_SIZED, "mlp_ratio", "frequencies")
    ),
)
ROLLOUT = (
    Option(flag="--task", type=str | None, help="Name of the task, of a run with several."),
    Option(flag="--steps", type=int | None, help="Steps; those of the data by default."),
    Option(
        flag="--queries",
        default="grid",
        help="grid, or FILE.csv: one point per line, its coordinates separated by commas.",
    ),
    Option(
        flag="--mode",
        type=Literal["latent", "image"],
        default="latent",
        help="latent: encode once and step tokens; image: decode and encode again at each step.",
    ),
    Option(flag="--out", type=str | None, help="File; rollout.h5 in the run's folder by default."),
)
COMMANDS = (
    Command(
        name="generate",
        help="Solve the equation; started again, it goes on where it stopped.",
        run=generate,
        options=(verify_option("trajectories solved again"),),
    ),
    Command(
        name="train",
        help="Train encoder, approximator and decoder together, evaluate, report. Continues a run.",
        run=train,
    ),
    Command(
        name="evaluate",
        help="Evaluate a run again, and write its report.",
        run=evaluate,
        config="run",
        folders=one_run(),
    ),
    Command(
        name="rollout",
        help="Write decoded rollouts of the test trajectories as HDF5, at any points.",
        run=rollout,
        config="run",
        folders=one_run(),
        options=ROLLOUT,
    ),
    Command(
        name="report",
        help="Write the report of runs or studies again.",
        run=report,
        config="none",
        folders=Folders(
            metavar="RUN",
            help="Run folders, or folders of studies.",
            minimum=1,
            maximum=None,
            runs=False,
        ),
    ),
    Command(
        name="ablate",
        help="Train without, with each and with both inverse losses, over seeds; compare.",
        run=ablate,
    ),
)


def app() -> App:
    """The declared command line."""
    return App(
        name="upt-inverse",
        version=version("upt-inverse"),
        help="Universal physics transformers with inverse losses: train encoder, approximator and "
        "decoder together, roll out in latent space, judge the decoded fields.",
        config=UptConfig,
        presets=files("upt_inverse") / "configs",
        commands=COMMANDS,
        aliases=ALIASES,
        needs=NEEDS,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command that the words name; the exit code."""
    return run_cli(app(), argv)


if __name__ == "__main__":
    sys.exit(main())
