"""Encoders of fields on grids and on sets of points."""

import logging
import math

import nops_models._upt_graph as graph
import pytest
import torch
from nops_models import GridEncoder, SupernodeEncoder, UPTConfig
from nops_models._upt_graph import draw_nodes, neighbours
from torch.nn import functional
from torch.testing import assert_close

SHAPES = {1: (12,), 2: (6, 8), 3: (4, 6, 2)}
PATCHES = {1: (3,), 2: (3, 2), 3: (2, 3, 1)}


def grid_config(ndim=2, **options):
    shape, patch = SHAPES[ndim], PATCHES[ndim]
    cells = math.prod(shape) // math.prod(patch)
    defaults = {"grid_shape": shape, "patch_size": patch, "tokens": cells, "dim": 8}
    return UPTConfig({"u": 1, "v": 2}, ndim, **{**defaults, **options})


def set_config(ndim=2, **options):
    defaults = {"supernodes": 7, "radius": 0.35, "max_neighbors": 6, "tokens": 3, "dim": 8}
    return UPTConfig({"u": 1, "v": 2}, ndim, encoder="supernodes", **{**defaults, **options})


def centres(shape, dtype=torch.float64):
    axes = [(torch.arange(cells, dtype=dtype) + 0.5) / cells for cells in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)


@pytest.fixture
def fields(normal):
    return lambda points, history=1: {
        "u": normal(0, 2, points, history),
        "v": normal(1, 2, points, 2 * history),
    }


