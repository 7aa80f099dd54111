"""200 edits of the real presets: each runs as asked, or is refused by the name of the key."""

import copy
import random
from pathlib import Path

import pytest
import yaml
from noa.cli import app, main
from noa.config import NoaConfig
from nops_train import Engine, resolve_call

pytestmark = pytest.mark.fault

PRESETS = ("default", "gray_scott", "paper", "random_conv")
COUNT = 200
TINY = (
    "--rollout.window=2",
    "--model.base_channels=4",
    "--model.afno_groups=2",
    "--model.embedding=4",
    "--model.modes=null",
    "--train.epochs=1",
    "--train.batch_size=2",
    "--train.warmup_steps=0",
    "--train.device=cpu",
    "--evaluate.bootstrap=20",
)
DATA = (
    "--data.num_train=6",
    "--data.num_valid=3",
    "--data.num_test=3",
    "--data.num_steps=4",
)
WRONG_TYPES = ("many", "", True, None, 1.5, [1], ["a"], [], {"a": 1}, "3", -3)
OUTSIDE = (-1, 0, -0.5, 2, 1.0, 2**64, -(2**64), 1e308, float("inf"), float("nan"))
# Changes that do not fit the rest, and the key to be named.
CONTRADICTIONS = (
    ({"rollout.window": 5}, "rollout.window"),
    ({"rollout.mode": "pushforward", "rollout.num_pushforward": 3}, "rollout.num_pushforward"),
    ({"rollout.num_pushforward": 2}, "rollout.num_pushforward"),
    ({"evaluate.lead_times": [1, 5]}, "evaluate.lead_times"),
    ({"evaluate.lead_times": [2, 1]}, "evaluate.lead_times"),
    ({"train.warmup_steps": 3}, "train.warmup_steps"),
    ({"train.lr_schedule": "constant", "train.warmup_steps": 1}, "train.warmup_steps"),
    ({"train.accumulate": 3}, "accumulate"),
    ({"train.monitor": "accuracy"}, "train.monitor"),
    ({"train.freeze": ["no_such_part.*"]}, "train.freeze"),
    ({"train.freeze": ["*"]}, "train.freeze"),
    ({"train.shard": True, "train.precision": "fp16"}, "shard"),
    ({"loss.traj": 0, "loss.ic": 0}, "loss"),
    ({"model.encoder_levels": 6}, "model.encoder_levels"),
    ({"model.afno_groups": 3}, "afno_groups"),
    ({"data.num_train": 7}, "data.num_train"),
    ({"data.shape": [20]}, "data.shape"),
    ({"data.shape": [24, 24]}, "data.shape"),
    ({"data.domain": "heat"}, "data.domain"),
    ({"data.seed": 5}, "data.seed"),
    ({"data.path": "nowhere"}, "data.path"),
)
ALLOWED = (
    {"rollout.window": 3},
    {"rollout.mode": "sequential"},
    {"rollout.mode": "pushforward", "rollout.num_pushforward": 2},
    {"rollout.checkpoint_every": 1},
    {"model.norm": "group", "model.base_channels": 8},
    {"model.norm": "instance"},
    {"model.afno_blocks": 0},
    {"model.modes": 3},
    {"loss.ic": 0.0},
    {"train.accumulate": 2},
    {"train.grad_clip": None},
    {"train.ema_decay": 0.5},
    {"train.precision": "bf16"},
    {"train.precision": "fp16"},
    {"train.shard": True},
    {"train.early_stop_patience": 1},
    {"train.monitor_mode": "max"},
    {"train.freeze": ["*film*"]},
    {"train.seed": 2**63 - 1},
    {"train.lr_schedule": "constant"},
    {"train.warmup_steps": 1},
    {"data.num_train": 4},
    {"evaluate.lead_times": [1, 3]},
)


def leaves(config, prefix=""):
    for name, value in config.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def misspelt(name, draw):
    place = draw.randrange(len(name))
    return draw.choice(
        [name[:place] + name[place + 1 :], name[:place] + "_" + name[place:], name + "s", "x"]
    )


