"""The report of one run."""

import math
from pathlib import Path
from typing import Any

import torch
from nops_diagnostics import Report, plot_profiles, plot_rollout, plot_training
from nops_train import Invocation, RunFolder, load_run_config, read_events, report_each
from torch import Tensor

from pinn_weighting.chain import make_chain
from pinn_weighting.config import PinnConfig
from pinn_weighting.evaluation import Evaluation, load_evaluation, selection, weighting_events
from pinn_weighting.problems import FACTS, Facts

DOING_NOTHING = 1.0  # the error of a network that predicts no increment, or zero


def report_runs(call: Invocation) -> None:
    """Write reports again: of runs, and of studies."""
    from pinn_weighting.report_study import report_study

    report_each(call, run=write_report, study=report_study)


def write_report(run: RunFolder) -> Path:
    """The report of one evaluated run."""
    evaluation, config = load_evaluation(run), load_run_config(PinnConfig, run.path)
    report = Report("Weighting of loss terms", f"{run.name} · {subject(config)}")
    _verdict(report, config, evaluation)
    report.add_facts(_facts(run, evaluation))
    _solution_section(report, config, evaluation)
    _terms_section(report, run, evaluation)
    _selection_section(report, selection(run))
    report.add_section("The run")
    report.add_config(run.config)
    report.add_machine()
    return report.write(run.report, plots=run.plots)


def subject(config: PinnConfig) -> str:
    """Problem and weighting in words."""
    strategy = getattr(config.weighting, "strategy", None)
    name = config.weighting.kind if strategy is None else f"{config.weighting.kind} {strategy}"
    return f"{config.problem.name.replace('_', ' ')}, weighting {name.replace('_', ' ')}"


def _verdict(report: Report, config: PinnConfig, evaluation: Evaluation) -> None:
    error, scores = evaluation.scores["error"], evaluation.scores
    if not config.problem.is_chain:
        headline = f"Relative L2 error {error:.3g} against the reference."
        level: Any = "good" if error < 0.1 else "warning" if error < DOING_NOTHING else "bad"
        report.add_verdict(headline, level=level, details=["Zero everywhere has 1."])
        return
    radius, lost = scores["spectral_radius"], scores["first_step_above_1"]
    held = math.isinf(lost)
    integrator = make_chain(config).spectral_radius(config.physics.scheme)
    report.add_verdict(
        f"A step misses its increment by {100 * error:.2g} %; the rollout "
        + ("keeps to the truth." if held else f"is lost at step {lost:.0f}."),
        level="good" if held and error < DOING_NOTHING else "warning",
        details=[
            f"Spectral radius of the learned step at rest {radius:.5f}; of {config.physics.scheme} "
            f"{integrator:.5f}. Above 1 small errors grow from step to step"
            + (", were it not for the energy bound." if config.model.energy_bound else "."),
            "Doing nothing misses the increment by 100 %.",
            *([] if held else [remedy(config)]),
        ],
    )


def remedy(config: PinnConfig) -> str:
    """What to change where a rollout is lost."""
    if not config.model.energy_bound:
        return (
            "Remedy: model.energy_bound, under which no mode gains more than the push gives; it "
            "changes no training."
        )
    if not config.problem.noise:
        return "Remedy: problem.noise, which shows the network the short waves of its own errors."
    return "Remedy: more epochs, or more of problem.noise."


def _facts(run: RunFolder, evaluation: Evaluation) -> dict[str, Any]:
    summary = run.summary()
    seconds, steps = summary.get("seconds"), summary.get("steps")
    shown = {
        **evaluation.scores,
        "optimizer steps": steps,
        "training, s": seconds,
        "steps per s": steps / seconds if steps and seconds else None,
        "backward passes per step": summary.get("backward_passes_per_step"),
    }
    return {name.replace("_", " "): value for name, value in shown.items() if value is not None}


def _solution_section(report: Report, config: PinnConfig, evaluation: Evaluation) -> None:
    report.add_section("Solution")
    facts = FACTS[config.problem.name]
    if config.problem.is_chain:
        _add_step(report, evaluation)
    if evaluation.pred.dim() == 2:
        _add_line(report, evaluation, facts.outputs[0])
    else:
        _add_fields(report, evaluation, facts)


