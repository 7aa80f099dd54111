"""Trajectories of the equations, written once; or the facts of files that were given."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nops_data import (
    LayoutError,
    Plan,
    Request,
    SplitPlan,
    WellReader,
    consecutive_splits,
    frame_interval,
    generate,
    named_folder,
    pending,
    stored_attributes,
    stored_facts,
    verify,
)
from nops_physics import (
    Advection1D,
    Burgers1D,
    Darcy2D,
    DiffusionReaction2D,
    Parameter,
    derive_seed,
    physical_parameters,
    sobol_parameters,
)
from nops_train import (
    InputError,
    parse_config,
    require_data,
    run_generation,
    run_verification,
    settled_config,
)

from upt_inverse.build import SPLITS, open_readers
from upt_inverse.config import UptConfig
from upt_inverse.config_data import OWN, UptDataConfig

ENDS = ("low", "high")  # of a range
BATCH = 16  # trajectories solved at a time
DEFAULT_ROOT = Path("data") / "upt-inverse"
SHARED = ("pde", "num_train", "num_valid", "num_test", "num_steps", "shape", "dt", "seed")

Solver = Burgers1D | Advection1D | DiffusionReaction2D | Darcy2D
PLANES = {"diffusion_reaction": DiffusionReaction2D, "darcy": Darcy2D}


def solver_of(data: UptDataConfig, **changes: float) -> Solver:
    """The configured equation, with parameters of a trajectory's own.

    Raises:
        InputError: If a setting is out of its range.
    """
    own: dict[str, Any] = {name: getattr(data, name) for name in OWN[data.pde]} | changes
    try:
        if data.pde in PLANES:
            return PLANES[data.pde](data.shape, **own)
        kind = Burgers1D if data.pde == "burgers" else Advection1D
        return kind(data.shape[0], **own)
    except ValueError as error:
        raise InputError(f"data: {error}") from error


def make_plan(data: UptDataConfig) -> Plan:
    """Every trajectory of a solved data set, as integer seeds.

    Raises:
        InputError: If the data are given as files, or a setting is out of range.
    """
    if data.source != "generate":
        raise InputError(f"data.source is {data.source}: there is nothing to generate")
    solver, ranges = solver_of(data), varied(data)
    for end in ENDS:  # both ends of each range can be solved
        solver_of(data, **{one.name: getattr(one, end) for one in ranges})
    constant = {name: getattr(data, name) for name in OWN[data.pde] if name not in data.vary}
    ends = {f"{one.name}_{end}": getattr(one, end) for one in ranges for end in ENDS}
    return Plan(
        dataset_name=data.pde,
        domain=data.pde,
        solver_version=solver.version,
        channels=solver.channel_names,
        parameter_names=tuple(one.name for one in ranges),
        shape=data.shape,
        num_frames=data.num_steps + 1,
        frame_interval=data.dt,
        lengths=solver.lengths,
        boundary=solver.boundary,
        splits=_splits(data),
        units="dimensionless",
        attributes={"seed": data.seed, **constant, **ends},
    )


def varied(data: UptDataConfig) -> tuple[Parameter, ...]:
    """The parameters that differ between trajectories, with their ranges."""
    named = [(name, data.vary[name]) for name in OWN[data.pde] if name in data.vary]
    return tuple(Parameter(name=name, low=low, high=high) for name, (low, high) in named)


def _splits(data: UptDataConfig) -> dict[str, SplitPlan]:
    """Stretches of one sequence of seeds and parameters, so that no two trajectories share one."""
    ranges = varied(data)

    def make(places: range) -> SplitPlan:
        seeds = [derive_seed("initial", data.seed, place) for place in places]
        if not ranges:
            return SplitPlan(theta=np.zeros((len(places), 0)), ic_seed=seeds)
        options = {"num_parameters": len(ranges), "seed": data.seed, "skip": places.start}
        theta = sobol_parameters(len(places), **options)
        return SplitPlan(theta=theta, parameters=physical_parameters(theta, ranges), ic_seed=seeds)

    return consecutive_splits({split: getattr(data, f"num_{split}") for split in SPLITS}, make)


def solve_with(data: UptDataConfig) -> Any:
    """The callable that computes what a plan asks for."""
    times, ranges = [frame * data.dt for frame in range(data.num_steps + 1)], varied(data)

    def solve(request: Request) -> Any:
        kinds = solver_of(data).initial_kinds(len(request), seed=request.ic_seed)
        if not ranges:
            return frames(solver_of(data), request.ic_seed), kinds
        values = physical_parameters(torch.from_numpy(request.theta.copy()), ranges).tolist()
        names = [one.name for one in ranges]
        own = [dict(zip(names, row, strict=True)) for row in values]
        rows = zip(own, request.ic_seed, strict=True)
        return torch.cat([frames(solver_of(data, **one), [seed]) for one, seed in rows]), kinds

    def frames(solver: Solver, seeds: Any) -> torch.Tensor:
        initial = solver.initial(len(seeds), seed=seeds)
        try:
            return solver.solve(initial, times=times).float()
        except ValueError as error:
            raise InputError(f"data: {error}") from error

    return solve


def data_folder(config: UptConfig) -> Path:
    """Where the data lie: `data.path`, or a folder named after what would be generated."""
    data = config.data
    if data.path is not None:
        return Path(data.path)
    facts = data.model_dump(mode="json", include={*SHARED, *OWN[data.pde]})
    facts |= {"version": solver_of(data).version}
    if data.vary:
        facts["vary"] = data.model_dump(mode="json")["vary"]
    return named_folder(DEFAULT_ROOT, data.pde, facts)


def settle_data(config: UptConfig, *, explicit: Collection[str] = ()) -> UptConfig:
    """The configuration with `data` as the files have it, or as it will be generated; of each task.

    Files decide counts, steps, shape and time between frames. A count or number of steps that the
    user named takes the first so many.

    Args:
        config: As resolved.
        explicit: Keys that the user gave.

    Raises:
        InputError: If given files do not exist, or do not hold what a given key asks for, or `data`
            is given beside `tasks`.
        LayoutError: If they hold no readable data.
    """
    if not config.tasks:
        return _settled(config, explicit)
    if dead := [key for key in explicit if key.startswith("data.")]:
        raise InputError(f"{dead[0]}: has no effect beside tasks; give tasks.NAME.{dead[0]}")
    plain = config.model_dump(mode="json")
    for name, own in config.parts().items():
        given = [key.removeprefix(f"tasks.{name}.") for key in explicit]
        with of_task(name):
            settled = _settled(own, given)
        plain["tasks"][name]["data"] = settled.model_dump(mode="json")["data"]
    return parse_config(UptConfig, plain, source="data of the tasks")


@contextmanager
def of_task(name: str) -> Iterator[None]:
    """Inside, errors name the task.

    Raises:
        InputError: In place of an error of its configuration or data.
    """
    try:
        yield
    except (InputError, LayoutError) as error:
        if not name:
            raise
        raise InputError(f"tasks.{name}: {error}") from error


def _settled(config: UptConfig, explicit: Collection[str]) -> UptConfig:
    folder, facts = data_folder(config), None
    if config.data.source == "pdebench":
        facts = _facts_of_readers(config)
    elif config.data.path is not None and not _is_ours(folder):
        facts = _facts_on_disk(require_data(folder, app="upt-inverse"))
    return settled_config(config, folder=folder, facts=facts, explicit=explicit)


def _facts_on_disk(folder: Path) -> dict[str, Any]:
    """What a folder of the_well's layout holds; one of our making also says its equation."""
    facts = stored_facts(folder)
    interval = round(frame_interval(WellReader(folder, split="train")), 6)
    stored = stored_attributes(folder)
    own = OWN.get(str(stored.get("domain")))
    if own is None:
        return {**facts, "dt": interval, "source": "well"}
    made: dict[str, Any] = {name: stored[name] for name in own if name in stored}
    drawn = [name for name in own if f"{name}_low" in stored]
    if drawn:
        made["vary"] = {name: tuple(stored[f"{name}_{end}"] for end in ENDS) for name in drawn}
    seed = int(stored.get("seed", 0))
    return {**facts, "dt": interval, "pde": str(stored["domain"]), "seed": seed, **made}


