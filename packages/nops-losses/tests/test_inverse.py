"""The inverse losses: whom their gradient reaches, sampling, options, masks."""

import pytest
import torch
from nops_losses import inverse_decoding_loss, inverse_encoding_loss, sample_queries
from torch import nn
from torch.testing import assert_close


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def losses(tiny, **models):
    """Latents of two steps by a trained encoder, approximator and decoder, all of them small."""
    torch.manual_seed(0)
    encoder = models.get("encoder", tiny.SetEncoder())
    decoder = models.get("decoder", tiny.PointDecoder())
    approximator = nn.Linear(2, 2).double()
    u = torch.randn(2, 9, 1, generator=generator()).double()
    x = tiny.line(9)
    latent = encoder({"u": u}, x.expand(2, -1, -1))
    parts = {"E": encoder, "A": approximator, "G": decoder}
    return parts, {"u": u}, x, latent, approximator(latent)


def reached(loss, parts):
    loss.backward()
    return {
        name
        for name, part in parts.items()
        if any(p.grad is not None and p.grad.any() for p in part.parameters())
    }


class TestWhomTheGradientReaches:
    """Exactly these parts, and no others."""

    def test_encoding(self, tiny):
        parts, u, x, z, _ = losses(tiny)
        assert reached(inverse_encoding_loss(u, z, parts["G"], x), parts) == {"E", "G"}

    def test_encoding_with_a_detached_latent(self, tiny):
        parts, u, x, z, _ = losses(tiny)
        loss = inverse_encoding_loss(u, z, parts["G"], x, detach_latent=True)
        assert reached(loss, parts) == {"G"}

    @pytest.mark.parametrize("reuse", [False, True])
    def test_decoding_the_next_latent(self, tiny, reuse):
        parts, _, x, _, ahead = losses(tiny)
        decoded = parts["G"](x.expand(2, -1, -1), ahead) if reuse else None
        loss = inverse_decoding_loss(ahead, parts["G"], parts["E"], x, decoded=decoded)
        assert reached(loss, parts) == {"E", "A", "G"}

    def test_decoding_the_latent_itself(self, tiny):
        parts, _, x, z, _ = losses(tiny)
        loss = inverse_decoding_loss(z, parts["G"], parts["E"], x, detach_target=True)
        assert reached(loss, parts) == {"E", "G"}

    def test_decoding_with_detached_fields(self, tiny):
        parts, _, x, _, ahead = losses(tiny)
        loss = inverse_decoding_loss(ahead, parts["G"], parts["E"], x, detach_decoded=True)
        assert reached(loss, parts) == {"E", "A"}

    def test_encoding_the_true_next_state(self, tiny):
        parts, u, x, _, ahead = losses(tiny)
        loss = inverse_decoding_loss(ahead, parts["G"], parts["E"], x, decoded=u)
        assert reached(loss, parts) == {"E", "A"}
        assert parts["G"].calls == []

    def test_a_detached_target_stops_the_target_alone(self, tiny):
        parts, u, x, _, ahead = losses(tiny)
        loss = inverse_decoding_loss(
            ahead, parts["G"], parts["E"], x, decoded=u, detach_target=True
        )
        assert reached(loss, parts) == {"E"}

    def test_the_input_fields_get_none(self, tiny):
        parts, u, x, z, _ = losses(tiny)
        fields = {"u": u["u"].clone().requires_grad_()}
        inverse_encoding_loss(fields, z, parts["G"], x).backward()
        assert fields["u"].grad is None


