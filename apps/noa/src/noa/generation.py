"""Trajectories of a domain, written once; or the facts of a folder that was given."""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import torch
from nops_data import (
    Generated,
    LayoutError,
    Plan,
    Request,
    SplitPlan,
    consecutive_splits,
    generate,
    named_folder,
    pending,
    spinlock_facts,
    stored_attributes,
    stored_facts,
    verify,
)
from nops_physics import (
    CNOReplayer,
    Domain,
    RandomConvOperator,
    SmoothSpec,
    StackSpec,
    derive_seed,
    make_domain,
    physical_parameters,
    sobol_parameters,
)
from nops_train import (
    InputError,
    require_data,
    run_generation,
    run_verification,
    settled_config,
)

from noa.config import NoaConfig, NoaDataConfig

BATCH = 16  # trajectories solved at a time
DEFAULT_ROOT = Path("data") / "noa"
OF_FILES = ("axis1", "first_frame")  # keys of data that are read, never generated
NO_FACTS = {"path", *OF_FILES, "operator", "noise_scale"}


def domain_of(config: NoaConfig) -> Domain | None:
    """The solver of the configured domain; None for data of unknown origin."""
    data = config.data
    if data.domain is None:
        return None
    if data.domain != "random_conv":
        return make_domain(data.domain, shape=data.shape)
    return RandomConvOperator(
        shape=data.shape,
        weight_seed=data.seed,
        spec=StackSpec() if data.operator == "stack" else SmoothSpec(),
        noise_scale=data.noise_scale,
    )


def make_plan(config: NoaConfig) -> Plan:
    """Every trajectory of the data set, as parameters and integer seeds.

    Raises:
        InputError: If the configuration names no domain.
    """
    domain, data = domain_of(config), config.data
    if domain is None:
        raise InputError("data.domain is null: there is nothing to generate; name a domain")
    return Plan(
        dataset_name=domain.name,
        domain=domain.name,
        solver_version=domain.version,
        channels=domain.channel_names,
        parameter_names=tuple(parameter.name for parameter in domain.parameters),
        shape=domain.shape,
        num_frames=data.num_steps + 1,
        frame_interval=domain.frame_interval,
        lengths=domain.lengths,
        boundary=domain.boundary,
        splits=_splits(domain, data),
        units="dimensionless",
        attributes={"seed": data.seed, **_of_the_operator(data)},
    )


def _splits(domain: Domain, data: NoaDataConfig) -> dict[str, SplitPlan]:
    """Stretches of one Sobol sequence, so that no split shares a parameter."""

    def make(places: range) -> SplitPlan:
        count = len(domain.parameters)
        theta = sobol_parameters(len(places), num_parameters=count, skip=places.start)
        return SplitPlan(
            theta=theta,
            parameters=physical_parameters(theta, domain.parameters),
            ic_seed=[derive_seed("initial", data.seed, place) for place in places],
            weight_seed=_weight_seeds(data, places),
            noise_seed=_noise_seeds(data, places),
        )

    counts = {"train": data.num_train, "valid": data.num_valid, "test": data.num_test}
    return consecutive_splits(counts, make)


def _of_the_operator(data: NoaDataConfig) -> dict[str, Any]:
    """What the files say of a random operator beyond its seed, where it is not the default."""
    facts = {"operator": data.operator, "noise_scale": data.noise_scale}
    return {name: value for name, value in facts.items() if value != _default(name)}


def _default(name: str) -> Any:
    return NoaDataConfig.model_fields[name].default


def _weight_seeds(data: NoaDataConfig, places: range) -> list[int] | int:
    if data.operator == "stack":
        return [derive_seed("weights", data.seed, place) for place in places]
    return data.seed if data.domain == "random_conv" else 0


def _noise_seeds(data: NoaDataConfig, places: range) -> list[int] | int:
    return [derive_seed("noise", data.seed, place) for place in places] if data.noise_scale else 0


def solve_with(domain: Domain, *, num_steps: int) -> Any:
    """The callable that computes what a plan asks for."""
    replayer = CNOReplayer(domain) if isinstance(domain, RandomConvOperator) else None

    def frames_of(initial: torch.Tensor, theta: torch.Tensor, request: Request) -> torch.Tensor:
        if replayer is None:
            return domain.trajectory(initial, theta, num_steps=num_steps)
        stacked = isinstance(replayer.operator.spec, StackSpec)
        return replayer.replay(
            initial,
            theta,
            num_steps=num_steps,
            noise_seeds=request.noise_seed,
            weight_seeds=request.weight_seed if stacked else None,
        )

    def solve(request: Request) -> tuple[torch.Tensor, list[str]]:
        initial = domain.initial(len(request), seed=request.ic_seed)
        theta = torch.from_numpy(request.theta.copy())
        frames = frames_of(initial, theta, request)
        return frames, domain.initial_kinds(len(request), seed=request.ic_seed)

    return solve


def replayed_test(
    config: NoaConfig, initial: torch.Tensor, theta: torch.Tensor, *, stream: str = "noise"
) -> torch.Tensor | None:
    """The first held-out trajectories once more; None where the domain adds no noise.

    Args:
        config: Settled, `data.path` being what `generate` wrote.
        initial: Their initial states `[sample, channel, height, width]`, in the data's units.
        theta: Their parameters `[sample, P]`, in the unit cube.
        stream: Of the noise's seeds; "noise" is that of the stored trajectories.

    Returns:
        Frames `[sample, time, channel, height, width]`, the initial ones included.
    """
    domain, data = domain_of(config), config.data
    if not isinstance(domain, RandomConvOperator) or domain.noise_scale == 0:
        return None
    assert data.path is not None
    stored = stored_facts(data.path)
    before = stored["num_train"] + stored["num_valid"]
    places = range(before, before + len(initial))
    is_stack = isinstance(domain.spec, StackSpec)
    parts = [
        CNOReplayer(domain).replay(
            initial[part.start - before : part.stop - before],
            theta[part.start - before : part.stop - before].double(),
            num_steps=data.num_steps,
            noise_seeds=[derive_seed(stream, data.seed, place) for place in part],
            weight_seeds=[derive_seed("weights", data.seed, p) for p in part] if is_stack else None,
        )
        for part in (places[k : k + BATCH] for k in range(0, len(places), BATCH))
    ]
    return torch.cat(parts)


