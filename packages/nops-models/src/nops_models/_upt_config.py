"""Sizes and choices of a Universal Physics Transformer.

The class has no slots: the compiler of torch 2.6 cannot read those that are inherited.
"""

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, NamedTuple, get_args

from nops_models._checks import check_at_least, check_choice, check_optional, check_share

EncoderKind = Literal["grid", "supernodes"]
LatentNorm = Literal["layer", "none"]
Layout = Literal["compact", "paper"]
Preset = Literal["8M", "17M", "68M"]

TIME = "time"


class Widths(NamedTuple):
    """Channels inside each module, and the heads of their attention."""

    encoder: int
    approximator: int
    decoder: int
    encoder_heads: int
    latent_heads: int
    decoder_heads: int


# encoder = decoder width, token width, heads of encoder, tokens and decoder: arXiv 2402.12365
_PRESETS: dict[str, tuple[int, int, tuple[int, int, int]]] = {
    "8M": (64, 128, (2, 2, 2)),
    "17M": (96, 192, (2, 3, 2)),
    "68M": (192, 384, (3, 6, 3)),
}


@dataclass(frozen=True)
class UPTConfig:
    """Everything that fixes a Universal Physics Transformer's parameters and their use.

    Attributes:
        fields: Channels of each field, by name; all are read and all are decoded.
        ndim: Dimensions of space, 1 to 3.
        encoder: "grid" reads every cell of one grid, "supernodes" any set of points.
        grid_shape: Cells along each axis; only with "grid". Points are its cells, last axis
            fastest.
        patch_size: Cells of a patch along each axis, or one number for all; only with "grid".
        supernodes: Points that gather messages, S; only with "supernodes".
        radius: How far a supernode sees, in the unit of the positions; only with "supernodes".
        max_neighbors: Points a supernode hears at most, itself included: the nearest.
        tokens: Tokens of the latent, T.
        dim: Width of a token, D.
        encoder_width: Channels inside the encoder; None: D.
        encoder_depth: Blocks in the encoder, before its tokens are pooled.
        approximator_depth: Blocks of one step in time.
        approximator_width: Channels inside the approximator; None: D.
        decoder_width: Channels of a query; None: D.
        decoder_self_depth: Blocks on the tokens before any query reads them.
        decoder_cross_depth: Blocks in which queries read the tokens.
        heads: Attention heads: one number, or (encoder, tokens, decoder).
        mlp_ratio: Hidden width of a block's MLP over its own.
        qk_norm: Divide queries and keys of each head by their root mean square.
        drop_path: Share of samples whose branch of a block is dropped in training; in blocks that
            read the tokens for a query nothing is dropped.
        history: States that the encoder reads. A field comes as [B, N, history·C], oldest first.
        condition: Names of the numbers that condition the model, in the order of the columns of
            `condition`. "time" is the index of a step, 0-based.
        time_steps: Entries of the time table; with "time" among the conditions. The last allowed
            index is one less.
        frequencies: Waves of the position features along each axis.
        periodic: Axes that close on themselves; all frequencies must then be integers.
        lengths: Length of the domain along each axis, in the unit of the positions; None: 1.
        latent_norm: "layer" ends encoder and approximator in a layer norm without parameters, so
            that a token's root mean square is 1; "none" leaves tokens as they are.
        layout: "compact", or "paper": a linear map before the blocks of each module even where
            widths agree, a wider network for queries, and linear heads.
        log_compression: Decode sign(y)·log(1 + abs(y)) instead of y.
        force_fp32: Decode in float32 under autocast.

    Raises:
        ValueError: At construction, if a field is out of range or two contradict each other.
    """

    fields: Mapping[str, int]
    ndim: int
    _: KW_ONLY
    tokens: int
    dim: int
    encoder: EncoderKind = "grid"
    grid_shape: tuple[int, ...] | None = None
    patch_size: int | tuple[int, ...] | None = None
    supernodes: int | None = None
    radius: float | None = None
    max_neighbors: int = 32
    encoder_width: int | None = None
    encoder_depth: int = 1
    approximator_depth: int = 4
    approximator_width: int | None = None
    decoder_width: int | None = None
    decoder_self_depth: int = 1
    decoder_cross_depth: int = 2
    heads: int | tuple[int, int, int] = 4
    mlp_ratio: int = 4
    qk_norm: bool = False
    drop_path: float = 0.0
    history: int = 1
    condition: tuple[str, ...] = ()
    time_steps: int | None = None
    frequencies: tuple[float, ...] = (1, 2, 4, 8)
    periodic: tuple[int, ...] = ()
    lengths: tuple[float, ...] | None = None
    latent_norm: LatentNorm = "layer"
    layout: Layout = "compact"
    log_compression: bool = False
    force_fp32: bool = False

    def __post_init__(self) -> None:
        """Check each field, then what fields must agree on."""
        object.__setattr__(self, "fields", dict(self.fields))
        _check_numbers(self)
        _check_fields(self)
        _check_grid(self) if self.encoder == "grid" else _check_supernodes(self)
        _check_heads(self)
        _check_positions(self)
        _check_condition(self)

    @classmethod
    def preset(cls, name: Preset, **changes: Any) -> "UPTConfig":
        """The sizes of the paper's transient flows, about 8, 17 or 68 million parameters.

        Three channels over two states in 2-D, 512 tokens, 2048 supernodes that see 5 units of a
        domain of 200 by 300, conditioned on time and speed. Position features are ours: as many
        whole waves as fill the width.

        Args:
            name: "8M", "17M" or "68M".
            **changes: Any fields of the configuration, to replace those of the preset.

        Raises:
            ValueError: If there is no such preset, or the result cannot be.

        Source:
            Alkin et al., "Universal physics transformers", arXiv 2402.12365.
        """
        check_choice("preset", name, get_args(Preset))
        width, dim, heads = _PRESETS[name]
        ndim = changes.get("ndim", 2)
        options: dict[str, Any] = {
            "fields": {"flow": 3},
            "ndim": ndim,
            "tokens": 512,
            "dim": dim,
            "encoder_width": width,
            "decoder_width": width,
            "encoder_depth": 4,
            "decoder_self_depth": 4,
            "decoder_cross_depth": 1,
            "heads": heads,
            "history": 2,
            "condition": (TIME, "speed"),
            "frequencies": tuple(range(1, width // (2 * ndim) + 1)),
            "layout": "paper",
        }
        if changes.get("encoder", "supernodes") == "supernodes":
            options |= {"encoder": "supernodes", "supernodes": 2048, "radius": 5.0}
        if ndim == 2:
            options["lengths"] = (200.0, 300.0)
        if TIME in changes.get("condition", options["condition"]):
            options["time_steps"] = 120
        return cls(**options | changes)

    @property
    def widths(self) -> Widths:
        """Channels and heads of each module, defaults filled in."""
        heads = self.heads if isinstance(self.heads, tuple) else (self.heads,) * 3
        return Widths(
            self.encoder_width or self.dim,
            self.approximator_width or self.dim,
            self.decoder_width or self.dim,
            *heads,
        )

    @property
    def channels(self) -> int:
        """Channels of all fields together, of one state."""
        return sum(self.fields.values())

    @property
    def domain(self) -> tuple[float, ...]:
        """Length of the domain along each axis."""
        return self.lengths or (1.0,) * self.ndim

    @property
    def patch(self) -> tuple[int, ...]:
        """Cells of a patch along each axis; only with the grid encoder."""
        assert self.patch_size is not None
        return (
            self.patch_size
            if isinstance(self.patch_size, tuple)
            else (self.patch_size,) * self.ndim
        )

    @property
    def patch_grid(self) -> tuple[int, ...]:
        """Patches along each axis; only with the grid encoder."""
        assert self.grid_shape is not None
        return tuple(cells // size for cells, size in zip(self.grid_shape, self.patch, strict=True))

    @property
    def condition_width(self) -> int | None:
        """Width of an embedded condition, 4·D; None without conditions."""
        return 4 * self.dim if self.condition else None


def _check_numbers(config: UPTConfig) -> None:
    names = ("tokens", "dim", "max_neighbors", "encoder_depth", "approximator_depth")
    check_at_least(config, 1, *names, "decoder_cross_depth", "mlp_ratio", "history")
    check_at_least(config, 0, "decoder_self_depth")
    check_optional(config, "encoder_width", "approximator_width", "decoder_width")
    check_choice("encoder", config.encoder, get_args(EncoderKind))
    check_choice("latent_norm", config.latent_norm, get_args(LatentNorm))
    check_choice("layout", config.layout, get_args(Layout))
    check_share(config, "drop_path")
    if config.ndim not in (1, 2, 3):
        raise ValueError(f"ndim must be 1, 2 or 3, got {config.ndim}.")


def _check_fields(config: UPTConfig) -> None:
    if not config.fields:
        raise ValueError("fields needs at least one name with its channels, got none.")
    for name, channels in config.fields.items():
        if channels < 1:
            raise ValueError(f"fields: {name!r} needs at least 1 channel, got {channels}.")


def _check_grid(config: UPTConfig) -> None:
    _check_absent(config, "supernodes", "radius")
    if config.grid_shape is None or config.patch_size is None:
        raise ValueError("encoder='grid' needs grid_shape and patch_size.")
    for name, sizes in (("grid_shape", config.grid_shape), ("patch_size", config.patch)):
        if len(sizes) != config.ndim or min(sizes) < 1:
            raise ValueError(
                f"{name} needs ndim={config.ndim} positive sizes, got {getattr(config, name)}."
            )
    for axis, (cells, size) in enumerate(zip(config.grid_shape, config.patch, strict=True)):
        if cells % size:
            raise ValueError(
                f"patch_size={size} does not divide the {cells} cells of axis {axis} "
                f"(grid_shape={config.grid_shape}); nearest sizes that do: "
                f"{_listed(_nearest_divisors(cells, size))}."
            )
    patches = math.prod(config.patch_grid)
    if config.tokens > patches:
        smaller = _largest_patch(config)
        raise ValueError(
            f"tokens={config.tokens} is above the {patches} patches of patch_size="
            f"{config.patch_size} on grid_shape={config.grid_shape}: take tokens={patches} or less"
            + (f", or patch_size={smaller}." if smaller else ".")
        )


def _nearest_divisors(cells: int, size: int) -> list[int]:
    """The divisors of `cells` next to `size` below and above."""
    divisors = [d for d in range(1, cells + 1) if cells % d == 0]
    below = [d for d in divisors if d < size][-1:]
    return below + [d for d in divisors if d > size][:1]


def _largest_patch(config: UPTConfig) -> int | None:
    """The largest equal-sided patches that leave as many patches as tokens; None: no such."""
    assert config.grid_shape is not None
    for size in range(max(config.patch), 0, -1):
        divides = all(cells % size == 0 for cells in config.grid_shape)
        if divides and math.prod(cells // size for cells in config.grid_shape) >= config.tokens:
            return size
    return None


def _check_supernodes(config: UPTConfig) -> None:
    _check_absent(config, "grid_shape", "patch_size")
    if config.supernodes is None or config.radius is None:
        raise ValueError("encoder='supernodes' needs supernodes and radius.")
    check_at_least(config, 1, "supernodes")
    if not 0 < config.radius < math.inf:
        raise ValueError(f"radius must be positive and finite, got {config.radius}.")


def _check_absent(config: UPTConfig, *names: str) -> None:
    for name in names:
        if getattr(config, name) is not None:
            raise ValueError(f"{name} has no meaning with encoder={config.encoder!r}.")


def _check_heads(config: UPTConfig) -> None:
    if isinstance(config.heads, tuple) and len(config.heads) != 3:
        raise ValueError(
            f"heads needs one number or (encoder, tokens, decoder), got {config.heads}."
        )
    widths = config.widths
    for name, width, heads in (
        ("encoder_width", widths.encoder, widths.encoder_heads),
        ("dim", config.dim, widths.latent_heads),
        ("approximator_width", widths.approximator, widths.latent_heads),
        ("decoder_width", widths.decoder, widths.decoder_heads),
    ):
        if heads < 1 or width % heads:
            raise ValueError(f"heads={heads} must divide {name}={width}.")


def _check_positions(config: UPTConfig) -> None:
    waves = config.frequencies
    if not waves or not all(0 < wave < math.inf for wave in waves):
        raise ValueError(f"frequencies must be positive and finite, at least one, got {waves}.")
    if len(set(config.periodic)) != len(config.periodic) or not all(
        axis in range(config.ndim) for axis in config.periodic
    ):
        raise ValueError(
            f"periodic needs distinct axes within 0 and {config.ndim - 1}, got {config.periodic}."
        )
    if config.periodic and not all(float(wave).is_integer() for wave in waves):
        raise ValueError(f"periodic axes need integer frequencies, got {waves}.")
    lengths = config.domain
    if len(lengths) != config.ndim or not all(0 < length < math.inf for length in lengths):
        raise ValueError(
            f"lengths needs ndim={config.ndim} positive numbers, got {config.lengths}."
        )


def _check_condition(config: UPTConfig) -> None:
    names = config.condition
    if len(set(names)) != len(names):
        raise ValueError(f"condition has a name twice: {names}.")
    check_optional(config, "time_steps")
    if (TIME in names) != (config.time_steps is not None):
        raise ValueError(
            "time_steps, the length of the time table, and 'time' in condition go together, got "
            f"time_steps={config.time_steps}, condition={names}."
        )


def _listed(values: list[int]) -> str:
    return " and ".join(map(str, values))
