"""What every domain promises, on regular and on odd grids."""

import dataclasses
import hashlib
import json
import math
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_physics import (
    DOMAIN_NAMES,
    Advection1D,
    AllenCahn1D,
    Burgers1D,
    DiffusionReaction2D,
    Domain,
    GrayScott,
    Heat,
    NavierStokes2D,
    Parameter,
    RandomConvOperator,
    WaveEquation2D,
    derive_seed,
    make_domain,
    physical_parameters,
    sobol_parameters,
)
from torch.testing import assert_close

CHECKSUMS = """
import hashlib, json, sys, torch
from nops_physics import make_domain, sobol_parameters
torch.manual_seed(int(sys.argv[1]))
torch.set_num_threads(2)
for name, shape in json.loads(sys.argv[2]):
    domain = make_domain(name, shape=shape)
    theta = sobol_parameters(3, num_parameters=len(domain.parameters))
    frames = domain.trajectory(domain.initial(3, seed=5), theta, num_steps=3)
    print(hashlib.sha256(frames.numpy().tobytes()).hexdigest())
"""


def start(domain, n, *, skip=0):
    theta = sobol_parameters(n, num_parameters=len(domain.parameters), skip=skip)
    return domain.initial(n, seed=11), theta


# ---- the protocol ----


def test_domain_says_what_it_is(domain):
    assert isinstance(domain, Domain)
    assert len(domain.channel_names) == domain.channels
    assert len(domain.lengths) == len(domain.shape)
    assert domain.frame_interval > 0
    assert domain.boundary in ("periodic", "wall")
    assert domain.version
    assert DOMAIN_NAMES[domain.name] == domain.name
    names = [parameter.name for parameter in domain.parameters]
    assert len(set(names)) == len(names) > 0


def test_trajectory_shape_type_and_first_frame(domain):
    initial, theta = start(domain, 3)
    assert initial.shape == (3, domain.channels, *domain.shape)
    assert initial.dtype == torch.float64
    frames = domain.trajectory(initial, theta, num_steps=2)
    assert frames.shape == (3, 3, domain.channels, *domain.shape)
    assert frames.dtype == torch.float32
    assert torch.equal(frames[:, 0], initial.float())
    only = domain.trajectory(initial, theta, num_steps=0)
    assert torch.equal(only, frames[:, :1])


def test_a_sample_has_the_same_bits_at_batch_1_3_and_16(domain):
    initial, theta = start(domain, 19)
    frames = domain.trajectory(initial, theta, num_steps=2)
    for first, last in ((0, 1), (18, 19), (5, 8), (2, 18)):
        part = domain.trajectory(initial[first:last], theta[first:last], num_steps=2)
        assert torch.equal(part, frames[first:last]), (first, last)


def test_an_initial_field_does_not_depend_on_n_and_may_bring_its_seed(domain):
    many, kinds = domain.initial(5, seed=2), domain.initial_kinds(5, seed=2)
    assert torch.equal(many[:2], domain.initial(2, seed=2))
    own = [derive_seed("initial", 2, 4)]
    assert torch.equal(many[4:], domain.initial(1, seed=own))
    assert domain.initial_kinds(1, seed=own) == kinds[4:]
    assert not torch.equal(many[0], many[1])


