"""Each old name once, both names together, and what is not shipped."""

import json
from pathlib import Path

import pytest
from nops_train import InputError, resolve_call
from nops_train._command_line_keys import value_at
from turbulence.aliases import ALIASES, CORRECTOR, DICTS, LEGACY_TERMS, OTHER_LOSSES
from turbulence.cli import app, main
from turbulence.config import TurbulenceConfig
from turbulence.config_loss import TERMS
from turbulence.config_weighting import SchedulerConfig


def resolved(*words: str) -> TurbulenceConfig:
    declared = app()
    command = declared.command("train")
    assert command is not None
    config, _ = resolve_call(declared, command, list(words))
    assert isinstance(config, TurbulenceConfig)
    return config


def from_yaml(folder: Path, text: str) -> TurbulenceConfig:
    (folder / "my.yaml").write_text(text)
    return resolved(f"--config={folder / 'my.yaml'}")


NEW = {
    **dict.fromkeys(("recMSE", "reconstruction_mse", "lossRecMSE"), "recFieldError"),
    **dict.fromkeys(("predMSE", "prediction_mse", "lossPredMSE"), "predFieldError"),
    "reconstruction_lsim": "recLSIM",
    "prediction_lsim": "predLSIM",
}


@pytest.mark.parametrize("name", LEGACY_TERMS)
@pytest.mark.parametrize("section", ["loss", "loss_params"])
def test_each_old_loss_sets_the_new_one_and_warns(name: str, section: str) -> None:
    words = [f"--{section}.{name}=0.25", "--weighting.kind=constant", "--arms=constant"]
    if "lsim" in name:
        words.append("--loss.lsim=math:sqrt")
    with pytest.warns(DeprecationWarning, match=f"'{name}' is called '{NEW[name]}' now"):
        config = resolved(*words)
    assert getattr(config.loss, NEW[name]) == 0.25


def test_an_old_name_beside_the_new_one_is_refused() -> None:
    with (
        pytest.warns(DeprecationWarning, match="predFieldError"),
        pytest.raises(InputError, match=r"contradicts .*loss\.predFieldError"),
    ):
        resolved("--loss.predMSE=0.3", "--loss.predFieldError=1.0")


