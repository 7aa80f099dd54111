"""Trajectories of a flow, solved once; or converted from a tree; or the facts of given files."""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nops_data import (
    LayoutError,
    NpzSplit,
    Plan,
    SplitPlan,
    WellReader,
    consecutive_splits,
    frame_interval,
    generate,
    import_npz,
    named_folder,
    pending,
    stored_attributes,
    stored_facts,
    verify,
)
from nops_physics import derive_seed
from nops_train import (
    InputError,
    require_data,
    run_generation,
    run_verification,
    settled_config,
)

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
    """Stretches of one sequence of seeds, so that no two trajectories share one."""

    def make(places: range) -> SplitPlan:
        seeds = [derive_seed("initial", data.seed, place) for place in places]
        return SplitPlan(theta=np.zeros((len(places), 0)), ic_seed=seeds)

    return consecutive_splits({split: getattr(data, f"num_{split}") for split in SPLITS}, make)


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
    return named_folder(DEFAULT_ROOT, data.source, facts)


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
    if given:
        require_data(folder, app="turbulence")
    elif config.data.source == "file":
        convert_tree(config)
    facts = _facts_on_disk(folder) if given or config.data.source == "file" else None
    return settled_config(config, folder=folder, facts=facts, explicit=explicit)


def _facts_on_disk(folder: Path) -> dict[str, Any]:
    reader, stored = WellReader(folder, split="train"), stored_attributes(folder)
    solved: dict[str, Any] = {
        name: stored[name] for name in SOLVED if name in stored and name != "shape"
    }
    if solved.get("solver_resolution") == reader.shape[0]:
        solved["solver_resolution"] = None
    return {
        **stored_facts(folder),
        "source": str(stored.get("domain", "file")),
        "frame_interval": round(frame_interval(reader), 6),
        **solved,
    }


def ensure_data(config: TurbulenceConfig) -> None:
    """Make what is missing of the default data; given data are left alone."""
    folder = Path(config.data.path or data_folder(config))
    if config.data.source == "file" or not _is_ours(folder):
        return
    plan = make_plan(config.data)
    if pending(folder, plan=plan):
        _solve(config.data, plan, folder)


def _is_ours(folder: Path) -> bool:
    return folder.parent == DEFAULT_ROOT


def generate_data(config: TurbulenceConfig) -> None:
    """Write what is missing of the configured data set: solved, or converted from a tree."""
    if config.data.source == "file":
        convert_tree(config)
    else:
        _solve(config.data, make_plan(config.data), data_folder(config))


def _solve(data: FlowDataConfig, plan: Plan, folder: Path) -> None:
    """Solve; what an earlier call completed is kept."""
    make = partial(generate, folder, plan=plan, solve=solve_with(data), batch_size=BATCH)
    run_generation(make, folder=folder, text=f"Solving {plan.domain}")


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
    replay = None if data.source == "file" else solve_with(data)
    run_verification(
        partial(verify, data_folder(settled), replay=replay),
        folder=data_folder(settled),
        replayed="trajectories solved again",
    )
