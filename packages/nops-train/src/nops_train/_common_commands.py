"""What the commands of most apps take: run folders, and the switch that checks data."""

from nops_train._command_line_spec import Folders, Option


def one_run() -> Folders:
    """For `evaluate`, a command with `config="run"`: a run folder, or that of `--runs` and `--name`."""
    return Folders(metavar="RUN", help="Run folder.", minimum=0, maximum=1)


def some_runs() -> Folders:
    """For `report`, a command with `config="none"`: one run folder or more."""
    return Folders(metavar="RUN", help="Run folders.", minimum=1, maximum=None)


def verify_option(samples: str = "samples replayed by the solver") -> Option:
    """The switch `--verify` of `generate`, read as `call.options["verify"]`.

    Args:
        samples: What is done beside the checksums, for `--help`.
    """
    return Option(
        flag="--verify",
        type=bool,
        default=False,
        help=f"Check instead: every checksum, and {samples}.",
    )
