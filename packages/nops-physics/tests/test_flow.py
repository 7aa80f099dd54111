"""The vorticity solvers: exact flows, budgets, order, and what must not depend on what."""

import dataclasses
import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_physics import DecayingTurbulence2D, KolmogorovFlow, TaylorGreen, random_field
from torch.testing import assert_close

FLOWS = {
    "kolmogorov": KolmogorovFlow(resolution=16, viscosity=0.02),
    "odd": KolmogorovFlow(resolution=15, length=3.0, viscosity=0.02, forcing_wavenumber=2),
    "decaying": DecayingTurbulence2D(resolution=16, viscosity=0.02),
}
seeds = st.integers(0, 2**31)


@pytest.fixture(params=FLOWS)
def flow(request):
    return FLOWS[request.param]


def grid(side, length=2 * math.pi):
    x = torch.arange(side, dtype=torch.float64) * length / side
    return x[:, None], x[None, :]


def refine(field, side):
    """The same band-limited field on a finer grid, by its Fourier coefficients."""
    coarse = field.shape[-1]
    modes = torch.fft.fftn(field, dim=(-2, -1), norm="forward")
    whole = torch.fft.fftfreq(coarse, d=1 / coarse).round().long()
    fine = torch.zeros(*field.shape[:-2], side, side, dtype=modes.dtype)
    fine[..., (whole % side)[:, None], whole % side] = modes
    return torch.fft.ifftn(fine, dim=(-2, -1), norm="forward").real


# ---- exact flows ----


@pytest.mark.parametrize(("resolution", "wavenumber", "length"), [(64, 1, 2 * math.pi), (33, 3, 5)])
def test_taylor_green_is_kept(resolution, wavenumber, length):
    exact = TaylorGreen(viscosity=0.01, resolution=resolution, wavenumber=wavenumber, length=length)
    flow = DecayingTurbulence2D(resolution=resolution, length=length, viscosity=0.01)
    times = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    found = flow.solve(exact.vorticity(0.0)[None], times=times, dt=0.02)
    assert_close(found[0], exact.vorticity(times), rtol=0, atol=1e-10)
    assert_close(flow.velocity(found)[0], exact.velocity(times), rtol=0, atol=1e-10)
    assert_close(flow.budget(found).energy[0], exact.energy(times), rtol=0, atol=1e-10)


def test_the_laminar_kolmogorov_flow_is_at_rest_in_time():
    """A sin(q x_2) = (viscosity q^2 + drag) u_1 makes a flow that stays, and sets every sign."""
    flow = KolmogorovFlow(
        resolution=24,
        length=3.0,
        viscosity=0.2,
        drag=0.3,
        forcing_wavenumber=2,
        forcing_amplitude=0.5,
    )
    q = 2 * math.pi * 2 / 3.0
    u = torch.zeros(2, 24, 24, dtype=torch.float64)
    u[0] = 0.5 / (0.2 * q**2 + 0.3) * torch.sin(q * grid(24, 3.0)[1])
    start = flow.vorticity(u)[None]
    assert_close(flow.velocity(start)[0], u, rtol=0, atol=1e-14)
    steady = flow.solve(start, times=[1.0], dt=0.01)[:, 0]
    assert_close(steady, start, rtol=0, atol=1e-8)  # RK4's error of damped steps, (q^2 nu dt)^4
    budget = flow.budget(start)
    # <A sin . u_1> = A a / 2, energy a^2 / 4, enstrophy q^2 a^2 / 4
    a = float(u[0].max())
    assert budget.input.item() == pytest.approx(0.5 * a / 2, abs=1e-14)
    assert budget.energy.item() == pytest.approx(a**2 / 4, abs=1e-14)
    assert budget.enstrophy.item() == pytest.approx(q**2 * a**2 / 4, abs=1e-14)
    assert budget.drag_loss.item() == pytest.approx(0.3 * a**2 / 2, abs=1e-14)
    assert budget.viscous_loss.item() == pytest.approx(0.2 * q**2 * a**2 / 2, abs=1e-14)
    assert budget.enstrophy_input.item() == pytest.approx(q**2 * 0.5 * a / 2, abs=1e-13)


