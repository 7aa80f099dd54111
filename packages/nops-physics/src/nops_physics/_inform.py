"""INFORM: a forest as seen by a satellite, from the leaf to the stand."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from nops_physics._forward_model import Bounds, ForwardModel, Quantity, check_values
from nops_physics._four_sail import ANGLES, Fluxes, FourSail, fluxes, over_ground
from nops_physics._prospect import LEAF, Prospect, Version, check_version
from nops_physics._sentinel import SentinelBands
from nops_physics._spectra import Spectra, all_wavelengths, interpolate_nm, load_spectra

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
    open_o = torch.exp(-cover / torch.deg2rad(tto).cos())
    open_s = torch.exp(-cover / torch.deg2rad(tts).cos())
    crown_o, crown_s = 1 - open_o, 1 - open_s
    joint = torch.exp(-distance * height / diameter)
    joint = joint * (crown_o * open_o * crown_s * open_s).sqrt()
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
        return self.bands(self._spectrum(parameters, inputs))

    def _spectrum(self, parameters: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
        """Reflectance at the bands' wavelengths: one pass of coefficients for three layers."""
        like = parameters["N"]
        fixed = {name: torch.full_like(like, value) for name, value in self.fixed.items()}
        leaf = self.prospect.optics({**parameters, **fixed})
        angles = (inputs[item.name] for item in ANGLES)
        shared = self.sail.coefficients(*leaf, *angles)
        closed = torch.full_like(like, CLOSED_CANOPY)
        areas = torch.stack((parameters["LAIu"], closed, parameters["LAI"]))[..., None]
        layers = fluxes(shared, areas)
        ground, canopy = (Fluxes(*(term[i] for term in layers)) for i in (0, 1))
        so, both = self.sail.bidirectional(shared, Fluxes(*(t[:2] for t in layers)), areas[:2])
        below = over_ground(so[0], both[0], ground, self.soil.to(like.dtype))
        thick = over_ground(so[1], both[1], canopy, below)
        crown_s = (layers.t_ss + layers.t_sd)[2]
        crown_o = (layers.t_oo + layers.t_do)[2]
        distance = shared.geometry.distance[..., 0]
        shares = ground_fractions(
            parameters["fc"],
            inputs["tts"],
            inputs["tto"],
            distance,
            stem_density=self.stem_density,
        )
        return mixed(shares, thick, below, crown_s, crown_o)


def mixed(
    shares: Fractions, canopy: Tensor, ground: Tensor, crown_s: Tensor, crown_o: Tensor
) -> Tensor:
    """Reflectance of the stand from that of a closed canopy and of the ground between.

    Args:
        shares: Shares of the ground, `[*batch]`.
        canopy: Reflectance of a closed canopy, `[*batch, wavelength]`.
        ground: Reflectance of undergrowth and soil.
        crown_s: Total transmittance of a crown for the sun's light.
        crown_o: The same towards the view.
    """
    shaded, lit, open_shaded, open_lit = (share[..., None] for share in shares)
    both = crown_s * crown_o
    seen_ground = shaded * both + lit * crown_o + open_shaded * crown_s + open_lit
    return canopy * shaded * (1 - both) + ground * seen_ground


def _with_fixed(fixed: Mapping[str, float], version: Version) -> dict[str, float]:
    """All values that are not free, by name."""
    usual = {**FIXED, **{item.name: float(item.default) for item in ANGLES}}
    if version == "PRO" and fixed.get("cm", 0.0) > 0:
        raise ValueError(
            f"fixed: cm is {fixed['cm']} beside prot and cbc: dry matter is counted twice, "
            "expected cm = 0 with version 'PRO'"
        )
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
