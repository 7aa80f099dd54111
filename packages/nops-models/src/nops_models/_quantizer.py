"""Vectors to the nearest of a table of codes."""

import math
import warnings
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding, normalize

from nops_models._checks import check_choice, check_sizes
from nops_models._codebook import Codebook, MovingCodebook, make_codebook
from nops_models._codebook_rules import EMA, Update
from nops_models._estimators import RotationTrick, StraightThrough
from nops_models._kmeans import kmeans
from nops_models._nearest import nearest, sums_by_code
from nops_models._ranks import draw_rows, from_first, gather_rows
from nops_models._staged import StagedUpdate

Similarity = Literal["euclidean", "cosine"]
NO_CODE = -1  # index where the mask is False
SEED_STEP = (
    0x9E3779B97F4A7C15  # the golden ratio of 2^64: seeds of neighbouring updates lie far apart
)


@dataclass(frozen=True)
class QuantizerOutput:
    """Latents and the codes that stand for them.

    Attributes:
        code: In place of the latent, of its shape and dtype; 0 where the mask is False.
        index: Of the code in the table, one axis less, or as many as there are levels; −1 where the
            mask is False.
        commitment_loss: Weighted, a scalar; its gradient draws latents to their codes.
        codebook_loss: Weighted, a scalar; its gradient draws codes to their latents; 0 where they
            move by themselves.
        distance: Squared distance of latent and code where they are compared, one per vector, without a
            gradient; 0 where the mask is False.
    """

    code: Tensor
    index: Tensor
    commitment_loss: Tensor
    codebook_loss: Tensor
    distance: Tensor


