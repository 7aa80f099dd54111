"""Changes that no test can see, because what they make computes the same; each with the reason.

The key is the file below `src`, the text of the line, and what takes the place of a part of it.
"""

EQUAL: dict[tuple[str, str, str], str] = {
    (
        "nops_physics/_leaf_angles.py",
        "low, high = (middle, high) if (angle * shares).sum() > math.radians(mean) else (low, middle)",
        "((angle * shares).sum() >= math.radians(mean))",
    ): "a mean angle is hit exactly in the last halvings at most, between roots that are the same to rounding",
    ("nops_train/_scalars.py", 'step = int(record.get("step", 0))', "(1)"): (
        "steps, done or skipped, always log theirs; of other events 0 and 1 both become max(step - 1, 0)"
    ),
}
