"""WaveChain: published radii and steps, exact solutions against peers, stability, samples."""

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_physics import GaussianForce, WaveChain
from torch.testing import assert_close

SCHEMES = ("rk4", "semi_implicit", "trapezoidal", "euler")
RADII = {"euler": 2.21572, "rk4": 0.995013, "semi_implicit": 0.994987, "trapezoidal": 0.997478}
STEPS = {"euler": 2.55e-5, "rk4": 0.01431, "semi_implicit": 0.01008}
CHAIN = WaveChain()
MIDDLE = torch.tensor([0.5], dtype=torch.float64)


def random_state(chain, seed, *batch):
    """A smooth state, its ends 0."""
    generator = torch.Generator().manual_seed(seed)
    number = torch.arange(1, 5, dtype=torch.float64)
    waves = torch.sin(math.pi * number[:, None] * chain.x / chain.length) / number[:, None] ** 2
    waves[:, [0, -1]] = 0.0
    return torch.randn(2, *batch, 4, generator=generator, dtype=torch.float64) @ waves


class TestStability:
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_radii(self, scheme):
        """From the modes, and as the largest eigenvalue of the matrix of a step."""
        assert CHAIN.spectral_radius(scheme) == pytest.approx(RADII[scheme], abs=5e-6)
        sizes = torch.linalg.eigvals(CHAIN.propagator(scheme)).abs()
        assert float(sizes.max()) == pytest.approx(CHAIN.spectral_radius(scheme), abs=1e-9)
        assert int((sizes > 1 + 1e-9).sum()) == (190 if scheme == "euler" else 0)

    def test_steps(self):
        found = {scheme: CHAIN.stable_dt(scheme) for scheme in SCHEMES}
        assert found.pop("trapezoidal") == math.inf
        assert found == pytest.approx(STEPS, rel=2e-3)
        assert WaveChain(k=0.0).stable_dt("euler") == 0
        highest = 2 * 99 * math.cos(math.pi / 198)
        undamped = {s: WaveChain(k=0.0).stable_dt(s) for s in ("rk4", "semi_implicit")}
        expected = {"rk4": math.sqrt(8) / highest, "semi_implicit": 2 / highest}
        assert undamped == pytest.approx(expected, rel=1e-3)

    @given(
        n=st.integers(3, 40),
        c=st.floats(0.2, 3),
        k=st.floats(0.01, 50),
        scheme=st.sampled_from(["rk4", "semi_implicit", "euler"]),
    )
    def test_the_stable_step_parts_stable_from_not(self, n, c, k, scheme):
        """Creeping modes included."""
        largest = WaveChain(n, c=c, k=k).stable_dt(scheme)
        below, above = (
            WaveChain(n, c=c, k=k, dt=share * largest).spectral_radius(scheme)
            for share in (0.999, 1.001)
        )
        assert below <= 1 + 1e-12 < above

    @given(k=st.floats(0, 100), dt=st.floats(1e-4, 10))
    def test_trapezoidal_never_grows(self, k, dt):
        assert WaveChain(20, k=k, dt=dt).spectral_radius("trapezoidal") <= 1 + 1e-12

    def test_euler_explodes_and_says_so(self):
        u, v = random_state(CHAIN, 0)
        message = r"euler with dt = 0.01 has spectral radius 2.21572 > 1.* take dt <= 2.551e-05"
        with pytest.warns(RuntimeWarning, match=message):
            last, _ = CHAIN.rollout(u, v, None, 1000, scheme="euler")
        assert not bool(torch.isfinite(last[-1]).all())
        with pytest.warns(RuntimeWarning, match="spectral radius"):
            CHAIN.step(u, v, scheme="euler")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            bounded, _ = CHAIN.rollout(u, v, None, 1000, scheme="trapezoidal")
        assert float(bounded.abs().max()) < 2 * float(u.abs().max() + v.abs().max())


