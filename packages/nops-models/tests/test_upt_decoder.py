"""The any-point decoder: what queries see, and what they cost."""

from itertools import pairwise

import pytest
import torch
from nops_models import AnyPointDecoder, UPTConfig
from torch import nn
from torch.nn import functional
from torch.testing import assert_close


def build(fields=None, ndim=2, **options):
    points = {"encoder": "supernodes", "supernodes": 4, "radius": 1.0, "tokens": 5, "dim": 16}
    defaults = {"decoder_width": 12, "heads": (2, 2, 3)}
    return UPTConfig(fields or {"u": 1, "v": 2}, ndim, **{**points, **defaults, **options})


@pytest.fixture
def decoder(shaken):
    return lambda **options: shaken(AnyPointDecoder(build(**options)).double(), size=0.4)


@pytest.fixture
def batch(normal):
    """Query positions [2, 11, 2] in the unit square and tokens [2, 5, 16]."""
    return normal(0, 2, 11, 2).sigmoid(), normal(1, 2, 5, 16)


def joined(fields):
    return torch.cat(list(fields.values()), dim=-1)


class TestQueries:
    def test_fields_have_their_channels(self, decoder, batch):
        fields = decoder()(*batch)
        assert {name: tuple(value.shape) for name, value in fields.items()} == {
            "u": (2, 11, 1),
            "v": (2, 11, 2),
        }

    def test_a_subset_of_queries_is_a_subset_of_the_output(self, decoder, batch):
        positions, latent = batch
        model, some = decoder(), torch.tensor([7, 2, 9])
        assert_close(
            joined(model(positions[:, some], latent)), joined(model(positions, latent))[:, some]
        )

    def test_order_follows_the_queries(self, decoder, batch):
        positions, latent = batch
        model, order = decoder(), torch.randperm(11)
        moved = joined(model(positions[:, order], latent))
        assert_close(moved, joined(model(positions, latent))[:, order])

    def test_order_of_tokens_is_free(self, decoder, batch):
        positions, latent = batch
        model = decoder()
        assert_close(joined(model(positions, latent.flip(1))), joined(model(positions, latent)))

    def test_a_refined_grid_agrees_at_shared_points(self, decoder, batch):
        model, latent = decoder(fields={"u": 1}, ndim=1), batch[1]
        coarse = torch.linspace(0, 1, 6, dtype=torch.float64)[:, None]
        fine = torch.linspace(0, 1, 11, dtype=torch.float64)[:, None]
        assert_close(model(fine, latent)["u"][:, ::2], model(coarse, latent)["u"])

    def test_positions_of_a_batch_may_be_shared(self, decoder, batch):
        positions, latent = batch
        model = decoder()
        shared = joined(model(positions[0], latent))
        assert_close(shared, joined(model(positions[0].expand(2, -1, -1), latent)))

    def test_positions_and_tokens_matter(self, decoder, batch):
        positions, latent = batch
        model = decoder()
        plain = joined(model(positions, latent))
        assert (joined(model(positions.flip(1), latent)) - plain).abs().max() > 1e-2
        assert (joined(model(positions, latent.flip(0))) - plain).abs().max() > 1e-2


class TestAxes:
    def test_a_periodic_axis_closes_on_itself(self, decoder, batch):
        latent = batch[1]
        model = decoder(periodic=(1,), lengths=(1.0, 3.0))
        positions = torch.rand(7, 2, dtype=torch.float64)
        around = positions + torch.tensor([0.0, 3.0])
        assert_close(joined(model(around, latent)), joined(model(positions, latent)))
        half = positions + torch.tensor([0.0, 1.5])
        assert (joined(model(half, latent)) - joined(model(positions, latent))).abs().max() > 1e-3

    def test_the_ends_of_another_axis_differ(self, decoder, batch):
        ends = torch.tensor([[0.0, 0.3], [1.0, 0.3]], dtype=torch.float64)
        first, last = joined(decoder(periodic=(1,))(ends, batch[1])).unbind(1)
        assert (first - last).abs().max() > 1e-2


