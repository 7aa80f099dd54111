"""Runs on two processes (gloo): a vocabulary is that of one, and the published sizes' preset trains."""

import json
import runpy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from nops_testing.ranks import run_ranks

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="torch has no gloo here")
SCRIPT = Path(__file__).with_name("two_ranks.py")
# no draws of each rank's own; codes move fast, and those that are hardly used are replaced
SAME = ["--vqvae.head_dropout=0", "--vqvae.decay=0.5", "--vqvae.revive_below=1.5"]


def on_two(folder: Path, words: list[str]) -> list[dict[str, torch.Tensor]]:
    """The weights that both ranks end with."""
    run_ranks(SCRIPT, [folder, *words], cwd=folder)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_two_ranks_train_the_vocabulary_that_one_does(data_folder, tiny_tokens, tmp_path):
    words = ["train-vqvae", f"--data={data_folder}", *tiny_tokens, *SAME]
    first, second = on_two(tmp_path, [*words, f"--runs={tmp_path / 'two'}"])
    alone = runpy.run_path(str(SCRIPT))["train"]([*words, f"--runs={tmp_path / 'one'}"])
    assert first.keys() == second.keys() == alone.keys()
    codes = [name for name in alone if ".book." in name or name.endswith("num_updates")]
    assert codes
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=1e-5, msg=name)
    runs = [tmp_path / many / "noa" / "tokens" / "summary.json" for many in ("two", "one")]
    scores = [json.loads(run.read_text())["best"]["value"] for run in runs]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


def test_the_published_sizes_preset_takes_a_step_on_two_ranks(tmp_path):
    """From nothing: the ranks make the data, take a step, and one evaluates."""
    words = [
        *("train", "--preset=paper", "--data.shape=17,17", "--data.num_steps=4"),
        *("--data.num_train=4", "--data.num_valid=2", "--data.num_test=2", "--rollout.window=2"),
        *("--model.base_channels=8", "--model.encoder_levels=1", "--model.embedding=4"),
        *("--train.epochs=1", "--train.warmup_steps=0", "--train.device=cpu"),
        "--evaluate.bootstrap=20",
    ]
    first, second = on_two(tmp_path, words)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    summary = json.loads((tmp_path / "runs/noa/paper/summary.json").read_text())
    assert (summary["status"], summary["steps"], summary["skipped"]) == ("completed", 1, 0)
    assert set(summary["metrics"]["lead"]) == {"1", "2", "4"}
