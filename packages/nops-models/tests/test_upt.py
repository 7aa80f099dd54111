"""A whole Universal Physics Transformer: steps, rollouts, conditions, precision, state."""

import copy
import pickle

import pytest
import torch
from nops_models import UPT, Approximator, UPTConfig
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

GRID = {"grid_shape": (16,), "patch_size": 4, "tokens": 4, "dim": 8, "approximator_depth": 2}
POINTS = {"encoder": "supernodes", "supernodes": 6, "radius": 0.3, "tokens": 3, "dim": 8}
KINDS = {"grid": GRID, "supernodes": POINTS}
CLOCK = {"condition": ("time", "nu"), "time_steps": 10}


def build(kind="grid", **options):
    return UPTConfig({"u": 1, "v": 2}, 1, **{**KINDS[kind], "decoder_cross_depth": 1, **options})


@pytest.fixture
def model(shaken):
    return lambda kind="grid", **options: shaken(UPT(build(kind, **options)).double(), size=0.4)


@pytest.fixture
def start(normal):
    """Fields [2, 16, C] and positions [16, 1]."""

    def make(history=1):
        positions = (torch.arange(16, dtype=torch.float64)[:, None] + 0.5) / 16
        return {"u": normal(0, 2, 16, history), "v": normal(1, 2, 16, 2 * history)}, positions

    return make


class TestApproximator:
    @pytest.mark.parametrize("condition", [(), ("nu",)])
    @pytest.mark.parametrize(
        "options", [{}, {"approximator_width": 12}, {"layout": "paper"}], ids=str
    )
    def test_is_the_identity_at_the_start(self, normal, condition, options):
        latent, values = normal(0, 2, 4, 8), normal(1, 2, 1) if condition else None
        plain = Approximator(build(latent_norm="none", condition=condition, **options)).double()
        assert torch.equal(plain(latent, condition=values), latent)
        latent = torch.nn.functional.layer_norm(latent, (8,), eps=1e-6)  # as encoders end
        normed = Approximator(build(condition=condition, **options)).double()
        assert_close(normed(latent, condition=values), latent, rtol=0, atol=1e-5)

    def test_is_not_the_identity_once_trained(self, normal, shaken):
        latent = normal(0, 2, 4, 8)
        for options in ({}, {"approximator_width": 12}, {"layout": "paper"}):
            moved = shaken(Approximator(build(**options)).double())(latent)
            assert (moved - latent).abs().max() > 0.1

    def test_order_of_tokens_follows(self, normal, shaken):
        model, latent = shaken(Approximator(build()).double()), normal(0, 2, 4, 8)
        assert_close(model(latent.flip(1)), model(latent).flip(1))

    def test_condition_drives_it(self, normal, shaken):
        model = shaken(Approximator(build(condition=("nu",))).double())
        latent = normal(0, 2, 4, 8)
        ways = [model(latent, condition=torch.full((2, 1), nu).double()) for nu in (0.1, 0.6)]
        assert (ways[0] - ways[1]).abs().max() > 1e-2

    @pytest.mark.usefixtures("unchecked")
    def test_refuses_other_widths(self):
        with pytest.raises(ValueError, match=r"\(sample, token, 8\), got \(2, 4, 6\)"):
            Approximator(build())(torch.zeros(2, 4, 6))


class TestLatent:
    def test_layer_fixes_the_size_of_tokens(self, model, start):
        latent, moved, _ = model()(*start())
        for tokens in (latent, moved):
            assert_close(tokens.square().mean(-1), torch.ones(2, 4).double(), rtol=1e-4, atol=0)
            assert_close(tokens.mean(-1), torch.zeros(2, 4).double())

    def test_none_does_not(self, model, start):
        latent, moved, _ = model(latent_norm="none")(*start())
        assert (latent.square().mean(-1) - 1).abs().max() > 0.1
        assert (moved.square().mean(-1) - 1).abs().max() > 0.1


