"""Are known parameters found again? And may their uncertainty be believed?"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from nops_diagnostics._layout import as_double

NORMAL_95 = 1.6448536269514722  # half the width of a 90 % interval, in standard deviations


@dataclass(frozen=True, kw_only=True)
class RecoveryReport:
    """Errors of estimated parameters over samples, one value per parameter; float64.

    Attributes:
        names: Parameters, P.
        r2: 1 − Σ(e − t)² / Σ(t − ⟨t⟩)², dimensionless: 1 is perfect, 0 as good as the mean of the
            truth, below 0 worse; not finite where the truth does not vary.
        rmse: Root mean squared error, in the parameter's unit.
        relative_rmse: The same over high − low of its bounds, dimensionless.
        bias: Mean error ⟨e − t⟩, in the unit.
        coverage: Share of samples whose truth lies within the central 90 % of N(e, sd²); None without
            standard deviations.
    """

    names: tuple[str, ...]
    r2: Float[Tensor, "parameter"]
    rmse: Float[Tensor, "parameter"]
    relative_rmse: Float[Tensor, "parameter"]
    bias: Float[Tensor, "parameter"]
    coverage: Float[Tensor, "parameter"] | None


def recovery_report(
    estimate: Float[Tensor, "sample parameter"],
    truth: Float[Tensor, "sample parameter"],
    *,
    names: Sequence[str],
    bounds: Float[Tensor, "parameter 2"],
    sd: Float[Tensor, "sample parameter"] | None = None,
) -> RecoveryReport:
    """How well parameters are recovered, one by one.

    Args:
        estimate: Estimated parameters e, in physical units.
        truth: True parameters t, same shape and units.
        names: Of the parameters.
        bounds: Low and high end of each, in its unit.
        sd: Standard deviations of the estimates, same shape and units.

    Returns:
        R², errors, bias and coverage of each parameter.

    Raises:
        ValueError: If shapes or numbers of names differ, there are fewer than two samples, or a low
            end is not below its high end.
    """
    _check_rows(estimate, truth, names)
    if sd is not None and sd.shape != truth.shape:
        raise ValueError(f"sd has shape {tuple(sd.shape)}, expected {tuple(truth.shape)}.")
    if bounds.shape != (len(names), 2) or not bool((bounds[:, 0] < bounds[:, 1]).all()):
        raise ValueError(
            f"bounds need low < high in shape ({len(names)}, 2), got {bounds.tolist()}."
        )
    target, error = as_double(truth), as_double(estimate) - as_double(truth)
    spread = (target - target.mean(0)).square().sum(0)
    rmse = error.square().mean(0).sqrt()
    low, high = as_double(bounds).to(rmse.device).unbind(1)
    inside = None if sd is None else as_double(error.abs() <= NORMAL_95 * as_double(sd))
    return RecoveryReport(
        names=tuple(names),
        r2=1 - error.square().sum(0) / spread,
        rmse=rmse,
        relative_rmse=rmse / (high - low),
        bias=error.mean(0),
        coverage=None if inside is None else inside.mean(0),
    )


def _check_rows(estimate: Tensor, truth: Tensor, names: Sequence[str]) -> None:
    if estimate.shape != truth.shape or truth.ndim != 2 or truth.shape[1] != len(names):
        raise ValueError(
            f"estimate and truth have shapes {tuple(estimate.shape)} and {tuple(truth.shape)}, "
            f"expected (sample, {len(names)}) for {', '.join(names)}."
        )
    if len(truth) < 2:
        raise ValueError(f"need at least 2 samples, got {len(truth)}.")
