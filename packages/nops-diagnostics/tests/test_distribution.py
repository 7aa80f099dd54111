"""Distances between sets of features and tokens: hand values, zero at equality, nulls; clusters."""

import math

import pytest
import torch
from nops_diagnostics import cluster_features, feature_distribution, token_divergence
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.stats import energy_distance, wasserstein_distance
from torch.testing import assert_close


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_distances_by_hand():
    # {0, 0, 1, 1} against {2}: W1 = mean |x − 2| = 1.5; energy 2·1.5 − ½ − 0 = 2.5
    found = feature_distribution(column(0, 0, 1, 1), column(2.0))
    assert found.wasserstein.item() == pytest.approx(1.5)
    assert found.energy["all"] == pytest.approx(2.5)


def test_the_truth_has_no_distance_to_itself(fields):
    a = fields(0, 20, 5)
    found = feature_distribution(a, a[torch.randperm(20)], families={"x": (0, 2), "y": (4,)})
    assert_close(found.wasserstein, torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0)
    assert found.energy == pytest.approx({"x": 0, "y": 0}, abs=1e-12)
    tokens = torch.arange(20).view(10, 2) % 4
    assert token_divergence(tokens, tokens, num_codes=4).kl.tolist() == [0, 0]


def test_distances_of_scipy(fields):
    a, b = fields(1, 30, 3), 2 * fields(2, 17, 3) + 1
    found = feature_distribution(a, b, families={str(i): (i,) for i in range(3)})
    for i in range(3):
        x, y = a[:, i].numpy(), b[:, i].numpy()
        assert found.wasserstein[i].item() == pytest.approx(wasserstein_distance(x, y))
        # scipy takes √(2 ∫ (F − G)²), ours is the square of it
        assert found.energy[str(i)] == pytest.approx(energy_distance(x, y) ** 2)


def test_energy_sees_a_dependence_that_columns_do_not(fields):
    a = fields(3, 400, 2)
    b = torch.stack([fields(4, 400), 0 * fields(4, 400)], 1)
    b[:, 1] = b[:, 0]  # each column standard normal, but one and the same
    found = feature_distribution(a, b, num_null=20)
    assert (found.wasserstein < 2 * found.wasserstein_null).all()
    assert found.energy["all"] > 3 * found.energy_null["all"]


def test_halves_share_no_trajectory(fields):
    # Four clips of each trajectory, nearly one and the same: halves of clips would both hold it.
    a, b = (fields(seed, 20, 2).repeat_interleave(4, 0) for seed in (7, 8))
    groups = torch.arange(20).repeat_interleave(4)
    single = feature_distribution(a[::4], b[::4], seed=1)
    whole, apart = (feature_distribution(a, b, groups=g, seed=1) for g in (groups, None))
    assert_close(whole.wasserstein_null, single.wasserstein_null)
    assert (apart.wasserstein_null < 0.9 * whole.wasserstein_null).all()
    tokens = (a > 0).long()
    assert_close(
        token_divergence(tokens, tokens, num_codes=2, groups=torch.arange(80)).null,
        token_divergence(tokens, tokens, num_codes=2).null,
    )


