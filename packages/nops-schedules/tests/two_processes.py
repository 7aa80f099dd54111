"""One of two processes: its share of each validation, a sum over both, and a schedule of its own.

`python two_processes.py RANK FOLDER` writes `FOLDER/RANK.json`.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from nops_schedules import FlexibleLossScheduler, SchedulerParams

EPOCHS = 40
SHARES = (slice(0, 7), slice(7, 10))  # of ten samples


def errors(epoch):
    """Ten samples: the last three stop improving long before the others."""
    falling = [0.5 * 0.9 ** min(epoch, 25)] * 7
    return torch.tensor([*falling, *[0.5 * 0.9 ** min(epoch, 4)] * 3], dtype=torch.float64)


PARAMS = SchedulerParams(enabled=True, warmup_epochs=0, patience=3, ema_beta=0.5)


def trace(mean_of):
    made, weights = FlexibleLossScheduler(PARAMS), []
    for epoch in range(EPOCHS):
        values = {"spectrum_error": mean_of(errors(epoch))}
        made.observe(values, epoch=epoch, step=9 * epoch, split="valid")
        weights.append(made.get_loss_weights())
    return weights


def mean_over_both(share):
    """The mean over all samples, from (sum, count) of each process's share."""

    def mean(values):
        mine = values[share]
        total = torch.stack((mine.sum(), torch.tensor(float(len(mine)), dtype=torch.float64)))
        dist.all_reduce(total)
        return float(total[0] / total[1])

    return mean


if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = trace(mean_over_both(SHARES[rank]))
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()
