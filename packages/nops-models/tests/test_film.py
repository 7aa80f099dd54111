import torch
from nops_models import FiLM
from torch.testing import assert_close


def test_a_new_layer_is_the_identity(normal):
    features = normal(0, 2, 3, 4, 5)
    assert_close(FiLM(6, 3).double()(features, normal(1, 2, 6)), features, rtol=0, atol=0)


def test_by_hand():
    film = FiLM(1, 2)
    film.linear.weight.data = torch.tensor([[1.0], [0.0], [0.0], [2.0]])  # γ = (c, 0), β = (0, 2c)
    features = torch.tensor([5.0, 7.0]).view(1, 2, 1, 1)
    got = film(features, torch.tensor([[3.0]]))
    assert got.flatten().tolist() == [20.0, 13.0]  # (1 + 3)·5 and 7 + 6


def test_each_sample_has_its_own_condition(normal, shaken):
    film = shaken(FiLM(6, 3).double())
    features, condition = normal(0, 2, 3, 4, 5), normal(1, 2, 6)
    alone = torch.cat([film(features[i : i + 1], condition[i : i + 1]) for i in range(2)])
    assert_close(film(features, condition), alone, rtol=1e-14, atol=0)


def test_gradients(normal, shaken):
    film = shaken(FiLM(2, 3).double())
    inputs = normal(0, 2, 3, 2, 2).requires_grad_(), normal(1, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(film, inputs)
