"""Does an inverse loss help? Arms without one, the other, and both, over seeds and horizons."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nops_diagnostics import Report
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

from upt_inverse.config import UptConfig
from upt_inverse.evaluation import INITIAL, PREVIOUS
from upt_inverse.generation import ensure_data, settle_data
from upt_inverse.parts import Parts
from upt_inverse.report import load_evaluation, write_report
from upt_inverse.training import neutral_of, train_in

FIGURES = {
    "latent_nrmse": "latent rollout",
    "image_nrmse": "image rollout",
    "one_step_nrmse": "one step",
    "reconstruction_nrmse": "reconstruction",
}
BASELINES = {INITIAL: "initial state held", PREVIOUS: "true state before"}
NO_EFFECT = "no measurable effect"


def ablate(config: UptConfig, call: Invocation) -> None:
    """Train every arm with every seed and horizon, or go on; write the comparison."""
    world = join_world()
    study = world.from_main(lambda: open_study(call, word="ablation"))
    config = study_config(config, study, call)
    if config.tasks:
        raise InputError("tasks: ablate compares arms on one equation; give data in their place")
    config = settle_data(config, explicit=call.explicit)
    ensure_data(config)
    world.barrier()  # the ranks share the shards: each waits for those of the others
    train_children(
        study,
        children(config),
        call,
        config=config,
        build=Parts.of,
        train=train_in,
        report=write_report,
        neutral=neutral_of,
    )
    if world.is_main:
        print_table(study.path)
        print(f"Report: {report_study(study.path)}")


def children(config: UptConfig) -> dict[str, UptConfig]:
    """The configuration of each run, by the name of its folder.

    Raises:
        InputError: If an arm leaves nothing to train, or an option of it dead.
    """
    horizons = config.horizons or (config.loss.rollout_horizon,)
    return {
        f"{arm}_h{horizon}_s{seed}": _child(config, arm, horizon=horizon, seed=seed)
        for horizon in horizons
        for seed in config.seeds
        for arm in config.arms
    }


def _child(config: UptConfig, arm: str, *, horizon: int, seed: int) -> UptConfig:
    """One run; the horizon alone decides whether there is a rollout term."""
    plain = config.model_dump(mode="json")
    plain["train"] |= {"seed": seed}
    weights = dict.fromkeys(config.ablates(arm), 0.0)
    plain["loss"] |= {**weights, "rollout_horizon": horizon, "use_inverse_losses": None}
    if arm == "none" and config.weighting.kind == "curriculum":  # nothing would ramp
        plain["weighting"] = {"kind": "constant"}
    return parse_config(UptConfig, plain, source=f"arm {arm}, horizon {horizon}")


def scored(folder: Path) -> dict[tuple[int, str], list[RunFolder]]:
    """The evaluated runs of a study by horizon and arm, those asked for last, in order of the seeds.

    Raises:
        InputError: If there is none.
    """
    found: dict[tuple[int, str], list[RunFolder]] = {}
    order = Study(folder).read()["config"]["arms"]
    for run in Study(folder).children():
        arm = run.name.partition("_")[0]
        if arm in order and "metrics" in run.summary():
            found.setdefault((run.config["loss"]["rollout_horizon"], arm), []).append(run)
    if not found:
        raise InputError(f"{folder}: no run of this study was evaluated yet")
    return dict(sorted(found.items(), key=lambda item: (item[0][0], order.index(item[0][1]))))


def table_rows(folder: Path) -> list[dict[str, Any]]:
    """One row per horizon and arm, mean and spread over seeds; then the baselines."""
    rows, runs = [], scored(folder)
    for (horizon, arm), group in runs.items():
        figures = [run.summary()["metrics"] for run in group]
        row: dict[str, Any] = {"horizon": horizon, "arm": arm, "seeds": len(group)}
        for name in FIGURES:
            row[name] = mean_and_spread([one[name] for one in figures])
        for name in BASELINES:
            row[f"until_{name}"] = _overtaken(group, name)
        rows.append(row)
    baselines = next(iter(runs.values()))[0].summary()["baselines"]
    for name, label in BASELINES.items():
        rows.append({"arm": label, "latent_nrmse": baselines[f"{name}_nrmse"]})
    return rows


def _overtaken(group: Sequence[RunFolder], baseline: str) -> str:
    """The step at which a baseline overtakes the latent rollout, of each seed."""
    leads = [load_evaluation(run)[0].errors.overtaken("latent")[baseline] for run in group]
    return ", ".join("never" if lead is None else str(lead) for lead in leads)


def effect(figures: Mapping[str, Sequence[float]]) -> tuple[bool, str]:
    """Whether `both` is better than `none` by more than the joint spread, and that in words.

    Args:
        figures: The error of each seed, by arm.
    """
    both, none = figures["both"], figures["none"]
    gain = statistics.fmean(none) - statistics.fmean(both)
    joint = sum(statistics.stdev(v) if len(v) > 1 else 0.0 for v in (both, none))
    text = f"both {mean_and_spread(both)}, none {mean_and_spread(none)}"
    if len(both) > 1 and len(none) > 1 and gain > joint:
        return True, f"{text}: the inverse losses lower the error"
    return False, f"{text}: {NO_EFFECT}"


def report_study(folder: Path) -> Path:
    """Write the comparison's report."""
    runs, study = scored(folder), Study(folder)
    data = study.read()["config"]["data"]
    shape = " × ".join(map(str, data["shape"]))
    report = Report("UPT with inverse losses", f"{folder.name} · {data['pde']}, {shape}")
    for horizon in dict.fromkeys(horizon for horizon, _ in runs):
        _verdict(report, runs, horizon)
    report.add_section("Arms")
    report.add_text(
        "nRMSE of decoded fields on held-out trajectories, averaged over all steps, mean ± standard "
        "deviation over seeds. `none` has no inverse loss, `enc` and `dec` have one, `both` has "
        "both. Rollouts are free. The last columns: the first step at which a baseline has the "
        "smaller error than the latent rollout, of each seed."
    )
    until = {f"until_{name}": f"overtaken by “{label}”" for name, label in BASELINES.items()}
    columns = {"horizon": "horizon", "arm": "arm", "seeds": "seeds", **FIGURES, **until}
    report.add_table(table_rows(folder), caption="Arms and baselines", columns=columns)
    report.add_config(study.read()["config"], caption="Configuration of the study")
    report.add_machine()
    return report.write(study.report, plots=folder / "plots")


