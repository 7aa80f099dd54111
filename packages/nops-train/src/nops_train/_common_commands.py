"""What the commands of most apps are and take: generate, run folders, keys of a schedule."""

import pkgutil

from pydantic import BaseModel

from nops_train._command_line_spec import Command, Folders, Invocation, Needs, Option

SCHEDULED = {
    "warmup_steps": ("cosine", "step", "plateau"),
    "lr_factor": ("step", "plateau"),
    "lr_step_epochs": ("step",),
    "lr_patience": ("plateau",),
}  # keys of `TrainConfig`, each with the values of `lr_schedule` under which it counts


def schedule_needs() -> tuple[Needs, ...]:
    """For `App.needs`: the keys that count under some learning-rate schedules only.

    Returns:
        Members of `App.needs`.
    """
    return tuple(
        Needs(key=f"train.{key}", other="train.lr_schedule", values=values)
        for key, values in SCHEDULED.items()
    )


def one_run() -> Folders:
    """For `evaluate`, a command with `config="run"`: a run folder, or that of `--runs` and `--name`.

    Returns:
        For `Command.folders`.
    """
    return Folders(metavar="RUN", help="Run folder.", minimum=0, maximum=1)


def some_runs() -> Folders:
    """For `report`, a command with `config="none"`: one run folder or more.

    Returns:
        For `Command.folders`.
    """
    return Folders(metavar="RUN", help="Run folders.", minimum=1, maximum=None)


def runs_or_studies() -> Folders:
    """For `report`, a command with `config="none"`: folders of runs or of studies, one or more.

    Returns:
        For `Command.folders`.
    """
    text = "Run folders, or folders of studies."
    return Folders(metavar="RUN", help=text, minimum=1, maximum=None, runs=False)


def verify_option(samples: str = "samples replayed by the solver") -> Option:
    """The switch `--verify` of `generate`, read as `call.options["verify"]`.

    Args:
        samples: What is done beside the checksums, for `--help`.

    Returns:
        A member of `Command.options`.
    """
    return Option(
        flag="--verify",
        type=bool,
        default=False,
        help=f"Check instead: every checksum, and {samples}.",
    )


def generate_command(module: str, *, text: str, samples: str | None = None) -> Command:
    """The command `generate`, which checks instead with `--verify`.

    Args:
        module: Which has `generate_data(config)` and `verify_data(config)`; imported when one runs.
        text: One line for `--help`.
        samples: As of `verify_option`.

    Returns:
        A member of `App.commands`.
    """

    def run(config: BaseModel, call: Invocation) -> None:
        name = "verify_data" if call.options["verify"] else "generate_data"
        pkgutil.resolve_name(f"{module}:{name}")(config)

    option = verify_option() if samples is None else verify_option(samples)
    return Command(name="generate", help=text, run=run, options=(option,))
