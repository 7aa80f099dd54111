"""Domains by name, for configuration files and command lines."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nops_physics._advection import Advection1D
from nops_physics._allen_cahn import AllenCahn1D
from nops_physics._burgers import Burgers1D
from nops_physics._diffusion_reaction import DiffusionReaction2D
from nops_physics._domain import Domain
from nops_physics._gray_scott import GrayScott
from nops_physics._heat import Heat
from nops_physics._navier_stokes import NavierStokes2D
from nops_physics._random_conv import RandomConvOperator
from nops_physics._wave_equation import WaveEquation2D

_LINES = {cls.name: cls for cls in (Advection1D, AllenCahn1D, Burgers1D)}
_GRIDS = {
    cls.name: cls
    for cls in (
        DiffusionReaction2D,
        GrayScott,
        Heat,
        NavierStokes2D,
        RandomConvOperator,
        WaveEquation2D,
    )
}
_CLASSES = {**_GRIDS, **_LINES}

DOMAIN_NAMES: Mapping[str, str] = MappingProxyType(
    {name: name for name in _CLASSES}
    | {
        "fluids": "navier_stokes",
        "rd": "gray_scott",
        "reaction_diffusion": "gray_scott",
        "waves": "wave",
    }
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
    known = {field.name for field in dataclasses.fields(cls)} - {"shape", "points"}
    for option in options:
        if option not in known:
            raise ValueError(f"unknown option {option!r} of {cls.name}{_nearest(option, known)}")
    canonical = DOMAIN_NAMES[name]
    if canonical not in _LINES:
        return _GRIDS[canonical](shape=tuple(shape), **options)
    if len(shape) != 1:
        raise ValueError(f"{canonical}: shape needs one axis, got {tuple(shape)}")
    return _LINES[canonical](points=shape[0], **options)


def _nearest(word: str, known: Mapping[str, str] | set[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (known: {', '.join(sorted(known))})"
