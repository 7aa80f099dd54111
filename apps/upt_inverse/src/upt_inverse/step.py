"""One training step: what its terms share, each thing computed when a term first asks for it."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from nops_losses import QuerySample, gradient_magnitude, sample_queries
from nops_models import UPT
from nops_physics import derive_seed
from torch import Tensor

from upt_inverse.config_loss import LATENT_TARGETS, LossConfig
from upt_inverse.geometry import Geometry
from upt_inverse.states import States

WHOLE = {"original": ("L_inv_dec", "L_divergence", "L_boundary"), "seed": ("L_inv_dec",)}
JUDGED = ("L_conservation", "L_positivity")  # at the sample, unless that is uneven
Fields = dict[str, Tensor]


class Draws:
    """Random points of one step, a function of (seed, rank, step, purpose) alone."""

    def __init__(self, *, seed: int, rank: int, step: int, device: torch.device) -> None:
        self._key, self._device = (seed, rank, step), device

    def points(
        self,
        purpose: int,
        *,
        count: int,
        of: int,
        samples: int,
        strategy: str,
        **options: Any,
    ) -> QuerySample:
        """`count` of so many points, for each sample; further options as `sample_queries` has them."""
        generator = torch.Generator().manual_seed(derive_seed("queries", *self._key, purpose))
        return sample_queries(
            of,
            count,
            batch_size=samples,
            strategy=strategy,  # type: ignore[arg-type]
            generator=generator,
            device=self._device,
            **options,
        )


class Known:
    """A decoder whose answer is known: one decode serves several terms."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def __call__(
        self, positions: Tensor, latent: Tensor, *, condition: Tensor | None = None
    ) -> Fields:
        """The fields."""
        del positions, latent, condition
        return self._fields


class Readout:
    """A latent decoded at the points that the encoder reads, and at those that are asked for."""

    def __init__(
        self,
        decode: Callable[[Tensor, int | None], Fields],
        positions: Tensor,
        queries: QuerySample | None,
        *,
        whole: bool,
        chunk_size: int | None,
    ) -> None:
        self._decode, self._positions, self._queries = decode, positions, queries
        self._whole = whole or queries is None
        self._chunk_size = chunk_size

    @cached_property
    def all(self) -> Fields:
        """At every point that the encoder reads; in chunks where only some are asked for."""
        chunk = self._chunk_size
        if self._queries is not None and chunk is None:
            chunk = self._queries.indices.shape[1]
        return self._decode(self._positions, chunk)

    @cached_property
    def some(self) -> Fields:
        """At the points of the sample: of the whole decode, where a term needs that anyway."""
        if self._queries is None:
            return self.all
        if self._whole:
            return {name: self._queries.gather(values) for name, values in self.all.items()}
        return self._decode(self._queries.gather(self._positions), self._chunk_size)


