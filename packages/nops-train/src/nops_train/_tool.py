"""The console command `nops-train`: look at runs and checkpoints of any app.

Nothing here imports torch before a command needs it.
"""

import sys
from importlib.metadata import version
from pathlib import Path

from nops_train._command_line import run_cli
from nops_train._command_line_spec import App, Command, Folders, Invocation
from nops_train._config import Config


def inspect(call: Invocation) -> None:
    """Say what is in a checkpoint, an export or a run."""
    from nops_train._tool_inspect import inspect_path

    inspect_path(call.folders[0])


def runs(call: Invocation) -> None:
    """List runs."""
    from nops_train._tool_runs import list_runs

    list_runs(call.folders[0] if call.folders else Path("runs"))


def export(call: Invocation) -> None:
    """Write a run's weights for sharing."""
    from nops_train._checkpoint_export import export as write_export

    source, *given = call.folders
    print(write_export(source, given[0] if given else source / "export"))


def csv(call: Invocation) -> None:
    """Write a run's event log as a table."""
    from nops_train._tool_csv import write_csv

    source, *given = call.folders
    write_csv(source, given[0] if given else None)


COMMANDS = (
    Command(
        name="runs",
        help="List runs: app, name, state, position, best value, time since the last event.",
        run=runs,
        config="none",
        folders=Folders(
            metavar="FOLDER",
            help="Folder of runs, at any depth. [default: runs]",
            minimum=0,
            maximum=1,
            runs=False,
        ),
    ),
    Command(
        name="inspect",
        help="Say what is in a checkpoint, a safetensors file or a run, and check the sums. Runs no "
        "code of the file.",
        run=inspect,
        config="none",
        folders=Folders(metavar="FILE|RUN", help="Checkpoint, export or run folder.", runs=False),
    ),
    Command(
        name="export",
        help="Write model.safetensors and config.json of a run's best checkpoint, for sharing.",
        run=export,
        config="none",
        folders=Folders(
            metavar="RUN",
            rest="FOLDER",
            help="Run folder, and where to write. [default: export in the run folder]",
            maximum=2,
            runs=False,
        ),
    ),
    Command(
        name="csv",
        help="Write the event log as a table: a row per logged step and per validation.",
        run=csv,
        config="none",
        folders=Folders(
            metavar="RUN",
            rest="FILE",
            help="Run folder, and where to write. [default: standard output]",
            maximum=2,
            runs=False,
        ),
    ),
)


def app() -> App:
    """The declared command line."""
    return App(
        name="nops-train",
        version=version("nops-train"),
        help="Look at training runs and checkpoints of any app built on the engine.",
        config=Config,
        presets=None,
        commands=COMMANDS,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command that the words name; the exit code."""
    return run_cli(app(), argv)


if __name__ == "__main__":
    sys.exit(main())
