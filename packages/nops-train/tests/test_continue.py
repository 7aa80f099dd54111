"""What a call goes on with, the learning rate of its config, and the memory it will take."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nops_train import (
    Config,
    DataConfig,
    InputError,
    Invocation,
    MemoryForecast,
    RunFolder,
    TrainConfig,
    continued_config,
    forecast_memory,
    make_learning_rate,
    neutral_keys,
    open_study,
    predict_memory,
    report_forecast,
    study_config,
)
from pydantic import Field


class Toy(Config):
    """Two sections, and what is evaluated."""

    data: DataConfig = Field(default=DataConfig(), description="Data.")
    train: TrainConfig = Field(default=TrainConfig(epochs=4), description="Training.")
    evaluate: int = Field(default=1, description="Evaluation.")


def invoked(runs: Path, **changes: Any) -> Invocation:
    settings = {
        "app": "toy",
        "command": "train",
        "preset": "default",
        "preset_given": False,
        "runs": runs,
        "name": "a",
        "folder": runs / "toy/a",
    }
    return Invocation(**(settings | changes))


def trained(**changes: Any) -> Toy:
    return Toy(train=TrainConfig(**({"epochs": 4} | changes)))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of runs with toy/a: 7 epochs, seed 3."""
    RunFolder.open(tmp_path, app="toy", name="a", config=trained(epochs=7, seed=3))
    return tmp_path


def test_a_run_that_goes_on_keeps_what_was_not_given(runs: Path) -> None:
    now = trained(epochs=9, seed=5)
    found = continued_config(now, invoked(runs, explicit={"train.seed": "--seed"}))
    assert found == trained(epochs=7, seed=5)


@pytest.mark.parametrize(
    "changes", [{"name": "b"}, {"resume": "never"}, {"preset_given": True}, {"app": "other"}]
)
def test_otherwise_the_call_s_own_config_counts(runs: Path, changes: dict[str, Any]) -> None:
    now = trained(epochs=9)
    assert continued_config(now, invoked(runs, **changes)) == now


def test_start_weights_of_a_new_run_have_to_be_there(runs: Path) -> None:
    missing = trained(init_from="nowhere")
    for changes in ({"name": "b"}, {"resume": "never"}):
        with pytest.raises(InputError, match=r"train\.init_from: found nothing at nowhere"):
            continued_config(missing, invoked(runs, **changes))
    there = trained(init_from=str(runs / "toy/a"))
    assert continued_config(there, invoked(runs, name="b")) == there


def test_start_weights_of_a_run_that_exists_are_not_looked_for(tmp_path: Path) -> None:
    config = trained(init_from="gone")
    RunFolder.open(tmp_path, app="toy", name="a", config=config)
    again = invoked(tmp_path, explicit={"train.init_from": "--init-from"})
    assert continued_config(config, again) == config


def test_neutral_keys_are_keys_and_let_a_run_go_on(runs: Path) -> None:
    known = {
        f"{part}.{key}"
        for part in ("train", "data")
        for key in getattr(Toy(), part).__class__.model_fields
    }
    assert set(neutral_keys("evaluate")) - known == {"evaluate"}
    config = trained(epochs=7, seed=3).model_copy(update={"evaluate": 2})
    neutral = neutral_keys("evaluate")
    run = RunFolder.open(runs, app="toy", name="a", config=config, neutral=neutral)
    run.checkpoints.save("step_1.pt", {})
    other = config.model_copy(update={"evaluate": 3})
    RunFolder.open(runs, app="toy", name="a", config=other, neutral=neutral)
    other = config.model_copy(update={"evaluate": 4})
    with pytest.raises(InputError, match="evaluate"):
        RunFolder.open(runs, app="toy", name="a", config=other)


def test_a_study_goes_on_in_its_folder_and_starts_anew_beside_it(tmp_path: Path) -> None:
    again = invoked(tmp_path, resume="never")
    names = [open_study(c).path.name for c in (invoked(tmp_path), invoked(tmp_path), again, again)]
    assert names == ["a", "a", "a-2", "a-3"]
    assert open_study(invoked(tmp_path)).path == tmp_path / "toy/a"


def test_a_study_without_a_name_leaves_the_run_of_its_preset_alone(tmp_path: Path) -> None:
    def opened(name: str, preset: str, **changes: Any) -> str:
        call = invoked(tmp_path, name=name, preset=preset, **changes)
        study = open_study(call, word="ablation")
        assert call.folder == study.path
        return study.path.name

    assert opened("default", "default") == "ablation"
    assert opened("ablation", "ablation") == "ablation"
    assert opened("long", "long") == "ablation_long"
    assert opened("mine", "default") == "mine"
    assert opened("long", "long", resume="never") == "ablation_long-2"


def test_a_study_keeps_what_was_not_given(tmp_path: Path) -> None:
    study = open_study(invoked(tmp_path))
    now = trained(epochs=9, seed=5)
    assert study_config(now, study, invoked(tmp_path)) == now
    study.update(config=trained(epochs=7, seed=3).model_dump(mode="json"))
    assert json.loads((study.path / "study.json").read_text())["config"]["train"]["epochs"] == 7
    given = invoked(tmp_path, explicit={"train.seed": "--seed"})
    assert study_config(now, study, given) == trained(epochs=7, seed=5)
    assert study_config(now, study, invoked(tmp_path, preset_given=True)) == now


