"""What a trained network is worth, and what its report draws."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from nops_schedules.gradient import gradient_stats
from nops_train import RunFolder, keep_evaluation, kept_evaluation, load_checkpoint
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from pinn_weighting.build import ChainProblem, PointProblem, Problem
from pinn_weighting.chain import rollout_force
from pinn_weighting.config import PinnConfig
from pinn_weighting.problems import FACTS
from pinn_weighting.tasks import ChainTask, PointTask, increment_errors, relative_error

FRAMES_SHOWN = 250  # of a rollout


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of one network, and the fields behind them.

    Attributes:
        scores: By name; `error` decides comparisons.
        pred: Fields on the test grid `[…, outputs]`, or u of the rollout `[node, time, 1]`.
        target: The reference there.
        lines: Coordinates along each axis of the two.
        cosine: Of the gradients of the terms that are on, pairwise, at the end.
        norm: Their 2-norms.
        terms: Their names.
        steps: On the chain, increments of u and v in one held-out step, `[2, node]`, over the root mean
            square of Runge-Kutta's; of "Runge-Kutta" and of "network".
    """

    scores: dict[str, float]
    pred: Tensor
    target: Tensor
    lines: list[Tensor]
    terms: list[str]
    cosine: list[list[float]] = field(default_factory=list)
    norm: list[float] = field(default_factory=list)
    steps: dict[str, Tensor] = field(default_factory=dict)


def evaluate_problem(
    config: PinnConfig, problem: Problem, model: nn.Module, task: PointTask | ChainTask
) -> Evaluation:
    """Score a network on what it was not trained on."""
    stats = _gradients(config, problem, model, task)
    model.eval()
    with torch.no_grad():
        if isinstance(problem, ChainProblem):
            return _of_chain(config, problem, model, stats)
        return _of_points(config, problem, model, stats)


def _gradients(
    config: PinnConfig, problem: Problem, model: nn.Module, task: PointTask | ChainTask
) -> dict[str, Any]:
    """Cosines and norms of the raw terms' gradients on a training batch."""
    device = next(model.parameters()).device
    active = frozenset(name for name, weight in config.base_weights().items() if weight > 0)
    batch = {name: values.to(device) for name, values in problem.sample.items()}
    model.train()
    task.note_residuals = None  # pyright: ignore[reportAttributeAccessIssue]
    losses = task.losses(batch, epoch=0, step=0, active=active)
    losses = {name: losses[name] for name in config.base_weights() if name in losses}
    found = gradient_stats(losses, list(model.parameters()))
    return {"terms": list(losses), "cosine": found["cosine"], "norm": found["norm"]}


def _of_points(
    config: PinnConfig, problem: PointProblem, model: nn.Module, stats: Mapping[str, Any]
) -> Evaluation:
    points, target = problem.reference
    device = next(model.parameters()).device
    pred = model(points.flatten(0, -2).to(device)).reshape(target.shape).cpu()
    each = relative_error(pred, target, reduction="none").flatten().tolist()
    outputs = FACTS[config.problem.name].outputs
    scores = {"error": sum(each) / len(each)}
    if len(outputs) > 1:
        named = zip(outputs, each, strict=True)
        scores |= {f"relative_l2_{name}": value for name, value in named}
    columns = points.shape[-1]
    lines = [
        points[tuple(slice(None) if i == axis else 0 for i in range(columns))][:, axis]
        for axis in range(columns)
    ]
    return Evaluation(scores=scores, pred=pred, target=target, lines=lines, **stats)


