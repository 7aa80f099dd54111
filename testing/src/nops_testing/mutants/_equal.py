"""Changes that no test can see, because what they make computes the same; each with the reason.

The key is the file below `src`, the text of the line, and what takes the place of a part of it.
"""

EQUAL: dict[tuple[str, str, str], str] = {
    (
        "nops_physics/_leaf_angles.py",
        "low, high = (middle, high) if (angle * shares).sum() > math.radians(mean) else (low, middle)",
        "((angle * shares).sum() >= math.radians(mean))",
    ): "a mean angle is hit exactly in the last halvings at most, between roots that are the same to rounding",
    (
        "nops_physics/_stand.py",
        "value = (so + rows.both[layer] * ground).addcmul_(enter * ground, per)",
        "((so + rows.both[layer] * ground).addcmul_(per, enter * ground))",
    ): "a product of two, in the other order",
    (
        "nops_data/_moments.py",
        "rows = values.movedim(1, 0).reshape(values.shape[1], -1).double()",
        "(values.movedim(0, 1))",
    ): "two neighbouring axes change places either way",
    (
        "nops_data/_finite.py",
        "if bool(torch.isfinite(values.sum())):",
        "(values.mean())",
    ): "finite or not as the sum is; where no value is bad, either way none is found",
    (
        "nops_models/_quantizer_residual.py",
        "check_quantizer(dim, code_dim, min(sizes), commitment_weight)",
        "(max(sizes))",
    ): "each level refuses its own number with the same words",
    (
        "nops_losses/_bundle_inverse.py",
        "return same_memory(self.input_positions, self.query_positions)",
        "(same_memory(self.query_positions, self.input_positions))",
    ): "each is the other's memory, or neither",
    (
        "nops_models/_upt_graph.py",
        "DISTANCES_AT_ONCE = 2**22  # 16 MiB in float32",
        "(23)",
    ): "how many at a time: the same neighbours, in more memory",
    (
        "nops_physics/_wave_stability.py",
        "largest = LARGEST_STEP / float(rates.abs().max())",
        "(rates.abs().min())",
    ): "a coarser scan before the halving, which ends at the same step",
    (
        "nops_schedules/_params.py",
        '"monitor_mode": check.choice("min", "max"),',
        "(check.choice('max', 'min'))",
    ): "the order of two words in a message",
    ("nops_train/_scalars.py", 'step = int(record.get("step", 0))', "(1)"): (
        "steps, done or skipped, always log theirs; of other events 0 and 1 both become max(step - 1, 0)"
    ),
}
