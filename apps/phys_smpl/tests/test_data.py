"""Simulated and measured observations: units, orders, draws, and every refusal."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nops_data import LayoutError
from nops_diagnostics import pca_baseline
from nops_models import PhysicsDecoder
from nops_physics import AdvectionDiffusion, Mogi, Pendulum
from nops_train import InputError, parse_config
from phys_smpl.build import build_model, build_task, sources
from phys_smpl.config import PhysConfig
from phys_smpl.data import Bundle, open_bundle
from phys_smpl.generation import drawn_names, settle_data, simulate
from phys_smpl.problems import Beside, make_physics

STATIONS = {"BB": (1.0, 2.0), "AA": (-3.0, 0.5)}
COLUMNS = [f"{axis}_{name}" for axis in ("ux", "uy", "uz") for name in ("AA", "BB")]


def config(**sections: Any) -> PhysConfig:
    return parse_config(PhysConfig, sections, source="test")


def write_tables(folder: Path, rows: np.ndarray, *, columns: list[str], **files: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for split in ("train", "valid", "test"):
        lines = [",".join(columns), *(",".join(map(str, row)) for row in rows.tolist())]
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    for name, held in files.items():
        (folder / f"{name}.json").write_text(json.dumps(held))
    return folder


def network(folder: Path) -> Path:
    """A folder of displacements in mm, standardised by a known mean and scale."""
    rows = np.random.default_rng(0).normal(size=(6, 6))
    places = {name: {"xE": x, "yN": y} for name, (x, y) in STATIONS.items()}
    ranges = {"xcen": (-8, 8), "ycen": (-8, 8), "d": (2, 20), "dV": (0, 200)}
    held = {name: {"min": low, "max": high} for name, (low, high) in ranges.items()}
    write_tables(folder, rows, columns=COLUMNS, station_info=places, mogi_paras=held)
    np.save(folder / "train_x_mean.npy", np.arange(6.0))
    np.save(folder / "train_x_scale.npy", np.full(6, 2.0))
    return folder


def opened(folder: Path, **sections: Any) -> Bundle:
    sections = {"data": {"path": str(folder), **sections.pop("data", {})}, **sections}
    return open_bundle(settle_data(config(**sections)))


def test_displacements_lie_in_the_order_of_the_data_and_come_back_in_mm(tmp_path: Path) -> None:
    bundle = opened(network(tmp_path / "gnss"))
    assert bundle.channels == tuple(COLUMNS)
    torch.testing.assert_close(bundle.physics.stations.tolist(), [[-3.0, 0.5], [1.0, 2.0]])
    x = bundle.splits["test"].x
    expected = 2 * x + torch.arange(6.0)
    torch.testing.assert_close(bundle.physical(x), expected)
    low, high = bundle.physics.bounds.unbind(1)
    assert low.tolist() == [-8, -8, 2, -1e7]  # the published code 0 … 200 of dV, in m³
    assert high.tolist() == [8, 8, 20, 1e7]


def broken(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder


BAD_FILES = {
    "stations": (
        "station_info.json",
        '{"AA": {"xE": 0, "yN": 0}, "CC": {"xE": 1, "yN": 1}}',
        r"only in the data \['BB'\], only in .*station_info.json \['CC'\]",
    ),
    "ranges": (
        "mogi_paras.json",
        json.dumps({n: {"min": 3, "max": 2} for n in ("xcen", "ycen", "d", "dV")}),
        "xcen: found .* expected min < max",
    ),
    "names": (
        "mogi_paras.json",
        '{"depth": {"min": 2, "max": 3}}',
        r"missing \['d', 'dV', 'xcen', 'ycen'\], unknown \['depth'\]",
    ),
    "cells": (
        "valid.csv",
        ",".join(COLUMNS) + "\n1,2,3,4,5,nan\n1,2,3,4,5,6\n",
        "column 'uz_BB', 1 of 2 rows",
    ),
    "columns": ("test.csv", "ux_AA,ux_BB\n1,2\n", r"expected columns \['uy_AA'"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_do_not_fit_are_told_by_name(tmp_path: Path, name: str) -> None:
    file, text, expected = BAD_FILES[name]
    with pytest.raises((InputError, LayoutError), match=expected):
        opened(broken(network(tmp_path / "gnss"), file, text))


def test_scales_that_are_not_positive_and_lonely_means_are_refused(tmp_path: Path) -> None:
    folder = network(tmp_path / "gnss")
    np.save(folder / "train_x_scale.npy", np.array([1, 1, 0, 1, 1, 1.0]))
    with pytest.raises(LayoutError, match=r"1 of 6 values, first at 2: found 0\.0"):
        opened(folder)
    for name in ("mean", "scale"):
        (folder / f"train_x_{name}.npy").unlink()
    np.save(tmp_path / "mean.npy", np.zeros(6))
    with pytest.raises(InputError, match="give both"):
        opened(folder, data={"x_mean": str(tmp_path / "mean.npy")})
    bundle = opened(folder)  # physical then, and scaled by the train split
    torch.testing.assert_close(bundle.splits["train"].x.mean(0), torch.zeros(6), atol=1e-6, rtol=0)


def test_one_plot_in_two_splits_is_refused(tmp_path: Path) -> None:
    folder = network(tmp_path / "gnss")
    for split, ids in (("train", (1, 2)), ("valid", (3, 4)), ("test", (5, 2))):
        lines = [",".join([*COLUMNS, "sample_id"])]
        lines += [",".join(map(str, [*range(6), k])) for k in ids]
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"sample_id 2 are in both .*train.csv and .*test.csv"):
        opened(folder)


def test_leaves_need_constants_and_other_problems_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "prosail", None)
    with pytest.raises(InputError, match=r"--spectra FILE; .*nops-physics\[prosail\]"):
        make_physics(config(problem="inform"), Beside())
    assert isinstance(make_physics(config(), Beside()), Mogi)


@pytest.mark.parametrize("problem", ["mogi", "okada", "pendulum", "advection_diffusion"])
def test_a_forward_model_declares_itself_as_the_vae_expects(problem: str) -> None:
    assert isinstance(make_physics(config(problem=problem), Beside()), PhysicsDecoder)


def test_no_folder_is_told_with_the_way_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="phys-smpl generate --out"):
        settle_data(config(data={"path": str(tmp_path / "none")}))


def test_simulated_displacements_are_physics_disturbances_and_noise() -> None:
    settings = config(data={"noise": 1e-9, "disturbance": 0.0})
    physics = make_physics(settings, Beside())
    made = simulate(settings, physics, 5, np.random.default_rng(3))
    unit = np.random.default_rng(3).uniform(0.02, 0.98, size=(5, 4))  # the first draw
    low, high = np.array([-8, -8, 2, 2e6]), np.array([8, 8, 8, 1e7])
    np.testing.assert_allclose(made["parameters"], low + (high - low) * unit)
    clean = physics(torch.from_numpy(made["parameters"])).numpy()
    np.testing.assert_allclose(made["x"], clean, atol=1e-7)
    disturbed = config(data={"noise": 1e-9, "disturbance": 2.0})
    change = simulate(disturbed, physics, 400, np.random.default_rng(3))
    change = change["x"] - physics(torch.from_numpy(change["parameters"])).numpy()
    assert np.linalg.matrix_rank(change, tol=1e-3) == 2
    east, north, up = change[:, 0], change[:, 12], change[:, 24:]
    np.testing.assert_allclose(east, 2 * north, atol=1e-6)  # common mode (1, 0.5, −0.7)
    assert east.std() == pytest.approx(2.0, rel=0.15)
    tilt = up - up.mean(1, keepdims=True)
    places = physics.stations[:, 0].numpy() / 14
    slope = tilt @ (places - places.mean()) / np.square(places - places.mean()).sum()
    assert slope.std() == pytest.approx(2.0, rel=0.15)


def published(problem: str, count: int) -> tuple[Any, dict[str, np.ndarray]]:
    """The published test set of a problem: seed 1236, its first observations in its draws' order."""
    settings = config(problem=problem, data={"standardise": False})
    physics = make_physics(settings, Beside())
    return physics, simulate(settings, physics, count, np.random.default_rng(1236))