class TestGradients:
    @pytest.mark.parametrize("chunk_size", [None, 4])
    def test_of_encoding_match_differences(self, tiny, chunk_size):
        _, u, x, z, _ = losses(tiny)
        sample = sample_queries(9, 5, batch_size=2, generator=generator(3))
        decoder, mask = tiny.PointDecoder(), torch.rand(2, 9, generator=generator(4)) > 0.3

        def loss(latent):
            return inverse_encoding_loss(
                u, latent, decoder, x, sample=sample, mask=mask, chunk_size=chunk_size
            )

        assert torch.autograd.gradcheck(loss, z.detach().requires_grad_())

    @pytest.mark.parametrize("options", [{}, {"num_queries": 9}, {"mask": [True, False]}])
    def test_of_decoding_match_differences(self, tiny, options):
        parts, _, x, _, ahead = losses(tiny)
        if "mask" in options:
            options = {"mask": torch.tensor(options["mask"])}

        def loss(latent, target):
            return inverse_decoding_loss(
                latent, parts["G"], parts["E"], x, target=target, **options
            )

        start, target = ahead.detach().requires_grad_(), (ahead + 1).detach().requires_grad_()
        assert torch.autograd.gradcheck(loss, (start, target))

    @pytest.mark.parametrize("chunk_size", [1, 4, 8, 9, 100])
    def test_chunks_change_neither_value_nor_gradient(self, tiny, chunk_size):
        def both(size):
            parts, u, x, z, ahead = losses(tiny)
            value = inverse_encoding_loss(
                u, z, parts["G"], x, chunk_size=size
            ) + inverse_decoding_loss(ahead, parts["G"], parts["E"], x, chunk_size=size)
            value.backward()
            return value, [p.grad for part in parts.values() for p in part.parameters()]

        assert_close(both(chunk_size), both(None), rtol=1e-12, atol=1e-14)

    def test_a_chunk_is_computed_again_in_the_backward_pass(self, tiny):
        parts, u, x, z, _ = losses(tiny)
        loss = inverse_encoding_loss(u, z, parts["G"], x, chunk_size=4)
        assert parts["G"].calls == [4, 4, 1]
        loss.backward()
        assert sorted(parts["G"].calls) == [1, 1, 4, 4, 4, 4]

    def test_without_a_gradient_nothing_is_kept(self, tiny):
        parts, u, x, z, _ = losses(tiny)
        with torch.no_grad():
            loss = inverse_encoding_loss(u, z, parts["G"], x, chunk_size=4)
        assert not loss.requires_grad


