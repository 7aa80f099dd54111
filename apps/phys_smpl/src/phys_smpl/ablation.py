"""Variants without physics, with physics alone and with a correction, over seeds, beside baselines."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nops_data import has_arrays
from nops_diagnostics import Report, plot_error_bars
from nops_train import (
    InputError,
    Invocation,
    RunFolder,
    Study,
    join_world,
    mean_and_spread,
    open_study,
    parse_config,
    study_config,
    train_children,
)
from rich.console import Console
from rich.table import Table

from phys_smpl.config import NO_PHYSICS_DIMS, PhysConfig
from phys_smpl.dead_keys import refuse_dead_keys
from phys_smpl.generation import settle_data
from phys_smpl.report import KINDS, SUMMED, baseline_name, load_evaluation, write_report
from phys_smpl.training import NEUTRAL, Parts, prepare_data, train_in

WARNED = "collapse warnings"
MOGI_DIM = {True: 6, False: 4}  # latents of A, for simulated and for measured displacements


def ablate(config: PhysConfig, call: Invocation) -> None:
    """Train every variant with every seed, or go on; write the comparison."""
    refuse_dead_keys(config, call.explicit)
    world = join_world()
    study = world.from_main(lambda: open_study(call, word="ablation"))
    config = with_choices(study_config(config, study, call), call.options)
    config = settle_data(config, explicit=call.explicit)
    prepare_data(config)
    runs = children(config)
    train_children(
        study,
        runs,
        call,
        config=config,
        build=Parts.of,
        train=train_in,
        report=write_report,
        neutral=lambda _: NEUTRAL,
        titles={name: f": {KINDS[own.model.kind]}" for name, own in runs.items()},
    )
    if world.is_main:
        print_table(study.path)
        print(f"Report: {report_study(study.path)}")


def with_choices(config: PhysConfig, options: Any) -> PhysConfig:
    """The options `--variants A,B` and `--seeds 0,1` laid over the section `ablation`.

    Raises:
        InputError: If one is no such list.
    """
    chosen: dict[str, Any] = {}
    if options.get("variants"):
        chosen["variants"] = [part.strip() for part in options["variants"].split(",")]
    if options.get("seeds") is not None:
        text = str(options["seeds"])
        parts = [part.strip() for part in text.split(",")]
        if not all(part.isdecimal() for part in parts):
            raise InputError(f"--seeds: expected numbers such as 0,1,2; found {text}")
        chosen["seeds"] = [int(part) for part in parts]
    plain = config.model_dump(mode="json")
    plain["ablation"] |= chosen
    return parse_config(PhysConfig, plain, source="ablate")


def children(config: PhysConfig) -> dict[str, PhysConfig]:
    """The configuration of each run, by the name of its folder."""
    chosen = config.ablation
    return {
        f"{kind}_s{seed}": child(config, kind, seed=seed)
        for kind in chosen.variants
        for seed in chosen.seeds
    }


def child(config: PhysConfig, kind: str, *, seed: int) -> PhysConfig:
    """One run: the configuration with another model and seed.

    Raises:
        InputError: If the configuration has no correction that C or G could have.
    """
    plain = config.model_dump(mode="json")
    plain["train"] |= {"seed": seed}
    if kind in "CG" and not config.model.aux_dim:
        raise InputError(f"variant {kind} needs model.aux_dim of 1 at least, found 0")
    models: dict[str, dict[str, Any]] = {
        "A": {"residual": "no_physics", "aux_dim": no_physics_dim(config), "prior": "normal"},
        "B": {"residual": "low_rank", "aux_dim": 0},
        "C": {"residual": "low_rank"},
        "G": {"residual": "gated"},
    }
    plain["model"] |= models[kind]
    if kind != "C":
        plain["model"] |= {"rank": None, "time_features": 0}
    return parse_config(PhysConfig, plain, source=f"variant {kind}, seed {seed}")


def no_physics_dim(config: PhysConfig) -> int:
    """Latents of variant A."""
    if config.ablation.no_physics_dim is not None:
        return config.ablation.no_physics_dim
    if config.problem == "mogi":
        return MOGI_DIM[config.data.path is None or has_arrays(config.data.path)]
    return NO_PHYSICS_DIMS[config.problem]


def scored(folder: Path) -> dict[str, list[RunFolder]]:
    """The evaluated runs of a study by variant, in the order asked for.

    Raises:
        InputError: If there is none.
    """
    found: dict[str, list[RunFolder]] = {}
    for run in Study(folder).children():
        if "metrics" in run.summary():
            found.setdefault(run.name.partition("_")[0], []).append(run)
    if not found:
        raise InputError(f"{folder}: no run of this study was evaluated yet")
    order = Study(folder).read()["config"]["ablation"]["variants"]
    return {kind: found[kind] for kind in order if kind in found}


def table_rows(folder: Path) -> list[dict[str, Any]]:
    """One row per variant, mean ± spread over seeds; then the baselines."""
    rows, runs = [], scored(folder)
    for kind, group in runs.items():
        evaluations = [load_evaluation(run) for run in group]
        row: dict[str, Any] = {"variant": f"{kind}: {KINDS[kind]}", "seeds": len(group)}
        row["x_PB"] = mean_and_spread([e.errors["x_pb"] for e in evaluations])
        if kind != "A":
            row["x_P"] = mean_and_spread([e.errors["x_p"] for e in evaluations])
        recovered = [{r["parameter"]: r["r2"] for r in e.recovery} for e in evaluations]
        for name in recovered[0]:
            row[f"R² {name}"] = mean_and_spread([one[name] for one in recovered])
        row[WARNED] = sum(
            len(e.collapse["warnings"]) for e in evaluations if e.collapse is not None
        )
        rows.append(row)
    for name, value in baseline_values(runs).items():
        rows.append({"variant": baseline_name(name), "x_PB": value})
    return rows


def baseline_values(runs: dict[str, list[RunFolder]]) -> dict[str, float]:
    """Those of all variants: they do not depend on the seed of training."""
    found: dict[str, float] = {}
    for group in runs.values():
        found |= load_evaluation(group[0]).baselines
    ranks = sorted((name for name in found if name.startswith("pca_")), key=lambda n: int(n[4:]))
    order = ["mean", *ranks, "oracle"]
    return {name: found[name] for name in order if name in found}


def report_study(folder: Path) -> Path:
    """Write the comparison's report."""
    rows, study = table_rows(folder), Study(folder)
    config = study.read()["config"]
    report = Report("Physics-integrated VAE: variants", f"{folder.name} · {config['problem']}")
    report.add_section("Variants")
    report.add_text(
        f"{SUMMED}, on test observations, mean ± standard deviation over seeds. x_P is the physics "
        "alone. Better reconstruction is no better physics: compare x_P and the parameters, and the "
        "PCA of as many components as a variant has latents."
    )
    runs = scored(folder)
    _verdict(report, runs)
    report.add_table(rows, caption="Variants and baselines", columns=_headings(rows))
    bars = {
        f"{kind}, {what}": statistics.fmean(load_evaluation(run).errors[key] for run in runs[kind])
        for kind in runs
        for what, key in (("x_PB", "x_pb"), ("x_P", "x_p"))
        if not (kind == "A" and key == "x_p")
    }
    bars |= {baseline_name(name): value for name, value in baseline_values(runs).items()}
    report.add_figure(
        plot_error_bars(bars, ylabel="Σ squares"), name="errors", caption="Means over seeds."
    )
    report.add_config(config, caption="Configuration of the study")
    report.add_machine()
    return report.write(study.report, plots=folder / "plots")


