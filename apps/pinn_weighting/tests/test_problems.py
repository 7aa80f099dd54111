"""Points, residuals of exact solutions, and the chain's own figures."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nops_physics import WaveChain
from nops_train import InputError
from pinn_weighting.build import ChainProblem, PointProblem
from pinn_weighting.chain import free_motions, make_chain, units
from pinn_weighting.equations import Equation, make_equation
from pinn_weighting.evaluation import first_lost, spectral_radius
from pinn_weighting.points import draw_sets, grid_points
from pinn_weighting.problems import EQUATIONS, FACTS
from pinn_weighting.tasks import ChainTask, increment_errors, relative_error
from torch import Tensor, nn

Make = Callable[..., Any]


class Exact(nn.Module):
    """A network that is right."""

    def __init__(self, equation: Equation) -> None:
        super().__init__()
        self.equation = equation

    def forward(self, points: Tensor) -> Tensor:
        return self.equation.exact(points)


@pytest.mark.parametrize("name", [name for name in EQUATIONS if name != "allen_cahn"])
def test_the_exact_solution_satisfies_every_term(name: str, points_config: Make) -> None:
    equation, facts = make_equation(name), FACTS[name]
    sets = draw_sets(points_config(name).problem, seed=0)
    batch = equation.given({key: points.double() for key, points in sets.items()})
    found = equation.residuals(Exact(equation), batch, active=frozenset(facts.terms))
    assert set(found) == set(facts.terms)
    for term, residual in found.items():
        assert residual.abs().max() < 1e-6, term  # of quotients and second derivatives


def test_allen_cahn_is_told_by_its_start_and_joins_its_ends() -> None:
    equation = make_equation("allen_cahn")
    x = torch.tensor([[-1.0], [-0.5], [0.3]]).double()
    start = equation.exact(torch.cat([x, torch.zeros_like(x)], dim=1))
    torch.testing.assert_close(start, x**2 * torch.cos(math.pi * x), atol=1e-3, rtol=0)
    linear = nn.Linear(2, 1).double()  # slope a in x: values differ by 2a, slopes do not
    points = torch.rand(3, 2, dtype=torch.float64)
    found = equation.residuals(linear, {"pde": points, "bc": points}, active=frozenset({"bc"}))
    a = linear.weight[0, 0].detach()
    torch.testing.assert_close(found["bc"].detach(), torch.stack([2 * a, 0 * a]).expand(3, 2))


@pytest.mark.parametrize("name", EQUATIONS)
def test_sets_lie_where_their_terms_hold(name: str, points_config: Make) -> None:
    facts, config = FACTS[name], points_config(name, problem={"points": {}})
    sets = draw_sets(config.problem, seed=3)
    assert {key: len(points) for key, points in sets.items()} == facts.points
    low, high = torch.tensor(facts.low), torch.tensor(facts.high)
    for points in sets.values():
        assert ((points >= low) & (points <= high)).all()
    space = len(facts.columns) - ("t" in facts.columns)
    on_side = (sets["bc"] == low) | (sets["bc"] == high)
    assert on_side[:, :space].any(1).all()
    assert [bool((sets["bc"][:, 0] == end).any()) for end in (low[0], high[0])] == [True, True]
    if "ic" in sets:
        assert (sets["ic"][:, -1] == low[-1]).all()


def test_points_stay_or_are_drawn_anew_by_seed_and_step_alone(points_config: Make) -> None:
    fixed = list(PointProblem(points_config("heat")).train.batches(epoch=1))
    assert torch.equal(fixed[0]["pde"], fixed[1]["pde"])
    drawn = PointProblem(points_config("heat", problem={"resample": True})).train
    whole, rest = list(drawn.batches(epoch=1)), list(drawn.batches(epoch=1, skip=1))
    assert not torch.equal(whole[0]["pde"], whole[1]["pde"])
    assert torch.equal(whole[1]["pde"], rest[0]["pde"])
    assert torch.equal(whole[1]["ic_value"], rest[0]["ic_value"])


def test_a_latin_hypercube_has_a_point_in_every_stretch(points_config: Make) -> None:
    problem = {"sampling": "latin_hypercube", "points": {"pde": 10}}
    points = draw_sets(points_config("heat", problem=problem).problem, seed=0)["pde"]
    assert ((10 * points).floor().sort(0).values == torch.arange(10.0)[:, None]).all()


def test_a_file_stands_in_for_the_exact_solution(points_config: Make, tmp_path: Path) -> None:
    points = grid_points(FACTS["heat"], 5)
    values = make_equation("heat").exact(points.flatten(0, 1)).reshape(5, 5)
    path = tmp_path / "heat.npy"
    np.save(path, values.numpy())
    axes = [[0.0, 1.0], [0.0, 1.0]]
    given = PointProblem(points_config("heat", problem={"reference": str(path), "axes": axes}))
    assert torch.equal(given.reference[0], points)
    torch.testing.assert_close(given.reference[1][..., 0], values)
    with pytest.raises(InputError, match="expected 2 pairs"):
        _ = PointProblem(
            points_config("heat", problem={"reference": str(path), "axes": axes[:1]})
        ).reference


def test_errors_are_quotients_of_sums() -> None:
    # fields (3, 4) and (1, 0): misses (0, 1) of size 5 → 0.2; (0, 2) of size 1 → 2
    target = torch.tensor([[3.0, 1.0], [4.0, 0.0]])
    pred = torch.tensor([[3.0, 1.0], [5.0, 2.0]])
    assert relative_error(pred, target, reduction="none").flatten().tolist() == [0.2, 2.0]
    assert relative_error(pred, target).item() == pytest.approx(1.1)


QUIET = {"points": {}, "steps_per_epoch": 100, "num_graphs": 5, "num_steps": 2}


def chain_config(points_config: Make, *, model: Any = None, **physics: Any) -> Any:
    return points_config(
        "wave_chain",
        problem=QUIET,
        physics={"n_nodes": 12, **physics},
        evaluate={},
        train={"batch_size": 4},
        **({} if model is None else {"model": model}),
    )


def test_doing_nothing_misses_the_increment_by_all_of_it(points_config: Make) -> None:
    train, valid = ChainProblem(chain_config(points_config)).motions
    assert (len(train.state), len(valid.state)) == (8, 2)
    nothing = valid.state[..., :2]
    torch.testing.assert_close(
        increment_errors(nothing, valid.target, valid.state).flatten(), torch.ones(2).double()
    )
    assert not increment_errors(valid.target, valid.target, valid.state).any()


def test_free_motions_hold_all_modes_with_equal_energies_in_u_and_v() -> None:
    chain = WaveChain(12, length=2.0, c=3.0)
    u, v = free_motions(chain, 40_000, size=0.1, seed=0)
    assert max(u[:, [0, -1]].abs().max(), v[:, [0, -1]].abs().max()) < 1e-12
    number = torch.arange(1, 11, dtype=torch.float64)
    waves = torch.sin(math.pi / 2 * number[:, None] * chain.x)
    # 40,000 squares, each with a deviation of three times their mean: 1.5 %
    of_u, of_v = (field @ waves.T / (11 / 2) for field in (u, v))  # amplitude of each mode
    factor = (1 - 0.03**2) / (2 * math.log(1 / 0.03))  # mean square of log-uniform on [0.03, 1]
    expected = 0.1**2 * factor / number**5
    torch.testing.assert_close(of_u.square().mean(0), expected, rtol=0.08, atol=0.0)
    squared = (3.0 * math.pi / 2 * number).square()
    torch.testing.assert_close(of_v.square().mean(0), squared * expected, rtol=0.08, atol=0.0)


def test_noise_is_another_one_at_each_step_and_goes_on_where_it_was(points_config: Make) -> None:
    problem = ChainProblem(chain_config(points_config, k=0.5))
    whole = [list(problem.train.batches(epoch=e, skip=0)) for e in (0, 1)]
    (rest,) = problem.train.batches(epoch=1, skip=problem.train.num_batches - 1)
    assert torch.equal(rest["state"], whole[1][-1]["state"])
    assert torch.equal(rest["target"], whole[1][-1]["target"])
    still = problem.motions[0].state
    added = [batch["state"][0, :, :2] for epoch in whole for batch in epoch]
    assert all(not torch.isin(a[1:-1], still).any() for a in added)
    u, v, f = rest["state"].double().unbind(-1)
    exact = torch.stack(problem.chain.step(u, v, f, scheme="rk4"), dim=-1)
    torch.testing.assert_close(rest["target"].double(), exact, rtol=1e-5, atol=1e-7)  # float32
    quiet = points_config(
        "wave_chain", problem={**QUIET, "noise": 0.0}, evaluate={}, train={"batch_size": 8}
    )
    (batch,) = ChainProblem(quiet).train.batches(epoch=0)
    assert torch.isin(batch["state"], ChainProblem(quiet).motions[0].state).all()


def test_the_network_sees_accelerations_and_answers_in_steps_of_them(points_config: Make) -> None:
    config = chain_config(points_config, c=3.0, length=2.0)
    chain, scales = make_chain(config), (0.08, 0.16, 6.0)
    gains, increments = units(config, scales)
    u = torch.randn(12, generator=torch.Generator().manual_seed(0)).double()
    u[0] = u[-1] = 0.0
    difference = (u[:-2] + u[2:]) / 2 - u[1:-1]
    seen = difference / scales[0] * gains[0] * scales[2]
    torch.testing.assert_close(seen, 9.0 * chain.laplacian(u)[1:-1])
    assert increments == pytest.approx((0.01 * 0.16, 0.01 * 6.0))
    _, still = units(config, (0.08, 0.16, 1e-8))  # nothing pushes: the chain's own pull is the size
    assert still[1] == pytest.approx(0.01 * (3 * math.pi / 2) ** 2 * 0.08)


class Integrator(nn.Module):
    """A network that is an integrator."""

    def __init__(self, chain: WaveChain, scheme: str) -> None:
        super().__init__()
        self.chain, self.scheme = chain, scheme
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, state: Tensor) -> Tensor:
        u, v, f = state.double().unbind(-1)
        return torch.stack(self.chain.step(u, v, f, scheme=self.scheme), dim=-1)


@pytest.mark.parametrize("scheme", ["trapezoidal", "semi_implicit"])
def test_terms_vanish_for_the_integrator_that_they_stand_for(
    points_config: Make, scheme: str
) -> None:
    problem = ChainProblem(chain_config(points_config, scheme=scheme))
    batch = {name: values.double() for name, values in problem.sample.items()}
    names = frozenset(FACTS["wave_chain"].terms)
    found = {}
    for kind in (scheme, "rk4"):
        task = ChainTask(Integrator(problem.chain, kind), problem.chain, scheme=scheme)
        found[kind] = task.losses(batch, epoch=0, step=0, active=names)
    assert max(found[scheme][f"PI_loss{i}"] for i in (1, 2)) < 1e-25
    assert max(found["rk4"][f"RK4_loss{i}"] for i in (1, 2)) < 1e-14  # the target is float32
    assert min(found[scheme][f"RK4_loss{i}"] for i in (1, 2)) > 0


def test_the_radius_of_a_learned_step_is_that_of_its_matrix() -> None:
    chain = WaveChain(100, dt=0.01)
    step = Integrator(chain, "rk4")
    found = spectral_radius(step, 100, device=torch.device("cpu"))
    assert found == pytest.approx(0.995013, abs=2e-6)


def test_a_bound_holds_a_rollout_that_explodes_and_hides_nothing_from_training(
    points_config: Make,
) -> None:
    torch.manual_seed(0)
    free = ChainProblem(chain_config(points_config)).model()
    bounded = {"hidden": 8, "layers": 1, "energy_bound": True}
    problem = ChainProblem(chain_config(points_config, model=bounded))
    held = problem.model()
    assert held.load_state_dict(free.state_dict())
    with torch.no_grad():
        for parameter in (*free.parameters(), *held.parameters()):
            parameter.mul_(30.0)  # a network that makes energy of nothing
        push = problem.motions[1].state[:2, None, :, 2:].expand(-1, 300, -1, -1)
        start = torch.zeros(2, 12, 2)
        assert not free.eval().rollout(start, push).abs().max() < 1e3
        path = held.eval().rollout(start, push).double()
        most = 300 * 0.01 * push[:, 0, :, 0].double().norm(dim=-1)  # of the pushes' work, all modes
        energy = 2 * problem.chain.energy(*path[:, -1].unbind(-1)) / problem.chain.dx
        assert bool((energy.sqrt() <= most * (1 + 1e-5)).all())
        state = problem.motions[0].state
        assert torch.equal(held.train()(state), free.train()(state))


def test_a_rollout_is_lost_where_it_is_further_away_than_the_truth_is_large() -> None:
    true = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0]])
    assert first_lost(true + torch.tensor([[0.0], [3.5], [9.0]]), true) == 3  # 4.9 and 12.7 of 5
    assert first_lost(true, true) == math.inf
    assert first_lost(true * torch.tensor([[1.0], [torch.nan], [1.0]]), true) == 2
