import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import initial_condition_loss, trajectory_loss
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)


def trajectories(*values):
    """One sample, one cell; entries are (time, channel)."""
    return torch.tensor([values]).unsqueeze(-1).unsqueeze(-1)


def test_trajectory_loss_by_hand():
    pred = trajectories([1.0, 2.0], [3.0, 4.0])
    target = trajectories([1.0, 0.0], [0.0, 4.0])
    # squared errors 0, 4, 9, 0; mean 13/4
    assert trajectory_loss(pred, target).item() == 3.25


def test_scale_divides_each_channel_by_its_own_length():
    pred = trajectories([1.0, 2.0], [3.0, 4.0])
    target = trajectories([1.0, 0.0], [0.0, 4.0])
    # errors 0, 2/4, 3/2, 0; squares 0.25 and 2.25; mean 2.5/4
    assert trajectory_loss(pred, target, scale=torch.tensor([2.0, 4.0])).item() == 0.625


def test_initial_condition_loss_by_hand():
    pred = trajectories([1.0], [5.0], [9.0])
    target = trajectories([0.0], [2.0], [0.0])
    assert initial_condition_loss(pred, target).item() == 1.0
    assert initial_condition_loss(pred, target, num_states=2).item() == 5.0  # (1 + 9) / 2
    assert initial_condition_loss(pred, target, num_states=3) == trajectory_loss(pred, target)


@given(seed=seeds, factor=st.floats(1e-3, 1e3))
def test_scale_makes_the_loss_free_of_units(fields, seed, factor):
    pred, target = fields(seed, 2, 3, 2, 4, 4), fields(seed + 1, 2, 3, 2, 4, 4)
    scale = fields(seed + 2, 2).abs() + 0.1
    got = trajectory_loss(factor * pred, factor * target, scale=factor * scale)
    assert_close(got, trajectory_loss(pred, target, scale=scale))


@given(seed=seeds)
def test_loss_is_the_mean_over_its_windows(fields, seed):
    pred, target = fields(seed, 2, 6, 1, 4), fields(seed + 1, 2, 6, 1, 4)
    parts = [trajectory_loss(pred[:, i : i + 2], target[:, i : i + 2]) for i in (0, 2, 4)]
    assert_close(torch.stack(parts).mean(), trajectory_loss(pred, target))


@pytest.mark.parametrize("loss", [trajectory_loss, initial_condition_loss])
def test_gradients(loss, fields):
    pred, target = fields(0, 2, 3, 2, 4, 3).requires_grad_(), fields(1, 2, 3, 2, 4, 3)
    assert torch.autograd.gradcheck(lambda p: loss(p, target), pred)
    loss(pred, target.requires_grad_()).backward()
    assert target.grad is None


@pytest.mark.parametrize("loss", [trajectory_loss, initial_condition_loss])
def test_equal_trajectories_cost_nothing(loss, fields):
    field = fields(0, 1, 1, 1, 5)
    assert loss(field, field).item() == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", [trajectory_loss, initial_condition_loss])
def test_half_inputs_are_computed_in_float32(loss, dtype, fields):
    pred, target = ((300 * fields(i, 2, 3, 1, 8, 8)).to(dtype) for i in range(2))
    got = loss(pred, target)  # squares of 300 would overflow float16
    assert got.dtype == torch.float32
    assert_close(got, loss(pred.float(), target.float()), rtol=0, atol=0)


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    @pytest.mark.parametrize("loss", [trajectory_loss, initial_condition_loss])
    def test_unequal_shapes(self, loss):
        with pytest.raises(ValueError, match=r"\(2, 3, 1, 4\) and \(2, 3, 4\)"):
            loss(torch.zeros(2, 3, 1, 4), torch.zeros(2, 3, 4))

    @pytest.mark.parametrize("shape", [(2, 3), (0, 3, 1, 4), (2, 0, 1, 4)])
    def test_what_is_no_trajectory(self, shape):
        with pytest.raises(ValueError, match="sample, time, channel"):
            trajectory_loss(torch.zeros(shape), torch.zeros(shape))

    def test_a_scale_of_another_length(self):
        field = torch.zeros(1, 2, 3, 4)
        with pytest.raises(ValueError, match="each of the 3 channels"):
            trajectory_loss(field, field, scale=torch.ones(2))

    @pytest.mark.parametrize("num_states", [0, -1, 3])
    def test_states_that_are_not_there(self, num_states):
        field = torch.zeros(1, 2, 3, 4)
        with pytest.raises(ValueError, match=f"num_states={num_states}.*1 and the 2"):
            initial_condition_loss(field, field, num_states=num_states)

    def test_integers(self):
        field = torch.zeros(1, 2, 3, 4, dtype=torch.int64)
        with pytest.raises(TypeError, match="int64"):
            trajectory_loss(field, field)
