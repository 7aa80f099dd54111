"""Data: solved, given in either layout, and everything about them that is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from nops_data import WellReader, WellWriter
from nops_physics import Burgers1D, ColeHopf, Darcy2D
from nops_train import RunFolder, load_checkpoint, load_run_config
from upt_inverse.build import build_model, build_task, open_bundle
from upt_inverse.cli import main
from upt_inverse.config import UptConfig

POINTS, FRAMES = 32, 6


def burgers_file(folder: Path, *, samples: int = 20, nu: float = 0.01) -> Path:
    """Decaying waves in PDEBench's layout of Burgers, whose time axis is one entry longer."""
    path = folder / f"1D_Burgers_Sols_Nu{nu}.hdf5"
    x, t = (np.arange(POINTS) + 0.5) / POINTS, 0.05 * np.arange(FRAMES + 1)
    phase = np.random.default_rng(0).random((samples, 1, 1))
    wave = np.sin(2 * np.pi * (x + phase - t[:FRAMES, None])) * np.exp(-t[:FRAMES, None])
    with h5py.File(path, "w") as file:
        file["tensor"] = wave.astype("f4")
        file["x-coordinate"], file["t-coordinate"] = x.astype("f4"), t.astype("f4")
    return path


def flow_folder(folder: Path, *, shape: tuple[int, ...] = (8, 8), boundary: str = "wall") -> Path:
    """A velocity and a pressure in the_well's layout, not made by us."""
    times, rng = 0.5 * np.arange(5), np.random.default_rng(1)
    writer = WellWriter(folder, dataset_name="flow", spatial_dims=("x", "y"), boundary=boundary)
    for split, count in (("train", 4), ("valid", 2), ("test", 2)):
        fields = {
            "pressure": rng.normal(size=(count, 5, *shape)).astype("f4"),
            "velocity": rng.normal(size=(count, 5, *shape, 2)).astype("f4"),
        }
        writer.write(split, fields, times, parameters={"viscosity": rng.random(count)})
    return folder


GRID4 = ["--model.patch_size=4"]
PDE = ["--data.source=pdebench", "--data.pde=burgers", *GRID4]


def test_the_solved_data_are_the_equation(data_folder: Path, build: Callable[..., Any]) -> None:
    batch = next(iter(build().bundle.test.batches(epoch=0)))
    normaliser = build().bundle.normaliser
    frames = normaliser.denormalise(batch["frames"], channel_dim=-2).double()
    x = torch.arange(64, dtype=torch.float64) / 64
    modes = torch.fft.rfft(frames[0, 0, 0], norm="forward")

    def start(points: torch.Tensor) -> torch.Tensor:
        waves = 2 * torch.pi * torch.arange(1, 5, dtype=torch.float64) * points[..., None]
        cosine, sine = modes[1:5].real, modes[1:5].imag
        return 2 * (cosine * waves.cos() - sine * waves.sin()).sum(-1)

    exact = ColeHopf(start, viscosity=0.05)(x, 0.3)
    torch.testing.assert_close(frames[0, 3, 0], exact, rtol=0.0, atol=1e-5)  # stored in float32


def test_generate_goes_on_and_verifies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [f"--data.num_{split}=2" for split in ("train", "valid", "test")]
    words += ["--data.shape=64", "--data.viscosity=0.05"]
    assert main(["generate", *words]) == 0
    assert main(["generate", *words]) == 0
    assert "0 trajectories written, 6 kept" in capsys.readouterr().out
    assert main(["generate", "--verify", *words]) == 0
    assert "6 checksums match; " in capsys.readouterr().out


