"""How a table of codes follows the latents that choose from it."""

import math
from dataclasses import dataclass

from nops_models._checks import check_at_least


@dataclass(frozen=True, kw_only=True)
class EMA:
    """Codes are moving means of the latents that chose them: no gradient, no codebook loss.

    With n latents z of a code in a step, N ← d·N + (1 − d)·n and m ← d·m + (1 − d)·Σz; the code is
    m / N̂, where N̂ = (N + ε)/(ΣN + K·ε)·ΣN keeps an unused code from dividing by 0. N starts at the
    k-means counts, or at 1 with m the code.

    Attributes:
        decay: d, share of the past that stays, per optimizer step, within [0, 1).
        eps: ε, in counts.
        kmeans_init: The table starts as the k-means of the first training batch, of all ranks.
        kmeans_iterations: Of Lloyd's algorithm.
        revive_below: A code with N below it takes a random latent of the step, and N = `revive_below`.
            It has to lie well below the latents of a step over K, or used codes are replaced too, which
            warns. None: codes that are not used stay, as studies of the number of codes want it.

    Raises:
        ValueError: At construction, if a field is out of range.

    Source:
        van den Oord et al., arXiv 1711.00937, appendix A; start and revival: Łańcucki et al.,
        arXiv 2005.08520.
    """

    decay: float = 0.99
    eps: float = 1e-5
    kmeans_init: bool = True
    kmeans_iterations: int = 10
    revive_below: float | None = 2.0

    def __post_init__(self) -> None:
        """Check each field."""
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be within [0, 1), got {self.decay}.")
        if not 0 <= self.eps < math.inf:
            raise ValueError(f"eps must be finite and not negative, got {self.eps}.")
        check_at_least(self, 1, "kmeans_iterations")
        if self.revive_below is not None and not 0 < self.revive_below < math.inf:
            raise ValueError(f"revive_below must be positive, or None, got {self.revive_below}.")


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """Codes are trained by the codebook loss ‖sg(z) − e‖².

    Attributes:
        weight: Of the codebook loss, not negative.

    Raises:
        ValueError: At construction, if the weight is negative or not finite.

    Source:
        van den Oord et al., arXiv 1711.00937.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        """Check the weight."""
        _check_weight(self.weight)


@dataclass(frozen=True, kw_only=True)
class SimVQ:
    """The table is a fixed random one times a learned matrix: each step moves all codes, used or not.

    Attributes:
        weight: Of the codebook loss ‖sg(z) − e‖², not negative.

    Raises:
        ValueError: At construction, if the weight is negative or not finite.

    Source:
        Zhu et al., arXiv 2411.02038; the matrix starts as the identity here.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        """Check the weight."""
        _check_weight(self.weight)


Update = EMA | Gradient | SimVQ


def _check_weight(weight: float) -> None:
    if not 0 <= weight < math.inf:
        raise ValueError(f"weight must be finite and not negative, got {weight}.")
