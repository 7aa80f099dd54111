"""Mean and variance per channel, gathered block by block in float64."""

from dataclasses import dataclass

import torch


@dataclass
class Moments:
    """Count, mean and sum of squared deviations per channel [C], float64.

    Blocks are merged by the pairwise update, which does not lose digits when the mean is large
    against the spread.

    Source:
        Chan, Golub, LeVeque, "Algorithms for computing the sample variance", The American
        Statistician 37 (1983), equation 2.1.
    """

    count: int
    mean: torch.Tensor
    squares: torch.Tensor

    @classmethod
    def of(cls, values: torch.Tensor) -> "Moments":
        """Moments of [T, C, *grid] values."""
        rows = values.movedim(1, 0).reshape(values.shape[1], -1).double()
        mean = rows.mean(dim=1)
        return cls(rows.shape[1], mean, (rows - mean[:, None]).square().sum(dim=1))

    def merged(self, other: "Moments") -> "Moments":
        """Moments of both sets of values together."""
        count = self.count + other.count
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.count / count)
        squares = self.squares + other.squares
        squares = squares + shift.square() * (self.count * other.count / count)
        return Moments(count, mean, squares)

    @property
    def std(self) -> torch.Tensor:
        """Population standard deviation per channel."""
        return (self.squares / self.count).sqrt()
