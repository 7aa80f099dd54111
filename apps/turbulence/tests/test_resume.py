"""The schedule under the engine: cut at every step, and on two ranks, it decides the same."""

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from nops_models import FNO, FNOConfig
from nops_schedules import FlexibleLossScheduler, SchedulerParams
from nops_testing.ranks import run_ranks
from nops_train import Engine, ListSource, RunFolder, TrainConfig, load_checkpoint, read_events
from turbulence.config_loss import MEASURED_SCALE, LossConfig
from turbulence.gradients import GradientNorms
from turbulence.task import FlowTask
from turbulence.terms import Domain, make_metrics, make_terms

EPOCHS, BATCHES = 8, 2
DOMAIN = Domain(shape=(8, 8), lengths=(1.0, 1.0), periodic=(True, True))
LOSS = LossConfig(wavelet="haar")
TERMS = {"predFieldError": 1.0, "spectrumError": 0.0}
MOVING = SchedulerParams(
    enabled=True,
    source_components={"predFieldError": True},
    warmup_epochs=0,
    min_epochs_before_adapt=1,
    patience=1,
    adaptation_trigger="epoch",
    milestones=(1, 2, 5, 6, 7),
    adaptive_step=False,
    transition_step=0.2,
    max_consecutive_adaptations=2,
    pause_epochs=2,
)
KINDS: dict[str, dict[str, Any]] = {
    "moving": {"params": MOVING, "scale": {"spectrumError": 0.05}},
    "measured": {"params": MOVING, "scale": {"spectrumError": MEASURED_SCALE}},
    "disabled": {"params": SchedulerParams()},
}


def frames(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {"frames": torch.randn(2, 3, 1, 8, 8, generator=generator), "parameters": torch.zeros(2, 0)}
        for _ in range(count)
    ]


class Struck:
    """Batches that raise the first time that each of some places is reached."""

    num_batches = BATCHES

    def __init__(self, places: set[tuple[int, int]]) -> None:
        self.source, self.left = ListSource(frames(BATCHES, seed=1), seed=0), places

    def batches(self, *, epoch: int, skip: int) -> Iterator[Any]:
        for index, batch in enumerate(self.source.batches(epoch=epoch, skip=skip), start=skip):
            if (epoch, index) in self.left:
                self.left.remove((epoch, index))
                raise OSError("struck")
            yield batch


def train(root: Path, kind: str, source: Struck) -> RunFolder:
    torch.manual_seed(0)
    model = FNO(FNOConfig(base_channels=4, num_layers=1, modes=2))
    terms = make_terms(LOSS, DOMAIN)
    task = FlowTask(
        model=model,
        terms=terms,
        metrics_of=make_metrics(LOSS, DOMAIN),
        val_weights=TERMS,
        gradients=GradientNorms(terms=terms, weights={"predFieldError": 0.3, "spectrumError": 0.7}),
    )
    config = TrainConfig(
        epochs=EPOCHS,
        lr_schedule="constant",
        monitor="field_error",
        device="cpu",
        save_every=1000,
    )
    plain = {"train": config.model_dump(mode="json")}
    run = RunFolder.open(root, app="toy", name=kind, config=plain, resume="auto")
    weighting = FlexibleLossScheduler(terms=TERMS, **KINDS[kind])
    made = Engine(
        task=task, weighting=weighting, model=model, config=config, run=run, progress="none"
    )
    made.fit(source, ListSource(frames(2, seed=2), shuffle=False))
    return run


def told(run: RunFolder) -> list[Any]:
    keep = ("epoch", "validation")
    events = [event for event in read_events(run.path) if event["event"] in keep]
    return [{k: v for k, v in event.items() if k not in ("time", "seconds")} for event in events]


@pytest.mark.parametrize(
    "kind",
    [
        "measured",
        pytest.param("moving", marks=pytest.mark.fault),
        pytest.param("disabled", marks=pytest.mark.fault),
    ],
)
def test_cut_before_every_step_it_ends_as_if_it_never_stopped(tmp_path: Path, kind: str) -> None:
    whole = train(tmp_path / "whole", kind, Struck(set()))
    places = {(epoch, index) for epoch in range(EPOCHS) for index in range(BATCHES)}
    # the start-up check reads the first batches of epoch 0 before each session's first step
    source = Struck(places - {(0, 0), (0, 1)})
    while source.left:
        with pytest.raises(OSError, match="struck"):
            train(tmp_path / "cut", kind, source)
    cut = train(tmp_path / "cut", kind, source)
    left, right = (load_checkpoint(run.checkpoints.path) for run in (whole, cut))
    assert json.dumps(left["weighting"]) == json.dumps(right["weighting"])
    assert all(torch.equal(v, right["model"][name]) for name, v in left["model"].items())
    assert told(cut) == told(whole)
    kinds = {event["kind"] for event in left["weighting"]["events"]}
    expected = {"warmup_complete", "adaptation", "paused", "resumed", "complete"}
    assert kinds >= (set() if kind == "disabled" else expected), kinds
    assert ("scale" in kinds) == (kind == "measured")


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch has no gloo here")
def test_two_ranks_with_unequal_shards_hold_equal_weights(
    data_folder: Path, tmp_path: Path
) -> None:
    script = Path(__file__).with_name("two_ranks.py")
    words = [
        *(f"--data={data_folder}", "--name=study", "--arms=schedule"),
        # three windows to validate on: two for the first rank, one for the second
        *("--data.num_valid=1", "--train.unroll=3", "--train.batch_size=4"),
        *("--model.base_channels=4", "--model.afno_groups=2", "--model.modes=3"),
        *("--train.epochs=6", "--train.steps_per_epoch=2", "--train.device=cpu"),
        *("--weighting.min_epochs_before_adapt=1", "--loss.spectrum_scale=auto"),
        *("--evaluate.rollout=4", "--evaluate.lead_window=1,2", "--evaluate.bootstrap=20"),
    ]
    run_ranks(script, [tmp_path, "train", *words, f"--runs={tmp_path / 'two'}"])
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    alone = runpy.run_path(str(script))["follow"](["train", *words, f"--runs={tmp_path / 'one'}"])
    assert first == second
    assert first[-1]["weights"]["spectrumError"] > 0
    assert len(first) == len(alone) == 6
    for both, one in zip(first, alone, strict=True):
        assert both["spectrum_error"] == pytest.approx(one["spectrum_error"], rel=1e-3)
        assert both["weights"] == pytest.approx(one["weights"], rel=1e-3)  # sums in another order