class TestGrid:
    @pytest.mark.parametrize("ndim", [1, 2, 3])
    def test_patches_are_a_strided_convolution(self, shaken, fields, ndim):
        # The peer knows the grid as a grid, so rows, columns and channels cannot be mixed up.
        model = shaken(GridEncoder(grid_config(ndim)).double())
        shape, patch = SHAPES[ndim], PATCHES[ndim]
        points = math.prod(shape)
        values, positions = fields(points), centres(shape)
        convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[ndim - 1]
        total = 0
        for layer, value in zip(model.patches, values.values(), strict=True):
            channels = value.shape[-1]
            kernel = layer.weight.view(8, *patch, channels).movedim(-1, 1)
            image = value.movedim(-1, 1).reshape(2, channels, *shape)
            total = total + convolve(image, kernel, stride=patch)
        expected = total.flatten(2).movedim(1, 2)
        middles = centres([cells // size for cells, size in zip(shape, patch, strict=True)])
        expected = expected + model.centres(model.waves(middles))
        assert_close(model._tokens(values, positions), expected)

    @pytest.mark.parametrize("ndim", [1, 2, 3])
    def test_tokens_of_any_dimension(self, shaken, fields, ndim):
        points = math.prod(SHAPES[ndim])
        for tokens in (4, 3):  # 3: fewer than there are patches
            model = shaken(GridEncoder(grid_config(ndim, tokens=tokens)).double())
            latent = model(fields(points), centres(SHAPES[ndim]))
            assert latent.shape == (2, tokens, 8)
            assert_close(
                latent.square().mean(-1), torch.ones(2, tokens).double(), rtol=1e-3, atol=0
            )

    def test_as_many_tokens_as_patches_need_no_queries(self):
        assert GridEncoder(grid_config()).pool is None
        assert GridEncoder(grid_config(tokens=5)).pool.query.shape == (5, 8)

    def test_positions_may_differ_in_a_batch(self, shaken, fields):
        model, values = shaken(GridEncoder(grid_config()).double()), fields(48)
        both = torch.stack((centres((6, 8)), centres((6, 8)).flip(0)))
        latent = model(values, both)
        for sample in (0, 1):
            one = {name: value[sample : sample + 1] for name, value in values.items()}
            assert_close(latent[sample : sample + 1], model(one, both[sample]))
        assert (latent[1] - model(values, both[0])[1]).abs().max() > 1e-3

    def test_reads_a_history(self, shaken, fields):
        model = shaken(GridEncoder(grid_config(history=2)).double())
        values, positions = fields(48, history=2), centres((6, 8))
        latent = model(values, positions)
        for state in (0, 1):
            changed = {**values, "u": values["u"].clone()}
            changed["u"][..., state] += 1
            assert (model(changed, positions) - latent).abs().max() > 1e-3

    def test_does_not_take_subsets(self):
        assert GridEncoder(grid_config()).accepts_point_subset is False
        assert SupernodeEncoder(set_config()).accepts_point_subset is True

    @pytest.mark.usefixtures("unchecked")
    def test_refuses_another_grid(self, fields):
        model = GridEncoder(grid_config()).double()
        with pytest.raises(ValueError, match=r"\(6, 8\), 48 points, got 24. .*'supernodes'"):
            model(fields(24), centres((6, 4)))
        with pytest.raises(ValueError, match="'v' has 24 points, the positions 48"):
            model({**fields(48), "v": fields(24)["v"]}, centres((6, 8)))
        with pytest.raises(ValueError, match="supernodes have no meaning"):
            model(fields(48), centres((6, 8)), supernodes=torch.arange(3))

    @pytest.mark.usefixtures("unchecked")
    def test_refuses_fields_that_do_not_fit(self, fields):
        model, positions = GridEncoder(grid_config(history=2)).double(), centres((6, 8))
        with pytest.raises(ValueError, match=r"'u' .* \(sample, point, 2\), 2 states of 1 channel"):
            model(fields(48), positions)
        with pytest.raises(KeyError, match="a field 'v'; given: u"):
            model({"u": fields(48, 2)["u"]}, positions)
        with pytest.raises(ValueError, match=r"positions need .* got \(48, 1\)"):
            model(fields(48, 2), positions[:, :1])


@pytest.fixture
def scattered(normal):
    """Positions [2, n, 2] in the unit square."""
    return lambda points: normal(5, 2, points, 2).mul(0.5).sigmoid()


class TestGraph:
    @pytest.mark.parametrize("periodic", [(), (1,), (0, 1)])
    @pytest.mark.parametrize("at_once", [1, 10**6])
    def test_equals_all_pairs(self, monkeypatch, scattered, periodic, at_once):
        monkeypatch.setattr(graph, "DISTANCES_AT_ONCE", at_once)
        config = set_config(periodic=periodic, lengths=(1.0, 0.8), radius=0.3, max_neighbors=40)
        positions, nodes = scattered(40), torch.stack((torch.arange(7), torch.arange(7, 14)))
        index, counts = neighbours(positions, nodes, config)
        for sample in (0, 1):
            for place, node in enumerate(nodes[sample].tolist()):
                found = set(index[sample, place][counts[sample, place]].tolist())
                images = [
                    positions[sample] + torch.tensor([0.0 + i, 0.8 * j], dtype=torch.float64)
                    for i in ([-1, 0, 1] if 0 in periodic else [0])
                    for j in ([-1, 0, 1] if 1 in periodic else [0])
                ]
                here = positions[sample, node]
                nearest = torch.stack([(image - here).norm(dim=-1) for image in images]).amin(0)
                assert found == set((nearest <= 0.3).nonzero().flatten().tolist())

    def test_keeps_the_nearest_and_the_node_itself(self):
        positions = torch.tensor([[[0.0], [0.1], [0.25], [0.4], [9.0]]])
        config = set_config(1, radius=0.5, max_neighbors=3)
        index, counts = neighbours(positions, torch.tensor([[1, 4]]), config)
        assert set(index[0, 0].tolist()) == {0, 1, 2}
        assert counts[0].sum(-1).tolist() == [3, 1]
        assert index[0, 1].tolist() == [4, 4, 4]  # places that do not count hold the node

    def test_drawn_nodes_are_a_uniform_subset(self):
        generator = torch.Generator().manual_seed(0)
        nodes = draw_nodes(4000, 10, 3, device=torch.device("cpu"), generator=generator)
        assert all(len(set(row)) == 3 for row in nodes.tolist())
        share = nodes.flatten().bincount(minlength=10) / 4000
        # 3/10 each, standard deviation sqrt(0.3·0.7/4000) = 0.0072
        assert_close(share, torch.full((10,), 0.3), rtol=0, atol=0.03)
        again = torch.Generator().manual_seed(0)
        assert torch.equal(
            nodes, draw_nodes(4000, 10, 3, device=torch.device("cpu"), generator=again)
        )


class TestSupernodes:
    def test_order_of_points_is_free(self, shaken, fields, scattered):
        model = shaken(SupernodeEncoder(set_config()).double())
        values, positions, nodes = fields(30), scattered(30), torch.arange(7)
        order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
        moved = {name: value[:, order] for name, value in values.items()}
        same = order.argsort()[:7]
        latent = model(values, positions, supernodes=nodes)
        assert_close(model(moved, positions[:, order], supernodes=same), latent)
        assert_close(model(values, positions, supernodes=nodes.flip(0)), latent)

    def test_points_beyond_the_radius_have_no_influence(self, shaken, fields, scattered):
        model = shaken(SupernodeEncoder(set_config(max_neighbors=40)).double())
        values, positions = fields(30), scattered(30).clone()
        positions[:, 20:] += 10
        near = {name: value[:, :20] for name, value in values.items()}
        latent = model(near, positions[:, :20], supernodes=torch.arange(7))
        far = {name: value.clone().requires_grad_() for name, value in values.items()}
        found = model(far, positions, supernodes=torch.arange(7))
        assert_close(found, latent)
        found.square().sum().backward()
        assert far["v"].grad[:, 20:].abs().max() == 0
        assert far["v"].grad[:, :20].abs().max() > 0
        broken = {name: value.clone() for name, value in values.items()}
        broken["u"][:, 20:] = math.nan
        assert_close(model(broken, positions, supernodes=torch.arange(7)), latent)

    def test_padding_changes_nothing(self, shaken, fields, scattered):
        values, positions, nodes = fields(30), scattered(30), torch.arange(7)
        latents = []
        for places in (25, 30, 500):  # each of them enough for all within the radius
            config = set_config(max_neighbors=places, radius=0.15)
            model = shaken(SupernodeEncoder(config).double())
            latents.append(model(values, positions, supernodes=nodes))
        few = neighbours(positions, nodes.expand(2, -1), set_config(max_neighbors=25, radius=0.15))[
            1
        ]
        assert 1 < few.sum(-1).max() < 25
        for latent in latents[1:]:
            assert_close(latent, latents[0])

    def test_refinement_converges(self, shaken):
        # Midpoints of ever finer cells around fixed supernodes: a mean tends to an integral. The
        # radius ends between two points, so the order is one.
        config = set_config(1, radius=0.2, max_neighbors=10**4, tokens=3)
        model = shaken(SupernodeEncoder(config).double())
        latents = []
        for cells in (250, 500, 1000, 8000):
            x = torch.cat((torch.tensor([0.3, 0.5, 0.6]).double(), centres((cells,))[:, 0]))
            values = {
                "u": torch.sin(6 * x)[None, :, None],
                "v": torch.stack((torch.cos(6 * x), x), dim=-1)[None],
            }
            with torch.no_grad():
                latents.append(model(values, x[:, None], supernodes=torch.arange(3)))
        errors = [(latent - latents[-1]).norm().item() for latent in latents[:-1]]
        assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2] > 0

    def test_messages_equal_a_network_of_pairs(self, shaken, fields, scattered):
        model = shaken(SupernodeEncoder(set_config(encoder_width=16, max_neighbors=40)).double())
        pool, values, positions = model.messages, fields(20), scattered(20)
        nodes = torch.arange(7).expand(2, -1)
        index, counts = neighbours(positions, nodes, model.config)
        both = torch.cat(list(values.values()), dim=-1)
        found = pool(both, positions, nodes, index, counts)
        points = pool.features(both) + pool.place(pool.waves(positions))
        weight = torch.cat((pool.source.weight, pool.destination.weight), dim=1)
        for sample in (0, 1):
            for node in range(7):
                near = (positions[sample] - positions[sample, node]).norm(dim=-1) <= 0.35
                source = points[sample][near]
                pairs = torch.cat((source, points[sample, node].expand_as(source)), dim=-1)
                hidden = functional.linear(pairs, weight, pool.source.bias)
                expected = pool.output(pool.message(hidden)).mean(0)
                assert_close(found[sample, node], expected)

    def test_are_drawn_anew_unless_given(self, shaken, fields, scattered):
        model = shaken(SupernodeEncoder(set_config()).double())
        values, positions = fields(30), scattered(30)
        seeded = [torch.Generator().manual_seed(seed) for seed in (3, 3, 4)]
        first, again, other = (model(values, positions, generator=g) for g in seeded)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    @pytest.mark.parametrize("ndim", [1, 3])
    def test_other_dimensions_and_a_subset(self, shaken, fields, normal, ndim):
        model = shaken(SupernodeEncoder(set_config(ndim)).double())
        positions = normal(5, 40, ndim).sigmoid()
        values = fields(40)
        assert model(values, positions).shape == (2, 3, 8)
        some = {name: value[:, ::2] for name, value in values.items()}
        assert model(some, positions[::2]).shape == (2, 3, 8)

    def test_waves_that_fill_the_width_need_no_map(self):
        assert isinstance(SupernodeEncoder(set_config(dim=16)).messages.place, torch.nn.Identity)
        assert SupernodeEncoder(set_config(dim=8)).messages.place.weight.shape == (8, 16)

    def test_says_once_that_most_hear_the_nearest_only(self, fields, scattered, caplog):
        model = SupernodeEncoder(set_config(radius=5.0)).double()
        with caplog.at_level(logging.WARNING):
            model(fields(30), scattered(30))
            model(fields(30), scattered(30))
        assert [record.getMessage() for record in caplog.records] == [
            "radius=5 holds more than max_neighbors=6 points for 100 % of the supernodes, "
            "which hear the nearest only: take a smaller radius or more neighbours."
        ]
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            SupernodeEncoder(set_config(radius=0.01)).double()(fields(30), scattered(30))
        assert not caplog.records

    @pytest.mark.usefixtures("unchecked")
    def test_refuses_more_than_there_are_points(self, fields, scattered):
        model = SupernodeEncoder(set_config()).double()
        with pytest.raises(ValueError, match="7 supernodes cannot be chosen among 6 points"):
            model(fields(6), scattered(6))
        with pytest.raises(ValueError, match=r"30 supernodes .* 29 points"):
            model(fields(29), scattered(29), supernodes=torch.arange(30))
