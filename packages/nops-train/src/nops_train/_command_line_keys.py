"""The keys of a config class: their paths, types in words, defaults, and the nearest one to a typo."""

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

__all__ = ["Key", "Keys", "Section", "describe", "value_at"]

WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """One value of a config.

    Attributes:
        path: Dotted path, such as `train.epochs`.
        annotation: Its type with its constraints, as pydantic takes it.
        description: One sentence for `--help`.
        default: The class's default; `PydanticUndefined` where the key is required.
    """

    path: str
    annotation: Any
    description: str
    default: Any

    @property
    def section(self) -> str:
        """The path of the section that holds it; empty at the top level."""
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A group of keys: a nested config, one of several (`tag` names the deciding key), or a dict.

    Attributes:
        path: Dotted path; empty for the whole config.
        description: One sentence for `--help`.
        tag: Name of the key that decides which keys the section has, or None.
        optional: Whether null may stand for the whole section.
        values: Type of the values where any key is allowed (a dict), else None. Where it is a config,
            each key is a section of its own.
        models: The config classes it may be.
    """

    path: str
    description: str
    tag: str | None = None
    optional: bool = False
    values: Any = None
    models: tuple[type[BaseModel], ...] = ()

    def names_of(self, kind: str) -> list[str]:
        """Names of the keys that the section has when its deciding key is `kind`."""
        assert self.tag is not None, self.path
        fields = [model.model_fields for model in self.models]
        return next(list(f) for f in fields if kind in map(str, get_args(f[self.tag].annotation)))


@dataclass
class Keys:
    """All keys and sections of a config class, by dotted path, in the order of the class."""

    config: type[BaseModel]
    keys: dict[str, Key] = field(default_factory=dict)
    sections: dict[str, Section] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sections[""] = Section(path="", description=first_line(self.config))
        self._add_fields(self.config, "")

    def _add_fields(self, model: type[BaseModel], prefix: str) -> None:
        for name, info in model.model_fields.items():
            self._add(f"{prefix}{name}", info)

    def _add(self, path: str, info: FieldInfo) -> None:
        """One field: a section where it holds configs or a dict, else a key."""
        annotation = (
            Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
        )
        members = list(members_of(annotation))
        models = [m for m in members if is_model(m)]
        dicts = [m for m in members if get_origin(m) is dict]
        if models or dicts:
            self.sections[path] = Section(
                path=path,
                description=info.description or first_line(*models),
                tag=tag_of(info),
                optional=types.NoneType in members,
                values=get_args(dicts[0])[1] if dicts else None,
                models=tuple(models),
            )
            for model in models:
                self._add_fields(model, f"{path}.")
            return
        if path in self.keys:  # of another member of the same union: both types are possible
            annotation = Union[self.keys[path].annotation, annotation]  # noqa: UP007  (run time)
        default = info.get_default(call_default_factory=True, validated_data={})
        self.keys[path] = Key(
            path=path, annotation=annotation, description=info.description or "", default=default
        )

    def find(self, path: str) -> Key | None:
        """The key at a path, one within a dict section included; None where there is none."""
        self._open(path)
        if path in self.keys:
            return self.keys[path]
        parent = path.rpartition(".")[0]
        section = self.sections.get(parent)
        if section and section.values is not None and path != parent and path not in self.sections:
            return Key(
                path=path,
                annotation=section.values,
                description=section.description,
                default=PydanticUndefined,
            )
        return None

    def is_named(self, path: str) -> bool:
        """Whether it is a section whose name the user chose: a config within a dict."""
        above = self.sections.get(path.rpartition(".")[0])
        return path in self.sections and above is not None and above.values is not None

    def _open(self, path: str) -> None:
        """Add the keys of the config within a dict that a path leads through."""
        parts = path.split(".")
        for depth in range(1, len(parts)):
            entry, section = (
                ".".join(parts[: depth + 1]),
                self.sections.get(".".join(parts[:depth])),
            )
            if section is None or not is_model(section.values) or entry in self.sections:
                continue
            description = f"{section.description} ({parts[depth]})"
            self.sections[entry] = Section(
                path=entry, description=description, models=(section.values,)
            )
            self._add_fields(section.values, f"{entry}.")

    def within(self, section: str) -> list[str]:
        """Names of the keys and sections right beneath a section."""
        paths = [*self.keys, *self.sections]
        names = [p.rpartition(".")[2] for p in paths if p and p.rpartition(".")[0] == section]
        return names or ["NAME"]  # a dict: any name

    def defaults(self) -> dict[str, Any]:
        """Values of the sections' default instances, nested: the lowest layer of a config."""
        layer = {}
        for name, info in self.config.model_fields.items():
            default = info.get_default(call_default_factory=True, validated_data={})
            if isinstance(default, BaseModel):
                layer[name] = default.model_dump(mode="json")
            elif isinstance(default, dict):
                layer[name] = default
        return layer

    def advice(
        self, path: str, *, words: Mapping[str, str] | None = None, dashes: bool = False
    ) -> str:
        """What to write instead of an unknown key: the nearest valid one, or those of its section.

        Args:
            path: The unknown dotted path.
            words: Other accepted names, such as `bptt_window`, each with what to write instead.
            dashes: Whether it was written as a flag.
        """
        start = "--" if dashes else ""
        if found := self._nearest(path, words=words or {}):
            names = [n if n.startswith("--") else f"{start}{n}" for n in found]
            return f"did you mean {' or '.join(names)}?"
        section = path.rpartition(".")[0]
        while section not in self.sections:
            section = section.rpartition(".")[0]
        return f"keys of {section or 'the config'}: {', '.join(self.within(section))}"

    def _nearest(self, path: str, *, words: Mapping[str, str]) -> list[str]:
        """Up to three keys: same name elsewhere, other spelling, like one beside it, like any."""
        section, _, name = path.replace("-", "_").rpartition(".")
        paths = [p for p in (*self.keys, *self.sections) if p and not path.startswith(f"{p}.")]
        if same := [p for p in paths if p.rpartition(".")[2] == name]:
            return same[:3]
        if name in words:
            return [words[name]]
        beside = self.within(section) if section in self.sections else []
        if close := difflib.get_close_matches(name, beside, n=1, cutoff=0.6):
            return [f"{section}.{close[0]}".lstrip(".")]
        dotted = [word for word in words if "." in word]
        if close := difflib.get_close_matches(path, dotted, n=1, cutoff=0.85):
            return close
        if section not in self.sections and (
            close := difflib.get_close_matches(path, paths, n=1, cutoff=0.75)
        ):
            return close
        names = {**words, **{p.rpartition(".")[2]: p for p in paths}}
        return [names[n] for n in difflib.get_close_matches(name, names, n=1, cutoff=0.7)]