class TestExact:
    def test_golden(self):
        """Mode 1, k = 1, t = 1, of the string and of the chain; then one Runge-Kutta step."""
        assert CHAIN.modal(1, t=1.0, x=MIDDLE)[0].item() == pytest.approx(-0.602130, abs=5e-7)
        discrete, _ = CHAIN.modal(1, t=1.0, x=MIDDLE, discrete=True)
        assert discrete.item() == pytest.approx(-0.602114, abs=5e-7)
        u = torch.sin(math.pi * CHAIN.x)
        after = [part[40] / u[40] for part in CHAIN.step(u, 0 * u, scheme="rk4")]
        assert after == pytest.approx([0.99950824, -0.09817981], abs=5e-9)
        assert_close(CHAIN.laplacian(u)[1:-1], -9.868776 * u[1:-1], rtol=1e-7, atol=1e-8)

    @pytest.mark.parametrize("k", [0.0, 1.0, 2 * math.pi, 30.0])
    def test_modal_matrix_exponential_and_runge_kutta_agree(self, k):
        """Swinging, nearly critical and creeping; the peer is the exponential of the matrix."""
        chain = WaveChain(30, k=k, dt=0.01)
        u, v = random_state(chain, 1, 2)
        m, one = 28, torch.eye(28, dtype=torch.float64)
        bend = chain.laplacian(torch.nn.functional.pad(one, (1, 1)))[:, 1:-1]
        top, low = torch.cat((0 * one, one), 1), torch.cat((bend, -k * one), 1)
        whole = torch.linalg.matrix_exp(0.7 * torch.cat((top, low)))
        expected = torch.cat((u, v), -1)[:, [*range(1, 29), *range(31, 59)]] @ whole.mT
        found = chain.expm(u, v, t=0.7)
        assert_close(torch.cat([part[:, 1:-1] for part in found], -1), expected, atol=1e-10, rtol=0)
        assert not found[0][:, [0, -1]].any()
        rolled = chain.rollout(u, v, None, 70, scheme="rk4")
        assert_close(rolled[0][:, -1], found[0], rtol=0, atol=1e-4)
        for number in (1, 5):
            start, _ = chain.modal(number, t=0.0)
            single = chain.expm(start, 0 * start, t=0.7)
            assert_close(single, chain.modal(number, t=0.7, discrete=True), rtol=0, atol=1e-11)
        assert m == len(bend)

    def test_ten_seconds_of_runge_kutta(self):
        u, v = random_state(CHAIN, 2)
        rolled = CHAIN.rollout(u, v, None, 1000, scheme="rk4")
        exact = CHAIN.expm(u, v, t=10.0)
        for found, expected in zip(rolled, exact, strict=True):
            assert (found[-1] - expected).norm() < 1e-3 * expected.norm()

    @pytest.mark.parametrize(
        ("scheme", "order"), [("euler", 1), ("semi_implicit", 1), ("trapezoidal", 2), ("rk4", 4)]
    )
    def test_order_in_time(self, scheme, order):
        errors = []
        for steps in (40, 80):
            chain = WaveChain(7, dt=0.5 / steps)
            u, v = random_state(chain, 3)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                rolled = torch.stack(chain.rollout(u, v, None, steps, scheme=scheme))
            errors.append((rolled[:, -1] - torch.stack(chain.expm(u, v, t=0.5))).norm())
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)

    def test_a_frozen_force_bends_the_string_to_its_rest(self):
        """Far on, every stable scheme is at rest with c^2 L u = -f."""
        chain = WaveChain(8, k=8.0, c=2.0, dt=0.02)
        f = torch.linspace(-1, 2, 8, dtype=torch.float64)
        for scheme in ("rk4", "semi_implicit", "trapezoidal"):
            u, v = chain.rollout(0 * f, 0 * f, lambda x, t: f, 1000, scheme=scheme)
            assert_close(4 * chain.laplacian(u[-1])[1:-1], -f[1:-1], rtol=0, atol=1e-8)
            assert v[-1].abs().max() < 1e-8


class TestEnergy:
    def test_by_hand(self):
        """Four nodes, dx = 1/3: v = (0, 3, 0, 0) and u = (0, 1, 1, 0), c = 2."""
        chain = WaveChain(4, c=2.0)
        u, v = torch.tensor([[0.0, 1.0, 1.0, 0.0], [0.0, 3.0, 0.0, 0.0]]).double()
        assert chain.energy(u, v).item() == pytest.approx(9 / 3 / 2 + 4 * 2 * 3 / 2)

    @given(seed=st.integers(0, 2**31 - 1), scheme=st.sampled_from(["rk4", "trapezoidal"]))
    def test_it_never_rises_without_a_force(self, seed, scheme):
        chain = WaveChain(40, k=0.1, dt=0.02)
        energy = chain.energy(*chain.rollout(*random_state(chain, seed), None, 60, scheme=scheme))
        assert bool((energy.diff() <= 0).all())


