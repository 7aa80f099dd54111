"""Stacks of convolutions as random operators, and their replay."""

import hashlib
import subprocess
import sys

import pytest
import torch
from nops_physics import (
    CNOReplayer,
    RandomConvOperator,
    StackSpec,
    derive_seed,
    sobol_parameters,
)
from torch import nn
from torch.testing import assert_close

SMALL = StackSpec(base_channels=(2, 4))
NAMES = (
    *("num_layers", "base_channels", "kernel", "activation", "dropout", "noise_type"),
    *("noise_scale", "noise_schedule", "spatial_correlation", "normalisation", "grid", "policy"),
)
CHECKSUM = """
import hashlib, torch
from nops_physics import RandomConvOperator, StackSpec, sobol_parameters
torch.manual_seed(99)
torch.set_num_threads(2)
operator = RandomConvOperator(shape=(17, 18), spec=StackSpec(base_channels=(2, 4)), noise_scale=1.0)
theta = sobol_parameters(3, num_parameters=12)
frames = operator.trajectory(
    operator.initial(3, seed=5), theta, num_steps=3, noise_seeds=[1, 2, 3]
)
print(hashlib.sha256(frames.numpy().tobytes()).hexdigest())
"""


def small(**options):
    return RandomConvOperator(shape=(17, 18), spec=SMALL, **options)


def theta_of(**values):
    return torch.tensor([[values.get(name, 0.5) for name in NAMES]], dtype=torch.float64)


def peer(network, channels):
    """The output O(x) made of torch's layers."""
    layers, deep = [], len(network.kernels) > 3
    for kernel, skip in zip(network.kernels, network.skips, strict=True):
        outputs, inputs, width, _ = kernel.shape
        convolution = nn.Conv2d(
            inputs, outputs, width, padding=width // 2, padding_mode="circular", bias=False
        ).double()
        convolution.weight.data = kernel
        layers.append((nn.Sequential(convolution, nn.InstanceNorm2d(outputs), nn.GELU()), skip))

    def compute(x):
        for block, skip in layers:
            past = x if skip is None else torch.einsum("oi,bihw->bohw", skip[..., 0, 0], x)
            x = block(x) + past if deep else block(x)
        return torch.einsum("oi,bihw->bohw", network.readout[..., 0, 0], x)

    return compute


# ---- theta ----


def test_theta_has_twelve_entries_in_their_order():
    operator = RandomConvOperator(spec=StackSpec())
    assert operator.parameter_names == NAMES
    assert operator.num_parameters == 12
    ranges = {p.name: (p.low, p.high, p.scale) for p in operator.parameters}
    assert ranges["num_layers"] == (2, 5, "linear")
    assert ranges["base_channels"] == (16, 64, "linear")
    assert ranges["noise_scale"] == (1e-5, 1.0, "log")
    assert ranges["dropout"] == ranges["spatial_correlation"] == (0.0, 0.3, "linear")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # 2 + 0.5 * 3 = 3.5, to the even 4; 16 + 0.5 * 48 = 40; floor(0.5 * 3) = 1: width 5
        ({}, (4, 40, 5, 10**-2.5, "residual")),
        (dict.fromkeys(NAMES, 0.0), (2, 16, 3, 1e-5, "residual")),
        (dict.fromkeys(NAMES, 1.0), (5, 64, 7, 1.0, "convex")),
        ({"kernel": 0.33, "num_layers": 0.16}, (2, 40, 3, 10**-2.5, "residual")),
        ({"kernel": 0.67, "num_layers": 0.17}, (3, 40, 7, 10**-2.5, "residual")),
        ({"policy": 0.75, "noise_scale": 0.2}, (4, 40, 5, 1e-4, "convex")),
    ],
)
def test_what_a_theta_picks(values, expected):
    found = StackSpec().settings(theta_of(**values)[0].tolist())
    assert found[:3] == expected[:3]
    assert found.noise_scale == pytest.approx(expected[3])
    assert found.policy == expected[4]


