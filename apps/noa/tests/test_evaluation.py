"""What is shown, and what a stored evaluation gives back."""

import pytest
import torch
from noa.evaluation import _diversity, choose_shown, probe_set
from nops_physics import GrayScott


def test_shown_are_a_typical_lively_trajectory_and_the_worst():
    wave = torch.sin(torch.arange(8.0)).repeat(8, 1)
    target = torch.zeros(5, 2, 1, 8, 8)
    target[2:, -1, 0] = wave  # the first two end uniform
    error = torch.tensor([0.0, 9.0, 1.0, 3.0, 2.0])
    pred = target + error.view(-1, 1, 1, 1, 1)
    typical, worst = choose_shown(pred, target).values()
    assert typical == 4
    assert worst == 1


def test_a_probe_shares_initial_fields_and_parameters():
    domain = GrayScott(shape=(16, 16))
    frames, theta = probe_set(domain, sizes=(3, 6), num_steps=1, seed=0, skip=10)
    assert frames.shape == (3, 6, 2, 2, 16, 16)
    assert torch.equal(frames[:, 0, 0], frames[:, 5, 0])
    assert not torch.equal(frames[0, 0, 0], frames[1, 0, 0])
    assert len(theta.unique(dim=0)) == 6
    alone = domain.trajectory(frames[2, 4, :1], theta[4:5].double(), num_steps=1)
    torch.testing.assert_close(alone[0], frames[2, 4])


class Linear(torch.nn.Module):
    """Each step adds θ to the field; a model of `strength` 1 is the truth."""

    def __init__(self, strength):
        super().__init__()
        self.strength = torch.nn.Parameter(torch.tensor(strength))

    def rollout(self, initial, parameters, *, num_steps):
        steps = torch.arange(1.0, num_steps + 1).view(-1, 1, 1, 1)
        return initial[:, None] + self.strength * steps * parameters[:, :, None, None, None]


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_diversity_pairs_each_initial_field_with_each_parameter_set(strength):
    initials, theta = torch.randn(3, 1, 4, 4), torch.rand(4, 1)
    all_pairs = initials.repeat_interleave(4, 0), theta.repeat(3, 1)
    truth = Linear(1.0).rollout(*all_pairs, num_steps=2).detach()
    frames = torch.cat([all_pairs[0][:, None], truth], dim=1).unflatten(0, (3, 4))
    found = _diversity(Linear(strength), (frames, theta), batch_size=5)
    torch.testing.assert_close(found, torch.full_like(found, strength**2))