class TestBound:
    def test_by_hand(self):
        """Three nodes, dx = 1/2: one mode, w^2 = (4 sin 45)^2 = 8, which is its node alone."""
        chain = WaveChain(3)
        (zero, one), push = torch.tensor([[0.0, 0, 0], [0, 1, 0]]).double(), torch.tensor(100.0)
        rest = {"u": zero, "v": one}  # of size 1; the step makes sqrt(1 + 8) = 3
        assert_close(chain.bound_energy(one, one, **rest), (one / 3, one / 3))
        assert_close(chain.bound_energy(one, one, **rest, f=push), (2 * one / 3, 2 * one / 3))
        assert_close(chain.bound_energy(one, one, **rest, f=-2 * push), (one, one))
        assert_close(chain.bound_energy(zero, -one, **rest), (zero, -one))

    @given(seed=st.integers(0, 2**31 - 1), k=st.floats(0, 5), c=st.floats(0.3, 3))
    def test_a_true_step_is_left_as_it_is(self, seed, k, c):
        """The exact one, and those of integrators that never give energy, under a push too."""
        chain = WaveChain(20, k=k, c=c, dt=0.01)
        u, v, f = torch.randn(3, 20, generator=torch.Generator().manual_seed(seed)).double()
        exact = chain.expm(u, v, t=0.01)
        assert_close(chain.bound_energy(*exact, u=u, v=v), exact, rtol=1e-11, atol=1e-11)
        for scheme in ("rk4", "trapezoidal"):
            found = chain.step(u, v, f, scheme=scheme)
            assert_close(chain.bound_energy(*found, u=u, v=v, f=f), found, rtol=1e-9, atol=1e-9)

    def test_a_rollout_that_explodes_is_held(self):
        """Forward Euler for 10 s: no mode passes what the pushes gave it, and rest stays rest."""
        push = GaussianForce(location=0.3, time=1.0)
        state = torch.zeros(2, 100, dtype=torch.float64)
        number = torch.arange(1, 99, dtype=torch.float64)[:, None]
        sines = torch.sin(math.pi * number * CHAIN.x) * math.sqrt(2 / 99)
        given = torch.zeros(98, dtype=torch.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            for index in range(1000):
                f = push(CHAIN.x, index * 0.01)
                u, v = state
                step = CHAIN.step(u, v, f, scheme="euler")
                state = torch.stack(CHAIN.bound_energy(*step, u=u, v=v, f=f))
                given += 0.01 * (sines @ f).abs()
        sizes = ((sines @ state[1]).square() + CHAIN._squared * (sines @ state[0]).square()).sqrt()
        assert bool(
            (sizes <= given + 1e-9).all()
        )  # rounding, 1000 times with frequencies up to 198
        assert sizes.max() > 0.1 * given.max()  # and is not held at 0
        still = CHAIN.bound_energy(f, f, u=0 * f, v=0 * f)
        assert max(part.abs().max() for part in still) < 1e-100

    def test_type_shape_and_gradients(self):
        u, v, f, up, vp = torch.randn(5, 2, 6, generator=torch.Generator().manual_seed(0))
        chain = WaveChain(6)
        found = chain.bound_energy(up, vp, u=u, v=v, f=f)
        assert [(part.dtype, part.shape) for part in found] == [(torch.float32, (2, 6))] * 2
        tensors = [part.double().requires_grad_() for part in (up, vp, u, v, f)]
        of = lambda a, b, u, v, f: torch.cat(chain.bound_energy(a, b, u=u, v=v, f=f))  # noqa: E731
        assert torch.autograd.gradcheck(of, tensors)
        rest = torch.zeros(6, dtype=torch.float64, requires_grad=True)
        sum(part.sum() for part in of(rest, rest, rest, rest, rest).unbind()).backward()
        assert bool(rest.grad.isfinite().all())


class TestSteps:
    def test_ends_are_held_whatever_they_hold(self):
        u, v = random_state(CHAIN, 4)
        crooked = [part + 5 * torch.eye(100)[0] - 3 * torch.eye(100)[-1] for part in (u, v)]
        f = torch.ones(100, dtype=torch.float64)
        for scheme in SCHEMES[:3]:
            found, expected = (CHAIN.step(*y, f, scheme=scheme) for y in (crooked, (u, v)))
            assert_close(found, expected, rtol=0, atol=0)
            assert not any(part[[0, -1]].any() for part in found)
        rates = CHAIN.rhs(*crooked, f)
        assert not any(part[[0, -1]].any() for part in rates)

    def test_a_rollout_is_its_steps_in_the_type_of_the_state(self):
        u, v = random_state(CHAIN, 5, 3).float()
        push = GaussianForce(location=0.3, time=0.02)
        frames = CHAIN.rollout(u, v, push, 3, scheme="trapezoidal", start=0.01)
        assert frames[0].shape == (3, 4, 100)
        assert frames[0].dtype == torch.float32
        state = (u.double(), v.double())
        for index in range(3):
            f = push(CHAIN.x, 0.01 + index * 0.01)
            state = CHAIN.step(*state, f, scheme="trapezoidal")
            assert_close([part[:, index + 1] for part in frames], [part.float() for part in state])

    def test_gradcheck(self):
        chain = WaveChain(6)
        tensors = [part[0].requires_grad_() for part in torch.rand(3, 1, 6).double()]
        for scheme in SCHEMES[:3]:
            of = lambda u, v, f, scheme=scheme: torch.cat(chain.step(u, v, f, scheme=scheme))  # noqa: E731
            assert torch.autograd.gradcheck(of, tensors)

    def test_refusals(self):
        u = torch.zeros(100)
        with pytest.raises(ValueError, match="at least 3 nodes, got 2"):
            WaveChain(2)
        with pytest.raises(ValueError, match="k needs to be at least 0, got -1"):
            WaveChain(k=-1.0)
        with pytest.raises(ValueError, match="'leapfrog', expected rk4, semi_implicit"):
            CHAIN.step(u, u, scheme="leapfrog")
        with pytest.raises(ValueError, match=r"\(99,\) needs 100 nodes"):
            CHAIN.laplacian(u[1:])
        with pytest.raises(ValueError, match=r"f of shape \(3, 100\) does not broadcast"):
            CHAIN.step(u, u, torch.zeros(3, 100), scheme="rk4")
        with pytest.raises(ValueError, match="100 nodes have no mode 99"):
            CHAIN.modal(99, t=0.0, discrete=True)
        with pytest.raises(ValueError, match="needs to be finite and at least 0, got -1"):
            CHAIN.expm(u, u, t=-1.0)


class TestSamples:
    def test_each_is_a_function_of_its_seed_alone(self):
        many, one = CHAIN.samples(3, 4), CHAIN.samples(1, 4, seed=1002)
        assert many.u.shape == many.v.shape == many.f.shape == (3, 4, 100)
        for found, expected in zip(many, one, strict=True):
            assert torch.equal(found[2], expected[0])
        assert not torch.equal(many.u[0], many.u[1])
        state = torch.get_rng_state()
        CHAIN.samples(1, 1)
        assert torch.equal(state, torch.get_rng_state())

    def test_the_force_is_the_push_at_its_time_and_place(self):
        """-3 exp(-400 (x - p)^2) exp(-(t - 1)^2 / 0.5): the logarithms tell p, in [0.1, 0.9]."""
        f, t = CHAIN.samples(20, 2).f, CHAIN.samples(20, 2).t
        x = CHAIN.x
        size = -f.amin(-1)
        assert bool((size <= 3 * torch.exp(-(t - 1).square() / 0.5)).all())
        place = (f * x).sum(-1) / f.sum(-1)
        assert bool(((place > 0.09) & (place < 0.91)).all())
        assert place.std() > 0.15
        assert_close(
            f[0], GaussianForce(location=float(place[0, 0]))(x, t[0, :, None]), atol=0.02, rtol=0
        )

    def test_sizes(self):
        """Means over many of the differences of the integrators' targets, of about 15 %."""
        samples = CHAIN.samples(200, 5)
        state = (samples.u, samples.v, samples.f)
        exact = CHAIN.step(*state, scheme="rk4")
        with pytest.warns(RuntimeWarning, match="spectral radius"):
            euler = CHAIN.step(*state, scheme="euler")
        mean = CHAIN.step(*state, scheme="trapezoidal")
        found = [
            (a - b).square().mean().item()
            for s in (euler, mean)
            for a, b in zip(s, exact, strict=True)
        ]
        assert found == pytest.approx([6.7e-10, 8.5e-9, 9.5e-14, 6.2e-10], rel=0.25)

    def test_no_force_and_a_given_place(self):
        assert not CHAIN.samples(2, 2, force=None).f.any()
        given = CHAIN.samples(2, 1, force=GaussianForce(location=0.5, amplitude=2.0)).f
        assert abs(CHAIN.x[given[0, 0].argmax()] - 0.5) < 0.01
        assert given.min() >= 0
        assert torch.equal(CHAIN.samples(2, 2, force=None).u, CHAIN.samples(2, 2).u)
        with pytest.raises(ValueError, match="give a location, or draw one"):
            GaussianForce()(CHAIN.x, 0.0)
        with pytest.raises(ValueError, match="margin needs to be in"):
            GaussianForce(margin=0.5)
        with pytest.raises(ValueError, match="samples of 0 graphs"):
            CHAIN.samples(0, 1)
