"""Proper orthogonal decomposition: the patterns that hold most of a field's fluctuations."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nops_diagnostics._layout import as_double, check_axes


@dataclass(frozen=True, kw_only=True)
class ProperModes:
    """Modes of each component on its own, the strongest first; float64.

    Attributes:
        mean: Mean over samples and times, `[channel, *space]`.
        modes: Patterns with mean square 1 over space, orthogonal in it; the largest value of each
            is positive. `[channel, mode, *space]`, dimensionless.
        energy: Mean square that each mode holds, in the field's unit squared, `[channel, mode]`.
        total: Mean square of all fluctuations, `[channel]`: the sum of all energies.
        coefficients: `[sample, time, channel, mode]` in the field's unit; the mean plus the sum of
            coefficients times modes is the field, up to the modes left out.
    """

    mean: Float[Tensor, "channel *space"]
    modes: Float[Tensor, "channel mode *space"]
    energy: Float[Tensor, "channel mode"]
    total: Float[Tensor, "channel"]
    coefficients: Float[Tensor, "sample time channel mode"]

    def project(
        self, field: Float[Tensor, "sample time channel *space"]
    ) -> Float[Tensor, "sample time channel mode"]:
        """Coefficients of another field in these modes, such as of a rollout in the truth's.

        Raises:
            ValueError: If channels or space differ from those of the modes.
        """
        if field.shape[2:] != self.mean.shape:
            raise ValueError(
                f"the field has shape {tuple(field.shape)}; after sample and time it needs "
                f"{tuple(self.mean.shape)}, as the modes."
            )
        change = (as_double(field) - self.mean).flatten(3)
        modes = self.modes.flatten(2)
        return torch.einsum("btcx,cmx->btcm", change, modes) / modes.shape[-1]


def proper_modes(
    field: Float[Tensor, "sample time channel *space"],
    *,
    num_modes: int | None = None,
    spatial_dims: int = 2,
) -> ProperModes:
    """Proper orthogonal decomposition of the fluctuations, component by component.

    Every frame of every sample is a snapshot: nothing is averaged but the mean, which is taken out.
    The singular value decomposition of the snapshots gives the modes.

    Args:
        field: Trajectories, any unit.
        num_modes: How many modes to keep; None keeps all, the smaller of the numbers of snapshots
            and of cells.
        spatial_dims: Number of trailing axes that are space.

    Returns:
        Modes, their energies and coefficients, per channel.

    Raises:
        ValueError: If an axis is missing, `num_modes` is out of range, or the field is not finite.

    Source:
        Sirovich, "Turbulence and the dynamics of coherent structures", Q. Appl. Math. 45 (1987).
    """
    check_axes("field", field, spatial_dims=spatial_dims, leading=2)
    samples, frames, channels, *space = field.shape
    snapshots = as_double(field.detach()).movedim(2, 0).reshape(channels, samples * frames, -1)
    most = min(snapshots.shape[1:])
    if not 1 <= (num_modes or most) <= most or num_modes == 0:
        raise ValueError(f"num_modes={num_modes} needs to lie between 1 and {most}.")
    if not snapshots.isfinite().all():
        raise ValueError("the field holds values that are not finite; it has no modes.")
    mean = snapshots.mean(1, keepdim=True)
    left, values, right = torch.linalg.svd(snapshots - mean, full_matrices=False)
    largest = right.gather(-1, right.abs().argmax(-1, keepdim=True))
    right, left = right * largest.sign(), left * largest.sign().transpose(1, 2)
    cells, kept = right.shape[-1], slice(num_modes or most)
    energy = values.square() / (samples * frames * cells)
    coefficients = (left * values.unsqueeze(1))[..., kept] / cells**0.5
    return ProperModes(
        mean=mean.reshape(channels, *space),
        modes=(right[:, kept] * cells**0.5).reshape(channels, -1, *space),
        energy=energy[:, kept],
        total=energy.sum(1),
        coefficients=coefficients.reshape(channels, samples, frames, -1).movedim(0, 2),
    )