def best_fit(physics: Any, made: dict[str, np.ndarray], known: str, grid: torch.Tensor) -> Any:
    """Σ squares and parameter of the best of a grid for each observation: the oracle of one parameter."""
    x, start = torch.from_numpy(made["x"]), {known: torch.from_numpy(made[f"input_{known}"])}
    least = torch.full((len(x),), torch.inf, dtype=torch.float64)
    found = torch.zeros_like(least)
    for value in grid.tolist():
        with torch.no_grad():
            error = (physics(torch.full_like(x[:, :1], value), start) - x).square().sum(1)
        found = torch.where(error < least, value, found)
        least = torch.minimum(error, least)
    return least, found


def test_the_pendulum_is_the_published_one() -> None:
    physics, made = published("pendulum", 1000)
    truth = torch.from_numpy(made["parameters"][:, :1])
    start = {"theta0": torch.from_numpy(made["input_theta0"])}
    left = Pendulum(method="euler")(truth, start).numpy() - made["x"]
    # its authors' Euler decoder at the true frequency, on their own test set: 5.18
    assert np.square(left).sum(1).mean() == pytest.approx(5.18, rel=0.02)
    # … and at the best: 3.83, the frequency off by 0.248; the mean of the set: 16.4
    grid = torch.linspace(0.393, 3.534, 201, dtype=torch.float64)
    error, frequency = best_fit(Pendulum(method="euler"), made, "theta0", grid)
    assert error.mean().item() == pytest.approx(3.83, rel=0.02)
    assert (frequency - truth[:, 0]).abs().mean().item() == pytest.approx(0.248, rel=0.02)
    assert made["x"].var(0).sum() == pytest.approx(16.4, rel=0.02)
    assert drawn_names(config(problem="pendulum"), physics) == ("omega", "gamma", "A", "f")


