"""The inverse losses in closed form."""

import pytest
import torch
from nops_losses import inverse_decoding_loss, inverse_encoding_loss
from torch.testing import assert_close


class TestClosedForms:
    def test_an_orthogonal_patch_encoder_and_its_transpose(self, tiny, fields):
        matrix, u = tiny.orthogonal(4, seed=0), fields(1, 3, 20, 1)
        encoder, decoder = tiny.PatchEncoder(matrix), tiny.PatchDecoder(matrix.T)
        x = tiny.line(20)
        latent = encoder({"u": u}, x)
        assert inverse_encoding_loss({"u": u}, latent, decoder, x) < 1e-28
        assert inverse_decoding_loss(latent, decoder, encoder, x) < 1e-28
        wrong = tiny.PatchDecoder(tiny.orthogonal(4, seed=1).T)
        assert inverse_encoding_loss({"u": u}, latent, wrong, x) > 0.1

    @pytest.mark.parametrize("rank", [1, 3, 5])
    def test_fewer_directions_lose_their_energy_and_find_their_code(self, tiny, fields, rank):
        u, x = fields(0, 12, 8, 1), tiny.line(8)
        _, sizes, directions = torch.linalg.svd(u[..., 0])
        kept = directions[:rank]
        encoder, decoder = tiny.PatchEncoder(kept.T), tiny.PatchDecoder(kept)
        latent = encoder({"u": u}, x)
        discarded = sizes[rank:].square().sum() / u.numel()
        assert_close(inverse_encoding_loss({"u": u}, latent, decoder, x), discarded)
        assert inverse_decoding_loss(latent, decoder, encoder, x) < 1e-28

    def test_more_directions_lose_nothing_but_the_code_outside_their_range(self, tiny, fields):
        u, x, elsewhere = fields(0, 5, 8, 1), tiny.line(8), fields(1, 5, 1, 11)
        embedding = tiny.orthogonal(11, seed=2)[:8]  # rows are orthonormal
        encoder, decoder = tiny.PatchEncoder(embedding), tiny.PatchDecoder(embedding.T)
        assert inverse_encoding_loss({"u": u}, encoder({"u": u}, x), decoder, x) < 1e-28
        outside = elsewhere - elsewhere @ embedding.T @ embedding
        got = inverse_decoding_loss(elsewhere, decoder, encoder, x)
        assert_close(got, outside.square().mean())
        assert got > 0.1

    def test_an_offset_on_a_perfect_decoder(self, tiny, fields):
        matrix, u, x = tiny.orthogonal(4, seed=0), fields(1, 3, 20, 1), tiny.line(20)
        latent = tiny.PatchEncoder(matrix)({"u": u}, x)
        decoder = tiny.PatchDecoder(matrix.T, offset=0.3)
        assert inverse_encoding_loss({"u": u}, latent, decoder, x).item() == pytest.approx(0.09)

    def test_fields_weigh_the_same_whatever_their_channels(self):
        u = {"p": torch.zeros(2, 4, 1), "v": torch.zeros(2, 4, 3)}
        decoded = {"p": u["p"] + 1, "v": u["v"] + 2, "more": torch.zeros(0)}

        def measure(**options):
            latent, x = torch.zeros(2, 1, 1), torch.zeros(4, 1)
            return inverse_encoding_loss(u, latent, lambda x, z: decoded, x, **options).item()

        assert measure() == pytest.approx(2.5)  # (1 + 4)/2, and not (1 + 3·4)/4
        assert measure(field_weights={"p": 3.0, "v": 1.0}) == pytest.approx(1.75)
        assert measure(field_weights={"p": 0.0, "v": 1.0}) == pytest.approx(4)
