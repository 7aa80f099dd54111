"""Which parts each term trains, exactly; and what stops a run in which one trains nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nops_train import InertTermError
from upt_inverse.config_loss import TERMS
from upt_inverse.reach import gradient_reach

E, A, G = "E", "A", "G"
ALL = (E, A, G)
SAMPLED = {"enabled": True, "num_queries": 32}
SETS = {"encoder": "supernodes", "supernodes": 8, "radius": 0.2}
COMMON = {
    "L_forward": ALL,
    "L_inv_enc": (E, G),
    "L_rollout": ALL,
    "L_forward_latent": (E, A),
    "L_spec": (E, A),
    "L_latent_norm": (E,),
    "L_latent_diversity": (E,),
    "L_conservation": ALL,
    "L_positivity": ALL,
}
TABLE = {
    "original": {**COMMON, "L_inv_dec": ALL},
    "seed": {**COMMON, "L_inv_dec": (E, G)},
}


def reach(built: Any) -> dict[str, tuple[str, ...]]:
    return gradient_reach(built.task, built.batch, built.config.loss.weights())


@pytest.mark.parametrize("sampling", [{}, SAMPLED], ids=["all points", "sampled"])
@pytest.mark.parametrize("model", [None, SETS], ids=["grid", "supernodes"])
@pytest.mark.parametrize("preset", ["original", "seed"])
def test_each_term_reaches_exactly_these_parts(
    build: Callable[..., Any], preset: str, model: dict | None, sampling: dict
) -> None:
    # an L_positivity far above all values, so that it is not 0; tokens that no norm holds
    weights = dict.fromkeys(COMMON, 1.0) | {"L_inv_dec": 1.0, "positivity_minimum": 10.0}
    loss = {"preset": preset, "rollout_horizon": 2, "query_sampling": sampling, **weights}
    built = build(model={**(model or {"patch_size": 4}), "latent_norm": "none"}, loss=loss)
    assert reach(built) == TABLE[preset]


def test_every_term_of_the_config_is_in_the_tables() -> None:
    assert {*TABLE["seed"], "L_divergence", "L_boundary"} == set(TERMS)


def test_penalties_that_need_a_border_reach_everything(build: Callable[..., Any]) -> None:
    built = build(plane=True, loss={"L_boundary": 1.0, "L_rollout": 0.0})
    assert reach(built)["L_boundary"] == ALL


@pytest.mark.parametrize("preset", ["original", "seed"])
def test_a_detached_latent_leaves_the_decoder_alone(build: Callable[..., Any], preset: str) -> None:
    found = reach(build(loss={"preset": preset, "detach_latent": True}))
    assert found["L_inv_enc"] == (G,)
    assert found["L_inv_dec"] == TABLE[preset]["L_inv_dec"]


@pytest.mark.parametrize("reencode", ["detached", "truth"])
def test_without_a_gradient_into_the_decode_the_decoder_is_left_out(
    build: Callable[..., Any], reencode: str
) -> None:
    assert reach(build(loss={"reencode": reencode}))["L_inv_dec"] == (E, A)


def test_a_frozen_encoder_and_decoder_are_told_by_the_terms_name(
    build: Callable[..., Any],
) -> None:
    built = build(loss={"L_inv_dec": 0.0})
    for part in (built.model.encoder, built.model.decoder):
        part.requires_grad_(False)
    with pytest.raises(InertTermError, match="L_inv_enc reaches no trainable parameter"):
        reach(built)


def test_a_run_with_them_frozen_stops_in_warm_up_too(
    run_app: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["--train.freeze=encoder.*,decoder.*", "--loss.L_inv_dec=0"]
    assert run_app("train", *words, "--weighting.kind=curriculum") == 2
    assert "L_inv_enc reaches no trainable parameter" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*/*/checkpoints/*.pt"))


def test_reach_leaves_no_gradient(build: Callable[..., Any]) -> None:
    built = build()
    reach(built)
    assert all(weight.grad is None for weight in built.model.parameters())
    assert torch.is_grad_enabled()
