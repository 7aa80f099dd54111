"""What an app declares about its command line, and what its commands receive."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from nops_train._errors import InputError

__all__ = ["Alias", "App", "Command", "Folders", "Invocation", "Needs", "Option"]


@dataclass(frozen=True, kw_only=True)
class Alias:
    """Another accepted name of a setting, such as the flag of a published script.

    Attributes:
        name: A flag (`--lr`), or a dotted key (`loss.traj.weight`) accepted in YAML and as a flag.
        sets: The dotted key it stands for (or a flag of every app, such as `--runs`); a mapping of
            keys to values, which makes it a switch; or a function of the value that returns such a
            mapping and may raise ValueError.
        type: Type of the value that a function takes, an annotation as in a config.
        help: One line for `--help`; not needed where `sets` is a key.
    """

    name: str
    sets: str | Mapping[str, Any] | Callable[[Any], Mapping[str, Any]]
    type: Any = str
    help: str = ""


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of one command that is no key of the config; it arrives in `Invocation.options`.

    Attributes:
        flag: Such as `--init-from`; its name there is `init_from`.
        help: One line for `--help`.
        type: An annotation as in a config; `bool` makes it a switch without a value.
        default: Value where the option is absent.
    """

    flag: str
    help: str
    type: Any = str
    default: Any = None

    @property
    def name(self) -> str:
        """Name in `Invocation.options`."""
        return self.flag.removeprefix("--").replace("-", "_")


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Paths that a command takes without a flag, such as run folders.

    Attributes:
        metavar: Their name in `--help`, such as `RUN`.
        help: One line for `--help`.
        minimum: The fewest that are accepted.
        maximum: The most that are accepted; None is any number.
        rest: Name of those after the first `minimum`, where it is another.
        runs: Whether each must be a run folder, one that holds `config.yaml`.
    """

    metavar: str
    help: str
    minimum: int = 1
    maximum: int | None = 1
    rest: str | None = None
    runs: bool = True


@dataclass(frozen=True, kw_only=True)
class Command:
    """One subcommand.

    Attributes:
        name: As typed.
        help: One line for `--help`.
        run: `run(config, invocation)`, or `run(invocation)` where `config` is "none"; or where to find
            it, as "package.module:function", which is imported when the command runs, so that `--help`
            stays fast. It may return an exit code; None, and all else, is 0.
        config: Where the config's values start from: a packaged "preset"; the "run" folder given,
            or the one that `--runs` and `--name` point at; or "none" for a command without config.
        folders: Paths it takes; None for none.
        options: Its own options.
        spellings: Other accepted names of the command.
    """

    name: str
    help: str
    run: Callable[..., Any] | str
    config: Literal["preset", "run", "none"] = "preset"
    folders: Folders | None = None
    options: tuple[Option, ...] = ()
    spellings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Needs:
    """A key that has an effect only where another has one of some values.

    Setting it to anything but its default or the preset's value in a config file or by a flag is an error
    elsewhere; but a file that sets both keys may have the value of any preset, as the stored
    configuration of a run has.

    Attributes:
        key: The dotted key that would be dead.
        other: The dotted key it depends on.
        values: Values of `other` with which `key` has an effect.
    """

    key: str
    other: str
    values: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class App:
    """A command line: commands around one config class.

    Attributes:
        name: Of the program, and of its folder beneath `--runs`.
        version: Printed by `--version`.
        help: One or two sentences for `--help`.
        config: The config class; its field descriptions become help texts.
        presets: Folder of the packaged presets, `<name>.yaml` each; None where it has none.
        commands: In the order of `--help`.
        aliases: Other accepted names of keys.
        needs: Keys that are dead under some settings.
        default_preset: Used where neither `--preset` nor the data says otherwise.
        infer_preset: Given `data.path`, a preset's name and the reason in words, or None; asked
            only where no `--preset` is given, and the choice is printed.
        rewrite: Given the mapping of a `--config` file, the same with sections of other programs
            replaced by keys of this one, where aliases, which see one value each, cannot do it. It may
            raise ValueError.
        respell: Given all words, the same in this program's spelling, where those of another program
            name no command.
    """

    name: str
    version: str
    help: str
    config: type[BaseModel]
    presets: Traversable | Path | None
    commands: tuple[Command, ...]
    aliases: tuple[Alias, ...] = ()
    needs: tuple[Needs, ...] = ()
    default_preset: str = "default"
    infer_preset: Callable[[str], tuple[str, str] | None] | None = None
    rewrite: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None
    respell: Callable[[Sequence[str]], list[str]] | None = None

    def respelled(self, words: Sequence[str]) -> list[str]:
        """The words in this program's own spelling."""
        return list(words) if self.respell is None else self.respell(words)

    def command(self, name: str) -> Command | None:
        """The command of that name or spelling."""
        return next((c for c in self.commands if name in (c.name, *c.spellings)), None)

    def preset_names(self) -> list[str]:
        """Names of the packaged presets, the default first."""
        files = [] if self.presets is None else [file.name for file in self.presets.iterdir()]
        names = sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))
        return sorted(names, key=lambda name: name != self.default_preset)


@dataclass(kw_only=True)
class Invocation:
    """One call of a command, beyond its config.

    Attributes:
        app: Name of the app.
        command: Name of the command.
        preset: Name of the preset that the config starts from.
        preset_given: Whether `--preset` named it.
        runs: Parent folder of all runs.
        name: Name of the run.
        folder: Run folder, None for a command without config; an app that runs in another one sets
            it, since errors are logged there.
        resume: "auto", "never", "force", or the path of a checkpoint.
        folders: Paths given without a flag.
        options: Values of the command's own options.
        explicit: Every key that the user gave, by flag or in the config file, and where: a resumed
            run takes all others from its checkpoint.
        config_file: The `--config` file, if any.
    """

    app: str
    command: str
    preset: str
    preset_given: bool
    runs: Path
    name: str
    folder: Path | None
    resume: str = "auto"
    folders: tuple[Path, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    explicit: Mapping[str, str] = field(default_factory=dict)
    config_file: Path | None = None


def check_run_folder(path: Path) -> None:
    """Refuse a path that is no run folder.

    Raises:
        InputError: If it is missing, no folder, or holds no `config.yaml`; runs beside it are named.
    """
    if (path / "config.yaml").is_file():
        return
    found = "a file" if path.is_file() else "no config.yaml in it" if path.is_dir() else "nothing"
    beside = path.parent if path.parent.is_dir() else Path()
    runs = sorted(str(p.parent) for p in beside.glob("*/config.yaml"))
    known = f"; runs there: {', '.join(runs[:8])}" if runs else ""
    raise InputError(f"{path}: expected a run folder, found {found}{known}")
