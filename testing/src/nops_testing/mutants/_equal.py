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
    ("nops_train/_scalars.py", 'step = int(record.get("step", 0))', "(1)"): (
        "steps, done or skipped, always log theirs; of other events 0 and 1 both become max(step - 1, 0)"
    ),
}
