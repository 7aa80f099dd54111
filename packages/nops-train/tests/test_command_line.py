import dataclasses
import json
import runpy
from pathlib import Path

import pytest
from nops_train._command_line import resolve_call
from nops_train._command_line_layers import load_run_config, parse_config, resumed_config
from nops_train._errors import InputError

TOY = runpy.run_path(str(Path(__file__).with_name("toy_app.py")))
APP, ToyConfig = TOY["APP"], TOY["ToyConfig"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def call(*words, command="train"):
    """Config and invocation of a command line."""
    return resolve_call(APP, APP.command(command), words)


def given(text, *words):
    Path("my.yaml").write_text(text)
    return call("--config", "my.yaml", *words)


def refusal(*words, command="train", text=None):
    if text is not None:
        Path("my.yaml").write_text(text)
        words = ("--config", "my.yaml", *words)
    with pytest.raises(InputError) as caught:
        call(*words, command=command)
    return str(caught.value)


# Layers


def test_each_layer_lies_over_the_one_before():
    config, _ = given("train: {batch_size: 8, epochs: 5}", "--train.batch_size=4")
    assert config.train.batch_size == 4  # command line over file
    assert config.train.epochs == 5  # file over preset (2)
    assert config.train.monitor == "mse"  # preset over the field's default
    assert config.train.keep_last == 7  # the app's default instance over the class's (3)
    assert config.train.log_every == 10  # the class's default
    assert config.data.num_steps == 16


def test_a_preset_is_chosen_and_names_the_run():
    config, invocation = call("--preset", "paper")
    assert (config.train.learning_rate, config.rollout.window) == (3e-4, 32)
    assert (config.weighting.kind, config.weighting.start, config.weighting.stop) == ("ramp", 2, 10)
    assert (invocation.preset, invocation.preset_given, invocation.name) == ("paper", True, "paper")
    assert invocation.folder == Path("runs/toy/paper")


def test_without_words_the_default_preset_is_taken():
    config, invocation = call()
    assert config.train.epochs == 2
    assert (invocation.name, invocation.preset_given) == ("default", False)
    assert invocation.explicit == {}
    assert invocation.options == {"end": None, "code": None, "init_from": None, "verify": False}


def test_the_preset_is_inferred_from_the_data_and_said(capsys):
    config, invocation = call("--data", "paper.h5")
    assert (invocation.preset, config.data.path) == ("paper", "paper.h5")
    assert "preset paper: the data are paper-sized" in capsys.readouterr().out
    _, invocation = given("data: {path: paper.h5}")
    assert invocation.preset == "paper"
    _, invocation = call("--data", "paper.h5", "--preset", "default")
    assert invocation.preset == "default"
    _, invocation = call("--data", "other.h5")
    assert invocation.preset == "default"


def test_changing_the_kind_of_a_section_forgets_the_other_kinds_keys():
    config, _ = call("--preset", "paper", "--weighting.kind", "constant")
    assert config.weighting.model_dump() == {"kind": "constant"}
    config, _ = call("--preset", "paper", "--weighting.kind", "ramp")
    assert config.weighting.start == 2


def test_a_null_section_and_its_keys_replace_each_other():
    config, _ = call("--alignment.vqvae", "runs/a")
    assert (config.alignment.vqvae, config.alignment.levels) == ("runs/a", 3)
    config, _ = given("alignment: {vqvae: runs/a}", "--alignment", "null")
    assert config.alignment is None


def test_a_section_with_free_names_takes_any():
    config, _ = call("--extra.sharp", "2", "--extra.smooth", "0")
    assert config.extra == {"smooth": 0.0, "sharp": 2.0}


def test_dotted_and_nested_yaml_are_the_same():
    nested, _ = given("train: {epochs: 5}\nloss: {latent: {weight: 0.3}}")
    dotted, _ = given("train.epochs: 5\nloss.latent.weight: 0.3")
    assert nested == dotted


def test_an_app_may_rewrite_the_file_but_not_the_words():
    def rewrite(values):
        if values.get("old", 0) < 0:
            raise ValueError("old: expected 0 or more")
        return {**{k: v for k, v in values.items() if k != "old"}, "train.epochs": values["old"]}

    app = dataclasses.replace(APP, rewrite=rewrite)
    expected, _ = given("train: {epochs: 5}\nloss: {latent: {weight: 0.3}}")
    Path("my.yaml").write_text("old: 5\nloss: {latent: {weight: 0.3}}")
    config, _ = resolve_call(app, app.command("train"), ["--config", "my.yaml"])
    assert config == expected
    over, _ = resolve_call(app, app.command("train"), ["--config", "my.yaml", "--train.epochs=7"])
    assert over.train.epochs == 7
    Path("my.yaml").write_text("old: -1")
    with pytest.raises(InputError, match=r"my\.yaml: old: expected 0 or more"):
        resolve_call(app, app.command("train"), ["--config", "my.yaml"])


def test_sections_may_be_empty_or_commented_out():
    assert given("train:\ndata: {}\nalignment: {}")[0] == call()[0]


# Flags and aliases


def test_the_options_of_every_app():
    config, invocation = call(
        *("--data", "x.h5", "--runs", "out", "--name", "mine", "--seed", "3", "--device", "cpu")
    )
    assert (config.data.path, config.train.seed, config.train.device) == ("x.h5", 3, "cpu")
    assert (invocation.runs, invocation.folder) == (Path("out"), Path("out/toy/mine"))


def test_resume_takes_a_word_or_an_existing_file(tmp_path):
    assert call("--resume", "never")[1].resume == "never"
    (tmp_path / "step_200.pt").touch()
    assert call("--resume", "step_200.pt")[1].resume == "step_200.pt"


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (("--lr", "3e-4"), "train.learning_rate", 3e-4),
        (("--epochs=4",), "train.epochs", 4),
        (("--loss.traj.weight", "2"), "loss.traj", 2.0),
        (("--enable-latent-loss",), "loss.latent.enabled", True),
        (("--loss.latent.enabled", "true"), "loss.latent.enabled", True),
        (("--n-samples", "50"), "data.num_train", 45),
        (("--n-samples", "59"), "data.num_valid", 6),  # 59 - floor(53.1)
        (("--data.shape", "16,24"), "data.shape", (16, 24)),
        (("--data.shape", "[16, 24]"), "data.shape", (16, 24)),
        (("--data.shape", "16"), "data.shape", (16,)),
        (("--train.freeze", "encoder.*, head"), "train.freeze", ("encoder.*", "head")),
        (("--train.freeze", ""), "train.freeze", ()),
        (("--train.freeze", "3"), "train.freeze", ("3",)),
        (("--train.grad_clip", "null"), "train.grad_clip", None),
        (("--train.grad_clip", "none"), "train.grad_clip", None),
        (("--data.path", "3"), "data.path", "3"),
        (("--data.path", "[x"), "data.path", "[x"),
        (("--data.path", "null"), "data.path", None),
        (("--data.path=--odd",), "data.path", "--odd"),
        (("--train.monitor", "true"), "train.monitor", "true"),
    ],
)
def test_the_text_of_a_flag_becomes_the_value_of_its_key(words, key, value):
    config, invocation = call(*words)
    for name in key.split("."):
        config = getattr(config, name)
    assert config == value
    assert key in invocation.explicit


