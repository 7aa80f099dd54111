"""Sampling of query points: counts, chances, spread, and what is refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import QuerySample, sample_queries
from nops_losses._hilbert import grid_order, hilbert_rank, scattered_order
from nops_losses._query_strategies import inclusion_of, stratum_places, systematic_places
from torch.testing import assert_close

CPU = torch.device("cpu")
GRIDS = [
    ((64, 64), 2048),
    ((64, 64), 1000),
    ((1, 4096), 2048),
    ((16, 256), 2048),
    ((17, 23), 101),
    ((1, 97), 31),
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(strategy, shape, queries, *, batch, seed=0):
    points = math.prod(shape)
    importance = None
    if strategy == "importance":
        importance = torch.rand(batch, points, generator=generator(9)).square()
    return sample_queries(
        points,
        queries,
        batch_size=batch,
        strategy=strategy,
        grid_shape=shape,
        importance=importance,
        generator=generator(seed),
    )


@pytest.mark.parametrize(("shape", "queries"), GRIDS)
@pytest.mark.parametrize("strategy", ["uniform", "stratified", "importance"])
def test_exactly_so_many_distinct_points_in_order(strategy, shape, queries):
    sample = drawn(strategy, shape, queries, batch=5)
    assert sample.num_points == math.prod(shape)
    assert sample.indices.shape == sample.inclusion.shape == (5, queries)
    assert sample.indices.dtype == torch.int64
    assert sample.inclusion.dtype == torch.float64
    assert (sample.indices.diff(dim=-1) > 0).all()
    assert sample.indices.min() >= 0
    assert sample.indices.max() < math.prod(shape)
    assert len({tuple(row) for row in sample.indices.tolist()}) == 5  # one set per sample
    again, other = (drawn(strategy, shape, queries, batch=5, seed=seed) for seed in (0, 1))
    assert torch.equal(sample.indices, again.indices)
    assert torch.equal(sample.inclusion, again.inclusion)
    assert not torch.equal(sample.indices, other.indices)
    if strategy != "importance":
        assert (sample.inclusion == queries / math.prod(shape)).all()


@pytest.mark.parametrize(("shape", "queries"), GRIDS)
def test_over_all_rotations_each_point_is_included_equally(shape, queries):
    """Every start, and every position within the strata as often as any other."""
    points = math.prod(shape)
    small = points // queries
    turns = small * (small + 1)  # a common multiple of both sizes that strata have
    order = grid_order(shape, CPU)
    count = torch.zeros(points, dtype=torch.int64)
    for turn in range(turns):
        within = torch.tensor((turn + 0.5) / turns, dtype=torch.float64).expand(1, queries)
        for start in torch.arange(points)[:, None].split(512):
            places = stratum_places(start, within.expand(len(start), -1), points=points)
            assert places.shape == (len(start), queries)
            count += torch.bincount(order[places].flatten(), minlength=points)
    inclusion = count.double() / (turns * points)
    assert (inclusion - queries / points).abs().max() <= 1e-12


def test_strata_by_hand():
    # 5 places in 2 strata counted from place 4: {4, 0} and {1, 2, 3}
    start = torch.tensor([[4]])
    for within, expected in [((0.0, 0.0), [4, 1]), ((0.49, 0.34), [4, 2]), ((0.5, 0.99), [0, 3])]:
        places = stratum_places(start, torch.tensor([within], dtype=torch.float64), points=5)
        assert places.tolist() == [expected]


@pytest.mark.parametrize(
    ("points", "queries", "first"), [(8, 3, [0, 2, 5]), (11, 4, [0, 2, 5, 8]), (4, 4, [0, 1, 2, 3])]
)
def test_strata_differ_by_one_place_at_most(points, queries, first):
    lowest = torch.zeros(1, queries, dtype=torch.float64)
    start = torch.zeros(1, 1, dtype=torch.int64)
    assert stratum_places(start, lowest, points=points).tolist() == [first]


@pytest.mark.parametrize("strategy", ["uniform", "stratified"])
def test_what_is_drawn_includes_each_point_equally(strategy):
    batch, points, queries = 20_000, 97, 31
    sample = drawn(strategy, (1, points), queries, batch=batch)
    share = torch.bincount(sample.indices.flatten(), minlength=points) / batch
    chance = queries / points
    deviation = math.sqrt(chance * (1 - chance) / batch)
    assert (share - chance).abs().max() < 4.5 * deviation


def variance_of_means(strategy, shape, queries, values):
    sample = drawn(strategy, shape, queries, batch=2000, seed=3)
    means = sample.mean(sample.gather(values[:, None]))[:, 0]
    assert means.mean().item() == pytest.approx(
        values.mean().item(), abs=5 * means.std().item() / math.sqrt(2000)
    )
    return means.var().item()


@pytest.mark.parametrize(("shape", "queries"), [((32, 32), 256), ((17, 23), 101), ((1, 97), 31)])
def test_variances_of_a_linear_field(shape, queries):
    """Uniform: (1 − Q/N)·S²/Q, with N − 1 in S². Stratified: a small part of it."""
    rows, columns = (torch.arange(size, dtype=torch.float64) for size in shape)
    values = (rows[:, None] + 2 * columns).flatten()
    expected = (1 - queries / values.numel()) * values.var().item() / queries
    # 2000 means: the variance's own deviation is 3 %
    assert variance_of_means("uniform", shape, queries, values) == pytest.approx(expected, rel=0.15)
    assert variance_of_means("stratified", shape, queries, values) < 0.25 * expected


class TestHilbert:
    @pytest.mark.parametrize(("dims", "bits"), [(2, 1), (2, 5), (3, 1), (3, 3), (4, 2)])
    def test_it_visits_every_cell_and_steps_to_a_neighbour(self, dims, bits):
        order = grid_order((2**bits,) * dims, CPU)
        assert sorted(order.tolist()) == list(range(2 ** (bits * dims)))
        cells = torch.stack(torch.unravel_index(order, (2**bits,) * dims), dim=-1)
        assert (cells.diff(dim=0).abs().sum(-1) == 1).all()

    def test_it_fills_each_square_before_the_next(self):
        order = grid_order((16, 16), CPU).view(16, 16)
        rows, columns = order // 16, order % 16
        for part in (rows, columns):  # each 16th of the curve is one 4 x 4 square
            assert (part.amax(1) - part.amin(1) == 3).all()

    def test_one_axis_keeps_its_order(self):
        assert grid_order((97,), CPU).tolist() == list(range(97))
        assert grid_order((1, 97), CPU).tolist() == list(range(97))

    def test_the_order_of_a_grid_is_kept(self):
        assert grid_order((8, 6), CPU) is grid_order((8, 6), CPU)

    def test_an_order_made_in_inference_serves_training(self):
        with torch.inference_mode():
            sample_queries(15, 4, strategy="stratified", grid_shape=(3, 5))
        sample = sample_queries(15, 4, strategy="stratified", grid_shape=(3, 5))
        values = torch.randn(1, 15, 2, requires_grad=True)
        sample.gather(values).sum().backward()
        assert values.grad.sum() == 8

    def test_scattered_points_are_ordered_as_their_grid(self):
        axis = torch.arange(16, dtype=torch.float64)
        points = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).flatten(0, 1)
        # cells of a 16-bit grid: the curve enters its squares as that of 4 bits does, as both are even
        assert torch.equal(scattered_order(points * 0.3 - 2), grid_order((16, 16), CPU))

    def test_ranks_by_hand(self):
        cells = torch.tensor([[0, 0], [0, 1], [1, 1], [1, 0]])
        assert sorted(hilbert_rank(cells, bits=1).tolist()) == [0, 1, 2, 3]
        assert hilbert_rank(cells, bits=1).diff().abs().tolist() == [1, 1, 1]


def test_scattered_points_are_drawn_evenly():
    """64 tight clusters of 16 points: of 128 strata with 8 points each, one at least lies within each."""
    axis = torch.arange(8.0)
    centres = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).view(1, 64, 1, 2)
    places = centres + 1e-3 * torch.rand(4, 64, 16, 2, generator=generator(2))
    shuffle = torch.randperm(1024, generator=generator(3))
    positions = places.flatten(1, 2)[:, shuffle]

    def clusters(strategy, positions):
        sample = sample_queries(
            1024, 128, batch_size=4, strategy=strategy, positions=positions, generator=generator()
        )
        return [len(set(row)) for row in (shuffle // 16)[sample.indices].tolist()]

    assert max(clusters("uniform", positions)) < 62  # 64·(1 − e⁻²) = 55 expected
    assert clusters("stratified", positions) == [64] * 4
    assert clusters("stratified", positions[0]) == [64] * 4


class TestImportance:
    def test_inclusion_by_hand(self):
        # Q = 2 of shares 8, 1, 1, 2: the first is certain, the rest share one draw
        got = inclusion_of(torch.tensor([[8.0, 1.0, 1.0, 2.0]], dtype=torch.float64), queries=2)
        assert_close(got, torch.tensor([[1.0, 0.25, 0.25, 0.5]], dtype=torch.float64))

    def test_inclusion_where_the_excess_makes_another_certain(self):
        # Q = 3: 10 is certain, then 4 of 4 + 1 + 1 for two draws is above 1 as well; 1 and 1 share one
        got = inclusion_of(torch.tensor([[1.0, 10.0, 4.0, 1.0]], dtype=torch.float64), queries=3)
        assert_close(got, torch.tensor([[0.5, 1.0, 1.0, 0.5]], dtype=torch.float64))

    @given(
        weights=st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=40),
        data=st.data(),
    )
    def test_inclusion_is_proportional_below_one_and_sums_to_the_count(self, weights, data):
        shares = torch.tensor([weights], dtype=torch.float64)
        queries = data.draw(st.integers(1, len(weights) - 1))
        got = inclusion_of(shares, queries=queries)
        assert got.sum().item() == pytest.approx(queries, rel=1e-12)
        assert got.max() <= 1
        below = got < 1 - 1e-12
        assert (got > 0).all()
        factors = (got / shares)[below]
        if factors.numel():
            assert_close(factors, factors[:1].expand_as(factors), rtol=1e-12, atol=0)
            assert (factors[0] * shares[~below] >= 1 - 1e-9).all()

    def test_over_all_starts_the_hits_are_the_inclusion(self):
        eighths = torch.tensor([8, 1, 3, 7, 2, 3], dtype=torch.float64)  # 24 / 8 = 3 queries
        starts = ((torch.arange(8, dtype=torch.float64) + 0.5) / 8)[:, None]
        places = systematic_places(eighths.expand(8, -1) / 8, starts, queries=3)
        assert (places.diff(dim=-1) > 0).all()
        assert torch.bincount(places.flatten(), minlength=6).tolist() == eighths.long().tolist()

    @pytest.mark.parametrize("start", [0.0, 0.5, 1 - 2**-53])
    @pytest.mark.parametrize("size", [0.9999, 1.0001])
    def test_rounding_neither_repeats_a_place_nor_leaves_the_range(self, start, size):
        # lengths that miss 1 by far more than any rounding
        lengths = torch.full((1, 40), size, dtype=torch.float64)
        for points in (31, 40):
            got = systematic_places(
                lengths[:, :points], torch.tensor([[start]], dtype=torch.float64), queries=31
            )
            assert (got.diff(dim=-1) > 0).all()
            assert got.min() >= 0
            assert got.max() < points

    def test_the_mean_is_unbiased_and_better_where_importance_knows(self):
        points, queries, batch = 60, 12, 20_000
        values = torch.rand(points, generator=generator(5), dtype=torch.float64) ** 6
        options = {"batch_size": batch, "generator": generator(6)}
        sample = sample_queries(
            points,
            queries,
            strategy="importance",
            importance=values + 1e-3,
            importance_floor=0.2,
            **options,
        )
        share = torch.bincount(sample.indices.flatten(), minlength=points) / batch
        chance = torch.zeros(points, dtype=torch.float64)
        chance[sample.indices.flatten()] = sample.inclusion.flatten()
        assert (share - chance).abs().max() < 4.5 * math.sqrt(0.25 / batch)
        assert chance.sum().item() == pytest.approx(queries)
        means = sample.mean(sample.gather(values[:, None]))[:, 0]
        error = means.std().item() / math.sqrt(batch)
        assert means.mean().item() == pytest.approx(values.mean().item(), abs=4 * error)
        plain = sample_queries(points, queries, **options)
        assert means.var() < 0.3 * plain.mean(plain.gather(values[:, None])).var()

    def test_equal_weights_draw_as_likely_as_any(self):
        sample = sample_queries(
            50, 20, strategy="importance", importance=torch.ones(50), batch_size=3
        )
        assert_close(sample.inclusion, torch.full((3, 20), 0.4, dtype=torch.float64))

    def test_weights_of_zero_above_a_floor_are_equal(self):
        sample = sample_queries(9, 3, strategy="importance", importance=torch.zeros(9))
        assert_close(sample.inclusion, torch.full((1, 3), 1 / 3, dtype=torch.float64))

    def test_at_floor_zero_weight_zero_is_never_drawn(self):
        weights = torch.tensor([0.0, 1.0] * 10)
        sample = sample_queries(
            20, 10, strategy="importance", importance=weights, importance_floor=0.0, batch_size=50
        )
        assert (sample.indices == torch.arange(1, 20, 2)).all()
        assert_close(sample.inclusion, torch.ones(50, 10, dtype=torch.float64))


@pytest.mark.parametrize("queries", [12, 13, 1000])
@pytest.mark.parametrize("strategy", ["uniform", "stratified", "importance"])
def test_as_many_queries_as_points_are_all_points_in_order(strategy, queries):
    sample = drawn(strategy, (3, 4), queries, batch=2)
    assert sample.indices.tolist() == [list(range(12))] * 2
    assert (sample.inclusion == 1).all()
    values = torch.arange(12.0).expand(2, 12)
    assert_close(sample.mean(values), torch.tensor([5.5, 5.5]))


class TestTheSample:
    sample = QuerySample(
        indices=torch.tensor([[0, 2], [1, 3]]),
        inclusion=torch.tensor([[0.5, 1.0], [0.25, 0.5]], dtype=torch.float64),
        num_points=4,
    )

    def test_gather(self):
        shared = torch.arange(8.0).view(4, 2)
        expected = torch.tensor([[[0.0, 1.0], [4.0, 5.0]], [[2.0, 3.0], [6.0, 7.0]]])
        assert_close(self.sample.gather(shared), expected)
        assert_close(self.sample.gather(shared.expand(2, 4, 2)), expected)

    def test_mean_by_hand(self):
        # 1/(4·0.5) + 2/(4·1) = 1; 3/(4·0.25) + 4/(4·0.5) = 5
        values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        assert_close(self.sample.mean(values), torch.tensor([1.0, 5.0]))
        assert_close(
            self.sample.mean(values[..., None].expand(2, 2, 3)),
            torch.tensor([[1.0] * 3, [5.0] * 3]),
        )

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize("shape", [(4,), (5, 2), (1, 4, 2), (2, 5, 2), (2, 4, 2, 1)])
    def test_gather_refuses_what_does_not_fit(self, shape):
        with pytest.raises(ValueError, match="sample of 2 x 2 of 4 points"):
            self.sample.gather(torch.zeros(shape))

    @pytest.mark.usefixtures("unchecked")
    def test_mean_refuses_what_does_not_fit(self):
        with pytest.raises(ValueError, match=r"\(2, 4\) do not fit 2 x 2"):
            self.sample.mean(torch.zeros(2, 4))


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"num_queries": 0}, "num_queries must be at least 1, got 0"),
            ({"num_points": 0}, "num_points must be"),
            ({"batch_size": 0}, "batch_size must be"),
            ({"strategy": "random"}, "strategy='random' is unknown"),
            ({"strategy": "stratified"}, "of 12 points needs to know where"),
            ({"grid_shape": (3, 5)}, r"\(3, 5\) has 15 cells, but there are 12 points"),
            ({"grid_shape": (-3, -4)}, r"\(-3, -4\) has 12 cells"),
            ({"grid_shape": ()}, "but there are 12 points"),
            ({"positions": torch.zeros(11, 2)}, r"\(11, 2\)"),
            ({"positions": torch.zeros(12, 4)}, r"1 to 3 coordinates; got shape \(12, 4\)"),
            ({"positions": torch.zeros(2, 12, 2)}, "1 sample"),
            ({"importance": torch.ones(12)}, "strategy='uniform' came with importance"),
            ({"strategy": "importance"}, "came without importance"),
        ],
    )
    def test_what_contradicts_itself(self, change, message):
        options = {"num_points": 12, "num_queries": 4, **change}
        with pytest.raises(ValueError, match=message):
            sample_queries(options.pop("num_points"), options.pop("num_queries"), **options)

    @pytest.mark.parametrize(
        ("weights", "options", "message"),
        [
            ([1.0, math.nan, 1.0], {}, "sample 1 holds a weight that is not finite"),
            ([1.0, math.inf, 1.0], {}, "sample 1 holds a weight that is not finite"),
            ([1.0, -0.1, 1.0], {}, "sample 1 holds a weight that is negative"),
            ([0.0, 0.0, 0.0], {"importance_floor": 0.0}, "sample 1 is positive for 0 of 3"),
            ([1.0, 0.0, 0.0], {"importance_floor": 0.0}, "1 of 3 points, too few for 2"),
            ([1.0, 1.0, 1.0], {"importance_floor": 1.1}, "importance_floor"),
            ([1.0, 1.0, 1.0, 1.0], {}, r"got shape \(2, 4\)"),
        ],
    )
    def test_importance_that_makes_no_sense(self, weights, options, message):
        importance = torch.stack([torch.ones(len(weights)), torch.tensor(weights)])
        with pytest.raises(ValueError, match=message):
            sample_queries(
                3, 2, batch_size=2, strategy="importance", importance=importance, **options
            )
