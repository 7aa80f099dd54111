"""What a vocabulary is worth on clips that it was not trained on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

import torch
from nops_diagnostics import CodebookUsage, TokenInformation, codebook_usage, token_information
from nops_models import VQVAE, kmeans
from torch import Tensor

from noa.features import FeatureSet
from noa.token_task import left_to_quantize, quantizers_of, token_names

ITERATIONS = 50  # of k-means
BINS = 4  # of each parameter, for the information that tokens have of it


@final
@dataclass(frozen=True, kw_only=True)
class TokenEvaluation:
    """Figures on held-out clips; errors are in units of the features' training variance.

    Attributes:
        tokens: Names, category by category.
        num_codes: Of each token's table.
        usage: Of each token's table.
        distortion: Mean squared distance of latents from their codes, summed over their width, per token.
        kmeans: The same with the k-means of the training latents, of as many codes.
        reconstruction: Mean squared error, "all" and by category.
        trivial: The same of the training mean of each column.
        commitment: Mean squared distance of latents from codes, per entry.
        information: Of each token about each parameter; None where trajectories have none.
    """

    tokens: tuple[str, ...]
    num_codes: tuple[int, ...]
    usage: tuple[CodebookUsage, ...]
    distortion: Tensor
    kmeans: Tensor
    reconstruction: dict[str, float]
    trivial: dict[str, float]
    commitment: float
    information: TokenInformation | None

    def as_plain(self) -> dict[str, Any]:
        """Tensors, numbers, strings, lists and dictionaries."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "TokenEvaluation":
        """The evaluation that `as_plain` gave."""
        information = plain["information"]
        rebuilt = {
            "usage": tuple(CodebookUsage(**one) for one in plain["usage"]),
            "information": None if information is None else TokenInformation(**information),
        }
        return cls(**{**plain, **rebuilt})

    def summary(self) -> dict[str, Any]:
        """Figures for `summary.json`."""
        return {
            "reconstruction": self.reconstruction,
            "commitment": self.commitment,
            "tokens": {row["token"]: row for row in self.rows()},
        }

    def baselines(self) -> dict[str, Any]:
        """Errors of trivial rivals: the mean of each column, and k-means tables."""
        kmeans = dict(zip(self.tokens, self.kmeans.tolist(), strict=True))
        return {"mean": self.trivial, "kmeans_distortion": kmeans}

    def rows(self) -> list[dict[str, Any]]:
        """One row per token."""
        return [
            {
                "token": name,
                "codes": num_codes,
                "utilisation": usage.utilisation,
                "perplexity": usage.perplexity,
                "entropy_bits": usage.bits,
                "dead": usage.dead,
                "distortion": own,
                "kmeans": rival,
                "ratio": own / rival if rival > 0 else float("nan"),
            }
            for name, num_codes, usage, own, rival in zip(
                self.tokens,
                self.num_codes,
                self.usage,
                self.distortion.tolist(),
                self.kmeans.tolist(),
                strict=True,
            )
        ]


@torch.no_grad()
def evaluate_tokens(model: VQVAE, features: FeatureSet, *, seed: int) -> TokenEvaluation:
    """Score a VQ-VAE in eval mode on the test split.

    Args:
        model: On the CPU.
        features: Of all splits.
        seed: Of the k-means starts and of the shuffled trajectories.
    """
    held, trained = features.rows("test"), features.rows("train")
    found, quantizers = model(held), quantizers_of(model)
    rows = left_to_quantize(model, found.latents, found.codes)
    before = model(trained)
    known = left_to_quantize(model, before.latents, before.codes)
    sizes = tuple(quantizer.num_codes for quantizer in quantizers)
    squares = (found.reconstruction - held).square()
    apart = torch.cat(found.latents, -1) - torch.cat(found.codes, -1)
    return TokenEvaluation(
        tokens=tuple(token_names(model)),
        num_codes=sizes,
        usage=tuple(
            codebook_usage(index, num_codes=count)
            for index, count in zip(found.indices.T, sizes, strict=True)
        ),
        distortion=torch.stack(
            [one(row).distance.mean() for one, row in zip(quantizers, rows, strict=True)]
        ),
        kmeans=torch.stack(
            [
                kmeans_distortion(old, new, num_codes=count, seed=seed)
                for old, new, count in zip(known, rows, sizes, strict=True)
            ]
        ),
        reconstruction=by_category(squares, model.config.categories),
        trivial=by_category((held - trained.mean(0)).square(), model.config.categories),
        commitment=float(apart.square().mean()),
        information=_information(found.indices, features, sizes, seed=seed),
    )


def by_category(squares: Tensor, categories: Mapping[str, Any]) -> dict[str, float]:
    """Mean over all columns, and over those of each category."""
    parts = {name: squares[:, list(columns)] for name, columns in categories.items()}
    return {name: float(part.mean()) for name, part in {"all": squares, **parts}.items()}


@torch.no_grad()
def kmeans_distortion(trained: Tensor, held: Tensor, *, num_codes: int, seed: int) -> Tensor:
    """Mean squared distance of held-out vectors from the k-means of training vectors.

    Centres are no more than there are training vectors. Of several ranks one may do this alone: a
    quantizer in training would wait for the others.
    """
    centres, _ = kmeans(
        trained,
        num_codes=min(num_codes, len(trained)),
        iterations=ITERATIONS,
        unit=False,
        generator=torch.Generator().manual_seed(seed),
    )
    nearest = centres[torch.cdist(held, centres).argmin(1)]
    return (held - nearest).square().sum(1).mean()


def _information(
    tokens: Tensor, features: FeatureSet, sizes: tuple[int, ...], *, seed: int
) -> TokenInformation | None:
    parameters = features.parameters["test"]
    if not parameters.shape[1]:
        return None
    held = tokens.unflatten(0, features.values["test"].shape[:2])
    bins = min(BINS, len(parameters))
    return token_information(held, parameters, num_codes=sizes, bins=bins, seed=seed)