def _add_step(report: Report, evaluation: Evaluation) -> None:
    """What the chain is judged by, and one step of it."""
    report.add_text(
        "From rest, two pushes: at 0.2 of the length (t = 2) and at 0.8 (t = 8). `u_mae` and "
        "`v_mae` are mean absolute errors of the free rollout against Runge-Kutta; it is lost "
        "where its distance in u passes the root mean square size of the truth. "
        "`increment_error` is ‖û − u_RK‖ / ‖u_RK − u‖ of single steps from held-out states."
    )
    line = evaluation.lines[0]
    figure = plot_profiles(
        evaluation.steps,
        lead_times=[1, 2],
        spacing=float(line[1] - line[0]),
        field_name="increment / its RMS",
        titles=("u", "v"),
    )
    report.add_figure(
        figure,
        name="step",
        caption="One step from a held-out state: increments of u and of v.",
    )


def _add_line(report: Report, evaluation: Evaluation, name: str) -> None:
    line = evaluation.lines[0]
    figure = plot_profiles(
        {"reference": evaluation.target.T, "network": evaluation.pred.T},
        lead_times=[1],
        origin=float(line[0]),
        spacing=float(line[1] - line[0]),
        field_name=name,
        titles=("",),
    )
    report.add_figure(figure, name="solution", caption="Network and exact solution.")


def _add_fields(report: Report, evaluation: Evaluation, facts: Facts) -> None:
    pred, target = (
        _drawable(values.movedim(-1, 0)) for values in (evaluation.pred, evaluation.target)
    )
    names = facts.outputs[: len(pred)]
    figure = plot_rollout(
        pred,
        target,
        lead_times=list(range(1, len(pred) + 1)),
        field_name=", ".join(names),
        titles=names,
    )
    across, up = ("t", "x") if "t" in facts.columns else ("y", "x")
    report.add_figure(
        figure,
        name="solution",
        caption=f"{up} upwards, {across} to the right: reference, network (row rollout), difference.",
    )


def _drawable(values: Tensor) -> Tensor:
    """Fields without what is beyond any colour scale, as a rollout that exploded has it."""
    return torch.where(values.abs() < 1e6, values, torch.nan)


def _terms_section(report: Report, run: RunFolder, evaluation: Evaluation) -> None:
    report.add_section("Terms and weights")
    report.add_text(
        "Raw value, weight and weighted value of each term against the optimizer step; means of "
        "epochs are thick."
    )
    report.add_figure(
        plot_training(read_events(run.path)), name="training", caption="Training, term by term."
    )
    events = weighting_events(run)
    rows = [
        {
            "term": name,
            "norm": norm,
            **dict(zip(evaluation.terms, row, strict=True)),
            "clamped": events["clamped"].get(name, 0),
            "skipped": events["skipped"].get(name, 0),
        }
        for name, norm, row in zip(
            evaluation.terms, evaluation.norm, evaluation.cosine, strict=True
        )
    ]
    cosines = {name: f"cosine with {name}" for name in evaluation.terms}
    columns = {"term": "term", "norm": "gradient norm", **cosines}
    columns |= {"clamped": "weight clamped", "skipped": "value left out"}
    report.add_table(
        rows,
        caption="Gradients of the raw terms at the end; updates in which a weight was clamped or a value left out",
        columns=columns,
    )


def _selection_section(report: Report, evidence: dict[str, Any]) -> None:
    """What automatic selection decided on, where there was one."""
    if not evidence:
        return
    report.add_section("Automatic selection")
    report.add_text(
        f"{evidence['choice']} from step {evidence['step'] + 1} on: {evidence['reason']}. Gradients "
        f"were measured {evidence['notes']} times before."
    )
    rows = [
        {"seen": name.replace("_", " "), "value": evidence[name], "limit": limit}
        for name, limit in evidence["limits"].items()
    ]
    columns = {"seen": "seen", "value": "value", "limit": "limit"}
    report.add_table(rows, caption="What was seen, in the order of the rules", columns=columns)
