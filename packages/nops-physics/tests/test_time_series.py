"""Pendulum and diffusion along a line: solutions, orders, limits and refusals."""

import math

import numpy as np
import pytest
import torch
from nops_physics import AdvectionDiffusion, Pendulum
from scipy.ndimage import convolve1d
from torch.testing import assert_close


def column(*values):
    return torch.tensor([values], dtype=torch.float64)


def test_a_small_swing_is_a_cosine():
    start = torch.tensor([1e-4], dtype=torch.float64)
    got = Pendulum()(column(2.0), {"theta0": start})
    times = 0.05 * torch.arange(50, dtype=torch.float64)
    assert_close(got[0] / 1e-4, torch.cos(2 * times), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("method", "order"), [("rk4", 4), ("euler", 1)])
@pytest.mark.parametrize("forced", [False, True])
def test_order_in_time(method, order, forced):
    values = column(1.5, 0.3, 2.0, 0.5) if forced else column(1.5)

    def end(steps, method=method):
        model = Pendulum(steps=steps + 1, dt=1.0 / steps, method=method, forced=forced)
        return model(values)[0, -1]

    errors = [(end(n) - end(600, "rk4")).abs() for n in (50, 100)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.12)


def test_a_forced_pendulum_without_force_or_friction_is_the_plain_one():
    forced = Pendulum(forced=True)(column(1.5, 0.0, 0.0, 4.0))
    assert_close(forced, Pendulum()(column(1.5)), rtol=0, atol=0)


def test_the_lowest_wave_decays_as_the_scheme_has_it():
    """Zeros lie one point beyond the ends: sin(pi (i + 1) / 21), factor (1 - 4 s sin^2(pi/42))^2."""
    model = AdvectionDiffusion()
    wave = torch.sin(math.pi * (torch.arange(20, dtype=torch.float64) + 1) / 21)
    got = model(column(0.1), {"initial": wave[None]}).reshape(50, 20)
    s = 0.1 * 0.01 / 0.1**2
    factor = (1 - 4 * s * math.sin(math.pi / 42) ** 2) ** 2
    powers = factor ** torch.arange(50, dtype=torch.float64)
    assert_close(got, powers[:, None] * wave, rtol=1e-12, atol=0)


@pytest.mark.parametrize("points", [2, 3, 20])
def test_without_an_initial_field_it_starts_with_half_a_wave(points):
    start = AdvectionDiffusion(points=points, steps=2)(column(0.1)).reshape(2, points)[0]
    expected = [math.sin(math.pi * i / (points - 1)) for i in range(points)]
    assert start.tolist() == pytest.approx(expected, abs=1e-15)


def test_advection_carries_to_the_right():
    """A bump's centre moves by b t; without advection it stays."""
    place = 0.1 * torch.arange(60, dtype=torch.float64)
    bump = torch.exp(-((place - 2.0) ** 2) / 0.2)[None]
    carried = AdvectionDiffusion(points=60, advection=True)(column(0.05, 0.8), {"initial": bump})
    last = carried.reshape(50, 60)[-1]
    centre = ((last * place).sum() / last.sum()).item()
    assert centre == pytest.approx(2.0 + 0.8 * 49 * 0.02, abs=1e-3)
    still = AdvectionDiffusion(points=60)(column(0.05), {"initial": bump})
    none = AdvectionDiffusion(points=60, advection=True)(column(0.05, 0.0), {"initial": bump})
    assert_close(still, none, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("model", "row"),
    [
        (Pendulum(steps=6), column(1.5)),
        (Pendulum(steps=6, forced=True), column(1.5, 0.3, 2.0, 0.5)),
        (AdvectionDiffusion(points=5, steps=4, advection=True), column(0.1, 0.1)),
    ],
)
def test_gradients_batches_and_declarations(model, row):
    assert torch.autograd.gradcheck(model, (row.clone().requires_grad_(),))
    rows = row * torch.linspace(0.5, 1, 6, dtype=torch.float64)[:, None]
    assert_close(model(rows.reshape(2, 3, -1)).reshape(6, -1), model(rows), rtol=0, atol=1e-14)
    assert_close(torch.func.vmap(model)(rows), model(rows), rtol=0, atol=1e-14)
    assert_close(model(rows.float()).double(), model(rows), rtol=0, atol=1e-5)
    assert model(rows).shape[-1] == len(model.output_names) == len(model.output_units)
    assert len(model.bounds) == len(model.parameter_units) == row.shape[-1]
    assert len(model.input_names) == len(model.input_defaults) == len(model.input_bounds) == 1


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Pendulum(steps=0), "steps needs to be at least 1, got 0"),
        (lambda: Pendulum(dt=-0.1), "dt needs to be positive, got -0.1"),
        (lambda: Pendulum(method="heun"), "'heun', expected rk4 or euler"),
        (lambda: AdvectionDiffusion(dx=0.0), "dx needs to be positive"),
        (lambda: AdvectionDiffusion()(column(0.6)), "'a' is 0.6, expected 0 to 0.5"),
        (
            lambda: AdvectionDiffusion()(column(0.1), {"initial": torch.ones(1, 7)}),
            "'initial' needs",
        ),
    ],
)
def test_bad_arguments_are_refused(make, expected):
    with pytest.raises(ValueError, match=expected):
        make()


@pytest.mark.parametrize(("method", "order"), [("rk4", 4), ("euler", 1)])
def test_order_in_time_of_transport(method, order):
    def end(steps, method=method):
        options = {"steps": steps + 1, "dt": 0.4 / steps, "advection": True, "method": method}
        return AdvectionDiffusion(**options)(column(0.1, 0.1))[0, -20:]

    errors = [(end(n) - end(200, "rk4")).abs().max() for n in (20, 40)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)
    with pytest.raises(ValueError, match="expected rk4 or euler"):
        AdvectionDiffusion(method="midpoint")


def test_mirrored_in_space_it_is_advection_by_a_flipped_kernel():
    """Phys-vae's generator flips its difference kernel: there advection runs the other way.

    A kernel flipped by convolution is y_t = a y_xx + b y_x. Mirrored in space that is ours.
    """
    a, b = 0.05, 0.07
    start = torch.rand(20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    start[0] = start[-1] = 0
    bend, slope = np.array([1.0, -2.0, 1.0]) / 0.1**2, np.array([-1.0, 0.0, 1.0]) / 0.2
    field, frames = start.numpy().copy(), [start.numpy().copy()]
    for _ in range(49):
        for _ in range(2):
            diffused = a * convolve1d(field, bend, mode="constant")
            field = field + 0.01 * (diffused - b * convolve1d(field, slope, mode="constant"))
        frames.append(field.copy())
    theirs = torch.from_numpy(np.stack(frames))
    model = AdvectionDiffusion(advection=True)
    ours = model(column(a, b), {"initial": start.flip(0)[None]}).reshape(50, 20)
    assert_close(ours.flip(-1), theirs, rtol=1e-12, atol=1e-14)
    plain = model(column(a, b), {"initial": start[None]}).reshape(50, 20)
    assert (plain - theirs).abs().max() > 0.01