def _verdict(report: Report, runs: Mapping[tuple[int, str], list[RunFolder]], horizon: int) -> None:
    figures = {
        arm: [run.summary()["metrics"]["latent_nrmse"] for run in group]
        for (steps, arm), group in runs.items()
        if steps == horizon
    }
    if not {"both", "none"} <= set(figures):
        return
    helps, text = effect(figures)
    held = next(iter(runs.values()))[0].summary()["baselines"]
    worst = statistics.fmean(figures["both"])
    worst += statistics.stdev(figures["both"]) if len(figures["both"]) > 1 else 0.0
    details = [
        f"{label.capitalize()}: {held[f'{name}_nrmse']:.3f}, "
        + ("above" if held[f"{name}_nrmse"] > worst else "not above")
        + " mean + spread of arm both."
        for name, label in BASELINES.items()
    ]
    level = "good" if helps else "warning"
    report.add_verdict(f"Trained at horizon {horizon}: {text}.", level=level, details=details)


def print_table(folder: Path) -> None:
    """The table that a study ends with, in the terminal."""
    columns = ["horizon", "arm", "seeds", *FIGURES]
    table = Table(title="nRMSE of decoded fields on held-out trajectories, mean over all steps")
    for name in columns:
        table.add_column(FIGURES.get(name, name), justify="left" if name == "arm" else "right")
    for row in table_rows(folder):
        table.add_row(*(_cell(row.get(name)) for name in columns))
    Console().print(table)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
