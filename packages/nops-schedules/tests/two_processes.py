"""One of two processes: its share of each validation, a sum over both, and a schedule of its own.

Each rank writes `FOLDER/RANK.json`.
"""

import torch
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


if __name__ == "__main__":
    from two_processes_meet import main, mean_over_both

    main(lambda rank: trace(mean_over_both(SHARES[rank])))
