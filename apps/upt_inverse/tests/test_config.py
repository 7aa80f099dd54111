"""Presets, other accepted names of keys, and what is refused before anything is made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nops_schedules import compute_inverse_loss_curriculum_weight
from nops_train import CurriculumConfig, InputError, resolve_call
from upt_inverse.aliases import DEAD, TRAINING
from upt_inverse.cli import app, main
from upt_inverse.config import UptConfig
from upt_inverse.training import describe_batch

BLOCK = """
training:
  use_inverse_losses: true
  lambda_inv_enc: 0.01
  lambda_inv_dec: 0.01
  inverse_loss_frequency: 1
  inverse_loss_warmup_epochs: 5
  inverse_loss_max_weight: 0.05
  query_sampling:
    enabled: true
    num_queries: 128
    strategy: uniform
"""


def resolved(*words: str) -> UptConfig:
    program = app()
    command = program.command("train")
    assert command is not None
    config, _ = resolve_call(program, command, list(words))
    assert isinstance(config, UptConfig)
    return config


def from_yaml(tmp_path: Path, text: str, *words: str) -> UptConfig:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    return resolved("--config", str(path), *words)


def test_the_default_trains_all_four_terms_for_960_steps() -> None:
    config = resolved()
    assert config.loss.weights() == dict.fromkeys(
        ("L_forward", "L_inv_enc", "L_inv_dec", "L_rollout"), 1.0
    )
    starts = config.frames - config.model.history - config.loss.steps + 1
    assert config.data.num_train * starts // config.train.batch_size * config.train.epochs == 960


@pytest.mark.parametrize(
    "preset", ["default", "original", "seed", "diffusion_reaction", "ablation", "paper"]
)
def test_every_preset_resolves(preset: str) -> None:
    resolved("--preset", preset)


def test_the_published_mixture_has_its_sizes_once_its_files_are_named() -> None:
    paths = [f"--tasks.{name}.data.path={name}.hdf5" for name in ("advection", "darcy")]
    config = resolved("--preset", "paper_multi", *paths)
    model, train = config.model, config.train
    assert (model.tokens, model.dim) == (192, 192)
    assert (model.approximator_depth, model.approximator_width) == (12, 576)
    assert (train.batch_size // train.accumulate, train.accumulate, train.epochs) == (4, 12, 30)
    queries = {n: own.loss.query_sampling.num_queries for n, own in config.parts().items()}
    assert queries == {"advection": 512, "darcy": 1024}
    assert config.weights()["darcy.L_inv_dec"] == 0.01


def test_original_reads_two_states_and_unrolls_nothing() -> None:
    config = resolved("--preset", "original")
    assert config.model.history == 2
    assert config.model.latent_norm == "none"
    assert "L_rollout" not in config.loss.weights()


def test_the_published_block_loads_verbatim_and_selects_its_preset(tmp_path: Path) -> None:
    config = from_yaml(tmp_path, BLOCK)
    assert config.loss.preset == "seed"
    assert config.loss.weights() == {"L_forward": 1.0, "L_inv_enc": 0.01, "L_inv_dec": 0.01}
    sampling = config.loss.query_sampling
    assert (sampling.enabled, sampling.num_queries, sampling.strategy) == (True, 128, "uniform")
    expected = CurriculumConfig(delay=5, ramp=5, cap=0.05, every=1)
    assert config.weighting == expected
    same = resolved("--preset", "seed")
    assert (same.loss.L_inv_enc, same.loss.L_inv_dec) == (0.01, 0.01)
    assert same.weighting == expected
    assert "L_rollout" not in same.loss.weights()


def test_what_the_block_leaves_out_is_as_it_was(tmp_path: Path) -> None:
    text = "training: {lambda_inv_enc: 0.02, query_sampling: {enabled: true, num_queries: 99}}"
    config = from_yaml(tmp_path, text + "\nweighting: {kind: curriculum}")
    assert config.loss.query_sampling.strategy == "uniform"
    assert isinstance(config.weighting, CurriculumConfig)
    assert (config.weighting.delay, config.weighting.ramp, config.weighting.cap) == (15, 15, 0.05)
    rule = config.rule()
    for epoch in range(40):  # the two copies of the curriculum agree
        weight = rule.weights(epoch=epoch, step=0)["L_inv_enc"]
        assert weight == compute_inverse_loss_curriculum_weight(epoch, 0.02)


def test_a_published_file_with_an_unroll_has_it(tmp_path: Path) -> None:
    config = from_yaml(tmp_path, "training: {lambda_rollout: 0.3, rollout_horizon: 2}")
    assert config.loss.weights()["L_rollout"] == 0.3
    assert config.loss.steps == 2


VALUES: dict[str, tuple[Any, str, Any]] = {
    "use_inverse_losses": (True, "loss.use_inverse_losses", True),
    "lambda_forward": (2.0, "loss.L_forward", 2.0),
    "lambda_inv_enc": (0.2, "loss.L_inv_enc", 0.2),
    "lambda_inv_dec": (0.2, "loss.L_inv_dec", 0.2),
    "lambda_rollout": (0.2, "loss.L_rollout", 0.2),
    "lambda_spectral": (0.2, "loss.L_spec", 0.2),
    "rollout_horizon": (3, "loss.rollout_horizon", 3),
    "inverse_loss_warmup_epochs": (7, "weighting.ramp", 7),
    "inverse_loss_max_weight": (0.1, "weighting.cap", 0.1),
    "inverse_loss_frequency": (2, "weighting.every", 2),
    "query_sampling.enabled": (False, "loss.query_sampling.enabled", False),
    "query_sampling.strategy": ("stratified", "loss.query_sampling.strategy", "stratified"),
    "physics_priors.lambda_latent_norm": (0.2, "loss.L_latent_norm", 0.2),
    "physics_priors.lambda_latent_diversity": (0.2, "loss.L_latent_diversity", 0.2),
    "physics_priors.lambda_conservation": (0.2, "loss.L_conservation", 0.2),
    "physics_priors.lambda_boundary": (0.2, "loss.L_boundary", 0.2),
    "physics_priors.lambda_positivity": (0.2, "loss.L_positivity", 0.2),
    "dt": (0.2, "data.dt", 0.2),
    "batch_size": (3, "train.batch_size", 3),
    "grad_clip": (0.5, "train.grad_clip", 0.5),
    "accum_steps": (2, "train.accumulate", 2),
    "ema_decay": (0.9, "train.ema_decay", 0.9),
    "patience": (4, "train.early_stop_patience", 4),
    "num_workers": (1, "train.num_workers", 1),
    "amp": (True, "train.precision", "bf16"),
    "amp_dtype": ("float16", "train.precision", "fp16"),
}
ELSEWHERE = {
    "query_sampling.num_queries",
    "time_stride",
    "compile",
    "physics_priors.lambda_divergence",
}


@pytest.mark.parametrize("name", VALUES)
def test_each_key_of_the_block_sets_its_own(tmp_path: Path, name: str) -> None:
    given, key, expected = VALUES[name]
    config = from_yaml(tmp_path, f"training: {{{name}: {given}}}".replace("True", "true"))
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part)
    assert found == expected
    assert config.loss.preset == "seed"


def test_what_a_batch_counts_is_told_where_its_old_name_is_used() -> None:
    program = app()
    command = program.command("train")
    assert command is not None
    for word, told in (("training", True), ("train", False)):
        config, call = resolve_call(program, command, [f"--{word}.batch_size=3"])
        assert isinstance(config, UptConfig)
        line = describe_batch(config, call)
        assert (line is not None) == told
        assert not told or "= 3 counts windows" in str(line)


def test_no_key_of_the_block_is_untested() -> None:
    names = {alias.name.removeprefix("training.") for alias in TRAINING}
    assert names == {*VALUES} | ELSEWHERE


@pytest.mark.parametrize("name", DEAD)
def test_dead_keys_are_refused_by_name_with_a_replacement(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=DEAD[name].split(":")[0][:20]) as caught:
        from_yaml(tmp_path, f"{name}: 1")
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("operator: {architecture_type: unet}", "pdet_stack"),
        ("stages: {operator: {optimizer: {name: muon_hybrid}}}", "adamw, adam, sgd"),
        ("training: {compile: true}", "no effect"),
        ("data: {split: test}", "splits are made here"),
    ],
)
def test_what_is_not_shipped_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        from_yaml(tmp_path, text)


def test_keys_of_the_larger_files_are_mapped(tmp_path: Path) -> None:
    text = """
    latent: {tokens: 16, dim: 32}
    operator: {architecture_type: pdet_stack, pdet: {depth: 3, num_heads: 2, hidden_dim: 64, qk_norm: true, drop_path: 0.1}}
    stages: {operator: {epochs: 3, optimizer: {name: adamw, lr: 3.0e-4, weight_decay: 0.1}, scheduler: {name: CosineAnnealingLR}}}
    data: {task: burgers, patch_size: 4, split: train}
    """
    config = from_yaml(tmp_path, text)
    model, train = config.model, config.train
    assert (model.tokens, model.dim, model.approximator_depth, model.heads) == (16, 32, 3, 2)
    assert (model.approximator_width, model.qk_norm, model.drop_path) == (64, True, 0.1)
    assert (model.patch_size, train.epochs, train.learning_rate) == (4, 3, 3e-4)
    assert (train.weight_decay, train.optimizer, train.lr_schedule) == (0.1, "adamw", "cosine")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{name: StepLR, step_size: 3, gamma: 0.5}", ("step", 3, 0.5, 5)),
        ("{name: ReduceLROnPlateau, factor: 0.2, patience: 2}", ("plateau", 10, 0.2, 2)),
        ("{name: constant}", ("constant", 10, 0.1, 5)),
    ],
)
def test_their_schedules_are_mapped(tmp_path: Path, text: str, expected: tuple) -> None:
    train = from_yaml(tmp_path, f"stages: {{operator: {{scheduler: {text}}}}}").train
    found = (train.lr_schedule, train.lr_step_epochs, train.lr_factor, train.lr_patience)
    assert found == expected


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--train.lr_patience=2"], ("train.lr_patience", "plateau")),
        (["--train.schedule=steps"], ("step", "plateau")),
        (["--training.use_inverse_losses=false", "--loss.L_inv_enc=0.1"], ("use_inverse", "0.1")),
        (
            ["--loss.use_inverse_losses=true", "--loss.L_inv_enc=0", "--loss.L_inv_dec=0"],
            ("use_inverse", "L_inv_enc and L_inv_dec are 0"),
        ),
        (
            ["--loss.query_sampling.enabled=true", "--loss.query_sampling.num_queries=256"],
            ("sampling would do nothing: N = 256",),
        ),
        (["--loss.query_sampling.enabled=true"], ("without num_queries",)),
        (["--loss.query_sampling.num_queries=9"], ("query_sampling.enabled",)),
        (
            ["--model.encoder=supernodes", "--model.supernodes=300", "--model.radius=0.1"],
            ("300", "256"),
        ),
        (["--model.encoder=supernodes"], ("supernodes and radius",)),
        (
            ["--loss.query_sampling.strategy=importance", "--loss.rollout_queries=1"],
            ("importance", "no points are drawn"),
        ),
        (
            [
                *(
                    "--loss.query_sampling.strategy=importance",
                    "--loss.query_sampling.enabled=true",
                ),
                *("--loss.query_sampling.num_queries=64", "--model.encoder=supernodes"),
                *("--model.supernodes=16", "--model.radius=0.1"),
            ],
            ("importance", "model.encoder: grid"),
        ),
        (["--loss.query_sampling.importance_floor=0.5"], ("importance_floor", "importance")),
        (["--loss.rollout_horizon=9"], ("9", "data.num_steps = 8")),
        (["--loss.L_divergence=1"], ("divergence_field",)),
        (["--loss.preset=seed", "--loss.reencode=truth"], ("truth",)),
        (["--data.pde=shallow_water"], ("cannot be solved",)),
        (["--data.pde=darcy"], ("2 axes",)),
        (["--data.pde=darcy", "--data.shape=8,8"], ("num_steps = 8, expected 1",)),
        (["--data.pde=diffusion_reaction"], ("2 axes",)),
        (["--data.source=well"], ("without path",)),
        (["--data.pde=burger"], ("burgers",)),
        (["--data.speed=1"], ("data.pde",)),
        (["--train.compile=true"], ("no effect",)),
        (["--weighting.kind=curriculum", "--weighting.every=0"], ("every",)),
        (
            ["--weighting.kind=curriculum", "--loss.L_inv_enc=0", "--loss.L_inv_dec=0"],
            ("nothing would ramp",),
        ),
        (["--train.optimizer=adam"], ("weight_decay",)),
        (["--seeds=1,1"], ("twice",)),
        (["--losses.lambda_inv_encoding=1"], ("lambda_inv_enc",)),
    ],
)
def test_contradictions_end_with_2_and_name_both_sides(
    words: list[str],
    parts: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert all(part in told for part in parts), told
    assert not list(tmp_path.iterdir())


def test_a_cap_that_never_binds_is_told(
    run_app: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--weighting.kind=curriculum", "--loss.L_inv_enc=0.01", "--loss.L_inv_dec=0.01"]
    assert run_app("train", *words, "--train.epochs=1", "--train.warmup_steps=0") == 0
    assert "weighting.cap = 0.05 never binds" in capsys.readouterr().out
