"""A quantizer in two processes, each with its share of every batch."""

import os
import sys
from pathlib import Path

import torch
from nops_models import EMA, VectorQuantizer
from nops_testing.ranks import part

STEPS, BATCH, FIRST = 5, 23, 14  # of each batch rank 0 has the first 14
CASES = {"whole": False, "staged": True}


def train(share, *, deferred):
    """The state after some steps; the data move, so that codes die and are revived."""
    quantizer = VectorQuantizer(3, num_codes=6, update=EMA(decay=0.5, revive_below=1.5))
    if deferred:
        quantizer.defer_updates()
    generator = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        batch = torch.randn(BATCH, 3, generator=generator) + 2 * step
        if deferred:  # thrown away on all ranks
            quantizer(batch[share] - 7)
            quantizer.discard_update()
        quantizer(batch[share])
        quantizer.apply_update() if deferred else None
    quantizer.eval()
    quantizer(batch)
    quantizer.apply_update()  # in eval nothing waits, and nobody is waited for
    return quantizer.state_dict()


def main():
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    torch.distributed.init_process_group("gloo")
    share = slice(FIRST) if rank == 0 else slice(FIRST, None)
    for case, deferred in CASES.items():
        torch.save(train(share, deferred=deferred), folder / f"{case}_{rank}.pt")
    part(folder)


if __name__ == "__main__":
    main()