def test_an_alias_may_stand_for_an_option_of_every_app():
    assert call("--checkpoint-dir", "checkpoints")[1].runs == Path("checkpoints")


def test_aliases_work_in_yaml():
    config, invocation = given("loss: {traj: {weight: 3}, use_latent: true}\ndata.samples: 20")
    assert (config.loss.traj, config.loss.latent.enabled) == (3.0, True)
    assert (config.data.num_train, config.data.num_valid) == (18, 2)
    assert invocation.explicit["loss.traj"] == "my.yaml: loss.traj.weight"


def test_a_negative_number_is_a_value():
    assert "above 0; found -0.0003" in refusal("--lr", "-3e-4")


def test_the_commands_own_options_arrive_beside_the_config():
    options = call("--init-from", "runs/a", "--verify", "--code", "3")[1].options
    assert options == {"end": None, "code": 3, "init_from": "runs/a", "verify": True}


def test_explicit_keys_say_where_they_were_given():
    _, invocation = given("train: {seed: 1, epochs: 3}", "--seed", "2", "--n-samples", "100")
    assert invocation.explicit == {
        "train.epochs": "my.yaml: train.epochs",
        "train.seed": "--seed",
        "data.num_train": "--n-samples",
        "data.num_valid": "--n-samples",
    }


