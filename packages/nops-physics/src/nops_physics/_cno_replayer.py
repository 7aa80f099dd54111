"""Trajectories of random operators made again from their seeds."""

from collections import OrderedDict
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from nops_physics._random_conv import RandomConvOperator, iterate
from nops_physics._random_stack import StackNetwork


class CNOReplayer:
    """Replays trajectories of a random operator: equal to `operator.trajectory`, at less cost.

    A smooth operator computes whole batches with one bank of weights. The networks of a stack are
    drawn anew for each sample, and the last `cache_size` that were used are kept.

    Args:
        operator: What is iterated.
        cache_size: Networks of a stack to keep, at least 1.

    Attributes:
        operator: As given.
        num_drawn: Networks drawn so far.

    Raises:
        ValueError: If `cache_size` is below 1.
    """

    def __init__(self, operator: RandomConvOperator, *, cache_size: int = 8) -> None:
        if cache_size < 1:
            raise ValueError(f"cache_size needs to be at least 1, got {cache_size}")
        self.operator = operator
        self.num_drawn = 0
        self._cache_size = cache_size
        self._networks: OrderedDict[tuple[float | int, ...], StackNetwork] = OrderedDict()

    def replay(
        self,
        initial: Float[Tensor, "sample channel height width"],
        theta: Float[Tensor, "sample parameter"],
        *,
        num_steps: int,
        noise_seeds: Sequence[int] | None = None,
        weight_seeds: Sequence[int] | None = None,
    ) -> Float[Tensor, "sample time channel height width"]:
        """Frames 0 to `num_steps`; arguments and errors as `RandomConvOperator.trajectory`."""
        return iterate(
            self.operator,
            initial,
            theta,
            num_steps=num_steps,
            noise_seeds=noise_seeds,
            weight_seeds=weight_seeds,
            network_of=self._network,
        )

    def _network(self, theta: Tensor, weight_seed: int) -> StackNetwork:
        key = (weight_seed, *theta.tolist())
        if key in self._networks:
            self._networks.move_to_end(key)
            return self._networks[key]
        network = self._networks[key] = self.operator.network(theta, weight_seed)
        self.num_drawn += 1
        if len(self._networks) > self._cache_size:
            self._networks.popitem(last=False)
        return network