class TestSampling:
    def test_it_is_the_sample_s_mean_of_the_squared_errors(self, tiny, fields):
        u, code, x = fields(0, 2, 12, 3), fields(1, 2, 3, 2), tiny.line(12)
        decoder = tiny.PointDecoder(u=3)
        weights = torch.rand(2, 12, generator=generator()) + 0.1
        sample = sample_queries(
            12, 5, batch_size=2, strategy="importance", importance=weights, generator=generator()
        )
        error = (decoder(x.expand(2, -1, -1), code)["u"] - u).square().mean(-1)
        expected = (error.gather(1, sample.indices) / (12 * sample.inclusion)).sum(1).mean()
        got = inverse_encoding_loss({"u": u}, code, decoder, x, sample=sample)
        assert_close(got, expected)
        assert decoder.calls == [12, 5]

    @pytest.mark.parametrize("masked", [False, True])
    def test_its_mean_is_the_loss_at_all_points(self, tiny, fields, masked):
        """Over every set of 2 of 4 points, for the two samples each."""
        u, code, x = fields(0, 2, 4, 1), fields(1, 2, 3, 2), tiny.line(4)
        decoder = tiny.PointDecoder()
        mask = torch.tensor([[True, False, True, True], [False, True, False, False]])
        options = {"mask": mask} if masked else {}
        whole = inverse_encoding_loss({"u": u}, code, decoder, x, **options)
        pairs = torch.combinations(torch.arange(4))
        sample = sample_queries(4, 2, batch_size=2)
        found = []
        for first in pairs:
            for second in pairs:
                sample.indices.copy_(torch.stack([first, second]))
                found.append(
                    inverse_encoding_loss({"u": u}, code, decoder, x, sample=sample, **options)
                )
        assert_close(torch.stack(found).mean(), whole)

    def test_a_set_encoder_gets_the_points_of_the_sample(self, tiny):
        parts, _, x, _, ahead = losses(tiny)
        parts["E"].calls.clear()
        inverse_decoding_loss(ahead, parts["G"], parts["E"], x, num_queries=4)
        assert parts["E"].calls == parts["G"].calls == [4]

    def test_any_other_gets_all_points_decoded_in_chunks(self, tiny, fields):
        matrix, x = tiny.orthogonal(4, seed=0), tiny.line(20)
        encoder, decoder = tiny.PatchEncoder(matrix), tiny.PatchDecoder(matrix.T)
        code = fields(0, 3, 5, 4)
        inverse_decoding_loss(code, decoder, encoder, x, num_queries=8)
        assert encoder.calls == [20]
        assert decoder.calls == [8, 8, 4]
        inverse_decoding_loss(code, decoder, encoder, x, num_queries=8, chunk_size=16)
        assert decoder.calls[3:] == [16, 4]
        inverse_decoding_loss(code, decoder, encoder, x)
        assert decoder.calls[5:] == [20]

    def test_one_draw_is_repeatable_and_the_strategy_is_heard(self, tiny):
        _, u, x, z, _ = losses(tiny)
        places = []

        def decoder(positions, latent):
            places.append(positions)
            return {"u": positions}

        for options in (
            {"query_strategy": "uniform"},
            {"query_strategy": "uniform"},
            {"query_strategy": "stratified"},
            {"query_strategy": "stratified", "grid_shape": (3, 3)},
        ):
            options |= {"num_queries": 3, "generator": generator(2)}
            inverse_encoding_loss(u, z, decoder, x, **options)
        uniform, again, line, grid = places
        assert torch.equal(uniform, again)
        assert not torch.equal(line, grid)
        assert (line.sort(1).values.diff(dim=1) < 0.7).all()

    def test_decoded_fields_are_taken_at_the_sample(self, tiny, fields):
        parts, _, x, _, ahead = losses(tiny)
        everywhere = {"u": fields(5, 2, 9, 1)}
        sample = sample_queries(9, 4, batch_size=2, generator=generator())
        there = {"u": sample.gather(everywhere["u"])}
        expected = (parts["E"](there, sample.gather(x.expand(2, -1, -1))) - ahead).square().mean()
        for decoded in (everywhere, there):
            got = inverse_decoding_loss(
                ahead, parts["G"], parts["E"], x, decoded=decoded, sample=sample
            )
            assert_close(got, expected)


class TestOptions:
    def test_conditions_are_passed_on_where_there_are_any(self, tiny, fields):
        _, u, x, z, _ = losses(tiny)
        seen = []

        def decoder(positions, latent, **options):
            seen.append(options)
            return {"u": positions}

        def encoder(fields, positions, **options):
            seen.append(options)
            return z.detach()

        c, d = fields(1, 2, 3), fields(2, 2, 3)
        inverse_encoding_loss(u, z, decoder, x)
        inverse_encoding_loss(u, z, decoder, x, condition=c)
        inverse_decoding_loss(z, decoder, encoder, x, condition=c, encoder_condition=d)
        inverse_decoding_loss(z, decoder, encoder, x, encoder_condition=d)
        options = [{"condition": c}, {"condition": d}]
        assert seen == [{}, *options[:1], *options, {}, options[1]]

    def test_history_comes_before_what_is_decoded(self, tiny, fields):
        z, x = fields(0, 2, 3, 2), tiny.line(9)
        past = {"u": fields(1, 2, 9, 2)}
        encoder, decoder = tiny.SetEncoder(channels=3), tiny.PointDecoder(u=1, p=2)
        got = inverse_decoding_loss(z, decoder, encoder, x, history=past)
        places = x.expand(2, -1, -1)
        now = decoder(places, z)["u"]
        again = encoder({"u": torch.cat([past["u"], now], -1)}, places)
        assert_close(got, (again - z).square().mean())
        sampled = inverse_decoding_loss(z, decoder, encoder, x, history=past, num_queries=5)
        assert encoder.calls[-1] == 5
        assert sampled > 0

    def test_another_target(self, tiny, fields):
        parts, _, x, z, _ = losses(tiny)
        places, target = x.expand(2, -1, -1), fields(7, 2, 3, 2)
        again = parts["E"](parts["G"](places, z), places)
        got = inverse_decoding_loss(z, parts["G"], parts["E"], x, target=target)
        assert_close(got, (again - target).square().mean())

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_inputs_are_computed_in_float32(self, tiny, dtype, fields):
        u, other = (fields(i, 2, 30, 2).to(dtype) for i in range(2))
        x, z = torch.linspace(0, 0.99, 30)[:, None], fields(2, 2, 3, 2).to(dtype)

        def both(kind):
            encoding = inverse_encoding_loss({"u": u.to(kind)}, z, tiny.truth(other.to(kind)), x)
            again = fields(3, 2, 3, 2).to(dtype).to(kind)
            decoding = inverse_decoding_loss(
                z.to(kind), tiny.truth(other), lambda fields, positions: again, x
            )
            return encoding, decoding

        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = both(dtype)
        assert [value.dtype for value in got] == [torch.float32] * 2
        assert_close(got, both(torch.float32), rtol=0, atol=0)


