"""A model that sees several frames: windows, rollouts, validation, scores."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nops_models import FNO, FNOConfig
from nops_train import InputError, RunFolder, load_run_config, parse_config
from turbulence.build import build_model, open_bundle
from turbulence.cli import main
from turbulence.comparison import load_scored
from turbulence.config import TurbulenceConfig
from turbulence.config_loss import LossConfig
from turbulence.evaluation import evaluate_model
from turbulence.task import FlowTask
from turbulence.terms import Domain, make_metrics, make_terms

COSINE = math.cos(0.2)


def recurrence(channels: int) -> FNO:
    """An FNO of two frames whose weights are u_{t+1} = 2cos(0.2)·u_t − u_{t−1}, channel by channel."""
    config = FNOConfig(
        in_channels=channels,
        previous_frames=2,
        base_channels=2 * channels,
        num_layers=1,
        modes=1,
        residual_scale=None,
    )
    model = FNO(config).double()
    eye = torch.eye(channels, dtype=torch.float64)
    step = torch.cat([-eye, 2 * COSINE * eye], dim=1)  # of the older frame, and of the last
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for layer in (model.lift, model.layers[0].pointwise):  # pyright: ignore
            layer.weight[:, :, 0, 0] = torch.eye(2 * channels)  # pyright: ignore
        model.project.weight[:channels, :, 0, 0] = step  # gelu(v) − gelu(−v) = v
        model.project.weight[channels : 2 * channels, :, 0, 0] = -step
        model.output.weight[:, : 2 * channels, 0, 0] = torch.cat([eye, -eye], dim=1)
    return model


def waves(samples: int, frames: int, channels: int, size: int) -> torch.Tensor:
    """Solutions of the recurrence, `[sample, time, channel, size, size]`."""
    generator = torch.Generator().manual_seed(0)
    draw = {"generator": generator, "dtype": torch.float64}
    shape = (samples, 1, channels, size, size)
    angle = 0.2 * torch.arange(frames, dtype=torch.float64)[None, :, None, None, None]
    first, other = torch.randn(shape, **draw), torch.randn(shape, **draw)
    return torch.cos(angle) * first + torch.sin(angle) * other


def flow_task(model: FNO, **options: Any) -> FlowTask:
    domain = Domain(shape=(16, 16), lengths=(6.28, 6.28), periodic=(True, True))
    return FlowTask(
        model=model,
        terms=make_terms(LossConfig(), domain),
        metrics_of=make_metrics(LossConfig(), domain),
        val_weights={"predFieldError": 1.0},
        **options,
    )


def test_training_and_validation_roll_out_from_all_the_frames_that_a_step_sees() -> None:
    task = flow_task(recurrence(2))
    frames = waves(3, 7, 2, 16)
    batch = {"frames": frames, "parameters": torch.zeros(3, 0)}
    assert task.metrics(batch)["field_error"].max() < 1e-20
    active = frozenset({"predFieldError"})
    assert task.losses(batch, epoch=0, step=0, active=active)["predFieldError"] < 1e-20
    # the same frames the other way round solve it too; the first two exchanged do not
    swapped = {**batch, "frames": frames[:, [1, 0, 2, 3, 4, 5, 6]]}
    assert task.losses(swapped, epoch=0, step=0, active=active)["predFieldError"] > 1e-3


def test_noise_is_on_every_frame_to_start_from() -> None:
    task = flow_task(recurrence(2), noise=0.1)
    batch = {"frames": 0 * waves(3, 3, 2, 16), "parameters": torch.zeros(3, 0)}
    torch.manual_seed(1)
    value = task.losses(batch, epoch=0, step=0, active=frozenset({"predFieldError"}))
    torch.manual_seed(1)
    noise = 0.1 * torch.randn(3, 4, 16, 16, dtype=torch.float64)
    pred = 2 * COSINE * noise[:, 2:] - noise[:, :2]
    # the truth is zero: the error is absolute
    torch.testing.assert_close(value["predFieldError"], pred.square().mean())


def config_with(data_folder: Path, **sections: Any) -> TurbulenceConfig:
    plain = {
        "arms": ["field"],
        "data": {
            "path": str(data_folder),
            "shape": [16, 16],
            "num_steps": 9,
            "num_train": 4,
            "num_valid": 2,
            "num_test": 2,
        },
        "model": {
            "base_channels": 4,
            "afno_groups": 2,
            "modes": 3,
            **sections.pop("model", {}),
        },
        "evaluate": {"rollout": 4, "lead_window": [1, 2], "bootstrap": 20},
        "train": {"batch_size": 2, "device": "cpu"},
        **sections,
    }
    return parse_config(TurbulenceConfig, plain, source="test")


@pytest.mark.parametrize("frames", [1, 3])
def test_windows_hold_the_frames_before_and_predict_each_frame_once(
    data_folder: Path, frames: int
) -> None:
    bundle = open_bundle(config_with(data_folder, model={"previous_frames": frames}))
    batches = list(bundle.valid.batches(epoch=0, skip=0))
    shapes = {tuple(batch["frames"].shape[1:]) for batch in batches}
    assert shapes == {(frames + 2, 2, 16, 16)}
    whole = bundle.test  # of the same data set: units of training as the batches have them
    assert whole.num_frames == 10
    predicted = torch.cat([batch["frames"][:, frames:] for batch in batches]).flatten(0, 1)
    distinct = {frame.numpy().tobytes() for frame in predicted}
    # 10 frames less those before, in pairs, of two trajectories
    assert len(predicted) == len(distinct) == 2 * 2 * ((10 - frames) // 2)


def test_scores_begin_after_the_frames_that_a_step_sees(data_folder: Path) -> None:
    config = config_with(data_folder, model={"previous_frames": 2})
    bundle = open_bundle(config)
    model = build_model(config, bundle)
    scored = evaluate_model(config, bundle, model)
    frames = torch.stack([bundle.test.read(sample) for sample in range(2)])
    # two rollouts of four frames from two before: frames 2 to 5 and 6 to 9
    truth = torch.stack([frames[:, 2:6], frames[:, 6:10]], dim=1).flatten(0, 1)
    torch.testing.assert_close(scored.target, truth, rtol=1e-5, atol=1e-5)
    # an untrained model predicts persistence, which repeats the last frame before
    last = torch.stack([frames[:, 1], frames[:, 5]], dim=1).flatten(0, 1)
    torch.testing.assert_close(
        scored.pred, last[:, None].expand_as(scored.pred), rtol=1e-5, atol=1e-5
    )
    same = scored.errors["model"].field.value, scored.errors["persistence"].field.value
    torch.testing.assert_close(*same)


def test_a_run_with_two_frames_is_trained_kept_and_scored_again(
    run_app: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--model.previous_frames=2", "--arms=field", "--train.epochs=1"]
    assert run_app("train", *words) == 0
    run = tmp_path / "runs" / "turbulence" / "study" / "field_s0"
    assert load_run_config(TurbulenceConfig, run).model.previous_frames == 2
    before = load_scored(RunFolder.at(run)).evaluation
    assert main(["evaluate", str(run)]) == 0
    after = load_scored(RunFolder.at(run)).evaluation
    assert torch.equal(after.pred, before.pred)
    assert after.summary() == before.summary()


def test_windows_longer_than_a_trajectory_are_told_by_both_keys(data_folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        config_with(data_folder, model={"previous_frames": 7})
    for word in ("evaluate.rollout = 4", "the 6 that model.previous_frames adds", "num_steps = 9"):
        assert word in str(caught.value)
