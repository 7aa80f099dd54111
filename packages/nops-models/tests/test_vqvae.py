"""The VQ-VAE: sizes, the order of its tokens, what they depend on; and the projector."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from nops_models import (
    EMA,
    VQVAE,
    Gradient,
    LatentProjector,
    QuantizerConfig,
    StraightThrough,
    VQVAEConfig,
)
from nops_testing.contract import check_round_trip
from torch.testing import assert_close

COLUMNS = {"initial": (0, 2, 4, 6), "temporal": (1, 3, 5, 7, 8, 9)}
CONFIG = VQVAEConfig(
    categories=COLUMNS,
    levels=2,
    ratios=(0.5, 1.5),
    codebook_sizes=(5, 3),
    hidden=(16, 14, 12),
    quantizer=QuantizerConfig(update=EMA(decay=0.5, revive_below=None)),
)
STEPS = 3


@pytest.fixture
def x(normal):
    return normal(0, 30, 10).float()


def vqvae(**changes):
    torch.manual_seed(0)
    return VQVAE(replace(CONFIG, **changes))


def test_default_sizes():
    config = VQVAEConfig(categories={"a": range(12), "b": range(12, 14), "c": (14,)})
    assert config.widths("a") == (8, 12, 20)
    # 7·log₂ 12 = 25.1, in steps of 4: 24, halved per level
    assert config.sizes("a") == (24, 12, 6)
    assert config.widths("b") == config.widths("c") == (4, 4, 4)
    # 7·log₂ 2 = 7: 4; 4.8·√1.024 = 4.86; at least 6
    assert config.sizes("b") == config.sizes("c") == (6, 6, 6)
    large = replace(config, num_train=16_000)  # 4.8·4 = 19.2
    assert large.sizes("a") == (24, 12, 6)
    assert large.sizes("c") == (19, 9, 6)
    assert replace(config, num_train=10**6).sizes("c") == (28, 14, 7)
    assert replace(config, structure="residual").widths("a") == (20, 20, 20)
    assert replace(config, latent_dims=(3, 4, 5)).widths("a") == (3, 4, 5)


@pytest.mark.parametrize("structure", ["parallel", "residual"])
def test_shapes_and_order(x, structure):
    model = vqvae(structure=structure)
    widths = [4, 8, 4, 12] if structure == "parallel" else [8, 8, 12, 12]
    out = model(x)
    assert [z.shape[1] for z in out.latents] == [c.shape[1] for c in out.codes] == widths
    assert model.latent_dim == sum(widths)
    assert out.reconstruction.shape == x.shape
    assert out.partial.shape == (30, 4, 10)
    assert out.indices.shape == (30, 4)
    assert out.commitment_losses.shape == out.codebook_losses.shape == (4,)
    model.eval()
    out = model(x)
    found = model.quantize(model.encode(x))
    assert_close(model.decode([one.code for one in found]), out.reconstruction)
    for i, (z, code) in enumerate(zip(out.latents, out.codes, strict=True)):
        assert_close(out.commitment_losses[i], 0.25 * (z - code).square().mean())
        assert_close(out.partial[:, i], model.partial[i](code))
    assert torch.equal(model.tokens(x), out.indices)


@pytest.mark.parametrize("structure", ["parallel", "residual"])
def test_a_token_depends_on_the_columns_of_its_category_alone(x, structure):
    model = vqvae(structure=structure)
    model(x)
    before = model.tokens(x)
    for first, name in enumerate(COLUMNS):
        moved = x.clone()
        moved[:, COLUMNS[name]] += 1.5
        changed = (model.tokens(moved) != before).any(0).tolist()
        assert changed[2 * first : 2 * first + 2] != [False, False]
        assert changed[2 - 2 * first : 4 - 2 * first] == [False, False]


def test_residual_levels_come_closer_to_one_latent(x):
    model = vqvae(structure="residual", codebook_sizes=(4, 4))
    model(x)
    out = model.eval()(x)
    assert out.latents[0] is out.latents[1]
    coarse, fine = (((out.latents[i] - out.codes[i]) ** 2).mean() for i in (0, 1))
    assert fine < 0.8 * coarse


def test_tokens_move_nothing_and_leave_the_mode(x):
    model = vqvae()
    model(x)
    model.decoder.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert torch.equal(model.tokens(x), model.tokens(x))  # nothing is dropped either
    assert model.training
    assert not model.decoder.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_every_part_is_trained(x):
    model = vqvae(quantizer=QuantizerConfig(update=Gradient(), similarity="cosine", code_dim=3))
    out = model(x)
    loss = (out.reconstruction - x).square().mean() + (out.partial - x[:, None]).square().mean()
    (loss + out.commitment_losses.sum() + out.codebook_losses.sum()).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


class Training:
    """A tiny VQ-VAE under Adam, its tables moved with the steps."""

    def __init__(self, structure):
        self.model = vqvae(structure=structure)
        self.staged = [m for m in self.model.modules() if hasattr(m, "apply_update")]
        for module in self.staged:
            module.defer_updates()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.x = torch.randn(40, 10, generator=torch.Generator().manual_seed(1))

    @property
    def state(self):
        return self

    def state_dict(self):
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def advance(self, step):
        torch.manual_seed(step)
        self.optimizer.zero_grad()
        out = self.model(self.x)
        (out.reconstruction - self.x).square().mean().backward()
        self.optimizer.step()
        for module in self.staged:
            module.apply_update()

    def observe(self):
        return [self.model.tokens(self.x), dict(self.model.state_dict())]


@pytest.mark.parametrize("structure", ["parallel", "residual"])
@pytest.mark.parametrize("cut", range(STEPS + 1))
def test_round_trip(structure, cut):
    check_round_trip(partial(Training, structure), cut=cut, steps=STEPS)


def test_the_configuration_is_plain_values():
    plain = CONFIG.to_dict()
    assert plain["categories"]["initial"] == [0, 2, 4, 6]
    assert plain["quantizer"]["update"]["kind"] == "EMA"
    assert VQVAEConfig.from_dict(plain) == CONFIG
    other = replace(
        CONFIG, quantizer=QuantizerConfig(update=Gradient(weight=2.0), estimator=StraightThrough())
    )
    assert VQVAEConfig.from_dict(other.to_dict()) == other


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"categories": {"a": (0, 2)}}, r"each column 0, 1, … .* exactly once"),
            ({"categories": {"a": (0, 1), "b": (1,)}}, "exactly once"),
            ({"categories": {"a": (0,), "b": ()}}, r"categories \['b'\] have no column"),
            ({"levels": 3}, "ratios needs one positive number for each of the 3 levels"),
            ({"codebook_sizes": (5,)}, "codebook_sizes needs one positive number"),
            ({"hidden": ()}, "hidden needs widths"),
            ({"head_dropout": 1.0}, r"head_dropout must be within \[0, 1\)"),
            ({"structure": "tree"}, "structure must be one of parallel, residual"),
            ({"structure": "residual", "latent_dims": (4, 5)}, "needs equal latent_dims"),
            (
                {"structure": "residual", "quantizer": QuantizerConfig(similarity="cosine")},
                "needs similarity='euclidean', got 'cosine'",
            ),
            (
                {"structure": "residual", "quantizer": QuantizerConfig(code_dim=2)},
                "got code_dim=2; set latent_dims",
            ),
        ],
    )
    def test_configurations(self, changes, message):
        with pytest.raises(ValueError, match=message):
            replace(CONFIG, **changes)

    def test_plain_values(self):
        with pytest.raises(ValueError, match=r"unknown VQVAEConfig keys \['level'\]"):
            VQVAEConfig.from_dict({**CONFIG.to_dict(), "level": 2})
        plain = CONFIG.to_dict()
        plain["quantizer"]["update"]["kind"] = "Table"
        with pytest.raises(ValueError, match=r"kind must be one of EMA, .* got 'Table'"):
            VQVAEConfig.from_dict(plain)

    def test_inputs(self, x):
        with pytest.raises(
            ValueError, match=r"features have shape \(30, 9\), expected \(sample, 10\)"
        ):
            vqvae()(x[:, 1:])
        with pytest.raises(ValueError, match="latents needs 4 tensors, got 1"):
            vqvae().quantize([x])
        with pytest.raises(ValueError, match="codes needs 4 tensors, got 1"):
            vqvae().decode([x])


def test_the_projector_reads_the_spatial_mean(normal):
    features = normal(0, 3, 5, 8, 4, 6).float()
    projector = LatentProjector(8, 7, hidden=16).eval()
    latent = projector(features)
    assert latent.shape == (3, 5, 7)
    assert_close(projector(features.flip(-1, -2).roll(1, -1)), latent)
    assert_close(projector(features[:1, 0]), latent[:1, 0])  # one sample
    assert_close(projector(features[0, 0]), latent[0, 0])
    flat = projector.layers(features.mean((-2, -1)))
    assert_close(flat, latent)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_the_projector_is_trained(normal, norm):
    projector = LatentProjector(8, 7, hidden=16, norm=norm)
    torch.manual_seed(0)
    projector(normal(0, 6, 8, 4, 4).float()).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in projector.parameters())
    if norm == "layer":
        assert projector(normal(0, 1, 8, 4, 4).float()).isfinite().all()


@pytest.mark.usefixtures("unchecked")
def test_the_projector_refuses_what_it_cannot_read():
    for options, message in (
        ({"hidden": 0}, "must be at least 1, got 8, 7 and 0"),
        ({"norm": "group"}, "norm must be one of layer, batch"),
        ({"dropout": 1.0}, r"dropout must be within \[0, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            LatentProjector(8, 7, **options)
    with pytest.raises(
        ValueError, match=r"features have shape \(8,\), expected \(\.\.\., 8, height"
    ):
        LatentProjector(8, 7)(torch.zeros(8))
