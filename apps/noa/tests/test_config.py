"""Presets, accepted names, and the way from a published flag to its key."""

from importlib.resources import files

import pytest
import yaml
from noa.cli import app
from noa.config import SHORT_NAMES, NoaConfig
from nops_physics import DOMAIN_NAMES
from nops_train import InputError, parse_config, resolve_call

PRESETS = sorted(f.name for f in (files("noa") / "configs").iterdir() if f.name.endswith(".yaml"))


def resolved(*words: str) -> NoaConfig:
    noa = app()
    command = noa.command("train")
    assert command is not None
    config, _ = resolve_call(noa, command, list(words))
    assert isinstance(config, NoaConfig)
    return config


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid(name):
    text = (files("noa") / "configs" / name).read_text()
    parse_config(NoaConfig, yaml.safe_load(text), source=name)


def test_paper_has_the_published_figures():
    paper = resolved("--preset", "paper")
    assert paper.data.num_train + paper.data.num_valid == 5000
    assert (paper.data.num_steps, paper.rollout.window) == (256, 32)
    assert (paper.train.epochs, paper.train.batch_size) == (10, 4)
    assert paper.train.learning_rate == 3e-4
    assert (paper.model.base_channels, paper.model.modes) == (32, 16)


@pytest.mark.parametrize(
    ("flag", "value", "section", "key", "expected"),
    [
        ("--timesteps", "32", "data", "num_steps", 32),
        ("--bptt-window", "8", "rollout", "window", 8),
        ("--base-channels", "16", "model", "base_channels", 16),
        ("--encoder-levels", "3", "model", "encoder_levels", 3),
        ("--afno-blocks", "1", "model", "afno_blocks", 1),
        ("--modes", "4", "model", "modes", 4),
        ("--epochs", "7", "train", "epochs", 7),
        ("--batch-size", "4", "train", "batch_size", 4),
        ("--lr", "3e-4", "train", "learning_rate", 3e-4),
        ("--lr-schedule", "cosine", "train", "lr_schedule", "cosine"),
        ("--warmup-steps", "5", "train", "warmup_steps", 5),
        ("--save-every", "9", "train", "save_every", 9),
        ("--early-stop-patience", "2", "train", "early_stop_patience", 2),
        ("--dataset", "somewhere", "data", "path", "somewhere"),
        ("--n-samples", "505", "data", "num_train", 454),
        ("--n-samples", "505", "data", "num_valid", 51),
        ("--seed", "3", "train", "seed", 3),
        ("--device", "cpu", "train", "device", "cpu"),
        ("--loss.traj.weight", "2.0", "loss", "traj", 2.0),
        ("--vqvae-path", "somewhere", "alignment", "vqvae", "somewhere"),
    ],
)
def test_published_flags_reach_their_keys(flag, value, section, key, expected):
    config = resolved(flag, value)
    assert getattr(getattr(config, section), key) == expected


def test_checkpoint_dir_is_the_folder_of_runs():
    noa = app()
    command = noa.command("train")
    assert command is not None
    _, call = resolve_call(noa, command, ["--checkpoint-dir", "checkpoints"])
    assert str(call.folder) == "checkpoints/noa/default"


@pytest.mark.parametrize(
    ("short", "name"),
    [
        ("rd", "gray_scott"),
        ("reaction_diffusion", "gray_scott"),
        ("gray_scott", "gray_scott"),
        ("waves", "wave"),
        ("fluids", "navier_stokes"),
    ],
)
def test_short_names_of_the_domain(short, name):
    assert resolved("--data.domain", short).data.domain == name


def test_the_short_names_are_those_of_the_solvers():
    known = {name: long for name, long in DOMAIN_NAMES.items() if name != long}
    assert known == SHORT_NAMES


def test_lead_times_are_powers_of_two_and_the_last():
    assert resolved().evaluate.leads(64) == (1, 2, 4, 8, 16, 32, 64)
    assert resolved().evaluate.leads(6) == (1, 2, 4, 6)
    assert resolved("--evaluate.lead_times", "3,5").evaluate.leads(6) == (3, 5)


def test_published_flags_of_tokens_reach_their_keys():
    base = ("--vqvae-path", "runs/noa/tokens/", "--bptt-window", "32")
    given = resolved(
        *base, "--lambda-commit", "0.2", "--enable-latent-loss", "--lambda-latent", "0.5"
    )
    assert given.alignment.vqvae == "runs/noa/tokens"
    assert given.term_weights() == {"traj": 1.0, "ic": 0.3, "commit": 0.2, "latent": 0.5}
    steps = resolved(*base, "--enable-latent-loss", "--latent-sample-steps", "8")
    assert steps.alignment.sample_steps == 8
    assert resolved(*base).term_weights() == {"traj": 1.0, "ic": 0.3, "commit": 0.5}
    dotted = ("--loss.latent.enabled=true", "--loss.latent.weight=0.3", "--loss.commit.weight=0.1")
    assert resolved(*base, *dotted).term_weights() == {
        "traj": 1.0,
        "ic": 0.3,
        "commit": 0.1,
        "latent": 0.3,
    }


def test_paper_has_the_published_figures_of_tokens():
    words = ("--vqvae-path", "somewhere", "--enable-latent-loss")
    paper = resolved("--preset", "paper", *words)
    assert paper.term_weights() == {"traj": 1.0, "ic": 0.3, "commit": 0.5, "latent": 0.5}
    assert (paper.alignment.sample_steps, paper.features.clip) == (8, 32)
    assert (paper.vqvae.epochs, paper.vqvae.batch_size) == (550, 1024)
    assert paper.vqvae.categories == "cluster"
    assert set(paper.vqvae.rule().terms) >= {"orthogonality", "topographic"}


def test_what_a_preset_holds_in_store_may_be_repeated_and_nothing_else():
    again = resolved("--preset", "paper", "--loss.latent", "0.5", "--alignment.sample_steps", "8")
    assert again == resolved("--preset", "paper")
    with pytest.raises(InputError, match=r"loss\.latent: has no effect while alignment\.latent"):
        resolved("--preset", "paper", "--loss.latent", "0.4")


@pytest.mark.parametrize("name", PRESETS)
def test_the_configuration_that_a_run_keeps_is_accepted_without_its_preset(name, tmp_path):
    words = ("--preset", name.removesuffix(".yaml"), "--data.path", "data/mine")
    started = resolved(*words, "--vqvae-path=runs/v" if name == "simultaneous.yaml" else "--seed=3")
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(started.model_dump(mode="json")))
    assert resolved("--config", str(file)) == started


def test_what_a_file_sets_to_no_effect_is_refused_all_the_same(tmp_path):
    message = r"loss\.latent: has no effect while alignment\.latent"
    file = tmp_path / "mine.yaml"
    for text in ("loss: {latent: 0.5}", "{loss: {latent: 0.4}, alignment: {latent: false}}"):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            resolved("--config", str(file))
    file.write_text("{loss: {latent: 0.5}, alignment: {latent: false}}")
    assert resolved("--config", str(file)).loss.latent == 0.5
    with pytest.raises(InputError, match=message):
        resolved("--config", str(file), "--alignment.latent", "false")
