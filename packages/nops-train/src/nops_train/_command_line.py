"""The command line of an app: declare it, and get options, layers, errors and exit codes.

    APP = App(name="noa", version="0.1.0", help="…", config=NoaConfig,
              presets=files("noa") / "configs",
              commands=(Command(name="train", help="Train.", run="noa.training:train_run"),),
              aliases=(Alias(name="--lr", sets="train.learning_rate"),))

    if __name__ == "__main__":
        sys.exit(run_cli(APP))

Values come from the class's defaults, the packaged preset, `--config FILE`, and the command line
(`--train.epochs 3`, `--train.epochs=3`), each laid over the one before. Nothing here imports torch.
"""

import difflib
import math
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nops_train._command_line_aliases import Assignment
from nops_train._command_line_flags import RESUME_WORDS, Flags, read_words
from nops_train._command_line_help import app_help, command_help, console
from nops_train._command_line_layers import Resolver, check_needs, merged, read_preset
from nops_train._command_line_report import report_error
from nops_train._command_line_spec import App, Command, Invocation, check_run_folder
from nops_train._command_line_yaml import read_yaml
from nops_train._errors import InputError, Interrupted

__all__ = ["resolve_call", "run_cli"]


def run_cli(app: App, argv: Sequence[str] | None = None) -> int:
    """Run the command that the words name; returns the exit code.

    0 done, 1 a check failed (or a defect of ours, with its traceback), 2 something the user can
    change, 3 diverged, 143 or 130 stopped by a signal after saving. Messages go to standard error
    in one block without traceback; that is appended to `error.log` in the run folder.

    A process whose own words these are computes with numbers below the smallest normal one (1.2e-38 in
    float32) as 0, in all threads that the command starts: some processors take many times as long for them.
    One that hands words over keeps its arithmetic.

    Args:
        app: The declared command line.
        argv: Words after the program's name, for a call from within a program; those of the process by
            default.

    Returns:
        The exit code.
    """
    words = app.respelled(sys.argv[1:] if argv is None else argv)
    program, invocation = app.name, None
    try:
        command = find_command(app, words)
        if command is None:
            return 0
        program = f"{app.name} {command.name}"
        if asks_for_help(words):
            show_help(app, command, words[1:])
            return 0
        config, invocation = resolve_call(app, command, words[1:])
        arguments = (invocation,) if config is None else (config, invocation)
        run = found(command.run)
        if argv is None and "torch" in sys.modules:
            found("nops_train._denormals:flush_denormals")()
        with speaking():
            return exit_code(run(*arguments))
    except (Exception, KeyboardInterrupt, Interrupted) as error:
        return report_error(error, program=program, folder=invocation and invocation.folder)


def found(run: Callable[..., Any] | str) -> Callable[..., Any]:
    """A command's function, imported if it is named."""
    return pkgutil.resolve_name(run) if isinstance(run, str) else run


def exit_code(returned: object) -> int:
    """That of a command: the number it returned, if it did."""
    return returned if isinstance(returned, int) else 0


@contextmanager
def speaking() -> Iterator[None]:
    """Only the first of several ranks writes to standard output."""
    if os.environ.get("RANK", "0") == "0":
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def find_command(app: App, words: Sequence[str]) -> Command | None:
    """The command that the first word names; None where help or the version was printed instead.

    Raises:
        InputError: If it names none.
    """
    names = [c.name for c in app.commands]
    if not words:
        raise InputError(f"expected a command: {', '.join(names)} (or --help)")
    first = words[0]
    if command := app.command(first):
        return command
    if asks_for_help(words):
        app_help(app)
        return None
    if first == "--version":
        console().print(f"{app.name} {app.version}")
        return None
    if first.startswith("-"):
        raise InputError(f"{first}: the command comes first: {', '.join(names)}")
    close = difflib.get_close_matches(first, names, n=1)
    advice = f"did you mean {close[0]}?" if close else f"commands: {', '.join(names)}"
    raise InputError(f"{first}: unknown command; {advice}")


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether `--help` or `-h` is among the words, up to a lone `--`."""
    words = words[: words.index("--")] if "--" in words else words
    return "--help" in words or "-h" in words


def show_help(app: App, command: Command, words: Sequence[str]) -> None:
    """Print a command's options, with the values of the preset that the words name as defaults."""
    preset = preset_word(words) or app.default_preset
    resolver = Resolver(app.config, aliases=app.aliases)
    config = None
    if command.config == "preset":
        resolver.add_mapping(read_preset(app, preset), source=f"preset {preset}")
        config = resolver.resolve_or_none()
    command_help(app, command, Flags(app, command, resolver), config, preset)


def preset_word(words: Sequence[str]) -> str | None:
    """The value of `--preset`, for the help that is shown whatever else stands there."""
    for index, word in enumerate(words):
        if word.startswith("--preset="):
            return word.partition("=")[2]
        if word == "--preset" and index + 1 < len(words):
            return words[index + 1]
    return None