# Refusals


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--train.epoch", "3"), "--train.epoch: unknown key; did you mean --train.epochs?"),
        (("--train.batch-size", "3"), "unknown key; did you mean --train.batch_size?"),
        (("--train.bptt_window", "3"), "unknown key; did you mean --rollout.window?"),
        (("--train.window", "3"), "unknown key; did you mean --rollout.window?"),
        (("--epoch", "3"), "--epoch: unknown option of train; did you mean --epochs?"),
        (("--batch_size", "3"), "unknown option of train; did you mean --batch-size?"),
        (("--window", "3"), "unknown option of train; did you mean --bptt-window?"),
        (("--rollout.mood", "last"), "did you mean --rollout.mode?"),
        (("--loss.latnet.weight", "1"), "did you mean --"),
        (
            ("--alignment.foo", "3"),
            "--alignment.foo: unknown key; keys of alignment: vqvae, levels",
        ),
        (("--zzz", "3"), "keys of the config: data, train, rollout, loss"),
        (("--train.epochs", "x"), '--train.epochs: expected an integer, at least 1; found "x"'),
        (("--train.epochs=0",), "--train.epochs: expected an integer, at least 1; found 0"),
        (("--train.epochs", "2.5"), "--train.epochs: expected an integer, at least 1; found 2.5"),
        (("--lr", "nan"), "--lr (train.learning_rate): expected a number, above 0"),
        (
            ("--device", "gpu"),
            '--device (train.device): expected one of auto, cpu, cuda; found "gpu"',
        ),
        (("--data.shape", "8,x"), "--data.shape: expected a list (each an integer, at least 1)"),
        (("--data.path", ""), "--data.path: expected text or null, at least 1 characters long"),
        (("--train.grad_clip", ""), 'expected a number or null, above 0; found ""'),
        (("--extra.smooth", "x"), '--extra.smooth: expected a number; found "x"'),
        (("--weighting.kind", "x"), '--weighting.kind: expected constant or ramp; found "x"'),
        (
            ("--weighting.start", "3"),
            "--weighting.start: not a key while weighting.kind is constant; keys then: kind",
        ),
        (("--alignment.levels", "2"), "alignment.vqvae: missing; expected text"),
        (
            ("--train", "3"),
            "--train: expected a section, with keys such as --train.epochs; found 3",
        ),
        (("--extra", "3"), "expected a section, with keys such as --extra.NAME; found 3"),
        (("--train.accumulate", "99"), "train: accumulate (99) is more than batch_size (16)"),
        (("--epochs",), "--epochs: expected a value, INT; found none"),
        (("--epochs", "--lr", "3"), "--epochs: expected a value, INT; found none"),
        (("--verify=3",), '--verify: takes no value; found "3"'),
        (("--code", "x"), '--code: expected an integer or null; found "x"'),
        (("--n-samples", "5"), "--n-samples: expected 10 samples at least, found 5"),
        (("--n-samples", "many"), '--n-samples: expected an integer; found "many"'),
        (("extra",), "extra: unexpected; train takes options only"),
        (("-x",), "-x: unknown option; options begin with two dashes"),
        (("--preset", "pape"), '--preset: expected one of default, paper; found "pape"'),
        (("--preset", "my.yaml"), "a file is given with --config"),
        (("--config", "gone.yaml"), "gone.yaml: cannot be read: No such file"),
        (("--resume", "nevr"), "an existing checkpoint, found 'nevr'; did you mean never?"),
        (("--name", "a/b"), "--name: expected the name of a folder without slashes, found 'a/b'"),
        (("--name", ".."), "--name: expected"),
        (("--data.path", "\udcff"), "expected Unicode text"),
        (
            ("--rollout.num_pushforward", "3"),
            '--rollout.num_pushforward: has no effect while rollout.mode is "random_start"; '
            'it needs rollout.mode to be "pushforward"',
        ),
    ],
)
def test_a_bad_flag_is_refused_with_what_to_write_instead(words, message):
    assert message in refusal(*words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {epoch: 3}", "my.yaml: train.epoch: unknown key; did you mean train.epochs?"),
        ("trian: {epochs: 3}", "my.yaml: trian.epochs: unknown key; did you mean train.epochs?"),
        ("bptt_window: 3", "my.yaml: bptt_window: unknown key; did you mean rollout.window?"),
        ("train: {bptt_window: 3}", "train.bptt_window: unknown key; did you mean rollout.window?"),
        ("train: {lr: 3}", "train.lr: unknown key; did you mean train.learning_rate?"),
        ("n_samples: 3", "n_samples: unknown key; did you mean --n-samples?"),
        ("foo: {}", "foo: unknown key; keys of the config: data, train"),
        ("train: 3", "my.yaml: train: expected a section, with keys such as train.epochs; found 3"),
        (
            "train: {epochs: {a: 3}}",
            'train.epochs: expected an integer, at least 1; found {"a": 3}',
        ),
        (
            "train: {epochs: '3'}",
            'my.yaml: train.epochs: expected an integer, at least 1; found "3"',
        ),
        ("train: {epochs: true}", "train.epochs: expected an integer, at least 1; found true"),
        ("train: {grad_clip: 0}", "expected a number or null, above 0; found 0"),
        ("loss: {latent: {enabled: yes}}", 'expected true or false; found "yes"'),
        (
            "data: {path: 3}",
            "data.path: expected text or null, at least 1 characters long; found 3",
        ),
        (
            "train: {learning_rate: .nan}",
            "train.learning_rate: expected a number, above 0; found NaN",
        ),
        (
            "weighting: {kind: ramp, rate: 1}",
            "my.yaml: weighting.rate: unknown key; keys of weighting",
        ),
        ("loss: {traj: {weigth: 1}}", "my.yaml: loss.traj.weigth: unknown key"),
        ("loss: {use_latent: 1}", "my.yaml: loss.use_latent: expected true, or nothing; found 1"),
        ("data.samples: 5", "my.yaml: data.samples: expected 10 samples at least, found 5"),
        ("data.samples: x", 'my.yaml: data.samples: expected an integer; found "x"'),
        ("rollout: {num_pushforward: 2}", "my.yaml: rollout.num_pushforward: has no effect while"),
        ("[1", "my.yaml: not valid YAML at line 1"),
    ],
)
def test_a_bad_file_is_refused_with_file_and_key(text, message):
    assert message in refusal(text=text)


