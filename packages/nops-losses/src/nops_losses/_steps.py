"""Which steps of a window a loss looks at."""


def sample_steps(window: int, count: int) -> list[int]:
    """Indices of `count` steps spread over a window, first and last among them: ⌊i·(W − 1)/(n − 1)⌋.

    Args:
        window: Steps W of the window, at least 1.
        count: n; 1 is the last step alone, −1 all of them.

    Returns:
        Ascending, within 0 and W − 1, without repeats.

    Raises:
        ValueError: If there is no step, or not as many as are asked for.
    """
    if window < 1 or not (count == -1 or 1 <= count <= window):
        raise ValueError(
            f"count={count} needs to be within 1 and window={window}, or -1 for all steps."
        )
    if count == 1:
        return [window - 1]
    count = window if count == -1 else count
    return [i * (window - 1) // max(count - 1, 1) for i in range(count)]