def members_of(annotation: Any) -> Iterator[Any]:
    """The types a value may have: unions and `Annotated` taken apart."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from members_of(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from members_of(member)
    else:
        yield annotation


def is_model(annotation: Any) -> bool:
    """Whether it is a config class."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def tag_of(info: FieldInfo) -> str | None:
    """Name of the key that tells the members of a union of configs apart."""
    candidates = [info, *(a for m in get_args(info.annotation) for a in get_args(m))]
    tags = (getattr(c, "discriminator", None) for c in candidates)
    return next((t for t in tags if isinstance(t, str)), None)


def first_line(*classes: type) -> str:
    """The first line of the first class's docstring."""
    text = (classes[0].__doc__ or "").strip() if classes else ""
    return text.splitlines()[0] if text else ""


def value_at(config: Any, path: str) -> Any:
    """The value of a config at a dotted path; None where a section on the way is null."""
    for name in path.split("."):
        config = config.get(name) if isinstance(config, dict) else getattr(config, name, None)
    return config


def describe(annotation: Any) -> str:
    """A type in words: `an integer, at least 1`, `one of cosine, constant`, `a number or null`."""
    origin = get_origin(annotation)
    args = list(get_args(annotation))
    if origin is Annotated:
        limits = limits_of(args[1:], is_list=get_origin(args[0]) in (tuple, list))
        return ", ".join([describe(args[0]), *limits])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(a) for a in args))
    if annotation in (None, types.NoneType):
        return "null"
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}" if len(args) > 1 else f"{args[0]}"
    if origin in (tuple, list):
        count = "" if origin is list or args[-1] is Ellipsis else f" of {len(args)}"
        return f"a list{count} (each {describe(next(iter(args)))})" if args else "a list"
    if is_model(annotation) or origin is dict:
        return "a section with keys of its own"
    return WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def limits_of(metadata: Iterable[Any], *, is_list: bool) -> list[str]:
    """Constraints of pydantic in words."""
    unit = "long" if is_list else "characters long"
    words = {
        "ge": "at least {}",
        "gt": "above {}",
        "le": "at most {}",
        "lt": "below {}",
        "multiple_of": "a multiple of {}",
        "min_length": f"at least {{}} {unit}",
        "max_length": f"at most {{}} {unit}",
        "pattern": "matching {}",
    }
    flat = [m for item in metadata for m in getattr(item, "metadata", [item])]
    return [
        text.format(getattr(item, name))
        for item in flat
        for name, text in words.items()
        if getattr(item, name, None) is not None
    ]
