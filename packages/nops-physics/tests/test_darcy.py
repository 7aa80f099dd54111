"""Darcy2D: order, an exact value, the matrix it stands for, its gradient, and what it refuses."""

import math

import pytest
import torch
from nops_physics import Darcy2D, darcy_pressure
from torch.autograd import gradcheck
from torch.testing import assert_close

POISSON_CENTRE = 0.0736713532815138  # of -lap u = 1 on the unit square: its sine series


def centres(side, length=1.0):
    return (torch.arange(side, dtype=torch.float64) + 0.5) * (length / side)


def error_of_manufactured(n):
    """u = sin(pi x) sin(2 pi y / 3) on 1 x 1.5 with a = 1 + x y / 2; f = -a lap u - grad a grad u."""
    x, y = torch.meshgrid(centres(n), centres(n + 8, 1.5), indexing="ij")
    k, m = math.pi, 2 * math.pi / 3
    u = torch.sin(k * x) * torch.sin(m * y)
    a = 1 + x * y / 2
    slope_x, slope_y = (
        k * torch.cos(k * x) * torch.sin(m * y),
        m * torch.sin(k * x) * torch.cos(m * y),
    )
    f = a * (k**2 + m**2) * u - y / 2 * slope_x - x / 2 * slope_y
    return float((darcy_pressure(a, f, lengths=(1.0, 1.5)) - u).square().mean().sqrt())


def test_a_smooth_permeability_gives_second_order():
    order = math.log2(error_of_manufactured(24) / error_of_manufactured(56))  # 32 and 64 along y
    order /= math.log2(56 / 24)
    assert order == pytest.approx(2.0, abs=0.1)


def test_the_pressure_of_one_permeability_is_poissons():
    centre = [
        float(darcy_pressure(torch.ones(n, n), torch.ones(1, 1))[n // 2, n // 2]) for n in (21, 63)
    ]
    extrapolated = centre[1] + (centre[1] - centre[0]) / (9 - 1)  # second order, thrice as fine
    assert extrapolated == pytest.approx(POISSON_CENTRE, abs=2e-7)


def dense_matrix(a, lengths):
    """Conductances between neighbours, and to the border at half the distance, written out."""
    rows, columns = a.shape
    matrix = torch.zeros(rows * columns, rows * columns, dtype=torch.float64)
    for i in range(rows):
        for j in range(columns):
            here = i * columns + j
            for axis, (di, dj) in ((0, (1, 0)), (0, (-1, 0)), (1, (0, 1)), (1, (0, -1))):
                squared = (a.shape[axis] / lengths[axis]) ** 2
                p, q = i + di, j + dj
                inside = 0 <= p < rows and 0 <= q < columns
                other = a[p, q] if inside else a[i, j]
                c = squared / (0.5 / a[i, j] + 0.5 / other) if inside else squared * 2 * a[i, j]
                matrix[here, here] += c
                if inside:
                    matrix[here, p * columns + q] -= c
    return matrix


def test_it_solves_the_equations_of_resistors_in_series():
    generator = torch.Generator().manual_seed(0)
    a = torch.where(torch.rand(5, 7, generator=generator) > 0.5, 100.0, 0.01).double()
    f = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    expected = torch.linalg.solve(dense_matrix(a, (2.0, 1.0)), f.flatten()).view(5, 7)
    # a contrast of 10^4 leaves 12 digits of residual 8 of the solution
    assert_close(darcy_pressure(a, f, lengths=(2.0, 1.0)), expected, rtol=1e-7, atol=1e-9)


def test_its_gradient_is_that_of_the_solution():
    generator = torch.Generator().manual_seed(1)
    a = (0.5 + torch.rand(2, 3, 4, generator=generator, dtype=torch.float64)).requires_grad_()
    f = torch.randn(2, 1, 1, generator=generator, dtype=torch.float64).requires_grad_()
    assert gradcheck(darcy_pressure, (a, f))


def test_a_trajectory_is_rest_and_then_the_steady_flow():
    solver = Darcy2D((8, 12), beta=2.0)
    state = solver.initial(3, seed=5)
    assert torch.equal(state[:, 0], torch.zeros(3, 8, 12, dtype=torch.float64))
    assert set(state[:, 1].flatten().tolist()) == {0.1, 1.0}
    frames = solver.solve(state, times=[0.0, 1.0, 2.0])
    assert torch.equal(frames[:, 0], state)
    assert torch.equal(frames[:, 1], frames[:, 2])
    assert torch.equal(frames[:, 1, 1], state[:, 1])
    assert_close(frames[:, 1, 0], darcy_pressure(state[:, 1], torch.full((1, 1, 1), 2.0)))
    alone = solver.solve(state[1:2], times=[1.0])
    assert torch.equal(alone[:, 0], frames[1:2, 1])  # no sample depends on the others


def test_theta_is_the_source():
    solver = Darcy2D((6, 6))
    state = solver.initial(2, seed=0)
    frames = solver.trajectory(state, torch.tensor([[0.0], [1.0]]), num_steps=1).double()
    unit = darcy_pressure(state[:, 1], torch.ones(1, 1, 1))
    assert_close(
        frames[:, 1, 0],
        unit * torch.tensor([0.1, 10.0])[:, None, None].double(),
        rtol=1e-6,
        atol=0.0,
    )


def test_the_field_that_is_cut_has_its_correlation():
    """Of two Gaussian values of correlation r, the signs agree with chance 1/2 + asin(r)/pi."""
    side = 8
    nu = Darcy2D((side, side)).initial(4000, seed=0)[:, 1]
    mode = torch.arange(side, dtype=torch.float64)
    basis = torch.cos(math.pi * mode[:, None] * (torch.arange(side) + 0.5) / side) * math.sqrt(
        2 / side
    )
    basis[0] = math.sqrt(1 / side)
    spread = 1 / (math.pi**2 * (mode[:, None] ** 2 + mode**2) + 9.0) ** 2
    spread[0, 0] = 0.0

    def covariance(p, q):
        return float(
            (
                basis[:, p[0], None]
                * basis[:, q[0], None]
                * (basis[:, p[1]] * basis[:, q[1]])
                * spread
            ).sum()
        )

    p, q = (1, 2), (3, 5)
    r = covariance(p, q) / math.sqrt(covariance(p, p) * covariance(q, q))
    agree = float((nu[:, p[0], p[1]] == nu[:, q[0], q[1]]).double().mean())
    assert agree == pytest.approx(
        0.5 + math.asin(r) / math.pi, abs=0.03
    )  # 4 deviations of 4000 draws


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shape": (8,)}, "two axes"),
        ({"shape": (8, 1)}, "at least 2 cells"),
        ({"low": 0.0}, "low"),
        ({"beta": math.inf}, "beta"),
    ],
)
def test_what_is_out_of_range_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Darcy2D(**{"shape": (8, 8), **options})


def test_a_permeability_that_lets_nothing_through_is_refused():
    solver = Darcy2D((4, 4))
    state = solver.initial(2, seed=0)
    state[1, 1, 2, 3] = 0.0
    with pytest.raises(ValueError, match="sample 1 has nu down to 0"):
        solver.solve(state, times=[1.0])
    with pytest.raises(ValueError, match="positive and finite"):
        darcy_pressure(state[1:, 1], torch.ones(1, 1, 1))
