"""The flags of a command, and what the words on its command line set.

A reader of our own in place of argparse or jsonargparse, which were tried first (jsonargparse 4.53):
they take `--train.epoch` as an abbreviation of `--train.epochs`, let the last of two contradicting
flags win, refuse `--train.learning_rate -3e-4`, forget which file or flag a value came from, and
answer with pydantic's raw text. What is left to do once the values are pydantic's is this file.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from nops_train._command_line_aliases import Assignment, expand, fits, shown
from nops_train._command_line_keys import describe, members_of
from nops_train._command_line_layers import Resolver
from nops_train._command_line_spec import Alias, App, Command, Option
from nops_train._command_line_values import check_key, parse_text
from nops_train._errors import InputError

__all__ = ["Flag", "Flags", "metavar_of", "read_words"]

KEYS_OF_EVERY_APP = {"--data": "data.path", "--seed": "train.seed", "--device": "train.device"}
RESUME_WORDS = ("auto", "never", "force")


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One accepted flag.

    Attributes:
        name: With its dashes.
        metavar: Its value in `--help`; empty for a switch, which takes none.
        help: One line for `--help`.
        read: From the text after it (None for a switch) to what it sets; keys that begin with `--`
            are settings of the call rather than of the config.
        default: As shown in `--help`; empty where there is none.
    """

    name: str
    metavar: str
    help: str
    read: Callable[[str | None], Iterable[Assignment]]
    default: str = ""


