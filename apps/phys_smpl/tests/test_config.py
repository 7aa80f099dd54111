"""Presets, contradictions, the original project's files: what is accepted, and every refusal."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from nops_train import InputError, parse_config, resolve_call
from phys_smpl.build import base_weights
from phys_smpl.cli import app, infer_preset, main
from phys_smpl.config import PhysConfig
from phys_smpl.dead_keys import refuse_dead_keys
from phys_smpl.seed_layout import rewrite


def resolved(*words: str, command: str = "train") -> Any:
    found = app().command(command)
    assert found is not None
    return resolve_call(app(), found, words)[0]


def test_every_preset_is_a_config_and_says_what_it_trains() -> None:
    kinds = {name: resolved("--preset", name).model.kind for name in app().preset_names()}
    assert kinds.pop("paper") == kinds.pop("collapse") == "G"
    assert set(kinds.values()) == {"C"}
    default = resolved()
    assert base_weights(default) == {
        "bootstrap": 1.0,
        "reconstruction": 1.0,
        "kl_physics": 0.01,
        "kl_aux": 0.01,
        "residual": 1e-4,
        "orthogonality": 0.1,
        "coefficient": 1e-4,
    }
    paper = base_weights(resolved("--preset", "paper"))  # at σ² = ½ the factor of KL is 1
    assert paper == {
        "bootstrap": 1.0,
        "reconstruction": 1.0,
        "kl_physics": 1.0,
        "kl_aux": 1.0,
        "gate": 1e-3,
        "residual": 1e-4,
    }


def test_a_preset_is_inferred_from_what_lies_beside_the_data(tmp_path: Path) -> None:
    assert infer_preset(str(tmp_path)) is None
    (tmp_path / "rtm_paras.json").touch()
    assert infer_preset(str(tmp_path)) == ("reflectance", f"{tmp_path} holds rtm_paras.json")
    (tmp_path / "station_info.json").touch()
    assert (infer_preset(str(tmp_path)) or ("",))[0] == "gnss"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--phases.epochs_pretrain=9", "--train.epochs=9"], "no training epoch is left"),
        (["--model.residual=gated", "--model.rank=2"], "rank = 2 belongs to a low-rank"),
        (["--model.residual=no_physics", "--model.aux_dim=0"], "needs aux_dim of 1"),
        (["--model.aux_dim=0", "--loss.beta_aux=1"], "loss.beta_aux = 1.0 has no effect"),
        (
            ["--model.residual=no_physics", "--loss.beta_physics=1"],
            "loss.beta_physics = 1.0 has no",
        ),
        (["--loss.gate=0.5"], "loss.gate = 0.5 has no effect: it needs model.residual: gated"),
        (["--loss.capacity.gamma=5"], "loss.capacity.gamma = 5.0 has no effect"),
        (["--physics.soil=f.csv"], "physics.soil = f.csv has no effect: it needs problem: inform"),
        (["--loss.smoothness=1"], "loss.smoothness needs data.sequence_length"),
        (["--loss.bootstrap=0"], "pretraining would train nothing"),
        (["--train.compile=true"], "compile has no effect"),
        (["--train.warmup_steps=3"], "warmup_steps"),
        (["--model.rank=37"], "rank=37 is above the 36 outputs"),
        (["--physics.ranges.depth=1,2"], r"unknown ['depth']; valid names: xcen"),
        (["--physics.ranges.d=2,2"], "need low < high"),
        (["--data.inputs=tts"], "'tts' needs to be an input of the physics (none)"),
        (["--data.noise=3"], "was simulated with 0.5"),
        (["--problem=okada"], "problem: okada, but"),
    ],
)
def test_a_contradiction_ends_with_exit_code_2_and_both_keys(
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", f"--data={data_folder}", *words]) == 2
    assert expected in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "runs").exists()  # nothing is left behind


def test_names_of_metrics_of_old_are_accepted() -> None:
    for name, metric in (
        ("val_rec_loss", "reconstruction"),
        ("residual_rel_diff", "residual_percent"),
    ):
        assert resolved(f"--train.monitor={name}").train.monitor == metric


def original(**penalties: Any) -> dict[str, Any]:
    """A file of the original project."""
    return {
        "name": "X",
        "n_gpu": 1,
        "arch": {
            "type": "PHYS_VAE_SMPL",
            "args": {
                "physics": "RTM",
                "input_dim": 11,
                "hidden_dim": 7,
                "rtm_paras": "rtm.json",
                "standardization": {"x_mean": "m.npy", "x_scale": "s.npy"},
            },
            "phys_vae": {
                "no_phy": False,
                "dim_z_aux": 2,
                "dim_z_phy": 7,
                "num_units_feat": 64,
                "hidlayers_feat": [32],
                **penalties,
            },
        },
        "data_loader": {
            "type": "L",
            "args": {"data_dir": "d/train.csv", "batch_size": 128, "num_workers": 4},
            "data_dir_valid": "d/valid.csv",
            "data_dir_test": "d/test.csv",
        },
        "optimizer": {"type": "Adam", "args": {"lr": 0.0003, "weight_decay": 0.0, "amsgrad": True}},
        "loss": "mse_loss",
        "metrics": [],
        "lr_scheduler": {"type": "CosineAnnealingLR", "args": {"T_max": 120}},
        "trainer": {
            "epochs": 120,
            "save_period": 10,
            "monitor": "min val_rec_loss",
            "early_stop": 30,
            "input_const_keys": ["tto", "tts"],
            "stablize_grad": True,
            "grad_clip_norm": 2.0,
            "phys_vae": {"epochs_pretrain": 10, "kl_warmup_epochs": 40},
        },
    }


def loaded(values: dict[str, Any]) -> PhysConfig:
    config = parse_config(PhysConfig, rewrite(values), source="old.json")
    refuse_dead_keys(config, [*rewrite(values)])
    return config


def test_a_file_of_the_original_and_yaml_give_one_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.yaml"
    old.write_text(json.dumps(original()))
    first = resolved(f"--config={old}")
    said = capsys.readouterr().out
    assert said.startswith("not used here: ")
    for name in ("name", "n_gpu", "arch.args.hidden_dim", "trainer.stablize_grad"):
        assert name in said
    new.write_text(
        yaml.safe_dump(
            {
                "problem": "inform",
                "data": {
                    "path": "d",
                    "x_mean": "m.npy",
                    "x_scale": "s.npy",
                    "inputs": ["tto", "tts"],
                },
                "physics": {"bounds": "rtm.json"},
                "model": {"feature_dim": 64, "feature_hidden": [32]},
                "phases": {"epochs_pretrain": 10, "kl_warmup_epochs": 40},
                "train": {
                    "epochs": 120,
                    "batch_size": 128,
                    "weight_decay": 0.0,
                    "grad_clip": 2.0,
                    "early_stop_patience": 30,
                    "cosine_epochs": 120,
                },
            }
        )
    )
    second = resolved("--preset=paper", f"--config={new}")
    plain = [c.model_dump(mode="json") for c in (first, second)]
    for one in plain:  # of the presets beneath, which files of old say nothing of
        for key in ("num_train", "num_valid", "num_test", "noise", "disturbance"):
            one["data"].pop(key)
        one.pop("evaluate")
    assert plain[0] == plain[1]


def test_heads_and_variants_of_old() -> None:
    assert loaded(original()).model.kind == "G"
    low = loaded(original(residual_rank=2, tau_init=4.0, r_final=0.5, detach_x_P_for_bias=False))
    assert (low.model.kind, low.model.rank, low.model.stop_gradient) == ("C", 2, False)
    assert (low.phases.tau.init, low.phases.r.final) == (4.0, 0.5)
    # as published: without physics, with a rank that nothing reads
    none = loaded(original(no_phy=True, dim_z_phy=0, residual_rank=2, dim_z_aux=9))
    assert (none.model.kind, none.model.aux_dim, none.pretrain) == ("A", 9, 0)
    assert loaded(original(dim_z_aux=-1)).model.kind == "B"
    timed = original(residual_rank=2)
    timed["arch"]["args"] |= {"use_time_in_residual": True, "time_feat_dim": 4}
    assert loaded(timed).model.time_features == 4


WEIGHTS = {
    "balance_gate": ("gate", {}),
    "balance_residual": ("residual", {}),
    "delta_penalty_weight": ("residual", {"residual_rank": 2}),
    "ortho_penalty_weight": ("orthogonality", {"residual_rank": 2}),
    "coeff_penalty_weight": ("coefficient", {"residual_rank": 2}),
    "edge_penalty_weight": ("edge", {}),
    "balance_data_aug": ("bootstrap", {}),
    "beta_max_z_phy": ("kl_physics", {}),
    "beta_aux": ("kl_aux", {}),
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("block", ["arch", "trainer"])
def test_every_weight_counts_in_either_block(name: str, block: str) -> None:
    term, more = WEIGHTS[name]
    values = original(**more)
    values[block]["phys_vae"][name] = 0.37
    assert base_weights(loaded(values))[term] == pytest.approx(0.37)


def test_smoothness_needs_a_length_that_the_file_does_not_have() -> None:
    values = original()
    values["trainer"]["phys_vae"]["temporal_smoothness_weight"] = 0.37
    with pytest.raises(InputError, match=r"loss\.smoothness needs data\.sequence_length"):
        loaded(values)
    keys = {**rewrite(values), "data.sequence_length": 4}
    config = parse_config(PhysConfig, keys, source="old.json")
    assert base_weights(config)["smoothness"] == pytest.approx(0.37)


def test_switches_of_divergences() -> None:
    off = base_weights(loaded(original(use_kl_term_z_phy=False, use_kl_term_z_aux=False)))
    assert not off.keys() & {"kl_physics", "kl_aux"}
    moving = loaded(original(use_ema_prior=True, ema_momentum=0.999)).model
    assert (moving.prior, moving.ema_decay) == ("ema", 0.999)
    held = loaded(original(use_capacity_control=True, C_max=7.0, C_gamma=5.0))
    assert (held.loss.capacity.c_max, held.loss.capacity.gamma) == (7.0, 5.0)
    assert "kl_physics" not in base_weights(held)


@pytest.mark.parametrize(
    ("place", "name", "expected"),
    [
        (("trainer", "phys_vae"), "dim_z_aux", "misplaced; it belongs in arch.phys_vae"),
        (("arch", "args"), "balance_gate", "misplaced; it belongs in arch.phys_vae or trainer"),
        (("trainer",), "lr", "misplaced; it belongs in optimizer.args"),
        (("arch", "phys_vae"), "dim_z_auxx", "unknown key"),
        ((), "wandb", "misplaced; it belongs in trainer"),
    ],
)
def test_misplaced_and_unknown_keys_of_old_are_refused(
    place: tuple[str, ...], name: str, expected: str
) -> None:
    values = original()
    block = values
    for part in place:
        block = block[part]
    block[name] = 0.1
    with pytest.raises(ValueError, match=f"{name}: {expected}"):
        rewrite(values)


def test_contradictions_of_old_are_refused() -> None:
    values = original(balance_gate=0.5)
    values["trainer"]["phys_vae"]["balance_gate"] = 0.25
    with pytest.raises(ValueError, match=r"arch.phys_vae.balance_gate = 0.5 contradicts"):
        rewrite(values)
    apart = original()
    apart["data_loader"]["data_dir_test"] = "other/test.csv"
    with pytest.raises(ValueError, match="lie in different folders"):
        rewrite(apart)
    with pytest.raises(ValueError, match="dim_z_phy = 7"):
        rewrite(original(no_phy=True))
    plain = {"model": {"aux_dim": 1}}
    assert rewrite(plain) is plain


def test_generate_takes_one_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--out=a", "--data=b"]) == 2
    assert "--out and --data" in capsys.readouterr().err


@pytest.mark.parametrize(
    "word", ["lr_schedule=step", "lr_schedule=plateau", "lr_factor=0.5", "lbfgs_history=3"]
)
def test_rates_and_sizes_that_would_do_nothing_are_refused(word: str) -> None:
    with pytest.raises(InputError, match=word.partition("=")[0]):
        resolved(f"--train.{word}")
    assert resolved("--train.lr_schedule=constant").train.lr_schedule == "constant"


def test_a_dead_key_that_says_nothing_is_let_pass() -> None:
    config = parse_config(PhysConfig, {"model": {"aux_dim": 0}}, source="test")
    refuse_dead_keys(config, ["loss.gate", "model.prior", "train.epochs"])
    with pytest.raises(InputError, match="beta_aux"):
        refuse_dead_keys(config, ["loss.beta_aux"])