def _of_chain(
    config: PinnConfig, problem: ChainProblem, model: Any, stats: Mapping[str, Any]
) -> Evaluation:
    held = problem.motions[1]
    device = next(model.parameters()).device
    pred = model(held.state.to(device)).cpu()
    errors = increment_errors(pred, held.target, held.state)
    own, true = rollouts(config, problem, model)
    away = (own - true).double()
    scores = {
        "error": float(errors.mean()),
        "increment_error_u": float(errors[0]),
        "increment_error_v": float(errors[1]),
        "u_mae": float(away[..., 0].abs().mean()),
        "v_mae": float(away[..., 1].abs().mean()),
        "first_step_above_1": first_lost(own[..., 0], true[..., 0]),
        "spectral_radius": spectral_radius(model.free_step, config.physics.n_nodes, device=device),
    }
    stride = max(1, len(true) // FRAMES_SHOWN)
    shown = [x[::stride, :, :1].transpose(0, 1) for x in (own, true)]
    times = (torch.arange(len(true)) + 1)[::stride] * config.physics.dt
    lines = [problem.chain.x.float(), times.float()]
    steps = _increments(pred[0], held.target[0], held.state[0])
    return Evaluation(
        scores=scores, pred=shown[0], target=shown[1], lines=lines, steps=steps, **stats
    )


def _increments(pred: Tensor, target: Tensor, state: Tensor) -> dict[str, Tensor]:
    before = state[:, :2]
    true, own = (target - before).T, (pred - before).T
    size = true.square().mean(-1, keepdim=True).sqrt()
    return {"Runge-Kutta": true / size, "network": own / size}


def rollouts(config: PinnConfig, problem: ChainProblem, model: Any) -> tuple[Tensor, Tensor]:
    """The network's own motion from rest under the two pushes, and Runge-Kutta's, `[time, node, 2]`."""
    chain, steps = problem.chain, math.ceil(config.evaluate.duration / config.physics.dt)
    force, rest = rollout_force(chain, config.physics.force), torch.zeros(chain.n_nodes).double()
    true = torch.stack(chain.rollout(rest, rest, force, steps, scheme="rk4"), dim=-1)[1:]
    pushes = torch.stack([force(chain.x, step * chain.dt) for step in range(steps)])
    device = next(model.parameters()).device
    start = torch.zeros(1, chain.n_nodes, 2, device=device)
    own = model.rollout(start, pushes[None, ..., None].float().to(device))[0].cpu()
    return own, true.float()


def first_lost(own: Tensor, true: Tensor) -> float:
    """First step, 1-based, at which the distance passes the root mean square size of the truth; inf: never."""
    size = true.double().square().sum(-1).mean().sqrt()
    lost = ~((own - true).double().norm(dim=-1) <= size)
    return float(lost.nonzero()[0, 0]) + 1 if bool(lost.any()) else math.inf


def spectral_radius(
    make_step: Callable[[Tensor], Tensor], nodes: int, *, device: torch.device
) -> float:
    """Largest |eigenvalue| of a learned step's derivative at rest, on the inner nodes."""

    def step(inner: Tensor) -> Tensor:
        state = torch.nn.functional.pad(inner.reshape(2, nodes - 2), (1, 1))
        whole = torch.cat([state, torch.zeros_like(state[:1])])
        return make_step(whole.T[None])[0].T[:, 1:-1].flatten()

    rest = torch.zeros(2 * (nodes - 2), device=device)
    with torch.enable_grad():
        matrix = torch.autograd.functional.jacobian(step, rest)
    assert isinstance(matrix, Tensor)
    return float(torch.linalg.eigvals(matrix.double()).abs().max())


def weighting_events(run: RunFolder) -> dict[str, dict[str, int]]:
    """How often each term's weight was clamped, and its value left out, where the weighting counts it."""
    state = load_checkpoint(run.checkpoints.path)["weighting"]
    state = state.get("weighting", state)
    return {name: dict(state.get(name, {})) for name in ("clamped", "skipped")}


def selection(run: RunFolder) -> dict[str, Any]:
    """What automatic selection saw and chose; empty for other weightings, and before the choice."""
    return dict(load_checkpoint(run.checkpoints.path)["weighting"].get("evidence", {}))


def store_evaluation(run: RunFolder, evaluation: Evaluation, *, passes: float) -> None:
    """Keep what the report needs beside the run, and the figures in `summary.json`."""
    keep_evaluation(run, asdict(evaluation))
    run.update_summary(metrics=evaluation.scores, backward_passes_per_step=passes)


def load_evaluation(run: RunFolder) -> Evaluation:
    """What `store_evaluation` kept.

    Raises:
        InputError: If the run was not evaluated yet, or the file is damaged.
    """
    again = f"pinn-weighting evaluate {run.path}"
    return kept_evaluation(run, lambda plain: Evaluation(**plain), again=again)


def print_scores(run: RunFolder) -> None:
    """The table that a run ends with, in the terminal."""
    table = Table(title=f"{run.name}: scores of the last weights")
    table.add_column("score")
    table.add_column("value", justify="right")
    for name, value in load_evaluation(run).scores.items():
        table.add_row(name, f"{value:.4g}")
    Console().print(table)
