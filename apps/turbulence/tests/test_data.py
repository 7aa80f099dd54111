"""Solved, converted and given data: what is in the files, and what a run takes from them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from nops_data import Normaliser, Request, WellReader, WellWriter
from nops_losses import energy_spectrum
from nops_physics import coarsen
from nops_train import InputError, load_run_config
from turbulence.cli import main
from turbulence.config import FlowDataConfig, TurbulenceConfig
from turbulence.data_fields import fields_named, published_moments
from turbulence.flows import solve_with


def request(seeds: tuple[int, ...]) -> Request:
    n = len(seeds)
    return Request(
        split="train",
        index=tuple(range(n)),
        theta=np.zeros((n, 0)),
        ic_seed=seeds,
        weight_seed=(0,) * n,
        noise_seed=(0,) * n,
    )


def data_config(**changes: object) -> FlowDataConfig:
    plain = {"shape": (16, 16), "num_steps": 3, "warmup_time": 0.5, **changes}
    return FlowDataConfig.model_validate(plain)


@pytest.mark.parametrize("source", ["kolmogorov", "decaying", "taylor_green", "random_field"])
def test_every_source_gives_velocities_without_divergence_that_depend_on_the_seed(
    source: str,
) -> None:
    frames = solve_with(data_config(source=source))(request((5, 6)))
    assert frames.shape == (2, 4, 2, 16, 16)
    assert frames.dtype == torch.float32
    modes = torch.fft.fft2(frames.double())
    k = torch.fft.fftfreq(16, d=1 / 16, dtype=torch.float64)
    k[8] = 0.0
    divergence = k[:, None] * modes[:, :, 0] + k * modes[:, :, 1]
    assert divergence.abs().max() < 1e-4 * modes.abs().max()  # float32 fields
    assert not torch.allclose(frames[0], frames[1], atol=1e-3)
    assert torch.equal(solve_with(data_config(source=source))(request((6,)))[0], frames[1])


def test_random_fields_have_their_slope_and_move_by_a_cell() -> None:
    frames = solve_with(data_config(source="random_field", shape=(32, 32)))(request((1,)))[0]
    k, energy = energy_spectrum(frames[0].double())
    inner = slice(1, 12)
    ratio = energy[inner] / k[inner] ** (-5 / 3)
    torch.testing.assert_close(ratio, ratio[0].expand_as(ratio), rtol=1e-5, atol=0)
    torch.testing.assert_close(frames[1], frames[0].roll(1, dims=-2))


def test_a_solution_on_a_finer_grid_is_coarsened_without_aliasing() -> None:
    finer = data_config(solver_resolution=32, viscosity=0.05)
    found = solve_with(finer)(request((5,)))
    whole = solve_with(data_config(shape=(32, 32), viscosity=0.05))(request((5,)))
    torch.testing.assert_close(found, coarsen(whole, shape=(16, 16)), rtol=0, atol=1e-5)
    assert not torch.allclose(found, whole[..., ::2, ::2], atol=1e-5)


def test_a_time_step_above_the_stable_one_names_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data.shape=16,16", "--data.time_step=5.0", "--data.frame_interval=5.0"]
    assert main(["generate", f"--data={tmp_path / 'd'}", *words]) == 2
    error = capsys.readouterr().err
    assert "data.time_step = 5" in error
    assert "stable" in error


def test_a_given_folder_decides(
    run_app: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app("train", "--arms=field", "--train.epochs=1", "--data.num_train=3") == 0
    said = capsys.readouterr().out
    assert "Spectra of 16 cells have few shells" in said
    assert said.count("recFieldError is left out") == 1
    config = load_run_config(TurbulenceConfig, tmp_path / "runs/turbulence/study/field_s0")
    assert config.data.num_train == 3
    assert (config.data.num_steps, config.data.shape) == (9, (16, 16))
    assert config.data.warmup_time == 0.5


def test_what_a_given_folder_lacks(
    run_app: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app("train", "--data.num_train=30") == 2
    assert "data.num_train = 30" in capsys.readouterr().err
    assert run_app("train", "--data.fields=pressure") == 2
    assert "pressure is none of the fields" in capsys.readouterr().err
    assert run_app("train", "--data.parameters=re") == 2
    assert "re is none of the scalars" in capsys.readouterr().err
    assert run_app("train", data="nowhere") == 2
    assert "turbulence generate --data nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["monitor_metric", "guard_metric"])
def test_a_metric_that_nothing_publishes_is_told_before_training(
    run_app: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, key: str
) -> None:
    assert run_app("train", "--arms=schedule", f"--weighting.{key}=val_los") == 2
    error = capsys.readouterr().err
    for word in (key, "'val_los'", "val_loss", "log_spectrum_error"):
        assert word in error
    assert not (tmp_path / "runs/turbulence/study/schedule_s0").exists()


def put_tree(folder: Path, *, simulations: int = 4, frames: int = 8) -> None:
    """A tree like the published one: velocity and pressure on 16 x 8, Reynolds number, obstacle."""
    generator = np.random.default_rng(0)
    mask = np.ones((16, 8), dtype=np.float32)
    mask[4:7, 3:5] = 0
    for number in range(simulations):
        place = folder / f"sim_{number:06d}"
        (place / "src").mkdir(parents=True)
        (place / "src" / "description.json").write_text(
            json.dumps({"Reynolds Number": 100.0 + 10 * number})
        )
        np.savez(place / "obstacle_mask.npz", mask)
        for frame in range(frames):
            for field, channels in (("velocity", 2), ("pressure", 1)):
                values = generator.normal(size=(channels, 16, 8)).astype(np.float32)
                np.savez(place / f"{field}_{frame:06d}.npz", values)


TREE = [
    *("--data.source=file", "--data.npz=tree", "--data.fields=velocity,pressure"),
    *("--data.parameters=Reynolds Number", "--data.lengths=4,2", "--data.boundary=open,wall"),
    *("--data.splits.train.simulations=0,1", "--data.splits.valid.simulations=2"),
    *("--data.splits.test.simulations=3", "--data.frame_interval=0.05"),
    *(f"--data.splits.{split}.frames=0,7,1" for split in ("train", "valid", "test")),
    *("--model.encoder_levels=1", "--loss.wavelet=haar"),
]


def test_a_tree_of_npz_files_is_converted_and_trained_on(
    run_app: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put_tree(tmp_path / "tree")
    monkeypatch.chdir(tmp_path)
    run = [*TREE, "--arms=field,static"]
    assert main(["generate", "--data=converted", *TREE, *small()]) == 0
    assert run_app("train", *run, data="converted") == 2
    assert "loss.spectrum_options.window" in capsys.readouterr().err  # a transform sees a jump
    windowed = [*run, "--loss.spectrum_options.window=hann", "--resume=force"]
    assert run_app("train", *windowed, data="converted") == 0
    config = load_run_config(TurbulenceConfig, tmp_path / "runs/turbulence/study/static_s0")
    assert config.data.shape == (16, 8)
    reader = WellReader(tmp_path / "converted", split="train")
    assert "obstacle_mask" in reader.channels


def small() -> list[str]:
    return ["--evaluate.rollout=3", "--evaluate.lead_window=1,2"]


def test_a_missing_frame_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    put_tree(tmp_path / "tree")
    (tmp_path / "tree/sim_000003/pressure_000005.npz").unlink()
    assert main(["generate", "--data=converted", *TREE, *small()]) == 2
    assert "sim_000003/pressure_000005.npz" in capsys.readouterr().err
    assert not (tmp_path / "converted").exists()


def test_a_simulation_of_two_splits_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data.splits.train.simulations=0,1,3", "--data.splits.test.simulations=3"]
    assert main(["train", *[w for w in TREE if "simulations" not in w], *words]) == 2
    assert "simulations [3] of test are also in train" in capsys.readouterr().err


def test_a_name_means_a_field_or_its_components(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    writer = WellWriter(tmp_path, dataset_name="d", boundary="periodic")
    values = rng.normal(size=(1, 3, 8, 8)).astype(np.float32)
    vector = rng.normal(size=(1, 3, 8, 8, 2)).astype(np.float32)
    fields = {"u_x": values, "u_y": values, "velocity": vector, "p": values}
    writer.write("train", fields, np.arange(3.0))
    reader = WellReader(tmp_path, split="train")
    assert fields_named(reader, ("u",)) == ("u_x", "u_y")
    assert fields_named(reader, ("velocity", "p")) == ("velocity", "p")
    with pytest.raises(InputError, match="w is none of the fields"):
        fields_named(reader, ("w",))


def test_published_moments_go_by_the_channels_names(data_folder: Path) -> None:
    fitted = Normaliser.fit(WellReader(data_folder, split="train"))
    plain = published_moments(fitted, "none")
    assert (plain.mean.tolist(), plain.std.tolist()) == ([0.0, 0.0], [1.0, 1.0])
    with pytest.raises(InputError, match="incMixed is for the channels velocity_x, velocity_y"):
        published_moments(fitted, "incMixed")
    named = Normaliser(
        mean=torch.zeros(3).double(),
        std=torch.ones(3).double(),
        increment_mean=torch.zeros(3).double(),
        increment_std=torch.ones(3).double(),
        channels=("pressure", "velocity_x", "velocity_y"),
    )
    moments = published_moments(named, "incMixed")
    assert moments.mean.tolist() == [0.000586, 0.444969, 0.000299]
    assert moments.std.tolist() == [0.003942, 0.206128, 0.206128]
