"""Features to tokens and back: a VQ-VAE with categories and levels."""

import abc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nops_models._quantizer import QuantizerOutput, VectorQuantizer
from nops_models._quantizer_residual import ResidualVectorQuantizer
from nops_models._residual_heads import mlp
from nops_models._vqvae_config import VQVAEConfig

ACTIVATION = "gelu"
PARTIAL_HIDDEN = 128


class VQVAEOutput(NamedTuple):
    """One pass through the model, of N categories and L levels; lists are category-major.

    Attributes:
        reconstruction: Of the features from all codes, (sample, feature).
        partial: Of the features from each code alone, (sample, token, feature).
        latents: N·L, before quantisation, (sample, width).
        codes: N·L, (sample, width); residual levels give the sum up to the level.
        indices: Tokens, (sample, N·L).
        commitment_losses: Weighted, (N·L,).
        codebook_losses: Weighted, (N·L,); 0 where tables move by themselves.
    """

    reconstruction: Tensor
    partial: Tensor
    latents: list[Tensor]
    codes: list[Tensor]
    indices: Tensor
    commitment_losses: Tensor
    codebook_losses: Tensor


class VQVAE(nn.Module):
    """Features of each category to L tokens, and all tokens to the features.

    Per category an encoder and, per level, a head with layer norm and a quantizer; a decoder of all codes,
    and for each token one that has its code alone, which keeps every token informative.

    Args:
        config: Categories, levels, sizes.

    Attributes:
        latent_dim: Width of all latents side by side.
        num_tokens: N·L.

    Source:
        van den Oord et al., arXiv 1711.00937; Razavi et al., arXiv 1906.00446.
    """

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        kind = {"parallel": ParallelTokens, "residual": ResidualTokens}[config.structure]
        names = list(config.categories)
        self.categories = nn.ModuleList(kind(config, name, seed=i) for i, name in enumerate(names))
        widths = [width for name in names for width in config.widths(name)]
        self.latent_dim, self.num_tokens = sum(widths), len(widths)
        features, hidden = config.num_features, config.hidden[-1]
        self.decoder = mlp([self.latent_dim, hidden, features], ACTIVATION)
        self.partial = nn.ModuleList(
            mlp([width, PARTIAL_HIDDEN, features], ACTIVATION) for width in widths
        )

    def encode(self, features: Float[Tensor, "sample feature"]) -> list[Tensor]:
        """Latents before quantisation, (sample, width) each: c1 level 0, c1 level 1, …, c2 level 0, ….

        Raises:
            ValueError: If the features have not the columns of the categories.
        """
        if features.ndim != 2 or features.shape[1] != self.config.num_features:
            raise ValueError(
                f"features have shape {tuple(features.shape)}, expected "
                f"(sample, {self.config.num_features})."
            )
        return [z for category in self._parts() for z in category.encode(features)]

    def quantize(self, latents: Sequence[Tensor]) -> list[QuantizerOutput]:
        """What each latent's quantizer makes of it; in training the tables move.

        Raises:
            ValueError: If there is not one latent per token.
        """
        self._check_count("latents", latents)
        levels = self.config.levels
        parts = (latents[i : i + levels] for i in range(0, len(latents), levels))
        pairs = zip(self._parts(), parts, strict=True)
        return [one for category, part in pairs for one in category.quantize(part)]

    def decode(self, codes: Sequence[Tensor]) -> Float[Tensor, "sample feature"]:
        """Features from all codes.

        Raises:
            ValueError: If there is not one code per token.
        """
        self._check_count("codes", codes)
        return self.decoder(torch.cat(list(codes), dim=-1))

    @torch.no_grad()
    def tokens(self, features: Float[Tensor, "sample feature"]) -> Int[Tensor, "sample token"]:
        """Indices of the codes, as in eval: nothing is dropped, no table moves, whatever the mode."""
        with _evaluating(self):
            return _stack([found.index for found in self.quantize(self.encode(features))])

    def forward(self, features: Float[Tensor, "sample feature"]) -> VQVAEOutput:
        """Encode, quantise, decode."""
        latents = self.encode(features)
        found = self.quantize(latents)
        codes = [one.code for one in found]
        partial = [decode(code) for decode, code in zip(self.partial, codes, strict=True)]
        return VQVAEOutput(
            self.decode(codes),
            _stack(partial),
            latents,
            codes,
            _stack([one.index for one in found]),
            torch.stack([one.commitment_loss for one in found]),
            torch.stack([one.codebook_loss for one in found]),
        )

    def _parts(self) -> "list[_Tokens]":
        return [cast("_Tokens", category) for category in self.categories]

    def _check_count(self, name: str, values: Sequence[Tensor]) -> None:
        if len(values) != self.num_tokens:
            raise ValueError(f"{name} needs {self.num_tokens} tensors, got {len(values)}.")