class TrainingStep:
    """The parts of one step. Points first, then E, A, the decode of the next latent, and the rest.

    A `SupernodeEncoder` reads, decodes and reads again the points of the sample alone. A `GridEncoder`
    needs every point: the sample is of queries, and a state that is encoded again is decoded whole.

    Args:
        model: E, A and G.
        states: The window at all points, with the truth of the steps that are needed.
        loss: The loss section.
        geometry: Grid of the points.
        draws: Of this step.
        active: The terms to compute.
    """

    def __init__(
        self,
        model: UPT,
        states: States,
        loss: LossConfig,
        *,
        geometry: Geometry,
        draws: Draws,
        active: frozenset[str],
    ) -> None:
        self.model, self.loss, self.everywhere = model, loss, states
        self._geometry, self._draws, self._active = geometry, draws, active
        drawn = self._drawn() if loss.query_sampling.enabled else None
        takes_subset = drawn is not None and model.encoder.accepts_point_subset
        self.states = states.gathered(drawn) if drawn is not None and takes_subset else states
        self.queries = None if takes_subset else drawn

    def _drawn(self) -> QuerySample:
        count = self.loss.query_sampling.num_queries
        assert count is not None
        return self.points(0, count=count)

    def points(self, ahead: int, *, count: int) -> QuerySample:
        """Some of all points, to compare states so many steps ahead of the present."""
        samples, _, of, _ = self.everywhere.values.shape
        strategy = self.loss.query_sampling.strategy
        assert strategy is not None
        options: dict[str, Any] = {}
        if strategy == "stratified":
            options["grid_shape"] = self._geometry.shape
        elif strategy == "importance":
            floor = self.loss.query_sampling.importance_floor
            options |= {"importance": self._importance(ahead), "importance_floor": floor}
        return self._draws.points(
            ahead, count=count, of=of, samples=samples, strategy=strategy, **options
        )

    def _importance(self, ahead: int) -> Tensor:
        """How steep the true state is at each point, all normalised channels together."""
        return gradient_magnitude(
            self.everywhere.frame(ahead),
            grid_shape=self._geometry.shape,
            spacing=self._geometry.spacing,
            periodic=self._geometry.periodic,
        )

    @cached_property
    def supernodes(self) -> Tensor | None:
        """Which points gather messages, the same for each encoding of the step; None for a grid."""
        count = self.model.config.supernodes
        if count is None:
            return None
        samples, _, of, _ = self.states.values.shape
        drawn = self._draws.points(-1, count=count, of=of, samples=samples, strategy="uniform")
        return drawn.indices

    def encode(
        self, fields: Fields, positions: Tensor, *, condition: Tensor | None = None
    ) -> Tensor:
        """E, at the points of the step."""
        return self.model.encode(fields, positions, condition=condition, supernodes=self.supernodes)

    def decode(
        self,
        positions: Tensor,
        latent: Tensor,
        *,
        condition: Tensor | None = None,
        chunk_size: int | None = None,
    ) -> Fields:
        """G; in chunks, each is computed again in the backward pass."""
        recompute = chunk_size is not None
        return self.model.decode(
            positions, latent, condition=condition, chunk_size=chunk_size, checkpoint=recompute
        )

    @cached_property
    def latent(self) -> Tensor:
        """The latent of the present, z = E(u)."""
        states = self.states
        return self.encode(states.read(0), states.positions, condition=states.condition(0))

    @cached_property
    def next_latent(self) -> Tensor:
        """One step on, A(z)."""
        return self.model.step(self.latent, condition=self.states.condition(0))

    @cached_property
    def predicted(self) -> Readout:
        """The next latent, decoded."""
        return self._readout(self.next_latent, ahead=1, preset="original")

    @cached_property
    def decoded(self) -> Readout:
        """The present latent, decoded."""
        return self._readout(self.latent, ahead=0, preset="seed")

    def _readout(self, latent: Tensor, *, ahead: int, preset: str) -> Readout:
        condition = self.states.condition(ahead - 1)
        whole = (*WHOLE[preset], *(JUDGED if ahead and self._is_uneven else ()))
        needing = [
            name
            for name in whole
            if name in self._active and (name != "L_inv_dec" or self.loss.preset == preset)
        ]

        def decode(positions: Tensor, chunk_size: int | None) -> Fields:
            return self.decode(positions, latent, condition=condition, chunk_size=chunk_size)

        return Readout(
            decode,
            self.states.positions,
            self.queries,
            whole=bool(needing),
            chunk_size=self.loss.chunk_size,
        )

    @cached_property
    def predicted_grid(self) -> Fields:
        """The next latent decoded on the whole grid."""
        if self.states is self.everywhere:
            return self.predicted.all
        condition, sampling = self.states.condition(0), self.loss.query_sampling
        chunk = self.loss.chunk_size or sampling.num_queries
        where = self.everywhere.positions
        return self.decode(where, self.next_latent, condition=condition, chunk_size=chunk)

    @property
    def _is_uneven(self) -> bool:
        """Whether plain sums over the sample are no fair ones over all points."""
        return self.queries is not None and self.loss.query_sampling.strategy == "importance"

    @property
    def judged(self) -> tuple[Fields, Fields]:
        """Present and predicted fields for penalties: at the sample, everywhere if it is uneven."""
        now = self.states.at(0)
        if self._is_uneven:
            return now, self.predicted.all
        if self.queries is not None:
            now = {name: self.queries.gather(values) for name, values in now.items()}
        return now, self.predicted.some

    @property
    def query_positions(self) -> Tensor:
        """Where predictions are compared."""
        positions = self.states.positions
        return positions if self.queries is None else self.queries.gather(positions)

    @cached_property
    def target_latent(self) -> Tensor:
        """The true next state, encoded, without gradient."""
        assert self._active & set(LATENT_TARGETS)
        states = self.states
        with torch.no_grad():
            return self.encode(states.read(1), states.positions, condition=states.condition(1))