def test_parameters_may_differ_between_trajectories(
    run_app: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "both"
    sizes = [f"--data.num_{split}={n}" for split, n in (("train", 3), ("valid", 2), ("test", 2))]
    words = [*sizes, "--data.num_steps=3", "--data.shape=64", "--data.vary.viscosity=0.03,0.3"]
    assert run_app("generate", *words, data=folder) == 0
    assert run_app("generate", "--verify", data=folder) == 0
    reader = WellReader(folder, split="train", parameters="physical")
    told = reader.parameters[:, 0].tolist()
    assert reader.parameter_names == ("viscosity",)
    assert len(set(told)) == 3
    assert min(told) >= 0.03
    assert max(told) <= 0.3
    for sample, viscosity in enumerate(told):
        frames = reader.read(sample)[:, 0].double()
        solver = Burgers1D(64, viscosity=viscosity)
        expected = solver.solve(frames[:1, None], times=[0.0, 0.1, 0.2, 0.3])[0, :, 0]
        torch.testing.assert_close(frames, expected, rtol=0.0, atol=1e-5)  # stored in float32
    assert run_app("train", data=folder) == 2
    assert "add it to model.condition" in " ".join(capsys.readouterr().err.split())
    words = ["--model.condition=viscosity", "--train.epochs=1", "--train.warmup_steps=0"]
    assert run_app("train", *words, "--loss.rollout_horizon=2", data=folder) == 0
    run = RunFolder.at("runs/upt-inverse/tiny")
    assert run.config["data"]["vary"] == {"viscosity": [0.03, 0.3]}
    assert main(["rollout", str(run.path)]) == 0
    assert main(["evaluate", str(run.path)]) == 0
    config = load_run_config(UptConfig, run.path)
    bundle = open_bundle(config)
    task = build_task(config, bundle, build_model(config, bundle))
    seen = task.states(next(iter(bundle.test.batches(epoch=0)))).condition(0)
    assert seen is not None
    unit = WellReader(folder, split="test").parameters  # 0 and 1 are the ends of the range
    torch.testing.assert_close(seen, unit)


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("speed=1,2", "burgers has viscosity"),
        ("viscosity=2,1", "a lower and an upper end"),
        ("viscosity=-1,1", "viscosity"),
    ],
)
def test_ranges_that_cannot_be_are_refused(
    run_app: Callable[..., int],
    tmp_path: Path,
    word: str,
    part: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_app("generate", f"--data.vary.{word}", data=tmp_path / "no") == 2
    assert part in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("pde", ["advection", "diffusion_reaction"])
def test_the_other_equations_train(run_app: Callable[..., int], pde: str, tmp_path: Path) -> None:
    shape = "8,8" if pde == "diffusion_reaction" else "32"
    sizes = ["--data.num_train=2", "--data.num_valid=2", "--data.num_test=2"]
    words = [*sizes, "--data.num_steps=3", f"--data.pde={pde}", f"--data.shape={shape}"]
    folder = tmp_path / "made"
    assert run_app("generate", *words, *GRID4, data=folder) == 0
    assert run_app("train", *GRID4, "--train.epochs=1", "--train.warmup_steps=0", data=folder) == 0
    run = RunFolder.at("runs/upt-inverse/tiny")
    assert run.config["data"]["pde"] == pde
    assert run.summary()["metrics"]["latent_nrmse"] > 0


def test_a_published_file_trains_and_rolls_out(run_app: Callable[..., int], tmp_path: Path) -> None:
    path = burgers_file(tmp_path)
    words = [*PDE, "--train.epochs=1", "--train.warmup_steps=0", "--data.dt=0.05"]
    assert run_app("train", *words, data=path) == 0
    run = RunFolder.at("runs/upt-inverse/tiny")
    data = run.config["data"]
    found = [data[name] for name in ("num_train", "num_valid", "num_test", "num_steps")]
    assert found == [16, 2, 2, 5]
    assert main(["rollout", str(run.path)]) == 0
    with h5py.File(run.path / "rollout.h5") as file:  # cell centres, as in the file
        np.testing.assert_allclose(file["positions"][:, 0], (np.arange(32) + 0.5) / 32, atol=1e-6)


def test_files_of_others_in_the_wells_layout_train_with_their_vectors_and_scalars(
    run_app: Callable[..., int], tmp_path: Path
) -> None:
    folder = flow_folder(tmp_path / "flow")
    penalties = ["--loss.L_divergence=0.1", "--loss.divergence_field=velocity"]
    words = [*GRID4, "--model.condition=viscosity,time", "--train.epochs=1", *penalties]
    assert run_app("train", *words, "--train.warmup_steps=0", data=folder) == 0
    run = RunFolder.at("runs/upt-inverse/tiny")
    assert run.config["data"]["source"] == "well"
    assert run.config["data"]["dt"] == 0.5
    heads = [k for k in load_checkpoint(run.path / "checkpoints")["model"] if "conditioner" in k]
    assert len({name.split(".")[2] for name in heads}) == 2
    # five frames: four steps, and the time table ends there
    assert main(["rollout", str(run.path), "--steps", "4"]) == 0
    assert main(["rollout", str(run.path), "--steps", "5"]) == 2


def test_a_rollout_beyond_the_time_table_names_the_longest(
    build: Callable[..., Any], run_app: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app("train", "--model.condition=time", "--train.epochs=1") == 0
    capsys.readouterr()
    assert main(["rollout", "runs/upt-inverse/tiny", "--steps", "6"]) == 2
    assert "at most 4 steps" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--data.dt=0.2"], ("data.dt = 0.2", "0.1")),
        (["--data.num_train=9"], ("data.num_train = 9", "4")),
        (["--model.patch_size=5"], ("patch_size=5", "4 and 8")),
        (["--model.tokens=20"], ("tokens=20", "8 patches")),
        (["--model.condition=rate"], ("'rate'", "time")),
        (["--loss.L_boundary=1"], ("L_boundary", "periodic")),
        (["--loss.L_divergence=1", "--loss.divergence_field=w"], ("divergence_field = w", "u (1)")),
        (["--train.freeze=nothing.*"], ("train.freeze",)),
        (["--train.warmup_steps=99"], ("train.warmup_steps",)),
    ],
)
def test_what_does_not_fit_the_data_ends_with_2(
    run_app: Callable[..., int],
    words: list[str],
    parts: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_app("train", *words) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert all(part in told for part in parts), told


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--data.dt=0.1"], ("data.dt = 0.1", "0.05")),
        (["--data.pde=advection"], ("beta",)),
        (["--data.pde=diffusion_sorption"], ("expected",)),
        (["--data.time_stride=50"], ("time_stride",)),
    ],
)
def test_published_files_that_do_not_fit_end_with_2(
    run_app: Callable[..., int],
    tmp_path: Path,
    words: list[str],
    parts: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = burgers_file(tmp_path)
    given = {word.split("=")[0] for word in words}
    rest = [word for word in PDE if word.split("=")[0] not in given]
    assert run_app("train", *rest, *words, data=path) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert all(part in told for part in parts), told


DARCY = ["--data.pde=darcy", "--loss.rollout_horizon=1", *GRID4]


def darcy_file(folder: Path) -> Path:
    """Steady flows in PDEBench's layout."""
    path, axis = folder / "2D_DarcyFlow_beta1.0_Train.hdf5", (np.arange(8) + 0.5) / 8
    solver = Darcy2D((8, 8))
    flow = solver.solve(solver.initial(20, seed=0), times=[1.0])[:, 0].float().numpy()
    with h5py.File(path, "w") as file:
        file["tensor"], file["nu"] = flow[:, :1], flow[:, 1]
        file["x-coordinate"], file["y-coordinate"] = axis.astype("f4"), axis.astype("f4")
    return path


def test_a_published_steady_file_trains_as_one_step_from_rest(
    run_app: Callable[..., int], tmp_path: Path
) -> None:
    path = darcy_file(tmp_path)
    assert run_app("train", "--data.source=pdebench", *DARCY, data=path) == 0
    run = RunFolder.at(Path("runs/upt-inverse/tiny"))
    assert run.config["data"]["num_steps"] == 1
    assert set(run.summary()["baselines"]) == {"zero_nrmse", "mean_nrmse"}
    bundle = open_bundle(load_run_config(UptConfig, run.path))
    assert (bundle.channels, bundle.judged) == (("u", "nu"), (0,))
    batch = next(iter(bundle.test.batches(epoch=0)))
    frames = bundle.normaliser.denormalise(batch["frames"])
    with h5py.File(path) as file:
        torch.testing.assert_close(frames[:, 1, 0], torch.from_numpy(file["tensor"][:2, 0]))
        for frame in (0, 1):
            torch.testing.assert_close(frames[:, frame, 1], torch.from_numpy(file["nu"][:2]))
    assert frames[:, 0, 0].abs().max() < 1e-6


def test_steady_flow_is_solved_and_learnt(run_app: Callable[..., int], tmp_path: Path) -> None:
    sizes = [f"--data.num_{split}={n}" for split, n in (("train", 4), ("valid", 2), ("test", 3))]
    solved = [*DARCY, *sizes, "--data.num_steps=1", "--data.shape=8,8", "--data.beta=2"]
    folder = tmp_path / "darcy"
    assert run_app("generate", *solved, data=folder) == 0
    assert run_app("generate", "--verify", *solved, data=folder) == 0
    assert run_app("train", "--loss.rollout_horizon=1", *GRID4, data=folder) == 0
    run = RunFolder.at(Path("runs/upt-inverse/tiny"))
    assert (run.config["data"]["pde"], run.config["data"]["beta"]) == ("darcy", 2.0)
    assert {"operator_nrmse", "reconstruction_nrmse"} == set(run.summary()["metrics"])


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--loss.rollout_horizon=2"], ("rollout_horizon = 2", "data.num_steps = 1")),
        (["--loss.L_conservation=1"], ("loss.L_conservation", "steady")),
        (["--model.condition=time"], ("model.condition: time", "steady")),
    ],
)
def test_what_needs_time_is_refused_on_a_steady_file(
    run_app: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    parts: tuple[str, ...],
) -> None:
    given = {word.split("=")[0] for word in words}
    rest = [word for word in DARCY if word.split("=")[0] not in given]
    path = darcy_file(tmp_path)
    assert run_app("train", "--data.source=pdebench", *rest, *words, data=path) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert all(part in told for part in parts), told


