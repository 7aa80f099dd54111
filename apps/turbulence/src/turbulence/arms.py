"""Arms of a comparison: what each changes of the configuration, weights as numbers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nops_schedules import SchedulerParams, simulate
from nops_train import InputError, RunFolder, load_run_config, parse_config, read_events

from turbulence.config import TurbulenceConfig
from turbulence.config_loss import SPECTRUM_TERMS
from turbulence.config_weighting import SchedulerConfig
from turbulence.replay import measured_scale, replayed_schedule

LOW = (0.95, 0.05)  # weight of the field error, and of the spectral term, of the arms `low` …
ARM_TEXTS = {
    "field": "no spectral term",
    "schedule": "weights move by the rule of the section weighting",
    "static": "the final weights from the start",
    "matched": "constant: the schedule's average over time, same seed",
    "low": "constant: 0.95 field, 0.05 spectrum at scale 1",
    "bsp": "as low, with the binned spectral power error",
    "wavelet": "as low, with wavelet energies",
    "constant": "the weights of the loss section",
}
LOW_TERMS = {"low": "spectrumError", "bsp": "bspError", "wavelet": "waveletError"}


def arm_config(
    config: TurbulenceConfig,
    arm: str,
    *,
    seed: int,
    matched: Mapping[str, float] | None = None,
    scale: float = 1.0,
) -> TurbulenceConfig:
    """The configuration of one run: one arm, one seed, its weights as they will be used.

    Args:
        config: Of the comparison.
        arm: One of `config.arms`.
        seed: Of training.
        matched: Average weights of the schedule's run, for the arm `matched`.
        scale: What `loss.spectrum_scale: auto` is in an arm of constant weights.
    """
    plain = config.model_dump(mode="json")
    plain |= {"arms": [arm if arm in ("schedule", "field") else "constant"], "seeds": []}
    plain["train"] |= {"seed": seed}
    if arm != "schedule":
        plain["weighting"] = {"kind": "constant"}
        if config.loss.is_measured:
            plain["loss"]["spectrum_scale"] = scale
        plain["loss"] |= _constant_weights(config, arm, matched=matched)
    return parse_config(TurbulenceConfig, plain, source=f"arm {arm}")


def _constant_weights(
    config: TurbulenceConfig, arm: str, *, matched: Mapping[str, float] | None
) -> dict[str, Any]:
    if arm == "field":
        return dict.fromkeys(SPECTRUM_TERMS, 0.0)
    if arm == "constant":
        return {}
    assert isinstance(config.weighting, SchedulerConfig)
    if arm == "matched":
        assert matched is not None
        return dict(matched)
    final = final_weights(config.weighting.params())
    if arm == "static":
        return final
    field, spectrum = LOW
    moved = dict.fromkeys((*final, *SPECTRUM_TERMS), 0.0)
    return {**moved, "predFieldError": field, LOW_TERMS[arm]: spectrum, "spectrum_scale": 1.0}


def final_weights(params: SchedulerParams) -> dict[str, float]:
    """Weights at the end of the schedule's path, reached by walking it."""
    walk = replace(
        params,
        adaptation_trigger="plateau",
        milestones=(),
        trigger_value=None,
        patience=1,
        warmup_epochs=0,
        min_epochs_before_adapt=0,
        max_consecutive_adaptations=10**6,
        adaptive_step=False,
        transition_step=1e9,  # a segment at a time
        guard_metric=None,
        use_ema=False,
        min_delta_mode="abs",
    )
    segments = 1 if params.waypoints is None else len(params.waypoints) - 1
    return dict(simulate(walk, [1.0] * (3 * segments + 3)).weights[-1])


def follows_schedule(config: TurbulenceConfig, arm: str) -> bool:
    """Whether an arm takes a figure from the schedule's run, which then must come before."""
    return arm == "matched" or (arm == "static" and config.loss.is_measured)


def schedules_figures(run: RunFolder, arm: str) -> dict[str, Any]:
    """What an arm that follows the schedule takes from its run, as arguments of `arm_config`.

    Raises:
        InputError: If the run is too short to give it.
    """
    if arm == "matched":
        return {"matched": average_weights(run)}
    replay = replayed_schedule(run, load_run_config(TurbulenceConfig, run.path))
    scale = None if replay is None else measured_scale(replay)
    if scale is None:
        raise InputError(
            f"{run.path}: the warm-up of its schedule did not end, so loss.spectrum_scale: auto was "
            f"not measured, which arm {arm} needs; train longer, or give a number"
        )
    return {"scale": scale}


def average_weights(run: RunFolder) -> dict[str, float]:
    """Each term's mean weight over the optimizer steps of a run, `spectrum_scale` taken off.

    One that was measured is left in: it was no constant.

    Raises:
        InputError: If the run's log has no epoch.
    """
    epochs = [event for event in read_events(run.path) if event["event"] == "epoch"]
    steps = sum(event["applied"] for event in epochs)
    if not steps:
        raise InputError(f"{run.path}: no epoch in its log, so no average of its weights")
    given = run.config["loss"]["spectrum_scale"]
    scale = {"spectrumError": 1.0 if given == "auto" else given}
    names = {name for event in epochs for name in event["weight"]}
    return {
        name: sum(event["applied"] * event["weight"].get(name, 0.0) for event in epochs)
        / (steps * scale.get(name, 1.0))
        for name in sorted(names)
    }
