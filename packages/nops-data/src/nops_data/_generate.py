"""Generating a data set shard by shard, so that it can be stopped at any moment and continued."""

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from nops_data._errors import LayoutError
from nops_data._finite import first_nonfinite
from nops_data._hdf5 import PARTIAL, SPLITS, as_numpy, get_dataset, list_hdf5
from nops_data._plan import Plan, Request, Shard
from nops_data._provenance import GROUP, KIND_LENGTH
from nops_data._shard_file import finish, put, reopen
from nops_data._stats import write_stats

Solve = Callable[[Request], Any]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far one process is.

    Attributes:
        path: The file being filled.
        done: Trajectories that are on disk, of those this process is responsible for.
        total: Trajectories it is responsible for.
        note: What was found wrong with a file and repaired; empty otherwise.
    """

    path: Path
    done: int
    total: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What one call of `generate` did in this process.

    Attributes:
        written: Trajectories computed.
        kept: Trajectories found complete.
        notes: What was found wrong and repaired.
        pending: Files that other ranks have not completed yet.
    """

    written: int
    kept: int
    notes: tuple[str, ...]
    pending: tuple[Path, ...]


def generate(
    folder: Path | str,
    *,
    plan: Plan,
    solve: Solve,
    batch_size: int,
    progress: Callable[[Progress], None] | None = None,
    recheck: bool = False,
    rank: int | None = None,
    world_size: int | None = None,
) -> Generated:
    """Compute what is missing of a data set in `<folder>/data/{train,valid,test}`.

    Call it again after any interruption: complete files are kept, a file under way is continued
    after its last complete batch, and the result is the same as without the interruption. A
    shard grows under a name that ends in `.partial` and gets its own when complete. Truncated
    files and samples that are not done are computed again, and so are samples with a wrong
    SHA-256 in files under way, or, with `recheck`, in complete ones. When the last shard is
    complete, `stats.yaml` is written.

    Args:
        folder: Made when missing.
        plan: The data set. Continuing a folder with another plan is refused.
        solve: Takes a `Request` for n trajectories and returns their float32 values
            [n, T, C, *grid] as array or CPU tensor, u0 first, or those and n texts that name the
            kind of each initial condition. Must depend on the request alone.
        batch_size: Trajectories per request, at most.
        progress: Called after each batch and each complete file.
        recheck: Recompute the SHA-256 of every sample of complete files.
        rank: This process among `world_size`, which share the shards; both are taken from the
            environment (RANK, WORLD_SIZE, as torchrun sets them) when None.
        world_size: See `rank`.

    Returns:
        What was written, and what was there.

    Raises:
        LayoutError: If the folder holds something else, another process writes the same shard,
            or a value is not finite (named with its seeds, sample, step and channel).
        ValueError: If `solve` returns another shape or type, or an argument is out of range.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: found {batch_size}, expected at least 1")
    rank, world_size = _ranks(rank, world_size)
    shards = plan.shards(folder)
    _refuse_strangers(Path(folder), shards)
    mine = shards[rank::world_size]
    tally = _Tally(total=sum(len(shard) for shard in mine), progress=progress)
    for shard in mine:
        _complete(shard, solve, batch_size, tally, recheck)
    left = pending(folder, plan=plan)
    stale = tally.written or not (Path(folder) / "stats.yaml").exists()
    if not left and stale and "train" in plan.splits:
        write_stats(folder)
    return Generated(
        written=tally.written,
        kept=tally.done - tally.written,
        notes=tuple(tally.notes),
        pending=left,
    )


def pending(folder: Path | str, *, plan: Plan) -> tuple[Path, ...]:
    """Files of a plan that are not complete yet.

    Args:
        folder: As given to `generate`.
        plan: The plan, as there.

    Returns:
        The missing and unfinished files, in the order in which they are made.
    """
    return tuple(shard.path for shard in plan.shards(folder) if not shard.path.exists())


class _Tally:
    """Counts of one call, told to the caller as they change."""

    def __init__(self, *, total: int, progress: Callable[[Progress], None] | None) -> None:
        self.total = total
        self.done = 0
        self.written = 0
        self.notes: list[str] = []
        self._progress = progress

    def add(self, path: Path, *, kept: int = 0, written: int = 0, note: str = "") -> None:
        self.done += kept + written
        self.written += written
        if note:
            self.notes.append(note)
        if self._progress is not None:
            self._progress(Progress(path=path, done=self.done, total=self.total, note=note))


def _ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    number = int(os.environ.get("RANK", "0")) if rank is None else rank
    count = int(os.environ.get("WORLD_SIZE", "1")) if world_size is None else world_size
    if not 0 <= number < count:
        raise ValueError(f"rank: found {number}, expected 0 <= rank < world_size = {count}")
    return number, count


def _refuse_strangers(folder: Path, shards: Sequence[Shard]) -> None:
    known = {shard.path for shard in shards}
    for split in SPLITS:
        for path in list_hdf5(folder / "data" / split):
            if path not in known:
                raise LayoutError(
                    f"{path}: found a file that is not part of the data set to generate, expected "
                    f"only its {len(known)} files; choose another folder."
                )


def _complete(shard: Shard, solve: Solve, batch_size: int, tally: _Tally, recheck: bool) -> None:
    file, notes = reopen(shard, recheck=recheck)
    for note in notes:
        tally.add(shard.path, note=note)
    if file is None:
        tally.add(shard.path, kept=len(shard))
        return
    with closing(file):
        done = get_dataset(file, f"{GROUP}/done")[()]
        tally.add(shard.path, kept=int(done.sum()))
        for rows, request in shard.requests(batch_size):
            missing = [row for row in range(rows.start, rows.stop) if not done[row]]
            if missing:
                _compute(file, shard, request, rows, missing, solve)
                tally.add(shard.path, written=len(missing))
    finish(shard)


def _compute(
    file: h5py.File,
    shard: Shard,
    request: Request,
    rows: slice,
    missing: Sequence[int],
    solve: Solve,
) -> None:
    plan = shard.plan
    shape = (plan.num_frames, len(plan.channels), *plan.shape)
    values, kinds = solved(solve, request, shape=shape, channels=plan.channels)
    chosen = [row - rows.start for row in missing]
    put(file, plan.channels, missing, values[chosen], [kinds[k] for k in chosen])


def solved(
    solve: Solve, request: Request, *, shape: tuple[int, ...], channels: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """What `solve` gives for a request, checked: float32 values [n, *shape] and n kinds.

    Raises:
        ValueError: If it returns another shape or type.
        LayoutError: If a value is not finite.
    """
    answer = solve(request)
    values, kinds = answer if isinstance(answer, tuple) else (answer, [""] * len(request))
    array = as_numpy(values)
    if array.shape != (len(request), *shape) or array.dtype != np.float32:
        raise ValueError(
            f"solve: found {array.dtype} {array.shape}, expected float32 {(len(request), *shape)}"
            f" for {request.describe(0)}"
        )
    texts = [str(kind) for kind in kinds]
    if len(texts) != len(request) or any(len(text.encode()) > KIND_LENGTH for text in texts):
        raise ValueError(
            f"solve: found kinds {texts}, expected {len(request)} of at most {KIND_LENGTH} bytes"
        )
    bad = first_nonfinite(torch.from_numpy(np.ascontiguousarray(array)))
    if bad is not None:
        row, step, channel, *place = bad
        raise LayoutError(
            f"{request.describe(row)}, step {step}, channel '{channels[channel]}', grid point "
            f"{place}: found {array[bad]}, expected a finite value."
        )
    return array, texts


def unfinished(folder: Path | str) -> list[Path]:
    """Files under way in a folder."""
    places = [Path(folder) / "data" / split for split in SPLITS]
    return sorted(path for place in places for path in place.glob(f"*{PARTIAL}"))
