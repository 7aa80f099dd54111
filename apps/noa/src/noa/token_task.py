"""What the engine trains and validates of a VQ-VAE: features to tokens and back."""

from collections.abc import Mapping
from typing import final

import torch
from nops_diagnostics import codebook_usage
from nops_losses import (
    code_entropy_loss,
    commitment_loss,
    orthogonality_loss,
    topographic_loss,
)
from nops_models import VQVAE, VectorQuantizer, VQVAEOutput
from torch import Tensor

Batch = Mapping[str, Tensor]


@final
class TokenTask:
    """Terms of the VQ-VAE's loss; reconstruction and use of codes to validate by.

    Batches hold `features` [B, F], standardised.

    Args:
        model: The VQ-VAE; its quantizers' commitment weights do not count, the terms' weights do.
    """

    def __init__(self, model: VQVAE) -> None:
        self.model = model

    def losses(
        self, batch: Batch, *, epoch: int, step: int, active: frozenset[str]
    ) -> dict[str, Tensor]:
        """The active terms."""
        del epoch, step
        features = batch["features"]
        found = self.model(features)
        terms = {
            "reconstruction": lambda: (found.reconstruction - features).square().mean(),
            "commitment": lambda: commitment_loss(found.latents, found.codes),
            "partial": lambda: (found.partial - features[:, None]).square().mean(),
            "orthogonality": lambda: orthogonality_loss(self.by_category(found.latents)),
            "topographic": lambda: topographic_loss(
                features, torch.cat(found.latents, -1), torch.cat(found.codes, -1)
            ),
            "entropy": lambda: self._entropy(found),
        }
        return {name: term() for name, term in terms.items() if name in active}

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """Squared error of the features per clip [B], in all and by category, in their variance.

        Also `commitment` [B], and over the batch, means over the quantizers: `utilisation` of their codes,
        `perplexity`.
        """
        features = batch["features"]
        found = self.model(features)
        squares = (found.reconstruction - features).square()
        apart = torch.cat(found.latents, -1) - torch.cat(found.codes, -1)
        usage = [
            codebook_usage(index, num_codes=quantizer.num_codes)
            for index, quantizer in zip(found.indices.T, quantizers_of(self.model), strict=True)
        ]
        categories = self.model.config.categories
        return {
            "reconstruction": squares.mean(1),
            **{
                f"reconstruction_{name}": squares[:, list(columns)].mean(1)
                for name, columns in categories.items()
            },
            "commitment": apart.square().mean(1),
            "utilisation": torch.tensor([one.utilisation for one in usage]).mean(),
            "perplexity": torch.tensor([one.perplexity for one in usage]).mean(),
        }

    def by_category(self, values: list[Tensor]) -> list[Tensor]:
        """Values of tokens, those of a category side by side; residual levels share one latent."""
        config = self.model.config
        levels = config.levels
        parts = [values[i : i + levels] for i in range(0, len(values), levels)]
        shared = config.structure == "residual"
        return [part[0] if shared else torch.cat(part, -1) for part in parts]

    def _entropy(self, found: VQVAEOutput) -> Tensor:
        rows = left_to_quantize(self.model, found.latents, found.codes)
        pairs = zip(rows, quantizers_of(self.model), strict=True)
        return torch.stack(
            [code_entropy_loss(row, quantizer.codebook.detach()) for row, quantizer in pairs]
        ).mean()


def quantizers_of(model: VQVAE) -> list[VectorQuantizer]:
    """One per token, in the order of tokens."""
    return [part for part in model.categories.modules() if isinstance(part, VectorQuantizer)]


def left_to_quantize(model: VQVAE, latents: list[Tensor], codes: list[Tensor]) -> list[Tensor]:
    """What each token's quantizer is given: the latent, less what residual levels before took of it."""
    if model.config.structure == "parallel":
        return list(latents)
    levels = model.config.levels
    return [
        latent if place % levels == 0 else latent - codes[place - 1].detach()
        for place, latent in enumerate(latents)
    ]


def token_names(model: VQVAE) -> list[str]:
    """Category and level of each token, in their order."""
    config = model.config
    return [f"{name} · {level}" for name in config.categories for level in range(config.levels)]
