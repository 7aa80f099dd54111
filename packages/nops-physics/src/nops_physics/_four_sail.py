"""4SAIL: reflectance of a turbid layer of leaves with a hot spot, over any ground."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nops_physics._forward_model import Quantity, check_values
from nops_physics._leaf_angles import Geometry, canopy_geometry, leaf_angle_weights

HOT_SPOT_STEPS = 20
LEAST_ABSORPTION = {torch.float32: 1e-6, torch.float64: 1e-12}  # below, terms cancel

ANGLES = (
    Quantity(name="tts", unit="degree", low=0, high=75, default=30.0, least=0.0, most=89.99),
    Quantity(name="tto", unit="degree", low=0, high=30, default=0.0, least=0.0, most=89.99),
    Quantity(name="psi", unit="degree", low=0, high=180, default=0.0, least=0.0, most=180.0),
)
LAI = Quantity(name="lai", unit="m^2/m^2", low=0.01, high=5.0, least=0.0)


class CanopyLayer(NamedTuple):
    """What a layer does with light of the sun (s), of all sides (d), towards the view (o).

    `r_xy` is the share of x reflected as y, `t_xy` that let through; `t_ss`, `t_oo` are the gaps
    in both directions and `t_sstoo` those seen in both at once. Each is `[*batch, wavelength]`, or
    `[*batch, 1]` where it does not depend on the leaf.
    """

    r_so: Tensor
    r_sd: Tensor
    r_do: Tensor
    r_dd: Tensor
    t_sd: Tensor
    t_do: Tensor
    t_dd: Tensor
    t_ss: Tensor
    t_oo: Tensor
    t_sstoo: Tensor


class Coefficients(NamedTuple):
    """Scattering per leaf area, shared by layers of any thickness."""

    geometry: Geometry
    m: Tensor
    h: Tensor
    rest: Tensor  # 1 - h^2
    s_b: Tensor
    s_f: Tensor
    v_b: Tensor
    v_f: Tensor
    w: Tensor


class Fluxes(NamedTuple):
    """A layer without the light that comes from the sun and goes to the view."""

    r_sd: Tensor
    r_do: Tensor
    r_dd: Tensor
    t_sd: Tensor
    t_do: Tensor
    t_dd: Tensor
    t_ss: Tensor
    t_oo: Tensor
    p_s: Tensor
    q_s: Tensor
    j_s: Tensor
    j_o: Tensor


class FourSail(nn.Module):
    """A layer of leaves between sun, sky and view.

    Args:
        leaf_angles: `uniform`, shares of 18 classes of 5 degrees from level to upright, or the
            mean angle in degrees of an ellipsoidal distribution.
        hotspot: Size of a leaf over the height of the layer, positive.

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Verhoef, Jia, Xiao and Su, IEEE Trans. Geosci. Remote Sens. 45 (2007).
    """

    leaf_weights: Tensor

    def __init__(
        self,
        *,
        leaf_angles: str | float | Sequence[float] | Tensor = "uniform",
        hotspot: float = 0.01,
    ) -> None:
        super().__init__()
        if not 0 < hotspot < math.inf:
            raise ValueError(f"hotspot needs to be positive, got {hotspot}")
        self.hotspot = hotspot
        self.register_buffer("leaf_weights", leaf_angle_weights(leaf_angles))

    def forward(
        self,
        reflectance: Float[Tensor, "*leaf wavelength"],
        transmittance: Float[Tensor, "*leaf wavelength"],
        *,
        lai: float | Tensor,
        tts: float | Tensor = 30.0,
        tto: float | Tensor = 0.0,
        psi: float | Tensor = 0.0,
    ) -> CanopyLayer:
        """Every term of one layer; computed with autocast off in float32 or better.

        Args:
            reflectance: Of the leaf, `[*batch, wavelength]`, 0 to 1.
            transmittance: Of the leaf; the two together are at most 1.
            lai: Leaf area per ground area, `[*batch]`, at least 0.
            tts: Zenith angle of the sun in degrees, 0 to below 90, `[*batch]`.
            tto: Zenith angle of the view.
            psi: Azimuth between both, 0 to 180.

        Raises:
            ValueError: If a value means nothing, with its name.
        """
        dtype = torch.promote_types(reflectance.dtype, torch.float32)
        with torch.autocast(reflectance.device.type, enabled=False):
            leaf = [part.to(dtype) for part in (reflectance, transmittance)]
            given = {"lai": lai, "tts": tts, "tto": tto, "psi": psi}
            known = {
                name: torch.as_tensor(value, dtype=dtype, device=leaf[0].device)
                for name, value in given.items()
            }
            check_values(known, (LAI, *ANGLES), kind="FourSail")
            shared = self.coefficients(*leaf, *(known[item.name] for item in ANGLES))
            area = known["lai"][..., None]
            flux = fluxes(shared, area)
            r_so, t_sstoo = self.bidirectional(shared, flux, area)
        return CanopyLayer(r_so, *flux[:8], t_sstoo)

    def coefficients(
        self, reflectance: Tensor, transmittance: Tensor, tts: Tensor, tto: Tensor, psi: Tensor
    ) -> Coefficients:
        """What layers of one leaf and one geometry share, unchecked; all of one precision."""
        return scattering(reflectance, transmittance, self.geometry(tts, tto, psi))

    def geometry(self, tts: Tensor, tto: Tensor, psi: Tensor) -> Geometry:
        """How the leaves meet both directions, unchecked."""
        return canopy_geometry(self.leaf_weights.to(tts.dtype), tts, tto, psi)

    def bidirectional(
        self, shared: Coefficients, flux: Fluxes, lai: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Reflectance from the sun to the view, and the gaps seen in both directions."""
        integral, both = hot_spot(shared.geometry, lai, hotspot=self.hotspot)
        return shared.w * lai * integral + multiple_scattering(shared, flux, lai), both

    @staticmethod
    def over_soil(
        layer: CanopyLayer, soil: Float[Tensor, "*soil wavelength"]
    ) -> Float[Tensor, "*batch wavelength"]:
        """Reflectance of the layer over a ground that scatters evenly into all directions.

        Args:
            layer: The layer.
            soil: Reflectance of the ground, `[*batch, wavelength]`.
        """
        f = layer
        echoes = (f.t_ss + f.t_sd) * f.t_do + (f.t_sd + f.t_ss * soil * f.r_dd) * f.t_oo
        return f.r_so + f.t_sstoo * soil + echoes * soil / (1 - soil * f.r_dd)


