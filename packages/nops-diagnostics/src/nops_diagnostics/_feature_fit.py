"""What a feature extractor learns from training clips, and how two of them differ."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

LEAST_VARIANCE = 1e-8
LARGEST_CORRELATION = 0.99
FIT_BATCH = 64  # clips at once: bounds memory, changes nothing
OPTIONS = ("version", "families", "channels", "domain_length")

Clips = Tensor | Iterable[Tensor | tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Shape of the clips, columns kept and dropped, normaliser: plain values and tensors.

    Attributes:
        clip_length: Frames of a clip.
        num_channels: Channels of a clip.
        own_initial: Whether initial states came beside the clips.
        kept: Names of the columns left.
        dropped: Why each other one is gone.
        mean: Per column kept, float64 on the CPU.
        std: The same.
    """

    clip_length: int
    num_channels: int
    own_initial: bool
    kept: tuple[str, ...]
    dropped: dict[str, str]
    mean: Tensor
    std: Tensor


def choose(rows: Tensor, names: list[str], **shape: Any) -> Fit:
    """Columns to keep of `rows [sample, column]`, their mean and standard deviation."""
    if not rows.isfinite().all():
        sample, column = (~rows.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"column {names[column]} of clip {sample} is {rows[sample, column]}.")
    mean, variance = rows.mean(0), rows.var(0, correction=0)
    dropped = {
        name: f"variance {value:.3g} < {LEAST_VARIANCE:g}"
        for name, value in zip(names, variance.tolist(), strict=True)
        if value < LEAST_VARIANCE
    }
    scaled = (rows - mean) / variance.clamp(min=LEAST_VARIANCE).sqrt()
    correlation = (scaled.T @ scaled / len(rows)).abs()
    kept: list[int] = []
    for column, name in enumerate(names):
        if name in dropped:
            continue
        beside = correlation[column, kept]
        if kept and beside.max() > LARGEST_CORRELATION:
            dropped[name] = (
                f"|correlation| > {LARGEST_CORRELATION:g} with {names[kept[int(beside.argmax())]]}"
            )
        else:
            kept.append(column)
    if not kept:
        raise ValueError("no column varies between the training clips.")
    return Fit(
        kept=tuple(names[column] for column in kept),
        dropped=dropped,
        mean=mean[kept],
        std=variance[kept].sqrt(),
        **shape,
    )


def batches_of(clips: Clips, initial: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Clips with their initial states, a batch at a time.

    Raises:
        ValueError: If initial states are not one for each clip, or go with batches that have their own.
    """
    if isinstance(clips, Tensor):
        if initial is not None and len(initial) != len(clips):
            raise ValueError(
                f"{len(initial)} initial states for {len(clips)} clips: one is for each."
            )
        parts = clips.split(FIT_BATCH)
        starts = [None] * len(parts) if initial is None else initial.split(FIT_BATCH)
        yield from zip(parts, starts, strict=True)
        return
    if initial is not None:
        raise ValueError(
            "initial goes with one tensor of clips; batches are pairs (clip, initial)."
        )
    for batch in clips:
        yield (batch, None) if isinstance(batch, Tensor) else batch


def check_options(state: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Raise with the rows that differ unless both states are of one version and one set of options."""
    _raise_for([_differing(key, state.get(key), mine[key]) for key in OPTIONS])


def check_fit(state: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Raise with the rows that differ unless both have learned the same, to the last bit."""
    found, expected = state["fit"], mine["fit"]
    keys = ("clip_length", "num_channels", "own_initial", "kept")
    rows = [_differing(key, found.get(key), expected.get(key)) for key in keys]
    rows += [_moved(key, found.get(key), expected.get(key)) for key in ("mean", "std")]
    _raise_for(rows)


def _raise_for(rows: list[str]) -> None:
    if said := [row for row in rows if row]:
        raise ValueError("\n".join(["features of another extractor:", *said]))


def _differing(key: str, found: Any, expected: Any) -> str:
    if found == expected:
        return ""
    if isinstance(found, list) and isinstance(expected, list):
        gone = [name for name in expected if name not in found]
        new = [name for name in found if name not in expected]
        return (
            f"  {key}: {len(found)} columns, expected {len(expected)}; missing {gone}, extra {new}"
        )
    return f"  {key}: {found!r}, expected {expected!r}"


def _moved(key: str, found: Tensor | None, expected: Tensor | None) -> str:
    if found is None or expected is None or found.shape != expected.shape:
        return ""  # said by the columns
    places = (found.to(expected) != expected).nonzero().flatten().tolist()
    return f"  {key}: {len(places)} of {len(expected)} columns differ" if places else ""
