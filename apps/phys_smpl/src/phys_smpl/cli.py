"""The command line: `phys-smpl train | evaluate | ablate | posterior | generate | report`.

Commands import what they run when they run, so that `--help` answers at once.
"""

import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from nops_train import (
    Alias,
    App,
    Command,
    Folders,
    InputError,
    Invocation,
    Option,
    one_run,
    run_cli,
)

from phys_smpl.config import PhysConfig
from phys_smpl.seed_layout import rewrite


def generate(config: PhysConfig, call: Invocation) -> None:
    """Simulate observations."""
    from phys_smpl.generation import data_folder, generate_data

    out = call.options["out"]
    if out and config.data.path:
        raise InputError("generate: --out and --data name one folder; give one of them")
    generate_data(config, Path(out) if out else data_folder(config))


def train(config: PhysConfig, call: Invocation) -> None:
    """Train, evaluate and report."""
    from phys_smpl.training import train_run

    train_run(config, call)


def evaluate(config: PhysConfig, call: Invocation) -> None:
    """Evaluate a run again."""
    from phys_smpl.training import evaluate_run

    evaluate_run(config, call)


def ablate(config: PhysConfig, call: Invocation) -> None:
    """Train variants over seeds, and compare."""
    from phys_smpl import ablation

    ablation.ablate(config, call)


def posterior(config: PhysConfig, call: Invocation) -> None:
    """Write posteriors of a table."""
    from phys_smpl.posterior import write_posterior

    write_posterior(config, call)


def report(call: Invocation) -> None:
    """Write reports again."""
    from phys_smpl.report import report_runs

    report_runs(call.folders)


def infer_preset(path: str) -> tuple[str, str] | None:
    """The preset that a folder of data calls for."""
    for name, preset in (("station_info.json", "gnss"), ("rtm_paras.json", "reflectance")):
        if (Path(path) / name).is_file():
            return preset, f"{path} holds {name}"
    return None


SPLITS = ("train", "valid", "test")
ALIASES = (
    Alias(name="--spectra", sets="physics.spectra"),
    Alias(name="data.dir", sets="data.path"),
    *(Alias(name=f"data.n_{split}", sets=f"data.num_{split}") for split in SPLITS),
    Alias(name="train.lr", sets="train.learning_rate"),
    Alias(name="train.clip", sets="train.grad_clip"),
    Alias(name="train.patience", sets="train.early_stop_patience"),
)
COMMANDS = (
    Command(
        name="train",
        help="Simulate if need be, train one variant, evaluate, report. Continues a run.",
        run=train,
    ),
    Command(
        name="evaluate",
        help="Evaluate a run again, per channel too, and write its report.",
        run=evaluate,
        config="run",
        folders=one_run(),
    ),
    Command(
        name="ablate",
        help="Train without physics, with physics alone, with a correction, over seeds; compare.",
        run=ablate,
        options=(
            Option(
                flag="--variants", type=str | None, help="Such as A,B,C,G, of ablation.variants."
            ),
            Option(flag="--seeds", type=str | int | None, help="Such as 0,1,2, of ablation.seeds."),
        ),
    ),
    Command(
        name="posterior",
        help="Parameters with uncertainty of each row of a CSV.",
        run=posterior,
        config="run",
        folders=one_run(),
        options=(
            Option(flag="--input", type=str | None, help="CSV in the layout of the run's data."),
            Option(flag="--output", type=str | None, help="CSV to be written."),
        ),
    ),
    Command(
        name="generate",
        help="Simulate observations of a problem.",
        run=generate,
        options=(
            Option(flag="--out", type=str | None, help="Folder; that of `train` by default."),
        ),
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
)


def app() -> App:
    """The declared command line."""
    return App(
        name="phys-smpl",
        version=version("phys-smpl"),
        help="Physical parameters with uncertainty from observations: a VAE whose decoder is a physics "
        "model, trained on its simulations first, with a bounded learned correction.",
        config=PhysConfig,
        presets=files("phys_smpl") / "configs",
        commands=COMMANDS,
        aliases=ALIASES,
        infer_preset=infer_preset,
        rewrite=rewrite,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command that the words name; the exit code."""
    return run_cli(app(), argv)


if __name__ == "__main__":
    sys.exit(main())
