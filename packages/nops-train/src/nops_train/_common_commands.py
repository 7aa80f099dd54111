"""What the commands of most apps take: run folders, the switch that checks data, keys of a schedule."""

from nops_train._command_line_spec import Folders, Needs, Option

SCHEDULED = {
    "warmup_steps": ("cosine", "step", "plateau"),
    "lr_factor": ("step", "plateau"),
    "lr_step_epochs": ("step",),
    "lr_patience": ("plateau",),
}  # keys of `TrainConfig`, each with the values of `lr_schedule` under which it counts


def schedule_needs() -> tuple[Needs, ...]:
    """For `App.needs`: the keys that count under some learning-rate schedules only."""
    return tuple(
        Needs(key=f"train.{key}", other="train.lr_schedule", values=values)
        for key, values in SCHEDULED.items()
    )


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
