"""How a table starts, moves and revives: staged with the step, and in two processes as in one."""

import runpy
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch
from nops_models import EMA, Gradient, SimVQ, VectorQuantizer
from nops_testing.contract import check_round_trip
from nops_testing.ranks import run_ranks
from torch.testing import assert_close

SCRIPT = Path(__file__).with_name("quantizer_ranks.py")
STEPS = 3


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def unchanged(module, before):
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_separated_clusters_are_all_found(clusters):
    points, label = clusters(24, 40)
    best = torch.stack([points[label == i].mean(0) for i in range(24)])
    least = (points - best[label]).square().sum(1).mean()
    quantizer = VectorQuantizer(8, num_codes=24, update=EMA())
    for part in (points, *points.split(240), *points.split(240)):
        quantizer(part)
    found = quantizer.eval()(points)
    assert found.distance.mean() < 1.02 * least
    assert len(found.index.unique()) == 24


def test_the_start_has_the_counts_of_its_cells(clusters):
    points, label = clusters(4, 10)
    points = points[:25]  # clusters 0 … 3 with 7, 6, 6 and 6 points
    quantizer = VectorQuantizer(8, num_codes=4, update=EMA(revive_below=None))
    found = quantizer(points)
    assert sorted(quantizer.cluster_size.tolist()) == [6.0, 6.0, 6.0, 7.0]
    mean = points[label[:25] == 0].mean(0)
    assert_close(quantizer.codebook[found.index[0]], mean, rtol=1e-4, atol=1e-4)
    assert quantizer.started
    assert quantizer.num_updates == 1


def test_fewer_vectors_than_codes_fill_the_table_with_repeats(normal):
    quantizer = VectorQuantizer(3, num_codes=7, update=EMA(revive_below=None))
    z = normal(0, 2, 3).float()
    with pytest.warns(UserWarning, match="2 vectors for the k-means start of 7 codes"):
        found = quantizer(z)
    assert found.distance.max() < 1e-3
    assert quantizer.codebook.isfinite().all()
    assert (quantizer.codebook - z[:, None]).norm(dim=-1).amin(0).max() < 0.1
    quantizer(z)  # no second warning


def test_unused_codes_take_vectors_of_the_step(place):
    update = EMA(decay=0.5, eps=0.0, kmeans_init=False, revive_below=0.75)
    quantizer = VectorQuantizer(1, num_codes=3, update=update)
    place(quantizer, [0.0, 50.0, 90.0])
    z = torch.tensor([[1.0], [2.0], [3.0], [52.0]])
    quantizer(z)
    # N = (2, 1, 0.5): the third is revived
    assert quantizer.cluster_size.tolist() == [2.0, 1.0, 0.75]
    assert quantizer.codebook[2] in z
    assert_close(quantizer.book.sums[2], 0.75 * quantizer.codebook[2])
    assert_close(quantizer.codebook[:2], torch.tensor([[1.5], [51.0]]))


def test_no_code_is_revived_by_what_is_masked_out(place):
    quantizer = VectorQuantizer(
        1, num_codes=20, update=EMA(decay=0.5, kmeans_init=False, revive_below=0.9)
    )
    place(quantizer, torch.arange(20.0))
    z = torch.tensor([[1.0], [2.0], *[[1e6]] * 48])
    with pytest.warns(UserWarning, match=r"0\.1 vectors per code"):
        quantizer(z, torch.arange(50) < 2)
    revived = quantizer.codebook[quantizer.cluster_size == quantizer.cluster_size.new_tensor(0.9)]
    assert sorted(revived.view(-1).tolist()) == [1.0, 2.0]  # no more than there are


def test_revival_of_codes_that_are_used_is_said_once(normal):
    quantizer = VectorQuantizer(2, num_codes=8)
    z = normal(0, 9, 2).float()
    with pytest.warns(
        UserWarning, match=r"revive_below=2\.0 replaces codes that are used: .* 1\.1"
    ):
        quantizer(z)
    quantizer(z)


@pytest.mark.parametrize("update", [EMA(), EMA(kmeans_init=False), Gradient(), SimVQ()])
def test_eval_and_discard_change_nothing(normal, update):
    quantizer = VectorQuantizer(3, num_codes=4, update=update)
    before = state(quantizer)
    quantizer.eval()(normal(0, 50, 3).float())
    assert unchanged(quantizer, before)
    quantizer.train().defer_updates()
    for _ in range(2):
        first = quantizer(normal(1, 50, 3).float())
        quantizer(normal(2, 50, 3).float())
        quantizer.discard_update()
        assert unchanged(quantizer, before)
    quantizer.apply_update()
    assert unchanged(quantizer, before)
    again = quantizer(normal(1, 50, 3).float())
    assert torch.equal(again.index, first.index)  # a start that was thrown away is made again
    quantizer.apply_update()
    assert not unchanged(quantizer, before)
    assert quantizer.num_updates == 1


def test_micro_batches_count_as_one(normal):
    update = EMA(decay=0.6, revive_below=1.5)
    whole = VectorQuantizer(3, num_codes=6, update=update)
    whole(normal(0, 40, 3).float())
    parts = deepcopy(whole)
    parts.defer_updates()
    for step in range(1, 5):
        z = normal(step, 24, 3).float() + 2 * step  # old codes die
        whole(z)
        for part in z.split(8):
            parts(part)
        parts.apply_update()
        for name, value in whole.state_dict().items():
            assert_close(parts.state_dict()[name], value)
    assert whole.num_updates == 5


class Training:
    """A linear encoder, a quantizer and Adam."""

    def __init__(self, update):
        torch.manual_seed(0)
        quantizer = VectorQuantizer(3, num_codes=6, update=update, code_dim=2)
        quantizer.defer_updates()
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 3), quantizer)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.05)
        self.x = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))

    @property
    def state(self):
        return self

    def state_dict(self):
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def advance(self, step):
        self.optimizer.zero_grad()
        for part in (self.x + step).split(20):
            found = self.model(part)
            loss = (found.code - part[:, :3]).square().mean()
            (loss + found.commitment_loss + found.codebook_loss).backward()
        self.optimizer.step()
        self.model[1].apply_update()

    def observe(self):
        self.model.eval()
        with torch.no_grad():
            found = self.model(self.x)
        self.model.train()
        return [*vars(found).values(), dict(self.model.state_dict())]


@pytest.mark.parametrize("update", [EMA(decay=0.5, revive_below=3.0), Gradient(), SimVQ()])
@pytest.mark.parametrize("cut", range(STEPS + 1))
def test_round_trip(update, cut):
    check_round_trip(partial(Training, update), cut=cut, steps=STEPS)


def test_two_processes_equal_one(tmp_path):
    run_ranks(SCRIPT, [tmp_path])
    script = runpy.run_path(str(SCRIPT))
    for case, deferred in script["CASES"].items():
        first, second = (
            torch.load(tmp_path / f"{case}_{rank}.pt", weights_only=True) for rank in (0, 1)
        )
        assert all(torch.equal(first[name], second[name]) for name in first)
        alone = script["train"](slice(None), deferred=deferred)
        assert alone["num_updates"] == 5
        for name, expected in alone.items():
            assert_close(first[name], expected, rtol=1e-5, atol=1e-6)