def recorded(found: list[dict[str, Any]]) -> Callable[..., float]:
    def cosine(step: int, **settings: Any) -> float:
        found.append({"step": step, **settings})
        return 0.5

    return cosine


def test_the_cosine_gets_the_run_s_numbers() -> None:
    asked: list[dict[str, Any]] = []
    train = TrainConfig(epochs=3, learning_rate=0.25, warmup_steps=14, lr_schedule="cosine")
    rate = make_learning_rate(train, steps_per_epoch=5, cosine=recorded(asked))
    assert rate(1, 7) == 0.5
    assert asked == [{"step": 7, "peak": 0.25, "warmup_steps": 14, "total_steps": 15}]


@pytest.mark.parametrize("schedule", ["cosine", "step", "plateau"])
def test_a_warm_up_as_long_as_the_run_is_refused(schedule: Any) -> None:
    train = TrainConfig(epochs=3, warmup_steps=15, lr_schedule=schedule)
    with pytest.raises(
        InputError, match=r"train\.warmup_steps = 15 leaves nothing of the run's 15"
    ):
        make_learning_rate(train, steps_per_epoch=5, cosine=recorded([]))


def test_a_constant_rate_may_decay_by_epoch() -> None:
    train = TrainConfig(epochs=3, learning_rate=0.25, lr_schedule="constant", warmup_steps=99)
    stays = make_learning_rate(train, steps_per_epoch=5, cosine=recorded([]))
    falls = make_learning_rate(train, steps_per_epoch=5, cosine=recorded([]), decay_per_epoch=0.5)
    assert [stays(epoch, 5 * epoch) for epoch in range(3)] == [0.25, 0.25, 0.25]
    assert [falls(epoch, 5 * epoch) for epoch in range(3)] == [0.25, 0.125, 0.0625]


def test_a_stepped_rate_warms_up_and_falls_by_epochs() -> None:
    train = TrainConfig(
        epochs=9,
        learning_rate=0.5,
        lr_schedule="step",
        lr_factor=0.25,
        lr_step_epochs=3,
        warmup_steps=6,
    )
    rate = make_learning_rate(train, steps_per_epoch=4, cosine=recorded([]))
    places = [(0, 0), (0, 2), (1, 6), (2, 11), (3, 12), (8, 35)]
    found = [rate(epoch, step) for epoch, step in places]
    assert found == pytest.approx(
        [0.05, 0.2, 0.5, 0.5, 0.125, 0.03125]
    )  # 0.5·(0.1 + 0.9·2/6) = 0.2


@pytest.mark.parametrize(
    ("mode", "values", "scales"),
    [
        # equal is no better; the wait starts anew after a fall; a better value restores nothing
        ("min", [3, 3, 3, 2, 4, math.nan, 1], [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]),
        ("max", [1, 0, 2, 2, 2], [1, 1, 1, 1, 0.5]),
        ("min", [math.nan, math.nan, 5], [1, 0.5, 0.5]),
    ],
)
def test_a_rate_falls_on_a_plateau(mode: Any, values: list[float], scales: list[float]) -> None:
    train = TrainConfig(
        learning_rate=2.0,
        lr_schedule="plateau",
        lr_factor=0.5,
        lr_patience=2,
        monitor_mode=mode,
        warmup_steps=10,
    )
    rate: Any = make_learning_rate(train, steps_per_epoch=4, cosine=recorded([]))
    assert rate(0, 0) == 0.2
    for value, scale in zip(values, scales, strict=True):
        rate.observe(value)
        assert rate(3, 10) == 2.0 * scale


@pytest.mark.parametrize(
    ("batch", "accumulate", "held", "at_once"), [(6, 4, 100, 2), (6, 1, 5, 5), (6, 4, 5, 2)]
)
def test_a_forecast_is_of_a_micro_batch(
    batch: int, accumulate: int, held: int, at_once: int
) -> None:
    model, sample = torch.nn.Linear(3, 3), (torch.zeros(1, 3),)
    train = TrainConfig(batch_size=batch, accumulate=accumulate)
    found = forecast_memory(
        model, sample, train=train, num_samples=held, window=4, checkpoint_every=2, parts=5
    )
    whole = predict_memory(model, sample, batch_size=at_once, window=4, checkpoint_every=2)
    assert whole.optimizer == 3 * 12 * 4  # gradient and two moments of 12 float32
    assert found == MemoryForecast(
        **{name: getattr(whole, name) for name in MemoryForecast.__slots__} | {"optimizer": 29}
    )  # 144 / 5, rounded up


def test_a_forecast_is_said_or_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = torch.nn.Linear(3, 3)
    found = predict_memory(model, torch.zeros(1, 3), batch_size=2, window=4)
    report_forecast(found, device=torch.device("cpu"))
    said = capsys.readouterr().out
    assert said[0].isupper()
    assert said.lower() == f"{found}\n".lower()
    monkeypatch.setattr("nops_train._memory.free_memory", lambda device: 10)
    with pytest.raises(InputError, match="are free on cpu"):
        report_forecast(found, device=torch.device("cpu"))