def resolve_call(
    app: App, command: Command, words: Sequence[str]
) -> tuple[BaseModel | None, Invocation]:
    """The config (None for a command without one) and the invocation that the words amount to.

    Args:
        app: The declared command line.
        command: One of its commands.
        words: What follows the command's name.

    Returns:
        Both; presets, file and flags are laid over each other, aliases replaced.

    Raises:
        InputError: On anything in the words, the files or the values that cannot be.
    """
    resolver = Resolver(app.config, aliases=app.aliases)
    places, loose = read_words(words, Flags(app, command, resolver))
    settings = {k: p.value for k, p in merged(p for p in places if p.key.startswith("--")).items()}
    keys = [p for p in places if not p.key.startswith("--")]
    folders = check_folders(command, loose)
    file = settings.get("--config")
    in_file = [] if file is None else list(resolver.places(read_file(app, file), source=file))
    preset = settings.get("--preset") or infer_preset(app, in_file, keys)
    invocation = make_invocation(app, command, settings, preset=preset, folders=folders)
    if command.config == "none":
        return None, invocation
    add_base(app, command, resolver, invocation)
    resolver.add(in_file, explicit=True)
    resolver.add(keys, explicit=True)
    config = resolver.resolve()
    check_needs(app, config, resolver)
    return config, replace(invocation, explicit=resolver.explicit)


def read_file(app: App, file: str) -> Mapping[str, Any]:
    """The mapping of a config file, in this app's own keys and their aliases.

    Raises:
        InputError: If it cannot be read, or the app refuses a section of it.
    """
    values = read_yaml(file)
    try:
        return values if app.rewrite is None else app.rewrite(values)
    except ValueError as error:
        raise InputError(f"{file}: {error}") from error


def infer_preset(app: App, in_file: Iterable[Assignment], keys: Iterable[Assignment]) -> str:
    """The preset that the data calls for, said aloud; else the default one."""
    path = {p.key: p.value for p in (*in_file, *keys)}.get("data.path")
    found = app.infer_preset(path) if app.infer_preset and isinstance(path, str) else None
    if found is None:
        return app.default_preset
    preset, reason = found
    console().print(f"preset {preset}: {reason}")
    return preset


def make_invocation(
    app: App,
    command: Command,
    settings: Mapping[str, Any],
    *,
    preset: str,
    folders: tuple[Path, ...],
) -> Invocation:
    """The call beyond its config.

    Raises:
        InputError: On an impossible name of a run, or a checkpoint that is not there.
    """
    name = check_name(settings.get("--name", preset))
    runs = Path(settings.get("--runs", "runs"))
    folder = folders[0] if command.config == "run" and folders else runs / app.name / name
    file = settings.get("--config")
    return Invocation(
        app=app.name,
        command=command.name,
        preset=preset,
        preset_given="--preset" in settings,
        runs=runs,
        name=name,
        folder=folder if command.config != "none" else None,
        resume=check_resume(settings.get("--resume", "auto")),
        folders=folders,
        options={o.name: settings.get(o.flag, o.default) for o in command.options},
        config_file=None if file is None else Path(file),
    )


def add_base(app: App, command: Command, resolver: Resolver, invocation: Invocation) -> None:
    """Lay the preset, or the config of the run, over the defaults of the class."""
    if command.config == "preset":
        preset = invocation.preset
        resolver.add_mapping(read_preset(app, preset), source=f"preset {preset}")
        return
    assert invocation.folder is not None
    check_run_folder(invocation.folder)
    file = invocation.folder / "config.yaml"
    resolver.add_mapping(read_yaml(file), source=str(file))


def check_folders(command: Command, loose: Sequence[str]) -> tuple[Path, ...]:
    """The paths given without a flag.

    Raises:
        InputError: If there are too few or too many, or one is no run folder where that is asked.
    """
    folders = command.folders
    if folders is None:
        if loose:
            raise InputError(f"{loose[0]}: unexpected; {command.name} takes options only")
        return ()
    most = math.inf if folders.maximum is None else folders.maximum
    if not folders.minimum <= len(loose) <= most:
        few = len(loose) < folders.minimum
        bound = f"{folders.minimum} at least" if few else f"{folders.maximum} at most"
        found = " ".join(loose) or "none"
        raise InputError(f"{folders.metavar}: expected {bound}, found {found}")
    paths = tuple(map(Path, loose))
    for path in paths if folders.runs else ():
        check_run_folder(path)
    return paths


def check_name(name: str) -> str:
    """The name of a run, which becomes the name of its folder."""
    if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise InputError(f"--name: expected the name of a folder without slashes, found {name!r}")
    return name


def check_resume(value: str) -> str:
    """A word, or the path of a checkpoint that exists."""
    if value in RESUME_WORDS or Path(value).exists():
        return value
    close = difflib.get_close_matches(value, RESUME_WORDS, n=1)
    advice = f"; did you mean {close[0]}?" if close else ""
    words = ", ".join(RESUME_WORDS)
    raise InputError(
        f"--resume: expected {words} or an existing checkpoint, found {value!r}{advice}"
    )
