"""Trajectories to tokens: a trained VQ-VAE with the features that it was trained on."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from nops_data import Normaliser
from nops_diagnostics import Codebook, FeatureExtractor
from nops_models import VQVAE, VQVAEConfig
from nops_train import InputError, RunFolder, load_checkpoint, load_weights
from torch import Tensor

from noa.features import FEATURES, FeatureSet, check_same_features, restored_extractor
from noa.token_task import quantizers_of, token_names


@final
class Definition:
    """What tokens are made with, besides weights: stored in each checkpoint, and never another.

    Args:
        extractor: Of the features, fitted.
        vqvae: Sizes of the VQ-VAE.
        channels: Of the fields.
    """

    def __init__(
        self, extractor: FeatureExtractor, vqvae: VQVAEConfig, *, channels: Sequence[str]
    ) -> None:
        self._state = {
            "extractor": extractor.state_dict(),
            "vqvae": vqvae.to_dict(),
            "channels": list(channels),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything, in plain values and tensors."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Refuse what is another.

        Raises:
            InputError: If the features, sizes or channels are not those of `state`.
        """
        check_same_features(state["extractor"], self._state["extractor"], where="this run")
        for name in ("vqvae", "channels"):
            if state[name] != self._state[name]:
                raise InputError(f"this run has {name} {state[name]}, found {self._state[name]}")


