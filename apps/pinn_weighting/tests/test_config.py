"""Presets, published spellings, and what is refused before anything is made."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nops_train import InputError
from pinn_weighting.cells import arms_of, cell_config, first_cells
from pinn_weighting.cli import main
from pinn_weighting.spelling import translated

Resolve = Callable[..., Any]


@pytest.mark.parametrize(
    "preset", ["default", "paper", "seed_euler", "benchmark", "burgers_config"]
)
def test_every_preset_resolves_and_its_cells_too(resolved: Resolve, preset: str) -> None:
    config = resolved("compare", "--preset", preset)
    arms = {arm.label: arm for arm in arms_of(config)[-3:]}
    for cell in first_cells(config, list(arms.values()))[-2:]:
        assert cell_config(config, arms[cell.arm], cell).train.learning_rate


def test_the_default_is_the_damped_wave_under_equal_init(resolved: Resolve) -> None:
    config = resolved("train").settled()
    assert (config.problem.name, config.weighting.kind) == ("wave_chain", "adaptive")
    assert (config.train.learning_rate, config.train.adam_eps) == (0.005, 1e-15)
    assert resolved("train", "--problem.name=poisson").settled().train.learning_rate == 0.001
    assert config.model.energy_bound
    assert not resolved("train", "--preset=seed_euler").model.energy_bound


def test_the_published_commands_mean_train(resolved: Resolve) -> None:
    config = resolved("training=adaptive_equal_init", "training.loss.adaptive.ema_alpha=0.95")
    assert config.weighting.kind == "adaptive"
    assert (config.weighting.strategy, config.weighting.ema_alpha) == ("equal_init", 0.95)
    config = resolved(
        "training=adaptive_equal_init", "training.loss.adaptive.strategy=equal_init_ema"
    )
    assert config.weighting.strategy == "equal_init_ema"
    config = resolved(
        "training=adaptive_ema",
        "training.loss.adaptive.ema_alpha=0.95",
        "training.loss.adaptive.update_frequency=5",
    )
    assert (config.weighting.strategy, config.weighting.update_every) == ("ema", 5)
    config = resolved(
        "training=adaptive_equal_init", "dataset.num_graphs=200", "training.epochs=60"
    )
    assert (config.problem.num_graphs, config.train.epochs) == (200, 60)
    config = resolved("training=fast", "training.learning_rate=0.01")
    assert (config.weighting.kind, config.train.epochs) == ("constant", 10)


def test_a_group_and_an_override_of_it_do_not_contradict_each_other(resolved: Resolve) -> None:
    assert resolved("training=fast", "training.epochs=3").train.epochs == 3


def test_published_comparisons_mean_compare_on_the_chain(resolved: Resolve) -> None:
    config = resolved(
        "-m",
        "training=default,adaptive_equal_init,adaptive_ema",
        "experiment.name=adaptive_comparison",
        "training.epochs=100",
    )
    assert config.compare.problems == ("wave_chain",)
    assert config.compare.schemes == ("fixed", "equal_init", "ema")
    assert config.train.epochs == 100
    assert "--name=adaptive_comparison" in translated(["-m", "experiment.name=adaptive_comparison"])


def test_lists_of_values_make_a_product_where_a_scheme_has_the_key(resolved: Resolve) -> None:
    config = resolved(
        "-m", "training=default,adaptive_ema", "training.loss.adaptive.ema_alpha=0.9,0.95"
    )
    assert [arm.label for arm in arms_of(config)] == [
        "fixed",
        "ema ema_alpha=0.9",
        "ema ema_alpha=0.95",
    ]
    arm = arms_of(config)[2]
    cell = next(c for c in first_cells(config, [arm]) if c.seed == 0)
    assert cell_config(config, arm, cell).weighting.ema_alpha == 0.95


def test_words_after_a_command_stay_as_they_are() -> None:
    assert translated(["train", "--train.epochs=3"]) == ["train", "--train.epochs=3"]
    assert translated(["--help"]) == ["--help"]
    assert translated([]) == []


def test_published_keys_reach_ours(resolved: Resolve) -> None:
    config = resolved(
        "dataset.num_nodes=50",
        "dataset.force.sign=1",
        "dataset.scaling.enabled=true",
        "model=residual_gcn",
        "model.hidden_channels=16",
        "training.loss.w2_rk4=100",
        "training.loss.use_pi=false",
        "training.grad_clip_norm=1.0",
        "training.loss.use_gn_solver=false",
        "wandb=false",
        "weighting.measure_batches=2",
    )
    assert (config.physics.n_nodes, config.physics.force.amplitude) == (50, 3.0)
    assert (config.model.conv, config.model.skip, config.model.scaling) == ("gcn", True, "standard")
    assert config.base_weights() == {
        "PI_loss1": 0.0, "PI_loss2": 0.0, "RK4_loss1": 1.0, "RK4_loss2": 100.0,
    }  # fmt: skip
    assert (config.train.grad_clip, config.train.measure_batches) == (1.0, 2)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--compare.schemes=[gradient_nrom]"], "did you mean gradient_norm"),
        (["--weighting.strategy=equal"], "equal_init"),
        (["--weighting.strateyg=ema"], "weighting.strategy"),
        (["--problem.name=burger"], "burgers"),
        (["--loss.PI_loss1=-1"], "loss.PI_loss1"),
        (["--loss.bc=10"], "problem.name"),
        (["--problem.name=poisson", "--train.compile=true"], "double backward"),
        (["--problem.name=poisson", "--model.kind=graph"], "mlp or fourier"),
        (["--problem.name=heat", "--problem.points.edge=3"], "pde, ic, bc"),
        (["--problem.name=poisson", "--weighting.kind=causal"], "has none"),
        (["--weighting.kind=self_adaptive"], "fixed points"),
        (
            ["--problem.name=heat", "--problem.resample=true", "--weighting.kind=residual_attention"],
            "fixed points",
        ),
        (["--weighting.kind=ntk"], "needs residuals"),
        (["--problem.reference=a.npy"], "axes"),
        (["--wandb=true"], "train.log_to"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(resolved: Resolve, words: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        resolved("train", *words)


def test_what_a_weighting_refuses_leaves_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--runs={tmp_path}", "--weighting.min_weight=10", "--weighting.max_weight=1"]
    words += ["--problem.num_graphs=4", "--physics.n_nodes=5"]
    assert main(["train", *words]) == 2
    assert "min_weight" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_line_answers_without_torch() -> None:
    script = "import sys, pinn_weighting.cli as c; c.app(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_keys_of_another_schedule_are_refused(resolved: Resolve) -> None:
    with pytest.raises(InputError, match=r"train.lr_factor"):
        resolved("train", "--train.lr_factor=0.5")
