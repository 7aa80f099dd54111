"""What two processes share: their meeting, a mean over both, and how they part."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from nops_testing.ranks import part


def main(told_of):
    """A rank writes `FOLDER/RANK.json`: what `told_of(rank)` finds."""
    rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    (folder / f"{rank}.json").write_text(json.dumps(told_of(rank)))
    part(folder)


def mean_over_both(share):
    """The mean over all samples, from (sum, count) of each process's share."""

    def mean(values):
        mine = values[share]
        total = torch.stack((mine.sum(), torch.tensor(float(len(mine)), dtype=torch.float64)))
        dist.all_reduce(total)
        return float(total[0] / total[1])

    return mean
