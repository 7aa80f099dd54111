"""The command line: `turbulence generate | train | evaluate | report | spectra | schedule`.

Commands name what they run, so that `--help` answers at once.
"""

import sys
import warnings
from importlib.metadata import version
from importlib.resources import files

from nops_train import (
    App,
    Command,
    Folders,
    Needs,
    Option,
    generate_command,
    run_cli,
    runs_or_studies,
    schedule_needs,
    some_runs,
)

from turbulence.aliases import ALIASES
from turbulence.config import TurbulenceConfig
from turbulence.published import rewritten

NEEDS = (
    *schedule_needs(),
    Needs(key="train.lr_gamma", other="train.lr_schedule", values=("constant",)),
    Needs(key="data.drag", other="data.source", values=("kolmogorov",)),
    Needs(key="data.forcing_wavenumber", other="data.source", values=("kolmogorov",)),
    Needs(key="data.solver_resolution", other="data.source", values=("kolmogorov", "decaying")),
    Needs(key="data.npz", other="data.source", values=("file",)),
    Needs(key="model.afno_blocks", other="model.name", values=("uafno",)),
    Needs(key="model.afno_groups", other="model.name", values=("uafno",)),
    Needs(key="model.bottleneck_blocks", other="model.name", values=("unet",)),
    Needs(key="model.num_layers", other="model.name", values=("fno",)),
    Needs(key="model.encoder_levels", other="model.name", values=("uafno", "unet")),
    Needs(key="model.blocks_per_level", other="model.name", values=("uafno", "unet")),
    Needs(key="model.modes", other="model.name", values=("uafno", "fno")),
)

COMMANDS = (
    generate_command(
        "turbulence.generation",
        text="Solve the flow, or convert a tree; started again, it goes on where it stopped.",
        samples="samples solved again",
    ),
    Command(
        name="train",
        help="Train each arm and seed, evaluate, compare. Continues what was begun.",
        run="turbulence.training:train_study",
    ),
    Command(
        name="evaluate",
        help="Evaluate runs again, and write the report of their comparison.",
        run="turbulence.training:evaluate_runs",
        config="none",
        folders=some_runs(),
    ),
    Command(
        name="report",
        help="Write the report of a comparison or a run again, or compare several runs.",
        run="turbulence.report:report_runs",
        config="none",
        folders=runs_or_studies(),
    ),
    Command(
        name="spectra",
        help="E(k), marginals and anisotropy of data, or of a run beside the truth: figures, CSV.",
        run="turbulence.spectra:write_spectra",
        config="none",
        folders=Folders(
            metavar="FILE|RUN",
            help="Folders of data, their HDF5 files, or evaluated runs.",
            minimum=1,
            maximum=None,
            runs=False,
        ),
        options=(
            Option(flag="--fields", default="velocity", help="Fields of data, comma-separated."),
            Option(
                flag="--window",
                default="none",
                help="none for periodic fields; hann or tukey tapers others, less their mean.",
            ),
            Option(flag="--out", default="spectra", help="Folder for the files."),
        ),
    ),
    Command(
        name="schedule",
        help="When would the weights move? The configured schedule over a given metric.",
        run="turbulence.dry_run:dry_run",
        options=(
            Option(
                flag="--metrics",
                default="constant:0.5",
                help="constant:VALUE, FILE.csv, FILE.csv:COLUMN, or the folder of a run.",
            ),
            Option(flag="--epochs", type=int, default=120, help="Length of a constant metric."),
            Option(flag="--out", default="schedule", help="Folder for table and figure."),
            Option(
                flag="--suggest",
                type=bool,
                default=False,
                help="Patience and warm-up from the recorded metric's noise, and the trial of them.",
            ),
        ),
    ),
)


def app() -> App:
    """The declared command line."""
    return App(
        name="turbulence",
        version=version("turbulence"),
        help="Turbulence: train a flow emulator on field error and move weight to a spectrum error "
        "when validation stops improving; compare arms, and see what it bought.",
        config=TurbulenceConfig,
        presets=files("turbulence") / "configs",
        commands=COMMANDS,
        aliases=ALIASES,
        needs=NEEDS,
        rewrite=rewritten,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command that the words name; the exit code. Old names of losses are warned of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("default", "the loss component", DeprecationWarning)
        return run_cli(app(), argv)


if __name__ == "__main__":
    sys.exit(main())