def test_the_transport_is_that_of_the_convective_form():
    """One short step against -u.grad w by spectral derivatives on a grid without folding."""
    flow = DecayingTurbulence2D(resolution=16, viscosity=0.0)
    w = flow.initial(1, seed=0)
    step = 1e-3
    rate = (flow.step(w, step) - w) / step
    fine = refine(w[0, 0], 32)
    wave = torch.fft.fftfreq(32, d=1 / 32, dtype=torch.float64)
    modes = torch.fft.fft2(fine)
    slope = [torch.fft.ifft2(1j * k * modes).real for k in (wave[:, None], wave)]
    u = DecayingTurbulence2D(resolution=32).velocity(fine[None])
    transport = torch.fft.fft2(-(u[0] * slope[0] + u[1] * slope[1]))
    keep = (wave.abs() <= 5)[:, None] & (wave.abs() <= 5)  # 3 m < 16
    expected = torch.fft.ifft2(transport * keep).real[::2, ::2]
    assert (rate[0, 0] - expected).abs().max() < 2e-2 * expected.abs().max()
    smaller = (flow.step(w, step / 10) - w) / (step / 10)
    assert (smaller[0, 0] - expected).abs().max() < 2e-3 * expected.abs().max()


# ---- budgets and order ----


def balance(flow, start, num_steps, duration=0.4):
    """Change of energy and enstrophy minus the integral of their rates (Boole's rule, order 6)."""
    dt = duration / num_steps
    budgets = [flow.budget(start)]
    for _ in range(num_steps):
        start = flow.step(start, dt)
        budgets.append(flow.budget(start))
    weights = torch.tensor([14.0, 32, 12, 32] * (num_steps // 4) + [7.0]).double()
    weights[0] = 7.0
    residuals = []
    for prefix, total in (("", "energy"), ("enstrophy_", "enstrophy")):
        rates = torch.stack(
            [
                getattr(b, prefix + "input")
                - getattr(b, prefix + "viscous_loss")
                - getattr(b, prefix + "drag_loss")
                for b in budgets
            ]
        )
        change = getattr(budgets[-1], total) - getattr(budgets[0], total)
        residuals.append(float(change - 2 * dt / 45 * (weights @ rates)[0]))
    return residuals


def test_energy_and_enstrophy_budgets_close_at_fourth_order():
    flow = KolmogorovFlow(resolution=32, viscosity=0.02)
    start = flow.initial(1, seed=1)
    coarse, fine = balance(flow, start, 32), balance(flow, start, 64)
    for large, small in zip(coarse, fine, strict=True):
        assert math.log2(abs(large / small)) > 3.8
        assert abs(small) < 1e-6


def test_the_solution_converges_at_fourth_order():
    flow = KolmogorovFlow(resolution=32, viscosity=0.02)
    start = flow.initial(1, seed=1)
    reference, coarse, fine = (flow.step(start, 0.4 / n, steps=n) for n in (256, 32, 64))
    order = torch.log2((coarse - reference).norm() / (fine - reference).norm())
    assert order.item() == pytest.approx(4.0, abs=0.15)


def test_resolved_runs_agree_across_resolutions():
    coarse = DecayingTurbulence2D(resolution=64, viscosity=0.05)
    fine = DecayingTurbulence2D(resolution=128, viscosity=0.05)
    # shells 1 and 2 of root mean square 4: what passes wavenumber 21 by then is far below 1e-8
    start = random_field(lambda k: (k <= 2).double(), shape=(64, 64), seed=0)[None]
    start = start * (4 / start.square().mean().sqrt())
    found = coarse.step(start, 0.005, steps=20)
    expected = fine.step(refine(start, 128), 0.005, steps=20)[..., ::2, ::2]
    assert_close(found, expected, rtol=0, atol=1e-8)


@given(seed=seeds, viscosity=st.floats(1e-4, 0.1), peak=st.floats(1, 5))
def test_decaying_never_gains_energy(seed, viscosity, peak):
    flow = DecayingTurbulence2D(resolution=16, viscosity=viscosity)
    start = flow.initial(1, seed=seed, peak_wavenumber=peak)
    frames = flow.solve(start, times=[0.0, 0.1, 0.2, 0.4])
    budget = flow.budget(frames)
    assert (budget.energy.diff(dim=1) < 0).all()
    assert (budget.enstrophy.diff(dim=1) < 0).all()


def test_the_inviscid_flow_keeps_energy_and_enstrophy():
    flow = DecayingTurbulence2D(resolution=24, viscosity=0.0)
    start = flow.initial(2, seed=0)
    frames = flow.solve(start, times=[0.0, 0.5], dt=0.005)
    for values in flow.budget(frames)[:2]:
        assert_close(values[:, 1], values[:, 0], rtol=1e-7, atol=0)  # of order dt^4


@pytest.mark.parametrize("forced", [True, False])
def test_known_energy_and_enstrophy(forced):
    """64 cells, viscosity 1e-3: about 1 and about 11, from t = 10 on; without force it decays."""
    flow = KolmogorovFlow(dtype=torch.float32)
    if not forced:
        flow = KolmogorovFlow(dtype=torch.float32, forcing_amplitude=0.0)
    frames = flow.solve(flow.initial(2, seed=0), times=torch.arange(10.0, 16.0), dt=0.016)
    budget = flow.budget(frames)
    if forced:
        assert budget.energy.mean().item() == pytest.approx(1.0, abs=0.2)
        assert budget.enstrophy.mean().item() == pytest.approx(11.0, abs=2.5)
    else:
        assert budget.energy.max() < 0.1


# ---- the initial field, velocity and vorticity ----


def test_initial_spectrum_and_size():
    """Energy per shell (k/k_p)^4 exp(-2 (k/k_p)^2) in the mean, root mean square as asked."""
    flow = DecayingTurbulence2D(resolution=48, length=3.0)
    start = flow.initial(300, seed=0, peak_wavenumber=4, rms_vorticity=2.5)
    assert start.shape == (300, 1, 48, 48)
    rms = start.square().mean((-1, -2)).sqrt()
    assert_close(rms, torch.full_like(rms, 2.5), rtol=1e-12, atol=0)
    power = torch.fft.fft2(flow.velocity(start), norm="forward").abs().square().sum(1).mean(0)
    k = torch.fft.fftfreq(48, d=1 / 48, dtype=torch.float64)
    shell = (k[:, None].square() + k.square()).sqrt().round().long()
    energy = torch.zeros(35).double().index_add(0, shell.flatten(), power.flatten())[1:9]
    k = torch.arange(1, 9) / 4
    expected = k**4 * torch.exp(-2 * k**2)
    # shells are half a wavenumber wide to both sides, over which k^2 E is shared evenly
    assert_close(energy / energy.sum(), (expected / expected.sum()).double(), rtol=0.12, atol=0.01)


def test_velocity_and_vorticity_undo_each_other(flow):
    w = flow.initial(3, seed=0)
    u = flow.velocity(w[:, None])
    assert u.shape == (3, 1, 2, flow.resolution, flow.resolution)
    assert_close(flow.vorticity(u)[:, 0], w, rtol=0, atol=1e-12)
    assert u.mean((-1, -2)).abs().max() < 1e-14


def test_stable_step_golden():
    """Taylor-Green, 16 cells: max(|u_1| + |u_2|) = 1, k_max = 5 (3 * 5 < 16): 2.5 / 5."""
    w = TaylorGreen(viscosity=0.1, resolution=16).vorticity(torch.tensor([0.0, 1.0]))
    stable = DecayingTurbulence2D(resolution=16).stable_dt(w)
    assert stable.shape == (2,)
    assert stable[0].item() == pytest.approx(0.5, abs=1e-14)
    assert stable[1].item() == pytest.approx(0.5 * math.exp(0.2), abs=1e-14)
    assert DecayingTurbulence2D(resolution=16).stable_dt(torch.zeros_like(w)).isinf().all()


# ---- independence ----


def test_an_expanded_state_is_taken(flow):
    start = flow.initial(1, seed=3)
    found = flow.step(start.expand(3, -1, -1, -1), 0.05)
    assert torch.equal(found, flow.step(start, 0.05).expand(3, -1, -1, -1))


def test_batch_independence_to_the_bit(flow):
    start = flow.initial(11, seed=3)
    stable = float(flow.stable_dt(start).min()) / 2
    assert torch.equal(start[4:7], flow.initial(11, seed=3)[4:7])
    for options in ({"dt": stable}, {}):
        frames = flow.solve(start, times=[0.0, 0.3], **options)
        for part in (slice(0, 1), slice(4, 7)):
            alone = flow.solve(start[part].clone(), times=[0.0, 0.3], **options)
            assert torch.equal(frames[part], alone)
            u = flow.velocity(frames)
            assert torch.equal(u[part], flow.velocity(alone.clone()))
            assert torch.equal(flow.vorticity(u)[part], flow.vorticity(u[part].clone()))


def test_seeds(flow):
    before = torch.get_rng_state()
    start = flow.initial(3, seed=7)
    assert torch.equal(start, flow.initial(3, seed=7))
    assert torch.equal(start[:2], flow.initial(2, seed=7))
    assert not torch.equal(start[:2], flow.initial(2, seed=8))
    assert (start[0] - start[1]).abs().max() > 0.1
    assert torch.equal(flow.initial(2, seed=[5, 9])[1:], flow.initial(1, seed=[9]))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("options", [{"dt": 0.05}, {}])
def test_a_restart_inside_solve_is_the_same_path(flow, options):
    start = flow.initial(2, seed=0)
    whole = flow.solve(start, times=[0.25, 0.75, 1.25], **options)
    rest = flow.solve(whole[:, 0], times=[0.0, 0.5, 1.0], **options)
    assert_close(rest[:, 0], whole[:, 0], rtol=0, atol=1e-13)
    assert torch.equal(rest[:, 1:], whole[:, 1:])


def test_step_and_solve_agree(flow):
    start = flow.initial(2, seed=0)
    solved = flow.solve(start, times=[0.25], dt=0.05)[:, 0]
    assert torch.equal(flow.step(start, 0.05, steps=5), solved)
    single = start
    for _ in range(5):
        single = flow.step(single, 0.05)
    assert_close(single, solved, rtol=0, atol=1e-12)


def test_times_in_float32_take_no_further_step():
    """Frame 99 is 0.240002 after frame 98 in float32; it takes fifteen steps of 0.016 all the same."""
    flow = FLOWS["decaying"]
    start = flow.initial(1, seed=0)
    duration = float((torch.arange(100) * 0.24).diff().max())
    assert duration > 0.240001
    found = flow.solve(start, times=[duration], dt=0.016)[:, 0]
    assert torch.equal(found, flow.step(start, duration / 15, steps=15))


def test_without_dt_the_step_is_the_largest_that_is_stable():
    """The stable step 0.5 in an interval of 1.1 takes three steps, exactly as steps of 1.1 / 3."""
    exact = TaylorGreen(viscosity=0.01, resolution=16)
    flow = DecayingTurbulence2D(resolution=16, viscosity=0.01)
    start = exact.vorticity(0.0)[None] + 1e-6 * flow.initial(1, seed=0)
    found = flow.solve(start, times=[1.1])[:, 0]
    assert_close(found, flow.step(start, 1.1 / 3, steps=3), rtol=0, atol=1e-13)


def test_a_flow_that_speeds_up_is_begun_again_with_a_smaller_step():
    """At rest every step is stable; the force makes the flow fast within the interval."""
    flow = KolmogorovFlow(resolution=16, drag=0.0, forcing_amplitude=10.0, forcing_wavenumber=1)
    rest = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    frames = flow.solve(rest, times=[2.0, 2.5])
    # laminar: u_1 = A/nu (1 - exp(-nu t)) sin x_2, so the largest speed is close to 20
    speed = 10.0 / 1e-3 * -math.expm1(-1e-3 * 2)
    assert flow.velocity(frames)[0, 0, 0].max().item() == pytest.approx(speed, rel=1e-6)
    with pytest.raises(ValueError, match=r"time step 0\.5 is above the stable step .* dt <= 0\.0"):
        flow.solve(rest, times=[2.0], dt=0.5)


# ---- gradients, types ----


@pytest.mark.parametrize("name", ["kolmogorov", "decaying"])
def test_gradients(name):
    if name == "kolmogorov":
        flow = KolmogorovFlow(resolution=6, viscosity=0.05, forcing_wavenumber=1)
    else:
        flow = DecayingTurbulence2D(resolution=6, viscosity=0.05)
    start = flow.initial(2, seed=0, peak_wavenumber=1).requires_grad_()
    # Along random directions: each column of the Jacobian by itself would take half a minute.
    check = partial(torch.autograd.gradcheck, inputs=(start,), fast_mode=True)
    assert check(lambda w: flow.step(w, 0.05, steps=3))
    assert check(lambda w: flow.solve(w, times=[0.1, 0.3]))
    assert check(lambda w: flow.vorticity(flow.velocity(w)))
    assert check(lambda w: flow.budget(w)[:2])


def test_the_core_takes_a_damping_per_sample():
    """Two flows of different viscosity in one batch are the two flows."""
    core = FLOWS["decaying"]._core
    start = FLOWS["decaying"].initial(2, seed=0)
    viscosity = torch.tensor([0.01, 0.1], dtype=torch.float64)
    modes, _ = core.advance(
        core.modes(start[:, 0]) * core.kept,
        damping=viscosity[:, None, None] * core.squared,
        forcing=None,
        step=0.05,
        num_steps=4,
    )
    for sample, value in enumerate((0.01, 0.1)):
        flow = DecayingTurbulence2D(resolution=16, viscosity=value)
        expected = flow.step(start[sample : sample + 1], 0.05, steps=4)
        assert_close(core.field(modes)[sample], expected[0, 0], rtol=0, atol=1e-13)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.gpu
@pytest.mark.parametrize("name", ["kolmogorov", "odd"])
def test_cuda_agrees_with_the_cpu(name):
    flow = FLOWS[name]
    cuda = dataclasses.replace(flow, device="cuda")
    start = flow.initial(3, seed=0)
    found = cuda.solve(start, times=[0.0, 0.3], dt=0.02)
    assert found.is_cuda
    assert cuda.initial(3, seed=0).is_cuda
    assert_close(found.cpu(), flow.solve(start, times=[0.0, 0.3], dt=0.02), rtol=0, atol=1e-11)
    assert_close(cuda.velocity(found).cpu(), flow.velocity(found.cpu()), rtol=0, atol=1e-12)


def test_float32_follows_float64():
    double = KolmogorovFlow(resolution=32, viscosity=0.02)
    single = KolmogorovFlow(resolution=32, viscosity=0.02, dtype=torch.float32)
    start = double.initial(2, seed=0)
    assert_close(single.initial(2, seed=0), start.float(), rtol=0, atol=1e-5)
    found = single.solve(start, times=[0.5], dt=0.02)
    assert found.dtype == torch.float32
    assert_close(found.double(), double.solve(start, times=[0.5], dt=0.02), rtol=0, atol=1e-4)


def test_what_the_two_thirds_rule_removes_is_taken_off_first():
    """16 cells keep |m| <= 5: a wave of 6 and the mean leave no trace, a wave of 5 stays."""
    flow = DecayingTurbulence2D(resolution=16, viscosity=0.0)
    x, y = grid(16)
    kept = torch.cos(5 * x) + 0 * y
    start = kept + torch.sin(6 * y) + 2.0
    found = flow.solve(start[None, None], times=[0.0, 0.1])[0, :, 0]
    assert_close(found, kept.expand(2, 16, 16), rtol=0, atol=1e-13)
