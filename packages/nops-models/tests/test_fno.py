import math

import pytest
import torch
from nops_models import FNO, FNOConfig
from torch.nn import functional
from torch.testing import assert_close


def small(**options):
    sizes = {"base_channels": 4, "num_layers": 2, "modes": 3, "embedding": 8}
    return FNO(FNOConfig(**{**sizes, **options}))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


class TestSizes:
    def test_of_a_tiny_one(self):
        # base 2, modes 3: 5·3 waves with 2·2 complex weights; pointwise 2·2 + 2
        model = small(base_channels=2, num_layers=2, mlp_ratio=3, in_channels=2)
        assert count(model.lift) == 2 * 2 + 2
        assert count(model.layers) == 2 * (5 * 3 * 2 * 2 * 2 + 2 * 2 + 2) == 252
        assert count(model.project) == 2 * 6 + 6
        assert count(model.output) == 6 * 2 + 2
        assert count(model) == 6 + 252 + 18 + 14

    def test_of_the_default(self):
        # 23·12 waves with 32·32 complex weights each in four layers
        layers = 4 * (23 * 12 * 2 * 32 * 32 + 32 * 32 + 32)
        assert count(FNO(FNOConfig())) == 64 + layers + (32 * 128 + 128) + 129 == 2_269_633

    def test_of_the_conditioning(self):
        more = count(small(num_parameters=3)) - count(small())
        assert more == (3 * 8 + 8) + (8 * 8 + 8) + 2 * 2 * 4 * 9


def test_equals_the_definition_written_afresh(normal, shaken):
    model = shaken(small(num_parameters=2, num_layers=3).double(), size=0.2)
    state, theta = normal(0, 2, 1, 9, 8), normal(1, 2, 2)
    condition = model.embed(theta)
    x = torch.einsum("oi,bihw->bohw", model.lift.weight[..., 0, 0], state)
    x = x + model.lift.bias[:, None, None]
    for number, layer in enumerate(model.layers):
        x = functional.gelu(x) if number else x
        x = layer.spectral(x) + layer.pointwise(x)
        gamma, beta = layer.film.linear(condition)[..., None, None].chunk(2, dim=1)
        x = (1 + gamma) * x + beta
    after, bottleneck = model(state, theta, return_bottleneck=True)
    assert_close(bottleneck, x)
    assert_close(after, state + 0.1 * model.output(functional.gelu(model.project(x))))


class TestGrids:
    def test_resolved_fields_step_alike_on_every_grid(self, shaken):
        """Waves |k| ≤ 2, weak: what the GELUs make of them dies out before the coarser grid ends."""
        model = shaken(small(num_parameters=1).double(), size=0.2)
        theta = torch.full((1, 1), 0.5, dtype=torch.float64)
        fields = [self.field(*shape) for shape in ((48, 45), (96, 90))]
        coarse, fine = (model.rollout(field, theta, num_steps=2) for field in fields)
        assert (coarse[:, -1] - fields[0]).abs().max() > 1e-3
        assert_close(fine[..., ::2, ::2], coarse, rtol=0, atol=1e-12)

    @staticmethod
    def field(height, width):
        y = torch.arange(height, dtype=torch.float64)[:, None] * (2 * math.pi / height)
        x = torch.arange(width, dtype=torch.float64)[None, :] * (2 * math.pi / width)
        return (0.3 * torch.cos(x + 2 * y) + 0.2 * torch.sin(2 * x) + 0.1)[None, None]

    @pytest.mark.parametrize("shape", [(8, 12), (9, 7), (5, 5)])
    @pytest.mark.parametrize("shift", [(1, 0), (0, 1), (-3, 2)])
    def test_every_shift_commutes(self, normal, shaken, shape, shift):
        model = shaken(small(num_parameters=2).double())
        state, theta = normal(0, 1, 1, *shape), normal(1, 1, 2)
        moved = model(state.roll(shift, (2, 3)), theta)
        assert_close(moved, model(state, theta).roll(shift, (2, 3)), rtol=0, atol=1e-11)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 6), (2, 2), (3, 64)])
    @pytest.mark.parametrize("padding", ["circular", "zeros"])
    def test_the_smallest_will_do(self, shaken, shape, padding):
        model = shaken(small(padding=padding), size=0.1)
        after = model(torch.randn(1, 1, *shape))
        assert after.shape == (1, 1, *shape)
        assert after.isfinite().all()

    def test_modes_reach_the_layers(self, wave, shaken):
        """A wave beyond the modes passes the pointwise layers alone, whatever the spectral weights."""
        for modes, seen in ((3, False), (4, True)):
            model = shaken(small(modes=modes, num_layers=1).double())
            before = model(wave(12, 0, 3))
            model.layers[0].spectral.weight.data[:, 1:] *= 2
            change = (model(wave(12, 0, 3)) - before).abs().max()
            assert bool(change > 1e-3) == seen


class TestZeroPadding:
    def test_layers_work_on_a_domain_an_eighth_longer(self, normal, shaken):
        periodic, model = (shaken(small(padding=p).double()) for p in ("circular", "zeros"))
        state = normal(0, 1, 1, 16, 17)
        seen = []
        model.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        assert (model(state) - periodic(state)).abs().max() > 1e-3
        assert seen[0].shape == (1, 4, 18, 20)  # 16/8 and ⌈17/8⌉ more
        assert torch.equal(seen[0][..., :16, :17], model.lift(state))
        assert seen[0][..., 16:, :].abs().sum() == seen[0][..., 17:].abs().sum() == 0
        _, bottleneck = model(state, return_bottleneck=True)
        assert bottleneck.shape == (1, 4, 16, 17)

    def test_sees_the_edge(self, normal, shaken):
        model, state = shaken(small(padding="zeros").double()), normal(0, 1, 1, 16, 16)
        assert (model(state.roll(4, 3)) - model(state).roll(4, 3)).abs().max() > 1e-3


def standing_wave(model, *, cosine):
    """Weights with which s·F = (2cos ω − 1)·u_t − u_{t−1}, of states of two frames of one channel."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.lift.weight[:2, :, 0, 0] = torch.eye(2)  # channel 0 is u_{t−1}, channel 1 is u_t
        model.layers[0].pointwise.weight[:2, :2, 0, 0] = torch.eye(2)
        change = torch.tensor([-1.0, 2 * cosine - 1], dtype=torch.float64)
        for unit, sign in ((0, 1.0), (1, -1.0)):  # gelu(v) − gelu(−v) = v
            model.project.weight[unit, :2, 0, 0] = sign * change
            model.output.weight[0, unit] = sign / model.config.residual_scale


@pytest.mark.parametrize("every", [0, 7])
def test_a_recurrence_of_two_steps_rolls_out_exactly(normal, every):
    # u_{t+1} = 2cos ω·u_t − u_{t−1} has the solution u_t = cos(ωt)·u_0 + sin(ωt)·w
    omega, times = 0.3, torch.arange(42, dtype=torch.float64)[None, :, None, None, None]
    start, other = normal(0, 2, 1, 1, 6, 5), normal(1, 2, 1, 1, 6, 5)
    exact = torch.cos(omega * times) * start + torch.sin(omega * times) * other
    model = small(num_layers=1, previous_frames=2, residual_scale=0.25).double()
    standing_wave(model, cosine=math.cos(omega))
    path = model.rollout(model.state_of(exact[:, :2]), num_steps=40, checkpoint_every=every)
    assert_close(path, exact[:, 2:], rtol=0, atol=1e-12)  # rounding grows with t² at most
