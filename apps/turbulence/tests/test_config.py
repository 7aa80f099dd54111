"""What the configuration refuses, and what each arm makes of it."""

from typing import Any

import pytest
from nops_schedules import SchedulerParams
from nops_train import InputError, parse_config, resolve_call
from turbulence.arms import arm_config, final_weights
from turbulence.build import build_weighting, end_weights
from turbulence.cli import app
from turbulence.config import SplitConfig, TurbulenceConfig
from turbulence.generation import make_plan


def make(**sections: Any) -> TurbulenceConfig:
    data = {"shape": [16, 16], **sections.pop("data", {})}
    return parse_config(TurbulenceConfig, {"data": data, **sections}, source="test")


def message(**sections: Any) -> str:
    with pytest.raises(InputError) as caught:
        make(**sections)
    return str(caught.value)


CONSTANT = {"kind": "constant"}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        # the spectrum as the only weight, at the start, at the end, and without a schedule
        ({"weighting": {"final_weight_source": 0.0}}, ("final weights", "blind to phase")),
        (
            {
                "weighting": {"initial_weight_source": 0.0, "initial_weight_target": 0.5},
                "loss": {"predFieldError": 0.0},
            },
            ("initial weights", "spectrumError alone is blind to phase", "predFieldError"),
        ),
        (
            {
                "weighting": CONSTANT,
                "arms": ["constant"],
                "loss": {"predFieldError": 0.0, "waveletError": 1.0},
            },
            ("loss: waveletError alone is blind to phase", "coherenceError"),
        ),
        # what the loss section and the schedule say of one term
        (
            {"loss": {"spectrumError": 0.5}},
            ("'spectrumError' has the weight 0.5 in the loss", "schedule starts it at 0"),
        ),
        (
            {"weighting": {"target_components": {"spectrumError": False, "waveletErorr": True}}},
            ("'waveletErorr' is no term of the loss", "waveletError"),
        ),
        ({"weighting": {"target_loss": "field_error"}}, ("source_loss and target_loss",)),
        ({"weighting": {"patience": 0}}, ("patience",)),
        ({"weighting": {"ema_beta": 1.0}}, ("ema_beta",)),
        ({"weighting": {"milestones": [3]}}, ("milestones", "epoch")),
        (
            {"weighting": {"final_weight_target": 0.9, "max_weight_target": 0.7}},
            ("final_weight_target=0.9", "max_weight_target=0.7", 'cap_policy="clip"'),
        ),
        ({"weighting": {"adaptation_trigger": "platoe"}}, ("platoe", "plateau")),
        ({"weighting": {"pateince": 3}}, ("pateince", "patience")),
        (
            {"weighting": {"transition_schedule": "linar"}},
            ("transition_schedule", "linar", "linear"),
        ),
        ({"weighting": {"transition_step": -0.1}}, ("transition_step", "-0.1")),
        ({"weighting": {"initial_weight_source": -1.0}}, ("initial_weight_source", "-1")),
        ({"loss": {"predFieldError": -1.0}}, ("loss.predFieldError", "-1")),
        (  # the spectrum alone half-way
            {
                "weighting": {
                    "roles": {"field": ["predFieldError"], "spectrum": ["spectrumError"]},
                    "waypoints": [
                        {"field": 1, "spectrum": 0},
                        {"field": 0, "spectrum": 1},
                        {"field": 0.5, "spectrum": 0.5},
                    ],
                }
            },
            ("waypoint 1", "spectrumError alone is blind to phase"),
        ),
        # arms
        ({"weighting": CONSTANT}, ("arms ['schedule']", "weighting.kind is constant")),
        ({"arms": ["field", "matched"]}, ("matched takes its weights from arm schedule",)),
        ({"arms": ["field", "field"]}, ("is there twice",)),
        # data, windows, leads
        ({"data": {"shape": [16, 24]}}, ("shape is [16, 24]", "square grid")),
        ({"data": {"shape": [6, 6]}}, ("data.shape = [6, 6]", "at least 8")),
        ({"data": {"solver_resolution": 8}}, ("solver_resolution = 8 is below",)),
        ({"data": {"num_steps": 20}}, ("evaluate.rollout = 29 is beyond data.num_steps = 20",)),
        ({"evaluate": {"lead_window": [1, 40]}}, ("lead_window", "rollout = 29")),
        (
            {
                "data": {
                    "splits": {
                        "train": {"simulations": [1, 2, 3]},
                        "test": {"simulations": [3, 2, 7]},
                    }
                }
            },
            ("simulations [2, 3] of test are also in train",),
        ),
        ({"data": {"splits": {"test": {"frames": [9, 3, 1]}}}}, ("first <= last",)),
        # terms
        ({"loss": {"predLSIM": 1.0}}, ("predLSIM = 1 without lsim", "module:function")),
        ({"loss": {"fadeInPredLoss": [5, 2]}}, ("fadeInPredLoss", "a <= b")),
        ({"model": {"name": "fno", "modes": None}}, ("fno needs a number",)),
    ],
)
def test_refused_with_names_and_what_to_do(sections: dict, words: tuple[str, ...]) -> None:
    text = message(**sections)
    for word in words:
        assert word in text, text


def constants(config: TurbulenceConfig) -> dict[str, float]:
    return {name: weight for name, weight in end_weights(config).items() if weight}