def test_each_wrong_key_has_its_line_and_many_are_counted():
    lines = refusal(text="train: {epochs: x, batch_size: 0}").splitlines()
    assert [line.split(": expected")[0] for line in lines] == [
        "my.yaml: train.epochs",
        "my.yaml: train.batch_size",
    ]
    keys = ["epochs", "batch_size", "accumulate", "save_every", "log_every", "seed", "keep_last"]
    text = "train: {" + ", ".join(f"{key}: x" for key in keys) + "}"
    assert refusal(text=text).splitlines()[5:] == ["and 2 more"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--epochs", "3", "--train.epochs", "4"),
            "--train.epochs: 4 contradicts --epochs (train.epochs): 3; give one of them",
        ),
        (("--epochs", "3", "--epochs", "4"), "contradicts"),
        (
            ("--n-samples", "100", "--data.num_train", "50"),
            "--data.num_train: 50 contradicts --n-samples (data.num_train): 90",
        ),
        (("--runs", "a", "--checkpoint-dir", "b"), "contradicts --runs"),
        (("--preset", "paper", "--preset", "default"), "contradicts --preset"),
        (("--alignment", "null", "--alignment.vqvae", "a"), "contradicts --alignment: null"),
        (("--alignment.vqvae", "a", "--alignment", "null"), "--alignment: null contradicts"),
        (("--enable-latent-loss", "--loss.latent.enabled", "false"), "contradicts"),
    ],
)
def test_two_flags_that_contradict_each_other_are_refused(words, message):
    assert message in refusal(*words)


def test_two_places_of_one_file_that_contradict_each_other_are_refused():
    message = refusal(text="train: {epochs: 3}\ntrain.epochs: 4")
    assert "my.yaml: train.epochs: 4 contradicts my.yaml: train.epochs: 3" in message
    assert "contradicts" in refusal(text="loss: {traj: 1}\nloss.traj.weight: 2")
    assert "true contradicts" in refusal(text="train: {epochs: 1}\ntrain.epochs: true")


