"""The physics-integrated VAE: latents, physics, heads, what gradients reach, posteriors."""

import math

import pytest
import torch
from nops_models import Encoding, PhysicsDecoder, PhysicsVAE, PhysicsVAEConfig, draw_normal
from torch.testing import assert_close

SMALL = {"feature_dim": 8, "feature_hidden": (8,), "physics_hidden": (8,), "aux_hidden": (8,)}


@pytest.fixture
def make(tiny, shaken):
    """`make(physics="Line", **config)`: a small model whose every parameter is random, in float64."""

    def build(physics="Line", *, x_mean=0.0, x_scale=1.0, **config):
        config = PhysicsVAEConfig(**{**SMALL, "aux_dim": 3, **config})
        model = PhysicsVAE(config, getattr(tiny, physics)(), x_mean=x_mean, x_scale=x_scale)
        return shaken(model).double()

    return build


KINDS = {
    "low_rank": {"rank": 2},
    "gated": {"residual": "gated"},
    "no_physics": {"residual": "no_physics"},
    "physics": {"aux_dim": 0},
}
each = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


class TestShapes:
    @each
    def test_of_everything(self, make, normal, kind):
        model = make(**kind)
        aux = kind.get("aux_dim", 3)
        physics = 0 if kind.get("residual") == "no_physics" else 2
        encoding, drawn, decoded = model(normal(0, 5, 4))
        assert [tuple(v.shape) for v in encoding] == [(5, physics)] * 2 + [(5, aux)] * 2
        assert drawn.z.shape == drawn.u.shape == (5, physics)
        assert drawn.z_aux.shape == (5, aux)
        gain = {"gated": 4, "no_physics": 0}.get(kind.get("residual"), kind.get("rank", 0))
        assert [tuple(v.shape) for v in decoded] == [(5, 4)] * 3 + [(5, gain), (5, 4)]
        assert_close(decoded.x_pb, decoded.x_p + decoded.correction)
        assert ((drawn.z > 0) & (drawn.z < 1)).all()

    @each
    def test_of_any_batch_after_any_other(self, make, normal, kind):
        model, x = make(**kind), normal(0, 6, 4)
        whole = model(x, hard=True).decoding.x_pb
        for rows in ([0], [1, 2, 3, 4], [5]):
            assert_close(model(x[rows], hard=True).decoding.x_pb, whole[rows])

    def test_the_protocol(self, tiny):
        assert isinstance(tiny.Line(), PhysicsDecoder)
        assert not isinstance(torch.nn.Linear(2, 2), PhysicsDecoder)


