"""From the loss section to functions of (pred, target): every term, and every metric."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from nops_losses import (
    anisotropic_spectrum_error,
    binned_spectral_power_error,
    coherence_error,
    divergence_penalty,
    field_error,
    log_spectrum_error,
    mean_std_penalty,
    relative_l2,
    relative_log_spectrum_error,
    sobolev_error,
    wavelet_error,
)
from nops_train import InputError
from torch import Tensor

from turbulence.config_loss import FOURIER_TERMS, LossConfig

Function = Callable[[Tensor, Tensor], Tensor]
KINDS = ("log", "relative_log")  # of the spectrum error


@dataclass(frozen=True, kw_only=True)
class Domain:
    """What terms need to know of the grid.

    Attributes:
        shape: Cells along each axis.
        lengths: Extent along each axis.
        periodic: Whether each axis is periodic.
        mask: True in the fluid, `[height, width]`; None without an obstacle.
        axes: Names of the axes.
        uniform: Whether the grid is Cartesian, its cells evenly spaced along each axis.
        channels: Names of the channels.
        scale: Of each channel, the unit of training in units of the data.
    """

    shape: tuple[int, ...]
    lengths: tuple[float, ...]
    periodic: tuple[bool, ...]
    mask: Tensor | None = None
    axes: tuple[str, ...] = ("x", "y")
    uniform: bool = True
    channels: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance of neighbours along each axis: a length has as many as cells where it wraps."""
        counted = zip(self.lengths, self.shape, self.periodic, strict=True)
        return tuple(length / (size - (not wraps)) for length, size, wraps in counted)


def make_terms(loss: LossConfig, domain: Domain) -> dict[str, Function]:
    """Every term of the loss as a function of fields `[sample, time, channel, *grid]`.

    Each gives a value per sample `[sample, ...]`, unreduced, dimensionless (`regDiv`: per time); its
    plain mean is the term. Fourier terms average over all predicted frames. `regDiv` is there only
    where the channels hold its field.

    Raises:
        InputError: If the function named by `loss.lsim` cannot be imported.
    """
    common = {"mask": domain.mask, "reduction": "none"}
    reading = {**_reading(loss, domain), **common, "lengths": domain.lengths}
    shells = {**reading, "bins": loss.spectrum_options.bins}
    energies = {**shells, "estimator": loss.spectrum_options.estimator}
    sobolev = {"lengths": domain.lengths, "squared": True, "reduction": "none"}
    terms = {
        "predFieldError": _squares if loss.legacy_mse == "mse" else _bound(field_error, common),
        "coherenceError": _bound(coherence_error, shells),
        "sobolevError": _bound(sobolev_error, sobolev),
        "spectrumError": _spectrum_kind(loss, domain),
        "bspError": _bound(binned_spectral_power_error, energies),
        "anisotropicSpectrumError": _bound(anisotropic_spectrum_error, reading),
        "waveletError": _wavelets(loss, domain),
        "regMeanStd": _bound(mean_std_penalty, common),
        **_divergence_term(loss, domain),
    }
    return terms | ({} if loss.lsim is None else {"predLSIM": import_function(loss.lsim)})


def make_metrics(
    loss: LossConfig, domain: Domain, *, terms: Mapping[str, Function] | None = None
) -> dict[str, Function]:
    """What every validation publishes, whatever the weights; as `make_terms` gives functions.

    Args:
        loss: The loss section.
        domain: Of the data.
        terms: From `make_terms`; a metric that is one of them is that function, so that a caller
            may compute it once. None makes them.
    """
    terms = make_terms(loss, domain) if terms is None else terms
    field = terms["predFieldError"]
    if loss.legacy_mse == "mse":
        field = _bound(field_error, {"mask": domain.mask, "reduction": "none"})
    metrics = {
        "field_error": field,
        "spectrum_error": terms["spectrumError"],
        **{f"{kind}_spectrum_error": _of_kind(kind, loss, domain, terms) for kind in KINDS},
        "wavelet_error": _wavelet_metric(terms["waveletError"], loss, domain),
        "coherence_error": terms["coherenceError"],
        "relative_l2": _bound(relative_l2, {"mask": domain.mask, "reduction": "none"}),
    }
    return metrics | ({"lsim": terms["predLSIM"]} if "predLSIM" in terms else {})


