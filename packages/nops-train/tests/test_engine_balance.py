"""What a weighting that balances gradients is given where several ranks make the step."""

from types import SimpleNamespace

import torch
from nops_train._engine_balance import balance


def test_it_gets_this_ranks_part_of_the_mean_over_all_samples():
    given = {}
    owner = SimpleNamespace(balance=lambda losses, params, **rest: given.update(losses, **rest))
    world = SimpleNamespace(active=True, sum=lambda own: own + 3)  # the other rank has 3 samples
    losses, chunk = {"a": torch.tensor(10.0)}, torch.zeros(2, 4)
    balance(owner, losses, [], chunk=chunk, world=world, epoch=1, step=7)
    assert given == {"a": 4.0, "epoch": 1, "step": 7, "reduce": world.sum}  # 2/5 of 10