def scattering(rho: Tensor, tau: Tensor, seen: Geometry) -> Coefficients:
    """Coefficients per leaf area from the leaf's reflectance and transmittance."""

    def halves(x: Tensor) -> tuple[Tensor, Tensor]:
        back, front = (x + seen.b_f) / 2, (x - seen.b_f) / 2
        return back * rho + front * tau, front * rho + back * tau

    back = halves(torch.ones_like(seen.b_f))[0]
    lost = (1 - rho - tau).clamp(min=LEAST_ABSORPTION[rho.dtype])
    m = (lost * (lost + 2 * back)).sqrt()
    sum_ = lost + back + m  # alpha + m, with alpha = lost + back
    s_b, s_f = halves(seen.k_s)
    v_b, v_f = halves(seen.k_o)
    w = seen.s_b * rho + seen.s_f * tau
    return Coefficients(seen, m, back / sum_, 2 * m / sum_, s_b, s_f, v_b, v_f, w)


def fluxes(shared: Coefficients, lai: Tensor) -> Fluxes:
    """The four streams through leaf area `lai`, `[*batch, 1]`."""
    seen, m, h = shared.geometry, shared.m, shared.h
    depth = m * lai
    e, faded = torch.exp(-depth), -torch.expm1(-2 * depth)
    below = shared.rest + h.square() * faded  # 1 - h^2 e^2
    j_s, j_o = _j1(seen.k_s, m, lai), _j1(seen.k_o, m, lai)
    p_s, q_s = _driven(shared.s_b, shared.s_f, h, j_s, faded_integral(seen.k_s + m, lai))
    p_v, q_v = _driven(shared.v_b, shared.v_f, h, j_o, faded_integral(seen.k_o + m, lai))
    he = h * e
    return Fluxes(
        r_sd=(q_s - he * p_s) / below,
        r_do=(q_v - he * p_v) / below,
        r_dd=h * faded / below,
        t_sd=(p_s - he * q_s) / below,
        t_do=(p_v - he * q_v) / below,
        t_dd=shared.rest * e / below,
        t_ss=torch.exp(-seen.k_s * lai),
        t_oo=torch.exp(-seen.k_o * lai),
        p_s=p_s,
        q_s=q_s,
        j_s=j_s,
        j_o=j_o,
    )


