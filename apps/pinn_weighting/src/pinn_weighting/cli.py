"""The command line: `pinn-weighting train | compare | evaluate | report`.

Commands name what they run, so that `--help` answers at once.
"""

import sys
from importlib.metadata import version
from importlib.resources import files

from nops_train import (
    App,
    Command,
    Needs,
    one_run,
    run_cli,
    runs_or_studies,
    schedule_needs,
)

from pinn_weighting.aliases import ALIASES
from pinn_weighting.config import PinnConfig
from pinn_weighting.problems import CHAIN, EQUATIONS, FACTS
from pinn_weighting.spelling import translated

OF_CHAIN = (
    *("problem.num_graphs", "problem.num_steps", "problem.train_ratio", "problem.shuffle"),
    *(
        "problem.drop_last",
        "problem.data_seed",
        "problem.noise",
        "model.conv",
        "model.dropout",
        "model.skip",
    ),
    *("model.residual", "model.scaling", "evaluate.duration", "train.batch_size"),
    *("train.scale_lr", "train.compile", "train.accumulate"),
    *(f"physics.{name}" for name in ("n_nodes", "length", "c", "k", "dt", "scheme")),
    *(f"physics.force.{name}" for name in ("kind", "amplitude", "location", "margin")),
)
OF_POINTS = ("problem.sampling", "problem.resample", "problem.steps_per_epoch", "evaluate.points")
NEEDS = (
    *(Needs(key=key, other="problem.name", values=(CHAIN,)) for key in OF_CHAIN),
    *(Needs(key=key, other="problem.name", values=EQUATIONS) for key in OF_POINTS),
    *(
        Needs(
            key=f"loss.{term}",
            other="problem.name",
            values=tuple(name for name, facts in FACTS.items() if term in facts.terms),
        )
        for term in dict.fromkeys(term for facts in FACTS.values() for term in facts.terms)
    ),
    Needs(key="model.per_feature", other="model.scaling", values=("standard", "minmax")),
    Needs(key="model.scaling_epsilon", other="model.scaling", values=("standard", "minmax")),
    *(
        Needs(key=f"model.{name}", other="model.kind", values=("fourier",))
        for name in ("frequencies", "fourier_scales")
    ),
    Needs(key="train.measure_batches", other="weighting.kind", values=("adaptive",)),
    Needs(key="train.lr_baseline", other="train.scale_lr", values=(True,)),
    *schedule_needs(),
    Needs(key="train.adam_eps", other="train.optimizer", values=("adamw", "adam")),
)
COMMANDS = (
    Command(
        name="train",
        help="Train one network under one weighting, evaluate, report. Continues a run.",
        run="pinn_weighting.training:train_run",
    ),
    Command(
        name="compare",
        help="Train schemes on problems over seeds, beside tuned fixed weights; compare.",
        run="pinn_weighting.comparison:compare_runs",
    ),
    Command(
        name="evaluate",
        help="Evaluate a run again, and write its report.",
        run="pinn_weighting.training:evaluate_run",
        config="run",
        folders=one_run(),
    ),
    Command(
        name="report",
        help="Write the report of runs or comparisons again.",
        run="pinn_weighting.report:report_runs",
        config="none",
        folders=runs_or_studies(),
    ),
)


def app() -> App:
    """The declared command line."""
    return App(
        name="pinn-weighting",
        version=version("pinn-weighting"),
        help="Weightings of loss terms in physics-informed training: every scheme by name, on a "
        "wave's step and on equations with exact solutions, beside tuned fixed weights.",
        config=PinnConfig,
        presets=files("pinn_weighting") / "configs",
        commands=COMMANDS,
        aliases=ALIASES,
        needs=NEEDS,
        respell=translated,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command that the words name; the exit code."""
    return run_cli(app(), argv)


if __name__ == "__main__":
    sys.exit(main())
