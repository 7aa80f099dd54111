"""Features of trajectories: one object for data set, tokens, loss and report."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nops_diagnostics._feature_clips import clip_scalars, cross_scalars
from nops_diagnostics._feature_columns import (
    CROSS,
    FAMILIES,
    FRAME,
    INITIAL,
    SQUASH,
    SUMMARY,
    TINY,
    Column,
    columns_of,
    hash_of,
    version_of,
)
from nops_diagnostics._feature_fit import Clips, Fit, batches_of, check_fit, check_options, choose
from nops_diagnostics._feature_frames import crossing_rate, frame_scalars
from nops_diagnostics._layout import check_choice

LEAST_FRAMES = 4
LEAST_SIDE = 8
CELLS_AT_ONCE = 2**18  # what a cache holds: larger pieces only wait for memory


class FeatureExtractor:
    """Scalars that say what a trajectory does, standardised by what the training clips show.

    INITIAL are 12 scalars of the initial state, SUMMARY 23 of a clip as a whole, TEMPORAL 28 of
    each frame (and 4 of its channels against each other, if there are two or more), pooled as mean,
    standard deviation and last less first. The page "Features" of the docs defines every column.
    All are computed for all samples, frames and channels at once, in float32 with autocast off
    (float64 for float64 clips), for periodic fields, and no column knows of the rest of the batch.

    `fit` sees training clips alone: it drops columns of raw variance below 1e-8, and those that
    correlate beyond 0.99 with an earlier one, and keeps mean and standard deviation of the rest.
    Calling gives 5 tanh(z / 5) of the standardised columns z.

    Example:
        ```python
        clips = torch.randn(32, 8, 1, 16, 16)  # [sample, time, channel, height, width]
        extractor = FeatureExtractor().fit(clips)
        features = extractor(clips[:4])  # [4, F], columns `extractor.names`
        ```

    Attributes:
        channels: How channels are joined.
        domain_length: Extent of each axis, in the unit of length.
        version: Hash of the definitions and of the options: equal versions have equal columns
            before any is dropped.
    """

    def __init__(
        self,
        *,
        families: tuple[str, ...] = FAMILIES,
        channels: str = "mean",
        domain_length: float = 1.0,
    ) -> None:
        """Choose the columns.

        Args:
            families: Any of "initial", "summary" and "temporal", in the order of the columns.
            channels: "mean" averages each scalar over channels, so that all domains have the
                same columns; "each" keeps one column per channel.
            domain_length: Extent of each axis. Derivatives are per this unit; wavenumbers
                count waves per domain and do not depend on it.

        Raises:
            ValueError: If a family is unknown or repeated, or another option out of range.
        """
        for family in families:
            check_choice("families", family, FAMILIES)
        if not families or len(set(families)) != len(families):
            raise ValueError(f"families={tuple(families)}: name one or more, each once.")
        check_choice("channels", channels, ("mean", "each"))
        if not 0.0 < domain_length < float("inf"):
            raise ValueError(f"domain_length must be positive and finite, got {domain_length}.")
        self._families = tuple(families)
        self.channels = channels
        self.domain_length = float(domain_length)
        self.version = version_of(
            self._families, channels=channels, domain_length=self.domain_length
        )
        self._fit: Fit | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each column, "temporal/centroid/std" for one.

        Raises:
            ValueError: Before `fit`, as for all that depends on it.
        """
        return self._fitted().kept

    @property
    def dropped(self) -> dict[str, str]:
        """The columns left out, and why."""
        return dict(self._fitted().dropped)

    @property
    def differentiable(self) -> tuple[bool, ...]:
        """Whether a gradient reaches the field, per column."""
        table = self._table(self._fitted().num_channels)
        return tuple(table[name].differentiable for name in self.names)

    @property
    def families(self) -> dict[str, tuple[int, ...]]:
        """Columns of each family that has any left, as numbers into `names`."""
        found: dict[str, tuple[int, ...]] = {}
        for place, name in enumerate(self.names):
            family = name.partition("/")[0]
            found[family] = (*found.get(family, ()), place)
        return found

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides a feature: version, clip, channels, columns and normaliser."""
        state = self.state_dict()
        state["fit"] = {
            k: v.tolist() if isinstance(v, Tensor) else v for k, v in state["fit"].items()
        }
        return hash_of(state)

    def raw(
        self,
        clip: Float[Tensor, "sample time channel height width"],
        initial: Float[Tensor, "sample channel height width"] | None = None,
    ) -> dict[str, Float[Tensor, "sample"]]:
        """Every column before any is dropped or standardised; needs no `fit`.

        Args:
            clip: Consecutive frames at any offset, at least 4, of at least 8 × 8 cells.
            initial: u₀ of the trajectories, for INITIAL; None takes the clip's first frame.

        Returns:
            Values by full name, in order, in the unit of the definition.

        Raises:
            ValueError: If shapes do not fit.
        """
        _check_shapes(clip, initial)
        values = _working(clip)
        start = values[:, 0] if initial is None else _working(initial)
        num = max(1, CELLS_AT_ONCE // (values.numel() // len(values)))
        with torch.autocast(values.device.type, enabled=False):
            parts = [
                self._scalars(*pair)
                for pair in zip(values.split(num), start.split(num), strict=True)
            ]
        return {
            name: torch.cat([part[name] for part in parts]) for name in self._table(clip.shape[2])
        }

    def fit(self, clips: Clips, initial: Tensor | None = None) -> "FeatureExtractor":
        """Choose columns and learn their mean and standard deviation; forgets an earlier fit.

        Args:
            clips: Training clips `[sample, time, channel, height, width]`, or batches of them
                that need not fit into memory together, each a tensor or a pair (clip, initial).
            initial: u₀ of the trajectories where `clips` is one tensor. Given here, it must be
                given to every call, and the other way round.

        Returns:
            The extractor itself.

        Raises:
            ValueError: If there are fewer than two clips, batches differ in shape or in what they
                bring, a column is not finite (the message names it and the sample), or none is left.
        """
        rows, shapes = [], set()
        for clip, start in batches_of(clips, initial):
            with torch.no_grad():
                rows.append(
                    torch.stack(list(self.raw(clip, start).values()), dim=-1).double().cpu()
                )
            shapes.add((clip.shape[1], clip.shape[2], start is not None))
        if len(shapes) > 1:
            raise ValueError(
                f"batches differ in (frames, channels, initial state given): {sorted(shapes)}."
            )
        num = sum(map(len, rows))
        if num < 2:
            raise ValueError(f"fit needs at least 2 clips, got {num}.")
        length, channels, own = shapes.pop()
        self._fit = choose(
            torch.cat(rows),
            list(self._table(channels)),
            clip_length=length,
            num_channels=channels,
            own_initial=own,
        )
        return self

    def __call__(
        self,
        clip: Float[Tensor, "sample time channel height width"],
        initial: Float[Tensor, "sample channel height width"] | None = None,
    ) -> Float[Tensor, "sample feature"]:
        """Standardised features of clips, differentiable where `differentiable` says so.

        Args:
            clip: As long as those of `fit`, with as many channels.
            initial: u₀, if `fit` had it.

        Returns:
            5 tanh(z / 5), dimensionless, columns as in `names`. NaN where the clip is not finite.

        Raises:
            ValueError: Before `fit`, or if clip, channels or `initial` are not as there.
        """
        fit = self._fitted()
        found = (clip.shape[1], clip.shape[2], initial is not None)
        expected = (fit.clip_length, fit.num_channels, fit.own_initial)
        if found != expected and "initial" not in self._families:
            found, expected = found[:2], expected[:2]
        if found != expected:
            raise ValueError(
                "this extractor was fitted to other clips: (frames, channels, initial state given) "
                f"are {found}, expected {expected}; nothing is padded or cut."
            )
        raw = self.raw(clip, initial)
        values = torch.stack([raw[name] for name in fit.kept], dim=-1)
        z = (values - fit.mean.to(values)) / fit.std.to(values)
        return SQUASH * torch.tanh(z / SQUASH)

    def state_dict(self) -> dict[str, Any]:
        """Options, version and what `fit` learned, as plain values and tensors."""
        fit = self._fit
        learned = {} if fit is None else {**vars(fit), "kept": list(fit.kept)}
        return {
            "version": self.version,
            "families": list(self._families),
            "channels": self.channels,
            "domain_length": self.domain_length,
            "fit": learned,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what another extractor of the same definitions and options has learned.

        Raises:
            ValueError: If version or options differ (the message lists both), or columns are named
                that this version does not have.
        """
        check_options(state, self.state_dict())
        learned = state["fit"]
        if not learned:
            self._fit = None
            return
        known = self._table(learned["num_channels"])
        if unknown := [name for name in learned["kept"] if name not in known]:
            raise ValueError(f"the state names unknown columns: {', '.join(unknown)}.")
        self._fit = Fit(**{**learned, "kept": tuple(learned["kept"])})

    def check_same(self, state: Mapping[str, Any]) -> None:
        """Raise unless `state` is that of an extractor which gives the same features to the last bit.

        A data set, tokens, a loss and a report each keep the state that they were made with, and ask
        this before they meet.

        Raises:
            ValueError: If version, options, clip, channels, columns or normaliser differ; the
                message lists what was found and what was expected.
        """
        mine = self.state_dict()
        check_options(state, mine)
        check_fit(state, mine)

    def _fitted(self) -> Fit:
        if self._fit is None:
            raise ValueError("the extractor has seen no training clips yet; call fit(clips) first.")
        return self._fit

    def _table(self, num_channels: int) -> dict[str, Column]:
        options = {"channels": self.channels, "num_channels": num_channels}
        return {k: v for f in self._families for k, v in columns_of(f, **options).items()}

    def _scalars(self, clip: Tensor, start: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        if "initial" in self._families:
            scalars = frame_scalars(start, length=self.domain_length)
            scalars["crossing_rate"] = crossing_rate(start, scalars["q50"])
            found |= self._named("initial", {name: scalars[name] for name in INITIAL})
        if {"summary", "temporal"} & set(self._families):
            frames = frame_scalars(clip, length=self.domain_length)
            if "summary" in self._families:
                scalars = clip_scalars(clip, frames)
                found |= self._named("summary", {name: scalars[name] for name in SUMMARY})
            if "temporal" in self._families:
                found |= self._pooled(clip, frames)
        return found

    def _pooled(self, clip: Tensor, frames: dict[str, Tensor]) -> dict[str, Tensor]:
        joined = self._named("temporal", {name: frames[name] for name in FRAME})
        if clip.shape[2] > 1:
            cross = cross_scalars(clip, frames)
            joined |= {f"temporal/cross/{name}": cross[name] for name in CROSS}
        found = {}
        for name, values in joined.items():
            found[f"{name}/mean"] = values.mean(1)
            found[f"{name}/std"] = (values.var(1, correction=0) + TINY).sqrt()
            found[f"{name}/change"] = values[:, -1] - values[:, 0]
        return found

    def _named(self, family: str, scalars: dict[str, Tensor]) -> dict[str, Tensor]:
        """Full names; channels, the last axis, averaged or apart."""
        if self.channels == "mean":
            return {f"{family}/{name}": values.mean(-1) for name, values in scalars.items()}
        return {
            f"{family}/channel{i}/{name}": value
            for name, values in scalars.items()
            for i, value in enumerate(values.unbind(-1))
        }


def _working(field: Tensor) -> Tensor:
    """`field` in float64 if it is, else in float32."""
    return field if field.dtype == torch.float64 else field.float()


def _check_shapes(clip: Tensor, initial: Tensor | None) -> None:
    if (
        clip.ndim != 5
        or not len(clip)
        or clip.shape[1] < LEAST_FRAMES
        or min(clip.shape[3:]) < LEAST_SIDE
    ):
        raise ValueError(
            f"clip has shape {tuple(clip.shape)}; expected (sample, time, channel, height, width), not empty, with "
            f"at least {LEAST_FRAMES} frames of at least {LEAST_SIDE} x {LEAST_SIDE} cells."
        )
    expected = (clip.shape[0], *clip.shape[2:])
    if initial is not None and initial.shape != expected:
        raise ValueError(f"initial has shape {tuple(initial.shape)}, expected {tuple(expected)}.")