def _of_kind(
    kind: str, loss: LossConfig, domain: Domain, terms: Mapping[str, Function]
) -> Function:
    if kind == loss.spectrum_kind:
        return terms["spectrumError"]
    return _spectrum_kind(loss.model_copy(update={"spectrum_kind": kind}), domain)


def check_domain(loss: LossConfig, domain: Domain, used: frozenset[str]) -> None:
    """Refuse terms that do not fit the fields, such as Fourier terms across a wall.

    Args:
        loss: The loss section.
        domain: Of the data.
        used: Terms that have a weight at some time.

    Raises:
        InputError: Naming the term, what of the data it does not fit, and what to set.
    """
    walls = [axis for axis, periodic in enumerate(domain.periodic) if not periodic]
    fourier = [name for name in FOURIER_TERMS if name in used]
    bare = loss.spectrum_options.window == "none"
    if walls and bare and fourier:
        raise InputError(
            f"loss.{fourier[0]}: the data are not periodic along axis {walls}, where a Fourier "
            "transform sees a jump; set loss.spectrum_options.window to hann (and detrend to "
            "mean), or use loss.waveletError"
        )
    if walls and "sobolevError" in used:
        raise InputError(
            f"loss.sobolevError: the data are not periodic along axis {walls}, and its derivatives "
            "have no window; use loss.waveletError"
        )
    if domain.mask is not None and "sobolevError" in used:
        raise InputError("loss.sobolevError: the data have an obstacle, which it cannot leave out")
    if "regDiv" in used:
        _check_divergence(loss, domain)


def check_terms(terms: Mapping[str, Function], domain: Domain, *, channels: int) -> None:
    """Compute each term once on noise, so that what does not fit the grid is told by its key.

    Raises:
        InputError: Naming the term, and what it needs.
    """
    for name, function in terms.items():
        try:
            function(*_noise(domain, channels))
        except ValueError as error:
            raise InputError(f"loss.{name}: {error}") from error