@final
class Vocabulary:
    """Clips to features, features to latents and tokens; frozen, and the same for truth and model.

    Features are standardised, dimensionless; `B` counts clips, `F` features, `N·L` tokens.

    Attributes:
        path: Of the run.
        model: The VQ-VAE in eval mode, without gradients of its own. Any module will do whose `encode`
            returns a list of latents.
        extractor: Of the features.
        normaliser: Of the fields that the extractor sees.
        channels: Of the fields.
        latent_dim: Width of all latents side by side.
    """

    def __init__(
        self,
        model: VQVAE,
        extractor: FeatureExtractor,
        normaliser: Normaliser,
        *,
        channels: Sequence[str],
        path: Path,
    ) -> None:
        self.path, self.channels = path, tuple(channels)
        self.model = model.eval().requires_grad_(False)
        self.extractor, self.normaliser = extractor, normaliser
        self._state = extractor.state_dict()
        with torch.no_grad():
            found = self.model.encode(torch.zeros(1, len(extractor.names)))
        self.latent_dim = sum(latent.shape[1] for latent in found)

    @property
    def clip_length(self) -> int:
        """Frames of a clip."""
        return int(self._state["fit"]["clip_length"])

    @property
    def names(self) -> tuple[str, ...]:
        """Of the features."""
        return self.extractor.names

    @property
    def version(self) -> str:
        """Of the features' definitions."""
        return self.extractor.version

    @property
    def token_names(self) -> tuple[str, ...]:
        """Category and level of each token."""
        return tuple(token_names(self.model))

    @property
    def categories(self) -> dict[str, tuple[int, ...]]:
        """Columns of each category."""
        return {name: tuple(columns) for name, columns in self.model.config.categories.items()}

    @property
    def num_codes(self) -> tuple[int, ...]:
        """Codes of each token's table."""
        return tuple(quantizer.num_codes for quantizer in quantizers_of(self.model))

    def to(self, device: torch.device | str) -> "Vocabulary":
        """The same, its VQ-VAE moved to a device."""
        self.model.to(device)
        return self

    def features(self, clips: Tensor, initial: Tensor | None = None) -> Tensor:
        """Features of clips `[B, F]`, differentiable by the clips where the extractor is.

        Args:
            clips: Fields in the data's units `[B, clip_length, channel, height, width]`.
            initial: Initial states of the trajectories that the clips are of `[B, channel, height, width]`;
                None where the clips start with them.

        Raises:
            ValueError: If the clips have another length or other channels.
        """
        normalise = self.normaliser.normalise
        start = clips[:, 0] if initial is None else initial
        with torch.autocast(clips.device.type, enabled=False):
            return self.extractor(normalise(clips.float()), normalise(start.float()))

    def latents(self, features: Tensor) -> list[Tensor]:
        """Latents before quantisation, one per token `[B, width]`, category by category."""
        with torch.autocast(features.device.type, enabled=False):
            return self.model.encode(features)

    def codes(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """The codes that stand for latents, of their shapes."""
        with torch.autocast(latents[0].device.type, enabled=False):
            return [found.code for found in self.model.quantize(latents)]

    def tokens(self, features: Tensor) -> Tensor:
        """Tokens `[B, N·L]`, int64."""
        return self.model.tokens(features)

    @torch.no_grad()
    def reconstruct(self, features: Tensor) -> Tensor:
        """What the tokens of features decode to `[B, F]`."""
        return self.model.decode(self.codes(self.latents(features)))

    def state(self) -> dict[str, Any]:
        """Of the extractor: what others check theirs against."""
        return self._state

    def fingerprint(self) -> dict[str, str]:
        """What identifies features and weights: that of another vocabulary is another."""
        digest = hashlib.sha256(self.extractor.fingerprint.encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return {"alignment.vqvae": digest.hexdigest()}

    def check_features(self, state: Mapping[str, Any], *, where: str) -> None:
        """Refuse an extractor that gives other features than those of the vocabulary.

        Raises:
            InputError: With a table of what differs.
        """
        check_same_features(self._state, state, where=f"{self.path} and {where}")


def load_vocabulary(path: Path | str) -> Vocabulary:
    """The vocabulary of a run of `noa train-vqvae`, with its best weights, on the CPU.

    Raises:
        InputError: If it is no such run, or its features are defined otherwise in this version.
        CheckpointError: If its checkpoint is damaged.
    """
    run = RunFolder.at(path)
    check_kind(run.path, tokens=True)
    if run.checkpoints.newest() is None:
        raise InputError(f"{run.path}: holds no checkpoint yet; `noa train-vqvae` goes on with it")
    stateful: Any = load_checkpoint(run.checkpoints.path)["stateful"]
    held = stateful["tokens"]
    extractor = restored_extractor(held["extractor"], where=str(run.path))
    model = VQVAE(VQVAEConfig.from_dict(held["vqvae"]))
    found, expected = len(extractor.names), model.config.num_features
    if found != expected:
        raise InputError(f"{run.path}: {found} columns of features, and a VQ-VAE of {expected}")
    load_weights(model, run.path)
    return Vocabulary(
        model,
        extractor,
        stored_normaliser(stateful["normaliser"]),
        channels=held["channels"],
        path=run.path,
    )


def stored_normaliser(state: Mapping[str, Any]) -> Normaliser:
    """The normaliser of a checkpoint."""
    tensors = {name: value for name, value in state.items() if name != "channels"}
    return Normaliser(channels=tuple(state["channels"]), **tensors)


def check_kind(folder: Path, *, tokens: bool) -> None:
    """Refuse a run of the other training.

    Args:
        folder: Of a run, or of one to be made.
        tokens: Whether a run of `train-vqvae` is expected, or else one of `train`.

    Raises:
        InputError: Naming the command that the run is of.
    """
    if not (folder / "checkpoints").is_dir() or (folder / FEATURES).is_file() == tokens:
        return
    other, own = ("train", "train-vqvae") if tokens else ("train-vqvae", "train")
    raise InputError(
        f"{folder}: a run of `noa {other}`, expected one of `noa {own}`; choose another with --name"
    )


@torch.no_grad()
def load_vqvae_codebook(path: Path | str) -> Codebook:
    """The codes of a run of `noa train-vqvae`, as `nops_diagnostics.compute_alignment` compares them.

    A code's signature is what it decodes to with the other tokens at their mean latent over the
    training clips; it counts as often as they use it.

    Raises:
        InputError: If it is no such run, or its files do not belong together.
        CheckpointError: If its checkpoint is damaged.
    """
    vocabulary = load_vocabulary(path)
    held = FeatureSet.load(Path(path) / FEATURES)
    vocabulary.check_features(held.state, where=FEATURES)
    rows = held.rows("train")
    means = [latent.mean(0) for latent in vocabulary.latents(rows)]
    tokens = vocabulary.tokens(rows)
    signatures, counts = [], []
    for place, num_codes in enumerate(vocabulary.num_codes):
        signatures.append(vocabulary.model.decode(with_each_code(vocabulary, means, place)))
        counts.append(torch.bincount(tokens[:, place], minlength=num_codes))
    return Codebook(
        names=vocabulary.names,
        signatures=torch.cat(signatures),
        counts=torch.cat(counts),
        tokens=tokens,
        num_codes=vocabulary.num_codes,
    )


def with_each_code(vocabulary: Vocabulary, means: list[Tensor], place: int) -> list[Tensor]:
    """Mean latents of all tokens `[code, width]`, but each code of one table in its place."""
    model = vocabulary.model
    table = quantizers_of(model)[place].codebook
    given = [mean.expand(len(table), -1).clone() for mean in means]
    if model.config.structure == "residual" and place % model.config.levels:
        table = table + means[place]  # what a later level adds to the latent
    given[place] = table
    return given
