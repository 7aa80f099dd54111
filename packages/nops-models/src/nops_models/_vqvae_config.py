"""Sizes and choices of the VQ-VAE."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from nops_models._checks import check_at_least, check_choice, check_share
from nops_models._codebook_rules import EMA, Gradient, SimVQ, Update
from nops_models._estimators import RotationTrick, StraightThrough
from nops_models._quantizer import Similarity, check_quantizer

Structure = Literal["parallel", "residual"]
LEAST_CODES, LEAST_WIDTH, STEP = 6, 4, 4
KINDS = {kind.__name__: kind for kind in (EMA, Gradient, SimVQ, RotationTrick, StraightThrough)}


@dataclass(frozen=True, kw_only=True)
class QuantizerConfig:
    """What all quantizers of a model share; see `VectorQuantizer`.

    Attributes:
        similarity: "euclidean" or "cosine"; residual levels need "euclidean".
        update: How tables move.
        estimator: The gradient of codes by latents.
        commitment_weight: Of the commitment loss.
        code_dim: Width in which latents are compared, or None for their own, as residual levels need.

    Raises:
        ValueError: At construction, if a field is out of range.
    """

    similarity: str = "euclidean"
    update: Update = EMA()
    estimator: RotationTrick | StraightThrough = RotationTrick()
    commitment_weight: float = 0.25
    code_dim: int | None = None

    def __post_init__(self) -> None:
        """Check each field."""
        check_choice("similarity", self.similarity, get_args(Similarity))
        check_quantizer(1, self.code_dim, 1, self.commitment_weight)


@dataclass(frozen=True, kw_only=True)
class VQVAEConfig:
    """Everything that fixes a VQ-VAE's parameters and their use.

    Attributes:
        categories: Columns of the features by name of their category, c1, c2, …; every column of the F
            features belongs to exactly one.
        levels: Tokens L of a category.
        ratios: Width of each level's latents over the number of a category's columns n: the width is
            max(4, 4⌈ratio·n/4⌉). Residual levels all have the widest.
        latent_dims: Width of each level's latents in place of `ratios`; equal ones for "residual".
        codebook_sizes: Codes of each level, for all categories. None: at level 0
            max(min(28, 4.8·√(N/1000)), 4⌊7·log₂(n)/4⌋) rounded down, half as many at each next level,
            and at least 6.
        num_train: N, clips that the model is trained on; sizes the codebooks.
        hidden: Hidden widths of a category's encoder; the last is that of all heads and decoders.
        head_dropout: Share of a latent dropped in training, before its layer norm, within [0, 1).
        structure: "parallel": each level has a head of its own. "residual": one latent per category,
            and each level quantises what the ones before left.
        quantizer: What all quantizers share.

    Raises:
        ValueError: At construction, if a field is out of range or two contradict each other.
    """

    categories: Mapping[str, Sequence[int]]
    levels: int = 3
    ratios: tuple[float, ...] = (0.5, 1.0, 1.5)
    latent_dims: tuple[int, ...] | None = None
    codebook_sizes: tuple[int, ...] | None = None
    num_train: int = 1024
    hidden: tuple[int, ...] = (512, 256)
    head_dropout: float = 0.1
    structure: str = "parallel"
    quantizer: QuantizerConfig = QuantizerConfig()

    def __post_init__(self) -> None:
        """Check each field, then what fields must agree on."""
        columns = {name: tuple(found) for name, found in self.categories.items()}
        object.__setattr__(self, "categories", columns)
        check_at_least(self, 1, "levels", "num_train")
        check_share(self, "head_dropout")
        check_choice("structure", self.structure, get_args(Structure))
        _check_columns(columns)
        _check_levels(self)
        _check_residual(self)

    @property
    def num_features(self) -> int:
        """Columns F of all categories."""
        return sum(len(columns) for columns in self.categories.values())

    def widths(self, category: str) -> tuple[int, ...]:
        """Width of each level's latents in a category."""
        if self.latent_dims is not None:
            return self.latent_dims
        count = len(self.categories[category])
        widths = [max(LEAST_WIDTH, STEP * math.ceil(r * count / STEP)) for r in self.ratios]
        return tuple([max(widths)] * self.levels if self.structure == "residual" else widths)

    def sizes(self, category: str) -> tuple[int, ...]:
        """Codes of each level in a category."""
        if self.codebook_sizes is not None:
            return self.codebook_sizes
        from_clips = min(28.0, 4.8 * math.sqrt(self.num_train / 1000))
        from_columns = STEP * math.floor(7 * math.log2(len(self.categories[category])) / STEP)
        first = int(max(from_clips, from_columns))
        return tuple(max(LEAST_CODES, first >> level) for level in range(self.levels))

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name: numbers, strings, lists, dicts."""
        values = {**vars(self), "quantizer": vars(self.quantizer) | _kinds_of(self.quantizer)}
        return _plain(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "VQVAEConfig":
        """The configuration of plain values; what is absent has its default.

        Raises:
            ValueError: If a name is unknown, or a value is refused.
        """
        known = [field.name for field in fields(cls)]
        if extra := sorted(values.keys() - set(known)):
            raise ValueError(f"unknown {cls.__name__} keys {extra}; known: {known}.")
        given: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        if isinstance(found := given.get("quantizer"), Mapping):
            made = {k: _made(v) if isinstance(v, Mapping) else v for k, v in found.items()}
            given["quantizer"] = QuantizerConfig(**made)
        return cls(**given)


def _kinds_of(config: QuantizerConfig) -> dict[str, dict[str, Any]]:
    parts = {"update": config.update, "estimator": config.estimator}
    return {k: {"kind": type(part).__name__, **asdict(part)} for k, part in parts.items()}


def _made(values: Mapping[str, Any]) -> Any:
    rest = {k: v for k, v in values.items() if k != "kind"}
    if values.get("kind") not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {values.get('kind')!r}.")
    return KINDS[values["kind"]](**rest)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _check_columns(categories: Mapping[str, tuple[int, ...]]) -> None:
    found = sorted(column for columns in categories.values() for column in columns)
    if empty := [name for name, columns in categories.items() if not columns]:
        raise ValueError(f"categories {empty} have no column.")
    if not found or found != list(range(len(found))):
        raise ValueError(
            "categories must hold each column 0, 1, … of the features exactly once, got "
            f"{ {name: list(columns) for name, columns in categories.items()} }."
        )


def _check_levels(config: VQVAEConfig) -> None:
    for name in ("ratios", "latent_dims", "codebook_sizes"):
        values = getattr(config, name)
        idle = name == "ratios" and config.latent_dims is not None
        if values is None or idle:
            continue
        if len(values) != config.levels or min(values) <= 0:
            raise ValueError(
                f"{name} needs one positive number for each of the {config.levels} levels, got {values}."
            )
    if not config.hidden or min(config.hidden) < 1:
        raise ValueError(f"hidden needs widths of at least 1, one at least, got {config.hidden}.")


def _check_residual(config: VQVAEConfig) -> None:
    if config.structure != "residual":
        return
    if config.latent_dims is not None and len(set(config.latent_dims)) > 1:
        raise ValueError(
            f"structure='residual' needs equal latent_dims, got {config.latent_dims}: each level "
            "quantises what is left of one latent."
        )
    if config.quantizer.code_dim is not None:
        raise ValueError(
            f"structure='residual' compares latents in their own width, got code_dim="
            f"{config.quantizer.code_dim}; set latent_dims."
        )
    if config.quantizer.similarity != "euclidean":
        raise ValueError(
            f"structure='residual' needs similarity='euclidean', got {config.quantizer.similarity!r}: "
            "what is left of a vector has its length from the codes."
        )
