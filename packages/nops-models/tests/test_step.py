"""What the models of one step have in common, so that one stands in for another."""

import copy
import dataclasses
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nops_models import FNO, UAFNO, FNOConfig, StepModel, UAFNOConfig, UNet, UNetConfig
from nops_testing.contract import through_file
from torch.testing import assert_close

PYRAMID = {"base_channels": 4, "encoder_levels": 1, "blocks_per_level": 1, "embedding": 8}
KINDS = {
    "uafno": lambda **o: UAFNO(
        UAFNOConfig(**{**PYRAMID, "afno_blocks": 1, "afno_groups": 2, "modes": 2, **o})
    ),
    "unet": lambda **o: UNet(UNetConfig(**{**PYRAMID, "bottleneck_blocks": 1, **o})),
    "fno": lambda **o: FNO(
        FNOConfig(**{"base_channels": 4, "num_layers": 2, "modes": 3, "embedding": 8, **o})
    ),
}
COMMON = (
    *("in_channels", "out_channels", "previous_frames", "num_parameters", "padding"),
    *("residual_scale", "embedding"),
)

pytestmark = pytest.mark.parametrize("make", KINDS.values(), ids=list(KINDS))


def test_one_set_of_options_makes_any(make):
    options = dict(
        zip(COMMON, (2, 3, 6, 4, "zeros", None, 5), strict=True)  # none of them the default
    )
    model = make(**options)
    assert isinstance(model, StepModel)
    assert {name: getattr(model.config, name) for name in COMMON} == options
    assert (model.config.num_inputs, model.config.num_outputs) == (12, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.config.padding = "circular"


@settings(max_examples=8)
@given(
    height=st.integers(4, 19),
    width=st.integers(4, 19),
    padding=st.sampled_from(["circular", "zeros"]),
)
def test_any_size_from_the_smallest_on(make, shaken, height, width, padding):
    model = shaken(make(padding=padding, in_channels=2), size=0.1)
    assert model.config.smallest_grid <= 4
    after = model(torch.randn(2, 2, height, width))
    assert after.shape == (2, 2, height, width)
    assert after.isfinite().all()


class TestStart:
    @pytest.mark.parametrize("num_parameters", [0, 3])
    def test_predicts_persistence(self, make, num_parameters):
        model = make(num_parameters=num_parameters)
        state = torch.randn(2, 1, 12, 9)
        theta = torch.rand(2, 3) if num_parameters else None
        assert torch.equal(model(state, theta), state)

    def test_without_residual_predicts_zero(self, make):
        model = make(residual_scale=None, out_channels=3)
        assert torch.equal(model(torch.randn(2, 1, 8, 8)), torch.zeros(2, 3, 8, 8))

    def test_parameters_matter_once_training_has_started(self, make):
        torch.manual_seed(0)
        model = make(num_parameters=2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        state, theta, target = torch.randn(4, 1, 8, 8), torch.rand(4, 2), torch.randn(4, 1, 8, 8)
        for _ in range(3):
            optimizer.zero_grad()
            (model(state, theta) - target).square().mean().backward()
            optimizer.step()
        assert all(p.grad is not None for p in model.parameters())
        difference = model(state, theta) - model(state, theta.flip(0))
        assert difference.abs().max() > 1e-5


@pytest.mark.parametrize("scale", [0.25, (0.5, 2.0)])
def test_the_scale_is_of_the_change(make, shaken, scale):
    change = shaken(make(in_channels=2, residual_scale=None))
    model = shaken(make(in_channels=2, residual_scale=scale))
    state = torch.randn(1, 2, 8, 8)
    factor = torch.tensor(scale).view(-1, 1, 1)
    assert_close(model(state), state + factor * change(state))


class TestRollout:
    @pytest.mark.parametrize("every", [0, 1, 2, 9])
    def test_feeds_each_output_back(self, make, shaken, every):
        model = shaken(make(num_parameters=2), size=0.1)
        state, theta = torch.randn(3, 1, 8, 8), torch.rand(3, 2)
        path = model.rollout(state, theta, num_steps=3, checkpoint_every=every)
        assert path.shape == (3, 3, 1, 8, 8)
        for step in range(3):
            state = model(state, theta)
            assert_close(path[:, step], state)

    @pytest.mark.parametrize("every", [1, 2, 3])
    def test_gradients_are_the_same_however_few_states_are_stored(self, make, shaken, every):
        model = shaken(make(num_parameters=2), size=0.2)
        state, theta = torch.randn(2, 1, 8, 8), torch.rand(2, 2)
        expected = gradients(model, state, theta, checkpoint_every=0)
        assert all(grad.abs().sum() > 0 for grad in expected[:2])
        for found, plain in zip(
            gradients(model, state, theta, checkpoint_every=every), expected, strict=True
        ):
            assert torch.equal(found, plain)

    def test_storing_fewer_states_stores_less(self, make, shaken):
        model, state = shaken(make(), size=0.1), torch.randn(1, 1, 16, 16)
        stored = [stored_numbers(model, state, checkpoint_every=every) for every in (0, 1)]
        assert stored[1] < stored[0] / 3

    @pytest.mark.usefixtures("unchecked")
    def test_refuses_what_cannot_be(self, make):
        state = torch.zeros(1, 1, 8, 8)
        with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
            make().rollout(state, num_steps=0)
        with pytest.raises(ValueError, match="checkpoint_every must not be negative, got -1"):
            make().rollout(state, num_steps=1, checkpoint_every=-1)
        with pytest.raises(ValueError, match="1 input and 2 output"):
            make(out_channels=2, residual_scale=None).rollout(state, num_steps=2)


class TestPreviousFrames:
    def test_starts_from_the_last_one(self, make):
        model = make(in_channels=2, previous_frames=3)
        frames = torch.randn(2, 4, 2, 8, 8)
        assert torch.equal(model(model.state_of(frames)), frames[:, -1])
        path = model.rollout(model.state_of(frames), num_steps=2)
        assert torch.equal(path, frames[:, -1:].expand(-1, 2, -1, -1, -1))

    def test_each_of_them_matters_in_its_place(self, make, shaken):
        model = shaken(make(previous_frames=3, residual_scale=None), size=0.2)
        frames = torch.randn(1, 3, 1, 8, 8)
        after = model(model.state_of(frames))
        for order in ([1, 0, 2], [0, 2, 1], [2, 1, 0]):
            assert not torch.allclose(model(model.state_of(frames[:, order])), after, atol=1e-4)

    @pytest.mark.parametrize("every", [0, 1, 2, 3])
    def test_a_rollout_moves_on_by_a_frame(self, make, shaken, every):
        model = shaken(make(in_channels=2, previous_frames=2, num_parameters=2), size=0.1)
        frames, theta = torch.randn(3, 2, 2, 8, 8), torch.rand(3, 2)
        start = model.state_of(frames)
        path = model.rollout(start, theta, num_steps=4, checkpoint_every=every)
        for step in range(4):
            new = model(torch.cat([frames[:, -2], frames[:, -1]], dim=1), theta)
            assert_close(path[:, step], new)
            frames = torch.cat([frames, new[:, None]], dim=1)

    def test_one_frame_is_the_state_itself(self, make):
        frames = torch.randn(2, 3, 2, 8, 8)
        assert torch.equal(make(in_channels=2).state_of(frames), frames[:, 2])

    @pytest.mark.usefixtures("unchecked")
    def test_too_few_are_refused(self, make):
        model = make(in_channels=2, previous_frames=2)
        with pytest.raises(ValueError, match=r"at least 2 in time, got \(1, 1, 2, 8, 8\)"):
            model.state_of(torch.zeros(1, 1, 2, 8, 8))
        with pytest.raises(ValueError, match=r"\(sample, 4, height, width\), got \(1, 2, 8, 8\)"):
            model(torch.zeros(1, 2, 8, 8))
        with pytest.raises(ValueError, match="previous_frames must be at least 1, got 0"):
            make(previous_frames=0)


def gradients(model, state, theta, *, checkpoint_every):
    """Of a mean over a path of five steps: by the start, by the parameters, by the weights."""
    state, theta = state.clone().requires_grad_(), theta.clone().requires_grad_()
    path = model.rollout(state, theta, num_steps=5, checkpoint_every=checkpoint_every)
    loss = (path - 1).square().mean()
    return torch.autograd.grad(loss, (state, theta, *model.parameters()), materialize_grads=True)


def stored_numbers(model, state, *, checkpoint_every):
    """Numbers that autograd keeps of a path of six steps."""
    seen = {}

    def note(tensor):
        seen[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        path = model.rollout(state, num_steps=6, checkpoint_every=checkpoint_every)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    assert path.requires_grad
    return sum(tensor.numel() for key, tensor in seen.items() if key not in weights)


class TestPrecision:
    def test_half_states_with_float32_weights(self, make, shaken):
        model = shaken(make(num_parameters=2), size=0.1)
        state, theta = torch.randn(1, 1, 20, 13).bfloat16(), torch.rand(1, 2).bfloat16()
        after = model(state, theta)
        assert after.dtype == torch.bfloat16
        assert_close(after, model(state.float(), theta.float()).bfloat16(), rtol=1e-2, atol=1e-2)

    def test_bfloat16_weights_keep_an_accurate_state(self, make, shaken):
        model = shaken(make(num_parameters=2), size=0.1)
        state, theta = torch.randn(1, 1, 20, 13), torch.rand(1, 2)
        expected = model(state, theta)
        after = model.bfloat16()(state, theta)
        assert after.dtype == torch.float32
        assert_close(after, expected, rtol=0, atol=0.02)  # 0.1 times a change of order 1

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_autocast_keeps_the_state_in_float32(self, make, shaken, dtype):
        model = shaken(make(num_parameters=2), size=0.1)
        state, theta = torch.randn(1, 1, 20, 13), torch.rand(1, 2)
        expected = model(state, theta)
        with torch.autocast("cpu", dtype=dtype):
            after = model.rollout(state, theta, num_steps=1, checkpoint_every=1)[:, 0]
        assert after.dtype == torch.float32
        after.sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        assert_close(after, expected, rtol=0, atol=0.05)


class TestModule:
    @pytest.mark.parametrize("padding", ["circular", "zeros"])
    def test_gradients_match_differences(self, make, normal, shaken, padding):
        model = shaken(make(base_channels=2, num_parameters=1, padding=padding).double())
        state, theta = normal(0, 1, 1, 4, 5).requires_grad_(), normal(1, 1, 1).requires_grad_()
        assert torch.autograd.gradcheck(model, (state, theta))

    def test_weights_travel(self, make, shaken):
        model, other = shaken(make(num_parameters=2), size=0.1), make(num_parameters=2)
        state, theta = torch.randn(1, 1, 8, 8), torch.rand(1, 2)
        expected = model(state, theta)
        other.load_state_dict(through_file(model.state_dict()))
        for same in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(same(state, theta), expected)

    def test_weights_are_real_and_stored_contiguously(self, make):
        model = make(num_parameters=2)
        model(torch.randn(1, 1, 8, 8), torch.rand(1, 2)).sum().backward()
        for value in model.state_dict().values():
            assert value.is_contiguous()
            assert value.is_floating_point()

    @pytest.mark.filterwarnings("ignore")  # the tracer warns of the interpreter and of itself
    @pytest.mark.usefixtures("unchecked")
    def test_compiles_in_one_graph(self, make, shaken):
        torch._dynamo.reset()
        model = shaken(make(num_parameters=2), size=0.1)
        state, theta = torch.randn(2, 1, 8, 6), torch.rand(2, 2)
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=False)
        assert_close(compiled(state, theta), model(state, theta))
        found, expected = (
            torch.autograd.grad(step(state, theta).square().sum(), model.output.weight)
            for step in (compiled, model)
        )
        assert_close(found, expected)
        torch._dynamo.reset()


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    @pytest.mark.parametrize("shape", [(1, 2, 8, 8), (1, 8, 8), (1, 1, 1, 8, 8)])
    def test_states_of_another_shape(self, make, shape):
        with pytest.raises(ValueError, match=r"\(sample, 1, height, width\)"):
            make()(torch.zeros(shape))

    def test_grids_too_small(self, make):
        with pytest.raises(ValueError, match="got 0x8"):
            make()(torch.zeros(1, 1, 0, 8))

    @pytest.mark.parametrize(
        ("num_parameters", "theta", "message"),
        [
            (2, None, r"shape \(2, 2\) here, got None"),
            (2, (2, 3), r"\(2, 2\) here, got \(2, 3\)"),
            (2, (1, 2), r"\(2, 2\) here, got \(1, 2\)"),
            (0, (2, 1), r"num_parameters=0 .* None here, got \(2, 1\)"),
        ],
    )
    def test_parameters_that_do_not_fit(self, make, num_parameters, theta, message):
        model = make(num_parameters=num_parameters)
        with pytest.raises(ValueError, match=message):
            model(torch.zeros(2, 1, 8, 8), None if theta is None else torch.zeros(theta))