class TestPhysics:
    def test_by_hand(self, make):
        z = torch.tensor([[0.5, 0.75]], dtype=torch.float64)  # a = 2, b = 0.5
        expected = torch.tensor([[0.5, 2.5, 4.5, 6.5]], dtype=torch.float64)
        model = make(aux_dim=0)
        assert_close(model.generate_physonly(z), expected)
        scaled = make(aux_dim=0, x_mean=torch.tensor([0.5, 0.5, 0.5, 0.5]), x_scale=2.0)
        assert_close(scaled.generate_physonly(z), (expected - 0.5) / 2)
        assert_close(scaled.decode(z, z[:, :0]).x_p, (expected - 0.5) / 2)

    def test_without_auxiliary_latents_there_is_no_residual(self, make, normal):
        for residual in ("low_rank", "gated"):
            model = make(aux_dim=0, residual=residual)
            decoded = model(normal(0, 3, 4)).decoding
            assert decoded.x_pb is decoded.x_p
            assert decoded.delta.abs().sum() == 0
            assert {name.split(".")[0] for name, _ in model.named_parameters()} == {
                "features",
                "heads",
            }
            assert set(model.heads) == {"u_mean", "u_lnvar"}

    def test_without_physics_it_is_not_run(self, make, normal):
        model = make(residual="no_physics")
        decoded = model(normal(0, 3, 4)).decoding
        assert decoded.x_pb is decoded.x_p
        assert decoded.delta.abs().sum() == decoded.correction.abs().sum() == 0
        assert model.physics.seen == []
        assert set(model.heads) == {"aux_mean", "aux_lnvar"}
        assert decoded.x_pb.std(0).min() > 0

    def test_there_and_back(self, make):
        model = make()
        z = model.sample_unit(1000, generator=torch.Generator().manual_seed(0))
        assert (model.to_unit(model.to_physical(z)) - z).abs().max() < 1e-6
        corners = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        assert model.to_physical(corners).tolist() == [[0.0, -1.0], [4.0, 1.0]]

    def test_uniform_parameters(self, make):
        z = make().sample_unit(4000, eps=0.1, generator=torch.Generator().manual_seed(0))
        assert z.shape == (4000, 2)
        assert z.min() == 0.1
        assert z.max() == 0.9
        assert (z == 0.1).double().mean().item() == pytest.approx(0.1, abs=0.02)
        again = make().sample_unit(4000, eps=0.1, generator=torch.Generator().manual_seed(0))
        assert torch.equal(z, again)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_it_is_computed_in_float32_without_autocast(self, make, dtype):
        model = make(aux_dim=0).float()
        z = torch.tensor([[0.5, 0.75]], dtype=dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model.generate_physonly(z)
        assert model.physics.seen == [(torch.float32, False)]
        assert out.dtype == dtype

    @pytest.mark.parametrize("value", [0.0, 1.0, -0.1, math.nan])
    def test_unit_latents_outside_are_refused(self, make, value):
        with pytest.raises(ValueError, match=r"z must lie within \(0, 1\)"):
            make().generate_physonly(torch.tensor([[0.5, value]], dtype=torch.float64))


class TestKnownInputs:
    def test_they_reach_the_encoder_from_minus_one_to_one(self, make, normal):
        model, x = make("Shifted"), normal(0, 2, 4)
        given = {
            "shift": torch.tensor([10.0, 30.0]),
            "pair": torch.tensor([[0.0, 1.0], [2.0, 1.5]]),
        }
        rows = model.known_inputs(given, x)
        assert rows.tolist() == [[-1.0, -1.0, 0.0], [1.0, 1.0, 0.5]]
        default = model.known_inputs(None, x)
        assert default.tolist() == [[0.0, -0.5, 0.5]] * 2
        assert not torch.equal(model.encode(x, inputs=given).u_mean, model.encode(x).u_mean)
        explicit = {"shift": torch.full((2,), 20.0), "pair": torch.tensor([[0.5, 1.5]] * 2)}
        assert_close(model.encode(x, inputs=explicit).u_mean, model.encode(x).u_mean)

    def test_they_reach_the_physics(self, make):
        model = make("Shifted", encode_inputs=False)
        z = torch.full((2, 2), 0.5, dtype=torch.float64)
        given = {
            "shift": torch.tensor([11.0, 12.0]),
            "pair": torch.tensor([[1.0, 0.0], [1.0, 1.0]]),
        }
        expected = torch.tensor([[0.0, 2, 4, 6], [0, 4, 8, 12]]) + torch.tensor([[11.0], [12.0]])
        assert_close(model.generate_physonly(z, given), expected.double())
        aux = torch.zeros(2, 3, dtype=torch.float64)
        assert_close(model.decode(z, aux, inputs=given).x_p, expected.double())
        assert model.known_inputs is None

    def test_the_encoder_may_do_without(self, make, normal):
        model, x = make("Shifted", encode_inputs=False), normal(0, 2, 4)
        given = {"shift": torch.tensor([11.0, 12.0])}
        assert torch.equal(model.encode(x, inputs=given).u_mean, model.encode(x).u_mean)

    @pytest.mark.parametrize("encode", [True, False])
    def test_unknown_ones_are_refused(self, make, normal, encode):
        model = make("Shifted", encode_inputs=encode)
        with pytest.raises(ValueError, match=r"unknown inputs \['angle'\]; known: shift, pair"):
            model.encode(normal(0, 2, 4), inputs={"angle": torch.zeros(2)})

    def test_other_shapes_are_refused(self, make, normal):
        with pytest.raises(ValueError, match=r"input 'shift' has shape \(2, 1\), expected \(2,\)"):
            make("Shifted").encode(normal(0, 2, 4), inputs={"shift": torch.zeros(2, 1)})


class TestLatents:
    def test_log_variances_are_bounded_once_where_they_are_made(self, make, normal):
        model = make()
        with torch.no_grad():
            model.heads["u_lnvar"][-1].bias.fill_(50)
            model.heads["aux_lnvar"][-1].bias.fill_(-50)
        encoding = model.encode(normal(0, 3, 4))
        assert (encoding.u_lnvar == 5).all()
        assert (encoding.aux_lnvar == -9).all()

    @pytest.mark.parametrize("side", [1, -1])
    @pytest.mark.parametrize(("mode", "expected"), [("restoring", 1.0), ("hard", 0.0)])
    def test_what_left_the_range_is_pulled_back(self, make, normal, mode, expected, side):
        model = make(lnvar_bound=mode)
        bias = model.heads["u_lnvar"][-1].bias
        bias.data.fill_(50 * side)
        (side * model.encode(normal(0, 3, 4)).u_lnvar.sum()).backward()
        assert bias.grad.tolist() == [3 * expected * side] * 2
        bias.grad = None
        (-side * model.encode(normal(0, 3, 4)).u_lnvar.sum()).backward()
        assert bias.grad.tolist() == [0.0, 0.0]

    def test_draws_have_the_posteriors_moments(self, make):
        n = 100_000
        ones = torch.ones(n, 1, dtype=torch.float64)
        encoding = Encoding(0.7 * ones, math.log(0.25) * ones, -2 * ones, math.log(4.0) * ones)
        drawn = make().draw(encoding, generator=torch.Generator().manual_seed(0))
        # standard errors: 0.5/√n = 0.0016 and 2/√n = 0.0063
        assert drawn.u.mean().item() == pytest.approx(0.7, abs=0.006)
        assert drawn.u.std().item() == pytest.approx(0.5, abs=0.005)
        assert drawn.z_aux.mean().item() == pytest.approx(-2, abs=0.025)
        assert drawn.z_aux.std().item() == pytest.approx(2, abs=0.02)
        assert_close(drawn.z, torch.sigmoid(drawn.u))

    def test_means_may_stand_for_draws(self, make, normal):
        model = make()
        encoding = model.encode(normal(0, 3, 4))
        drawn = model.draw(encoding, sample_physics=False)
        assert drawn.u is encoding.u_mean
        assert drawn.z_aux is not encoding.aux_mean
        assert model.draw(encoding, sample_aux=False).z_aux is encoding.aux_mean
        x = normal(0, 3, 4)
        assert torch.equal(model(x, hard=True).decoding.x_pb, model(x, hard=True).decoding.x_pb)
        assert not torch.equal(model(x).decoding.x_pb, model(x).decoding.x_pb)

    @pytest.mark.usefixtures("unchecked")
    def test_a_normal_draw_clamps_its_log_variance(self):
        lnvar = torch.tensor([-20.0, 20.0, 0.0])
        noise = torch.randn(3, generator=torch.Generator().manual_seed(3))
        got = draw_normal(torch.ones(3), lnvar, generator=torch.Generator().manual_seed(3))
        assert_close(got, 1 + noise * torch.tensor([math.exp(-4.5), math.exp(2.5), 1.0]))
        with pytest.raises(ValueError, match="mean and lnvar need one shape"):
            draw_normal(torch.zeros(2), torch.zeros(3))


class TestWhatIsReached:
    def test_the_bootstrap_reaches_the_encoder_of_physics_means_alone(self, make):
        model = make()
        z = model.sample_unit(16, generator=torch.Generator().manual_seed(0)).double()
        with torch.no_grad():
            x = model.generate_physonly(z)
        (model.encode(x).u_mean - z.logit()).square().sum().backward()
        reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        encoder = {
            n for n, _ in model.named_parameters() if n.startswith(("features", "heads.u_mean"))
        }
        assert reached == encoder

    @pytest.mark.parametrize("kind", ["low_rank", "gated"])
    def test_reconstruction_reaches_all(self, make, normal, kind):
        model = make(**KINDS[kind])
        model(normal(0, 8, 4)).decoding.x_pb.square().sum().backward()
        assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("stop", [True, False])
    def test_a_low_rank_correction_and_the_physics(self, make, normal, training, stop):
        model = make(rank=2, stop_gradient=stop).train(training)
        z = torch.rand(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        z.requires_grad_()
        delta = model.decode(z, normal(1, 3, 3)).delta
        if stop:
            assert not torch.autograd.grad(delta.square().sum(), z, allow_unused=True)[0]
        else:
            assert torch.autograd.grad(delta.square().sum(), z)[0].abs().min() > 0

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("stop", [True, False])
    def test_a_gated_context_and_z(self, make, normal, training, stop):
        head = make(residual="gated", stop_gradient=stop).train(training).head
        z, x_p = normal(0, 3, 2).requires_grad_(), normal(1, 3, 4).requires_grad_()
        delta = head(x_p, z, normal(2, 3, 3)).delta
        of_z, of_x = torch.autograd.grad(delta.sum(), (z, x_p), allow_unused=True)
        assert (of_z is None) == stop
        assert of_x.abs().min() > 0

    def test_gradients_are_those_of_differences(self, make, normal):
        for kind in KINDS.values():
            model = make(**kind, stop_gradient=False)
            z, aux = (
                torch.sigmoid(normal(0, 2, model.latent_dim)),
                normal(1, 2, model.config.aux_dim),
            )
            run = lambda z, aux, model=model: model.decode(z, aux).x_pb  # noqa: E731
            assert torch.autograd.gradcheck(run, (z.requires_grad_(), aux.requires_grad_()))


class TestPosterior:
    def test_physical_values_are_the_mapped_normal_ones(self, make, normal):
        model, x = make(), normal(0, 3, 4)
        got = model.posterior(x, samples=20_000, generator=torch.Generator().manual_seed(0))
        encoding = model.encode(x)
        assert got.samples.shape == (3, 20_000, 2)
        for q, normal_q in ((0.05, -1.6448536), (0.5, 0.0), (0.95, 1.6448536)):
            u = encoding.u_mean + normal_q * (encoding.u_lnvar / 2).exp()
            exact = model.to_physical(torch.sigmoid(u)).detach()
            for index, name in enumerate(("a", "b")):
                width = (4.0, 2.0)[index]
                assert_close(got.quantile(name, q), exact[:, index], rtol=0, atol=0.02 * width)
        u = got.samples[..., 0] / 4
        assert_close(torch.logit(u).mean(1), encoding.u_mean[:, 0].detach(), rtol=0, atol=0.05)

    def test_its_summary(self, make, normal):
        model, x = make(), normal(0, 3, 4)
        got = model.posterior(x, samples=64, generator=torch.Generator().manual_seed(0))
        again = model.posterior(x, samples=64, generator=torch.Generator().manual_seed(0))
        assert torch.equal(got.samples, again.samples)
        assert_close(got.mean["b"], got.samples[..., 1].mean(1))
        assert_close(got.sd["a"], got.samples[..., 0].std(1))
        assert_close(got.mean_tensor, torch.stack([got.mean["a"], got.mean["b"]], 1))
        assert not got.samples.requires_grad

    def test_edges(self, make, normal):
        model = make()
        with torch.no_grad():
            last = model.heads["u_mean"][-1]
            last.weight.zero_()
            last.bias.copy_(torch.tensor([math.log(0.991 / 0.009), math.log(0.989 / 0.011)]))
        assert model.posterior(normal(0, 2, 4), samples=2).edge.tolist() == [[True, False]] * 2

    def test_the_residual_is_measured_in_physical_units(self, make, normal):
        mean, scale = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.5, 1.0, 2.0, 4.0])
        model, x = make(x_mean=mean, x_scale=scale), normal(0, 3, 4)
        decoded = model(x, hard=True).decoding
        physical = [v * scale + mean for v in (decoded.x_pb, decoded.x_p)]
        expected = (physical[0] - physical[1]).norm(dim=1) / physical[1].norm(dim=1)
        got = model.posterior(x, samples=2).residual_ratio
        assert_close(got, expected.detach())
        assert make(aux_dim=0).posterior(x, samples=2).residual_ratio.tolist() == [0.0] * 3

    def test_refuses(self, make, normal):
        x = normal(0, 2, 4)
        with pytest.raises(ValueError, match="samples must be at least 2"):
            make().posterior(x, samples=1)
        with pytest.raises(ValueError, match="has no physical parameters"):
            make(residual="no_physics").posterior(x)
        got = make().posterior(x, samples=2)
        with pytest.raises(ValueError, match="no parameter 'c'; there are a, b"):
            got.quantile("c", 0.5)
        with pytest.raises(ValueError, match=r"q must be within \[0, 1\]"):
            got.quantile("a", 5.0)


