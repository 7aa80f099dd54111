"""The published spelling of overrides, `training=adaptive_ema training.epochs=10`, as words of this program.

A first word with `=` and without dashes means `train`, `-m` or `--multirun` means `compare` on the chain.
"""

from collections.abc import Sequence

GROUPS: dict[str, tuple[str, dict[str, str]]] = {
    "default": ("fixed", {"--weighting.kind": "constant"}),
    "fast": ("fixed", {"--weighting.kind": "constant", "--train.epochs": "10"}),
    "adaptive_equal_init": (
        "equal_init",
        {"--weighting.kind": "adaptive", "--weighting.strategy": "equal_init"},
    ),
    "adaptive_ema": ("ema", {"--weighting.kind": "adaptive", "--weighting.strategy": "ema"}),
}
MULTI = ("-m", "--multirun")


def translated(words: Sequence[str]) -> list[str]:
    """The words in this program's own spelling; others come back as they are.

    Raises:
        SystemExit: Never; what is unknown is left to the command line, which tells it by name.
    """
    if not words or not (words[0] in MULTI or _is_override(words[0])):
        return list(words)
    multi = words[0] in MULTI
    overrides = list(words[1:] if multi else words)
    return _compared(overrides) if multi else ["train", *_trained(overrides)]


def _is_override(word: str) -> bool:
    return not word.startswith("-") and "=" in word and not word.startswith("/")


def _trained(words: Sequence[str]) -> list[str]:
    pairs = [word.partition("=") for word in words if _is_override(word)]
    given = {name for name, _, _ in pairs}
    found = []
    for word in words:
        if not _is_override(word):
            found.append(word)
            continue
        name, _, value = word.partition("=")
        if name == "training" and value in GROUPS:
            found += _of_group(value, given)
        else:
            found += _one(name, value)
    return found


def _of_group(group: str, given: set[str]) -> list[str]:
    """What a group sets, less what an override says otherwise."""
    settings = dict(GROUPS[group][1])
    if "training.loss.adaptive.strategy" in given:
        settings.pop("--weighting.strategy", None)
    if "training.epochs" in given:
        settings.pop("--train.epochs", None)
    return [f"{flag}={value}" for flag, value in settings.items()]


def _one(name: str, value: str) -> list[str]:
    if name == "experiment.name":
        return [f"--name={value}"]
    if name == "run.resume_from":
        return [f"--resume={value}"]
    return [f"--{name}={value}"]


def _compared(words: Sequence[str]) -> list[str]:
    """Comma lists become schemes, and values of further keys."""
    found, varied = ["compare", '--compare.problems=["wave_chain"]'], []
    for word in words:
        if not _is_override(word):
            found.append(word)
            continue
        name, _, value = word.partition("=")
        parts = value.split(",")
        if name == "training":
            schemes = [GROUPS[part][0] if part in GROUPS else part for part in parts]
            quoted = ", ".join(f'"{scheme}"' for scheme in dict.fromkeys(schemes))
            found.append(f"--compare.schemes=[{quoted}]")
        elif len(parts) > 1:
            varied.append(f'"{name}={value}"')
        else:
            found += _one(name, value)
    return [*found, *([f"--compare.vary=[{', '.join(varied)}]"] if varied else [])]


__all__ = ["GROUPS", "translated"]
