"""Domains by name, for configuration files and command lines."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nops_physics._domain import Domain
from nops_physics._gray_scott import GrayScott
from nops_physics._heat import Heat
from nops_physics._random_conv import RandomConvOperator

_CLASSES = {cls.name: cls for cls in (GrayScott, Heat, RandomConvOperator)}

DOMAIN_NAMES: Mapping[str, str] = MappingProxyType(
    {name: name for name in _CLASSES} | {"rd": "gray_scott", "reaction_diffusion": "gray_scott"}
)
"""Every accepted name of a domain and the canonical name it stands for."""


def make_domain(name: str, *, shape: Sequence[int], **options: Any) -> Domain:
    """Build a domain from its name.

    Args:
        name: A key of `DOMAIN_NAMES`, as `gray_scott` (also `rd`, `reaction_diffusion`).
        shape: Cells per axis.
        **options: Further fields of the domain's class, as `weight_seed` of `random_conv`.

    Returns:
        The domain.

    Raises:
        ValueError: If the name or an option is unknown (the nearest is named), or an option is
            out of range.
    """
    if name not in DOMAIN_NAMES:
        raise ValueError(f"unknown domain {name!r}{_nearest(name, DOMAIN_NAMES)}")
    cls = _CLASSES[DOMAIN_NAMES[name]]
    known = {field.name for field in dataclasses.fields(cls)} - {"shape"}
    for option in options:
        if option not in known:
            raise ValueError(f"unknown option {option!r} of {cls.name}{_nearest(option, known)}")
    return cls(shape=tuple(shape), **options)


def _nearest(word: str, known: Mapping[str, str] | set[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (known: {', '.join(sorted(known))})"