class TestMasks:
    def test_means_over_what_counts(self, tiny):
        u, x = torch.zeros(2, 2, 1), torch.tensor([[0.0], [0.5]])
        decoder = tiny.truth(torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]))

        def measure(mask):
            z = torch.zeros(2, 1, 1)
            return inverse_encoding_loss({"u": u}, z, decoder, x, mask=torch.tensor(mask)).item()

        assert measure([True, True]) == pytest.approx(7.5)
        assert measure([False, True]) == pytest.approx(12.5)
        assert measure([[True, False], [False, True]]) == pytest.approx(8.5)
        assert measure([[False, True], [True, True]]) == pytest.approx(29 / 3)

    def test_of_latents_samples_count_whole(self, fields):
        z, x = torch.zeros(2, 1, 1), torch.zeros(3, 1)
        again = torch.tensor([[[1.0]], [[3.0]]])

        def measure(mask):
            return inverse_decoding_loss(
                z,
                lambda x, z: {"u": x},
                lambda fields, positions: again,
                x,
                mask=torch.tensor(mask),
            ).item()

        assert measure([True, True]) == 5
        assert measure([False, True]) == 9
        assert measure([[False, False, False], [False, True, False]]) == 9
        assert measure([[True, False, False], [False, True, False]]) == 5

    @pytest.mark.parametrize("num_queries", [None, 4])
    @pytest.mark.parametrize("shape", [(2,), (2, 9)])
    def test_of_nothing_the_loss_and_its_gradient_are_exactly_zero(self, tiny, shape, num_queries):
        parts, u, x, z, ahead = losses(tiny)
        options = {"mask": torch.zeros(shape, dtype=torch.bool), "num_queries": num_queries}
        first = inverse_encoding_loss(u, z, parts["G"], x, **options)
        second = inverse_decoding_loss(ahead, parts["G"], parts["E"], x, **options)
        assert first.item() == second.item() == 0
        (first + second).backward()
        gradients = [p.grad for part in parts.values() for p in part.parameters()]
        assert all((gradient == 0).all() for gradient in gradients)

    def test_what_is_masked_may_be_nan(self, tiny):
        _, u, x, z, _ = losses(tiny)
        mask = torch.ones(2, 9, dtype=torch.bool)
        mask[1, 2] = False
        spoiled = {"u": u["u"].masked_fill(~mask[..., None], torch.nan)}
        decoder, latent = tiny.PointDecoder(), z.detach().requires_grad_()
        loss = inverse_encoding_loss(spoiled, latent, decoder, x, mask=mask)
        loss.backward()
        assert_close(loss, inverse_encoding_loss(u, z, decoder, x, mask=mask))
        assert latent.grad.isfinite().all()


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    def test_both_a_sample_and_a_number(self, tiny):
        parts, u, x, z, _ = losses(tiny)
        options = {"sample": sample_queries(9, 3, batch_size=2), "num_queries": 3}
        with pytest.raises(ValueError, match="sample and num_queries=3"):
            inverse_encoding_loss(u, z, parts["G"], x, **options)
        with pytest.raises(ValueError, match="sample and num_queries=3"):
            inverse_decoding_loss(z, parts["G"], parts["E"], x, **options)

    def test_a_decoder_that_lacks_a_field(self, tiny):
        _, u, x, z, _ = losses(tiny)
        with pytest.raises(KeyError, match=r"lacks the field 'u'; it has \['v'\]"):
            inverse_encoding_loss(u, z, tiny.PointDecoder(v=1), x)
        with pytest.raises(KeyError, match="what is decoded lacks the field 'u'"):
            inverse_decoding_loss(z, tiny.PointDecoder(v=1), tiny.SetEncoder(), x, history=u)

    def test_a_decoder_that_gives_other_channels(self, tiny):
        _, u, x, z, _ = losses(tiny)
        with pytest.raises(ValueError, match=r"'u' with shape \(2, 9, 3\), expected \(2, 9, 1\)"):
            inverse_encoding_loss(u, z, tiny.PointDecoder(u=3), x)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"num_queries": 0}, ValueError, "num_queries must be at least 1"),
            ({"chunk_size": 0}, ValueError, "chunk_size must be at least 1"),
            ({"num_queries": 3, "query_strategy": "importance"}, ValueError, "without importance"),
            ({"num_queries": 3, "grid_shape": (2, 4)}, ValueError, r"\(2, 4\) has 8 cells"),
            ({"mask": torch.ones(9, dtype=torch.bool)}, ValueError, r"\(2, 9\); got \(9,\)"),
            ({"mask": torch.ones(2)}, TypeError, "flags"),
            ({"field_weights": {"v": 1.0}}, ValueError, r"each of \['u'\]"),
            ({"field_weights": {"u": 0.0}}, ValueError, "not all 0"),
            ({"field_weights": {"u": -1.0}}, ValueError, "not negative"),
            ({"sample": sample_queries(9, 3)}, ValueError, "sample is of 1 x 9 points"),
            ({"sample": sample_queries(8, 3, batch_size=2)}, ValueError, "2 x 8 points"),
        ],
    )
    def test_options_out_of_range(self, tiny, options, error, message):
        parts, u, x, z, _ = losses(tiny)
        with pytest.raises(error, match=message):
            inverse_encoding_loss(u, z, parts["G"], x, **options)

    def test_positions_that_do_not_fit(self, tiny):
        parts, u, x, z, _ = losses(tiny)
        with pytest.raises(
            ValueError, match="input_positions are 8 points, the input fields have 9"
        ):
            inverse_encoding_loss(u, z, parts["G"], x[:8])
        with pytest.raises(ValueError, match=r"with 2 samples; got \(3, 9, 1\)"):
            inverse_encoding_loss(u, z, parts["G"], x.expand(3, -1, -1))

    @pytest.mark.parametrize("shapes", [{}, {"u": (2, 9)}, {"u": (2, 9, 1), "v": (2, 8, 1)}])
    def test_fields_that_do_not_fit_each_other(self, tiny, shapes):
        parts, _, x, z, _ = losses(tiny)
        u = {name: torch.zeros(shape) for name, shape in shapes.items()}
        with pytest.raises(ValueError, match="input_fields needs one field or more"):
            inverse_encoding_loss(u, z, parts["G"], x)

    def test_decoded_fields_of_a_draw_that_nobody_knows(self, tiny):
        parts, u, x, z, _ = losses(tiny)
        few = {"u": u["u"][:, :3]}
        with pytest.raises(ValueError, match="decoded is given at 2 x 3 points"):
            inverse_decoding_loss(z, parts["G"], parts["E"], x, decoded=few, num_queries=3)
        with pytest.raises(ValueError, match="decoded is given at 2 x 3 points"):
            inverse_decoding_loss(z, parts["G"], parts["E"], x, decoded=few)

    def test_an_encoder_of_another_size(self, tiny):
        _, _, x, z, _ = losses(tiny)
        with pytest.raises(ValueError, match=r"\(2, 3, 1\) and \(2, 3, 2\)"):
            inverse_decoding_loss(z, tiny.PointDecoder(), tiny.SetEncoder(width=3), x)