def test_the_same_value_twice_contradicts_nothing():
    config, _ = call("--epochs", "3", "--train.epochs", "3")
    assert config.train.epochs == 3


def test_a_dead_key_may_hold_its_default_or_come_from_a_preset():
    config, _ = call("--rollout.num_pushforward", "1")
    assert config.rollout.num_pushforward == 1
    config, _ = call("--rollout.num_pushforward", "3", "--rollout.mode", "pushforward")
    assert config.rollout.num_pushforward == 3


def test_an_option_of_another_command_is_sent_there():
    assert "it belongs to train, evaluate" in refusal("--lr", "3", command="align")
    assert "it belongs to train, evaluate" in refusal("--train.epochs", "3", command="align")
    assert "it belongs to train" in refusal("--preset", "paper", command="evaluate")
    assert "it belongs to align" in refusal("--seeds", "3")
    assert "did you mean --seeds?" in refusal("--sleds", "3", command="align")
    assert "its options: --help" in refusal("--sleds", "3", command="report")


# Folders


@pytest.fixture
def run_folder(tmp_path):
    """A run folder as the engine leaves it: the complete config, as JSON is YAML."""
    config, invocation = call("--epochs", "9")
    path = tmp_path / invocation.folder
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(json.dumps(config.model_dump(mode="json")))
    return path


def test_a_command_on_a_run_starts_from_its_config(run_folder):
    config, invocation = call(str(run_folder), "--device", "cpu", command="evaluate")
    assert (config.train.epochs, config.train.device) == (9, "cpu")
    assert (invocation.folder, invocation.folders) == (run_folder, (run_folder,))
    assert call("--name", "default", command="validate")[0].train.epochs == 9


def test_a_complete_config_of_a_run_is_a_config_file(run_folder):
    assert call("--config", str(run_folder / "config.yaml"))[0].train.epochs == 9


def test_folders_are_counted_and_checked(run_folder):
    call(str(run_folder), str(run_folder), command="align")
    assert "RUN: expected 2 at least, found" in refusal(str(run_folder), command="align")
    three = [str(run_folder)] * 3
    assert "RUN: expected 2 at most, found" in refusal(*three, command="align")
    message = refusal("runs/toy/defalt", str(run_folder), command="align")
    assert "runs/toy/defalt: expected a run folder, found nothing; runs there: " in message
    assert "runs/toy/default" in message
    assert "found no config.yaml in it" in refusal("runs", command="evaluate")
    assert "found a file" in refusal(str(run_folder / "config.yaml"), command="evaluate")
    assert "found nothing" in refusal("--name", "other", command="evaluate")


def test_a_lone_double_dash_ends_the_options():
    assert call("--", "--odd", command="report")[1].folders == (Path("--odd"),)


def test_a_runs_config_loads_and_a_foreign_one_is_refused(run_folder):
    assert load_run_config(ToyConfig, run_folder).train.epochs == 9
    (run_folder / "config.yaml").write_text("train: {epochs: 3, gone: 1}")
    with pytest.raises(InputError, match=r"config.yaml: train.gone: unknown key"):
        load_run_config(ToyConfig, run_folder)


def test_a_stored_mapping_loads_with_the_name_of_its_source():
    config = parse_config(ToyConfig, {"data": {"shape": [8, 9]}}, source="step_200.pt")
    assert config.data.shape == (8, 9)
    with pytest.raises(InputError, match=r"step_200.pt: train.epochs: expected an integer"):
        parse_config(ToyConfig, {"train": {"epochs": "x"}}, source="step_200.pt")


def test_a_resumed_run_keeps_its_config_but_for_the_keys_given():
    stored, _ = call("--preset", "paper", "--epochs", "3", "--weighting.kind", "ramp")
    config, invocation = call("--seed", "5", "--weighting.kind", "constant")
    resumed = resumed_config(
        config, stored.model_dump(mode="json"), explicit=invocation.explicit, source="the run"
    )
    assert (resumed.train.epochs, resumed.rollout.window) == (3, 32)  # absent: from the run
    assert (resumed.train.seed, resumed.weighting.kind) == (5, "constant")  # given: differs
    same = resumed_config(config, stored.model_dump(mode="json"), explicit=(), source="the run")
    assert same == stored
