"""Loss terms for neural operators and physics-informed networks as pure functions.

Every function takes tensors first, `pred` before `target`, and keyword arguments after them. Shapes
must be equal, nothing broadcasts, and no gradient flows into `target`. Half-precision inputs are
computed in float32 with autocast off, float64 stays float64.
"""

from nops_losses._field import field_error, relative_l2
from nops_losses._spectrum import Spectrum, energy_spectrum
from nops_losses._trajectory import initial_condition_loss, trajectory_loss
from nops_losses._wavelet_error import wavelet_error

__all__ = [
    "Spectrum",
    "energy_spectrum",
    "field_error",
    "initial_condition_loss",
    "relative_l2",
    "trajectory_loss",
    "wavelet_error",
]