def _driven(
    back: Tensor, front: Tensor, h: Tensor, j1: Tensor, j2: Tensor
) -> tuple[Tensor, Tensor]:
    return (front + back * h) * j1, (front * h + back) * j2


def _j1(k: Tensor, m: Tensor, lai: Tensor) -> Tensor:
    """(exp(-m L) - exp(-k L)) / (k - m), smooth where k = m, symmetric in both."""
    return lai * torch.exp(-torch.minimum(k, m) * lai) * faded_share((k - m).abs() * lai)


def faded_integral(sum_: Tensor, lai: Tensor) -> Tensor:
    """(1 - exp(-sum L)) / sum."""
    return -torch.expm1(-sum_ * lai) / sum_


def faded_share(x: Tensor) -> Tensor:
    """(1 - exp(-x)) / x for x >= 0, with its limit 1 - x/2 near 0."""
    near = x < math.sqrt(torch.finfo(x.dtype).eps)
    safe = torch.where(near, 1.0, x)
    return torch.where(near, 1 - x / 2, -torch.expm1(-safe) / safe)


def multiple_scattering(shared: Coefficients, flux: Fluxes, lai: Tensor) -> Tensor:
    """Light scattered more than once on its way from the sun to the view."""
    c, seen = shared, shared.geometry
    gaps = faded_integral(seen.k_s + seen.k_o, lai)
    g1 = (gaps - flux.j_s * flux.t_oo) / (seen.k_o + c.m)
    g2 = (gaps - flux.j_o * flux.t_ss) / (seen.k_s + c.m)
    once = (c.v_f * c.h + c.v_b) * g1 * (c.s_f + c.s_b * c.h)
    back = (c.v_f + c.v_b * c.h) * g2 * (c.s_f * c.h + c.s_b)
    return (once + back - (flux.r_do * flux.q_s + flux.t_do * flux.p_s) * c.h) / c.rest


def hot_spot(seen: Geometry, lai: Tensor, *, hotspot: float) -> tuple[Tensor, Tensor]:
    """Mean gap in both directions over the layer, and through all of it, `[*batch, 1]` each.

    Kuusk's overlap is integrated over 20 levels x_i with 1 - exp(-A x_i) = (i/20)(1 - exp(-A)).
    """
    sum_ = seen.k_s + seen.k_o
    apart = 2 * seen.distance / (hotspot * sum_)
    part = torch.arange(HOT_SPOT_STEPS + 1, dtype=lai.dtype, device=lai.device) / HOT_SPOT_STEPS
    x = _levels(apart, part)
    shared = part * faded_share(apart) * (seen.k_s * seen.k_o).sqrt()
    y = lai * (shared - sum_ * x)
    gaps, steps = torch.exp(y), y.diff(dim=-1)
    mean = gaps[..., :-1] * _grown_share(steps) * x.diff(dim=-1)
    return mean.sum(-1, keepdim=True), gaps[..., -1:]


def _levels(apart: Tensor, part: Tensor) -> Tensor:
    near = apart < math.sqrt(torch.finfo(apart.dtype).eps)
    safe = torch.where(near, 1.0, apart)
    inner = part[:-1]
    far = -torch.log1p(inner * torch.expm1(-safe)) / safe
    x = torch.where(near, inner * (1 - apart * (1 - inner) / 2), far)
    return torch.cat((x, torch.ones_like(apart)), dim=-1)


def _grown_share(x: Tensor) -> Tensor:
    """(exp(x) - 1) / x, with its limit near 0."""
    near = x.abs() < math.sqrt(torch.finfo(x.dtype).eps)
    safe = torch.where(near, 1.0, x)
    return torch.where(near, 1 + x / 2, torch.expm1(safe) / safe)
