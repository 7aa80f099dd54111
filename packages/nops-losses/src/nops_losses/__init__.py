"""Loss terms for neural operators and physics-informed networks as pure functions.

Every function takes tensors first, `pred` before `target`, and keyword arguments after them. Shapes
must be equal, nothing broadcasts, and no gradient flows into `target`. Half-precision inputs are
computed in float32 with autocast off, float64 stays float64.
"""

from nops_losses._anisotropy import AnisotropicSpectrum, anisotropic_spectrum
from nops_losses._anisotropy_error import anisotropic_spectrum_error
from nops_losses._bundle import LossBundle, compute_operator_loss_bundle
from nops_losses._coherence import coherence_error
from nops_losses._derivatives import gradient, laplacian, partial
from nops_losses._divergence import divergence_penalty
from nops_losses._field import field_error, relative_l2
from nops_losses._field_penalties import (
    boundary_penalty,
    conservation_penalty,
    positivity_penalty,
)
from nops_losses._gradient import gradient_magnitude
from nops_losses._hybrid_penalties import (
    capacity_penalty,
    coefficient_penalty,
    edge_penalty,
    gate_penalty,
    orthogonality_penalty,
    residual_penalty,
    temporal_smoothness,
)
from nops_losses._inverse import inverse_decoding_loss, inverse_encoding_loss
from nops_losses._kl import (
    gaussian_kl,
    kldiv_normal_normal,
    logistic_kl,
)
from nops_losses._latent import latent_spectrum_error
from nops_losses._latent_penalties import latent_diversity_penalty, latent_norm_penalty
from nops_losses._log_variance import (
    bound_log_variance,
)
from nops_losses._mean_std import mean_std_penalty
from nops_losses._queries import QuerySample, sample_queries
from nops_losses._recovery import (
    branch_consistency_penalty,
    logit_recovery_loss,
    parameter_recovery_loss,
    unmixing_penalty,
)
from nops_losses._relative_spectrum import relative_log_spectrum_error
from nops_losses._residuals import (
    allen_cahn_residual,
    burgers_residual,
    heat_residual,
    helmholtz_residual,
    kovasznay_residual,
    poisson_residual,
    wave_residual,
)
from nops_losses._sobolev import sobolev_error
from nops_losses._spectrum import Spectrum, energy_spectrum
from nops_losses._spectrum_error import binned_spectral_power_error, log_spectrum_error
from nops_losses._steps import sample_steps
from nops_losses._structure import StructureFunction, structure_function
from nops_losses._tokens import (
    code_entropy_loss,
    commitment_loss,
    latent_alignment_loss,
    orthogonality_loss,
    topographic_loss,
    topographic_similarity,
)
from nops_losses._trajectory import initial_condition_loss, trajectory_loss
from nops_losses._wave_step import rk4_step, wave_step_residuals
from nops_losses._wavelet_error import wavelet_error

__all__ = [
    "AnisotropicSpectrum",
    "LossBundle",
    "QuerySample",
    "Spectrum",
    "StructureFunction",
    "allen_cahn_residual",
    "anisotropic_spectrum",
    "anisotropic_spectrum_error",
    "binned_spectral_power_error",
    "bound_log_variance",
    "boundary_penalty",
    "branch_consistency_penalty",
    "burgers_residual",
    "capacity_penalty",
    "code_entropy_loss",
    "coefficient_penalty",
    "coherence_error",
    "commitment_loss",
    "compute_operator_loss_bundle",
    "conservation_penalty",
    "divergence_penalty",
    "edge_penalty",
    "energy_spectrum",
    "field_error",
    "gate_penalty",
    "gaussian_kl",
    "gradient",
    "gradient_magnitude",
    "heat_residual",
    "helmholtz_residual",
    "initial_condition_loss",
    "inverse_decoding_loss",
    "inverse_encoding_loss",
    "kldiv_normal_normal",
    "kovasznay_residual",
    "laplacian",
    "latent_alignment_loss",
    "latent_diversity_penalty",
    "latent_norm_penalty",
    "latent_spectrum_error",
    "log_spectrum_error",
    "logistic_kl",
    "logit_recovery_loss",
    "mean_std_penalty",
    "orthogonality_loss",
    "orthogonality_penalty",
    "parameter_recovery_loss",
    "partial",
    "poisson_residual",
    "positivity_penalty",
    "relative_l2",
    "relative_log_spectrum_error",
    "residual_penalty",
    "rk4_step",
    "sample_queries",
    "sample_steps",
    "sobolev_error",
    "structure_function",
    "temporal_smoothness",
    "topographic_loss",
    "topographic_similarity",
    "trajectory_loss",
    "unmixing_penalty",
    "wave_residual",
    "wave_step_residuals",
    "wavelet_error",
]