@pytest.mark.parametrize("kind", list(KINDS))
class TestRollout:
    def test_two_latent_steps_are_the_approximator_twice(self, model, start, kind):
        upt, (fields, positions), nodes = model(kind), start(), given(kind)
        found = upt.rollout(fields, positions, steps=2, **nodes)
        latent = upt.step(upt.encode(fields, positions, **nodes))
        once = upt.decode(positions, latent)
        twice = upt.decode(positions, upt.step(latent))
        for name, channels in (("u", 1), ("v", 2)):
            assert found[name].shape == (2, 2, 16, channels)
            assert_close(found[name], torch.stack((once[name], twice[name]), dim=1))

    def test_image_mode_encodes_what_it_decoded(self, model, start, kind):
        upt, (fields, positions), nodes = model(kind, history=2), start(history=2), given(kind)
        queries = torch.tensor([[0.21], [0.4]], dtype=torch.float64)
        options = {"steps": 3, "mode": "image", **nodes}
        there = upt.rollout(fields, positions, query_positions=queries, **options)
        found = upt.rollout(fields, positions, **options)
        for step in range(3):
            latent = upt.step(upt.encode(fields, positions, **nodes))
            state, asked = upt.decode(positions, latent), upt.decode(queries, latent)
            for name, channels in (("u", 1), ("v", 2)):
                assert_close(found[name][:, step], state[name])
                assert_close(there[name][:, step], asked[name])
                fields[name] = torch.cat((fields[name][..., channels:], state[name]), dim=-1)

    @pytest.mark.parametrize("mode", ["latent", "image"])
    def test_returns_every_so_many(self, model, start, kind, mode):
        upt, (fields, positions), nodes = model(kind), start(), given(kind)
        every = upt.rollout(fields, positions, steps=6, mode=mode, **nodes)
        some = upt.rollout(
            fields, positions, steps=6, mode=mode, decode_every=3, chunk_size=5, **nodes
        )
        assert_close(some["v"], every["v"][:, 2::3])

    def test_each_step_has_its_condition(self, model, start, kind):
        upt, (fields, positions), nodes = model(kind, **CLOCK), start(), given(kind)
        rows = torch.tensor([[[4.0, 0.1], [5.0, 0.3], [7.0, 0.2]]] * 2, dtype=torch.float64)
        for mode in ("latent", "image"):
            found = upt.rollout(fields, positions, steps=3, mode=mode, condition=rows, **nodes)
            latent, given_fields = None, fields
            for step, row in enumerate(rows.unbind(1)):
                if latent is None or mode == "image":
                    latent = upt.encode(given_fields, positions, condition=row, **nodes)
                latent = upt.step(latent, condition=row)
                given_fields = upt.decode(positions, latent, condition=row)
                assert_close(found["u"][:, step], given_fields["u"])

    def test_one_condition_counts_the_time_on(self, model, start, kind):
        upt, (fields, positions), nodes = model(kind, **CLOCK), start(), given(kind)
        one = torch.tensor([[3.0, 0.1], [4.0, 0.2]], dtype=torch.float64)
        each = torch.stack([one + torch.tensor([k, 0.0]) for k in range(3)], dim=1)
        counted = upt.rollout(fields, positions, steps=3, condition=one, **nodes)
        spelled = upt.rollout(fields, positions, steps=3, condition=each, **nodes)
        held = upt.rollout(
            fields, positions, steps=3, condition=one[:, None].expand(-1, 3, -1), **nodes
        )
        assert_close(counted["u"], spelled["u"])
        assert (counted["u"] - held["u"]).abs().max() > 1e-3


def given(kind):
    return {"supernodes": torch.arange(2, 14, 2)} if kind == "supernodes" else {}


