import math

import pytest
import torch
from nops_models import MLP, FourierMLP
from torch.testing import assert_close


def second(values, points, column):
    """∂²y/∂x² of one column, by two backward passes."""
    (first,) = torch.autograd.grad(values.sum(), points, create_graph=True)
    (again,) = torch.autograd.grad(first[:, column].sum(), points)
    return again[:, column]


class TestMLP:
    def test_of_one_neuron_has_the_derivatives_of_tanh(self):
        # y = 3·tanh(2x + 1) + 4; y″ = 3·4·(−2)·tanh·(1 − tanh²) at x = 0.5, tanh 2 = 0.9640275801
        model = MLP(in_features=1, out_features=1, hidden=1, layers=1).double()
        for parameter, value in zip(model.parameters(), (2.0, 1.0, 3.0, 4.0), strict=True):
            parameter.data.fill_(value)
        x = torch.tensor([[0.5]], dtype=torch.float64, requires_grad=True)
        t = 0.9640275800758169
        assert_close(model(x).item(), 3 * t + 4)
        assert_close(second(model(x), x, 0).item(), -24 * t * (1 - t**2))

    def test_has_as_many_layers_as_it_is_told(self):
        # 2·50+50, 4·(50·50+50), 50+1
        model = MLP(in_features=2, out_features=1)
        assert sum(p.numel() for p in model.parameters()) == 150 + 4 * 2550 + 51

    def test_starts_xavier_normal(self):
        model = MLP(in_features=300, out_features=1, hidden=500, layers=1, bias=0.001)
        weight, bias = model.layers[0].weight, model.layers[0].bias
        # variance 2/(300 + 500) over 150,000 draws: relative error of the deviation 0.2 %
        assert weight.std().item() == pytest.approx(math.sqrt(2 / 800), rel=0.01)
        assert set(bias.tolist()) == {torch.tensor(0.001).item()}

    @pytest.mark.parametrize("kind", [MLP, FourierMLP])
    def test_is_smooth_to_the_second_derivative(self, kind, normal):
        torch.manual_seed(0)
        options = {"scales": (0.5, 1.0)} if kind is FourierMLP else {}
        model = kind(in_features=2, out_features=1, hidden=8, layers=2, **options).double()
        x = normal(0, 5, 2).requires_grad_()
        step = torch.tensor([[1e-4, 0.0]], dtype=torch.float64)
        centred = (model(x + step) - 2 * model(x) + model(x - step)) / 1e-8
        assert_close(second(model(x), x, 0), centred[:, 0].detach(), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        "wrong", [{"hidden": 0}, {"layers": 0}, {"activation": "sine"}, {"out_features": 0}]
    )
    def test_refuses_what_makes_no_network(self, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            MLP(**{"in_features": 1, "out_features": 1, **wrong})


class TestFourierMLP:
    def test_repeats_with_the_wavelength_of_its_waves(self):
        model = FourierMLP(
            in_features=1, out_features=2, hidden=4, layers=1, scales=(1.0,)
        ).double()
        model.waves.data.copy_(3.0 * torch.ones_like(model.waves))
        x = torch.tensor([[0.1], [0.1 + 1 / 3]], dtype=torch.float64)
        first, later = model(x)
        assert_close(first, later)

    def test_draws_waves_of_each_scale_from_its_seed(self):
        make = {"in_features": 3, "out_features": 1, "frequencies": 4000}
        waves = FourierMLP(**make, scales=(1.0, 10.0)).waves
        assert waves.std((1, 2)).tolist() == pytest.approx([1.0, 10.0], rel=0.03)
        assert torch.equal(waves, FourierMLP(**make).waves)
        assert not torch.equal(waves, FourierMLP(**make, seed=1).waves)

    def test_refuses_a_scale_of_nothing(self):
        with pytest.raises(ValueError, match="scales"):
            FourierMLP(in_features=1, out_features=1, scales=(0.0,))