def test_the_best_diffusion_is_the_published_one() -> None:
    _, made = published("advection_diffusion", 1000)
    grid = torch.linspace(0.005, 0.115, 45, dtype=torch.float64)
    error, a = best_fit(AdvectionDiffusion(), made, "initial", grid)
    assert error.mean().item() == pytest.approx(0.844, rel=0.02)
    assert np.abs(a.numpy() - made["parameters"][:, 0]).mean() == pytest.approx(0.0012, abs=2e-4)


def test_the_transport_is_the_published_one_mirrored() -> None:
    _, made = published("advection_diffusion", 40)
    frames = made["x"].reshape(40, 50, 20)
    a, b = made["parameters"].T
    plain = AdvectionDiffusion()
    step, substeps = plain.dt / 50, 50
    kernel_x, kernel_xx = np.array([-1.0, 0.0, 1.0]), np.array([1.0, -2.0, 1.0])
    field = made["input_initial"]
    for _ in range(10 * substeps):  # the published right side, by small Euler steps
        moved = [
            np.convolve(y, kernel_x, mode="same") for y in field
        ]  # flips its kernel, as theirs
        bent = [np.convolve(y, kernel_xx, mode="same") for y in field]
        rate = a[:, None] * np.array(bent) / plain.dx**2
        field = field + step * (rate - b[:, None] * np.array(moved) / (2 * plain.dx))
    noise, flow = 1e-3, np.abs(frames[:, 10] - frames[:, 10, ::-1]).max()
    assert np.abs(frames[:, 10] - field[:, ::-1]).max() < 5 * noise < flow / 5


@pytest.fixture(scope="module")
def measured() -> Callable[[str], Path]:
    def folder(name: str) -> Path:
        if not (root := os.environ.get("NOPS_TEST_DATA")):
            pytest.skip("NOPS_TEST_DATA is not set: no measured displacements and spectra")
        return Path(root) / "phys_smpl" / name

    return folder