@pytest.mark.usefixtures("unchecked")
def test_groups_that_do_not_fit_are_refused(fields):
    a = fields(9, 8, 2)
    with pytest.raises(ValueError, match=r"expected \(8,\)"):
        feature_distribution(a, a, groups=torch.arange(7))
    with pytest.raises(
        ValueError, match=r"4 samples \(or groups\) of a, 1 of b and 1 split, got 2"
    ):
        token_divergence((a > 0).long(), (a > 0).long(), num_codes=2, groups=torch.arange(8) // 4)


def test_nulls_cover_chance_and_not_a_shift(fields):
    a, b = fields(5, 100, 4), fields(6, 100, 4)
    same, other = feature_distribution(a, b), feature_distribution(a, b + 1)
    assert (same.wasserstein <= same.wasserstein_null * 1.2).all()
    assert (other.wasserstein > 1.5 * other.wasserstein_null).all()
    assert same.energy["all"] < same.energy_null["all"] < other.energy["all"]


def test_divergence_by_hand():
    # counts (4, 0) and (0, 4), ½ added: p = (0.9, 0.1), q = (0.1, 0.9)
    a, b = torch.tensor([0, 0, 0, 0]), torch.tensor([1, 1, 1, 1])
    expected = (0.9 - 0.1) * math.log(9)
    assert token_divergence(a, b, num_codes=2).kl.item() == pytest.approx(expected)
    both = token_divergence(torch.stack([a, a], 1), torch.stack([b, a], 1), num_codes=(2, 3))
    assert both.kl.tolist() == pytest.approx([expected, 0.0])


def test_divergence_beside_its_null():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randint(4, (2, 400, 1), generator=generator)
    found = token_divergence(a, b, num_codes=4)
    assert found.kl.item() < 2 * found.null.item() < 0.1
    assert token_divergence(a, b // 2, num_codes=4).kl.item() > 10 * found.null.item()


@pytest.mark.usefixtures("unchecked")
def test_refused_sets(fields):
    with pytest.raises(ValueError, match="same columns"):
        feature_distribution(fields(0, 5, 2), fields(0, 5, 3))
    with pytest.raises(ValueError, match="at least 4 samples"):
        feature_distribution(fields(0, 3, 2), fields(0, 5, 2))
    tokens = torch.zeros(5, 2, dtype=torch.long)
    with pytest.raises(ValueError, match="tokens of b, quantiser 1, range from 7 to 7"):
        token_divergence(tokens, tokens + torch.tensor([0, 7]), num_codes=4)
    with pytest.raises(ValueError, match="3 entries for 2 quantisers"):
        token_divergence(tokens, tokens, num_codes=(1, 2, 3))
    with pytest.raises(ValueError, match="expected integers"):
        token_divergence(tokens.float(), tokens, num_codes=4)


def planted(fields, *sizes, samples=200):
    """Columns in groups that share a factor, signs mixed."""
    blocks = []
    for place, size in enumerate(sizes):
        factor = fields(50 + place, samples, 1)
        block = factor + 0.3 * fields(90 + place, samples, size)
        block[:, ::2] *= -1
        blocks.append(block)
    return torch.cat(blocks, dim=1)


def test_planted_groups_are_found(fields):
    features = planted(fields, 4, 3, 5, 6)
    found = cluster_features(features, families={"a": range(12), "b": range(12, 18)})
    # all of b hangs together, but two groups are the fewest looked at unless too small
    assert found["a/0"] == (0, 1, 2, 3)
    assert found["a/1"] == (4, 5, 6)
    assert found["a/2"] == (7, 8, 9, 10, 11)
    assert sorted(n for name, places in found.items() if name[0] == "b" for n in places) == [
        *range(12, 18)
    ]
    moved = cluster_features(features.flip(1), families={"a": range(6, 18)})
    assert {frozenset(17 - n for n in places) for places in moved.values()} == {
        frozenset(places) for name, places in found.items() if name[0] == "a"
    }


def test_small_groups_join_their_nearest(fields):
    features = planted(fields, 4, 2, 4)
    features[:, 4:6] += 0.5 * features[:, :1]  # nearest to the first group
    found = cluster_features(features, families={"x": range(10)})
    assert found == {"x/0": (0, 1, 2, 3, 4, 5), "x/1": (6, 7, 8, 9)}
    assert cluster_features(features, families={"x": (0, 4, 6)}) == {"x/0": (0, 4, 6)}


@pytest.mark.parametrize("seed", [70, 71, 72])
def test_linkage_is_that_of_scipy(fields, seed):
    from nops_diagnostics._clusters import _linkage

    features = fields(seed, 12, 14)  # no structure: every merger is close
    distance = (1 - torch.corrcoef(features.T).clamp(-1, 1).abs()).fill_diagonal_(0)
    tree = linkage(squareform(distance.numpy(), checks=False), method="average")
    for groups in _linkage(distance):
        labels = fcluster(tree, len(groups), criterion="maxclust")
        expected = {frozenset((labels == i).nonzero()[0].tolist()) for i in set(labels)}
        assert {frozenset(group) for group in groups} == expected


def test_silhouette_by_hand():
    from nops_diagnostics._clusters import _silhouette

    # points 0, 1, 5 on a line in groups {0, 1}, {5}: (5−1)/5, (4−1)/4, 0
    points = torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64)
    distance = (points[:, None] - points).abs()
    assert _silhouette(distance, [(0, 1), (2,)]) == pytest.approx((0.8 + 0.75) / 3)


@pytest.mark.usefixtures("unchecked")
def test_refused_clusters(fields):
    features = fields(0, 10, 8)
    with pytest.raises(ValueError, match=r"family 'x' has columns \(0, 9\)"):
        cluster_features(features, families={"x": (0, 9)})
    features[:, 2] = 1.0
    with pytest.raises(ValueError, match=r"columns \[2\] are constant"):
        cluster_features(features, families={"x": range(8)})
    with pytest.raises(ValueError, match="at least 3 samples"):
        cluster_features(features[:2], families={"x": range(8)})
