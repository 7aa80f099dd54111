"""A prior that follows the posterior's moments."""

import torch
from torch import Tensor

from nops_models._staged import StagedUpdate

VARIANCE_RANGE = (
    1e-3,
    50.0,
)  # a posterior that collapses or explodes does not take the prior along


class MovingPrior(StagedUpdate):
    """Moving mean and variance of the mixture of all posteriors, N(0, 1) at the start.

    Updates are staged as `StagedUpdate` says.

    Args:
        width: Latents.
        decay: Share of the old moments that stays, per update.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    @torch.no_grad()
    def update(self, mean: Tensor, lnvar: Tensor) -> None:
        """Take posteriors N(m, e^l), (sample, latent), into account."""
        shift = mean.detach().to(self.mean) - self.mean  # sums about the old mean keep their digits
        squares = shift.square() + lnvar.detach().to(self.mean).exp()
        count = shift.new_full((1, shift.shape[1]), len(shift))
        self._stage(torch.cat([count, shift.sum(0, keepdim=True), squares.sum(0, keepdim=True)]))

    def _no_sums(self) -> Tensor:
        return self.mean.new_zeros(3, len(self.mean))

    def _move(self, sums: Tensor) -> None:
        count, shift, squares = sums
        some = count > 0
        count = count.clamp(min=1)
        mean = self.mean + shift / count
        variance = squares / count - (shift / count).square()
        kept = self.variance.lerp(variance, 1 - self.decay).clamp(*VARIANCE_RANGE)
        self.variance.copy_(torch.where(some, kept, self.variance))
        self.mean.copy_(torch.where(some, self.mean.lerp(mean, 1 - self.decay), self.mean))

    def _forget(self) -> None:
        """Nothing is kept beside the sums."""
