"""Layers of a config: class defaults < preset < config file < command line, resolved once.

Every value remembers where it was written, so that a message can say it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from nops_train._command_line_aliases import Aliases, Assignment, shown
from nops_train._command_line_keys import Keys, value_at
from nops_train._command_line_spec import Alias, App, Needs, check_run_folder
from nops_train._command_line_values import flatten, nest, problems
from nops_train._command_line_yaml import parse_yaml, read_yaml
from nops_train._errors import InputError

__all__ = ["Resolver", "load_run_config", "parse_config", "resumed_config"]

ConfigT = TypeVar("ConfigT", bound=BaseModel)
Values = dict[str, Assignment]


class Resolver:
    """Layers of one config class, laid over each other in the order they are added."""

    def __init__(self, config: type[BaseModel], *, aliases: Iterable[Alias] = ()) -> None:
        """Start from the defaults of the class."""
        self.config = config
        self.keys = Keys(config)
        self.aliases = Aliases(tuple(aliases))
        self.values: Values = {}
        self.explicit: dict[str, str] = {}
        self.unasked: dict[
            str, Any
        ] = {}  # what explicit keys would be, had the user not given them
        self.add_mapping(self.keys.defaults(), source=config.__name__)

    def add_mapping(self, mapping: Mapping[str, Any], *, source: str) -> None:
        """Lay a nested mapping over what is there.

        Raises:
            InputError: On an unknown key, or two places in it that contradict each other.
        """
        self.add(self.places(mapping, source=source))

    def places(self, mapping: Mapping[str, Any], *, source: str) -> Iterator[Assignment]:
        """The keys that a nested mapping sets."""
        return flatten(mapping, self.keys, source=source, aliases=self.aliases)

    def add(self, places: Iterable[Assignment], *, explicit: bool = False) -> None:
        """Lay assignments of checked keys over what is there.

        Args:
            places: One layer, in which the order does not matter.
            explicit: Whether the user gave them; their keys are noted.

        Raises:
            InputError: If two of them contradict each other.
        """
        layer = merged(places)
        if explicit:
            before = {k: self.values[k].value for k in layer if k in self.values}
            self.unasked = before | self.unasked
        for place in layer.values():
            self._drop_other_kind(place)
        inner = keys_within(self.values)
        for key, place in layer.items():
            for clash in (*sections_of(key), *inner.get(key, ())):
                self.values.pop(clash, None)
            self.values[key] = place
        if explicit:
            self.explicit |= {key: place.origin for key, place in layer.items()}

    def _drop_other_kind(self, place: Assignment) -> None:
        """Forget lower layers of a section whose deciding key changes: they belong to another kind."""
        path, _, name = place.key.rpartition(".")
        section = self.keys.sections.get(path)
        before = self.values.get(place.key)
        if section and section.tag == name and before and before.value != place.value:
            for key in keys_within(self.values).get(path, ()):
                del self.values[key]

    def resolve(self) -> BaseModel:
        """The validated config.

        Raises:
            InputError: With one line per key: where it stood, what was expected, what was found.
        """
        nested = nest({key: place.value for key, place in self.values.items()})
        try:
            return self.config.model_validate_json(json.dumps(nested))
        except ValidationError as error:
            origins = {key: place.where for key, place in self.values.items()}
            raise InputError("\n".join(problems(error, self.keys, origins=origins))) from error

    def resolve_or_none(self) -> BaseModel | None:
        """The validated config, or None where a key is still missing or wrong."""
        try:
            return self.resolve()
        except InputError:
            return None


def merged(places: Iterable[Assignment]) -> Values:
    """The assignments of one layer by key.

    Raises:
        InputError: If two of them set one key to different values, or one sets a section to null
            while another sets a key in it.
    """
    layer: Values = {}
    within: Values = {}  # of each section, the first assignment of a key in it
    for place in places:
        sections = sections_of(place.key)
        others = [layer.get(section) for section in sections] + [within.get(place.key)]
        same = layer.get(place.key)
        others.append(same if same and not equal(same.value, place.value) else None)
        if other := next(filter(None, others), None):
            raise InputError(
                f"{place.where}: {shown(place.value)} contradicts "
                f"{other.where}: {shown(other.value)}; give one of them"
            )
        layer.setdefault(place.key, place)
        for section in sections:
            within.setdefault(section, place)
    return layer


def equal(a: Any, b: Any) -> bool:
    """Equal as values of a config: 1 and 1.0 are, 1 and true are not."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def sections_of(key: str) -> list[str]:
    """The sections that a dotted key lies in, the outermost first."""
    *names, _ = key.split(".")
    return list(accumulate(names, "{}.{}".format))


def keys_within(keys: Iterable[str]) -> dict[str, list[str]]:
    """Of each section, the keys that lie in it at any depth."""
    within: dict[str, list[str]] = {}
    for key in keys:
        for section in sections_of(key):
            within.setdefault(section, []).append(key)
    return within