class TestChunks:
    @pytest.mark.parametrize("chunk_size", [1, 4, 11, 50])
    @pytest.mark.parametrize("checkpoint", [False, True])
    def test_agree_with_the_whole(self, decoder, batch, chunk_size, checkpoint):
        model = decoder(condition=("nu",))
        plain = gradients(model, batch, chunk_size=None)
        chunked = gradients(model, batch, chunk_size=chunk_size, checkpoint=checkpoint)
        for found, expected in zip(chunked, plain, strict=True):
            assert_close(found, expected, rtol=1e-9, atol=1e-9)

    def test_float32_to_a_millionth(self, decoder, batch):
        model = decoder().float()
        positions, latent = (part.float() for part in batch)
        whole, parts = model(positions, latent), model(positions, latent, chunk_size=3)
        scale = joined(whole).abs().max()
        assert_close(joined(parts) / scale, joined(whole) / scale, rtol=0, atol=1e-6)

    def test_keys_and_values_are_made_once(self, decoder, batch):
        model, calls = decoder(decoder_cross_depth=3), []
        for block in model.cross:
            block.attention.key_value.register_forward_hook(lambda *_: calls.append(1))
        model(*batch, chunk_size=2)
        assert len(calls) == 3

    def test_checkpoints_keep_less(self, decoder, batch):
        model = decoder()
        positions = torch.rand(2, 200, 2, dtype=torch.float64)
        whole = kept(model, positions, batch[1], chunk_size=20)
        assert kept(model, positions, batch[1], chunk_size=20, checkpoint=True) < whole / 5


def gradients(model, batch, **options):
    """The fields, and gradients of a weighted sum by positions, latent, condition and weights."""
    leaves = [part.clone().requires_grad_() for part in batch]
    condition = torch.tensor([[0.2], [0.7]], dtype=torch.float64, requires_grad=True)
    fields = joined(model(*leaves, condition=condition, **options))
    weights = torch.linspace(-1, 2, fields.numel(), dtype=fields.dtype).view_as(fields)
    wanted = (*leaves, condition, *model.parameters())
    return [fields, *torch.autograd.grad((weights * fields.square()).sum(), wanted)]


def kept(model, positions, latent, **options):
    """Bytes that autograd keeps, weights left out."""
    seen = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        fields = model(positions, latent, **options)
    assert joined(fields).requires_grad
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    return sum(size for pointer, size in seen.items() if pointer not in weights)


def test_each_query_keeps_the_same_bytes_however_many_tokens(decoder, normal):
    model = decoder()
    growth = []
    for tokens in (5, 500):
        latent = normal(1, 2, tokens, 16)
        sizes = [kept(model, torch.rand(2, q, 2).double(), latent) for q in (64, 128, 192)]
        steps = [later - earlier for earlier, later in pairwise(sizes)]
        assert steps[0] == steps[1]
        growth.append(steps[0])
    assert growth[0] == growth[1]  # a stored matrix of queries by tokens would show here


def multihead(attention, heads):
    """A `nn.MultiheadAttention` with the weights of one of ours."""
    width = attention.query.in_features
    peer = nn.MultiheadAttention(width, heads, batch_first=True).double()
    with torch.no_grad():
        parts = (attention.query, attention.key_value)
        peer.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        peer.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        peer.out_proj.weight.copy_(attention.output.weight)
        peer.out_proj.bias.copy_(attention.output.bias)
    return peer


def normed(x, affine, place):
    scale, shift = affine[2 * place], affine[2 * place + 1]
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / (variance + 1e-6).sqrt() * (1 + scale) + shift


def modulation(block, embedded):
    """Scales, shifts and gates as a list; a gate that is not there is 1."""
    layer = block.modulation
    if embedded is None:
        return [*layer.start, torch.ones(()), torch.ones(())]
    values = functional.linear(embedded, layer.linear.weight, layer.linear.bias)
    return [part[:, None] for part in values.chunk(2 * layer.norms + 2, dim=1)]


