"""The command line: `upt-inverse generate | train | evaluate | rollout | report | ablate`.

Commands name what they run, so that `--help` answers at once.
"""

import sys
from importlib.metadata import version
from importlib.resources import files
from typing import Literal

from nops_train import (
    App,
    Command,
    Needs,
    Option,
    generate_command,
    one_run,
    run_cli,
    runs_or_studies,
    schedule_needs,
)

from upt_inverse.aliases import ALIASES
from upt_inverse.config import UptConfig

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
    generate_command(
        "upt_inverse.generation",
        text="Solve the equation; started again, it goes on where it stopped.",
        samples="trajectories solved again",
    ),
    Command(
        name="train",
        help="Train encoder, approximator and decoder together, evaluate, report. Continues a run.",
        run="upt_inverse.training:train_run",
    ),
    Command(
        name="evaluate",
        help="Evaluate a run again, and write its report.",
        run="upt_inverse.training:evaluate_run",
        config="run",
        folders=one_run(),
    ),
    Command(
        name="rollout",
        help="Write decoded rollouts of the test trajectories as HDF5, at any points.",
        run="upt_inverse.rollout:write_rollout",
        config="run",
        folders=one_run(),
        options=ROLLOUT,
    ),
    Command(
        name="report",
        help="Write the report of runs or studies again.",
        run="upt_inverse.report:report_runs",
        config="none",
        folders=runs_or_studies(),
    ),
    Command(
        name="ablate",
        help="Train without, with each and with both inverse losses, over seeds; compare.",
        run="upt_inverse.ablation:ablate",
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
