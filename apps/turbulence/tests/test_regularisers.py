"""Terms on the moments and on the divergence of predicted fields: values, gradients, refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nops_losses
import numpy as np
import pytest
import torch
from nops_data import Normaliser, WellReader, WellWriter
from nops_models import FNO, FNOConfig
from nops_physics import TaylorGreen
from nops_train import InputError, parse_config, read_events
from turbulence.build import build_weighting
from turbulence.config import TurbulenceConfig
from turbulence.config_loss import LossConfig
from turbulence.data_fields import domain_of
from turbulence.task import FlowTask
from turbulence.terms import Domain, check_domain, check_terms, make_metrics, make_terms

VELOCITY = ("velocity_x", "velocity_y")


def domain(**changes: Any) -> Domain:
    """4 x 5 cells with walls, spacings 0.5 and 0.25, the velocity in units of 2 and 3."""
    plain: dict[str, Any] = {
        "shape": (4, 5),
        "lengths": (1.5, 1.0),
        "periodic": (False, False),
        "channels": ("pressure", *VELOCITY),
        "scale": (7.0, 2.0, 3.0),
    }
    return Domain(**{**plain, **changes})


def cells() -> tuple[torch.Tensor, torch.Tensor]:
    i, j = (torch.arange(n, dtype=torch.float64) for n in (4, 5))
    return torch.meshgrid(i, j, indexing="ij")


def term(name: str, where: Domain, **loss: Any) -> Callable[..., torch.Tensor]:
    return make_terms(LossConfig.model_validate(loss), where)[name]


def rollout(*frames: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """One sample of velocities, with noise for a pressure."""
    noise = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.stack([torch.stack([noise, *frame]) for frame in frames])[None]


def test_the_divergence_is_physical() -> None:
    i, j = cells()
    # ∂u/∂x = 2/0.5 = 4 and ∂v/∂y = 3/0.25 = 12 per cell of slope 1, in the data's units
    pred = rollout((i, j), (i, -j), (3 * i, -j), (j, i))
    found = term("regDiv", domain())(pred, torch.full_like(pred, torch.nan))
    torch.testing.assert_close(found, torch.tensor([[16.0, 8.0, 0.0, 0.0]], dtype=torch.float64))


def test_what_lies_in_an_obstacle_has_no_divergence_and_no_moments() -> None:
    i, j = cells()
    mask = torch.ones(4, 5, dtype=torch.bool)
    mask[0, 1] = False  # of the six cells that are no border, (1, 1) alone reads it
    pred = rollout((i * i, 0 * j))
    # 2·((i + 1)² − (i − 1)²)/(2·0.5) = 8i: two cells are left in row 1, three in row 2
    by_hand = (2 * 8.0 + 3 * 16.0) / 5
    where = domain(mask=mask)
    for inside in (0.0, 1e6):
        changed = pred.where(mask, inside)
        found = term("regDiv", where)(changed, pred)
        torch.testing.assert_close(found, torch.tensor([[by_hand]], dtype=torch.float64))
        moments = term("regMeanStd", where)(changed, 0 * pred)
        torch.testing.assert_close(moments, term("regMeanStd", where)(pred, 0 * pred))


def test_a_flow_without_divergence_keeps_what_the_differences_leave() -> None:
    flow = TaylorGreen(viscosity=0.01, resolution=32).velocity(0.5)[None, None]
    periodic = {"shape": (32, 32), "lengths": (6.2831853,) * 2, "periodic": (True, True)}
    where = domain(channels=VELOCITY, scale=(0.5, 0.5), **periodic)
    found = term("regDiv", where)(flow / 0.5, flow)
    assert found.item() < 1e-6
    # components that are scaled each by its own deviation have one, unless it is put back
    uneven = flow / torch.tensor([0.5, 2.0])[:, None, None]
    assert term("regDiv", where)(uneven, flow).item() > 0.1
    other = domain(channels=VELOCITY, scale=(0.5, 2.0), **periodic)
    assert term("regDiv", other)(uneven, flow).item() < 1e-6


def test_moments_by_hand_in_units_of_training() -> None:
    target = torch.zeros(1, 2, 3, 4, 5)
    pred = torch.full_like(target, 0.5)
    pred[:, 1, 2, :2] += 2.0  # one channel of one frame: mean 1.5, deviation 1
    found = term("regMeanStd", domain())(pred, target)
    expected = torch.full((1, 2, 3), 0.5)
    expected[0, 1, 2] = 1.5 + 1.0
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["regMeanStd", "regDiv"])
def test_each_is_switched_by_its_own_weight_and_reaches_the_model(name: str) -> None:
    torch.manual_seed(0)
    model = FNO(FNOConfig(in_channels=2, base_channels=4, num_layers=1, modes=3))
    torch.nn.init.normal_(model.output.weight, std=0.1)
    where = Domain(
        shape=(16, 16),
        lengths=(6.28, 6.28),
        periodic=(True, True),
        channels=VELOCITY,
        scale=(1.5, 0.5),
    )
    loss = LossConfig.model_validate({name: 0.1})
    task = FlowTask(
        model=model,
        terms=make_terms(loss, where),
        metrics_of=make_metrics(loss, where),
        val_weights=loss.weights(),
    )
    batch = {"frames": torch.randn(2, 3, 2, 16, 16), "parameters": torch.zeros(2, 0)}
    active = frozenset(loss_name for loss_name, weight in loss.weights().items() if weight > 0)
    assert active == {"predFieldError", name}
    value = task.losses(batch, epoch=0, step=0, active=active)[name]
    value.backward()
    reached = [part.grad for part in model.parameters() if part.grad is not None]
    assert reached
    assert all(grad.isfinite().all() and grad.abs().max() > 0 for grad in reached)
    found = task.metrics(batch)
    total = found["field_error"].mean() + 0.1 * value.detach()
    torch.testing.assert_close(found["val_loss"].mean().detach(), total)


def test_the_term_is_the_library_function() -> None:
    pred, target = torch.randn(2, 3, 3, 4, 5), torch.randn(2, 3, 3, 4, 5)
    found = term("regMeanStd", domain())(pred, target).mean()
    torch.testing.assert_close(found, nops_losses.mean_std_penalty(pred, target))


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"channels": ("pressure", "density"), "scale": (1.0, 1.0)}, "velocity", ("pressure",)),
        ({"channels": ("velocity_x", "pressure")}, "velocity", ("channels velocity_x.",)),
        ({"channels": (*VELOCITY, "velocity_z")}, "velocity", ("velocity_z", "axes x, y")),
        ({}, "magnetic", ("component of magnetic", "loss.divergence_field")),
        ({"uniform": False}, "velocity", ("evenly spaced cells",)),
    ],
)
def test_fields_without_a_divergence_are_refused_by_key(
    changes: dict, field: str, words: tuple[str, ...]
) -> None:
    loss = LossConfig(divergence_field=field)
    with pytest.raises(InputError) as caught:
        check_domain(loss, domain(**changes), frozenset({"regDiv"}))
    assert str(caught.value).startswith("loss.regDiv: ")
    for word in words:
        assert word in str(caught.value)
    check_domain(
        loss, domain(**changes), frozenset({"regMeanStd"})
    )  # who does not use it is let be


def test_components_are_found_by_their_axis_wherever_they_stand() -> None:
    i, j = cells()
    pred = rollout((j, i))  # velocity_y before velocity_x
    swapped = domain(channels=("pressure", "b_y", "b_x"), scale=(7.0, 3.0, 2.0))
    loss = LossConfig(divergence_field="b")
    check_domain(loss, swapped, frozenset({"regDiv"}))
    found = make_terms(loss, swapped)["regDiv"](pred, pred)
    torch.testing.assert_close(found, torch.tensor([[16.0]], dtype=torch.float64))
    check_terms({"regDiv": make_terms(loss, swapped)["regDiv"]}, swapped, channels=3)


def make(**sections: Any) -> TurbulenceConfig:
    return parse_config(TurbulenceConfig, sections, source="test")


TREE = {"source": "file", "npz": "tree", "shape": [16, 8]}


@pytest.mark.parametrize(
    "sections",
    [
        {"loss": {"regDiv": 0.1}},
        {"weighting": {"static_components": {"regDiv": 0.1}}},
        {"loss": {"regDiv": 0.1}, "weighting": {"kind": "constant"}, "arms": ["constant"]},
    ],
)
def test_a_tree_whose_extents_nobody_gave_has_no_divergence(sections: dict) -> None:
    with pytest.raises(InputError, match=r"loss\.regDiv .*data\.lengths is null"):
        make(data=TREE, **sections)
    make(data={**TREE, "lengths": [4.0, 2.0]}, **sections)
    make(data=TREE, loss={"regMeanStd": 0.1})


def test_neither_sees_a_phase() -> None:
    for name in ("regMeanStd", "regDiv"):
        with pytest.raises(InputError, match=f"{name} alone is blind to phase"):
            make(
                weighting={"kind": "constant"},
                arms=["constant"],
                loss={"predFieldError": 0.0, name: 1.0},
            )


def test_the_schedule_leaves_their_weights_alone() -> None:
    config = make(loss={"regMeanStd": 0.05, "regDiv": 0.2})
    weighting = build_weighting(config)
    assert weighting.terms["regMeanStd"] == 0.05
    weights = weighting.weights(epoch=0, step=0)
    assert (weights["regMeanStd"], weights["regDiv"]) == (0.05, 0.2)


@pytest.mark.parametrize(("boundary", "span"), [("periodic", 2.0), ("wall", 2.0 * 16 / 15)])
def test_spacing_and_units_are_those_of_the_files(
    tmp_path: Path, boundary: str, span: float
) -> None:
    frames = np.random.default_rng(0).normal(size=(2, 3, 16, 8, 2)).astype(np.float32)
    frames[..., 1] *= 5
    writer = WellWriter(tmp_path, dataset_name="d", boundary=boundary, lengths=(2.0, 8.0))
    writer.write("train", {"velocity": frames}, np.arange(3.0))
    for split in ("valid", "test"):
        writer.write(split, {"velocity": frames}, np.arange(3.0))
    reader = WellReader(tmp_path, split="train")
    found = domain_of(tmp_path, reader, Normaliser.fit(reader))
    assert found.spacing[0] == pytest.approx(span / 16)
    assert (found.channels, found.axes, found.uniform) == (VELOCITY, ("x", "y"), True)
    assert found.scale == pytest.approx((frames[..., 0].std(), frames[..., 1].std()), rel=1e-5)
    assert domain_of(tmp_path, reader).scale == (1.0, 1.0)


@pytest.mark.parametrize("kind", ["cartesian", "spherical", "uneven"])
def test_grids_on_which_a_sum_of_differences_is_no_divergence(tmp_path: Path, kind: str) -> None:
    frames = np.zeros((1, 3, 16, 8, 2), dtype=np.float32)
    grid_type = "spherical" if kind == "spherical" else "cartesian"
    writer = WellWriter(tmp_path, dataset_name="d", boundary="wall", grid_type=grid_type)
    for split in ("train", "valid", "test"):
        path = writer.write(split, {"velocity": frames}, np.arange(3.0))
        with h5py.File(path, "r+") as file:
            if kind == "uneven":
                file["dimensions/y"][3] += 0.05
    reader = WellReader(tmp_path, split="train")
    assert domain_of(tmp_path, reader).uniform == (kind == "cartesian")


def test_a_run_trains_with_both(run_app: Callable[..., int], tmp_path: Path) -> None:
    weights = ["--loss.regMeanStd=0.05", "--loss.regDiv=0.01"]
    assert run_app("train", "--arms=field", "--train.epochs=1", *weights) == 0
    (epoch,) = [
        event
        for event in read_events(tmp_path / "runs/turbulence/study/field_s0")
        if event["event"] == "epoch"
    ]
    assert epoch["weight"] == {"predFieldError": 1.0, "regMeanStd": 0.05, "regDiv": 0.01}
    assert all(epoch["raw"][name] > 0 for name in ("regMeanStd", "regDiv"))


def test_a_run_without_a_velocity_says_so(
    run_app: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app("train", "--loss.regDiv=0.01", "--data.fields=velocity_x") == 2
    error = capsys.readouterr().err
    assert "loss.regDiv" in error
    assert "channels velocity_x" in error