@dataclass
class Flags:
    """The flags of one command of an app, in groups as `--help` shows them."""

    app: App
    command: Command
    resolver: Resolver
    groups: dict[str, dict[str, Flag]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        command, app = self.command, self.app
        self.keys, self.aliases = self.resolver.keys, self.resolver.aliases
        if command.config != "none":
            self.groups["options of every command"] = dict(self._standard())
        own = {o.flag: self._own(o) for o in command.options}
        self.groups[f"options of {command.name}"] = own
        if command.config != "none":
            self.groups["other names"] = {
                name: self._alias(name, alias)
                for name, alias in self.aliases.flags.items()
                if name not in own
            }
        taken = [name for group in self.groups.values() for name in group]
        assert len(set(taken)) == len(taken), f"{app.name} {command.name}: a flag is declared twice"

    def find(self, name: str) -> Flag:
        """The flag of that name; dotted ones are the keys of the config.

        Raises:
            InputError: If there is none, naming the nearest.
        """
        for group in self.groups.values():
            if name in group:
                return group[name]
        path = name.removeprefix("--")
        known = path in self.keys.keys or (path in self.keys.sections and path != "")
        if self.command.config != "none" and (known or "." in path):
            if not known:
                place = Assignment(key=path, value=None, origin=name)
                check_key(place, self.keys, aliases=self.aliases)
            return self.key(path, name=name)
        raise InputError(f"{name}: unknown option of {self.command.name}; {self._advice(name)}")

    def key(self, path: str, *, name: str | None = None, help: str = "") -> Flag:  # noqa: A002
        """The flag that sets one key."""
        flag = name or f"--{path}"
        found = self.keys.find(path)
        annotation = found.annotation if found else Any

        def read(text: str | None) -> Iterator[Assignment]:
            value = parse_text(text or "", annotation, flag=flag)
            yield check_key(
                Assignment(key=path, value=value, origin=flag), self.keys, aliases=self.aliases
            )

        description = help or (found.description if found else "")
        if flag != f"--{path}":
            description = f"{description} Same as --{path}.".strip()
        return Flag(name=flag, metavar=metavar_of(annotation), help=description, read=read)

    def _standard(self) -> Iterator[tuple[str, Flag]]:
        """What design and habit give every app."""
        settings = [
            ("--config", "FILE", "YAML file with keys of the config, laid over the preset.", ""),
            ("--runs", "DIR", "Parent folder of all runs.", "runs"),
            ("--name", "NAME", "Name of the run.", "the preset's"),
        ]
        if self.command.config == "preset":
            presets = "|".join(self.app.preset_names())
            settings.insert(
                0,
                ("--preset", presets, "Packaged settings to start from.", self.app.default_preset),
            )
            text = "Continue the run, start a new one, or continue though something changed."
            settings.append(("--resume", "auto|never|force|FILE", text, "auto"))
        for name, metavar, text, default in settings:
            yield (
                name,
                Flag(name=name, metavar=metavar, help=text, read=setting(name), default=default),
            )
        for name, path in KEYS_OF_EVERY_APP.items():
            if self.keys.find(path):
                yield name, self.key(path, name=name)

    def _own(self, option: Option) -> Flag:
        """An option of this command alone."""

        def read(text: str | None) -> Iterator[Assignment]:
            value = True if text is None else parse_text(text, option.type, flag=option.flag)
            if not fits(value, option.type):
                expected = describe(option.type)
                raise InputError(f"{option.flag}: expected {expected}; found {shown(value)}")
            yield Assignment(key=option.flag, value=value, origin=option.flag)

        metavar = "" if option.type is bool else metavar_of(option.type)
        default = "" if option.default in (None, False) else shown(option.default)
        return Flag(name=option.flag, metavar=metavar, help=option.help, read=read, default=default)

    def _alias(self, name: str, alias: Alias) -> Flag:
        """Another name of a key, of a flag of every app, or of several at once."""
        if not isinstance(alias.sets, str):
            return self._composite(name, alias)
        meant = alias.sets if alias.sets.startswith("--") else f"--{alias.sets}"
        if meant == alias.sets:
            target = self.groups["options of every command"].get(meant)
            metavar, read = target.metavar if target else "", setting(meant, origin=name)
            text = f"{alias.help} Same as {meant}.".strip()
            return Flag(name=name, metavar=metavar, help=text, read=read)
        return self.key(alias.sets, name=name, help=alias.help)

    def _composite(self, name: str, alias: Alias) -> Flag:
        """A switch that sets several keys, or a value that a function turns into several."""
        is_switch = not callable(alias.sets)

        def read(text: str | None) -> Iterator[Assignment]:
            value = True if is_switch else parse_text(text or "", alias.type, flag=name)
            return expand(alias, Assignment(key=name, value=value, origin=name))

        metavar = "" if is_switch else metavar_of(alias.type)
        return Flag(name=name, metavar=metavar, help=alias.help, read=read)

    def _advice(self, name: str) -> str:
        """The nearest flag, the key that the name belongs to, or the command that has it."""
        others = [c.name for c in self.app.commands if self._is_of(name, c)]
        if others:
            return f"it belongs to {', '.join(others)}"
        flags = [n for group in self.groups.values() for n in group]
        spelled = name.replace("_", "-")
        if close := difflib.get_close_matches(spelled, flags, n=1, cutoff=0.75):
            return f"did you mean {close[0]}?"
        if self.command.config == "none":
            return f"its options: {', '.join([*flags, '--help'])}"
        path = name.removeprefix("--")
        return self.keys.advice(path, words=self.aliases.words, dashes=True)

    def _is_of(self, name: str, command: Command) -> bool:
        """Whether another command has a flag of that name."""
        if command is self.command:
            return False
        if any(o.flag == name for o in command.options):
            return True
        standard = name in ("--preset", "--resume") and command.config == "preset"
        key = name.removeprefix("--")
        shared = name in (*KEYS_OF_EVERY_APP, "--config", "--runs", "--name", *self.aliases.flags)
        known = shared or self.keys.find(key) is not None
        return standard or (known and command.config != "none" and self.command.config == "none")


def setting(name: str, *, origin: str = "") -> Callable[[str | None], Iterable[Assignment]]:
    """Reader of a setting of the call: its text as it stands."""
    return lambda text: [Assignment(key=name, value=text, origin=origin or name)]


def metavar_of(annotation: Any) -> str:
    """A type as `--help` shows the place of its value: `INT`, `cosine|constant`, `FLOAT|null`."""
    names = {int: "INT", float: "FLOAT", bool: "true|false", str: "TEXT", NoneType: "null"}
    parts = []
    for member in members_of(annotation):
        origin, args = get_origin(member), get_args(member)
        if origin is Literal:
            parts += map(str, args)
        elif origin in (tuple, list):
            parts.append(f"{metavar_of(args[0])},…" if args else "LIST")
        else:
            parts.append(names.get(member, "VALUE"))
    return "|".join(dict.fromkeys(parts))


def read_words(words: Sequence[str], flags: Flags) -> tuple[list[Assignment], list[str]]:
    """What the words after a command's name set, and those that stand without a flag.

    `--flag value` and `--flag=value` are the same; a value that begins with two dashes needs the
    second form; a lone `--` ends the flags.

    Raises:
        InputError: On an unknown flag, a missing value, or a value where none is taken.
    """
    places: list[Assignment] = []
    loose: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return places, [*loose, *rest]
        if not word.startswith("--"):
            loose.append(_not_a_short_flag(word))
            continue
        name, equals, text = word.partition("=")
        flag = flags.find(name)
        if not flag.metavar and equals:
            raise InputError(f"{name}: takes no value; found {shown(text)}")
        if flag.metavar and not equals:
            if not rest or rest[0].startswith("--"):
                raise InputError(f"{name}: expected a value, {flag.metavar}; found none")
            text = rest.pop(0)
        places += flag.read(text if flag.metavar else None)
    return places, loose


def _not_a_short_flag(word: str) -> str:
    """The word itself, unless it looks like a flag of one dash."""
    if len(word) > 1 and word[0] == "-" and not word[1].isdigit():
        raise InputError(f"{word}: unknown option; options begin with two dashes, see --help")
    return word
