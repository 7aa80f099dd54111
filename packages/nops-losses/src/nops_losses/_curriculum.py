"""The curriculum of the inverse losses: a copy of the one in nops-schedules, which may not be imported.

The tests of the workspace compare the two.
"""


def curriculum_weight(
    epoch: float | None, base: float, *, warmup_epochs: float, max_weight: float
) -> float:
    """0 for `warmup_epochs`, then min(base·(e − w)/w, max_weight) as long, then min(base, max_weight).

    Without an epoch the last of them. All numbers are finite and not negative.
    """
    if epoch is None or epoch >= 2 * warmup_epochs:
        return min(base, max_weight)
    if epoch <= warmup_epochs:
        return 0.0
    return min(base * ((epoch - warmup_epochs) / warmup_epochs), max_weight)