class TestProgress:
    def test_strength_and_temperature(self, make, normal):
        model, z, aux = make(), torch.full((3, 2), 0.5, dtype=torch.float64), normal(1, 3, 3)
        full = model.decode(z, aux)
        model.set_progress(r=0.25, tau=1.0)
        assert_close(model.decode(z, aux).correction, 0.25 * full.correction)
        assert_close(model.decode(z, aux).delta, full.delta)
        model.set_progress(r=0.0, tau=3.0)
        cool = model.decode(z, aux)
        assert torch.equal(cool.x_pb, cool.x_p)
        assert_close(torch.atanh(cool.gain), torch.atanh(full.gain) / 3)

    def test_it_travels_with_the_weights(self, make):
        model, other = make(x_mean=1.5), make()
        model.set_progress(r=0.25, tau=2.0)
        other.load_state_dict(model.state_dict())
        assert [b.item() for b in (other.head.r, other.head.tau)] == [0.25, 2.0]
        assert other.x_mean.tolist() == [1.5] * 4

    @pytest.mark.parametrize(("r", "tau"), [(-0.1, 1.0), (math.inf, 1.0), (1.0, 0.0)])
    def test_refuses(self, make, r, tau):
        with pytest.raises(ValueError, match="need r of at least 0 and tau above 0"):
            make().set_progress(r=r, tau=tau)
        with pytest.raises(ValueError, match="belong to a low-rank residual"):
            make(residual="gated").set_progress(r=1.0, tau=1.0)

    def test_time_features(self, make, normal):
        model = make(time_features=2)
        z, aux = torch.full((3, 2), 0.5, dtype=torch.float64), normal(1, 3, 3)
        one, two = (model.decode(z, aux, time_features=normal(i, 3, 2)).delta for i in (2, 3))
        assert not torch.equal(one, two)
        with pytest.raises(
            ValueError, match=r"time_features: found none, config.time_features is 2"
        ):
            model.decode(z, aux)
        with pytest.raises(ValueError, match=r"found \(3, 2\), config.time_features is 0"):
            make().decode(z, aux, time_features=normal(2, 3, 2))


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    def test_other_widths(self, make, normal):
        model = make()
        with pytest.raises(ValueError, match=r"x has shape \(2, 5\), expected \(sample, 4\)"):
            model.encode(normal(0, 2, 5))
        with pytest.raises(ValueError, match=r"z has shape \(2, 3\), expected \(sample, 2\)"):
            model.decode(normal(0, 2, 3), normal(0, 2, 3))
        with pytest.raises(ValueError, match=r"z_aux has shape \(2, 2\), expected \(sample, 3\)"):
            model.decode(normal(0, 2, 2).sigmoid(), normal(0, 2, 2))
        with pytest.raises(ValueError, match=r"z has shape \(4, 1\), expected \(sample, 2\)"):
            model.generate_physonly(torch.full((4, 1), 0.5))

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"x_mean": torch.zeros(3)}, r"x_mean has shape \(3,\), expected \(4,\)"),
            ({"x_scale": torch.tensor([1.0, 0.0, 1.0, 1.0])}, "x_scale must be positive, got 0"),
            ({"x_scale": -1.0}, "x_scale must be positive, got -1"),
            ({"x_mean": math.nan}, "x_mean holds values that are not finite"),
            ({"rank": 5}, "rank=5 is above the 4 outputs"),
        ],
    )
    def test_what_does_not_fit_the_physics(self, make, options, says):
        with pytest.raises(ValueError, match=says):
            make(**options)

    def test_physics_that_does_not_declare_itself(self, tiny):
        with pytest.raises(ValueError, match=r"Linear lacks \['parameter_names'"):
            PhysicsVAE(PhysicsVAEConfig(), torch.nn.Linear(2, 2))
        physics = tiny.Line()
        physics.bounds = torch.tensor([[0.0, 4.0], [1.0, 1.0]])
        with pytest.raises(ValueError, match="bounds of 'b' need low < high, got 1 and 1"):
            PhysicsVAE(PhysicsVAEConfig(), physics)
        physics.bounds = torch.zeros(3, 2)
        with pytest.raises(ValueError, match=r"shape \(3, 2\), expected \(2, 2\)"):
            PhysicsVAE(PhysicsVAEConfig(), physics)

    def test_sizes_of_a_sample(self, make):
        with pytest.raises(ValueError, match="need n >= 1"):
            make().sample_unit(0)
