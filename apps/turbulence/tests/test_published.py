"""Published configuration files: what their sections become, and what of them is refused."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from nops_train import InputError, resolve_call
from turbulence.cli import app
from turbulence.config import TurbulenceConfig
from turbulence.published import rewritten

TRA: dict[str, Any] = {
    "dataset": {"name": "tra", "type": "transonic", "description": "wake flow"},
    "model": {
        "name": "2D_Tra/128_unet-m2",
        "architecture": "unet",
        "pretrained": False,
        "training_noise": 0.0,
    },
    "data_params": {
        "batch_size": 64,
        "augmentations": ["normalize"],
        "sequence_length": [2, 2],
        "random_sequence_offset": True,
        "data_size": [128, 64],
        "dimension": 2,
        "sim_fields": ["pres", "density"],
        "sim_params": ["mach"],
        "normalize_mode": "traMixed",
    },
    "training_params": {
        "epochs": 1000,
        "learning_rate": 1e-4,
        "weight_decay": 0.0,
        "exp_lr_gamma": 1.0,
        "test_interval": 10,
        "save_interval": 100,
    },
    "loss_params": {
        "reconstruction_mse": 0.0,
        "prediction_mse": 1.0,
        "reconstruction_lsim": 0.0,
        "prediction_lsim": 0.0,
    },
    "data_filters": {
        "filter_top": ["128_tra"],
        "filter_sim": [[0, 1, 2, 14, 15, 16, 17, 18]],
        "exclude_filter_sim": True,
        "filter_frame": [[0, 1000]],
    },
    "test_sets": {
        "extrapolation": {
            "name": "low Mach numbers",
            "filter_sim": [[0, 1, 2]],
            "filter_frame": [[500, 750]],
            "sequence_length": [[60, 2]],
        },
        "interpolation": {
            "name": "Mach numbers between",
            "filter_sim": [[16, 19]],
            "filter_frame": [[500, 750]],
            "sequence_length": [[60, 2]],
        },
    },
    "variants": {
        "unrolled": {
            "description": "unrolled",
            "sequence_length": [8, 2],
            "batch_size": 16,
            "model_suffix": "-m8",
        },
        "noise_training": {"description": "noise", "training_noise": 0.01, "model_suffix": "-n"},
    },
}


def file_with(**changes: Any) -> dict[str, Any]:
    """The file with keys by dotted path set to others; None takes one out."""
    values = copy.deepcopy(TRA)
    for path, value in changes.items():
        *sections, name = path.split("__")
        place = values
        for section in sections:
            place = place[section]
        if value is None:
            place.pop(name)
        else:
            place[name] = value
    return values


def loaded(folder: Path, values: dict[str, Any], *words: str) -> TurbulenceConfig:
    (folder / "tra_config.yaml").write_text(yaml.safe_dump(values))
    declared = app()
    command = declared.command("train")
    assert command is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the losses' old names
        file = f"--config={folder / 'tra_config.yaml'}"
        config, _ = resolve_call(declared, command, [file, *words])
    assert isinstance(config, TurbulenceConfig)
    return config


def test_a_whole_file_loads(tmp_path: Path) -> None:
    config = loaded(tmp_path, TRA)
    data, train, splits = config.data, config.train, config.data.splits
    assert (data.source, data.npz, data.shape) == ("file", "data/128_tra", (128, 64))
    assert (data.lengths, data.boundary) == ((12.0, 6.0), ("open", "open"))
    assert data.fields == ("velocity", "pressure", "density")
    assert (data.parameters, data.normalise) == (("Mach Number",), "traMixed")
    # frames 0 to 999, every second; every tenth of the 33 simulations validates
    used = sorted(set(range(41)) - {0, 1, 2, 14, 15, 16, 17, 18})
    assert sorted((*splits.train.simulations, *splits.valid.simulations)) == used
    assert splits.valid.simulations == (used[9], used[19], used[29])
    assert splits.train.frames == splits.valid.frames == (0, 999, 2)
    assert (splits.test.simulations, splits.test.frames) == ((0, 1, 2, 16, 17, 18), (500, 749, 2))
    assert (config.evaluate.rollout, config.evaluate.lead_window) == (59, (1, 59))
    assert (config.model.name, config.model.previous_frames) == ("unet", 1)
    assert (train.batch_size, train.unroll, train.noise) == (64, 1, 0.0)
    assert (train.epochs, train.learning_rate, train.weight_decay) == (1000, 1e-4, 0.0)
    assert (train.lr_schedule, train.lr_gamma, train.validate_every) == ("constant", 1.0, 10)
    assert (config.loss.recFieldError, config.loss.predFieldError) == (0.0, 1.0)


def test_a_variant_is_chosen_by_name(tmp_path: Path) -> None:
    long = loaded(tmp_path, {**TRA, "variant": "unrolled"})
    assert (long.train.unroll, long.train.batch_size, long.train.noise) == (7, 16, 0.0)
    assert long.data.splits.train.frames == (0, 999, 2)
    noisy = loaded(tmp_path, {**TRA, "variant": "noise_training"})
    assert (noisy.train.unroll, noisy.train.batch_size, noisy.train.noise) == (1, 64, 0.01)


@pytest.mark.parametrize(
    ("architecture", "frames"), [("fno", 1), ("unet+Prev", 2), ("unet+2Prev", 3), ("fno+3Prev", 4)]
)
def test_frames_before_the_last_by_the_architecture(architecture: str, frames: int) -> None:
    found = rewritten(file_with(model__architecture=architecture))
    assert found["model.name"] == architecture.partition("+")[0]
    assert found["model.previous_frames"] == frames


def test_two_rising_numbers_are_a_range_and_others_a_list() -> None:
    filters = {"exclude_filter_sim": False, "filter_frame": [[800, 1300]]}
    for listed, train, valid in (
        ([10, 21], [*range(10, 19), 20], [19]),
        ([82, 84, 86], [82, 84], [86]),
    ):
        section = {**filters, "filter_sim": [listed]}
        found = rewritten({"dataset": {"name": "inc"}, "data_filters": section})
        assert found["data.splits.train.simulations"] == train
        assert found["data.splits.valid.simulations"] == valid
        assert found["data.splits.train.frames"] == [800, 1299, 1]


@pytest.mark.parametrize(
    ("dataset", "filters", "tests", "leaked"),
    [  # the three files as they were published: each tests on what it trains on
        ("inc", [10, 81], [82, 84, 86, 88, 90], [82, 84, 86, 88, 90]),
        ("tra", [0, 1, 2, 14, 15, 16, 17, 18], [*range(19, 28)], [*range(19, 28)]),
        ("iso", [200, 351], [*range(15)], [*range(15)]),
    ],
)
def test_splits_that_leak_are_refused_with_their_simulations(
    dataset: str, filters: list[int], tests: list[int], leaked: list[int]
) -> None:
    values = file_with(
        dataset__name=dataset,
        data_filters__filter_sim=[filters],
        test_sets={"one": {"filter_sim": [tests], "filter_frame": [[400, 500]]}},
    )
    with pytest.raises(ValueError, match=r"test_sets\.one: .* are also trained on") as caught:
        rewritten(values)
    assert str(leaked) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset__name": "tar"}, ("dataset.name", "inc, tra, iso", "'tar'")),
        ({"dataset__nmae": "tra"}, ("dataset.nmae: unknown key", "did you mean dataset.name?")),
        ({"dataset": [1]}, ("dataset: expected a section",)),
        ({"dataset": None}, ("exclude_filter_sim", "dataset.name is missing")),
        ({"model__architecture": "dil_resnet"}, ("dil_resnet is not shipped", "unet, fno")),
        ({"model__architecture": "unet+4Prev"}, ("unet+4Prev is not shipped", "+3Prev")),
        ({"model__pretrained": True}, ("model.pretrained: no weights come",)),
        ({"model__width": 3}, ("model.width: unknown key",)),
        ({"data_filters__filter_sims": [[1]]}, ("did you mean data_filters.filter_sim",)),
        ({"data_filters__filter_frame": None}, ("data_filters.filter_frame is missing",)),
        ({"data_filters__filter_frame": [[0, 9], [0, 9]]}, ("one list in a list",)),
        ({"data_filters__filter_sim": [["0-3"]]}, ("data_filters.filter_sim", "numbers")),
        (
            {"test_sets__extrapolation__filter_frame": [[0, 9]]},
            ("extrapolation, interpolation have other frames",),
        ),
        (
            {"test_sets__extrapolation__sequence_length": [[60, 1]]},
            ("test_sets.extrapolation.sequence_length: stride 1, and data_params has 2",),
        ),
        (
            {"test_sets__extrapolation__filter_top": ["128_reyVar"]},
            ("128_tra, 128_reyVar are several trees",),
        ),
        ({"variant": "unroled"}, ("variant: 'unroled' is none of", "unrolled, noise_training")),
        ({"variants__unrolled__epochs": 3}, ("variants.unrolled.epochs: unknown key",)),
        ({"data_params__sequence_length": [2]}, ("data_params.sequence_length", "two whole")),
        ({"diffusion": {"steps": 3}}, ("diffusion: a method that this app does not ship",)),
        ({"scheduler": {"roles": 3}}, ("scheduler.roles: expected names",)),
        (
            {"scheduler": {"caps": {"a": 1}}, "weighting": {"caps": {"b": 1}}},
            ("scheduler.caps contradicts weighting.caps",),
        ),
    ],
)
def test_what_a_section_may_not_say(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        rewritten(file_with(**changes))
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tra_config\.yaml: dataset\.name: expected one of"):
        loaded(tmp_path, file_with(dataset__name="no"))
    # what the sections set contradicts the same key given beside them, as any alias does
    with pytest.raises(InputError, match=r'data\.npz: "data/128_tra" contradicts .*"elsewhere"'):
        loaded(tmp_path, {**TRA, "data": {"npz": "elsewhere"}})


def test_the_command_line_goes_over_the_file(tmp_path: Path) -> None:
    config = loaded(tmp_path, TRA, "--data.npz=elsewhere", "--model.name=fno", "--train.epochs=3")
    assert (config.data.npz, config.model.name, config.train.epochs) == ("elsewhere", "fno", 3)


def test_roles_and_caps_of_the_scheduler_section(tmp_path: Path) -> None:
    scheduler = {
        "roles": {"field": ["predFieldError"], "spectrum": ["spectrumError"]},
        "waypoints": [{"field": 1, "spectrum": 0}, {"field": 0.5, "spectrum": 0.5}],
        "caps": {"spectrum": 0.6},
        "monitors": ["spectrum_error"],
        "patience": 4,
    }
    weighting = loaded(tmp_path, {**TRA, "scheduler": scheduler}).weighting
    assert weighting.kind == "scheduler"
    assert weighting.roles == {"field": ("predFieldError",), "spectrum": ("spectrumError",)}
    assert (weighting.caps, weighting.patience) == ({"spectrum": 0.6}, 4)
    assert weighting.params().monitors == ("spectrum_error",)


def test_a_file_of_this_app_is_left_as_it_is() -> None:
    values = {"model": {"name": "unet"}, "data": {"source": "file"}, "scheduler": {"patience": 3}}
    assert rewritten(values) == values
