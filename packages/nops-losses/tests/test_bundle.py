"""The bundle of losses: what it computes, weighs and leaves out."""

import pytest
import torch
from nops_losses import (
    compute_operator_loss_bundle,
    inverse_decoding_loss,
    inverse_encoding_loss,
    latent_spectrum_error,
)
from torch import nn
from torch.testing import assert_close

TERMS = ("L_forward", "L_inv_enc", "L_inv_dec", "L_rollout", "L_spec")
ALL = {
    "lambda_forward": 2.0,
    "lambda_inv_enc": 0.03,
    "lambda_inv_dec": 0.04,
    "lambda_rollout": 0.5,
    "lambda_spectral": 0.25,
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def given(tiny, fields):
    """Inputs of all five terms, and the parts that they are made of."""
    encoder, decoder, approximator = (
        tiny.SetEncoder(),
        tiny.PointDecoder(),
        nn.Linear(2, 2).double(),
    )
    u, x = {"u": fields(0, 2, 9, 1)}, tiny.line(9).expand(2, -1, -1)
    latent = encoder(u, x)
    ahead = approximator(latent)
    encoder.calls.clear()
    return {
        "input_fields": u,
        "encoded_latent": latent,
        "decoder": decoder,
        "input_positions": x,
        "encoder": encoder,
        "query_positions": x,
        "pred_next": ahead,
        "target_next": fields(1, 2, 3, 2),
        "pred_rollout": torch.stack([ahead, approximator(ahead)], 1),
        "target_rollout": fields(2, 2, 2, 3, 2),
    }


def calls(given):
    return given["encoder"].calls, given["decoder"].calls


class TestTheTerms:
    def test_each_is_its_own_function_s_value(self, given):
        bundle = compute_operator_loss_bundle(**given, weights=ALL)
        z, x, parts = given["encoded_latent"], given["input_positions"], given
        rolled = given["pred_rollout"] - given["target_rollout"]
        expected = {
            "L_forward": (given["pred_next"] - given["target_next"]).square().mean(),
            "L_inv_enc": inverse_encoding_loss(given["input_fields"], z, parts["decoder"], x),
            "L_inv_dec": inverse_decoding_loss(z, parts["decoder"], parts["encoder"], x),
            "L_rollout": rolled.square().mean(),
            "L_spec": latent_spectrum_error(given["pred_next"], given["target_next"]),
        }
        assert tuple(bundle.raw) == tuple(bundle.weights) == TERMS
        assert bundle.skipped == {}
        assert_close(bundle.raw, expected)
        assert list(bundle.weights.values()) == [*ALL.values()]
        weighted = {name: bundle.weights[name] * expected[name] for name in TERMS}
        assert_close(bundle.weighted, weighted)
        assert bundle.components is bundle.weighted
        assert_close(bundle.total, sum(weighted.values()))

    def test_as_floats(self, given):
        bundle = compute_operator_loss_bundle(**given, weights=ALL)
        got = bundle.as_floats()
        assert [*got] == [*TERMS, "total"]
        assert got["L_spec"] == bundle.raw["L_spec"].item()
        assert got["total"] == bundle.total.item()

    def test_the_forward_term_alone_is_the_default(self, given):
        bundle = compute_operator_loss_bundle(**given)
        assert [*bundle.raw] == ["L_forward"]
        assert bundle.weights == dict.fromkeys(TERMS, 0.0) | {"L_forward": 1.0}
        assert calls(given) == ([], [])

    def test_targets_get_no_gradient(self, given):
        names = ("target_next", "target_rollout")
        given |= {name: given[name].clone().requires_grad_() for name in names}
        compute_operator_loss_bundle(**given, weights=ALL).total.backward()
        assert [given[name].grad for name in names] == [None, None]

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_inputs_are_computed_in_float32(self, dtype, fields):
        pred, target = (fields(i, 2, 3, 8).to(dtype) for i in range(2))
        weights = {"lambda_spectral": 1.0}
        bundle = compute_operator_loss_bundle(pred_next=pred, target_next=target, weights=weights)
        plain = compute_operator_loss_bundle(
            pred_next=pred.float(), target_next=target.float(), weights=weights
        )
        assert bundle.total.dtype == torch.float32
        assert_close(bundle.raw, plain.raw, rtol=0, atol=0)


class TestTheCallOfTheGuide:
    """The published call, word for word."""

    def bundle(self, given, *, use_inv_now, epoch, num_queries=None):
        loss_weights = {
            "lambda_inv_enc": 0.01,
            "lambda_inv_dec": 0.01,
            "inverse_loss_warmup_epochs": 5,
            "inverse_loss_max_weight": 0.05,
        }
        coords, meta = given["input_positions"], {"grid": (3, 3)}
        decoder, encoder = given["decoder"], given["encoder"]
        return compute_operator_loss_bundle(
            input_fields=given["input_fields"] if use_inv_now else None,
            encoded_latent=given["encoded_latent"] if use_inv_now else None,
            decoder=decoder if use_inv_now else None,
            input_positions=coords if use_inv_now else None,
            encoder=encoder if use_inv_now else None,
            query_positions=coords if use_inv_now else None,
            coords=coords if use_inv_now else None,
            meta=meta if use_inv_now else None,
            pred_next=given["pred_next"],
            target_next=given["target_next"],
            weights=loss_weights,
            current_epoch=epoch,
            num_queries=num_queries,
            query_strategy="uniform",
            grid_shape=(3, 3),
        )

    @pytest.mark.parametrize("num_queries", [None, 5])
    def test_with_the_inverse_losses(self, given, num_queries):
        bundle = self.bundle(given, use_inv_now=True, epoch=12, num_queries=num_queries)
        assert [*bundle.components] == ["L_forward", "L_inv_enc", "L_inv_dec"]
        assert bundle.weights["L_inv_enc"] == bundle.weights["L_inv_dec"] == 0.01
        bundle.total.backward()
        for part in ("encoder", "decoder"):
            assert all(p.grad.any() for p in given[part].parameters())

    def test_without_them(self, given):
        bundle = self.bundle(given, use_inv_now=False, epoch=12)
        assert [*bundle.raw] == ["L_forward"]
        assert "none of its inputs" in bundle.skipped["L_inv_enc"]
        assert "none of its inputs" in bundle.skipped["L_inv_dec"]
        assert_close(bundle.total, bundle.raw["L_forward"])

    def test_in_the_warm_up_nothing_is_decoded_or_encoded(self, given):
        bundle = self.bundle(given, use_inv_now=True, epoch=5)
        assert calls(given) == ([], [])
        assert bundle.skipped["L_inv_enc"] == "its weight is still 0, 0.01 later"
        assert bundle.skipped["L_spec"] == "its weight is 0"

    def test_the_table_of_the_curriculum(self, given):
        got = [
            self.bundle(given, use_inv_now=True, epoch=epoch).weights["L_inv_dec"]
            for epoch in range(12)
        ]
        assert got == pytest.approx([0] * 6 + [0.002, 0.004, 0.006, 0.008, 0.01, 0.01])

    def test_without_an_epoch_the_weight_is_full(self, given):
        options = {"lambda_inv_enc": 0.5, "lambda_inv_dec": 0.01}
        weights = compute_operator_loss_bundle(**given, weights=options).weights
        assert weights["L_inv_enc"] == 0.05
        assert weights["L_inv_dec"] == 0.01
        options |= {"inverse_loss_max_weight": 0.2, "inverse_loss_warmup_epochs": 0}
        bundle = compute_operator_loss_bundle(**given, weights=options, current_epoch=0)
        assert bundle.weights["L_inv_enc"] == 0.2


class TestCallsOfDecoderAndEncoder:
    """As many as the terms that are on need."""

    @pytest.mark.parametrize(
        ("on", "encoded", "decoded"),
        [
            ({"lambda_rollout": 1.0}, [], []),
            ({"lambda_inv_enc": 1.0}, [], [9]),
            ({"lambda_inv_dec": 1.0}, [9], [9]),
            ({"lambda_inv_enc": 1.0, "lambda_inv_dec": 1.0}, [9], [9]),
        ],
    )
    def test_one_decode_serves_both_terms(self, given, on, encoded, decoded):
        bundle = compute_operator_loss_bundle(**given, weights=on)
        assert calls(given) == (encoded, decoded)
        assert set(bundle.raw) | set(bundle.skipped) == set(TERMS)

    def test_one_draw_serves_both_terms(self, given):
        weights = {"lambda_inv_enc": 1.0, "lambda_inv_dec": 1.0}
        compute_operator_loss_bundle(**given, weights=weights, num_queries=4)
        assert calls(given) == ([4], [4])

    def test_an_encoder_of_all_points_is_given_all(self, given, tiny, fields):
        matrix = tiny.orthogonal(3, seed=0)
        encoder, decoder = tiny.PatchEncoder(matrix), tiny.PatchDecoder(matrix.T)
        code = fields(3, 2, 3, 3).requires_grad_()
        given |= {"encoder": encoder, "decoder": decoder, "encoded_latent": code}
        weights = {"lambda_inv_enc": 1.0, "lambda_inv_dec": 1.0}
        bundle = compute_operator_loss_bundle(**given, weights=weights, num_queries=4)
        assert encoder.calls == [9]
        assert decoder.calls == [4, 4, 4, 1]
        assert bundle.raw["L_inv_dec"] < 1e-28
        compute_operator_loss_bundle(**given, weights=weights)
        assert encoder.calls[1:] == decoder.calls[4:] == [9]

    def test_other_points_are_decoded_by_themselves(self, given, tiny):
        given["query_positions"] = tiny.line(7)
        weights = {"lambda_inv_enc": 1.0, "lambda_inv_dec": 1.0}
        compute_operator_loss_bundle(**given, weights=weights)
        assert calls(given) == ([7], [9, 7])
        compute_operator_loss_bundle(**given, weights=weights, chunk_size=5)
        assert given["decoder"].calls[2:] == [5, 4, 5, 2]

    def test_a_draw_may_be_repeated(self, given):
        def measure(seed):
            return compute_operator_loss_bundle(
                **given, weights=ALL, num_queries=3, generator=generator(seed)
            ).as_floats()

        assert measure(0) == measure(0) != measure(1)


class TestOriginal:
    def test_it_inverts_the_next_latent_and_all_parts_learn(self, given):
        weights = {"lambda_forward": 0.0, "lambda_inv_dec": 1.0}
        bundle = compute_operator_loss_bundle(**given, weights=weights, preset="original")
        expected = inverse_decoding_loss(
            given["pred_next"], given["decoder"], given["encoder"], given["input_positions"]
        )
        assert_close(bundle.raw, {"L_inv_dec": expected})
        (gradient,) = torch.autograd.grad(expected, given["pred_next"], retain_graph=True)
        (got,) = torch.autograd.grad(bundle.total * 20, given["pred_next"])
        assert_close(got, gradient)

    def test_seed_inverts_the_latent_as_a_fixed_target(self, given):
        weights = {"lambda_forward": 0.0, "lambda_inv_dec": 0.05}
        bundle = compute_operator_loss_bundle(**given, weights=weights)
        z = given["encoded_latent"]
        parts = (given["decoder"], given["encoder"], given["input_positions"])
        expected = inverse_decoding_loss(z, *parts, detach_target=True)
        for pair in zip(
            torch.autograd.grad(bundle.raw["L_inv_dec"], z, retain_graph=True),
            torch.autograd.grad(expected, z),
            strict=True,
        ):
            assert_close(*pair)

    def test_what_was_decoded_already_is_used(self, given, fields):
        given |= {"next_latent": given["pred_next"], "pred_next": None, "target_next": None}
        decoded = {"u": fields(9, 2, 9, 1)}
        for number, decoder in ((None, given["decoder"]), (4, None)):
            given |= {"decoder": decoder, "input_fields": None, "input_positions": None}
            bundle = compute_operator_loss_bundle(
                **given,
                weights={"lambda_inv_dec": 1.0},
                preset="original",
                decoded_next=decoded,
                num_queries=number,
            )
            assert [*bundle.raw] == ["L_inv_dec"]
        assert calls(given | {"decoder": given["encoder"]})[0] == [9, 4]

    def test_it_is_refused_with_the_other_preset(self, given):
        for name in ("next_latent", "decoded_next"):
            value = given["pred_next"] if name == "next_latent" else given["input_fields"]
            with pytest.raises(ValueError, match='belong to preset="original"'):
                compute_operator_loss_bundle(**given, **{name: value})

    @pytest.mark.usefixtures("unchecked")
    def test_decoded_at_other_points_is_refused(self, given):
        few = {"u": given["input_fields"]["u"][:, :4]}
        with pytest.raises(ValueError, match="at 4 points, the query positions are 9"):
            compute_operator_loss_bundle(
                **given, weights=ALL, preset="original", decoded_next=few, num_queries=4
            )


class TestWhatIsPassedOn:
    def test_meta_to_an_encoder_that_names_it(self, given):
        seen = []

        class Encoder(nn.Module):
            def forward(self, fields, positions, meta=None):
                seen.append(meta)
                return given["encoded_latent"].detach()

        def without(fields, positions):
            seen.append("no meta")
            return given["encoded_latent"].detach()

        for encoder in (Encoder(), without):
            given["encoder"] = encoder
            compute_operator_loss_bundle(**given, weights={"lambda_inv_dec": 1.0}, meta="here")
        compute_operator_loss_bundle(
            **given | {"encoder": Encoder()}, weights={"lambda_inv_dec": 1.0}
        )
        assert seen == ["here", "no meta", None]

    def test_a_set_encoder_with_meta_is_still_one(self, given, tiny):
        class Encoder(tiny.SetEncoder):
            def forward(self, fields, positions, meta=None):
                return super().forward(fields, positions)

        given["encoder"] = Encoder()
        compute_operator_loss_bundle(
            **given, weights={"lambda_inv_dec": 1.0}, meta="here", num_queries=4
        )
        assert given["encoder"].calls == [4]

    def test_conditions_masks_and_weights_of_fields(self, given, fields):
        seen = []

        def decoder(positions, latent, *, condition):
            seen.append(condition)
            return {"u": positions, "more": positions}

        def encoder(fields, positions, *, condition):
            seen.extend([condition, [*fields]])
            return given["encoded_latent"].detach() + 1

        given |= {"decoder": decoder, "encoder": encoder}
        condition = fields(4, 2, 1)
        bundle = compute_operator_loss_bundle(
            **given,
            weights={"lambda_inv_enc": 1.0, "lambda_inv_dec": 1.0},
            condition=condition,
            mask=torch.tensor([True, False]),
            field_weights={"u": 3.0},
        )
        assert seen[0] is seen[1] is condition
        assert seen[2] == ["u"]  # what the decoder gives besides is not encoded
        error = given["input_positions"][0] - given["input_fields"]["u"][0]
        assert_close(bundle.raw["L_inv_enc"], error.square().mean())
        assert bundle.raw["L_inv_dec"].item() == pytest.approx(1.0)


class TestNothingToDo:
    def test_the_total_is_a_zero_without_a_graph(self, given):
        bundle = compute_operator_loss_bundle(
            input_fields={"u": torch.zeros(1, 2, 1, device="meta")}, weights={"lambda_forward": 0}
        )
        assert bundle.total.device.type == "meta"
        assert not bundle.total.requires_grad
        empty = compute_operator_loss_bundle()
        assert empty.total.item() == 0
        assert empty.raw == empty.weighted == {}
        assert empty.as_floats() == {"total": 0.0}
        assert {*empty.skipped} == {*TERMS}


class TestRefuses:
    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            ({"lambda_inv_en": 1.0}, "no key 'lambda_inv_en'.*Did you mean 'lambda_inv_enc'"),
            ({"lambda_spec": 1.0}, "Did you mean 'lambda_spectral'"),
            ({"inverse_loss_frequency": 2}, "no key 'inverse_loss_frequency'"),
            ({"lambda_forward": -1.0}, "lambda_forward must be finite and not negative, got -1"),
            ({"inverse_loss_warmup_epochs": -1}, "inverse_loss_warmup_epochs must be"),
            ({"lambda_rollout": float("nan")}, "lambda_rollout must be"),
        ],
    )
    def test_weights_that_make_no_sense(self, weights, message):
        with pytest.raises(ValueError, match=message):
            compute_operator_loss_bundle(weights=weights)

    @pytest.mark.parametrize(
        ("name", "terms", "spelled"),
        [
            ("input_fields", "L_inv_enc", "input_fields"),
            ("input_positions", "L_inv_enc", "input_positions"),
            ("encoded_latent", "L_inv_enc", "encoded_latent"),
            ("decoder", "L_inv_enc", "decoder"),
            ("encoder", "L_inv_dec", "encoder"),
            ("query_positions", "L_inv_dec", r"query_positions \(or coords\)"),
            ("pred_next", "L_forward", "pred_next"),
            ("target_next", "L_forward", "target_next"),
            ("pred_rollout", "L_rollout", "pred_rollout"),
            ("target_rollout", "L_rollout", "target_rollout"),
        ],
    )
    def test_some_inputs_without_the_others(self, given, name, terms, spelled):
        with pytest.raises(ValueError, match=f"{terms} has a weight of .* but lacks {spelled}"):
            compute_operator_loss_bundle(**given | {name: None}, weights=ALL)

    def test_also_while_the_weight_is_still_zero(self, given):
        with pytest.raises(ValueError, match=r"L_inv_dec has a weight of 0\.04 but lacks encoder"):
            compute_operator_loss_bundle(**given | {"encoder": None}, weights=ALL, current_epoch=0)

    def test_but_not_of_a_term_that_is_off(self, given):
        bundle = compute_operator_loss_bundle(**given | {"encoder": None})
        assert bundle.skipped["L_inv_dec"] == "its weight is 0"

    def test_original_without_a_next_latent(self, given):
        given |= {"pred_next": None, "target_next": None}
        weights = {"lambda_inv_dec": 1.0}
        with pytest.raises(ValueError, match=r"lacks next_latent \(or pred_next\)"):
            compute_operator_loss_bundle(**given, weights=weights, preset="original")

    @pytest.mark.usefixtures("unchecked")
    def test_positions_by_two_names(self, given):
        x = given["query_positions"]
        for same in (x, x.clone()):
            compute_operator_loss_bundle(**given, coords=same)
        for other in (x + 1e-9, x[:, :4]):
            with pytest.raises(ValueError, match="two names of one thing and differ"):
                compute_operator_loss_bundle(**given, coords=other)
        given["query_positions"] = None
        bundle = compute_operator_loss_bundle(**given, coords=x, weights=ALL)
        assert "L_inv_dec" in bundle.raw

    @pytest.mark.usefixtures("unchecked")
    def test_an_unknown_preset(self):
        with pytest.raises(ValueError, match="preset='sead' is unknown"):
            compute_operator_loss_bundle(preset="sead")

    def test_a_negative_epoch(self):
        with pytest.raises(ValueError, match="counted from 0, got -1"):
            compute_operator_loss_bundle(current_epoch=-1)

    def test_shapes_that_differ(self, given):
        given["target_next"] = given["target_next"][:1]
        with pytest.raises(ValueError, match=r"\(2, 3, 2\) and \(1, 3, 2\)"):
            compute_operator_loss_bundle(**given)

    def test_a_decoder_that_lacks_a_field(self, given, tiny):
        given["decoder"] = tiny.PointDecoder(v=1)
        with pytest.raises(KeyError, match="the decoder's output lacks the field 'u'"):
            compute_operator_loss_bundle(**given, weights=ALL)
