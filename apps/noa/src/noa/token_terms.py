"""Tokens in the loop: what a frozen VQ-VAE says about the clips that a surrogate predicts."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast, final

import torch
from nops_data import Normaliser
from nops_losses import commitment_loss, latent_alignment_loss, sample_steps
from nops_models import UAFNO, LatentProjector
from nops_train import InputError, check_inert_terms
from torch import Tensor

from noa.config import NoaConfig
from noa.vocabulary import Vocabulary, load_vocabulary

TERMS = frozenset({"commit", "latent"})
PROJECTOR = "projector"


@final
class TokenTerms:
    """Terms `commit` and `latent` of a window of predicted states.

    `commit` is the mean (z − sg e)² of the latents z of the window's last frames, and of their codes e;
    `latent` the squared distance of the mean projected bottleneck over some steps from sg z.

    Args:
        vocabulary: Frozen.
        normaliser: Of the states that the surrogate predicts.
        projector: Of bottlenecks, trained with the surrogate; None where `latent` is off.
        count: Steps of a window whose bottlenecks are read; −1 for all.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        normaliser: Normaliser,
        projector: LatentProjector | None,
        count: int,
    ) -> None:
        self.vocabulary, self.projector = vocabulary, projector
        self._normaliser, self._count = normaliser, count

    @property
    def clip_length(self) -> int:
        """Frames that a window needs to have terms."""
        return self.vocabulary.clip_length

    def losses(
        self,
        pred: Tensor,
        initial: Tensor,
        bottlenecks: Sequence[Tensor],
        *,
        active: frozenset[str],
    ) -> dict[str, Tensor]:
        """The active terms of a window.

        Args:
            pred: Predicted states, normalised `[sample, time, channel, height, width]`.
            initial: Initial states of the trajectories, normalised `[sample, channel, height, width]`.
            bottlenecks: Of the step before each of them `[sample, feature, height, width]`.
            active: Terms to compute.
        """
        if not active & TERMS:
            return {}
        with torch.set_grad_enabled(torch.is_grad_enabled() and "commit" in active):
            latents = self.latents(pred, initial)
        found = {}
        if "commit" in active:
            found["commit"] = commitment_loss(latents, self.codes(latents))
        if "latent" in active:
            projected = self.projected(bottlenecks)
            found["latent"] = latent_alignment_loss(projected, torch.cat(latents, -1))
        return found

    def latents(self, pred: Tensor, initial: Tensor) -> list[Tensor]:
        """Latents of the last frames of predicted states."""
        clip = pred[:, -self.clip_length :]
        back = self._normaliser.denormalise
        return self.vocabulary.latents(
            self.vocabulary.features(back(clip.float()), back(initial.float()))
        )

    @torch.no_grad()
    def commitment(self, states: Tensor, initial: Tensor) -> Tensor:
        """Mean (z − e)² of the last clip of each sample `[sample]`."""
        latents = self.latents(states, initial)
        apart = torch.cat(latents, -1) - torch.cat(self.codes(latents), -1)
        return apart.square().mean(1)

    @torch.no_grad()
    def codes(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """Codes that stand for latents; no gradient is theirs."""
        return self.vocabulary.codes([latent.detach() for latent in latents])

    def projected(self, bottlenecks: Sequence[Tensor]) -> Tensor:
        """Projected bottlenecks of some steps of a window `[sample, step, latent]`."""
        assert self.projector is not None
        window = len(bottlenecks)
        steps = sample_steps(window, min(self._count, window))
        return self.projector(torch.stack([bottlenecks[step] for step in steps], dim=1))


@final
class Recorder:
    """A surrogate's step that keeps the bottlenecks of the last window.

    Args:
        step: State to next state and bottleneck.
        window: Steps of a window.
    """

    def __init__(self, step: Callable[[Tensor], tuple[Tensor, Tensor]], *, window: int) -> None:
        self._step = step
        self._kept: deque[Tensor] = deque(maxlen=window)
        self._listening = True  # not while the backward pass computes a step again

    def __call__(self, state: Tensor) -> Tensor:
        """The next state."""
        following, bottleneck = self._step(state)
        if self._listening:
            self._kept.append(bottleneck)
        return following

    def take(self, count: int) -> list[Tensor]:
        """Bottlenecks of the last steps, and none is kept until `listen`."""
        found = list(self._kept)[-count:]
        self._kept.clear()
        self._listening = False
        return found

    def listen(self) -> None:
        """Keep those of the steps to come."""
        self._listening = True


def settle_tokens(
    config: NoaConfig, *, explicit: Any = (), channels: Sequence[str]
) -> tuple[NoaConfig, Vocabulary | None]:
    """The configuration with the clip of its VQ-VAE, and that vocabulary; None without one.

    Args:
        config: As settled by the data.
        explicit: Keys that the user gave.
        channels: Of the data.

    Raises:
        InputError: If there is no such run, its features are others, or its clips longer than a window.
    """
    path = config.alignment.vqvae
    if path is None:
        return config, None
    vocabulary = _named_vocabulary(path)
    held, wanted = vocabulary.state(), config.features
    rows = {
        "features.clip": (vocabulary.clip_length, wanted.clip),
        "features.channels": (held["channels"], wanted.channels),
    }
    pairs = {key: pair for key, pair in rows.items() if key in explicit}
    pairs["channels"] = (list(vocabulary.channels), list(channels))
    said = [f"  {key}: {a}, expected {b}" for key, (a, b) in pairs.items() if a != b]
    if said:
        raise InputError("\n".join([f"alignment.vqvae: {path} does not fit this run:", *said]))
    if vocabulary.clip_length > config.rollout.window:
        raise InputError(
            f"rollout.window = {config.rollout.window} is shorter than features.clip = "
            f"{vocabulary.clip_length}, the clips of alignment.vqvae: {path}"
        )
    own = {"clip": vocabulary.clip_length, "channels": held["channels"]}
    settled = config.model_copy(update={"features": wanted.model_copy(update=own)})
    return settled, vocabulary


def _named_vocabulary(path: str) -> Vocabulary:
    try:
        return load_vocabulary(path)
    except InputError as error:
        raise InputError(f"alignment.vqvae: {error}") from error


def attach_projector(model: UAFNO, config: NoaConfig, vocabulary: Vocabulary | None) -> None:
    """Give the surrogate a projector where the loss needs one: it is trained, saved and loaded with it."""
    if vocabulary is not None and config.term_weights().get("latent", 0) > 0:
        width = model.config.level_channels[-1]
        model.add_module(PROJECTOR, LatentProjector(width, vocabulary.latent_dim))


def projector_of(model: UAFNO) -> LatentProjector | None:
    """The projector of a surrogate that has one."""
    return cast("LatentProjector | None", getattr(model, PROJECTOR, None))


def check_projector(loss: Tensor, projector: LatentProjector) -> None:
    """Refuse a projector that `latent` would not train.

    Args:
        loss: The term of a batch, with its graph.
        projector: With the parameters that the optimizer holds.

    Raises:
        InertTermError: If no parameter of it is reached.
    """
    trained = {
        f"{PROJECTOR}.{name}": value
        for name, value in projector.named_parameters()
        if value.requires_grad
    }
    check_inert_terms({"latent": loss}, trained, enabled=("latent",))
