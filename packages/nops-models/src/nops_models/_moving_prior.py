"""A prior that follows the posterior's moments."""

import torch
from torch import Tensor, nn

VARIANCE_RANGE = (
    1e-3,
    50.0,
)  # a posterior that collapses or explodes does not take the prior along


class MovingPrior(nn.Module):
    """Moving mean and variance of the mixture of all posteriors, N(0, 1) at the start.

    An update is made at once, or, after `defer_updates`, staged until `apply_update`: micro-batches
    then count as one batch, and `discard_update` forgets them. In several processes of one
    `torch.distributed` group all make each update together, of all their samples.

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
        self._staged: Tensor | None = None
        self._deferred = False

    @torch.no_grad()
    def update(self, mean: Tensor, lnvar: Tensor) -> None:
        """Take posteriors N(m, e^l), (sample, latent), into account."""
        shift = mean.detach().to(self.mean) - self.mean  # sums about the old mean keep their digits
        squares = shift.square() + lnvar.detach().to(self.mean).exp()
        count = shift.new_full((1, shift.shape[1]), len(shift))
        sums = torch.cat([count, shift.sum(0, keepdim=True), squares.sum(0, keepdim=True)])
        self._staged = sums if self._staged is None else self._staged + sums
        if not self._deferred:
            self.apply_update()

    def defer_updates(self) -> None:
        """From now on, wait for `apply_update`."""
        self._deferred = True

    @torch.no_grad()
    def apply_update(self) -> None:
        """Move by what is staged, if anything is."""
        grouped = torch.distributed.is_available() and torch.distributed.is_initialized()
        if self._staged is None and not grouped:
            return
        sums = self.mean.new_zeros(3, len(self.mean)) if self._staged is None else self._staged
        self._staged = None
        if grouped:
            torch.distributed.all_reduce(sums)
        self._move(*sums)

    def discard_update(self) -> None:
        """Forget what is staged."""
        self._staged = None

    def _move(self, count: Tensor, shift: Tensor, squares: Tensor) -> None:
        some = count > 0
        count = count.clamp(min=1)
        mean = self.mean + shift / count
        variance = squares / count - (shift / count).square()
        kept = self.variance.lerp(variance, 1 - self.decay).clamp(*VARIANCE_RANGE)
        self.variance.copy_(torch.where(some, kept, self.variance))
        self.mean.copy_(torch.where(some, self.mean.lerp(mean, 1 - self.decay), self.mean))
