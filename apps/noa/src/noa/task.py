"""What the engine trains and validates: windows of rollouts, in normalised units."""

from collections.abc import Iterator, Mapping

import torch
from nops_losses import initial_condition_loss, trajectory_loss
from nops_models import UAFNO
from nops_train import Window, truncated_bptt
from torch import Tensor

from noa.config import RolloutConfig

Batch = Mapping[str, Tensor]


class RolloutTask:
    """Terms `traj` (the window) and `ic` (the first step from the initial field).

    Batches hold normalised `frames` [B, window + 1, C, H, W] (all frames for the modes that start
    at the initial field), `parameters` [B, P], and `initial` [B, 2, C, H, W] where `ic` is active.
    """

    def __init__(self, model: UAFNO, *, rollout: RolloutConfig) -> None:
        self.model = model
        self.rollout = rollout

    def losses(
        self, batch: Batch, *, epoch: int, step: int, active: frozenset[str]
    ) -> Iterator[dict[str, Tensor]]:
        """One dictionary per window; the engine back-propagates each before asking for the next.

        The first also holds `ic`, so that a rule that balances gradients sees every term at once.
        """
        terms = {"ic": self._first_step(batch)} if "ic" in active else {}
        for window in self._windows(batch) if "traj" in active else ():
            terms["traj"] = window.weight * trajectory_loss(window.pred, window.target)
            del window  # it holds the graph
            yield terms
            terms = {}
        if terms:
            yield terms

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """`nmse` [B]: squared error of the whole rollout from the initial field.

        Over the training split's mean square, which is 1 in normalised units: dividing by each
        sample's own power would let the few whose field dies out decide.
        """
        target = batch["frames"][:, 1:]
        pred = self.model.rollout(
            batch["frames"][:, 0], batch["parameters"], num_steps=target.shape[1]
        )
        return {"nmse": (pred - target).square().flatten(1).mean(1)}

    def images(self, batch: Batch) -> dict[str, Tensor]:
        """Truth, rollout and error at the last lead of the first trajectory, one channel, [1, H, W].

        Truth and rollout share the scale, from the least to the greatest value of the truth; the
        error is the absolute one in units of that range.
        """
        frames = batch["frames"][:1]
        steps = frames.shape[1] - 1
        pred = self.model.rollout(frames[:, 0], batch["parameters"][:1], num_steps=steps)
        channel = min(frames.shape[2] - 1, 1)
        truth, last = frames[0, -1, channel].float(), pred[0, -1, channel].float()
        low = truth.min()
        span = (truth.max() - low).clamp_min(torch.finfo(torch.float32).tiny)
        shown = {
            "truth": (truth - low) / span,
            "rollout": (last - low) / span,
            "error": (last - truth).abs() / span,
        }
        return {f"lead_{steps}/{name}": image[None] for name, image in shown.items()}

    def _windows(self, batch: Batch) -> Iterator[Window]:
        frames, parameters = batch["frames"], batch["parameters"]
        mode = self.rollout.mode
        return truncated_bptt(
            lambda state: self.model(state, parameters),
            frames[:, 0],
            frames[:, 1:],
            window=self.rollout.window,
            # the data set has already drawn the start: what it read is the window
            mode="last" if mode == "random_start" else mode,
            checkpoint_every=self.rollout.checkpoint_every,
            num_pushforward=self.rollout.num_pushforward,
        )

    def _first_step(self, batch: Batch) -> Tensor:
        initial = batch["initial"]
        pred = self.model(initial[:, 0], batch["parameters"])
        return initial_condition_loss(pred[:, None], initial[:, 1:2])