def through_multihead(model, positions, latent, embedded=None):
    """The decoder written afresh, on attention that returns its weights."""
    tokens = model.project(latent)
    for block in model.blocks:
        *affine, gate1, gate2 = modulation(block, embedded)
        x = normed(tokens, affine, 0)
        tokens = tokens + gate1 * multihead(block.attention, 2)(x, x, x)[0]
        tokens = tokens + gate2 * block.mlp(normed(tokens, affine, 1))
    tokens = model.to_width(tokens)
    queries = model.queries(model.waves(positions))
    for block in model.cross:
        *affine, gate1, gate2 = modulation(block, embedded)
        kv = normed(tokens, affine, 0)
        read, weights = multihead(block.attention, 3)(normed(queries, affine, 1), kv, kv)
        assert weights.shape == (2, 11, 5)
        queries = queries + gate1 * read
        queries = queries + gate2 * block.mlp(normed(queries, affine, 2))
    queries = model.norm(queries)
    return torch.cat([head(queries) for head in model.heads], dim=-1)


@pytest.mark.parametrize("layout", ["compact", "paper"])
@pytest.mark.parametrize("condition", [(), ("nu",)])
def test_equals_a_decoder_on_multihead_attention(decoder, batch, layout, condition):
    model = decoder(layout=layout, condition=condition, decoder_self_depth=2)
    values = torch.tensor([[0.3], [0.9]], dtype=torch.float64) if condition else None
    embedded = model.conditioner(values)
    expected = through_multihead(model, *batch, embedded)
    assert_close(joined(model(*batch, condition=values)), expected, rtol=1e-9, atol=1e-9)


class TestOptions:
    def test_log_compression(self, decoder, batch):
        # 3 → log 4, −3 → −log 4
        plain = joined(decoder()(*batch))
        found = joined(decoder(log_compression=True)(*batch))
        assert_close(found, plain.sign() * torch.log(1 + plain.abs()))
        assert plain.min() < 0 < plain.max()

    def test_qk_norm_forgets_the_size_of_keys(self, decoder, batch):
        model = decoder(qk_norm=True, decoder_self_depth=0)
        plain = joined(model(*batch))
        with torch.no_grad():
            for block in model.cross:
                size = block.attention.key_value.out_features // 2
                block.attention.key_value.weight[:size] *= 100
                block.attention.key_value.bias[:size] *= 100
        assert_close(joined(model(*batch)), plain, rtol=1e-3, atol=1e-4)

    def test_float32_under_autocast(self, decoder, batch):
        positions, latent = (part.float() for part in batch)
        model = decoder(force_fp32=True).float()
        expected = joined(model(positions, latent))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = joined(model(positions, latent.bfloat16().float()))
            half = joined(decoder().float()(positions, latent))
            from_half = model(positions, latent.bfloat16())
        assert found.dtype == joined(from_half).dtype == torch.float32
        assert half.dtype == torch.bfloat16
        rounded = joined(model(positions, latent.bfloat16().float()))
        assert torch.equal(found, rounded)
        assert_close(found, expected, rtol=0, atol=0.1)


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    def test_shapes_and_numbers(self, decoder, batch):
        positions, latent = batch
        model = decoder()
        with pytest.raises(ValueError, match=r"query positions need .* got \(2, 11, 1\)"):
            model(positions[..., :1], latent)
        with pytest.raises(ValueError, match=r"\(sample, token, 16\), got \(2, 5, 8\)"):
            model(positions, latent[..., :8])
        with pytest.raises(ValueError, match=r"chunk_size must be at least 1, or None .* got 0"):
            model(positions, latent, chunk_size=0)
        with pytest.raises(ValueError, match=r"conditioned on \[\] needs .* None, got \(2, 1\)"):
            model(positions, latent, condition=torch.zeros(2, 1))

    def test_conditions_that_are_missing(self, decoder, batch):
        model = decoder(condition=("nu", "kappa"))
        with pytest.raises(ValueError, match=r"\['nu', 'kappa'\] .* \(sample, 2\), got None"):
            model(*batch)
        with pytest.raises(ValueError, match=r"\(sample, 2\), got \(2, 3\)"):
            model(*batch, condition=torch.zeros(2, 3))
