"""Flags that a command does not read: refused, rather than given for nothing."""

from collections.abc import Callable

from nops_train import InputError, Invocation, TrainConfig

OWN = ("epochs", "batch_size", "learning_rate", "early_stop_patience")  # keys of `vqvae`
SHARED = (
    *("seed", "device", "validate_every", "save_every", "keep_last", "async_save", "log_every"),
    *("progress", "log_to", "gradient_norm_per_term", "max_skipped_in_row", "grad_clip"),
)  # keys of `train` that count for both trainings
APART = tuple(f"train.{key}" for key in TrainConfig.model_fields if key not in SHARED)


def refuse_idle_flags(call: Invocation, *, reads: Callable[[str], bool]) -> None:
    """Refuse flags without effect; a file may serve several commands.

    Args:
        call: With the keys that the user gave, and where.
        reads: Whether the command reads a dotted key.

    Raises:
        InputError: Naming flag and key, and the key to set instead.
    """
    for key, origin in call.explicit.items():
        if not origin.startswith("--") or reads(key):
            continue
        name = key.removeprefix("train.")
        own = f"; set vqvae.{name}" if name in OWN else ""
        raise InputError(f"{origin} ({key}): without effect on {call.command}{own}")


def read_by_tokens(key: str) -> bool:
    """Whether `train-vqvae` reads a key."""
    return key.partition(".")[0] in ("data", "features", "vqvae", "train") and key not in APART


def read_by_rollouts(key: str) -> bool:
    """Whether `train` reads a key."""
    return not key.startswith("vqvae.") and key != "features.per_trajectory"
