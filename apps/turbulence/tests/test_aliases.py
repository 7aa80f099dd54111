"""Each old name once, both names together, and what is not shipped."""

from pathlib import Path

import pytest
from nops_train import InputError, resolve_call
from turbulence.aliases import LEGACY_TERMS
from turbulence.cli import app, main
from turbulence.config import TurbulenceConfig


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


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--diffusion=true", "diffusion is a method that this app does not ship"),
        ("--data_params.sequenceLength=2,2", "the stride is that of the data"),
        ("--data_params.sequenceLength=1,1", "a frame and its successor"),
        ("--data_params.dimension=3", "2 dimensions"),
        ("--data_params.simFields=vort", "expected some of dens, pres, velZ; found vort"),
        ("--data.frames=1", "2 frames at least"),
    ],
)
def test_what_an_alias_refuses(word: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolved(word)
