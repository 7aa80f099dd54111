"""How strongly the spectrum term pulls at a prediction, beside the terms it is mixed with."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from turbulence.config_loss import OWN_GRADIENT, REST_GRADIENT
from turbulence.terms import Function, per_sample

SCALED = "spectrumError"


@dataclass(frozen=True, kw_only=True)
class GradientNorms:
    """Norms of gradients with respect to a prediction, whatever the model behind it.

    With w the weights of the other terms, `rest` is the norm of sum(w grad L) / sum(w), and `own` that of
    the spectrum term's gradient. Scaled by rest / own, the spectrum term has the share w_s / (w_s + sum(w))
    of the sum of both norms, whatever its weight w_s.

    Attributes:
        terms: By name.
        weights: Weights at the end of training, not scaled.
    """

    terms: Mapping[str, Function]
    weights: Mapping[str, float]

    def __call__(self, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The metrics `gradient_spectrum` and `gradient_rest`, `[sample]`, per unit of the prediction.

        Args:
            pred: `[sample, time, channel, height, width]`.
            target: The same shape.
        """
        others = {k: w for k, w in self.weights.items() if k != SCALED and w > 0}
        total = sum(others.values())
        own = self._norm({SCALED: 1.0}, pred, target)
        rest = self._norm({k: w / total for k, w in others.items()}, pred, target)
        return {OWN_GRADIENT: own, REST_GRADIENT: rest}

    def _norm(self, weights: Mapping[str, float], pred: Tensor, target: Tensor) -> Tensor:
        with torch.enable_grad():
            free = pred.detach().requires_grad_()
            parts = [w * per_sample(self.terms[k](free, target)).sum() for k, w in weights.items()]
            (gradient,) = torch.autograd.grad(torch.stack(parts).sum(), free)
        return torch.linalg.vector_norm(gradient.flatten(1), dim=1, dtype=torch.float64)
