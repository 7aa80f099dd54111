"""Checks that the configurations share; each raises `ValueError` naming the field."""


def check_at_least(config: object, least: int, *names: str) -> None:
    """Refuse fields below `least`."""
    for name in names:
        if getattr(config, name) < least:
            bound = "must not be negative" if least == 0 else f"must be at least {least}"
            raise ValueError(f"{name} {bound}, got {getattr(config, name)}.")


def check_sizes(**sizes: int) -> None:
    """Refuse sizes below 1, by name."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}.")


def check_optional(config: object, *names: str) -> None:
    """Refuse fields that are neither None nor at least 1."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, or None, got {value}.")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")


def check_share(config: object, name: str) -> None:
    """Refuse a share to drop outside [0, 1)."""
    if not 0 <= getattr(config, name) < 1:
        raise ValueError(f"{name} must be within [0, 1), got {getattr(config, name)}.")