def read_preset(app: App, name: str) -> dict[str, Any]:
    """The values of a packaged preset.

    Raises:
        InputError: If there is none of that name, naming those there are.
    """
    names = app.preset_names()
    if name not in names:
        hint = "; a file is given with --config" if name.endswith((".yaml", ".yml")) else ""
        raise InputError(f"--preset: expected one of {', '.join(names)}; found {shown(name)}{hint}")
    assert app.presets is not None
    source = f"preset {name}"
    text = (app.presets / f"{name}.yaml").read_text(encoding="utf-8")
    values = parse_yaml(text, source=source)
    if not isinstance(values, dict | None):
        raise InputError(f"{source}: expected a mapping of keys to values")
    return values or {}


def is_in_store(app: App, need: Needs, resolver: Resolver) -> bool:
    """Whether a file sets both keys of a need, the dead one as some preset does.

    So does the `config.yaml` of a run: it is complete, and what a preset holds in store is in it.
    """
    from_file = [
        not resolver.explicit.get(key, "--").startswith("--") for key in (need.key, need.other)
    ]
    if not all(from_file):
        return False
    value = resolver.values[need.key].value
    for name in app.preset_names():
        preset = Resolver(app.config, aliases=app.aliases)
        preset.add_mapping(read_preset(app, name), source=f"preset {name}")
        if need.key in preset.values and equal(preset.values[need.key].value, value):
            return True
    return False


def check_needs(app: App, config: BaseModel, resolver: Resolver) -> None:
    """Refuse a key that the user set though another makes it dead.

    Raises:
        InputError: Naming both keys, and the values with which the first one counts.
    """
    for need in app.needs:
        key = resolver.keys.find(need.key)
        assert key is not None, need.key
        found, is_given = value_at(config, need.other), need.key in resolver.explicit
        harmless = (key.default, resolver.unasked.get(need.key, key.default))
        is_harmless = value_at(config, need.key) in harmless or is_in_store(app, need, resolver)
        if is_given and found not in need.values and not is_harmless:
            allowed = " or ".join(map(shown, need.values))
            raise InputError(
                f"{resolver.values[need.key].where}: has no effect while {need.other} is "
                f"{shown(found)}; it needs {need.other} to be {allowed}"
            )


def parse_config(
    config: type[ConfigT],
    values: Mapping[str, Any],
    *,
    source: str,
    aliases: Iterable[Alias] = (),
) -> ConfigT:
    """A config from plain nested values, such as those of a run's `config.yaml` or a checkpoint.

    Args:
        config: The config class.
        values: Nested or dotted; absent keys take the defaults of the class.
        source: How messages call the place, such as the file's name.
        aliases: Other accepted names of keys.

    Returns:
        The config, of that class, every value checked.

    Raises:
        InputError: On an unknown key or an invalid value: source, key, found, expected.
    """
    resolver = Resolver(config, aliases=aliases)
    resolver.add_mapping(values, source=source)
    return resolver.resolve()  # pyright: ignore[reportReturnType]


def load_run_config(config: type[ConfigT], folder: str | Path) -> ConfigT:
    """The config that a run folder holds.

    Args:
        config: The config class of the app.
        folder: The run folder.

    Returns:
        The config, of that class.

    Raises:
        InputError: If it is no run folder, or its `config.yaml` does not fit the class.
    """
    check_run_folder(Path(folder))
    file = Path(folder) / "config.yaml"
    return parse_config(config, read_yaml(file), source=str(file))


def completed(config: type[BaseModel], stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored config with the keys that it lacks at the defaults of the class, in plain values.

    So a run made before a key was added counts as one with that key's default. What does not fit
    the class, such as a config with a key that is gone, stays as it is.

    Args:
        config: The config class of today.
        stored: The config of a run, nested, in plain values.
    """
    try:
        return parse_config(config, stored, source="the run").model_dump(mode="json")
    except InputError:
        return dict(stored)


def resumed_config(
    config: ConfigT, stored: Mapping[str, Any], *, explicit: Iterable[str], source: str
) -> ConfigT:
    """The config of a resumed run: the stored one, with the keys the user gave laid over it.

    So that absent flags keep what the run was started with, and a given one that differs shows
    as a difference from `stored`.

    Args:
        config: As resolved from this call's preset, file and flags.
        stored: The config in the checkpoint, nested.
        explicit: Keys that the user gave (`Invocation.explicit`).
        source: How messages call the checkpoint.

    Returns:
        The config to go on with.

    Raises:
        InputError: If the stored config no longer fits the class.
    """
    resolver = Resolver(type(config))
    resolver.add_mapping(stored, source=source)
    plain = config.model_dump(mode="json")
    given = (Assignment(key=k, value=value_at(plain, k), origin=k) for k in explicit)
    resolver.add(given)
    return resolver.resolve()  # pyright: ignore[reportReturnType]
