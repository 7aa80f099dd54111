"""INFORM: a forest as seen by a satellite, from the leaf to the stand."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from nops_physics._forward_model import Bounds, ForwardModel, Quantity, check_values
from nops_physics._four_sail import ANGLES, FourSail, faded_integral, hot_spot
from nops_physics._prospect import (
    LEAF,
    Prospect,
    Version,
    check_version,
    refuse_dry_matter_twice,
)
from nops_physics._sentinel import SentinelBands
from nops_physics._spectra import Spectra, all_wavelengths, interpolate_nm, load_spectra
from nops_physics._stand import StandRows
from nops_physics._stand_bands import BandConstants, band_reflectances

FIXED = {"car": 10.0, "anth": 2.0, "cbrown": 0.25}
CLOSED_CANOPY = 15.0  # leaf area that hides the ground
SQUARE_M_PER_HECTARE = 1e4

STAND = (
    Quantity(name="LAI", unit="m^2/m^2", low=0.01, high=5.0, least=0.0),
    Quantity(name="LAIu", unit="m^2/m^2", low=0.01, high=3.0, least=0.0),
    Quantity(name="fc", unit="", low=0.1, high=1.0, least=0.0, open_ends=True),
)


class Fractions(NamedTuple):
    """Shares of the ground, sum 1: behind a crown or in the open, in shade or lit by the sun."""

    crown_shaded: Tensor
    crown_lit: Tensor
    open_shaded: Tensor
    open_lit: Tensor


def ground_fractions(
    cover: Tensor, tts: Tensor, tto: Tensor, distance: Tensor, *, stem_density: float
) -> Fractions:
    """Shares of ground behind crowns placed at random, as seen and as lit.

    Sun and view pass the same gaps the more, the closer they are: the correlation falls with
    their `distance` times the height of crowns over their diameter.

    Args:
        cover: Share of ground beneath crowns, above 0.
        tts: Zenith angle of the sun in degrees.
        tto: Zenith angle of the view.
        distance: Of both directions in the plane of tangents.
        stem_density: Trees per hectare.
    """
    diameter = 2 * (SQUARE_M_PER_HECTARE / (math.pi * stem_density) * cover).sqrt()  # m
    height = torch.exp(2.117 + 0.507 * torch.log(diameter))  # m, allometry of the source
    depth_o, depth_s = cover / torch.deg2rad(tto).cos(), cover / torch.deg2rad(tts).cos()
    open_o, open_s = torch.exp(-depth_o), torch.exp(-depth_s)
    crown_o, crown_s = 1 - open_o, 1 - open_s
    # the root of both open shares as an exponential: its slope is finite where they vanish
    joint = torch.exp(-distance * height / diameter - (depth_o + depth_s) / 2)
    joint = joint * (crown_o * crown_s).sqrt()
    return Fractions(
        crown_o * crown_s + joint,
        crown_o * open_s - joint,
        open_o * crown_s - joint,
        open_o * open_s + joint,
    )


class Inform(ForwardModel):
    """Sentinel-2 reflectance of a forest from its leaves, crowns, undergrowth and soil.

    PROSPECT gives the leaf, 4SAIL the undergrowth over soil, a closed canopy and the crowns, and
    shares of crown and shadow mix them. Parameters are `N`, `cab`, `cw`, `cm` of the leaf, `LAI`
    of a crown, `LAIu` of the undergrowth and `fc`, the cover of crowns; version PRO has `prot` and
    `cbc` in place of `cm`. Inputs are `tts`, `tto` and `psi`, degrees. Outputs are reflectances.

    Args:
        spectra: Optical constants; None is those of an installed `prosail`.
        bands: The bands; None is `SentinelBands()`.
        soil: Reflectance of the soil at 400, 401 ... 2500 nm; None is sqrt(nm) / 100.
        version: PROSPECT's, `D` or `PRO`.
        stem_density: Trees per hectare.
        fixed: Values of `car`, `anth`, `cbrown` (10, 2, 0.25) and of the inputs where they are
            not given (30, 0, 0).
        bounds: Range per parameter instead of the usual one, all by name.

    Raises:
        SpectraNotFound: If there are no optical constants.
        ValueError: If an argument does not fit, with its name, what was found and expected.

    Source:
        Atzberger, "Development of an invertible forest reflectance model: the INFORM-model" (2000);
        Rosema et al., Remote Sens. Environ. 42 (1992); Schlerf and Atzberger, 100 (2006).
        Crowns pass on their *total* transmittances.
    """

    soil: Tensor

    def __init__(
        self,
        *,
        spectra: Spectra | None = None,
        bands: SentinelBands | None = None,
        soil: Tensor | None = None,
        version: Version = "D",
        stem_density: float = 500.0,
        fixed: Mapping[str, float] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        spectra = load_spectra() if spectra is None else spectra
        constituents = check_version(spectra, version)
        free = [name for name in constituents if name not in FIXED]
        chosen = _with_fixed(fixed or {}, version)
        inputs = [replace(item, default=chosen[item.name]) for item in ANGLES]
        super().__init__(
            [LEAF["N"], *(LEAF[n] for n in free), *STAND], inputs=inputs, bounds=bounds
        )
        if not 0 < stem_density < math.inf:
            raise ValueError(f"stem_density needs to be positive, got {stem_density}")
        self.stem_density = stem_density
        self.fixed = {name: chosen[name] for name in FIXED}
        self.bands = SentinelBands() if bands is None else bands
        self.prospect = Prospect(spectra, version=version, wavelengths=self.bands.wavelengths)
        self.sail = FourSail()
        at_bands = interpolate_nm(soil_spectrum(soil), self.bands.wavelengths)
        self.register_buffer("soil", at_bands, persistent=False)
        self.output_names = self.bands.names
        self.output_units = ("",) * len(self.output_names)

    def _decode(self, parameters: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
        contents = torch.stack(
            [
                parameters[n]
                if n in parameters
                else torch.full_like(parameters["N"], self.fixed[n])
                for n in self.prospect.constituents
            ],
            dim=-1,
        )
        plates = parameters["N"]
        rows = self._rows(parameters, inputs)
        constants = self._constants(plates)
        return band_reflectances(plates - 1, contents / plates[..., None], rows, constants)

    def _constants(self, like: Tensor) -> BandConstants:
        of_leaf = self.prospect
        surface = torch.stack((of_leaf._entering, of_leaf._leaving, of_leaf._reflected))
        absorbing = (self.bands.weights[:, None] * of_leaf._absorption).flatten(0, 1).mT
        found = (of_leaf._absorption, surface, self.soil, self.bands.weights, absorbing)
        return BandConstants(*(values.to(like.dtype) for values in found))

    def _rows(self, parameters: dict[str, Tensor], inputs: dict[str, Tensor]) -> StandRows:
        """All that does not depend on the wavelength: one geometry for three layers."""
        seen = self.sail.geometry(*(inputs[item.name] for item in ANGLES))
        closed = torch.full_like(parameters["LAI"], CLOSED_CANOPY)
        areas = torch.stack((parameters["LAIu"], closed, parameters["LAI"]))[..., None]
        integral, both = hot_spot(seen, areas[:2], hotspot=self.sail.hotspot)
        k = torch.stack((seen.k_s, seen.k_o))
        shares = ground_fractions(
            parameters["fc"],
            inputs["tts"],
            inputs["tto"],
            seen.distance[..., 0],
            stem_density=self.stem_density,
        )
        rows = StandRows(
            level=seen.b_f[None].detach(),
            k=k,
            single=torch.stack((seen.s_b, seen.s_f)),
            areas=areas,
            hot=areas[:2] * integral,
            both=both,
            gaps=torch.exp(-k[:, None] * areas).flatten(0, 1),
            pair=faded_integral(seen.k_s + seen.k_o, areas[:2]),
            shares=torch.stack(shares)[..., None],
        )
        return StandRows(*(row[..., 0] for row in rows))


def _with_fixed(fixed: Mapping[str, float], version: Version) -> dict[str, float]:
    """All values that are not free, by name."""
    usual = {**FIXED, **{item.name: float(item.default) for item in ANGLES}}
    if version == "PRO":
        refuse_dry_matter_twice(fixed.get("cm", 0.0))
    if extra := sorted(fixed.keys() - usual.keys()):
        raise ValueError(f"fixed: unknown {extra}, expected some of {', '.join(usual)}")
    values = {**usual, **fixed}
    ranges = [LEAF[name] for name in FIXED] + list(ANGLES)
    tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
    check_values(tensors, ranges, kind="fixed")
    return values


def soil_spectrum(soil: Tensor | None) -> Tensor:
    """Reflectance of the soil at 400, 401 ... 2500 nm, float64."""
    every = all_wavelengths()
    if soil is None:
        return every.sqrt() / 100
    if soil.shape != every.shape or not ((soil >= 0) & (soil <= 1)).all():
        raise ValueError(
            f"soil needs {len(every)} reflectances from 0 to 1, one per nm from 400 to 2500, got "
            f"the shape {tuple(soil.shape)} from {soil.min().item():g} to {soil.max().item():g}"
        )
    return soil.to(torch.float64)
