"""Rollout metrics, baselines, plots and self-contained HTML reports.

Metrics are pure functions on tensors, `pred` before `target`, with every convention an argument;
they sum in float64. Trajectories are `[sample, time, channel, *space]` without the initial state:
frame `j` is lead time `j + 1`. Intervals are bootstraps over samples from a generator of their own.
Plots are matplotlib figures drawn without pyplot, so that nothing global is touched.
"""

from nops_losses import relative_l2

from nops_diagnostics._alignment import AlignedPair, Alignment, compute_alignment
from nops_diagnostics._alignment_gates import Gate
from nops_diagnostics._alignment_report import AlignmentReport, Section, alignment_report
from nops_diagnostics._baselines import OracleFit, oracle_fit, pca_baseline
from nops_diagnostics._bootstrap import Estimate, bootstrap_estimate
from nops_diagnostics._clusters import cluster_features
from nops_diagnostics._codebook_usage import CodebookMeter, CodebookUsage, codebook_usage
from nops_diagnostics._codebooks import Codebook
from nops_diagnostics._collapse import CollapseReport, collapse_report, residual_ratio
from nops_diagnostics._correlation import (
    CorrelationTime,
    correlation,
    correlation_time,
    correlation_times,
)
from nops_diagnostics._decoded_errors import DecodedErrors, decoded_errors
from nops_diagnostics._distribution import (
    FeatureDistribution,
    TokenDivergence,
    feature_distribution,
    token_divergence,
)
from nops_diagnostics._features import FeatureExtractor
from nops_diagnostics._flow import FlowDrift, FlowQuantities, flow_drift, flow_quantities
from nops_diagnostics._format import format_number
from nops_diagnostics._identifiability import Identifiability, identifiability
from nops_diagnostics._lead_errors import LeadErrors, lead_errors, plot_lead_errors
from nops_diagnostics._machine import describe_machine
from nops_diagnostics._metrics import mse, nmse, nrmse, skill, vrmse
from nops_diagnostics._pdebench_metrics import brmse, crmse, frmse, max_error
from nops_diagnostics._plot_anisotropic import plot_anisotropic_spectra
from nops_diagnostics._plot_decoded import plot_decoded_errors, plot_profiles
from nops_diagnostics._plot_evolution import plot_spectrum_evolution, plot_temporal_spectrum
from nops_diagnostics._plot_fields import plot_rollout, plot_spectra
from nops_diagnostics._plot_flow import plot_flow_drift, plot_proper_modes
from nops_diagnostics._plot_inversion import (
    plot_error_bars,
    plot_parameters_over_time,
    plot_patterns,
    plot_recovery,
)
from nops_diagnostics._plot_schedule import plot_schedule
from nops_diagnostics._plot_scores import plot_correlation, plot_metric, plot_skill
from nops_diagnostics._plot_tokens import plot_alignment, plot_distances, plot_token_usage
from nops_diagnostics._plot_training import Series, plot_training, read_series
from nops_diagnostics._plot_usage import plot_usage
from nops_diagnostics._pod import ProperModes, proper_modes
from nops_diagnostics._recovery import RecoveryReport, recovery_report
from nops_diagnostics._report import Report
from nops_diagnostics._rollout_errors import (
    RolloutErrors,
    lead_mean,
    paired_noise_floor,
    rollout_errors,
)
from nops_diagnostics._rollout_scores import RolloutScores, rollout_scores, score_errors
from nops_diagnostics._sensitivity import (
    ShuffleRatio,
    derangement,
    diversity_ratio,
    shuffle_ratio,
)
from nops_diagnostics._separability import jeffries_matusita
from nops_diagnostics._spectra import spectrum_error
from nops_diagnostics._stability import TemporalStability, temporal_stability
from nops_diagnostics._temporal_spectrum import TemporalSpectrum, temporal_spectrum
from nops_diagnostics._token_information import TokenInformation, token_information

__all__ = [
    "AlignedPair",
    "Alignment",
    "AlignmentReport",
    "Codebook",
    "CodebookMeter",
    "CodebookUsage",
    "CollapseReport",
    "CorrelationTime",
    "DecodedErrors",
    "Estimate",
    "FeatureDistribution",
    "FeatureExtractor",
    "FlowDrift",
    "FlowQuantities",
    "Gate",
    "Identifiability",
    "LeadErrors",
    "OracleFit",
    "ProperModes",
    "RecoveryReport",
    "Report",
    "RolloutErrors",
    "RolloutScores",
    "Section",
    "Series",
    "ShuffleRatio",
    "TemporalSpectrum",
    "TemporalStability",
    "TokenDivergence",
    "TokenInformation",
    "alignment_report",
    "bootstrap_estimate",
    "brmse",
    "cluster_features",
    "codebook_usage",
    "collapse_report",
    "compute_alignment",
    "correlation",
    "correlation_time",
    "correlation_times",
    "crmse",
    "decoded_errors",
    "derangement",
    "describe_machine",
    "diversity_ratio",
    "feature_distribution",
    "flow_drift",
    "flow_quantities",
    "format_number",
    "frmse",
    "identifiability",
    "jeffries_matusita",
    "lead_errors",
    "lead_mean",
    "max_error",
    "mse",
    "nmse",
    "nrmse",
    "oracle_fit",
    "paired_noise_floor",
    "pca_baseline",
    "plot_alignment",
    "plot_anisotropic_spectra",
    "plot_correlation",
    "plot_decoded_errors",
    "plot_distances",
    "plot_error_bars",
    "plot_flow_drift",
    "plot_lead_errors",
    "plot_metric",
    "plot_parameters_over_time",
    "plot_patterns",
    "plot_profiles",
    "plot_proper_modes",
    "plot_recovery",
    "plot_rollout",
    "plot_schedule",
    "plot_skill",
    "plot_spectra",
    "plot_spectrum_evolution",
    "plot_temporal_spectrum",
    "plot_token_usage",
    "plot_training",
    "plot_usage",
    "proper_modes",
    "read_series",
    "recovery_report",
    "relative_l2",
    "residual_ratio",
    "rollout_errors",
    "rollout_scores",
    "score_errors",
    "shuffle_ratio",
    "skill",
    "spectrum_error",
    "temporal_spectrum",
    "temporal_stability",
    "token_divergence",
    "token_information",
    "vrmse",
]
