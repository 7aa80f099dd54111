"""Errors of latent tokens."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nops_losses._checks import check_same_shape, reduce, to_working_dtype


def latent_spectrum_error(
    pred: Float[Tensor, "*axes"],
    target: Float[Tensor, "*axes"],
    *,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "..."]:
    """Mean squared difference of the magnitudes |rfft(z)| of each token over its channels.

    The transform is unscaled, so the value grows with the number of channels: for unrelated
    unit-normal tokens of 128 channels it is about 56, the mean squared error 2. Blind to the sign
    of a token and to a roll of its channels.

    Args:
        pred: Predicted latent z, axes (..., channel), any unit.
        target: True latent, same shape and unit; it gets no gradient.
        reduction: "mean" averages over the leading axes too, "none" keeps them.

    Returns:
        In the unit squared, at least 0, float32 (float64 for float64 latents). Its gradient is
        finite everywhere.

    Raises:
        ValueError: If the shapes differ, there is no channel, or `reduction` is unknown.
        TypeError: If a latent is not real floating point.

    Source:
        The latent spectral term L_spec of invertible latent surrogates.
    """
    check_same_shape(pred, target)
    if pred.ndim == 0 or pred.shape[-1] == 0:
        raise ValueError(
            f"a latent has axes (..., channel) with a channel, got {tuple(pred.shape)}."
        )
    difference = _magnitudes(pred, "pred") - _magnitudes(target.detach(), "target")
    return reduce(difference.square().mean(-1), reduction)


def _magnitudes(latent: Tensor, name: str) -> Tensor:
    values = to_working_dtype(latent, name=name)
    return torch.fft.rfft(values.contiguous()).abs()  # |F| has gradient 0 at 0