@pytest.mark.parametrize(
    ("name", "problem", "rows", "pca"),
    [
        ("mogi", "mogi", (4437, 783, 1305), {0: 46.0, 4: 20.0, 8: 12.9}),
        ("rtm", "inform", (11480, 2884, 3598), {0: 10.5, 2: 1.30, 7: 0.051}),
    ],
)
def test_measurements_are_read_and_a_step_is_made(
    measured: Callable[[str], Path],
    name: str,
    problem: str,
    rows: tuple[int, ...],
    pca: dict[int, float],
) -> None:
    plain = config(problem=problem, data={"path": str(measured(name))}, train={"batch_size": 8})
    settings = settle_data(plain)
    bundle = open_bundle(settings)
    assert isinstance(bundle.physics, PhysicsDecoder)
    assert tuple(len(split) for split in bundle.splits.values()) == rows
    found = pca_baseline(bundle.splits["train"].x, bundle.splits["test"].x, ranks=list(pca))
    for rank, expected in pca.items():
        assert found[rank] == pytest.approx(expected, rel=0.01, abs=0.01)
    model = build_model(settings, bundle)
    batch = next(iter(sources(settings, bundle)[0].batches(epoch=0)))
    task = build_task(settings, model)
    wanted = frozenset({"bootstrap", "reconstruction", "kl_physics", "residual"})
    losses = task.losses(batch, epoch=30, step=0, active=wanted)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_reflectances_of_another_scaler_are_refused(
    measured: Callable[[str], Path], tmp_path: Path
) -> None:
    for name in ("mean", "scale"):
        np.save(tmp_path / f"{name}.npy", np.full(11, 2.0))
    data = {"path": str(measured("rtm"))}
    data |= {f"x_{name}": str(tmp_path / f"{name}.npy") for name in ("mean", "scale")}
    with pytest.raises(InputError, match="data scaled with another scaler"):
        open_bundle(settle_data(config(problem="inform", data=data)))


def test_known_angles_are_read_checked_and_lent_to_simulations(
    measured: Callable[[str], Path], tmp_path: Path
) -> None:
    constants = (measured("rtm") / "prospect_pro.txt").read_text()
    (tmp_path / "prospect_pro.txt").write_text(constants)
    bands = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
    values = np.random.default_rng(0).uniform(0.1, 0.4, size=(4, 11))
    angles = np.array([[20.0], [30.0], [40.0], [89.0]])
    write_tables(tmp_path, np.hstack([values, angles]), columns=[*bands, "tts"])
    bundle = opened(tmp_path, problem="inform")
    assert bundle.splits["train"].inputs["tts"].tolist() == [20, 30, 40, 89]
    settings = settle_data(config(problem="inform", data={"path": str(tmp_path)}))
    model = build_model(settings, bundle)
    task, seen = build_task(settings, model), []
    whole = model.physics.forward
    model.physics.forward = lambda p, i=None: seen.append(i["tts"].tolist()) or whole(p, i)
    batch = {"x": bundle.splits["train"].x, "input_tts": bundle.splits["train"].inputs["tts"]}
    task.losses(batch, epoch=0, step=0, active=frozenset({"bootstrap"}))
    assert seen == [[20, 30, 40, 89]]
    angles[2] = 95.0
    write_tables(tmp_path, np.hstack([values, angles]), columns=[*bands, "tts"])
    with pytest.raises(InputError, match=r"'tts': 1 of 4 rows outside 0 to 90 degrees.*is 95"):
        opened(tmp_path, problem="inform")


def test_proteins_need_a_file_that_has_them(
    measured: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = (measured("rtm") / "prospect_pro.txt").read_text().splitlines()
    without = tmp_path / "without.txt"
    without.write_text("\n".join("\t".join(row.split()[:8]) for row in rows))
    physics = {"spectra": str(without), "version": "PRO"}
    with pytest.raises(InputError, match="lack proteins"):
        make_physics(config(problem="inform", physics=physics), Beside())
