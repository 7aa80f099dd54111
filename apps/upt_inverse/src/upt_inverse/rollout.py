"""Decoded rollouts of a trained model, on its grid or at any points, as HDF5."""

import math
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from nops_train import InputError, Invocation, RunFolder, load_weights, weights_source

from upt_inverse.build import Bundle, build_forecaster
from upt_inverse.config import UptConfig
from upt_inverse.forecast import Mode
from upt_inverse.parts import Parts
from upt_inverse.training import check_statistics


def write_rollout(config: UptConfig, call: Invocation) -> None:
    """Roll out from the start of every test trajectory, and write the decoded fields.

    Raises:
        InputError: If the steps go beyond the time table, or the queries are not there.
    """
    assert call.folder is not None
    run, options = RunFolder.at(call.folder), call.options
    parts = Parts.of(config)
    part = parts.one(options["task"], flag="--task")
    check_statistics(run, parts)
    load_weights(parts.model, weights_source(run, config.evaluate.checkpoint))
    config, bundle, model = part.config, part.bundle, part.model
    where = _queries(options["queries"], bundle)
    steps = options["steps"] or config.frames - config.model.history
    values = _decoded(config, bundle, model, where, steps=steps, mode=options["mode"])
    path = Path(options["out"] or run.path / "rollout.h5")
    _write(path, values, bundle, where, config=config, steps=steps, mode=options["mode"])
    print(f"Rollout: {path} ({len(values)} trajectories, {steps} steps, {values.shape[2]} points)")


def _queries(named: str, bundle: Bundle) -> torch.Tensor:
    """Points in the data's coordinates, float64."""
    if named == "grid":
        return bundle.geometry.positions.double() + torch.tensor(bundle.geometry.origin).double()
    return read_points(Path(named), axes=len(bundle.geometry.shape))


def read_points(path: Path, *, axes: int) -> torch.Tensor:
    """Points `[query, axis]` of a CSV file without a heading, float64.

    Raises:
        InputError: With the file, the line and what was found there.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--queries {path}: cannot be read: {error}") from error
    points = [_point(line, f"{path}, line {n}", axes) for n, line in enumerate(lines, 1) if line]
    if not points:
        raise InputError(f"--queries {path}: holds no point")
    return torch.tensor(points, dtype=torch.float64)


def _point(line: str, place: str, axes: int) -> list[float]:
    try:
        point = [float(part) for part in line.split(",")]
    except ValueError:
        point = []
    if len(point) != axes or not all(math.isfinite(value) for value in point):
        raise InputError(f"--queries {place}: found {line!r}, expected {axes} coordinates")
    return point


def _decoded(
    config: UptConfig, bundle: Bundle, model: Any, where: torch.Tensor, *, steps: int, mode: Mode
) -> torch.Tensor:
    """Rollouts `[sample, time, query, channel]` in the data's units."""
    forecaster, parts = build_forecaster(config, bundle, model.eval()), []
    shifted = (where - torch.tensor(bundle.geometry.origin, dtype=where.dtype)).float()
    chunk = config.loss.chunk_size
    with torch.no_grad():
        for batch in bundle.test.batches(epoch=0):
            states = forecaster.states(batch["frames"], batch["start"], batch["parameters"])
            try:
                values = forecaster.rollout(
                    states, steps=steps, mode=mode, queries=shifted, chunk_size=chunk
                )
            except ValueError as error:
                raise InputError(f"--steps {steps}: {error}") from error
            parts.append(bundle.normaliser.denormalise(values, channel_dim=-1))
    return torch.cat(parts)


def _write(
    path: Path,
    values: torch.Tensor,
    bundle: Bundle,
    where: torch.Tensor,
    *,
    config: UptConfig,
    steps: int,
    mode: str,
) -> None:
    """`/positions` [query, axis], `/times` [time], `/fields/<name>` [sample, time, query, channel].

    Written beside and renamed, so that a file is whole or not there.
    """
    first = config.model.history  # index of the first predicted frame
    times = (first + np.arange(steps)) * bundle.frame_interval
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(part, "w") as file:
            file.attrs.update(mode=mode, pde=config.data.pde, frame_interval=bundle.frame_interval)
            file["positions"] = where.numpy()
            file["times"] = times
            for name, field in bundle.fields.split(values).items():
                file[f"fields/{name}"] = field.numpy()
        os.replace(part, path)
    except OSError as error:
        raise InputError(f"--out {path}: cannot be written: {error.strerror or error}") from error