class VectorQuantizer(StagedUpdate):
    """Each vector becomes the nearest of K codes; the index of the lowest where several are.

    A training forward assigns with the table as it is, gathers counts and sums, and moves the table at its
    end by those of all ranks; after `defer_updates` it waits for `apply_update`, so that micro-batches count
    as one batch, or for `discard_update`, which leaves everything as it was. In eval nothing changes.
    All ranks of a `torch.distributed` group have to make the same training forwards.

    Distances and losses are computed in float32 with autocast off (float64 for float64 latents).

    Args:
        dim: Width D of the vectors.
        num_codes: K.
        similarity: "euclidean", or "cosine": vectors and codes are compared, and returned, at length 1.
        update: How the table moves: `EMA`, `Gradient` or `SimVQ`.
        estimator: The gradient of the code by the latent: `RotationTrick` or `StraightThrough`.
        commitment_weight: β of β·‖z − sg(e)‖², mean over vectors and their width.
        code_dim: Width in which vectors are compared, between two learned projections; None: D itself.
        seed: Of the table's start, and of the vectors that revive codes.

    Attributes:
        num_updates: Updates made, int64.
        started: Whether a k-means start has been made.

    Raises:
        ValueError: If a size is below 1, the similarity unknown, or the weight negative.

    Source:
        van den Oord et al., "Neural discrete representation learning", arXiv 1711.00937.
    """

    num_updates: Tensor
    started: Tensor

    def __init__(
        self,
        dim: int,
        *,
        num_codes: int,
        similarity: str = "euclidean",
        update: Update = EMA(),
        estimator: RotationTrick | StraightThrough = RotationTrick(),
        commitment_weight: float = 0.25,
        code_dim: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_quantizer(dim, code_dim, num_codes, commitment_weight)
        check_choice("similarity", similarity, get_args(Similarity))
        self.dim, self.num_codes, self.seed = dim, num_codes, seed
        self.unit = similarity == "cosine"
        self.update, self.estimator = update, estimator
        self.revive_below = update.revive_below if isinstance(update, EMA) else None
        self.commitment_weight = commitment_weight
        width = code_dim or dim
        self.project_in, self.project_out = projections(dim, code_dim)
        self.book: Codebook = make_codebook(
            update, num_codes=num_codes, dim=width, unit=self.unit, seed=seed
        )
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer(
            "started", torch.tensor(not (isinstance(update, EMA) and update.kmeans_init))
        )
        self._is_started = False  # what is known of `started` without asking the device
        self._start: tuple[Tensor, Tensor] | None = None
        self._pool: list[Tensor] = []
        self._warned = False
        self.register_load_state_dict_post_hook(_look_again)

    @property
    def codebook(self) -> Float[Tensor, "code width"]:
        """The table as latents are compared with it; staged changes are not in it."""
        return self.book.codes()

    @property
    def cluster_size(self) -> Float[Tensor, "code"]:
        """Moving count N of the latents of each code, per update."""
        return self.book.counts

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{self.dim}, num_codes={self.num_codes}, update={self.update}"

    def lookup(self, index: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """The codes of indices, as `forward` returns them; 0 for −1.

        No index is checked on the device: one outside of the table is the caller's mistake.
        """
        found = self.project_out(embedding(index.clamp(min=0), self.codebook))
        return torch.where((index >= 0)[..., None], found, 0)

    def forward(
        self, latent: Float[Tensor, "*batch dim"], mask: Bool[Tensor, "*batch"] | None = None
    ) -> QuantizerOutput:
        """Quantise.

        Args:
            latent: Vectors, [..., dim].
            mask: True where a vector counts, [...]; the rest changes nothing, and may hold anything.

        Raises:
            ValueError: If the last axis is not `dim`, or the mask has another shape.
        """
        check_latent(latent, mask, self.dim)
        values = self.project_in(hide(latent, mask))
        with torch.autocast(latent.device.type, enabled=False):
            rows = values.reshape(-1, values.shape[-1])
            rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
            rows = normalize(rows, dim=-1) if self.unit else rows
            found = self._quantize(rows, None if mask is None else mask.reshape(-1))
        code = self.project_out(found.code.to(values.dtype).view(values.shape)).to(latent.dtype)
        index, distance = (v.view(latent.shape[:-1]) for v in (found.index, found.distance))
        if mask is not None:
            index = index.masked_fill(~mask, NO_CODE)
        return replace(found, code=hide(code, mask), index=index, distance=distance)

    def _quantize(self, rows: Tensor, keep: Tensor | None) -> QuantizerOutput:
        """Of (row, width); those that are not kept count for nothing."""
        if self.training and self._wants_start():
            self._prepare_start(rows.detach(), keep)
        codes = (self.codebook if self._start is None else self._start[0]).to(rows.dtype)
        index = nearest(rows.detach(), codes.detach())
        chosen = embedding(index, codes)
        squares = (rows - chosen.detach()).square().sum(-1)
        squares = squares if keep is None else squares * keep
        code = self.estimator(rows, chosen)
        if self.training:
            self._gather(rows.detach(), index, keep)
        return QuantizerOutput(
            code,
            index,
            self.commitment_weight * _mean(squares, keep, rows.shape[1]),
            self._codebook_loss(rows, chosen, keep),
            squares.detach(),
        )

    def _codebook_loss(self, rows: Tensor, chosen: Tensor, keep: Tensor | None) -> Tensor:
        if isinstance(self.update, EMA):
            return rows.new_zeros(())
        squares = (rows.detach() - chosen).square().sum(-1)
        squares = squares if keep is None else squares * keep
        return self.update.weight * _mean(squares, keep, rows.shape[1])

    @torch.no_grad()
    def _gather(self, rows: Tensor, index: Tensor, keep: Tensor | None) -> None:
        """Stage what the table moves by."""
        if self.revive_below is not None:
            self._pool.append(rows if keep is None else rows[keep])
        self._stage(sums_by_code(rows, index, keep, num_codes=self.num_codes))

    def _no_sums(self) -> Tensor:
        table = self.codebook.detach()
        return table.new_zeros(self.num_codes, 1 + table.shape[1])

    def _move(self, sums: Tensor) -> None:
        if not sums[:, 0].any():
            return
        if self._start is not None:
            assert isinstance(self.book, MovingCodebook)
            self.book.begin(*self._start)
            self.started.fill_(True)
            self._is_started = True
        self.book.move(sums[:, 0], sums[:, 1:])
        self._revive(sums[:, 0])
        self.num_updates += 1

    def _forget(self) -> None:
        self._start = None
        self._pool = []

    def _wants_start(self) -> bool:
        if not self._is_started and self._start is None:
            self._is_started = bool(self.started)
        return not self._is_started and self._start is None

    @torch.no_grad()
    def _prepare_start(self, rows: Tensor, keep: Tensor | None) -> None:
        """The table that the first update will begin with, of this batch of all ranks."""
        assert isinstance(self.update, EMA)
        rows = gather_rows(rows if keep is None else rows[keep])
        if not len(rows):
            return
        generator = torch.Generator().manual_seed(self.seed)
        iterations = self.update.kmeans_iterations
        self._start = kmeans(
            rows,
            num_codes=self.num_codes,
            iterations=iterations,
            unit=self.unit,
            generator=generator,
        )
        from_first(*self._start)

    def _revive(self, counts: Tensor) -> None:
        """Codes that are hardly used take vectors of this step."""
        if not isinstance(self.book, MovingCodebook) or self.revive_below is None:
            return
        least = self.revive_below
        unused = (self.book.counts < least).nonzero()[:, 0]
        if not len(unused):
            return
        self._warn_of_few(counts.mean().item(), least)
        seed = (self.seed + SEED_STEP * (1 + int(self.num_updates))) % 2**63
        pool = torch.cat(self._pool) if self._pool else self._no_sums()[:0, 1:]
        drawn = draw_rows(pool, len(unused), torch.Generator().manual_seed(seed))
        self.book.replace(unused[: len(drawn)], drawn, least)

    def _warn_of_few(self, mean: float, least: float) -> None:
        if mean >= least or self._warned:
            return
        self._warned = True
        warnings.warn(
            f"revive_below={least} replaces codes that are used: a step has {mean:.2g} vectors per "
            f"code. Lower it, or num_codes={self.num_codes}, or make steps larger.",
            stacklevel=2,
        )


def projections(dim: int, code_dim: int | None) -> tuple[nn.Module, nn.Module]:
    """To the width of codes and back; nothing where there is none."""
    if code_dim is None:
        return nn.Identity(), nn.Identity()
    return nn.Linear(dim, code_dim), nn.Linear(code_dim, dim)


def hide(values: Tensor, mask: Tensor | None) -> Tensor:
    """0 where the mask is False, whatever was there."""
    return values if mask is None else torch.where(mask[..., None], values, 0)


def check_latent(latent: Tensor, mask: Tensor | None, dim: int) -> None:
    """Refuse vectors of another width, and a mask of another shape."""
    if latent.ndim == 0 or latent.shape[-1] != dim:
        raise ValueError(f"latent has shape {tuple(latent.shape)}, expected (..., {dim}).")
    if mask is not None and mask.shape != latent.shape[:-1]:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}, expected {tuple(latent.shape[:-1])}: "
            "that of the latent without its last axis."
        )


def check_quantizer(dim: int, code_dim: int | None, num_codes: int, weight: float) -> None:
    """Refuse sizes below 1, and a weight that is negative or not finite."""
    check_sizes(dim=dim, num_codes=num_codes, code_dim=1 if code_dim is None else code_dim)
    if not 0 <= weight < math.inf:
        raise ValueError(f"commitment_weight must be finite and not negative, got {weight}.")


def _mean(squares: Tensor, keep: Tensor | None, width: int) -> Tensor:
    """Mean over the rows that are kept, and their width; 0 where there is none."""
    count = max(len(squares), 1) if keep is None else keep.sum().clamp(min=1)
    return squares.sum() / (count * width)


def _look_again(module: nn.Module, keys: object) -> None:
    """A restored state may not have started, and nothing of before waits for it."""
    assert isinstance(module, VectorQuantizer)
    module._is_started = False
    module.discard_update()
