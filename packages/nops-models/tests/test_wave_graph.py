import pytest
import torch
from nops_models import WaveGraphNet
from torch.testing import assert_close


def chain(nodes):
    """Edges of 0 – 1 – … both ways."""
    ahead = torch.stack([torch.arange(nodes - 1), torch.arange(1, nodes)])
    return torch.cat([ahead, ahead.flip(0)], dim=1)


def small(shaken, **options):
    sizes = {"hidden": 6, "layers": 3, "scales": (0.5, 2.0, 4.0), "gains": (10.0, 5.0, 1.0)}
    return shaken(WaveGraphNet(**{**sizes, **options}).double()).eval()


CONVOLUTIONS = pytest.mark.parametrize("conv", ["difference", "mean", "gcn"])


@CONVOLUTIONS
def test_the_chain_is_what_it_takes_without_edges(conv, shaken, normal):
    model, state = small(shaken, conv=conv), normal(0, 2, 7, 3)
    assert_close(model(state), model(state, chain(7)), rtol=1e-13, atol=1e-13)


@CONVOLUTIONS
def test_relabelled_nodes_with_relabelled_edges_step_alike(conv, shaken, normal):
    model, state = small(shaken, conv=conv), normal(1, 2, 7, 3)
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])  # node i is order[i] of the old ones
    new_name = order.argsort()
    after = model(state[:, order], new_name[chain(7)])
    assert_close(after, model(state, chain(7))[:, order], rtol=1e-13, atol=1e-13)
    assert not torch.allclose(after, model(state[:, order]))  # the edges do count


@CONVOLUTIONS
@pytest.mark.parametrize("residual", [True, False])
def test_ends_are_held_at_zero_and_no_other_node_is(conv, residual, shaken, normal):
    after = small(shaken, conv=conv, residual=residual)(normal(2, 2, 6, 3))
    assert (after[:, [0, -1]] == 0).all()
    assert (after[:, 1:-1] != 0).all()


def test_an_increment_of_zero_keeps_the_state(shaken, normal):
    model, state = small(shaken), normal(3, 2, 6, 3)
    model.readout.weight.data.zero_()
    model.readout.bias.data.zero_()
    assert_close(model(state)[:, 1:-1], state[:, 1:-1, :2])
    model.residual = False
    assert not model(state).any()


def test_equals_the_difference_worked_by_hand():
    # Three nodes, one layer of one neuron: relu of the gained difference of u alone; scales 2, 1.
    model = WaveGraphNet(
        in_features=2, out_features=1, hidden=1, layers=1, activation="relu",
        scales=(2.0, 1.0), gains=(10.0, 1.0),
    )  # fmt: skip
    model.layers[0].weight.data.copy_(torch.tensor([[0.0, 0.0, 1.0, 0.0]]))
    model.readout.weight.data.fill_(3.0)
    for layer in (model.layers[0], model.readout):
        layer.bias.data.zero_()
    state = torch.tensor([[[2.0, 9.0], [4.0, 9.0], [10.0, 9.0]]])
    # scaled u = 1, 2, 5; mean − self = 3 − 2 = 1; gained 10; increment 30; (2 + 30)·2 = 64
    assert_close(model(state), torch.tensor([[[0.0], [64.0], [0.0]]]))


def test_an_output_of_one_adds_the_increment():
    model = WaveGraphNet(
        in_features=2, out_features=1, hidden=1, layers=1, scales=(2.0, 1.0), gains=(10.0, 1.0),
        increments=(7.0,),
    )  # fmt: skip
    model.readout.weight.data.zero_()
    model.readout.bias.data.fill_(3.0)
    state = torch.tensor([[[2.0, 9.0], [4.0, 9.0], [10.0, 9.0]]])
    assert_close(model(state), torch.tensor([[[0.0], [4.0 + 3 * 7], [0.0]]]))
    model.residual = False
    assert_close(model(state), torch.tensor([[[0.0], [3.0 * 2], [0.0]]]))


