"""Rollout metrics, baselines, plots and self-contained HTML reports.

Metrics are pure functions on tensors, `pred` before `target`, with every convention an argument;
they sum in float64. Trajectories are `[sample, time, channel, *space]` without the initial state:
frame `j` is lead time `j + 1`. Intervals are bootstraps over samples from a generator of their own.
Plots are matplotlib figures drawn without pyplot, so that nothing global is touched.

Importing this package imports neither torch nor matplotlib: each name is loaded when it is first used,
and metrics never load matplotlib.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nops_losses import relative_l2 as relative_l2

    from nops_diagnostics._alignment import AlignedPair as AlignedPair
    from nops_diagnostics._alignment import Alignment as Alignment
    from nops_diagnostics._alignment import compute_alignment as compute_alignment
    from nops_diagnostics._alignment_gates import Gate as Gate
    from nops_diagnostics._alignment_report import AlignmentReport as AlignmentReport
    from nops_diagnostics._alignment_report import Section as Section
    from nops_diagnostics._alignment_report import alignment_report as alignment_report
    from nops_diagnostics._baselines import OracleFit as OracleFit
    from nops_diagnostics._baselines import oracle_fit as oracle_fit
    from nops_diagnostics._baselines import pca_baseline as pca_baseline
    from nops_diagnostics._bootstrap import Estimate as Estimate
    from nops_diagnostics._bootstrap import bootstrap_estimate as bootstrap_estimate
    from nops_diagnostics._clusters import cluster_features as cluster_features
    from nops_diagnostics._codebook_usage import CodebookMeter as CodebookMeter
    from nops_diagnostics._codebook_usage import CodebookUsage as CodebookUsage
    from nops_diagnostics._codebook_usage import codebook_usage as codebook_usage
    from nops_diagnostics._codebooks import Codebook as Codebook
    from nops_diagnostics._collapse import CollapseReport as CollapseReport
    from nops_diagnostics._collapse import collapse_report as collapse_report
    from nops_diagnostics._collapse import residual_ratio as residual_ratio
    from nops_diagnostics._correlation import CorrelationTime as CorrelationTime
    from nops_diagnostics._correlation import correlation as correlation
    from nops_diagnostics._correlation import correlation_time as correlation_time
    from nops_diagnostics._correlation import correlation_times as correlation_times
    from nops_diagnostics._decoded_errors import DecodedErrors as DecodedErrors
    from nops_diagnostics._decoded_errors import decoded_errors as decoded_errors
    from nops_diagnostics._distribution import FeatureDistribution as FeatureDistribution
    from nops_diagnostics._distribution import TokenDivergence as TokenDivergence
    from nops_diagnostics._distribution import feature_distribution as feature_distribution
    from nops_diagnostics._distribution import token_divergence as token_divergence
    from nops_diagnostics._features import FeatureExtractor as FeatureExtractor
    from nops_diagnostics._flow import FlowDrift as FlowDrift
    from nops_diagnostics._flow import FlowQuantities as FlowQuantities
    from nops_diagnostics._flow import flow_drift as flow_drift
    from nops_diagnostics._flow import flow_quantities as flow_quantities
    from nops_diagnostics._format import format_number as format_number
    from nops_diagnostics._identifiability import Identifiability as Identifiability
    from nops_diagnostics._identifiability import identifiability as identifiability
    from nops_diagnostics._lead_errors import LeadErrors as LeadErrors
    from nops_diagnostics._lead_errors import lead_errors as lead_errors
    from nops_diagnostics._machine import describe_machine as describe_machine
    from nops_diagnostics._metrics import mse as mse
    from nops_diagnostics._metrics import nmse as nmse
    from nops_diagnostics._metrics import nrmse as nrmse
    from nops_diagnostics._metrics import skill as skill
    from nops_diagnostics._metrics import vrmse as vrmse
    from nops_diagnostics._pdebench_metrics import brmse as brmse
    from nops_diagnostics._pdebench_metrics import crmse as crmse
    from nops_diagnostics._pdebench_metrics import frmse as frmse
    from nops_diagnostics._pdebench_metrics import max_error as max_error
    from nops_diagnostics._plot_anisotropic import (
        plot_anisotropic_spectra as plot_anisotropic_spectra,
    )
    from nops_diagnostics._plot_decoded import plot_decoded_errors as plot_decoded_errors
    from nops_diagnostics._plot_decoded import plot_profiles as plot_profiles
    from nops_diagnostics._plot_evolution import plot_spectrum_evolution as plot_spectrum_evolution
    from nops_diagnostics._plot_evolution import plot_temporal_spectrum as plot_temporal_spectrum
    from nops_diagnostics._plot_fields import plot_rollout as plot_rollout
    from nops_diagnostics._plot_fields import plot_spectra as plot_spectra
    from nops_diagnostics._plot_flow import plot_flow_drift as plot_flow_drift
    from nops_diagnostics._plot_flow import plot_proper_modes as plot_proper_modes
    from nops_diagnostics._plot_inversion import plot_error_bars as plot_error_bars
    from nops_diagnostics._plot_inversion import (
        plot_parameters_over_time as plot_parameters_over_time,
    )
    from nops_diagnostics._plot_inversion import plot_patterns as plot_patterns
    from nops_diagnostics._plot_inversion import plot_recovery as plot_recovery
    from nops_diagnostics._plot_lead_errors import plot_lead_errors as plot_lead_errors
    from nops_diagnostics._plot_schedule import plot_schedule as plot_schedule
    from nops_diagnostics._plot_scores import plot_correlation as plot_correlation
    from nops_diagnostics._plot_scores import plot_metric as plot_metric
    from nops_diagnostics._plot_scores import plot_skill as plot_skill
    from nops_diagnostics._plot_tokens import plot_alignment as plot_alignment
    from nops_diagnostics._plot_tokens import plot_distances as plot_distances
    from nops_diagnostics._plot_tokens import plot_token_usage as plot_token_usage
    from nops_diagnostics._plot_training import plot_training as plot_training
    from nops_diagnostics._plot_usage import plot_usage as plot_usage
    from nops_diagnostics._pod import ProperModes as ProperModes
    from nops_diagnostics._pod import proper_modes as proper_modes
    from nops_diagnostics._recovery import RecoveryReport as RecoveryReport
    from nops_diagnostics._recovery import recovery_report as recovery_report
    from nops_diagnostics._report import Report as Report
    from nops_diagnostics._rollout_errors import RolloutErrors as RolloutErrors
    from nops_diagnostics._rollout_errors import lead_mean as lead_mean
    from nops_diagnostics._rollout_errors import paired_noise_floor as paired_noise_floor
    from nops_diagnostics._rollout_errors import rollout_errors as rollout_errors
    from nops_diagnostics._rollout_scores import RolloutScores as RolloutScores
    from nops_diagnostics._rollout_scores import rollout_scores as rollout_scores
    from nops_diagnostics._rollout_scores import score_errors as score_errors
    from nops_diagnostics._sensitivity import ShuffleRatio as ShuffleRatio
    from nops_diagnostics._sensitivity import derangement as derangement
    from nops_diagnostics._sensitivity import diversity_ratio as diversity_ratio
    from nops_diagnostics._sensitivity import shuffle_ratio as shuffle_ratio
    from nops_diagnostics._separability import jeffries_matusita as jeffries_matusita
    from nops_diagnostics._series import Series as Series
    from nops_diagnostics._series import read_series as read_series
    from nops_diagnostics._spectra import spectrum_error as spectrum_error
    from nops_diagnostics._stability import TemporalStability as TemporalStability
    from nops_diagnostics._stability import temporal_stability as temporal_stability
    from nops_diagnostics._temporal_spectrum import TemporalSpectrum as TemporalSpectrum
    from nops_diagnostics._temporal_spectrum import temporal_spectrum as temporal_spectrum
    from nops_diagnostics._token_information import TokenInformation as TokenInformation
    from nops_diagnostics._token_information import token_information as token_information

_MODULES = {
    "AlignedPair": "_alignment",
    "Alignment": "_alignment",
    "compute_alignment": "_alignment",
    "Gate": "_alignment_gates",
    "AlignmentReport": "_alignment_report",
    "Section": "_alignment_report",
    "alignment_report": "_alignment_report",
    "OracleFit": "_baselines",
    "oracle_fit": "_baselines",
    "pca_baseline": "_baselines",
    "Estimate": "_bootstrap",
    "bootstrap_estimate": "_bootstrap",
    "cluster_features": "_clusters",
    "CodebookMeter": "_codebook_usage",
    "CodebookUsage": "_codebook_usage",
    "codebook_usage": "_codebook_usage",
    "Codebook": "_codebooks",
    "CollapseReport": "_collapse",
    "collapse_report": "_collapse",
    "residual_ratio": "_collapse",
    "CorrelationTime": "_correlation",
    "correlation": "_correlation",
    "correlation_time": "_correlation",
    "correlation_times": "_correlation",
    "DecodedErrors": "_decoded_errors",
    "decoded_errors": "_decoded_errors",
    "FeatureDistribution": "_distribution",
    "TokenDivergence": "_distribution",
    "feature_distribution": "_distribution",
    "token_divergence": "_distribution",
    "FeatureExtractor": "_features",
    "FlowDrift": "_flow",
    "FlowQuantities": "_flow",
    "flow_drift": "_flow",
    "flow_quantities": "_flow",
    "format_number": "_format",
    "Identifiability": "_identifiability",
    "identifiability": "_identifiability",
    "LeadErrors": "_lead_errors",
    "lead_errors": "_lead_errors",
    "describe_machine": "_machine",
    "mse": "_metrics",
    "nmse": "_metrics",
    "nrmse": "_metrics",
    "skill": "_metrics",
    "vrmse": "_metrics",
    "brmse": "_pdebench_metrics",
    "crmse": "_pdebench_metrics",
    "frmse": "_pdebench_metrics",
    "max_error": "_pdebench_metrics",
    "plot_anisotropic_spectra": "_plot_anisotropic",
    "plot_decoded_errors": "_plot_decoded",
    "plot_profiles": "_plot_decoded",
    "plot_spectrum_evolution": "_plot_evolution",
    "plot_temporal_spectrum": "_plot_evolution",
    "plot_rollout": "_plot_fields",
    "plot_spectra": "_plot_fields",
    "plot_flow_drift": "_plot_flow",
    "plot_proper_modes": "_plot_flow",
    "plot_error_bars": "_plot_inversion",
    "plot_parameters_over_time": "_plot_inversion",
    "plot_patterns": "_plot_inversion",
    "plot_recovery": "_plot_inversion",
    "plot_lead_errors": "_plot_lead_errors",
    "plot_schedule": "_plot_schedule",
    "plot_correlation": "_plot_scores",
    "plot_metric": "_plot_scores",
    "plot_skill": "_plot_scores",
    "plot_alignment": "_plot_tokens",
    "plot_distances": "_plot_tokens",
    "plot_token_usage": "_plot_tokens",
    "plot_training": "_plot_training",
    "plot_usage": "_plot_usage",
    "ProperModes": "_pod",
    "proper_modes": "_pod",
    "RecoveryReport": "_recovery",
    "recovery_report": "_recovery",
    "Report": "_report",
    "RolloutErrors": "_rollout_errors",
    "lead_mean": "_rollout_errors",
    "paired_noise_floor": "_rollout_errors",
    "rollout_errors": "_rollout_errors",
    "relative_l2": "_rollout_errors",  # that of nops_losses
    "RolloutScores": "_rollout_scores",
    "rollout_scores": "_rollout_scores",
    "score_errors": "_rollout_scores",
    "ShuffleRatio": "_sensitivity",
    "derangement": "_sensitivity",
    "diversity_ratio": "_sensitivity",
    "shuffle_ratio": "_sensitivity",
    "jeffries_matusita": "_separability",
    "Series": "_series",
    "read_series": "_series",
    "spectrum_error": "_spectra",
    "TemporalStability": "_stability",
    "temporal_stability": "_stability",
    "TemporalSpectrum": "_temporal_spectrum",
    "temporal_spectrum": "_temporal_spectrum",
    "TokenInformation": "_token_information",
    "token_information": "_token_information",
}

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


def __getattr__(name: str) -> Any:
    """Load a public name from its module, once."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted({*globals(), *__all__})