def edit(config, number):
    """One seeded edit: the changes, the names of which a refusal holds one, and what must be."""
    draw = random.Random(number)
    path = draw.choice(sorted(leaves(config)))
    name = path.rpartition(".")[2]
    kind = ("unknown", "type", "range", "contradictory", "allowed")[number % 5]
    if kind == "unknown":
        section = path.rpartition(".")[0]
        wrong = misspelt(name, draw)
        known = {p.rpartition(".")[2] for p in leaves(config) if p.rpartition(".")[0] == section}
        wrong = f"{wrong}_x" if wrong in {*known, ""} else wrong
        return kind, {f"{section}.{wrong}": 1}, (wrong,)
    if kind == "contradictory":
        changes, named = CONTRADICTIONS[number // 5 % len(CONTRADICTIONS)]
        return kind, changes, (named,)
    if kind == "allowed":
        changes = ALLOWED[number // 5 % len(ALLOWED)]
        return kind, changes, ()
    return kind, {path: draw.choice(WRONG_TYPES if kind == "type" else OUTSIDE)}, (name,)


def edited(config, changes):
    result = copy.deepcopy(config)
    for path, value in changes.items():
        *sections, name = path.split(".")
        level = result
        for section in sections:
            level = level[section]
        level[name] = value
    return result


def value_at(config, path):
    for name in path.split("."):
        config = config[name]
    return config


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """Each preset, small, on data of its own domain: what resolves to a run of one epoch."""
    command, found = app().command("train"), {}
    for preset in PRESETS:
        folder = tmp_path_factory.mktemp(preset) / "data"
        words = ["--preset", preset, f"--data={folder}", *DATA, "--data.shape=20,20", *TINY]
        assert main(["generate", *words]) == 0
        config, _ = resolve_call(app(), command, words)
        found[preset] = config.model_dump(mode="json")
    return found


class Reached(BaseException):
    """The first step was made: everything before it has accepted the configuration."""


@pytest.fixture
def one_step(monkeypatch):
    plain = Engine._train_step

    def step(self, batch, samples):
        plain(self, batch, samples)
        raise Reached

    monkeypatch.setattr(Engine, "_train_step", step)


def write(path, config):
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return str(path)


@pytest.fixture
def outcome(configs, one_step, tmp_path, monkeypatch, capsys):
    """The exit code of a preset with changes, 0 where its first step was made, and what was told."""
    monkeypatch.chdir(tmp_path)

    def run(preset, changes):
        file = write(tmp_path / "edited.yaml", edited(configs[preset], changes))
        try:
            code = main(["train", "--preset", preset, "--config", file, "--name=run"])
        except Reached:
            code = 0
        told = capsys.readouterr().err
        print(preset, changes, code, told)
        assert "Traceback" not in told
        assert len(told) < 2000
        assert code in (0, 2)
        if code == 0:
            stored = yaml.safe_load(Path("runs/noa/run/config.yaml").read_text())
            for path, value in changes.items():
                assert value_at(stored, path) == value
        return code, told

    return run


@pytest.mark.parametrize("number", range(COUNT))
def test_runs_as_asked_or_is_refused_by_name(configs, outcome, number):
    preset = PRESETS[number // 5 % len(PRESETS)]
    kind, changes, named = edit(configs[preset], number)
    code, told = outcome(preset, changes)
    if code == 0:
        assert kind not in ("unknown", "contradictory")
    else:
        assert kind != "allowed"
        assert any(name in told for name in named)


def value_of(path):
    return value_at(NoaConfig().model_dump(), path)


NUMBERS = sorted(path for path in leaves(NoaConfig().model_dump()) if type(value_of(path)) is int)


@pytest.mark.parametrize("size", [10**9, 10**18])
@pytest.mark.parametrize("path", NUMBERS)
def test_no_number_is_too_large_to_be_refused(outcome, path, size):
    """What no machine can do is refused by name before it is begun."""
    code, told = outcome("default", {path: size})
    assert code == 0 or path.rpartition(".")[2] in told, told


@pytest.mark.parametrize("number", range(6))
def test_also_in_a_process_of_its_own(configs, runs, number):
    preset = PRESETS[number % len(PRESETS)]
    kind, changes, named = edit(configs[preset], number)
    file = write(runs.folder / "edited.yaml", edited(configs[preset], changes))
    runs.words = ["--preset", preset, "--config", file, "--name=default"]
    ended = runs.train()
    assert "Traceback" not in ended.text
    if ended.code == 0:
        assert kind not in ("unknown", "contradictory")
        assert runs.summary()["status"] == "completed"
    else:
        assert ended.code == 2, ended.text
        assert any(name in ended.text for name in named)