def test_latent_mode_decodes_only_what_is_asked_for(model, start):
    upt, calls = model(), []
    upt.encoder.register_forward_hook(lambda *_: calls.append("encode"))
    upt.decoder.register_forward_hook(lambda *_: calls.append("decode"))
    upt.rollout(*start(), steps=6, decode_every=3)
    assert calls == ["encode", "decode", "decode"]
    calls.clear()
    upt.rollout(*start(), steps=3, mode="image", decode_every=3)
    assert calls == ["encode", "decode", "encode", "decode", "encode", "decode"]


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    def test_numbers_out_of_range(self, model, start):
        upt = model()
        with pytest.raises(ValueError, match="mode must be one of latent, image, got 'field'"):
            upt.rollout(*start(), steps=1, mode="field")
        for steps, every in ((0, 1), (4, 3), (4, 0)):
            with pytest.raises(ValueError, match=f"got steps={steps}, decode_every={every}"):
                upt.rollout(*start(), steps=steps, decode_every=every)

    def test_steps_beyond_the_time_table(self, model, start):
        upt = model(**CLOCK)
        at = torch.tensor([[3.0, 0.1], [4.0, 0.2]], dtype=torch.float64)
        upt.rollout(*start(), steps=6, condition=at)  # times 4 … 9 of a table of 10
        with pytest.raises(ValueError, match=r"7 steps from time 4 .* time_steps=10: at most 6 st"):
            upt.rollout(*start(), steps=7, condition=at)
        rows = at[:, None].repeat(1, 3, 1)
        rows[0, 2, 0] = 10
        with pytest.raises(ValueError, match="at most 2 steps"):
            upt.rollout(*start(), steps=3, condition=rows)

    def test_conditions_of_other_lengths(self, model, start):
        with pytest.raises(ValueError, match=r"\(sample, 3, 2\), got \(2, 4, 2\)"):
            model(**CLOCK).rollout(*start(), steps=3, condition=torch.zeros(2, 4, 2))
        with pytest.raises(ValueError, match=r"\['time', 'nu'\] .* got None"):
            model(**CLOCK).rollout(*start(), steps=3)


def test_forward_is_encode_step_decode(model, start):
    upt, (fields, positions) = model("supernodes", condition=("nu",)), start()
    queries, nu = torch.tensor([[0.3], [0.9]]).double(), torch.tensor([[0.1], [0.2]]).double()
    nodes = given("supernodes")
    latent, moved, decoded = upt(
        fields, positions, query_positions=queries, condition=nu, chunk_size=1, **nodes
    )
    assert_close(latent, upt.encoder(fields, positions, condition=nu, **nodes))
    assert_close(moved, upt.approximator(latent, condition=nu))
    expected = upt.decoder(queries, moved, condition=nu)
    assert_close(decoded, expected)
    assert (expected["u"] - upt.decoder(queries, moved, condition=2 * nu)["u"]).abs().max() > 1e-3


def test_drop_path_acts_in_training_alone(model, start):
    upt = model(drop_path=0.5)
    assert not torch.equal(upt(*start()).latent, upt(*start()).latent)
    upt.eval()
    assert torch.equal(upt(*start()).latent, upt(*start()).latent)


def test_dropped_branches_keep_their_mean(shaken, normal):
    # Each branch is there for half of the samples, and then twice as large; the second branch is
    # closed, so that the first alone is seen.
    config = build(drop_path=0.5, latent_norm="none", approximator_depth=1)
    approximator = shaken(Approximator(config).double())
    with torch.no_grad():
        approximator.blocks[0].modulation.start[-1] = 0
    latent = normal(0, 1, 4, 8)
    whole = approximator.eval()(latent) - latent
    torch.manual_seed(0)
    branches = approximator.train()(latent.expand(400, -1, -1)) - latent
    there = branches.flatten(1).any(1)
    assert 150 < there.sum() < 250
    assert_close(branches[there], (2 * whole).expand(int(there.sum()), -1, -1))


