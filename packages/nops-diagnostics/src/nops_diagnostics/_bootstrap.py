"""Percentile bootstrap over samples, from a generator of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with the two ends of its confidence interval, tensors of one shape.

    Attributes:
        value: The estimate itself, from all samples.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: Float[Tensor, "*shape"]
    low: Float[Tensor, "*shape"]
    high: Float[Tensor, "*shape"]

    def __getitem__(self, index: Any) -> "Estimate":
        """The same indexing applied to value and both ends."""
        return Estimate(value=self.value[index], low=self.low[index], high=self.high[index])

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers or lists under `value`, `low`, `high`, as JSON takes them."""
        return {"value": self.value.tolist(), "low": self.low.tolist(), "high": self.high.tolist()}


def bootstrap_weights(num_samples: int, *, num_resamples: int, seed: int) -> Tensor:
    """Share of each sample in each resample drawn with replacement; every row sums to 1.

    Args:
        num_samples: Number of independent samples, B.
        num_resamples: Number of resamples, R.
        seed: Of a generator of its own: the global one is neither read nor moved.

    Returns:
        `[R, B]` float64 on the CPU; `weights @ samples` are the means of the resamples.

    Raises:
        ValueError: If there is no sample or no resample.
    """
    if num_samples < 1 or num_resamples < 1:
        raise ValueError(
            f"a bootstrap needs at least one sample and one resample, got {num_samples} samples "
            f"and {num_resamples} resamples."
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(num_samples, (num_resamples, num_samples), generator=generator)
    counts = torch.zeros(num_resamples, num_samples, dtype=torch.float64)
    counts.scatter_add_(1, drawn, torch.ones_like(counts))
    return counts / num_samples


def bootstrap_estimate(
    statistic: Callable[..., Tensor],
    *samples: Float[Tensor, "sample *rest"],
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """A function of sample means with its percentile interval over resampled samples.

    All tensors are resampled together, so that a ratio or difference of two models measured on
    the same samples keeps their pairing.

    Args:
        statistic: Takes the mean over samples of each tensor, `[*rest]`, and returns a tensor; it
            is called once more with a leading axis of resamples, so it must be elementwise or
            count its axes from the end.
        *samples: One value per independent sample, `[sample, *rest]`.
        num_resamples: Number of resamples.
        confidence: Coverage aimed at, between 0 and 1.
        seed: Of the resampling.

    Returns:
        The estimate, float64 on the CPU, in the shape `statistic` gives. With one sample both ends
        equal the value: there is no spread to see. NaN where a sample is not finite.

    Raises:
        ValueError: If the tensors disagree on the number of samples, or an option is out of range.

    Source:
        Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982, percentile method.
    """
    if len({len(sample) for sample in samples}) != 1:
        raise ValueError(
            f"samples need one first axis, got shapes {[tuple(s.shape) for s in samples]}."
        )
    plain = [sample.detach().to("cpu", torch.float64) for sample in samples]
    weights = bootstrap_weights(len(plain[0]), num_resamples=num_resamples, seed=seed)
    value = statistic(*(sample.mean(0) for sample in plain))
    resampled = statistic(*(torch.tensordot(weights, sample, dims=1) for sample in plain))
    low, high = percentile_interval(resampled, confidence=confidence)
    return Estimate(value=value, low=low, high=high)


def percentile_interval(resampled: Tensor, *, confidence: float) -> tuple[Tensor, Tensor]:
    """Both ends of the central `confidence` share of `resampled [R, ...]`."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}.")
    tail = (1.0 - confidence) / 2.0
    ends = torch.tensor([tail, 1.0 - tail], dtype=resampled.dtype)
    low, high = torch.quantile(resampled, ends, dim=0)
    return low, high
