"""Quasi-random points of the unit cube, from which parameters are made."""

import torch
from jaxtyping import Float
from torch import Tensor


def sobol_parameters(
    n: int, *, num_parameters: int, seed: int = 42, skip: int = 0
) -> Float[Tensor, "sample parameter"]:
    """Points `skip` to `skip + n` of a scrambled Sobol sequence in the unit cube.

    The sequence is a pure function of `seed`, so consecutive pieces of one sequence are disjoint
    and fill the cube evenly together: splits of a data set are such pieces.

    Args:
        n: Number of points, at least 1.
        num_parameters: Dimension of the cube, at least 1.
        seed: Seed of the scrambling.
        skip: Points left out at the start of the sequence, at least 0.

    Returns:
        Points `[sample, parameter]` in [0, 1], float64.

    Raises:
        ValueError: If a number is out of range.

    Source:
        Owen's scrambling of Joe and Kuo's directions: SIAM J. Sci. Comput. 30 (2008), as
        `torch.quasirandom.SobolEngine` has them.
    """
    if n < 1 or num_parameters < 1 or skip < 0:
        raise ValueError(
            f"need n >= 1, num_parameters >= 1, skip >= 0, got {n}, {num_parameters}, {skip}"
        )
    engine = torch.quasirandom.SobolEngine(num_parameters, scramble=True, seed=seed)
    if skip:
        engine.fast_forward(skip)
    return engine.draw(n, dtype=torch.float64)