class _Tokens(nn.Module, abc.ABC):
    """One category's part: its columns to latents, its latents to codes."""

    columns: Tensor

    def __init__(self, config: VQVAEConfig, name: str) -> None:
        super().__init__()
        columns = torch.tensor(config.categories[name])
        self.register_buffer("columns", columns, persistent=False)
        self.encoder = mlp([len(columns), *config.hidden], ACTIVATION)
        self.norm = nn.LayerNorm(config.hidden[-1])

    def _hidden(self, features: Tensor) -> Tensor:
        return self.norm(self.encoder(features[:, self.columns]))

    @abc.abstractmethod
    def encode(self, features: Tensor) -> list[Tensor]:
        """A latent per level."""

    @abc.abstractmethod
    def quantize(self, latents: Sequence[Tensor]) -> list[QuantizerOutput]:
        """A code per level."""


class ParallelTokens(_Tokens):
    """Each level with a head and a quantizer of its own."""

    def __init__(self, config: VQVAEConfig, name: str, *, seed: int) -> None:
        super().__init__(config, name)
        widths, sizes = config.widths(name), config.sizes(name)
        self.heads = nn.ModuleList(_head(config, width) for width in widths)
        self.quantizers = nn.ModuleList(
            VectorQuantizer(
                width,
                num_codes=size,
                **vars(config.quantizer),
                seed=seed * config.levels + level,
            )
            for level, (width, size) in enumerate(zip(widths, sizes, strict=True))
        )

    def encode(self, features: Tensor) -> list[Tensor]:
        """A latent per level, each of its width."""
        hidden = self._hidden(features)
        return [head(hidden) for head in self.heads]

    def quantize(self, latents: Sequence[Tensor]) -> list[QuantizerOutput]:
        """A code per level, independent of each other."""
        pairs = zip(self.quantizers, latents, strict=True)
        return [quantizer(latent) for quantizer, latent in pairs]


class ResidualTokens(_Tokens):
    """One head; each level quantises what the ones before left of its latent."""

    def __init__(self, config: VQVAEConfig, name: str, *, seed: int) -> None:
        super().__init__(config, name)
        width, sizes = config.widths(name)[0], config.sizes(name)
        self.head = _head(config, width)
        shared = {k: v for k, v in vars(config.quantizer).items() if k != "similarity"}
        self.quantizer = ResidualVectorQuantizer(
            width,
            num_quantizers=config.levels,
            num_codes=sizes,
            **shared,
            seed=seed * config.levels,
        )

    def encode(self, features: Tensor) -> list[Tensor]:
        """The one latent, once per level: what the code of each level stands for."""
        latent = self.head(self._hidden(features))
        return [latent] * len(self.quantizer.levels)

    def quantize(self, latents: Sequence[Tensor]) -> list[QuantizerOutput]:
        """A code per level: the sum up to it."""
        return self.quantizer.coarse_to_fine(latents[0])


def _head(config: VQVAEConfig, width: int) -> nn.Sequential:
    linear = nn.Linear(config.hidden[-1], width)
    return nn.Sequential(linear, nn.Dropout(config.head_dropout), nn.LayerNorm(width))


def _stack(values: list[Tensor]) -> Tensor:
    return torch.stack(values, dim=1)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes: list[tuple[Any, bool]] = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