def test_shares_of_the_policies():
    spec = StackSpec(policies=(("autoregressive", 0.5), ("convex", 0.5)))
    found = [spec.settings(theta_of(policy=u)[0].tolist()).policy for u in (0.0, 0.49, 0.5, 1.0)]
    assert found == ["autoregressive", "autoregressive", "convex", "convex"]


# ---- the map ----


@pytest.mark.parametrize("layers", [2, 3, 4, 5])
@pytest.mark.parametrize("policy", ["autoregressive", "residual", "convex"])
def test_a_step_equals_torch_s_layers(layers, policy):
    spec = StackSpec(base_channels=(2, 4), policies=((policy, 1.0),))
    operator = RandomConvOperator(shape=(17, 18), spec=spec, channels=2)
    theta, state = theta_of(num_layers=(layers - 2) / 3), operator.initial(1, seed=3)
    network = operator.network(theta[0], derive_seed("weights", 0, 0))
    assert len(network.kernels) == layers
    assert [len(kernel) for kernel in network.kernels] == [3, 6, 12, 12, 12][:layers]
    output = peer(network, 2)(state)
    expected = {
        "autoregressive": output,
        "residual": state + 0.01 * output,
        "convex": 0.5 * state + 0.5 * output,
    }[policy]
    assert_close(operator.step(state, theta), expected, rtol=0, atol=1e-12)


def test_weights_have_variance_one_over_fan_in_and_are_drawn_in_order():
    operator = RandomConvOperator(spec=StackSpec())
    network = operator.network(theta_of()[0], 7)
    generator = torch.Generator().manual_seed(7)
    first = torch.randn(40, 1, 5, 5, generator=generator, dtype=torch.float64) / 5
    assert torch.equal(network.kernels[0], first)
    assert network.kernels[2].var() == pytest.approx(1 / (80 * 25), rel=0.02)  # 320000 values
    assert network.readout.shape == (1, 160, 1, 1)


def test_gradients_reach_the_state():
    spec = StackSpec(base_channels=(1, 2), kernels=(3,))
    operator = RandomConvOperator(shape=(3, 4), spec=spec)
    state = torch.randn(1, 1, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    theta = theta_of(num_layers=0.0)
    assert torch.autograd.gradcheck(lambda s: operator.step(s, theta), (state.requires_grad_(),))


# ---- a pure function of theta, seeds and start ----


def test_two_replays_are_equal_also_in_a_fresh_process():
    operator, theta = small(noise_scale=1.0), sobol_parameters(3, num_parameters=12)
    start = operator.initial(3, seed=5)
    options = {"num_steps": 3, "noise_seeds": [1, 2, 3]}
    frames = operator.trajectory(start, theta, **options)
    assert torch.equal(CNOReplayer(operator).replay(start, theta, **options), frames)
    there = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHECKSUM], capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == hashlib.sha256(frames.numpy().tobytes()).hexdigest()


def test_weights_are_of_the_place_unless_seeds_are_given():
    operator, theta = small(weight_seed=3), theta_of().expand(3, -1)
    start = operator.initial(1, seed=0).expand(3, -1, -1, -1)
    frames = operator.trajectory(start, theta, num_steps=2)
    assert not torch.equal(frames[0, 1], frames[1, 1])  # theta is equal, the dynamics are not
    seeds = [derive_seed("weights", 3, sample) for sample in (2, 0)]
    found = operator.trajectory(start[:2], theta[:2], num_steps=2, weight_seeds=seeds)
    assert torch.equal(found, frames[[2, 0]])
    stepped = operator.step(start[:2], theta[:2], weight_seeds=seeds)
    assert torch.equal(stepped.float(), found[:, 1])


