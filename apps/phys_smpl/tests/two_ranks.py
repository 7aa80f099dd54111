"""One of two ranks: `phys-smpl` with the words given; the weights that it ends with.

Started as ranks with `FOLDER WORDS…` it writes `FOLDER/RANK.pt`.
"""

import os
import sys
from pathlib import Path

import pytest
import torch
import torch._dynamo  # optimizers ask for it: imported once for all ranks
from nops_train import RunFolder
from phys_smpl import training
from phys_smpl.cli import main
from torch import Tensor


def train(words: list[str]) -> dict[str, Tensor]:
    """The last weights, with `--evaluate.checkpoint=last`; a report, which takes longer, is not drawn."""
    held: dict[str, Tensor] = {}
    train_in = training.train_in

    def kept(run: RunFolder, parts: training.Parts) -> None:
        train_in(run, parts)
        held.update(parts.model.state_dict())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_in", kept)
        patch.setattr(training, "write_report", lambda run: run.report)
        assert main(words) == 0
    return held


if __name__ == "__main__":
    torch.save(train(sys.argv[2:]), Path(sys.argv[1], f"{os.environ['RANK']}.pt"))
