"""Trajectories of a flow, solved once; or converted from a tree; or the facts of given files."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nops_data import (
    LayoutError,
    NpzSplit,
    Plan,
    Progress,
    SplitPlan,
    WellReader,
    generate,
    import_npz,
    pending,
    stored_attributes,
    verify,
)
from nops_physics import derive_seed
from nops_train import CheckFailed, InputError, parse_config
from rich import progress as rich_progress

from turbulence.config import FlowDataConfig, TurbulenceConfig
from turbulence.flows import LENGTH, check_solvable, solve_with, solver_version

SPLITS = ("train", "valid", "test")
BATCH = 8  # trajectories solved at a time
DEFAULT_ROOT = Path("data") / "turbulence"
SOLVED = (
    *("source", "num_train", "num_valid", "num_test", "num_steps", "shape", "seed"),
    *("viscosity", "drag", "forcing_wavenumber", "time_step", "frame_interval", "warmup_time"),
    "solver_resolution",
)
CONVERTED = ("source", "npz", "splits", "fields", "parameters", "frame_interval", "lengths")


def make_plan(data: FlowDataConfig) -> Plan:
    """Every trajectory of a solved data set, as integer seeds.

    Raises:
        InputError: If the source is `file`, or a setting is beyond the solver.
    """
    if data.source == "file":
        raise InputError("data.source is file: there is nothing to solve; name a flow")
    check_solvable(data)
    names = ("viscosity", "drag", "forcing_wavenumber", "time_step", "warmup_time")
    settings: dict[str, str | int | float] = {name: getattr(data, name) for name in names}
    return Plan(
        dataset_name=data.source,
        domain=data.source,
        solver_version=solver_version(data),
        channels=("velocity_x", "velocity_y"),
        parameter_names=(),
        shape=data.shape,
        num_frames=data.num_steps + 1,
        frame_interval=data.frame_interval,
        lengths=(LENGTH, LENGTH),
        splits=_splits(data),
        units="dimensionless",
        attributes={
            **settings,
            "seed": data.seed,
            "solver_resolution": data.solver_resolution or data.shape[0],
        },
        shard_size=BATCH,
    )


def _splits(data: FlowDataConfig) -> dict[str, SplitPlan]:
    """Consecutive stretches of one sequence of seeds, so that no two trajectories share one."""
    splits, first = {}, 0
    for split in SPLITS:
        count = getattr(data, f"num_{split}")
        seeds = [derive_seed("initial", data.seed, first + i) for i in range(count)]
        splits[split] = SplitPlan(theta=np.zeros((count, 0)), ic_seed=seeds)
        first += count
    return splits


def data_folder(config: TurbulenceConfig) -> Path:
    """Where the data lie: `data.path`, or a folder named after what would be made.

    Raises:
        InputError: If there is nothing to make them of.
    """
    data = config.data
    if data.path is not None:
        return Path(data.path)
    if data.source == "file" and data.npz is None:
        raise InputError(
            "data.source is file: give data.path, a folder with data/train/*.hdf5, or data.npz, a "
            "tree of sim_*/velocity_*.npz"
        )
    facts = data.model_dump(
        mode="json", include=set(CONVERTED if data.source == "file" else SOLVED)
    )
    if data.source != "file":
        facts |= {"version": solver_version(data)}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return DEFAULT_ROOT / f"{data.source}-{digest[:8]}"


def settle_data(config: TurbulenceConfig, *, explicit: Collection[str] = ()) -> TurbulenceConfig:
    """The configuration with `data` as it lies on disk, or as it will be made.

    A given folder decides counts, steps, shape and frame interval. A count or number of steps that
    the user named takes the first so many.

    Args:
        config: As resolved.
        explicit: Keys that the user gave.

    Raises:
        InputError: If a given folder does not exist, or does not hold what a given key asks for.
        LayoutError: If it holds no readable data.
    """
    folder = data_folder(config)
    given = config.data.path is not None and not _is_ours(folder)
    if given and not folder.exists():
        raise InputError(
            f"data.path: expected a folder with data/train/*.hdf5, found nothing at {folder}; "
            f"`turbulence generate --data {folder}` would make one"
        )
    if config.data.source == "file" and not given:
        convert_tree(config)
    on_disk = given or config.data.source == "file"
    facts = _agreed(_facts_on_disk(folder, config), config, explicit, folder) if on_disk else {}
    data = config.data.model_copy(update={"path": str(folder), **facts})
    settled = config.model_copy(update={"data": data})
    return parse_config(TurbulenceConfig, settled.model_dump(mode="json"), source=str(folder))


def _facts_on_disk(folder: Path, config: TurbulenceConfig) -> dict[str, Any]:
    readers = {split: WellReader(folder, split=split) for split in SPLITS}
    source = str(stored_attributes(folder).get("domain", "file"))
    times = readers["train"][0]["times"]
    stored = stored_attributes(folder)
    solved: dict[str, Any] = {
        name: stored[name] for name in SOLVED if name in stored and name != "shape"
    }
    if solved.get("solver_resolution") == readers["train"].shape[0]:
        solved["solver_resolution"] = None
    return {
        **{f"num_{split}": len(reader) for split, reader in readers.items()},
        "num_steps": min(reader.num_frames for reader in readers.values()) - 1,
        "shape": readers["train"].shape,
        "source": source,
        "frame_interval": round(float(times[1] - times[0]), 6) if len(times) > 1 else 1.0,
        **solved,
    }


def _agreed(
    facts: dict[str, Any], config: TurbulenceConfig, explicit: Collection[str], folder: Path
) -> dict[str, Any]:
    """The facts, with smaller numbers where the user named them."""
    agreed = dict(facts)
    for name, found in facts.items():
        wanted = getattr(config.data, name)
        if f"data.{name}" not in explicit or wanted == found:
            continue
        if not name.startswith("num_") or wanted > found:
            raise InputError(f"data.{name} = {wanted}, but {folder} holds {found}")
        agreed[name] = wanted
    return agreed


def ensure_data(config: TurbulenceConfig) -> None:
    """Make what is missing of the default data; given data are left alone."""
    folder = Path(config.data.path or data_folder(config))
    if config.data.source == "file" or not _is_ours(folder):
        return
    plan = make_plan(config.data)
    if pending(folder, plan=plan):
        run_generation(config.data, plan, folder)


def _is_ours(folder: Path) -> bool:
    return folder.parent == DEFAULT_ROOT


def generate_data(config: TurbulenceConfig) -> None:
    """Write what is missing of the configured data set: solved, or converted from a tree."""
    if config.data.source == "file":
        convert_tree(config)
    else:
        run_generation(config.data, make_plan(config.data), data_folder(config))


def run_generation(data: FlowDataConfig, plan: Plan, folder: Path) -> None:
    """Solve with a progress bar; what an earlier call completed is kept."""
    with _bar(f"Solving {plan.domain}") as show, one_thread():
        done = generate(folder, plan=plan, solve=solve_with(data), batch_size=BATCH, progress=show)
    for note in done.notes:
        print(note)
    print(f"Data: {folder} ({done.written} trajectories written, {done.kept} kept)")


def convert_tree(config: TurbulenceConfig) -> None:
    """Convert the tree `data.npz`; files that are there are kept.

    Raises:
        InputError: If the tree, or the simulations of a split, are not named.
        LayoutError: At the first frame that is missing or of another shape, before anything is
            written.
    """
    data, folder = config.data, data_folder(config)
    if data.npz is None:
        raise InputError("data.npz is null: name the tree of sim_*/velocity_*.npz to convert")
    empty = [name for name in SPLITS if not getattr(data.splits, name).simulations]
    if empty:
        raise InputError(f"data.splits.{empty[0]}.simulations is empty: which are its simulations?")
    try:
        paths = import_npz(
            data.npz,
            folder,
            dataset_name=Path(data.npz).name or "npz",
            splits={name: _npz_split(data, name) for name in SPLITS},
            fields=data.fields,
            parameters=data.parameters,
            frame_interval=data.frame_interval,
            boundary=data.boundary,
            lengths=data.lengths,
        )
    except ValueError as error:
        if isinstance(error, LayoutError):
            raise
        raise InputError(f"{data.npz}: {error}") from error
    print(f"Data: {folder} ({len(paths)} simulations)")


def _npz_split(data: FlowDataConfig, name: str) -> NpzSplit:
    split = getattr(data.splits, name)
    first, last, stride = split.frames
    return NpzSplit(simulations=split.simulations, frames=range(first, last + 1, stride))


def verify_data(config: TurbulenceConfig) -> None:
    """Recompute every checksum, and solve samples again.

    Raises:
        CheckFailed: Naming what does not match.
    """
    settled = settle_data(config)
    data = settled.data
    with one_thread():
        found = verify(
            data_folder(settled), replay=None if data.source == "file" else solve_with(data)
        )
    if found.problems:
        raise CheckFailed("\n".join(found.problems))
    print(
        f"{data.path}: {found.num_checked} checksums match; {found.num_replayed} trajectories solved "
        f"again, largest relative difference {found.max_difference:.1e}"
    )


@contextmanager
def _bar(text: str) -> Iterator[Callable[[Progress], None]]:
    columns = (
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
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
