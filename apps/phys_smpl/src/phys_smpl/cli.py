"""The command line: `phys-smpl train | evaluate | ablate | posterior | generate | report`.

Commands name what they run, so that `--help` answers at once.
"""

import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from nops_train import (
    Alias,
    App,
    Command,
    Option,
    one_run,
    run_cli,
    runs_or_studies,
)

from phys_smpl.config import PhysConfig
from phys_smpl.seed_layout import rewrite


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
        run="phys_smpl.training:train_run",
    ),
    Command(
        name="evaluate",
        help="Evaluate a run again, per channel too, and write its report.",
        run="phys_smpl.training:evaluate_run",
        config="run",
        folders=one_run(),
    ),
    Command(
        name="ablate",
        help="Train without physics, with physics alone, with a correction, over seeds; compare.",
        run="phys_smpl.ablation:ablate",
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
        run="phys_smpl.posterior:write_posterior",
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
        run="phys_smpl.generation:simulate_observations",
        options=(
            Option(flag="--out", type=str | None, help="Folder; that of `train` by default."),
        ),
    ),
    Command(
        name="report",
        help="Write the report of runs or studies again.",
        run="phys_smpl.report:report_runs",
        config="none",
        folders=runs_or_studies(),
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
