"""Neural operator agents: a rollout surrogate of parameterised dynamics, and tokens of its trajectories."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noa.api import evaluate_noa as evaluate_noa
    from noa.api import extract_features as extract_features
    from noa.api import train_noa as train_noa
    from noa.vocabulary import Vocabulary as Vocabulary
    from noa.vocabulary import load_vocabulary as load_vocabulary
    from noa.vocabulary import load_vqvae_codebook as load_vqvae_codebook

_MODULES = {
    "Vocabulary": "vocabulary",
    "evaluate_noa": "api",
    "extract_features": "api",
    "load_vocabulary": "vocabulary",
    "load_vqvae_codebook": "vocabulary",
    "train_noa": "api",
}

__all__ = [
    "Vocabulary",
    "evaluate_noa",
    "extract_features",
    "load_vocabulary",
    "load_vqvae_codebook",
    "train_noa",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module, once."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"noa.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted({*globals(), *__all__})