def test_files_on_other_grids_are_refused_with_a_way_out(
    run_app: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    burgers_file(folder, nu=0.01)
    with h5py.File(burgers_file(folder, nu=0.1), "r+") as file:
        for name in ("tensor", "x-coordinate"):
            values = file[name][..., ::2]
            del file[name]
            file[name] = values
    assert run_app("train", *PDE, "--model.condition=nu", data=folder) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "(16,)" in told
    assert "(32,)" in told
    assert "mix them by task" in told


def test_a_border_of_every_cell_is_refused(
    run_app: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = flow_folder(tmp_path / "flow", shape=(8, 1))
    words = ["--model.encoder=supernodes", "--model.supernodes=4", "--model.radius=0.5"]
    assert run_app("train", *words, "--loss.L_boundary=1", data=folder) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "L_boundary: axis 1 has one cell" in told


def test_a_truncated_file_is_named(
    run_app: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = burgers_file(tmp_path)
    path.write_bytes(path.read_bytes()[:2000])
    assert run_app("train", *PDE, data=path) == 2
    assert path.name in "".join(capsys.readouterr().err.split())


def test_files_of_several_viscosities_need_a_model_that_is_told(
    run_app: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    burgers_file(folder, nu=0.01)
    burgers_file(folder, nu=0.1)
    assert run_app("train", *PDE, data=folder) == 2
    assert "'nu'" in capsys.readouterr().err
    assert not Path("runs").exists()
    words = ["--model.condition=nu", "--train.epochs=1", "--train.warmup_steps=0"]
    assert run_app("train", *PDE, *words, data=folder) == 0
    config = load_run_config(UptConfig, Path("runs/upt-inverse/tiny"))
    bundle = open_bundle(config)
    task = build_task(config, bundle, build_model(config, bundle))
    batches = [*bundle.valid.batches(epoch=0), *bundle.test.batches(epoch=0)]
    told = torch.cat([task.states(batch).parameters for batch in batches])
    assert sorted(set(told.flatten().tolist())) == [0.0, 1.0]  # in the order of 1, as asked for


def test_an_uneven_grid_is_refused(tmp_path: Path, run_app: Callable[..., int]) -> None:
    path = burgers_file(tmp_path)
    with h5py.File(path, "r+") as file:
        file["x-coordinate"][3] += 0.01
    assert run_app("train", *PDE, data=path) == 2


def test_data_that_changed_under_a_run_are_refused(
    trained: Path, tmp_path: Path, data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    words = ["--data.num_train=4", "--data.num_valid=2", "--data.num_test=3"]
    size = ["--data.num_steps=4", "--data.shape=64", "--data.viscosity=0.05", "--data.seed=9"]
    assert main(["generate", f"--data={other}", *words, *size]) == 0
    assert main(["rollout", str(trained), f"--data={other}"]) == 2
    assert "normalised with mean" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no point"), ("0.1,0.2\n", "1 coordinates"), ("0.1\nx\n", "line 2"), ("nan\n", "nan")],
)
def test_bad_query_files_are_named_with_their_line(
    trained: Path, tmp_path: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)
    assert main(["rollout", str(trained), "--queries", str(path)]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_run_without_a_checkpoint_or_an_evaluation_is_told(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "empty"
    run.mkdir()
    (run / "config.yaml").write_text((trained / "config.yaml").read_text())
    assert main(["evaluate", str(run)]) == 2
    assert "no checkpoint" in capsys.readouterr().err
    assert main(["report", str(run)]) == 2
    assert "not evaluated yet" in capsys.readouterr().err
