"""DiffusionReaction2D: states at rest, cosine modes, order, and what it refuses."""

import math

import pytest
import torch
from nops_physics import DiffusionReaction2D
from torch.testing import assert_close

REST = -0.1709975947  # -k^(1/3) at k = 0.005


def cosine(solver, m, n):
    x, y = solver.positions.unflatten(0, solver.shape).unbind(-1)
    low, length = solver.box[0], solver.lengths[0]
    return torch.cos(math.pi * m * (x - low) / length) * torch.cos(math.pi * n * (y - low) / length)


def test_the_state_at_rest_stays():
    solver = DiffusionReaction2D((8, 12))
    state = torch.full((1, 2, 8, 12), REST, dtype=torch.float64)
    frames = solver.solve(state, times=[0.0, 1.0, 10.0])
    assert_close(frames, state[:, None].expand_as(frames), rtol=0, atol=1e-10)
    exact = torch.full_like(state, -(0.005 ** (1 / 3)))
    assert_close(solver.solve(exact, times=[10.0])[:, 0], exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", [(0, 0), (1, 0), (2, 3)])
def test_a_small_cosine_about_rest_follows_the_linear_equation(mode):
    """d(p, q)/dt = [[1 - 3 u^2 - Du k^2, -1], [1, -1 - Dv k^2]] (p, q), k = pi (m, n) / length."""
    solver = DiffusionReaction2D((16, 24), Du=4e-3, Dv=0.02, box=(0.5, 2.5), time_step=0.01)
    rest = -(solver.k ** (1 / 3))
    squared = (math.pi / 2) ** 2 * (mode[0] ** 2 + mode[1] ** 2)
    linear = torch.tensor(
        [[1 - 3 * rest**2 - 4e-3 * squared, -1.0], [1.0, -1 - 0.02 * squared]], dtype=torch.float64
    )
    start = torch.tensor([1e-6, -5e-7], dtype=torch.float64)
    wave = cosine(solver, *mode)
    state = rest + start[:, None, None] * wave
    found = solver.solve(state[None], times=[1.5])[0, 0] - rest
    expected = torch.linalg.matrix_exp(1.5 * linear) @ start
    assert_close(found, expected[:, None, None] * wave, rtol=0, atol=2e-11)


def test_diffusion_alone_is_exact():
    """v of a state whose reaction is held at zero: u = v, so the sum's cosine decays by itself."""
    solver = DiffusionReaction2D((8, 10), Du=0.3, Dv=0.3, k=0.0, time_step=0.1)
    wave = 1e-9 * cosine(solver, 3, 2)  # u - v - u^3 is 1e-27
    frames = solver.solve(torch.stack((wave, wave))[None], times=[0.1])
    decay = math.exp(-0.3 * 13 * (math.pi / 2) ** 2 * 0.1)
    assert_close(frames[0, 0, 0], decay * wave, rtol=0, atol=1e-22)
    assert_close(frames[0, 0, 1], decay * wave, rtol=0, atol=1e-22)


def test_strang_splitting_is_of_second_order():
    state = 0.7 * DiffusionReaction2D((12, 12), length_scale=0.2).initial(1, seed=0)
    found = [
        DiffusionReaction2D((12, 12), Du=0.02, Dv=0.05, time_step=0.8 / n).solve(state, times=[0.8])
        for n in (32, 64, 512)
    ]
    coarse, fine = ((other - found[2]).norm() for other in found[:2])
    assert math.log2(coarse / fine) == pytest.approx(2.0, abs=0.06)


def test_more_cells_change_nothing_that_is_resolved():
    frames = []
    for side in (16, 32):
        solver = DiffusionReaction2D((side, side), Du=0.01, Dv=0.02)
        state = torch.stack((0.3 * cosine(solver, 1, 2), 0.2 * cosine(solver, 2, 0)))[None]
        frames.append(solver.solve(state, times=[1.0])[0, 0])
    # cell centres of 16 lie between those of 32: compare the means and a cosine's coefficient
    for m, n in ((0, 0), (1, 2), (2, 0), (3, 2)):
        coarse, fine = (
            (field * cosine(DiffusionReaction2D(field.shape[1:]), m, n)).mean((-1, -2))
            for field in frames
        )
        assert_close(coarse, fine, rtol=0, atol=1e-9)


def test_mirrored_states_stay_mirrored():
    solver = DiffusionReaction2D((8, 8))
    state = solver.initial(1, seed=0)
    frames = solver.solve(torch.cat((state, state.flip(-1), state.mT)), times=[0.7])
    assert_close(frames[1], frames[0].flip(-1), rtol=0, atol=1e-13)
    assert_close(frames[2], frames[0].mT, rtol=0, atol=1e-13)


def test_initial_fields_have_unit_variance_everywhere_and_no_flux():
    solver = DiffusionReaction2D((16, 12), length_scale=0.3)
    states = solver.initial(1500, seed=0)
    # the square of a normal number has deviation sqrt 2: 0.037 for 1500, four of them and more
    assert_close(states.square().mean(0), torch.ones(2, 16, 12).double(), rtol=0, atol=0.19)
    assert states.square().mean().item() == pytest.approx(1.0, abs=0.03)
    assert abs((states[:, 0] * states[:, 1]).mean().item()) < 0.03
    # smooth, and even about the walls: the last difference is half as steep as within
    inside = (states[:, :, 7] - states[:, :, 8]).square().mean()
    at_wall = (states[:, :, 0] - states[:, :, 1]).square().mean()
    assert at_wall < 0.4 * inside
    # neighbours a cell h apart correlate by exp(-h^2 / (4 s^2)) in the middle: 0.9575 and 0.9259
    h = torch.tensor([2 / 16, 2 / 12])
    expected = torch.exp(-(h**2) / (4 * 0.09))
    middle = states[:, :, 7:9, 5:7]
    first = (middle[:, :, 0, 0] * middle[:, :, 1, 0]).mean().item()
    second = (middle[:, :, 0, 0] * middle[:, :, 0, 1]).mean().item()
    assert first == pytest.approx(float(expected[0]), abs=0.08)
    assert second == pytest.approx(float(expected[1]), abs=0.08)


def test_positions_are_cell_centres():
    found = DiffusionReaction2D((2, 4)).positions
    expected = [(x, y) for x in (-0.5, 0.5) for y in (-0.75, -0.25, 0.25, 0.75)]
    assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15)


