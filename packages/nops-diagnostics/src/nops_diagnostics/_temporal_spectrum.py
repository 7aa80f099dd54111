"""The energy of a field's time series by frequency."""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nops_diagnostics._layout import check_axes, check_choice

Window = Literal["none", "hann"]


class TemporalSpectrum(NamedTuple):
    """Energy by frequency.

    Attributes:
        frequency: Cycles per time unit `[frequency]`, from 0 to half the frame rate.
        energy: Energy of each frequency `[sample, frequency]`, in the field's unit squared.
    """

    frequency: Tensor
    energy: Tensor


def temporal_spectrum(
    field: Float[Tensor, "sample time channel *space"],
    *,
    frame_interval: float,
    window: Window = "none",
    spatial_dims: int = 2,
) -> TemporalSpectrum:
    """Energy per frequency of the time series at every point, averaged over the points.

    With F_m the Fourier coefficients over time (forward norm) of the T frames, the energy of
    frequency m / (T frame_interval) is half the mean over cells of |F_m|^2, with |F_-m|^2 where that
    is another one, summed over
    channels. The energies sum to half the mean square over time and space.

    Args:
        field: Trajectories, any unit.
        frame_interval: Physical time between frames.
        window: `"none"`, or `"hann"`: each point's mean over time is taken out, the rest tapered
            and its energy divided by the window's mean square. A series that does not repeat leaks
            as about f^-2 without it, which levels off a spectrum that is compensated by f^2.
        spatial_dims: Number of trailing axes that are space.

    Returns:
        `TemporalSpectrum(frequency [frequency], energy [sample, frequency])`, float64 on the CPU,
        NaN for a sample that is not finite.

    Raises:
        ValueError: If there are fewer than two frames, an axis is missing or an option unknown.

    Source:
        Kohl, Chen and Thuerey, arXiv 2309.01745, temporal frequency analysis at all points.
    """
    check_axes("field", field, spatial_dims=spatial_dims, leading=2)
    check_choice("window", window, ("none", "hann"))
    frames = field.shape[1]
    if frames < 2 or not 0.0 < frame_interval < math.inf:
        raise ValueError(
            f"a temporal spectrum needs two frames and frame_interval > 0, got {frames} frames "
            f"and frame_interval={frame_interval}."
        )
    energy = [_energy(sample.detach().double(), window) for sample in field]
    frequency = torch.fft.rfftfreq(frames, d=frame_interval, dtype=torch.float64)
    return TemporalSpectrum(frequency, torch.stack(energy).cpu())


def _energy(sample: Tensor, window: Window) -> Tensor:
    """Energy `[frequency]` of one sample `[time, channel, *space]`."""
    frames, channels = sample.shape[:2]
    series = sample.flatten(1)
    if window == "hann":
        place = (torch.arange(frames, dtype=series.dtype, device=series.device) + 0.5) / frames
        taper = torch.sin(math.pi * place).square()
        taper = taper / taper.square().mean().sqrt()
        series = (series - series.mean(0)) * taper.unsqueeze(1)
    series = (
        series.contiguous()
    )  # MKL refuses an expanded view (stride 0) in some releases of torch
    power = torch.fft.rfft(series, dim=0, norm="forward").abs().square().mean(1) * channels
    power[1 : (frames + 1) // 2] *= 2  # what stands for its negative frequency, too
    return 0.5 * power
