"""PROSPECT: a leaf as a pile of absorbing plates, versions D and PRO."""

import math
from typing import Literal

import torch
from torch import Tensor

from nops_physics._exponential_integral import absorbed_share
from nops_physics._forward_model import ForwardModel, Quantity, check_values
from nops_physics._plates import LeafOptics, pile_of_plates
from nops_physics._spectra import (
    FIRST_NM,
    LAST_NM,
    Spectra,
    all_wavelengths,
    interpolate_nm,
)

Version = Literal["D", "PRO"]

LEAF = {
    item.name: item
    for item in (
        Quantity(name="N", unit="", low=1.0, high=3.0, least=1.0),
        Quantity(name="cab", unit="ug/cm^2", low=10.0, high=80.0, least=0.0),
        Quantity(name="car", unit="ug/cm^2", low=0.0, high=20.0, least=0.0),
        Quantity(name="anth", unit="ug/cm^2", low=0.0, high=10.0, least=0.0),
        Quantity(name="cbrown", unit="", low=0.0, high=1.0, least=0.0),
        Quantity(name="cw", unit="cm", low=0.001, high=0.02, least=0.0),
        Quantity(name="cm", unit="g/cm^2", low=0.005, high=0.05, least=0.0),
        Quantity(name="prot", unit="g/cm^2", low=0.0, high=0.003, least=0.0),
        Quantity(name="cbc", unit="g/cm^2", low=0.004, high=0.047, least=0.0),
    )
}
CONSTITUENTS: dict[str, tuple[str, ...]] = {
    "D": ("cab", "car", "anth", "cbrown", "cw", "cm"),
    "PRO": ("cab", "car", "anth", "cbrown", "cw", "prot", "cbc"),
}
FIRST_SURFACE, INSIDE = 40.0, 90.0  # degrees: half angles of the light on the leaf, and within


def check_version(spectra: Spectra, version: str) -> tuple[str, ...]:
    """The constituents of a version, if these constants have them."""
    if version not in CONSTITUENTS:
        raise ValueError(f"version needs to be one of {', '.join(CONSTITUENTS)}, got {version!r}")
    names = CONSTITUENTS[version]
    if missing := [name for name in names if name not in spectra.absorption]:
        raise ValueError(
            f"version {version!r} needs {', '.join(missing)}, which the constants of "
            f"{spectra.source} lack, expected {', '.join(names)}; give a file that has them"
        )
    return names


def refuse_dry_matter_twice(cm: float | Tensor) -> None:
    """Stop where version PRO, whose dry matter is `prot` and `cbc`, is given `cm` as well."""
    if bool((torch.as_tensor(cm) > 0).any()):
        raise ValueError(
            f"cm is {cm} beside prot and cbc: dry matter is counted twice, expected cm = 0 with "
            "version 'PRO'"
        )


def _checked_wavelengths(wavelengths: Tensor | None) -> Tensor:
    if wavelengths is None:
        return all_wavelengths()
    chosen = torch.as_tensor(wavelengths, dtype=torch.float64)
    if chosen.ndim != 1 or not ((chosen >= FIRST_NM) & (chosen <= LAST_NM)).all():
        raise ValueError(
            f"wavelengths need the shape (wavelength,) and {FIRST_NM} to {LAST_NM} nm, got "
            f"{tuple(chosen.shape)} from {chosen.min().item():g} to {chosen.max().item():g}"
        )
    return chosen


