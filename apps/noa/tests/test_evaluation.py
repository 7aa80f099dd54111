"""What is shown, and what a stored evaluation gives back."""

import torch
from noa.evaluation import choose_shown, probe_set
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