def test_the_command_line_shows_the_warning(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(DeprecationWarning, match="its scale and its gradient"):
        assert main(["train", "--loss.predMSE=0.3", "--loss.spectrumErorr=1"]) == 2
    assert "did you mean --loss.spectrumError?" in capsys.readouterr().err


def test_the_schedulers_section(tmp_path: Path) -> None:
    text = """
scheduler:
  enabled: true
  patience: 7
  source_components: {recMSE: true, predMSE: true}
  target_components: {spectrumError: false, waveletError: true}
  milestones: [3, 9]
  adaptation_trigger: epoch
"""
    with pytest.warns(DeprecationWarning, match="FieldError.* now"):
        weighting = from_yaml(tmp_path, text).weighting
    assert weighting.kind == "scheduler"
    assert (weighting.patience, weighting.milestones) == (7, (3, 9))
    params = weighting.params()
    assert [n for n, on in params.source_components.items() if on] == ["predFieldError"]
    assert [n for n, on in params.target_components.items() if on] == ["waveletError"]
    off = from_yaml(tmp_path, "scheduler: {enabled: false}\narms: [field]")
    assert off.weighting.kind == "constant"


def test_the_sections_of_published_configurations(tmp_path: Path) -> None:
    text = """
data_params:
  batch: 64
  sequenceLength: [3, 1]
  randSeqOffset: true
  dataSize: [128, 64]
  dimension: 2
  simFields: [dens, pres]
  simParams: [mach]
  normalizeMode: traMixed
  augmentations: [normalize]
training_params: {epochs: 1000, lr: 1.0e-4, expLrGamma: 0.995, weightDecay: 1.0e-5}
loss_params: {spectrumError: 0.0, fadeInPredLoss: [10, 30]}
data: {source: file, path: tra}
"""
    config = from_yaml(tmp_path, text)
    assert config.train.batch_size == 64
    assert config.train.unroll == 2
    assert config.data.shape == (128, 64)
    assert config.data.fields == ("velocity", "density", "pressure")
    assert config.data.parameters == ("Mach Number",)
    assert config.data.normalise == "traMixed"
    assert (config.train.epochs, config.train.learning_rate) == (1000, 1e-4)
    assert (config.train.lr_schedule, config.train.lr_gamma) == ("constant", 0.995)
    assert config.train.weight_decay == 1e-5
    assert config.loss.fadeInPredLoss == (10, 30)


def test_short_forms() -> None:
    words = ["--data.frames=80", "--data.trajectories=5,3,4", "--data.resolution=32"]
    config = resolved(*words, "--data.dt=0.005", "--train.lr=1e-4", "--data.batch=4")
    data = config.data
    assert (data.num_steps, data.shape, data.time_step) == (79, (32, 32), 0.005)
    assert (data.num_train, data.num_valid, data.num_test) == (5, 3, 4)
    assert (config.train.learning_rate, config.train.batch_size) == (1e-4, 4)


PUBLISHED_NAMES = {
    "data_params.batch": ("4", "train.batch_size", 4),
    "data_params.batch_size": ("4", "train.batch_size", 4),
    "data_params.sequenceLength": ("5,1", "train.unroll", 4),
    "data_params.sequence_length": ("5,1", "train.unroll", 4),
    "data_params.dataSize": ("32,32", "data.shape", (32, 32)),
    "data_params.data_size": ("32,32", "data.shape", (32, 32)),
    "data_params.simFields": ("dens", "data.fields", ("velocity", "density")),
    "data_params.sim_fields": ("dens", "data.fields", ("velocity", "density")),
    "data_params.simParams": ("rey", "data.parameters", ("Reynolds Number",)),
    "data_params.sim_params": ("rey", "data.parameters", ("Reynolds Number",)),
    "data_params.normalizeMode": ("none", "data.normalise", "none"),
    "data_params.normalize_mode": ("none", "data.normalise", "none"),
    "training_params.epochs": ("7", "train.epochs", 7),
    "training_params.lr": ("1e-4", "train.learning_rate", 1e-4),
    "training_params.learning_rate": ("1e-4", "train.learning_rate", 1e-4),
    "training_params.expLrGamma": ("0.9", "train.lr_gamma", 0.9),
    "training_params.exp_lr_gamma": ("0.9", "train.lr_gamma", 0.9),
    "training_params.weightDecay": ("0.1", "train.weight_decay", 0.1),
    "training_params.weight_decay": ("0.1", "train.weight_decay", 0.1),
    "training_params.test_interval": ("3", "train.validate_every", 3),
    "training_params.fadeInPredLoss": ("10,30", "loss.fadeInPredLoss", (10, 30)),
    "training_params.fadeInSeqLen": ("10,30", "train.fadeInSeqLen", (10, 30)),
    "loss_params.fadeInPredLoss": ("10,30", "loss.fadeInPredLoss", (10, 30)),
}
SAME = {  # without an effect here: only the value that says what is so anyway
    "data_params.randSeqOffset": ("true", "false"),
    "data_params.random_sequence_offset": ("true", "false"),
    "data_params.dimension": ("2", "3"),
    "data_params.augmentations": ("[normalize]", "[normalize,crop]"),
    "training_params.save_interval": ("50", "0"),
    **{f"loss_params.{name}": ("0", "0.1") for name in OTHER_LOSSES},
}


@pytest.mark.parametrize("name", PUBLISHED_NAMES)
def test_each_published_name_sets_its_key(name: str) -> None:
    word, key, expected = PUBLISHED_NAMES[name]
    assert value_at(resolved(f"--{name}={word}"), key) == expected


@pytest.mark.parametrize("name", SAME)
def test_what_is_so_anyway_is_accepted_and_anything_else_refused(name: str) -> None:
    right, wrong = SAME[name]
    assert resolved(f"--{name}={right}") == resolved()
    with pytest.raises(InputError, match=name):
        resolved(f"--{name}={wrong}")


def test_no_alias_is_left_out_of_these_tests() -> None:
    tested = {*PUBLISHED_NAMES, *SAME, "training_params.fadeInSeqLenLin"}
    refused = {f"training_params.{name}" for name in CORRECTOR}
    legacy = {f"loss_params.{name}" for name in (*LEGACY_TERMS, *TERMS)}
    sections = ("data_params.", "training_params.", "loss_params.")
    declared = {alias.name for alias in ALIASES if alias.name.startswith(sections)}
    assert declared == tested | refused | legacy


@pytest.mark.parametrize("name", TERMS)
def test_the_terms_keep_their_names_in_loss_params(name: str) -> None:
    words = ["--weighting.kind=constant", "--arms=field", "--loss.lsim=math:sqrt"]
    assert getattr(resolved(f"--loss_params.{name}=0.25", *words).loss, name) == 0.25


@pytest.mark.parametrize(
    "name", [n for n in SchedulerConfig.model_fields if n not in (*DICTS, "kind")]
)
def test_every_parameter_of_the_schedule_is_one_of_the_section_scheduler(name: str) -> None:
    assert any(alias.name == f"scheduler.{name}" for alias in ALIASES)
    value = json.dumps(SchedulerConfig().model_dump(mode="json")[name])
    assert value_at(resolved(f"--scheduler.{name}={value}"), f"weighting.{name}") is not ...


def test_sequences_that_grow() -> None:
    words = ["--training_params.fadeInSeqLen=10,30", "--data_params.sequenceLength=8,1"]
    train = resolved(*words, "--training_params.fadeInSeqLenLin=true").train
    assert (train.unroll, train.fadeInSeqLen, train.fadeInSeqLenLin) == (7, (10, 30), True)


@pytest.mark.parametrize("name", CORRECTOR)
def test_keys_of_a_corrector_are_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} belongs to a method that this app does not ship"):
        resolved(f"--training_params.{name}=1")


def test_two_names_of_one_key_may_not_differ() -> None:
    assert resolved("--data_params.batch=4", "--data_params.batch_size=4").train.batch_size == 4
    with pytest.raises(InputError, match=r"contradicts --data_params\.batch "):
        resolved("--data_params.batch=4", "--train.batch_size=8")


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("--data_params.sequencLength=3,1", "sequenceLength"),
        ("--training_params.fadeInSeqLn=3,4", "fadeInSeqLen"),
        ("--scheduler.patiense=3", "patience"),
    ],
)
def test_an_unknown_published_key_names_the_nearest(word: str, near: str) -> None:
    with pytest.raises(InputError, match=rf"(?s)unknown key.*{near}"):
        resolved(word)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--diffusion=true", "diffusion is a method that this app does not ship"),
        ("--data_params.sequenceLength=2,2", "the stride is that of the data"),
        ("--data_params.sequenceLength=1,1", "a frame and its successor"),
        ("--data_params.dimension=3", "2 dimensions"),
        ("--data_params.simFields=vort", "expected some of dens, .*velocityZ; found vort"),
        ("--data.frames=1", "2 frames at least"),
        ("--train.fadeInSeqLen=9,3", r"expected \[a, b\] with a <= b"),
        ("--train.fadeInSeqLenLin=true", "no effect while fadeInSeqLen is"),
    ],
)
def test_what_an_alias_refuses(word: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolved(word)
