"""What the evaluation of a run leaves for its reports: tensors and plain values, in one file."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from nops_train._checkpoint import CheckpointError, commit, read_state, stage
from nops_train._errors import InputError
from nops_train._run_folder import RunFolder

T = TypeVar("T")

EVALUATION = "evaluation.pt"
OLD_LAYOUT = (LookupError, TypeError, ValueError, AttributeError)


def keep_evaluation(run: RunFolder, content: Mapping[str, Any], *, name: str = EVALUATION) -> None:
    """Write what `kept_evaluation` reads, so that a report can be written without the data.

    The file is replaced at once or not at all.

    Args:
        run: Its folder.
        content: Tensors, numbers, strings, lists and dicts by name.
        name: Of the file.

    Raises:
        CheckpointError: If it cannot be written; what was there before is then intact.
    """
    if run.follows:
        return
    path = run.path / name
    temporary, _ = stage(path, lambda file: torch.save(dict(content), file))
    commit(temporary, path)


def kept_evaluation(
    run: RunFolder, read: Callable[[dict[str, Any]], T], *, again: str, name: str = EVALUATION
) -> T:
    """What `keep_evaluation` wrote, on the CPU; no code in it is ever run.

    Args:
        run: Its folder.
        read: Makes of the content what the app works with.
        again: The command that evaluates the run again, for the message.
        name: Of the file.

    Returns:
        What `read` makes of the content.

    Raises:
        InputError: If the run was not evaluated yet, or the file is damaged or of another layout.
    """
    path = run.path / name
    if not path.is_file():
        raise InputError(f"{run.path}: not evaluated yet; `{again}` does it")
    try:
        return read(read_state(path))
    except CheckpointError as error:
        raise InputError(f"{error}; `{again}` writes it anew") from error
    except OLD_LAYOUT as error:
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); `{again}` writes it anew"
        ) from error
