"""What a weighting that balances gradients is given: where several ranks make the step, in half precision."""

from types import SimpleNamespace

import pytest
import torch
from nops_train._engine_balance import balance
from nops_train._precision import Precision
from torch import nn

CPU = torch.device("cpu")


def test_it_gets_this_ranks_part_of_the_mean_over_all_samples():
    given = {}
    owner = SimpleNamespace(balance=lambda losses, params, **rest: given.update(losses, **rest))
    world = SimpleNamespace(active=True, sum=lambda own: own + 3)  # the other rank has 3 samples
    losses, chunk = {"a": torch.tensor(10.0)}, torch.zeros(2, 4)
    precision = Precision("fp32", device=CPU)
    balance(owner, losses, [], chunk=chunk, precision=precision, world=world, epoch=1, step=7)
    assert given == {"a": 4.0, "epoch": 1, "step": 7, "reduce": world.sum}  # 2/5 of 10


@pytest.mark.parametrize("residuals", [False, True])
def test_small_gradients_survive_half_precision(residuals):
    precision, net, found = Precision("fp16", device=CPU), nn.Linear(4, 1, bias=False), {}
    net.extra = nn.Parameter(torch.ones(()), requires_grad=False)
    params = list(net.parameters())
    with precision.autocast():
        out = net(torch.ones(3, 4))
    loss = 1e-9 * out.float().sum()  # fp16 ends at 6e-8

    def measure(losses, params, **rest):
        found["value"] = losses["a"].item()
        (found["gradient"],) = torch.autograd.grad(losses["a"], net.weight, retain_graph=True)

    owner = SimpleNamespace(balance=measure)
    if residuals:
        owner.note_residuals = None
    place = {"precision": precision, "world": SimpleNamespace(active=False), "epoch": 0, "step": 0}
    balance(owner, {"a": loss}, params, chunk=None, **place)
    assert found["value"] == loss.item()
    expected = torch.full((1, 4), 0.0 if residuals else 3e-9)
    torch.testing.assert_close(found["gradient"], expected, rtol=1e-3, atol=0)
    assert not torch.autograd.grad(loss, net.weight)[0].any()  # nothing of it stays