def _noise(domain: Domain, channels: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (1, 2, channels, *domain.shape)
    pred, target = (torch.randn(shape, generator=generator, device="cpu") for _ in range(2))
    return pred, target


def import_function(name: str) -> Function:
    """The function `module:function`.

    Raises:
        InputError: If there is no such module or function.
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise InputError(f"loss.lsim: cannot import {name}: {error}") from error
    if not callable(found):
        raise InputError(f"loss.lsim: {name} is {type(found).__name__}, expected a function")

    def call(pred: Tensor, target: Tensor) -> Tensor:
        value = torch.as_tensor(found(pred, target))
        return value if value.ndim else value.expand(len(pred))

    return call


def per_sample(values: Tensor) -> Tensor:
    """Means over everything behind the sample axis, `[sample]`."""
    return values.flatten(1).mean(1) if values.ndim > 1 else values


def _reading(loss: LossConfig, domain: Domain) -> dict[str, Any]:
    """Window and detrending; metrics of fields with borders are windowed where nothing is said."""
    options = loss.spectrum_options
    if options.window == "none" and not all(domain.periodic):
        return {"window": "hann", "detrend": "mean"}
    return {"window": options.window, "detrend": options.detrend}


def _spectrum_kind(loss: LossConfig, domain: Domain) -> Function:
    reading = {**_reading(loss, domain), "mask": domain.mask, "reduction": "none"}
    if loss.spectrum_kind == "relative_log":
        return _bound(relative_log_spectrum_error, reading)
    options = loss.spectrum_options
    shells = {"bins": options.bins, "estimator": options.estimator, "lengths": domain.lengths}
    return _bound(log_spectrum_error, {**reading, **shells})


def _wavelets(loss: LossConfig, domain: Domain) -> Function:
    return _bound(
        wavelet_error,
        {
            "wavelet": loss.wavelet,
            "undecimated": loss.wavelet_undecimated,
            "boundary": "periodic" if all(domain.periodic) else "symmetric",
            "mask": domain.mask,
            "reduction": "none",
        },
    )


def _wavelet_metric(chosen: Function, loss: LossConfig, domain: Domain) -> Function:
    """The term, or, so that it is there on any grid, undecimated where levels do not divide it."""
    try:
        chosen(*_noise(domain, 1))
    except ValueError:
        return _wavelets(loss.model_copy(update={"wavelet_undecimated": True}), domain)
    return chosen


def _bound(function: Callable[..., Tensor], options: dict[str, Any]) -> Function:
    """The function with its options; a mask is moved to the fields' device once."""
    held = dict(options)

    def call(pred: Tensor, target: Tensor) -> Tensor:
        mask = held.get("mask")
        if mask is not None and mask.device != pred.device:
            held["mask"] = mask.to(pred.device)
        return function(pred, target, **held)

    return call


def _squares(pred: Tensor, target: Tensor) -> Tensor:
    """Squared error per frame and channel, in the unit of training squared."""
    return (pred - target.detach()).square().flatten(3).mean(3)


def _components(loss: LossConfig, domain: Domain) -> list[str]:
    """Channels that are a component of `divergence_field`, along an axis or across the grid."""
    names = {f"{loss.divergence_field}_{axis}" for axis in (*domain.axes, *"xyz")}
    return [channel for channel in domain.channels if channel in names]


def _divergence_columns(loss: LossConfig, domain: Domain) -> list[int] | None:
    """Its channels in the order of the axes; None where it has not one per axis, or has more."""
    wanted = [f"{loss.divergence_field}_{axis}" for axis in domain.axes]
    if set(wanted) != set(_components(loss, domain)):
        return None
    return [domain.channels.index(name) for name in wanted]


def _check_divergence(loss: LossConfig, domain: Domain) -> None:
    if _divergence_columns(loss, domain) is None:
        found = ", ".join(_components(loss, domain) or domain.channels) or "none"
        raise InputError(
            f"loss.regDiv: a divergence needs one component of {loss.divergence_field} along each of "
            f"the axes {', '.join(domain.axes)} and no other; data.fields gives the channels {found}. "
            "Name another vector field as loss.divergence_field"
        )
    if not domain.uniform:
        raise InputError(
            "loss.regDiv: its differences need a Cartesian grid of evenly spaced cells, and that of "
            "the data is none"
        )


def _divergence_term(loss: LossConfig, domain: Domain) -> dict[str, Function]:
    """The term by its name, where the channels hold its field."""
    columns = _divergence_columns(loss, domain)
    if columns is None:
        return {}
    units = [domain.scale[column] for column in columns]
    options = {"columns": columns, "units": units, "domain": domain, "mask": domain.mask}
    return {"regDiv": _bound(_divergence, options)}


def _divergence(
    pred: Tensor,
    target: Tensor,
    *,
    columns: list[int],
    units: list[float],
    domain: Domain,
    mask: Tensor | None,
) -> Tensor:
    """Mean |divergence| of each predicted frame `[sample, time]`, of the velocity in the data's units.

    The mean that training takes off each channel has no divergence; its deviation must be put back.
    """
    parts = [pred[:, :, column] * unit for column, unit in zip(columns, units, strict=True)]
    velocity = torch.stack(parts, dim=-1).flatten(2, -2).flatten(0, 1)  # frame, cell, component
    value = divergence_penalty(
        velocity,
        grid_shape=domain.shape,
        spacing=domain.spacing,
        periodic=domain.periodic,
        mask=None if mask is None else mask.flatten().expand(velocity.shape[:2]),
        reduction="none",
    )
    return value.unflatten(0, pred.shape[:2])