def test_the_global_generator_is_neither_read_nor_changed(domain):
    initial, theta = start(domain, 1)
    before = torch.get_rng_state()
    first = domain.trajectory(initial, theta, num_steps=2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(domain.trajectory(initial, theta, num_steps=2), first)
    assert torch.equal(domain.initial(1, seed=11), initial)


def test_a_pickled_domain_is_the_same_domain(domain):
    initial, theta = start(domain, 1)
    copy = pickle.loads(pickle.dumps(domain))
    assert copy == domain
    frames = domain.trajectory(initial, theta, num_steps=2)
    assert torch.equal(copy.trajectory(initial, theta, num_steps=2), frames)


def test_checksums_are_equal_in_a_fresh_process_with_more_threads():
    cases = [("gray_scott", (32, 32)), ("heat", (9, 7)), ("random_conv", (32, 32))]
    cases.append(("random_conv", (19, 18)))
    cases += [("navier_stokes", (16, 16)), ("navier_stokes", (9, 14)), ("wave", (9, 7))]
    cases += [("advection", (21,)), ("burgers", (255,)), ("diffusion_reaction", (9, 14))]
    here = []
    for name, shape in cases:
        domain = make_domain(name, shape=shape)
        initial = domain.initial(3, seed=5)
        theta = sobol_parameters(3, num_parameters=len(domain.parameters))
        frames = domain.trajectory(initial, theta, num_steps=3)
        here.append(hashlib.sha256(frames.numpy().tobytes()).hexdigest())
    there = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHECKSUMS, "1234", json.dumps(cases)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.split() == here


def test_theta_matters_and_gradients_reach_state_and_theta(domain):
    initial, theta = start(domain, 2)
    initial.requires_grad_()
    theta = theta.clone().requires_grad_()
    domain.trajectory(initial, theta, num_steps=2).square().sum().backward()
    assert initial.grad.isfinite().all()
    assert initial.grad.abs().amax((1, 2)).min() > 0
    assert theta.grad.isfinite().all()
    assert theta.grad.abs().min() > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_device_agrees_with_the_cpu(domain):
    initial, theta = start(domain, 3)
    frames = domain.trajectory(initial, theta, num_steps=3)
    found = domain.trajectory(initial.cuda(), theta.cuda(), num_steps=3)
    assert found.device.type == "cuda"
    assert_close(found.cpu(), frames, rtol=1e-6, atol=1e-6)  # float32 of equal float64 work


# ---- bad input ----


@pytest.mark.usefixtures("unchecked")
def test_a_wrong_shape_is_named_with_the_expected_one(domain):
    initial, theta = start(domain, 2)
    with pytest.raises(ValueError, match=r"state has shape .*; expected \(sample >= 1"):
        domain.trajectory(initial[..., 1:], theta, num_steps=1)
    with pytest.raises(ValueError, match="state has shape"):
        domain.trajectory(initial[:0], theta[:0], num_steps=1)
    names = ", ".join(parameter.name for parameter in domain.parameters)
    with pytest.raises(ValueError, match=rf"theta has shape .*\({names}\)"):
        domain.trajectory(initial, theta[:, 1:], num_steps=1)
    with pytest.raises(ValueError, match=r"theta has shape .* 2 samples"):
        domain.trajectory(initial, theta[:1], num_steps=1)
    with pytest.raises(ValueError, match="num_steps >= 0, got -1"):
        domain.trajectory(initial, theta, num_steps=-1)


@pytest.mark.parametrize("value", [-1e-9, 1.0 + 1e-9, math.nan])
def test_theta_outside_the_cube_is_named_by_sample(domain, value):
    initial, theta = start(domain, 2)
    theta[1, -1] = value
    with pytest.raises(ValueError, match=f"sample 1: {domain.parameters[-1].name} is"):
        domain.trajectory(initial, theta, num_steps=1)


def test_a_state_that_is_not_finite_is_named(domain):
    initial, theta = start(domain, 3)
    initial[1, -1].flatten()[3] = math.inf
    name = domain.channel_names[-1]
    with pytest.raises(ValueError, match=f"{domain.name}: sample 1, frame 0, channel '{name}'"):
        domain.trajectory(initial, theta, num_steps=1)


# ---- parameters ----


def test_physical_values_by_hand():
    parameters = (
        Parameter(name="a", low=2.0, high=6.0),
        Parameter(name="b", low=0.01, high=100.0, scale="log"),
    )
    theta = torch.tensor([[0.0, 0.0], [0.25, 0.25], [1.0, 1.0]], dtype=torch.float64)
    # 2 + 4/4 = 3; 0.01 * 10^(4/4) = 0.1
    expected = torch.tensor([[2.0, 0.01], [3.0, 0.1], [6.0, 100.0]], dtype=torch.float64)
    assert_close(physical_parameters(theta, parameters), expected, rtol=1e-14, atol=0)


@given(unit=st.floats(0, 1), low=st.floats(1e-3, 10), width=st.floats(1e-3, 10))
def test_physical_values_stay_in_range(unit, low, width):
    for scale in ("linear", "log"):
        parameter = Parameter(name="p", low=low, high=low + width, scale=scale)
        value = float(parameter.physical(torch.tensor(unit, dtype=torch.float64)))
        assert low * (1 - 1e-14) <= value <= (low + width) * (1 + 1e-14)


def test_physical_values_have_a_gradient():
    parameters = (Parameter(name="a", low=1.0, high=3.0, scale="log"),)
    theta = torch.tensor([[0.3], [0.9]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: physical_parameters(t, parameters), (theta,))


@pytest.mark.parametrize(
    "options", [{"low": 1.0, "high": 1.0}, {"low": 0.0, "high": 1.0, "scale": "log"}]
)
def test_an_empty_or_impossible_range_is_refused(options):
    with pytest.raises(ValueError, match=r"^p: "):
        Parameter(name="p", **options)


def test_ranges_are_those_of_the_documentation():
    ranges = {
        (cls.name, p.name): (p.low, p.high, p.scale)
        for cls in (
            Advection1D(16),
            AllenCahn1D(16),
            Burgers1D(16),
            DiffusionReaction2D((8, 8)),
            GrayScott(),
            Heat(),
            NavierStokes2D(),
            RandomConvOperator(),
            WaveEquation2D(),
        )
        for p in cls.parameters
    }
    assert ranges == {
        ("advection", "speed"): (0.1, 1.0, "linear"),
        ("allen_cahn", "diffusivity"): (1e-4, 1e-2, "log"),
        ("burgers", "viscosity"): (0.01, 0.1, "log"),
        ("diffusion_reaction", "Du"): (5e-4, 2e-3, "log"),
        ("diffusion_reaction", "Dv"): (2.5e-3, 1e-2, "log"),
        ("diffusion_reaction", "k"): (0.0, 0.01, "linear"),
        ("gray_scott", "feed"): (0.02, 0.06, "linear"),
        ("gray_scott", "kill"): (0.05, 0.065, "linear"),
        ("heat", "viscosity"): (1e-3, 1e-2, "linear"),
        ("navier_stokes", "reynolds"): (10.0, 1000.0, "log"),
        ("random_conv", "mix"): (0.0, 1.0, "linear"),
        ("random_conv", "gain"): (0.7, 2.0, "log"),
        ("random_conv", "rate"): (0.02, 0.08, "log"),
        ("random_conv", "blur"): (0.0, 0.005, "linear"),
        ("wave", "damping"): (0.0, 2.0, "linear"),
        ("wave", "speed"): (0.5, 1.5, "linear"),
    }


# ---- Sobol points ----


def test_sobol_points_are_pinned():
    expected = [[0.9975133538246155, 0.10436639189720154], [0.11113402433693409, 0.7879766123369]]
    assert_close(sobol_parameters(2, num_parameters=2), torch.tensor(expected).double())


def test_sobol_pieces_make_the_whole_and_are_disjoint():
    whole = sobol_parameters(24, num_parameters=4)
    pieces = [sobol_parameters(n, num_parameters=4, skip=s) for n, s in ((16, 0), (5, 16), (3, 21))]
    assert torch.equal(torch.cat(pieces), whole)
    assert len({tuple(row) for row in whole.tolist()}) == 24
    assert not torch.equal(sobol_parameters(24, num_parameters=4, seed=1), whole)


def test_sobol_points_are_balanced():
    """256 points of a (t, m, s)-net in base 2: each sixteenth of each axis holds 16."""
    points = sobol_parameters(256, num_parameters=4)
    assert points.min() >= 0
    assert points.max() < 1
    for column in points.unbind(1):
        assert (column * 16).floor().long().bincount().tolist() == [16] * 16


def test_sobol_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    sobol_parameters(4, num_parameters=3, skip=2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("change", [{"n": 0}, {"num_parameters": 0}, {"skip": -1}])
def test_sobol_refuses_nonsense(change):
    options = {"n": 1, "num_parameters": 1, "skip": 0} | change
    with pytest.raises(ValueError, match="need n >= 1"):
        sobol_parameters(options.pop("n"), **options)


# ---- names ----


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("gray_scott", GrayScott),
        ("rd", GrayScott),
        ("reaction_diffusion", GrayScott),
        ("heat", Heat),
        ("random_conv", RandomConvOperator),
        ("diffusion_reaction", DiffusionReaction2D),
        ("fluids", NavierStokes2D),
        ("navier_stokes", NavierStokes2D),
        ("wave", WaveEquation2D),
        ("waves", WaveEquation2D),
    ],
)
def test_names(name, cls):
    made = make_domain(name, shape=[20, 24])
    assert type(made) is cls
    assert made.shape == (20, 24)


@pytest.mark.parametrize(
    ("name", "cls"),
    [("advection", Advection1D), ("allen_cahn", AllenCahn1D), ("burgers", Burgers1D)],
)
def test_names_of_lines_take_one_axis(name, cls):
    assert make_domain(name, shape=[24], length=2.0) == cls(24, length=2.0)
    with pytest.raises(ValueError, match=rf"{name}: shape needs one axis, got \(8, 8\)"):
        make_domain(name, shape=(8, 8))
    with pytest.raises(ValueError, match=f"unknown option 'points' of {name}"):
        make_domain(name, shape=(24,), points=24)


def test_options_reach_the_class():
    made = make_domain("random_conv", shape=(17, 17), weight_seed=4, noise_scale=0.5)
    assert made == RandomConvOperator(shape=(17, 17), weight_seed=4, noise_scale=0.5)
    assert dataclasses.replace(made, weight_seed=5) != made


def test_unknown_names_and_options_say_the_nearest():
    with pytest.raises(ValueError, match=r"'gray_scot'; did you mean 'gray_scott'\?"):
        make_domain("gray_scot", shape=(8, 8))
    with pytest.raises(
        ValueError, match="known: advection, allen_cahn, burgers, diffusion_reaction, fluids"
    ):
        make_domain("qqq", shape=(8, 8))
    with pytest.raises(ValueError, match="'weight_sed' of random_conv; did you mean 'weight_seed'"):
        make_domain("random_conv", shape=(32, 32), weight_sed=1)


def test_a_grid_too_small_is_refused_with_the_smallest():
    with pytest.raises(ValueError, match=r"at least 17 cells.*\(16, 32\).*smallest.*\(17, 17\)"):
        make_domain("random_conv", shape=(16, 32))
    for name in ("gray_scott", "heat"):
        with pytest.raises(ValueError, match="at least 1 cells"):
            make_domain(name, shape=(0, 8))
    with pytest.raises(ValueError, match="two axes"):
        make_domain("random_conv", shape=(32,))