def test_an_end_has_no_difference():
    # Differences alone, then means of neighbours: u = 0, 4, 4, 0 bends down at both inner nodes, relu is
    # 0 there. The ends' one-sided difference of 4 would reach their neighbours as 4/2.
    model = WaveGraphNet(
        in_features=1, out_features=1, hidden=1, layers=2, activation="relu", skip=False,
        residual=False, scales=(1.0,), gains=(1.0,),
    )  # fmt: skip
    for layer in (*model.layers, model.readout):
        layer.bias.data.zero_()
    for layer in model.layers:
        layer.weight.data.copy_(torch.tensor([[0.0, 1.0]]))
    model.readout.weight.data.fill_(1.0)
    bent = torch.tensor([[[0.0], [4.0], [4.0], [0.0]]])
    assert not model(bent).any()
    assert model(-bent)[0, 1, 0] == 1.0  # up by 2 at its inner neighbour: the mean of 0 and 2


def test_gcn_normalises_by_both_degrees():
    # One linear layer on the chain of three; (D+I)^−½ = 1/√2, 1/√3, 1/√2.
    model = WaveGraphNet(
        in_features=1, out_features=1, hidden=1, layers=1, conv="gcn", activation="relu",
        residual=False, scales=(1.0,), gains=(1.0,),
    )  # fmt: skip
    for layer in (model.layers[0], model.readout):
        layer.weight.data.fill_(1.0)
        layer.bias.data.zero_()
    # middle: 2/√6 + 3/3 + 4/√6
    after = model(torch.tensor([[[2.0], [3.0], [4.0]]]))
    assert_close(after[0, 1, 0].item(), 6 / 6**0.5 + 1)


def test_a_rollout_steps_its_own_states(shaken, normal):
    model, start, force = small(shaken), normal(4, 2, 6, 2), normal(5, 2, 3, 6, 1)
    path = model.rollout(start, force)
    now = start
    for time in range(3):
        now = model(torch.cat([now, force[:, time]], dim=-1))
        assert_close(path[:, time], now)


def test_a_limit_judges_every_step_and_leaves_the_free_one(shaken, normal):
    start, force = normal(4, 2, 6, 2), normal(5, 2, 3, 6, 1)
    limit = lambda state, after: after.clamp(-0.1, 0.1) + state[..., 2:]  # noqa: E731
    free, held = small(shaken), small(shaken, limit=limit)
    held.load_state_dict(free.state_dict())
    state = torch.cat([start, force[:, 0]], dim=-1)
    assert torch.equal(held.free_step(state), free(state))
    assert torch.equal(held(state), limit(state, free(state)))
    path = held.rollout(start, force)
    now = torch.cat([path[:, 1], force[:, 2]], dim=-1)
    assert torch.equal(path[:, 2], limit(now, free(now)))
    assert torch.equal(held.train()(state), free(state))  # the loss sees what the network makes


def test_features_are_skipped_and_dropped_only_where_told(shaken, normal):
    state = normal(6, 1, 6, 3)
    plain, skipping = small(shaken, skip=False), small(shaken)
    assert not torch.allclose(plain(state), skipping(state))
    dropping = small(shaken, dropout=0.5)
    assert torch.equal(dropping(state), skipping(state))
    torch.manual_seed(0)
    assert not torch.allclose(dropping.train()(state), skipping(state))


@pytest.mark.parametrize(
    "wrong",
    [
        {"conv": "cheb"},
        {"activation": "sine"},
        {"hidden": 0},
        {"dropout": 1.0},
        {"out_features": 4},
        {"scales": (1.0, 1.0)},
        {"gains": (1.0, 0.0, 1.0)},
        {"increments": (1.0,)},
    ],
)
def test_refuses_what_makes_no_network(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WaveGraphNet(**wrong)


def test_refuses_a_state_of_other_features():
    with pytest.raises(ValueError, match="got \\(1, 5, 2\\)"):
        WaveGraphNet()(torch.zeros(1, 5, 2))