def test_a_state_too_steep_for_the_step_is_refused_with_one_that_works():
    """1 + 3 * 8^2 = 193 per time: 2.5 / 193 = 0.01295."""
    solver = DiffusionReaction2D((4, 4))
    state = torch.zeros(2, 2, 4, 4, dtype=torch.float64)
    state[1, 0, 2, 3] = -8.0
    with pytest.raises(ValueError, match=r"sample 1 has \|u\| up to 8, .* take at most 0\.013"):
        solver.solve(state, times=[0.1])
    fine = DiffusionReaction2D((4, 4), time_step=0.01295)
    assert fine.solve(state, times=[0.1]).abs().max() < 8


def test_gradients():
    solver = DiffusionReaction2D((3, 4), time_step=0.1)
    state = solver.initial(1, seed=0).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: solver.solve(s, times=[0.0, 0.2]), (state,))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"shape": (1, 8)}, "at least 2 cells"),
        ({"shape": (8,)}, "two axes"),
        ({"Du": -1.0}, "Du needs"),
        ({"Dv": math.nan}, "Dv needs"),
        ({"k": -0.1}, "k needs"),
        ({"box": (1.0, -1.0)}, "box"),
        ({"time_step": 0.0}, "time_step"),
        ({"frame_interval": -1.0}, "frame_interval"),
        ({"length_scale": math.inf}, "length_scale"),
    ],
)
def test_bad_options_are_refused_by_name(options, named):
    with pytest.raises(ValueError, match=named):
        DiffusionReaction2D(**{"shape": (8, 8)} | options)