def _facts_of_readers(config: UptConfig) -> dict[str, Any]:
    readers = open_readers(config)
    train = readers["train"]
    return {
        **{f"num_{split}": len(reader) for split, reader in readers.items()},
        "num_steps": train.num_frames - 1,
        "shape": train.shape,
        "dt": round(train.frame_interval or 1.0, 6),
    }


def ensure_data(config: UptConfig) -> None:
    """Generate what is missing of the default data; given data are left alone."""
    for name, own in config.parts().items():
        folder = data_folder(own)
        if own.data.source != "generate" or not _is_ours(folder):
            continue
        with of_task(name):
            if pending(folder, plan=make_plan(own.data)):
                _generate(own)


def _is_ours(folder: Path) -> bool:
    return folder.parent == DEFAULT_ROOT


def generate_data(config: UptConfig) -> None:
    """Write what is missing of the configured data sets; what is there is kept.

    With tasks, files that were given are left alone.

    Raises:
        InputError: If all data are given as files, or a setting is out of range.
    """
    parts = config.parts()
    solved = {name: own for name, own in parts.items() if own.data.source == "generate"}
    for name, own in (solved or parts).items():
        with of_task(name):
            _generate(own)


def _generate(config: UptConfig) -> None:
    data, folder = config.data, data_folder(config)
    plan = make_plan(data)
    make = partial(generate, folder, plan=plan, solve=solve_with(data), batch_size=BATCH)
    run_generation(make, folder=folder, text=f"Solving {data.pde}")


def verify_data(config: UptConfig) -> None:
    """Recompute every checksum, and solve samples again.

    Raises:
        CheckFailed: Naming what does not match.
    """
    for name, own in settle_data(config).parts().items():
        if name and own.data.source == "pdebench":
            continue  # files of others hold no sums
        folder = data_folder(own)
        replay = solve_with(own.data) if own.data.source == "generate" else None
        check = partial(verify, folder, replay=replay)
        with of_task(name):
            run_verification(check, folder=folder, replayed="trajectories solved again")