def _headings(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Columns that any row has; errors and parameters before what is counted."""
    found = list(dict.fromkeys(key for row in rows for key in row))
    order = ["variant", "seeds", "x_PB", "x_P"]
    last = [key for key in found if key == WARNED]
    names = [key for key in order if key in found]
    middle = [key for key in found if key not in (*names, *last)]
    return {key: key for key in (*names, *middle, *last)}


def _verdict(report: Report, runs: dict[str, list[RunFolder]]) -> None:
    """What the correction does to the error and to the parameter that is recovered worst."""
    if not {"B", "C"} <= set(runs):
        return
    worst, errors = {}, {}
    for kind in "BC":
        found = [load_evaluation(run) for run in runs[kind]]
        errors[kind] = mean_and_spread([e.errors["x_pb"] for e in found])
        worst[kind] = min((row["r2"], row["parameter"]) for e in found for row in e.recovery)
    (before, of_b), (after, of_c) = worst["B"], worst["C"]
    report.add_verdict(
        f"The correction takes Σ squares from {_cell(errors['B'])} to {_cell(errors['C'])}, and the "
        f"lowest R² of a parameter from {before:.3f} ({of_b}) to {after:.3f} ({of_c}).",
        level="good" if after > before else "warning",
    )


def print_table(folder: Path) -> None:
    """The table that a study ends with, in the terminal."""
    rows = table_rows(folder)
    columns = list(_headings(rows))
    table = Table(title=f"{SUMMED}, test")
    for name in columns:
        table.add_column(name, justify="left" if name == "variant" else "right")
    for row in rows:
        short = {**row, "variant": row["variant"].partition(":")[0]}
        table.add_row(*(_cell(short.get(name)) for name in columns))
    Console().print(table)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
