"""A run on two processes (gloo) is that of one."""

import json
import runpy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from nops_testing.ranks import run_ranks

OWN = [
    # without draws, which each rank has of its own; the prior moves by the rows of both
    *("--loss.beta_physics=0", "--loss.beta_aux=0", "--model.prior=ema", "--model.ema_decay=0.5"),
    *("--phases.epochs_pretrain=0", "--phases.r.warmup_epochs=2", "--train.epochs=3"),
    "--evaluate.checkpoint=last",
    "--train.valid_batch_size=3",  # three batches to validate on: two for the first rank
]


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch has no gloo here")
def test_two_ranks_train_what_one_does(
    data_folder: Path, tiny_run: list[str], tmp_path: Path
) -> None:
    script = Path(__file__).with_name("two_ranks.py")
    kept = [word for word in tiny_run if "epochs" not in word]
    words = [f"--data={data_folder}", *kept, *OWN]
    run_ranks(script, [tmp_path, "train", *words, f"--runs={tmp_path / 'two'}"])
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    alone = runpy.run_path(str(script))["train"](["train", *words, f"--runs={tmp_path / 'one'}"])
    assert first.keys() == second.keys() == alone.keys()
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=1e-5, msg=name)
    assert not torch.equal(alone["prior.mean"], torch.zeros(4))
    scores = [
        json.loads((tmp_path / many / "phys-smpl" / "tiny" / "summary.json").read_text())["metrics"]
        for many in ("two", "one")
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-2)
