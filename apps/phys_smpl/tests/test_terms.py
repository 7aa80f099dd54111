"""Phases, weights, rates; what each term reaches; what a draw, a prior and a buffer do."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from nops_train import parse_config
from phys_smpl.build import (
    base_weights,
    build_optimizer,
    build_weighting,
    learning_rate,
    settled_epoch,
)
from phys_smpl.config import PhysConfig
from phys_smpl.data import Split, sequence_index
from torch import nn

PAPER: dict[str, Any] = {
    "model": {"residual": "gated"},
    "phases": {"epochs_pretrain": 20, "kl_warmup_epochs": 50},
    "loss": {"noise_variance": 0.5},
    "train": {"epochs": 150, "learning_rate": 3e-4, "cosine_epochs": 150},
}


def config(**sections: Any) -> PhysConfig:
    return parse_config(PhysConfig, sections, source="test")


def test_the_published_table_of_weight_and_rate() -> None:
    paper = config(**PAPER)
    weighting, rate = build_weighting(paper), learning_rate(paper)
    for epoch, beta, lr in (
        *((0, 0.0, 3e-4), (19, 0.0, 3e-4), (20, 0.0, 3e-4), (21, 0.02, 2.99967e-4)),
        *((45, 0.5, 2.79904e-4), (70, 1.0, 2.25e-4)),
    ):
        weights = weighting.weights(epoch=epoch, step=0)
        assert weights["kl_physics"] == weights["kl_aux"] == pytest.approx(beta, abs=0)
        assert rate(epoch, 7) == pytest.approx(lr, rel=1e-5)
    assert isinstance(weighting.weights(epoch=3, step=0)["kl_physics"], float)


@pytest.mark.parametrize(("pretrain", "warmup"), [(20, 50), (0, 5), (3, 0), (0, 0)])
def test_pretraining_has_exactly_its_epochs_and_no_divergence_at_weight_0(
    pretrain: int, warmup: int
) -> None:
    sections = {**PAPER, "phases": {"epochs_pretrain": pretrain, "kl_warmup_epochs": warmup}}
    weighting = build_weighting(config(**sections))
    active = [weighting.active(epoch=epoch, step=0) for epoch in range(60)]
    assert [terms == {"bootstrap"} for terms in active] == [e < pretrain for e in range(60)]
    first = pretrain + (1 if warmup else 0)  # of a divergence
    assert ["kl_physics" in terms for terms in active] == [e >= first for e in range(60)]
    assert all("bootstrap" not in terms for terms in active[pretrain:])


def test_a_rate_is_that_of_every_group() -> None:
    rate = learning_rate(config(train={"epochs": 40, "learning_rate": 1e-2}))
    assert rate(19, 0) == rate(20, 0) == 1e-2
    assert rate(30, 0) == pytest.approx(1e-2 * 0.5 * (1 + math.cos(math.pi * 10 / 20)))
    net = nn.Linear(2, 2)
    settings = config(train={"weight_decay": 0.1, "adam_eps": 1e-3}).train
    group = build_optimizer(settings, net).param_groups[0]  # type: ignore[arg-type]
    assert (group["weight_decay"], group["amsgrad"], group["eps"]) == (0.1, True, 1e-3)


def test_each_variant_has_its_own_terms_and_patience_waits_for_what_moves() -> None:
    kinds = {
        "A": config(model={"residual": "no_physics", "aux_dim": 6}),
        "B": config(model={"aux_dim": 0}),
        "C": config(),
        "G": config(model={"residual": "gated"}),
    }
    own = {name: set(base_weights(held)) - {"reconstruction"} for name, held in kinds.items()}
    assert own == {
        "A": {"kl_aux"},
        "B": {"bootstrap", "kl_physics"},
        "C": {"bootstrap", "kl_physics", "kl_aux", "residual", "orthogonality", "coefficient"},
        "G": {"bootstrap", "kl_physics", "kl_aux", "gate", "residual"},
    }
    assert settled_epoch(kinds["C"]) == 20 + 30  # KL and r arrive last
    assert settled_epoch(kinds["A"]) == 30  # without pretraining
    slow = config(
        phases={"kl_warmup_epochs": 5, "tau": {"init": 3.0, "final": 1.0, "warmup_epochs": 44}}
    )
    assert settled_epoch(slow) == 20 + 44


HEADS = ("u_mean", "u_lnvar", "aux_mean", "aux_lnvar")
REACHED = {
    "bootstrap": {"features", "u_mean"},
    "reconstruction": {"features", *HEADS, "correction"},
    "kl_physics": {"features", "u_mean", "u_lnvar"},
    "kl_aux": {"features", "aux_mean", "aux_lnvar"},
    "edge": {"features", "u_mean", "u_lnvar"},
    "capacity": {"features", "u_mean", "u_lnvar"},
}  # of either correction
LOW_RANK = {
    "residual": {"features", "aux_mean", "aux_lnvar", "correction"},
    "coefficient": {"features", "aux_mean", "aux_lnvar", "correction"},
    "orthogonality": {"correction"},
}
GATED = {
    "gate": {"features", *HEADS, "correction"},  # x_P is not detached there
    "residual": {"features", *HEADS, "correction"},
}


def reached(model: nn.Module, loss: torch.Tensor) -> set[str]:
    model.zero_grad()
    loss.backward()
    found = set()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and bool(parameter.grad.abs().sum() > 0):
            first, second, *_ = name.split(".")
            found.add("correction" if first == "head" else second if first == "heads" else first)
    return found


@pytest.mark.parametrize(("residual", "own"), [("low_rank", LOW_RANK), ("gated", GATED)])
@pytest.mark.parametrize("prior", ["normal", "uniform", "ema"])
def test_each_term_reaches_what_it_is_to_regularise_and_nothing_else(
    build: Callable[..., Any], residual: str, own: dict[str, set[str]], prior: str
) -> None:
    built = build(model={"residual": residual, "prior": prior})
    for name, expected in {**REACHED, **own}.items():
        assert reached(built.model, built.losses(name)[name]) == expected, name
    if residual == "gated":
        built.losses("residual")["residual"].backward()
        gate = built.model.head.gate
        assert all(p.grad is None or not p.grad.abs().sum() for p in gate.parameters())


def test_pretraining_neither_decodes_the_batch_nor_asks_for_more(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build()

    def decode(*_: Any, **__: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(built.model, "decode", decode)
    assert set(built.losses("bootstrap", epoch=0)) == {"bootstrap"}
    with pytest.raises(AssertionError, match="decoded"):
        built.losses("reconstruction")


def test_the_bootstrap_of_a_zero_encoder_is_its_expectation(build: Callable[..., Any]) -> None:
    built = build()
    with torch.no_grad():
        for parameter in built.model.heads["u_mean"].parameters():
            parameter.zero_()
    torch.manual_seed(0)
    found = built.task.bootstrap(20_000, {}).item()
    assert found == pytest.approx(4 * 3.28578, rel=0.02)  # standard error about 0.6 %


def test_a_latent_of_weight_0_is_its_mean(build: Callable[..., Any]) -> None:
    plain = build(loss={"beta_physics": 0.0, "beta_aux": 0.0})
    first, second = (plain.losses("reconstruction")["reconstruction"] for _ in range(2))
    assert first == second
    found = plain.task.metrics(plain.batch)["reconstruction"].mean()
    assert first.item() == pytest.approx(found.item(), rel=1e-6)  # the mean, as in validation
    drawn = build()
    first, second = (drawn.losses("reconstruction")["reconstruction"] for _ in range(2))
    assert first != second


def test_strength_and_temperature_follow_the_epochs_of_training(build: Callable[..., Any]) -> None:
    built = build(phases={"epochs_pretrain": 4})
    head = built.model.head
    for epoch, r, tau in ((0, 0.0, 3.0), (4, 0.0, 3.0), (14, 10 / 30, 2.0), (34, 1.0, 1.0)):
        built.losses("reconstruction", epoch=epoch)
        assert (head.r.item(), head.tau.item()) == pytest.approx((r, tau))
        assert built.task.metrics(built.batch)["r"].item() == pytest.approx(r)


def test_a_moving_prior_waits_for_the_second_epoch_of_training(build: Callable[..., Any]) -> None:
    built = build(model={"prior": "ema"}, phases={"epochs_pretrain": 3})
    before = built.model.prior.mean.clone()
    for epoch in (0, 3):
        built.losses("reconstruction", epoch=epoch)
        assert torch.equal(built.model.prior.mean, before)
    built.losses("reconstruction", epoch=4)
    assert not torch.equal(built.model.prior.mean, before)


def test_capacity_takes_the_place_of_the_divergence_and_rises(build: Callable[..., Any]) -> None:
    capacity = {"on": True, "c_max": 6.0, "gamma": 2.0}
    built = build(loss={"capacity": capacity}, phases={"epochs_pretrain": 0, "kl_warmup_epochs": 3})
    assert "kl_physics" not in base_weights(built.config)
    torch.manual_seed(0)
    kl = built.losses("kl_physics")["kl_physics"].item()
    for epoch, target in ((0, 0.0), (1, 2.0), (9, 6.0)):
        found = built.losses("capacity", epoch=epoch)["capacity"].item()
        assert found == pytest.approx(2.0 * (kl - target) ** 2, rel=1e-5)


def test_physics_that_is_not_finite_is_told_with_its_parameters(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build()
    whole = type(built.model.physics).forward

    def broken(self: Any, parameters: torch.Tensor, inputs: Any = None) -> torch.Tensor:
        found = whole(self, parameters, inputs).clone()
        found[2, 5] = torch.inf
        return found

    monkeypatch.setattr(type(built.model.physics), "forward", broken)
    built.losses("reconstruction")
    assert built.notes[0].startswith("reconstruction: the physics is not finite at xcen = ")
    assert "dV = " in built.notes[0]
    assert built.notes[0].endswith("(row 2)")


def test_stretches_in_time_are_unbroken_and_feel_their_smoothness(
    build: Callable[..., Any],
) -> None:
    days = np.array([0, 1, 2, 3, 9, 10, 11, 11, 12])
    split = Split(x=torch.zeros(9, 36), inputs={}, truth={}, days=days)
    # unbroken: 0–3, 4–6, 7–8
    assert sequence_index(split, 2).tolist() == [[0, 1], [2, 3], [4, 5], [7, 8]]
    assert sequence_index(split, 3).tolist() == [[0, 1, 2], [4, 5, 6]]
    built = build(loss={"smoothness": 1.0}, data={"sequence_length": 3})
    flat = built.bundle.splits["train"].x[:6]
    built.batch = {"x": flat.unflatten(0, (2, 3))}
    metrics = built.task.metrics(built.batch)
    assert metrics["reconstruction"].shape == (2,)
    smooth = built.losses("smoothness")["smoothness"]
    assert reached(built.model, smooth) == {"features", "u_mean", "u_lnvar"}
    built.batch = {"x": flat[:2, None].expand(-1, 3, -1)}
    same = build(loss={"smoothness": 1.0, "beta_physics": 0.0}, data={"sequence_length": 3})
    same.batch = built.batch
    assert same.losses("smoothness")["smoothness"].item() == pytest.approx(0.0, abs=1e-12)
