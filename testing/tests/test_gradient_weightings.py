"""Every weighting from gradients in the engine: it trains, accumulates, meets other ranks, goes on exactly."""

import importlib.util
import math
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from nops_testing.contract import same
from nops_testing.ranks import run_ranks
from nops_train import InputError, ListSource

SCRIPT = Path(__file__).with_name("gradient_ranks.py")


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


toy = load(SCRIPT)
MAKE, trained = toy.MAKE, toy.trained
each = pytest.mark.parametrize("name", MAKE)


@pytest.fixture(scope="module", autouse=True)
def quick_disk():
    """No waiting for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What one process comes to in two epochs, by weighting."""
    folder = tmp_path_factory.mktemp("whole")
    found = {name: trained(folder, make, name=name) for name, make in MAKE.items()}
    return {**found, "lbfgs": trained(folder, toy.in_stages, name="lbfgs", **toy.LBFGS)}


@each
def test_it_trains_and_goes_on_exactly(tmp_path, whole, name):
    assert same(whole[name], trained(tmp_path, MAKE[name], name=name, stops=(1, 2)))
    short = trained(tmp_path, MAKE[name], name="short", stops=(1,))
    assert not same(whole[name][0], short[0])
    assert not same(whole[name][1], short[1])


@each
def test_frozen_unused_and_extra_parameters(whole, name):
    torch.manual_seed(0)
    start = dict(toy.Model().double().named_parameters())
    moved = {k for k, p in whole[name][0].items() if not torch.equal(p, start[k])}
    assert moved == {"net.0.weight", "net.2.weight", "net.2.bias", "coefficient"}
    assert all(bool(p.isfinite().all()) for p in whole[name][0].values())


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """The same by each of two ranks, whose shares of a batch are unequal."""
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(SCRIPT, [folder])
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def close(a, b):
    """Whether two states agree: the sums of two ranks are rounded in another order than one."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(close, a, b))
    if isinstance(a, torch.Tensor):
        return torch.allclose(a, b, rtol=1e-8, atol=1e-12)
    if isinstance(a, float):
        return math.isclose(a, b, rel_tol=1e-8)
    return a == b


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch has no gloo here")
@pytest.mark.parametrize("name", [*MAKE, "lbfgs"])
def test_two_ranks_hold_one_set_of_weights_and_equal_one(ranks, whole, name):
    assert same(ranks[0][name], ranks[1][name])
    if name != "probes":  # each rank draws signs for its own points: without bias, but others
        assert close(ranks[0][name], whole[name])


@pytest.mark.parametrize("name", ["ConFIG", "UPGrad", "self_adaptive"])
def test_micro_batches_join_as_one(tmp_path, whole, name):
    assert close(trained(tmp_path, MAKE[name], name=name, accumulate=2), whole[name])


@pytest.mark.parametrize("name", [n for n in MAKE if n != "MomentumConFIG"])
def test_a_step_that_is_not_finite_changes_nothing(tmp_path, name):
    good = torch.utils.data.default_collate(toy.items()[:5])
    bad = {**good, "y": good["y"] * math.nan}
    with_bad = ListSource([good, bad, good], shuffle=False)
    without = ListSource([good, good], shuffle=False)
    skipped = trained(tmp_path, MAKE[name], name="bad", stops=(1,), source=with_bad)
    never = trained(tmp_path, MAKE[name], name="good", stops=(1,), source=without)
    assert same(skipped, never)


@pytest.mark.parametrize("name", ["ConFIG", "UPGrad"])
def test_the_joint_gradient_is_clipped(tmp_path, name):
    def steep(params):
        return torch.optim.SGD(params, lr=1.0)

    one = ListSource([torch.utils.data.default_collate(toy.items())])
    options = {"source": one, "optimizer": steep, "stops": (1,), "grad_clip": 1e-3}
    after, _ = trained(tmp_path, MAKE[name], name=name, **options)
    torch.manual_seed(0)
    start = dict(toy.Model().double().named_parameters())
    moved = torch.cat([(after[k] - p.detach()).flatten() for k, p in start.items()])
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize("name", ["ConFIG", "PCGrad", "MGDA", "CAGrad", "UPGrad", "norm"])
def test_the_loss_scale_of_half_precision_passes_through(tmp_path, name):
    half, _ = trained(tmp_path, MAKE[name], name="half", stops=(6,), precision="fp16")
    full, _ = trained(tmp_path, MAKE[name], name="full", stops=(6,))
    for k in half:
        torch.testing.assert_close(half[k], full[k], rtol=0.05, atol=0.02)


def test_what_does_not_scale_with_the_loss_is_refused_in_half_precision(tmp_path):
    with pytest.raises(InputError, match="MomentumConFIG divides gradients by their own size"):
        trained(tmp_path, MAKE["MomentumConFIG"], name="half", precision="fp16")


def loss_of(parameters, weights):
    """The weighted total over all points."""
    torch.manual_seed(0)
    model = toy.Model().double()
    model.load_state_dict(parameters)
    task = toy.ThreeTerms(model, None)
    batch = torch.utils.data.default_collate(toy.items())
    found = task.losses(batch, epoch=0, step=0, active=frozenset(toy.NAMES))
    return sum(weights[name] * value.item() for name, value in found.items())


def full_batch():
    return ListSource([torch.utils.data.default_collate(toy.items())])


@pytest.mark.parametrize("cut", [2, 3, 4])
def test_a_stage_of_lbfgs_keeps_the_weights_and_goes_on_exactly(tmp_path, cut):
    options = {"lbfgs_from": 3, "source": full_batch()}
    end, state = trained(tmp_path, toy.in_stages, name="whole", stops=(6,), **options)
    assert same(
        (end, state), trained(tmp_path, toy.in_stages, name="cut", stops=(cut, 6), **options)
    )
    _, before = trained(tmp_path, MAKE["norm"], name="before", stops=(3,), source=full_batch())
    assert state["schemes"][1]["weights"] == before["weights"]
    assert max(before["weights"].values()) > 1.5


def test_lbfgs_goes_further_than_the_optimizer_before(tmp_path):
    ends = {}
    for name, first in (("with", 3), ("without", None)):
        options = {"lbfgs_from": first, "source": full_batch(), "stops": (8,)}
        end, state = trained(tmp_path, toy.in_stages, name=name, **options)
        ends[name] = loss_of(end, state["schemes"][1]["weights"])
    assert ends["with"] < 0.8 * ends["without"]


@pytest.mark.parametrize("name", ["ConFIG", "norm"])
def test_lbfgs_under_a_weighting_from_gradients_is_refused_at_once(tmp_path, name):
    kind = type(MAKE[name]()).__name__
    for make in (MAKE[name], lambda: toy.in_stages(MAKE[name])):
        with pytest.raises(InputError, match=rf"lbfgs_from: {kind} .*end with constant weights"):
            trained(tmp_path, make, name=name, lbfgs_from=2)
