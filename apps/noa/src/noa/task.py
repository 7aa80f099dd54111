"""What the engine trains and validates: windows of rollouts, in normalised units."""

from collections.abc import Callable, Iterator, Mapping

import torch
from nops_losses import initial_condition_loss, trajectory_loss
from nops_models import UAFNO
from nops_train import Window, truncated_bptt
from torch import Tensor

from noa.config import RolloutConfig
from noa.token_terms import Recorder, TokenTerms

Batch = Mapping[str, Tensor]


class RolloutTask:
    """Terms `traj` (the window) and `ic` (the first step from the initial field).

    Batches hold normalised `frames` [B, window + 1, C, H, W] (all frames for the modes that start
    at the initial field), `parameters` [B, P], and `initial` [B, 2, C, H, W] where `ic` is active, with one
    frame at least where there are tokens.

    Args:
        model: The surrogate.
        rollout: How it is rolled out.
        tokens: Terms `commit` and `latent` of each window that holds a clip; None for neither.
    """

    def __init__(
        self, model: UAFNO, *, rollout: RolloutConfig, tokens: TokenTerms | None = None
    ) -> None:
        self.model = model
        self.rollout = rollout
        self.tokens = tokens

    def losses(
        self, batch: Batch, *, epoch: int, step: int, active: frozenset[str]
    ) -> Iterator[dict[str, Tensor]]:
        """One dictionary per window; the engine back-propagates each before asking for the next.

        The first also holds `ic`, so that a rule that balances gradients sees every term at once.
        """
        terms = {"ic": self._first_step(batch)} if "ic" in active else {}
        recorder = self._recorder(batch, bottlenecks="latent" in active)
        for window in self._windows(batch, recorder) if active - {"ic"} else ():
            if "traj" in active:
                terms["traj"] = window.weight * trajectory_loss(window.pred, window.target)
            terms |= self._token_terms(batch, window, recorder, active)
            del window  # it holds the graph
            yield terms
            terms = {}
            if isinstance(recorder, Recorder):
                recorder.listen()
        if terms:
            yield terms

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """`nmse` [B]: squared error of the whole rollout from the initial field.

        Over the training split's mean square, which is 1 in normalised units: dividing by each
        sample's own power would let the few whose field dies out decide. With tokens also `token_commit`
        [B], of the rollout's last clip, and `truth_commit` [B], of the truth's.
        """
        frames = batch["frames"]
        initial, target = frames[:, 0], frames[:, 1:]
        pred = self.model.rollout(initial, batch["parameters"], num_steps=target.shape[1])
        found = {"nmse": (pred - target).square().flatten(1).mean(1)}
        if self.tokens is None:
            return found
        return {
            **found,
            "token_commit": self.tokens.commitment(pred, initial),
            "truth_commit": self.tokens.commitment(target, initial),
        }

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

    def _recorder(self, batch: Batch, *, bottlenecks: bool) -> Callable[[Tensor], Tensor]:
        """One step; it keeps its bottlenecks where they are asked for."""
        parameters = batch["parameters"]
        if not bottlenecks:
            return lambda state: self.model(state, parameters)
        return Recorder(
            lambda state: self.model(state, parameters, return_bottleneck=True),
            window=self.rollout.window,
        )

    def _windows(self, batch: Batch, step: Callable[[Tensor], Tensor]) -> Iterator[Window]:
        frames = batch["frames"]
        mode = self.rollout.mode
        return truncated_bptt(
            step,
            frames[:, 0],
            frames[:, 1:],
            window=self.rollout.window,
            # the data set has already drawn the start: what it read is the window
            mode="last" if mode == "random_start" else mode,
            checkpoint_every=self.rollout.checkpoint_every,
            num_pushforward=self.rollout.num_pushforward,
        )

    def _token_terms(
        self,
        batch: Batch,
        window: Window,
        step: Callable[[Tensor], Tensor],
        active: frozenset[str],
    ) -> dict[str, Tensor]:
        """Of a window that holds a clip; of several the mean."""
        steps = window.pred.shape[1]
        kept = step.take(steps) if isinstance(step, Recorder) else []
        if self.tokens is None or steps < self.tokens.clip_length:
            return {}
        found = self.tokens.losses(window.pred, batch["initial"][:, 0], kept, active=active)
        share = self._share(batch["frames"].shape[1] - 1)
        return {name: share * value for name, value in found.items()}

    def _share(self, num_steps: int) -> float:
        """That of one window in the mean over those that hold a clip."""
        if self.rollout.mode != "sequential" or self.tokens is None:
            return 1.0
        whole, rest = divmod(num_steps, self.rollout.window)
        return 1 / (whole + (rest >= self.tokens.clip_length))

    def _first_step(self, batch: Batch) -> Tensor:
        initial = batch["initial"]
        pred = self.model(initial[:, 0], batch["parameters"])
        return initial_condition_loss(pred[:, None], initial[:, 1:2])