def test_noise_is_scaled_by_theta_and_off_by_default():
    quiet, noisy = small(), small(noise_scale=1.0)
    start = quiet.initial(1, seed=0)

    def moved(scale):
        theta = theta_of(noise_scale=scale)
        frames = noisy.trajectory(start, theta, num_steps=1, noise_seeds=[4])
        return (frames - quiet.trajectory(start, theta, num_steps=1))[0, 1].double()

    assert_close(moved(1.0), 10 * moved(0.8), rtol=1e-3, atol=1e-6)
    assert moved(1.0).abs().max() > 1e-3
    with pytest.raises(ValueError, match="one noise seed for each of 1 samples"):
        noisy.trajectory(start, theta_of(), num_steps=1)


# ---- the replayer ----


def test_the_replayer_keeps_the_networks_used_last():
    operator, theta = small(), sobol_parameters(3, num_parameters=12)
    start, seeds = operator.initial(1, seed=0), [1, 2, 3]
    replayer = CNOReplayer(operator, cache_size=2)
    drawn = []
    for sample in (0, 1, 0, 2, 0, 1):  # 2 pushes out 1, not 0, which was used after it
        row, seed = theta[sample : sample + 1], [seeds[sample]]
        found = replayer.replay(start, row, num_steps=1, weight_seeds=seed)
        assert torch.equal(found, operator.trajectory(start, row, num_steps=1, weight_seeds=seed))
        drawn.append(replayer.num_drawn)
    assert drawn == [1, 2, 2, 3, 3, 4]


def test_a_smooth_operator_is_replayed_in_batches():
    operator, theta = RandomConvOperator(shape=(17, 17)), sobol_parameters(3, num_parameters=4)
    start, replayer = operator.initial(3, seed=0), CNOReplayer(operator)
    frames = replayer.replay(start, theta, num_steps=2)
    assert torch.equal(frames, operator.trajectory(start, theta, num_steps=2))
    assert replayer.num_drawn == 0


@pytest.mark.parametrize("spec", [SMALL, None])
def test_what_is_not_finite_is_named_by_sample_and_frame(spec):
    operator = RandomConvOperator(shape=(17, 18), **({"spec": spec} if spec else {}))
    start = operator.initial(2, seed=0)
    start[1] *= 1e39  # beyond float32: frame 0 of the result
    theta = sobol_parameters(2, num_parameters=operator.num_parameters)
    with pytest.raises(ValueError, match=r"random_conv: sample 1, frame 0, channel 'u'"):
        CNOReplayer(operator).replay(start, theta, num_steps=1)


# ---- bad input ----


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="cache_size needs to be at least 1, got 0"):
        CNOReplayer(small(), cache_size=0)
    with pytest.raises(ValueError, match="kernels needs odd widths"):
        StackSpec(kernels=(4,))
    with pytest.raises(ValueError, match="shares that add up to 1"):
        StackSpec(policies=(("residual", 0.7),))
    with pytest.raises(ValueError, match="policies are autoregressive"):
        StackSpec(policies=(("other", 1.0),))
    with pytest.raises(ValueError, match="num_layers needs 1 <= least < largest"):
        StackSpec(num_layers=(3, 2))
    with pytest.raises(ValueError, match=r"smallest grid is \(7, 7\)"):
        RandomConvOperator(shape=(6, 32), spec=StackSpec())


def test_weight_seeds_fit_the_operator():
    theta = sobol_parameters(2, num_parameters=12)
    start = small().initial(2, seed=0)
    with pytest.raises(ValueError, match="2 samples, 1 seeds"):
        small().trajectory(start, theta, num_steps=1, weight_seeds=[1])
    smooth = RandomConvOperator(shape=(17, 18))
    with pytest.raises(ValueError, match="weight_seeds are for a stack"):
        smooth.trajectory(start, theta[:, :4], num_steps=1, weight_seeds=[1, 2])
    with pytest.raises(ValueError, match="one bank for all"):
        smooth.network(theta[0], 1)