def data_folder(config: NoaConfig) -> Path:
    """Where the data lie: `data.path`, or a folder named after what would be generated."""
    data = config.data
    if data.path is not None:
        return Path(data.path)
    domain = domain_of(config)
    if domain is None:
        raise InputError("data.path and data.domain are both null: there are no data")
    facts = data.model_dump(mode="json", exclude=NO_FACTS)
    facts |= {"version": domain.version, **_of_the_operator(data)}
    return named_folder(DEFAULT_ROOT, domain.name, facts)


def settle_data(config: NoaConfig, *, explicit: Collection[str] = ()) -> NoaConfig:
    """The configuration with `data` as it lies on disk, or as it will be generated.

    A given folder or file decides counts, steps, shape, domain and seed. A count or number of steps
    that the user named takes the first so many.

    Args:
        config: As resolved.
        explicit: Keys that the user gave.

    Raises:
        InputError: If given data do not exist, or do not hold what a given key asks for.
        LayoutError: If it holds no readable data.
    """
    folder = data_folder(config)
    facts = _facts_of_file(config) if config.data.layout == "spinlock" else _facts_of_folder(config)
    return settled_config(config, folder=folder, facts=facts, explicit=explicit)


def with_other_data(config: NoaConfig, path: str) -> NoaConfig:
    """The configuration with another data set in place of its own, settled.

    Args:
        config: Of a run.
        path: A folder in the_well's layout, or a file in spinlock's.

    Raises:
        InputError: As `settle_data`.
        LayoutError: As `settle_data`.
    """
    layout = "spinlock" if Path(path).is_file() else "well"
    own = dict.fromkeys(OF_FILES) if layout == "well" else {}
    data = config.data.model_copy(update={**own, "layout": layout, "path": path})
    return settle_data(config.model_copy(update={"data": data}))


def _facts_of_file(config: NoaConfig) -> dict[str, Any]:
    """What a file in spinlock's layout holds: no solver makes it again, its operators are not in it."""
    data = config.data
    assert data.path is not None
    own = {name: _default(name) for name in ("operator", "noise_scale")}
    facts = spinlock_facts(data.path, axis1=data.axis1, first_frame=data.first_frame)
    return {**facts, **own, "domain": None}


def _facts_of_folder(config: NoaConfig) -> dict[str, Any] | None:
    """What a given folder holds; None for the default one."""
    folder = data_folder(config)
    if config.data.path is None or _is_ours(folder):
        return None
    if folder.is_file():
        raise InputError(
            f"data.path: {folder} is a file, expected a folder with data/train/*.hdf5; for the published "
            "script's one file set data.layout to spinlock"
        )
    return _facts_on_disk(require_data(folder, app="noa"))


def _facts_on_disk(folder: Path) -> dict[str, Any]:
    stored = stored_attributes(folder)
    own = {
        "domain": stored.get("domain"),
        "seed": int(stored.get("seed", 0)),
        "operator": stored.get("operator", _default("operator")),
        "noise_scale": float(stored.get("noise_scale") or _default("noise_scale")),
    }
    return {**stored_facts(folder), **own}


def stored_domain(path: str) -> str | None:
    """The domain that a generated folder says it holds; None for any other."""
    try:
        domain = stored_attributes(path).get("domain")
    except (LayoutError, OSError):
        return None  # the reader says what is wrong when the data are opened
    return domain if isinstance(domain, str) else None


def ensure_data(config: NoaConfig) -> None:
    """Generate what is missing of the default data; given data are left alone."""
    folder = Path(config.data.path or data_folder(config))
    if config.data.domain is None or not _is_ours(folder):
        return
    plan = make_plan(config)
    if pending(folder, plan=plan):
        _run(config, plan, folder)


def _is_ours(folder: Path) -> bool:
    return folder.parent == DEFAULT_ROOT


def generate_data(config: NoaConfig) -> Generated:
    """Write what is missing of the configured data set."""
    _check_ours(config)
    return _run(config, make_plan(config), data_folder(config))


def _check_ours(config: NoaConfig) -> None:
    if config.data.layout != "well":
        raise InputError(
            f"data.layout = {config.data.layout}: such files are read, not generated, and hold no sums"
        )


def _run(config: NoaConfig, plan: Plan, folder: Path) -> Generated:
    """Generate; what an earlier call completed is kept."""
    domain = domain_of(config)
    assert domain is not None
    solve = solve_with(domain, num_steps=config.data.num_steps)
    make = partial(generate, folder, plan=plan, solve=solve, batch_size=BATCH)
    return run_generation(make, folder=folder, text=f"Generating {domain.name}")


def verify_data(config: NoaConfig) -> None:
    """Recompute every checksum, and replay samples with the solver.

    Raises:
        CheckFailed: Naming what does not match.
    """
    _check_ours(config)
    settled = settle_data(config)
    folder, domain = data_folder(settled), domain_of(settled)
    replay = None if domain is None else solve_with(domain, num_steps=settled.data.num_steps)
    run_verification(partial(verify, folder, replay=replay), folder=folder)
