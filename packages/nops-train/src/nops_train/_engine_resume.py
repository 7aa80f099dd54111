"""Which checkpoint a run goes on from."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nops_train._checkpoint import read_state
from nops_train._checkpoint_folder import BEST, Found, load_checkpoint
from nops_train._checkpoint_schema import migrate
from nops_train._engine_checkpoint import check_agrees, restore
from nops_train._engine_environment import versions
from nops_train._engine_state import TrainState
from nops_train._importer import Importer, import_state
from nops_train._protocols import Stateful
from nops_train._run_folder import RunFolder
from nops_train._world import World


def find_checkpoint(
    run: RunFolder,
    world: World,
    *,
    importers: Sequence[Importer],
    fresh: Callable[[], Mapping[str, Any]],
) -> Found | None:
    """The checkpoint named by the user, else the newest good one; None for a new run.

    A checkpoint of another folder starts a new run; once that has checkpoints of its own, it goes on.
    Rank 0 finds it, and the others read the same file: the run's folder is one that all of them see.

    Args:
        run: The folder.
        world: The ranks.
        importers: Read foreign layouts of a named file.
        fresh: Gives the state of a run that has not started, for what such a file lacks.

    Raises:
        CheckpointError: If there are checkpoints but none can be read.
    """
    found: list[Found | None] = []

    def find() -> str | None:
        found.append(_find(run, importers, fresh))
        return found[0] and found[0].name

    name = world.from_main(find)
    if found or name is None:
        return found[0] if found else None
    path = run.checkpoints.path / name  # of a name that is a path elsewhere: that path
    state = read_state(path)
    if "schema" not in state:
        state, _ = import_state(state, file=path, importers=importers, fresh=fresh())
    return Found(name=name, state=state, problems=())


def _find(
    run: RunFolder, importers: Sequence[Importer], fresh: Callable[[], Mapping[str, Any]]
) -> Found | None:
    file = run.resume_file
    if file is None or (not _is_own(run, file) and run.checkpoints.entries):
        return run.checkpoints.newest()
    name = file.name if _is_own(run, file) else str(file)
    state = load_checkpoint(file)
    problems: tuple[str, ...] = ()
    if "schema" not in state:
        state, problems = import_state(state, file=file, importers=importers, fresh=fresh())
    return Found(name=name, state=state, problems=problems)


def go_on_from(
    found: Found,
    *,
    rank: int,
    run: RunFolder,
    parts: Mapping[str, Any],
    train: TrainState,
    stateful: Mapping[str, Stateful],
    fingerprint: Mapping[str, Any],
) -> list[str]:
    """Restore a run from a checkpoint: its objects, its events, its order of checkpoints.

    Returns:
        What the user should know: damaged files, other versions, a log cut short.

    Raises:
        InputError: If the checkpoint is not of this run.
    """
    where = str(run.checkpoints.path / found.name)
    state = migrate(found.state, where=where)
    check_agrees(state, run=run, fingerprint=fingerprint, where=where)
    restore(state, parts, train=train, stateful=stateful, rank=rank, where=where)
    warnings = list(found.problems)
    if run.follows:
        return []
    if run.resume_file is not None and _is_own(run, run.resume_file):
        run.checkpoints.supersede_after(found.name)
    length = run.events.truncate(state["events"])
    if length < state["events"]:
        warnings.append(
            f"{run.events.path}: {length} bytes, the checkpoint was written at {state['events']}: the log of "
            "the time before is lost in part"
        )
    if state["versions"] != versions():
        warnings.append(
            f"made with {state['versions']}, now {versions()}: equality to the last bit is not promised"
        )
    if lost := _mend_best(run, train):
        warnings.append(lost)
    return warnings


def _is_own(run: RunFolder, file: Path) -> bool:
    return file.parent == run.checkpoints.path.resolve()


def _mend_best(run: RunFolder, train: TrainState) -> str | None:
    """Make `best_model.pt` the state's best again, where a crash or a step back left another there."""
    if train.best is None:
        return None
    entries = run.checkpoints.entries
    expected = (train.best["epoch"] + 1, 0, train.best["step"])
    present = entries.get(BEST)
    if present is not None and (present.epoch, present.batch, present.step) == expected:
        return None
    name = f"epoch_{expected[0]}.pt"
    if name in entries and not entries[name].superseded:
        run.checkpoints.mark_best(name)
        return None
    return f"{run.checkpoints.path / BEST}: not the best of epoch {expected[0]}, whose file is gone"
