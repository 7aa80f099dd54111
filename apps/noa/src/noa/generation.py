"""Trajectories of a domain, written once; or the facts of a folder that was given."""

import hashlib
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from nops_data import (
    Generated,
    LayoutError,
    Plan,
    Progress,
    Request,
    SplitPlan,
    WellReader,
    generate,
    pending,
    stored_attributes,
    verify,
)
from nops_physics import Domain, derive_seed, make_domain, physical_parameters, sobol_parameters
from nops_train import CheckFailed, InputError, parse_config
from rich import progress as rich_progress

from noa.config import NoaConfig, NoaDataConfig

SPLITS = ("train", "valid", "test")
BATCH = 16  # trajectories solved at a time
DEFAULT_ROOT = Path("data") / "noa"


def domain_of(config: NoaConfig) -> Domain | None:
    """The solver of the configured domain; None for data of unknown origin."""
    data = config.data
    if data.domain is None:
        return None
    options = {"weight_seed": data.seed} if data.domain == "random_conv" else {}
    return make_domain(data.domain, shape=data.shape, **options)


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
        attributes={"seed": data.seed},
    )


def _splits(domain: Domain, data: NoaDataConfig) -> dict[str, SplitPlan]:
    """Consecutive stretches of one Sobol sequence, so that no split shares a parameter."""
    splits, first = {}, 0
    weight_seed = data.seed if data.domain == "random_conv" else 0
    for split, count in zip(SPLITS, (data.num_train, data.num_valid, data.num_test), strict=True):
        theta = sobol_parameters(count, num_parameters=len(domain.parameters), skip=first)
        splits[split] = SplitPlan(
            theta=theta,
            parameters=physical_parameters(theta, domain.parameters),
            ic_seed=[derive_seed("initial", data.seed, first + i) for i in range(count)],
            weight_seed=weight_seed,
        )
        first += count
    return splits


def solve_with(domain: Domain, *, num_steps: int) -> Any:
    """The callable that computes what a plan asks for."""

    def solve(request: Request) -> tuple[torch.Tensor, list[str]]:
        initial = domain.initial(len(request), seed=request.ic_seed)
        theta = torch.from_numpy(request.theta.copy())
        frames = domain.trajectory(initial, theta, num_steps=num_steps)
        return frames, domain.initial_kinds(len(request), seed=request.ic_seed)

    return solve


def data_folder(config: NoaConfig) -> Path:
    """Where the data lie: `data.path`, or a folder named after what would be generated."""
    data = config.data
    if data.path is not None:
        return Path(data.path)
    domain = domain_of(config)
    if domain is None:
        raise InputError("data.path and data.domain are both null: there are no data")
    facts = data.model_dump(mode="json", exclude={"path"}) | {"version": domain.version}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return DEFAULT_ROOT / f"{data.domain}-{digest[:8]}"


def settle_data(config: NoaConfig, *, explicit: Collection[str] = ()) -> NoaConfig:
    """The configuration with `data` as it lies on disk, or as it will be generated.

    A given folder decides counts, steps, shape, domain and seed. A count or number of steps that
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
            f"`noa generate --data {folder}` would make one"
        )
    facts = _agreed(_facts_on_disk(folder), config, explicit, folder) if given else {}
    data = config.data.model_copy(update={"path": str(folder), **facts})
    settled = config.model_copy(update={"data": data})
    return parse_config(NoaConfig, settled.model_dump(mode="json"), source=str(folder))


def _facts_on_disk(folder: Path) -> dict[str, Any]:
    readers = {split: WellReader(folder, split=split) for split in SPLITS}
    stored = stored_attributes(folder)
    return {
        **{f"num_{split}": len(reader) for split, reader in readers.items()},
        "num_steps": min(reader.num_frames for reader in readers.values()) - 1,
        "shape": readers["train"].shape,
        "domain": stored.get("domain"),
        "seed": int(stored.get("seed", 0)),
    }


def _agreed(
    facts: dict[str, Any], config: NoaConfig, explicit: Collection[str], folder: Path
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


def stored_domain(path: str) -> str | None:
    """The domain that a generated folder says it holds; None for any other."""
    try:
        return stored_attributes(path).get("domain")
    except (LayoutError, OSError):
        return None  # the reader says what is wrong when the data are opened


def ensure_data(config: NoaConfig) -> None:
    """Generate what is missing of the default data; given data are left alone."""
    folder = Path(config.data.path or data_folder(config))
    if config.data.domain is None or not _is_ours(folder):
        return
    plan = make_plan(config)
    if pending(folder, plan=plan):
        run_generation(config, plan, folder)


def _is_ours(folder: Path) -> bool:
    return folder.parent == DEFAULT_ROOT


def generate_data(config: NoaConfig) -> Generated:
    """Write what is missing of the configured data set."""
    return run_generation(config, make_plan(config), data_folder(config))


def run_generation(config: NoaConfig, plan: Plan, folder: Path) -> Generated:
    """Generate with a progress bar; what an earlier call completed is kept."""
    domain = domain_of(config)
    assert domain is not None
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns) as bar:
        task = bar.add_task(f"Generating {domain.name}", total=None)

        def show(state: Progress) -> None:
            bar.update(task, completed=state.done, total=state.total)

        with one_thread():
            done = generate(
                folder,
                plan=plan,
                solve=solve_with(domain, num_steps=config.data.num_steps),
                batch_size=BATCH,
                progress=show,
            )
    for note in done.notes:
        print(note)
    print(f"Data: {folder} ({done.written} trajectories written, {done.kept} kept)")
    return done


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: a small grid's operations are shorter than waiting for a second."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def verify_data(config: NoaConfig) -> None:
    """Recompute every checksum, and replay samples with the solver.

    Raises:
        CheckFailed: Naming what does not match.
    """
    settled = settle_data(config)
    folder, domain = data_folder(settled), domain_of(settled)
    replay = domain and solve_with(domain, num_steps=settled.data.num_steps)
    with one_thread():
        found = verify(folder, replay=replay)
    if found.problems:
        raise CheckFailed("\n".join(found.problems))
    print(
        f"{folder}: {found.num_checked} checksums match; {found.num_replayed} trajectories replayed, "
        f"largest relative difference {found.max_difference:.1e}"
    )
