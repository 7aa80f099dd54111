"""The one error of this package that a user can cause with a file."""


class LayoutError(ValueError):
    """Data that cannot be used as trajectories.

    The message names the file, the place in it (dataset, attribute, sample, step or channel),
    what was found and what was expected.
    """


class DamagedFileError(LayoutError):
    """A file that is there and cannot be opened: empty, truncated or something else altogether."""


class LockedFileError(LayoutError):
    """A file that another process is writing."""


def layout_error(path: object, where: str, *, found: object, expected: object) -> LayoutError:
    """The error for one place in one file, in the house's wording."""
    return LayoutError(f"{path}: {where}: found {found}, expected {expected}.")
