"""The command `generate` of an app: a bar, one thread, what was done in words; or a check of it.

Data are generated and verified by callables, such as those of `nops_data`, which is not imported here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from nops_train._errors import CheckFailed


class Position(Protocol):
    """How far a generation is, in trajectories."""

    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...


class Made(Protocol):
    """What a generation did."""

    @property
    def written(self) -> int: ...
    @property
    def kept(self) -> int: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


class Checked(Protocol):
    """What a check of generated data found."""

    num_checked: int
    num_replayed: int
    max_difference: float
    problems: list[str]


MadeT = TypeVar("MadeT", bound=Made)


def run_generation(make: Callable[..., MadeT], *, folder: Path | str, text: str) -> MadeT:
    """Generate data with a progress bar, on one thread; say what was written and what repaired.

    Args:
        make: Called as `make(progress=…)`, and calls that with its position, such as
            `partial(nops_data.generate, folder, plan=plan, solve=solve, batch_size=16)`.
        folder: Where the data go, for the message.
        text: Beside the bar, such as "Generating heat".

    Returns:
        What `make` returned.
    """
    with generation_bar(text) as show, one_thread():
        done = make(progress=show)
    for note in done.notes:
        print(note)
    print(f"Data: {folder} ({done.written} trajectories written, {done.kept} kept)")
    return done


def run_verification(
    check: Callable[[], Checked], *, folder: Path | str, replayed: str = "trajectories replayed"
) -> None:
    """Check generated data on one thread, and say what was checked.

    Args:
        check: Such as `partial(nops_data.verify, folder, replay=solve)`.
        folder: Where the data are, for the message.
        replayed: What a trajectory that was computed again is called, in the plural.

    Raises:
        CheckFailed: Naming all that does not match.
    """
    with one_thread():
        found = check()
    if found.problems:
        raise CheckFailed("\n".join(found.problems))
    print(
        f"{folder}: {found.num_checked} checksums match; {found.num_replayed} {replayed}, "
        f"largest relative difference {found.max_difference:.1e}"
    )


@contextmanager
def generation_bar(text: str) -> Iterator[Callable[[Position], None]]:
    """A bar of counts with the time left; yields what shows a position on it."""
    from rich import progress as rich_progress

    columns: tuple[Any, ...] = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns) as bar:
        task = bar.add_task(text, total=None)
        yield lambda state: bar.update(task, completed=state.done, total=state.total)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: a small grid's operations are shorter than waiting for a second."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