@pytest.mark.parametrize("kind", list(KINDS))
class TestModule:
    def test_all_parameters_learn(self, start, kind):
        torch.manual_seed(0)
        upt = UPT(build(kind, **CLOCK, qk_norm=True)).double()
        optimizer = torch.optim.AdamW(upt.parameters(), lr=1e-2)
        at = torch.tensor([[3.0, 0.1], [4.0, 0.2]], dtype=torch.float64)
        fields, positions = start()
        for _ in range(3):
            optimizer.zero_grad()
            decoded = upt(fields, positions, condition=at).fields
            sum((decoded[name] - fields[name]).square().mean() for name in fields).backward()
            optimizer.step()
        idle = [n for n, p in upt.named_parameters() if p.grad is None or not p.grad.any()]
        assert idle == []

    def test_nothing_is_made_later(self, start, kind):
        upt = UPT(build(kind, **CLOCK)).double()
        before = {name: tensor.shape for name, tensor in upt.state_dict().items()}
        upt.rollout(*start(), steps=2, condition=torch.ones(2, 2).double())
        assert {name: tensor.shape for name, tensor in upt.state_dict().items()} == before
        assert not any(isinstance(m, torch.nn.modules.lazy.LazyModuleMixin) for m in upt.modules())

    def test_conditioner_is_stored_once_and_copied_with_the_model(self, model, start, kind):
        upt = model(kind, **CLOCK)
        assert sum(name.endswith("networks.0.0.weight") for name in upt.state_dict()) == 1
        for twin in (copy.deepcopy(upt), pickle.loads(pickle.dumps(upt))):
            assert twin.decoder.conditioner is twin.conditioner is not upt.conditioner
            at = torch.ones(2, 2).double()
            with torch.no_grad():
                twin.conditioner.networks[0][0].weight.zero_()
                options = {"condition": at, **given(kind)}
                assert not torch.equal(
                    twin(*start(), **options)[2]["u"], upt(*start(), **options)[2]["u"]
                )

    @pytest.mark.filterwarnings("ignore")  # the tracer warns of the interpreter and of itself
    @pytest.mark.usefixtures("unchecked")
    def test_compiles_in_one_graph(self, model, start, kind):
        torch._dynamo.reset()
        few = {"approximator_depth": 1, "decoder_self_depth": 0, "condition": ("nu",)}
        upt, (fields, positions) = model(kind, **few), start()
        options = {"condition": torch.ones(2, 1).double(), **given(kind)}
        compiled = torch.compile(upt, backend="aot_eager", fullgraph=True, dynamic=False)
        expected, found = upt(fields, positions, **options), compiled(fields, positions, **options)
        assert_close(tuple(found), tuple(expected))
        gradients = []
        for output in (expected, found):
            loss = output.fields["v"].square().sum()
            gradients.append(torch.autograd.grad(loss, list(upt.parameters())))
        assert_close(*gradients)

    def test_the_host_never_waits_for_a_value(self, model, start, kind):
        upt, (fields, positions) = model(kind, **CLOCK), start()
        options = {"condition": torch.ones(2, 2).double()}
        upt(fields, positions, **options)  # a set encoder looks at its radius once
        with Watch() as watch:
            upt(fields, positions, **options)
        assert watch.seen > 100
        assert watch.waits == []

    @pytest.mark.parametrize("checkpoint", [False, True])
    def test_bfloat16_is_near_float32(self, model, start, kind, checkpoint):
        upt = model(kind, **CLOCK).float()
        fields, positions = start()
        fields = {name: value.float() for name, value in fields.items()}
        options = {"condition": torch.ones(2, 2), **given(kind), "checkpoint": checkpoint}
        expected = upt(fields, positions.float(), **options)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = upt(fields, positions.float(), **options)
        sum(value.float().square().mean() for value in found.fields.values()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in upt.parameters())
        scale = expected.fields["v"].abs().max()
        assert_close(
            found.fields["v"].float() / scale, expected.fields["v"] / scale, rtol=0, atol=0.06
        )

    def test_weights_in_half(self, model, start, kind):
        fields, positions = start()
        upt = model(kind, **CLOCK)
        options = {"condition": torch.ones(2, 2).double(), **given(kind)}
        expected = upt(fields, positions, **options).fields["v"]
        found = upt.bfloat16()(fields, positions, **options).fields["v"]
        assert found.dtype == torch.bfloat16
        assert_close(
            found.double() / expected.abs().max(), expected / expected.abs().max(), rtol=0, atol=0.1
        )


class Watch(TorchDispatchMode):
    """Counts operations, and notes those for which the host must have a value."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique")

    def __init__(self):
        super().__init__()
        self.seen, self.waits = 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen += 1
        name = function.overloadpacket.__name__
        if name in self.WAITS:
            self.waits.append(name)
        return function(*args, **(kwargs or {}))