def test_each_arm_says_its_weights() -> None:
    arms = ["field", "schedule", "static", "matched", "low", "bsp", "wavelet"]
    config = make(arms=arms, loss={"spectrum_scale": 0.05, "coherenceError": 0.2})
    made = {
        arm: arm_config(config, arm, seed=3, matched={"predFieldError": 0.6, "spectrumError": 0.4})
        for arm in arms
    }
    assert all(one.train.seed == 3 for one in made.values())
    rest = {"coherenceError": 0.2}
    # the scale of the spectrum's weight is 0.05, but 1 in the arms of small weights
    assert constants(made["field"]) == {"predFieldError": 1.0} | rest
    assert constants(made["static"]) == pytest.approx(
        {"predFieldError": 0.3, "spectrumError": 0.7 * 0.05} | rest
    )
    assert constants(made["matched"]) == pytest.approx(
        {"predFieldError": 0.6, "spectrumError": 0.4 * 0.05} | rest
    )
    for arm, term in (("low", "spectrumError"), ("bsp", "bspError"), ("wavelet", "waveletError")):
        assert constants(made[arm]) == pytest.approx({"predFieldError": 0.95, term: 0.05} | rest)
    start = build_weighting(made["schedule"]).weights(epoch=0, step=0)
    assert {name: weight for name, weight in start.items() if weight} == {
        "predFieldError": 1.0
    } | rest
    assert constants(made["schedule"]) == constants(made["static"])


def test_an_arms_run_is_read_again_as_it_was_written() -> None:
    config = make(arms=["field", "schedule", "static"])
    for arm in config.arms:
        own = arm_config(config, arm, seed=0)
        assert make(**own.model_dump(mode="json")) == own


def test_final_weights_are_those_of_the_paths_end_and_below_its_cap() -> None:
    assert final_weights(SchedulerParams(enabled=True)) == pytest.approx(
        {"recFieldError": 0.3, "predFieldError": 0.3, "spectrumError": 0.7}
    )
    clipped = SchedulerParams(enabled=True, max_weight_target=0.35, cap_policy="clip")
    # half of the way from (1, 0) to (0.3, 0.7)
    assert final_weights(clipped) == pytest.approx(
        {"recFieldError": 0.65, "predFieldError": 0.65, "spectrumError": 0.35}
    )
    three = SchedulerParams(
        enabled=True,
        roles={
            "field": ["predFieldError"],
            "spectrum": ["spectrumError"],
            "wave": ["waveletError"],
        },
        waypoints=[
            {"field": 1, "spectrum": 0, "wave": 0},
            {"field": 0.5, "spectrum": 0.5, "wave": 0},
            {"field": 0.3, "spectrum": 0.5, "wave": 0.2},
        ],
        monitors=["spectrum_error", "wavelet_error"],
    )
    assert final_weights(three) == pytest.approx(
        {"predFieldError": 0.3, "spectrumError": 0.5, "waveletError": 0.2}
    )


def test_more_than_two_roles_from_a_file() -> None:
    config = make(
        weighting={
            "roles": {
                "field": ["recFieldError", "predFieldError"],
                "spectrum": ["spectrumError"],
                "wavelet": ["waveletError"],
            },
            "waypoints": [
                {"field": 1, "spectrum": 0, "wavelet": 0},
                {"field": 0.3, "spectrum": 0.5, "wavelet": 0.2},
            ],
        }
    )
    terms = build_weighting(config).terms
    assert terms == {"predFieldError": 1.0, "spectrumError": 0.5, "waveletError": 0.2}


def resolve_preset(name: str) -> TurbulenceConfig:
    declared = app()
    command = declared.command("train")
    assert command is not None
    config, _ = resolve_call(declared, command, [f"--preset={name}"])
    assert isinstance(config, TurbulenceConfig)
    return config


@pytest.mark.parametrize("name", ["default", "study", "paper", "inc", "tra", "iso"])
def test_every_preset_is_valid_and_trains_with_the_schedule(name: str) -> None:
    config = resolve_preset(name)
    assert "schedule" in config.arms
    if config.data.source != "file":
        make_plan(config.data.model_copy(update={"num_train": 1, "num_valid": 1, "num_test": 1}))


def test_the_full_size_regularises_moments_and_nothing_else_does() -> None:
    for name in ("default", "study", "paper", "inc", "tra", "iso"):
        loss = resolve_preset(name).loss
        assert (loss.regMeanStd, loss.regDiv) == (0.05 if name == "paper" else 0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("inc", set(range(10, 81)), {82, 84, 86, 88, 90, 0, 2, 4, 6, 8}),
        ("tra", set(range(41)) - {0, 1, 2, 14, 15, 16, 17, 18}, {0, 1, 2, 16, 17, 18}),
        ("iso", set(range(1000)) - set(range(200, 351)), set(range(200, 351, 10))),
    ],
)
def test_the_published_splits_share_no_simulation(name: str, train: set, test: set) -> None:
    splits = resolve_preset(name).data.splits
    assert {*splits.train.simulations, *splits.valid.simulations} == train
    assert set(splits.test.simulations) == test
    assert not train & test


def test_ranges_of_simulations() -> None:
    split = SplitConfig.model_validate({"simulations": [7, "10-12"]})
    assert split.simulations == (7, 10, 11, 12)
    with pytest.raises(ValueError, match="valid integer"):
        SplitConfig.model_validate({"simulations": ["ten-12"]})
