"""Simulated observations: drawn, disturbed, noisy, and written once."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nops_data import has_arrays, named_folder, read_facts, write_arrays
from nops_physics import AdvectionDiffusion, Pendulum, network_modes
from nops_train import InputError, Invocation, parse_config

from phys_smpl.config import PhysConfig
from phys_smpl.config_data import NETWORKS
from phys_smpl.problems import Beside, make_physics, station_positions

ROOT = Path("data") / "phys-smpl"
SPLITS = ("train", "valid", "test")
VERSION = 1  # of the draws: another number makes other folders
NOISE = {
    "mogi": 0.5,
    "okada": 0.5,
    "inform": 0.005,
    "pendulum": 1e-2,
    "advection_diffusion": 1e-3,
}  # in the unit of the data
INNER = (0.02, 0.98)  # of the range of a parameter, where truths are drawn
SUBSTEPS = {"pendulum": 50, "advection_diffusion": 10}  # per frame: integrated to 1e-8
PENDULUM = {"omega": (0.785, 3.14), "gamma": (0.0, 0.8), "A": (0.0, 40.0), "f": (3.14, 6.28)}
THETA0 = (-1.57, 1.57)
TRANSPORT = {"a": (0.01, 0.1), "b": (0.01, 0.1)}
MAGNITUDE = (0.5, 1.5)

Arrays = dict[str, np.ndarray]


def noise_of(config: PhysConfig) -> float:
    """Standard deviation of the noise of simulated data, in their unit."""
    return config.data.noise or NOISE[config.problem]


def data_folder(config: PhysConfig) -> Path:
    """Where the data lie: `data.path`, or a folder named after what would be simulated."""
    if config.data.path is not None:
        return Path(config.data.path)
    return named_folder(ROOT, config.problem, _facts(config))


def _facts(config: PhysConfig) -> dict[str, Any]:
    data = config.data
    return {
        "version": VERSION,
        "problem": config.problem,
        "seed": data.seed,
        "noise": noise_of(config),
        "disturbance": data.disturbance if config.problem in NETWORKS else 0.0,
        **{f"num_{split}": getattr(data, f"num_{split}") for split in SPLITS},
        "physics": config.physics.model_dump(mode="json"),
    }


def settle_data(config: PhysConfig, *, explicit: Collection[str] = ()) -> PhysConfig:
    """The configuration with the place of the data; simulated data say which problem they are of.

    Raises:
        InputError: If there is no folder of data, or the data are of another problem than asked for.
    """
    folder = data_folder(config)
    plain = config.model_dump(mode="json")
    plain["data"]["path"] = str(folder)
    if folder.parent != ROOT:
        if not folder.is_dir():
            raise InputError(
                f"data.path: found no folder at {folder}, expected one with train.csv, valid.csv and "
                f"test.csv; `phys-smpl generate --out {folder}` would simulate data there"
            )
        if has_arrays(folder):
            plain = _of_problem(plain, read_facts(folder), folder, explicit)
    return parse_config(PhysConfig, plain, source=str(folder))


def _of_problem(
    plain: dict[str, Any], facts: dict[str, Any], folder: Path, explicit: Collection[str]
) -> dict[str, Any]:
    found, data = facts.get("problem"), dict(plain["data"])
    if found != plain["problem"] and "problem" in explicit:
        raise InputError(f"problem: {plain['problem']}, but {folder} holds {found}")
    for name in ("seed", "noise", "disturbance", *(f"num_{split}" for split in SPLITS)):
        if f"data.{name}" in explicit and data[name] != facts.get(name):
            raise InputError(
                f"data.{name} = {data[name]}, but {folder} was simulated with {facts.get(name)}"
            )
        data[name] = facts.get(name, data[name])
    return {**plain, "problem": found, "data": data}


def ensure_data(config: PhysConfig) -> None:
    """Simulate the default data where they are absent; given data are left alone."""
    folder = data_folder(config)
    if folder.parent == ROOT and not has_arrays(folder):
        generate_data(config, folder)


def simulate_observations(config: PhysConfig, call: Invocation) -> None:
    """Simulate into `--out`, or where `train` would.

    Raises:
        InputError: If `--data` names a folder too.
    """
    out = call.options["out"]
    if out and config.data.path:
        raise InputError("generate: --out and --data name one folder; give one of them")
    generate_data(config, Path(out) if out else data_folder(config))


def generate_data(config: PhysConfig, folder: Path) -> None:
    """Simulate the configured observations.

    Raises:
        InputError: If the forward model cannot be built, or a parameter means nothing to it.
    """
    beside = Beside()
    physics = make_physics(config, beside)
    facts: dict[str, Any] = {**_facts(config), "output_names": list(physics.output_names)}
    if config.problem in NETWORKS:
        facts["stations"] = station_positions(config, beside).tolist()
    if config.problem not in SUBSTEPS:
        ends = physics.bounds.double().tolist()
        facts["ranges"] = dict(zip(physics.parameter_names, ends, strict=True))
    counts = {split: getattr(config.data, f"num_{split}") for split in SPLITS}
    made = {
        split: simulate(config, physics, count, np.random.default_rng(config.data.seed + place))
        for place, (split, count) in enumerate(counts.items())
    }
    facts["parameter_names"] = list(drawn_names(config, physics))
    write_arrays(folder, made, facts=facts)
    shown = ", ".join(f"{count} {split}" for split, count in counts.items())
    print(f"Data: {folder} ({shown} observations simulated)")


def drawn_names(config: PhysConfig, physics: Any) -> tuple[str, ...]:
    """Parameters that observations were made with, more than the forward model knows in a series."""
    if config.problem == "pendulum":
        return tuple(PENDULUM)
    return tuple(TRANSPORT) if config.problem == "advection_diffusion" else physics.parameter_names


def simulate(config: PhysConfig, physics: Any, count: int, rng: np.random.Generator) -> Arrays:
    """`x` [sample, output] with noise, the `parameters` behind it, and `input_<name>`s."""
    if config.problem == "pendulum":
        return _pendulum(count, rng, noise=noise_of(config))
    if config.problem == "advection_diffusion":
        return _transport(count, rng, noise=noise_of(config))
    low, high = (ends.double().numpy() for ends in physics.bounds.unbind(1))
    parameters = low + (high - low) * rng.uniform(*INNER, size=(count, len(low)))
    with torch.no_grad():
        x = torch.cat([physics(part) for part in torch.from_numpy(parameters).split(256)]).numpy()
    if config.problem in NETWORKS:
        modes = network_modes(physics.stations).numpy()
        x = x + config.data.disturbance * rng.normal(size=(count, len(modes))) @ modes
    return {"x": x + rng.normal(0.0, noise_of(config), size=x.shape), "parameters": parameters}


def _uniform(ranges: Collection[tuple[float, float]], count: int, rng: Any) -> list[np.ndarray]:
    return [rng.uniform(low, high, size=count) for low, high in ranges]


def _fine(values: np.ndarray, frames: int, substeps: int) -> np.ndarray:
    """Every `substeps`-th time of outputs `[sample, time, …]`."""
    return values.reshape(len(values), frames * substeps, -1)[:, ::substeps]


def _pendulum(count: int, rng: np.random.Generator, *, noise: float) -> Arrays:
    """The draws are those of the published generator, in its order."""
    theta0, *drawn = _uniform([THETA0, *PENDULUM.values()], count, rng)
    parameters, substeps, plain = np.stack(drawn, 1), SUBSTEPS["pendulum"], Pendulum()
    steps, dt = plain.steps * substeps, plain.dt / substeps
    fine = Pendulum(steps=steps, dt=dt, forced=True)
    angle = fine(torch.from_numpy(parameters), {"theta0": torch.from_numpy(theta0)}).numpy()
    x = _fine(angle, plain.steps, substeps)[..., 0]
    return {
        "x": x + rng.normal(0.0, noise, size=x.shape),
        "parameters": parameters,
        "input_theta0": theta0,
    }


def _transport(count: int, rng: np.random.Generator, *, noise: float) -> Arrays:
    """The draws are those of the published generator, in its order; here the flow runs forward."""
    magnitude, *drawn = _uniform([MAGNITUDE, *TRANSPORT.values()], count, rng)
    parameters, substeps = np.stack(drawn, 1), SUBSTEPS["advection_diffusion"]
    plain = AdvectionDiffusion()
    initial = magnitude[:, None] * np.asarray(plain.input_defaults[0])
    finer = {"steps": plain.steps * substeps, "dt": plain.dt / substeps}
    fine = AdvectionDiffusion(**finer, advection=True, method="rk4")
    field = fine(torch.from_numpy(parameters), {"initial": torch.from_numpy(initial)}).numpy()
    noise_by_place = rng.normal(0.0, noise, size=(count, plain.points, plain.steps))
    x = _fine(field, plain.steps, substeps) + noise_by_place.transpose(0, 2, 1)
    return {"x": x.reshape(count, -1), "parameters": parameters, "input_initial": initial}
