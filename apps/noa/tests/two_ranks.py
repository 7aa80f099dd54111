"""One of two ranks: `noa` with the words given; the weights that its training ends with.

Started as ranks with `FOLDER WORDS…` it writes `FOLDER/RANK.pt`.
"""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo  # optimizers ask for it: imported once for all ranks
from noa import token_training, training
from noa.cli import main
from nops_testing.ranks import part
from nops_train import Engine
from torch import Tensor


def train(words: list[str]) -> dict[str, Tensor]:
    """The last weights; a report, which takes longer, is not drawn."""
    models: list[torch.nn.Module] = []
    held: dict[str, Tensor] = {}
    make, fit = Engine.__init__, Engine.fit

    def made(engine: Engine, **options: Any) -> None:
        models.append(options["model"])
        make(engine, **options)

    def kept(engine: Engine, *batches: Any) -> None:
        fit(engine, *batches)
        held.update({name: value.clone() for name, value in models[0].state_dict().items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "__init__", made)
        patch.setattr(Engine, "fit", kept)
        patch.setattr(training, "write_report", lambda run: run.report)
        patch.setattr(token_training, "write_token_report", lambda run: run.report)
        assert main(words) == 0
    return held


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.save(train(sys.argv[2:]), folder / f"{os.environ['RANK']}.pt")
    part(folder)
