"""Posteriors of a table of observations: parameters with uncertainty, row by row."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nops_data import has_arrays, read_table
from nops_models import PhysicsVAE
from nops_train import InputError, Invocation, RunFolder, load_weights, weights_source
from torch import Tensor

from phys_smpl.build import build_model
from phys_smpl.config import PhysConfig
from phys_smpl.data import Bundle, Split, TableReader, open_bundle
from phys_smpl.evaluation import BATCH, DOMINATES, moved

FAR = 10.0  # standard deviations of the training data
QUANTILES = {"p05": 0.05, "p50": 0.5, "p95": 0.95}
COPIED = ("date", "sample_id", "class")


def write_posterior(config: PhysConfig, call: Invocation) -> None:
    """Read a CSV of observations, write a CSV with a row of posteriors for each.

    Raises:
        InputError: If the run has no physics, a path is missing, or the file does not fit.
    """
    assert call.folder is not None
    source, out = call.options["input"], call.options["output"]
    if not source or not out:
        raise InputError("posterior: expected --input CSV and --output CSV")
    bundle = open_bundle(config)
    model = build_model(config, bundle).eval()
    if not model.latent_dim:
        raise InputError(
            f"{call.folder}: trained without physics: there are no parameters to infer"
        )
    load_weights(model, weights_source(RunFolder.at(call.folder), config.evaluate.checkpoint))
    copied, split = read_rows(config, bundle, Path(source))
    rows = posterior_rows(config, bundle, model, split)
    _write(Path(out), [{**copy, **row} for copy, row in zip(copied, rows, strict=True)])
    far = sum(bool(row["beyond_training"]) for row in rows)
    print(
        f"Posteriors: {out} ({len(rows)} rows, {far} with channels beyond {FAR:g} sd of training)"
    )


def read_rows(config: PhysConfig, bundle: Bundle, path: Path) -> tuple[list[dict[str, str]], Split]:
    """The observations of a table in the layout of the run's data, and what is copied of each row.

    Of simulated data the columns are the names of the outputs, physical, and `<input>` or
    `<input>_<k>` for the known inputs.
    """
    assert config.data.path is not None
    table, folder = read_table(path), Path(config.data.path)
    copied = [
        {name: table.cells[name][i] for name in COPIED if name in table.columns}
        for i in range(len(table))
    ]
    if not has_arrays(folder):
        reader = TableReader.of(config, folder, read_table(folder / "train.csv"))
        return copied, reader.split(table)
    values = torch.from_numpy(table.numbers(bundle.channels)).float()
    inputs: dict[str, Tensor] = {}
    for name, held in bundle.splits["train"].inputs.items():
        wide = held.ndim > 1
        columns = [f"{name}_{k}" for k in range(held.shape[1])] if wide else [name]
        read = torch.from_numpy(table.numbers(columns)).float()
        inputs[name] = read if wide else read[:, 0]
    return copied, Split(x=(values - bundle.mean) / bundle.scale, inputs=inputs, truth={})


def posterior_rows(
    config: PhysConfig, bundle: Bundle, model: PhysicsVAE, split: Split
) -> list[dict[str, Any]]:
    """One row of figures per observation."""
    train = bundle.splits["train"].x
    mean, sd = train.mean(0), train.std(0).clamp_min(1e-12)
    device = next(model.parameters()).device
    generator = torch.Generator(device=device).manual_seed(config.train.seed)
    names, found = model.physics.parameter_names, []
    for first in range(0, len(split), BATCH):
        rows = slice(first, first + BATCH)
        x, more = moved(split, rows, device)
        held = model.posterior(x, **more, samples=config.evaluate.samples, generator=generator)
        levels = torch.tensor(list(QUANTILES.values()), device=device)
        quantiles = torch.quantile(held.samples, levels, dim=1).cpu()  # (level, row, P)
        far = ((split.x[rows] - mean).abs() / sd > FAR).numpy()
        for i in range(len(x)):
            row: dict[str, Any] = {}
            for j, name in enumerate(names):
                row[f"{name}_mean"] = held.mean_tensor[i, j].item()
                row[f"{name}_sd"] = held.sd[name][i].item()
                row |= {f"{name}_{k}": quantiles[q, i, j].item() for q, k in enumerate(QUANTILES)}
            ratio = held.residual_ratio[i].item()
            row["residual_ratio"] = ratio
            at_edge = [name for j, name in enumerate(names) if bool(held.edge[i, j])]
            row["edge"] = " ".join(at_edge)
            row["residual_dominates"] = int(not math.isfinite(ratio) or ratio > DOMINATES)
            row["beyond_training"] = " ".join(np.array(bundle.channels)[far[i]])
            found.append(row)
    return found


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.7g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )
    part.replace(path)
