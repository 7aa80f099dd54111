"""The text of `--help`: every option with its description and default, in groups.

Coloured on a terminal and as wide as it; plain elsewhere.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nops_train._command_line_aliases import shown
from nops_train._command_line_flags import Flag, Flags, metavar_of
from nops_train._command_line_keys import Keys, Section, is_model, value_at
from nops_train._command_line_spec import App, Command

__all__ = ["app_help", "command_help", "console"]

PLAIN_WIDTH = 100  # columns where there is no terminal to ask

Row = tuple[str, str, str]
"""Name, metavar, description."""


def console(stream: TextIO | None = None) -> Console:
    """A rich console on a stream (standard output by default), plain where it is no terminal."""
    out: TextIO = sys.stdout if stream is None else stream
    is_fixed = not out.isatty() and "COLUMNS" not in os.environ
    fixed = PLAIN_WIDTH if is_fixed else None
    return Console(file=out, width=fixed, highlight=False, markup=False, emoji=False)


def app_help(app: App) -> None:
    """Print the commands and presets of an app."""
    out = console()
    out.print(usage(f"{app.name} COMMAND [--help]"))
    out.print(Padding(app.help, (1, 0), expand=False))
    spelled = [(" = ".join((c.name, *c.spellings)), "", c.help) for c in app.commands]
    print_group(out, "commands", spelled)
    if presets := app.preset_names():
        print_group(out, "presets", [(", ".join(presets), "", "chosen with --preset")])
    print_group(
        out, "options", [("--help", "", "This text."), ("--version", "", f"Print {app.version}.")]
    )


def command_help(app: App, command: Command, flags: Flags, config: Any, preset: str) -> None:
    """Print every option of a command; defaults are those of `config`, which `preset` gives."""
    out = console()
    folders = command.folders
    out.print(usage(f"{app.name} {command.name} {folder_words(command)}[OPTIONS]"))
    out.print(Padding(command.help, (1, 0), expand=False))
    if folders:
        print_group(out, "arguments", [(folders.metavar, "", folders.help)])
    for title, group in flags.groups.items():
        print_group(out, title, [flag_row(flag) for flag in group.values()])
    print_group(out, "help", [("--help", "", "This text.")])
    if command.config == "none":
        return
    for section, rows in key_groups(flags.keys, config):
        title = f"{section.path or 'config'}: {section.description}".rstrip(": ")
        print_group(out, title, rows)
    source = f"preset {preset}" if command.config == "preset" else "the run's config.yaml"
    out.print(f"Keys are taken from {source}, then --config, then the command line.")


def folder_words(command: Command) -> str:
    """The folders of a command as its usage line shows them."""
    folders = command.folders
    if folders is None:
        return ""
    words = [folders.metavar] * folders.minimum
    further = folders.rest or folders.metavar
    if folders.maximum is None:
        words.append(f"[{further} …]")
    else:
        words += [f"[{further}]"] * (folders.maximum - folders.minimum)
    return " ".join(words) + " "


def usage(words: str) -> Text:
    """The first line."""
    return Text.assemble(("Usage: ", "bold"), words)


def flag_row(flag: Flag) -> Row:
    """A flag with its default."""
    default = f" [default: {flag.default}]" if flag.default else ""
    return flag.name, flag.metavar, f"{flag.help}{default}"


def key_groups(keys: Keys, config: Any) -> Iterator[tuple[Section, list[Row]]]:
    """The keys of each section with their values in `config` (None: class defaults) as defaults."""
    for path, section in keys.sections.items():
        rows = [key_row(keys, k, config) for k in keys.keys if k.rpartition(".")[0] == path]
        if is_model(section.values):
            rows += [
                key_row(named, k, None, prefix=f"{path}.NAME.")
                for named in (Keys(section.values),)
                for k in named.keys
            ]
        elif section.values is not None:
            rows += [
                (f"--{path}.{name}", metavar_of(section.values), f"[default: {shown(value)}]")
                for name, value in (value_at(config, path) or {}).items()
            ]
            rows.append((f"--{path}.NAME", metavar_of(section.values), ""))
        if rows:
            yield section, rows


def key_row(keys: Keys, path: str, config: Any, *, prefix: str = "") -> Row:
    """A key with its default; a key of another kind of its section shows the class's."""
    key = keys.keys[path]
    holder = value_at(config, key.section) if key.section else config
    known = holder is not None and key.name in type(holder).model_fields
    value = getattr(holder, key.name) if known else key.default
    default = "required" if value is PydanticUndefined else f"default: {shown(value)}"
    return f"--{prefix}{path}", metavar_of(key.annotation), f"{key.description} [{default}]".strip()


def print_group(out: Console, title: str, rows: Iterable[Row]) -> None:
    """Print one group as two columns."""
    rows = list(rows)
    if not rows:
        return
    out.print(Text(title, style="bold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=max(24, out.width * 2 // 5 - 4))
    table.add_column()
    for name, metavar, text in rows:
        left = Text.assemble((name, "cyan"), " ", (metavar, "dim"), overflow="fold")
        table.add_row(left, Text(text))
    out.print(Padding(table, (0, 0, 1, 2), expand=False))
