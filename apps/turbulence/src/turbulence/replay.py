"""What the schedule of a run did, worked out again from the run's log: its checkpoints may be gone."""

from nops_schedules import Simulation, simulate
from nops_train import RunFolder, read_events

from turbulence.config import TurbulenceConfig
from turbulence.config_weighting import SchedulerConfig


def replayed_schedule(run: RunFolder, config: TurbulenceConfig) -> Simulation | None:
    """What the schedule did over the run's validations; None where it has no schedule."""
    if not isinstance(config.weighting, SchedulerConfig):
        return None
    metrics: dict[int, dict[str, float]] = {}
    raw: dict[int, dict[str, float]] = {}
    for event in read_events(run.path):
        if event["event"] == "validation":
            metrics[event["epoch"]] = event["metrics"]
        elif event["event"] == "epoch":
            raw[event["epoch"]] = event["raw"]
    last = max(metrics, default=-1)
    trace = [
        {**raw.get(epoch, {}), **metrics[epoch]} if epoch in metrics else None
        for epoch in range(last + 1)
    ]
    return simulate(config.weighting.params(), trace, scale=config.loss.factors())


def measured_scale(replay: Simulation) -> float | None:
    """What `loss.spectrum_scale: auto` was found to be; None before that."""
    return replay.scale.get("spectrumError")


def scale_text(replay: Simulation, config: TurbulenceConfig) -> str:
    """`loss.spectrum_scale` of a schedule's run in words."""
    if not config.loss.is_measured:
        return f"{config.loss.spectrum_scale:g}"
    scale = measured_scale(replay)
    return "auto, not measured yet," if scale is None else f"{scale:.4g}, measured,"