class Prospect(ForwardModel):
    """Reflectance and transmittance of a leaf from its structure and its constituents.

    As a forward model it takes `N` (number of plates, at least 1), `cab`, `car`, `anth`,
    `cbrown`, `cw` and `cm`, and gives all reflectances, then all transmittances; version PRO has
    `prot` and `cbc` in place of `cm`. `leaf` takes the same by name.

    Args:
        spectra: Optical constants, from `load_spectra`.
        version: `D` or `PRO`.
        wavelengths: In nm, 400 to 2500; None is each whole one. Constants are straight between
            whole nm.

    Raises:
        ValueError: If the version is unknown or needs constants that `spectra` lacks, or a
            wavelength is out of range.

    Source:
        Jacquemoud and Baret, Remote Sens. Environ. 34 (1990); version D: Féret et al., Remote
        Sens. Environ. 193 (2017); PRO: Féret et al., 252 (2021).
    """

    wavelengths: Tensor
    _absorption: Tensor
    _entering: Tensor
    _leaving: Tensor
    _reflected: Tensor

    def __init__(
        self,
        spectra: Spectra,
        *,
        version: Version = "D",
        wavelengths: Tensor | None = None,
    ) -> None:
        self.constituents = check_version(spectra, version)
        super().__init__([LEAF[name] for name in ("N", *self.constituents)])
        at = _checked_wavelengths(wavelengths)
        self.register_buffer("wavelengths", at, persistent=False)
        self._store(spectra, at)
        names = [f"{value:g}" for value in at.tolist()]
        self.output_names = (*(f"R_{name}" for name in names), *(f"T_{name}" for name in names))
        self.output_units = ("",) * len(self.output_names)

    def _store(self, spectra: Spectra, at: Tensor) -> None:
        """Everything that depends on the wavelength alone; not part of checkpoints."""
        columns = [spectra.absorption[name] for name in self.constituents]
        index = interpolate_nm(spectra.refractive_index, at)
        inside = surface_transmissivity(index, INSIDE)
        stored = {
            "_absorption": interpolate_nm(torch.stack(columns), at),
            "_entering": surface_transmissivity(index, FIRST_SURFACE),
            "_leaving": inside,
            "_reflected": 1 - inside / index.square(),
        }
        for name, values in stored.items():
            self.register_buffer(name, values, persistent=False)

    def leaf(self, **parameters: float | Tensor) -> LeafOptics:
        """The same by name; constituents left out are absent.

        Args:
            parameters: `N` and any constituents, numbers or tensors `[*batch]` of shapes that
                broadcast; computed in float32 or better.

        Raises:
            ValueError: If `N` is missing, a name is unknown, dry matter is counted twice (`cm`
                beside `prot` and `cbc`), or a value means nothing.
        """
        self._check_named(parameters)
        given = [value for value in parameters.values() if isinstance(value, Tensor)]
        dtype, device = torch.float32, self.wavelengths.device
        for value in given:
            dtype = torch.promote_types(dtype, value.dtype)
        if not given:
            dtype = torch.float64
        values = torch.broadcast_tensors(
            *(
                torch.as_tensor(parameters.get(name, 0.0), dtype=dtype, device=device)
                for name in self.parameter_names
            )
        )
        named = dict(zip(self.parameter_names, values, strict=True))
        check_values(named, self._parameters_declared, kind=self._kind)
        with torch.autocast(device.type, enabled=False):
            return self.optics(named)

    def _check_named(self, parameters: dict[str, float | Tensor]) -> None:
        unknown = sorted(parameters.keys() - set(self.parameter_names))
        if unknown == ["cm"]:
            refuse_dry_matter_twice(parameters["cm"])
        elif unknown or "N" not in parameters:
            raise ValueError(
                f"{self._kind}: found {', '.join(parameters)}, expected 'N' and any of "
                f"{', '.join(self.constituents)}"
            )

    def _decode(self, parameters: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
        return torch.cat(self.optics(parameters), dim=-1)

    def optics(self, parameters: dict[str, Tensor]) -> LeafOptics:
        """As `leaf`, for tensors `[*batch]` of one precision and shape, unchecked."""
        plates = parameters["N"][..., None]
        contents = torch.stack([parameters[name] for name in self.constituents], dim=-1)
        depth = contents @ self._absorption.to(contents.dtype) / plates
        surfaces = (self._entering, self._leaving, self._reflected)
        constants = (surface.to(depth.dtype) for surface in surfaces)
        return pile_of_plates(plates, absorbed_share(depth), *constants)


def surface_transmissivity(index: Tensor, angle: float) -> Tensor:
    """Mean transmissivity of a surface for unpolarised light in a cone around its normal.

    Args:
        index: Refractive index n beneath the surface, above 1.
        angle: Half angle of the cone in degrees, above 0 and at most 90.

    Source:
        Stern, Appl. Optics 3 (1964); Allen, Appl. Optics 12 (1973).
    """
    m = index.square()
    p, q = m + 1, m - 1
    s = math.sin(math.radians(angle)) ** 2
    a, kappa = (index + 1).square() / 2, -q.square() / 4
    root = torch.zeros_like(m) if angle == INSIDE else ((s - p / 2).square() + kappa).sqrt()
    b = root - (s - p / 2)
    return (_perpendicular(b, a, kappa) + _parallel(b, a, m, p, q)) / (2 * s)


def _perpendicular(b: Tensor, a: Tensor, kappa: Tensor) -> Tensor:
    def primitive(x: Tensor) -> Tensor:
        return kappa.square() / (6 * x**3) + kappa / x - x / 2

    return primitive(b) - primitive(a)


def _parallel(b: Tensor, a: Tensor, m: Tensor, p: Tensor, q: Tensor) -> Tensor:
    q2, at_b, at_a = q.square(), 2 * p * b - q.square(), 2 * p * a - q.square()
    return (
        -2 * m * (b - a) / p.square()
        - 2 * m * p * torch.log(b / a) / q2
        + m * (1 / b - 1 / a) / 2
        + 16 * m.square() * (m.square() + 1) * torch.log(at_b / at_a) / (p**3 * q2)
        + 16 * m**3 * (1 / at_b - 1 / at_a) / p**3
    )
