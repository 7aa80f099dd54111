"""What each column of the features is, in one table: names, definitions, and their hash."""

import hashlib
import json
from typing import NamedTuple

FAMILIES = ("initial", "summary", "temporal")
POOLS = {
    "mean": "mean over the frames",
    "std": "standard deviation over the frames",
    "change": "last frame less the first",
}
TINY = 1e-12  # added to variances: amplitudes below 1e-6 of the field's unit count as none
BINS = 32  # of the values' soft histogram, from -4 to 4 standard deviations
PATCH = 8  # cells along each side
BANDS = (1, 2, 4, 8)  # lower edges
SHARE_FLOOR = 1e-8  # of the energy; above the rounding of a float32 transform
ROLL_OFF = 0.85
ROLL_OFF_WIDTH = 0.02
EVENT = 3.0
EVENT_WIDTH = 0.25
SQUASH = 5.0  # standard deviations beyond which a column saturates
CONSTANTS = (
    *(TINY, BINS, PATCH, BANDS, SHARE_FLOOR, ROLL_OFF, ROLL_OFF_WIDTH),
    *(EVENT, EVENT_WIDTH, SQUASH),
)


class Column(NamedTuple):
    """One scalar of a frame, of an initial state or of a clip.

    Attributes:
        definition: In words and symbols; part of the version.
        differentiable: False where no gradient reaches the field.
    """

    definition: str
    differentiable: bool = True


MOMENTS = {
    "mean": Column("⟨u⟩"),
    "std": Column("√v, v = ⟨(u − ⟨u⟩)²⟩"),
    "skewness": Column("⟨(u − ⟨u⟩)³⟩ / v^1.5"),
    "excess_kurtosis": Column("⟨(u − ⟨u⟩)⁴⟩ / v² − 3"),
}
VALUES = {
    "min": Column("least u"),
    "max": Column("greatest u"),
    "mean_abs": Column("⟨|u|⟩"),
    "q05": Column("5 % quantile of u, interpolated between cells"),
    "q25": Column("25 % quantile"),
    "q50": Column("median"),
    "q75": Column("75 % quantile"),
    "q95": Column("95 % quantile"),
}
DERIVATIVES = {
    "gradient_rms": Column("√⟨|∇u|²⟩ = √Σ (2π|k|/L)² P"),
    "gradient_anisotropy": Column("(⟨u_x²⟩ − ⟨u_y²⟩) / ⟨|∇u|²⟩"),
    "laplacian_rms": Column("√⟨(∇²u)²⟩ = √Σ (2π|k|/L)⁴ P"),
    "total_variation": Column("⟨|∇u|⟩ by central differences"),
}
SPECTRAL = {
    "share_1": Column("Σ p over 1 ≤ |k| < 2"),
    "share_2": Column("Σ p over 2 ≤ |k| < 4"),
    "share_4": Column("Σ p over 4 ≤ |k| < 8"),
    "share_8": Column("Σ p over 8 ≤ |k|"),
    "centroid": Column("κ = Σ |k| p"),
    "bandwidth": Column("√Σ (|k| − κ)² p"),
    "slope": Column("of log(s_j + 1e-8) against log j by least squares, 1 ≤ j ≤ half the side"),
    "flatness": Column("exp of the mean over modes of log(P / ⟨P⟩ + 1e-8): raw periodogram"),
    "roll_off": Column("1 + Σ_j σ((0.85 − Σ_{i≤j} s_i) / 0.02)"),
    "spectral_entropy": Column("−Σ s_j log(s_j + 1e-12) / log(number of shells)"),
    "spectral_anisotropy": Column("Σ p cos 2φ"),
    "dominant": Column("Σ j s_j⁴ / Σ s_j⁴"),
}
FRAME = {**MOMENTS, **VALUES, **DERIVATIVES, **SPECTRAL}
CROSS = {
    "correlation_mean": Column("mean of |R_ij| over pairs of channels, R their correlation"),
    "correlation_max": Column("greatest |R_ij|"),
    "participation": Column("(tr R)² / Σ R_ij²"),
    "log_condition": Column("log((λ_max + 1e-6) / (λ_min + 1e-6)) of R"),
}
INITIAL = {
    "std": FRAME["std"],
    "skewness": FRAME["skewness"],
    "kurtosis": Column("⟨(u − ⟨u⟩)⁴⟩ / v²"),
    "lag_correlation": Column("correlation of neighbouring cells, mean of both axes"),
    "centroid": FRAME["centroid"],
    "slope": FRAME["slope"],
    "dominant": FRAME["dominant"],
    "entropy": Column("of the values' soft histogram h: −Σ h log(h + 1e-12) / log 32"),
    "gradient_rms": FRAME["gradient_rms"],
    "local_variance": Column("mean variance inside a patch of 8 × 8 cells, at all places, / v"),
    "four_fold": Column("Σ p cos 4φ: 1 along the axes, −1 along the diagonals"),
    "crossing_rate": Column("share of neighbours on two sides of the median", differentiable=False),
}
NORMS = {
    "l1": "⟨|u|⟩",
    "l2": "√⟨u²⟩",
    "linf": "max |u|",
    "tv": "the total variation",
    "entropy": "the entropy of values",
}
SUMMARY = {
    "growth_rate": Column("slope of log⟨u_t²⟩ over t by least squares, per frame"),
    "speed": Column("√⟨Δ²⟩ / s"),
    "acceleration": Column("√⟨(Δ_{t+1} − Δ_t)²⟩ / √⟨Δ²⟩"),
    "lag_correlation": Column("⟨w_t w_{t+1}⟩ / ⟨w²⟩, w = u less each cell's mean over time"),
    "decorrelation_time": Column(
        "Σ_l c_l², l = 0 … T−1, c_l the mean correlation of frames t and t + l, in frames"
    ),
    "irreversibility": Column("⟨Δ³⟩ / ⟨Δ²⟩^1.5"),
    "temporal_centroid": Column("Σ f q_f, q the shares of w's energy by frequency, cycles/frame"),
    "temporal_entropy": Column("−Σ q_f log(q_f + 1e-12) / log(number of frequencies)"),
    **{
        f"{norm}_{kind}": Column(text.format(symbol))
        for norm, symbol in NORMS.items()
        for kind, text in (
            ("drift", "(n_T − n_1) / (⟨n⟩ + 1e-6), n = {} of each frame"),
            (
                "roughness",
                "√⟨(n_{{t+1}} − 2n_t + n_{{t−1}})²⟩ / (⟨n⟩ + 1e-6), n = {} of each frame",
            ),
        )
    },
    "flow_x": Column("⟨c_t(x) (c_{t+1}(x+1) − c_{t+1}(x−1))⟩ / ⟨c²⟩, c = u less the frame's mean"),
    "flow_y": Column("the same along height"),
    "persistence_error": Column("⟨(u_{t+h} − u_t)²⟩ / s², h = a quarter of the clip"),
    "extrapolation_error": Column("⟨(u_{t+h} − 2u_t + u_{t−h})²⟩ / s²"),
    "event_rate": Column("⟨σ((|Δ| / √⟨Δ²⟩ − 3) / 0.25)⟩"),
}


def columns_of(family: str, *, channels: str, num_channels: int) -> dict[str, Column]:
    """Full name of each column of a family, in order, with what it is."""
    table = {"initial": INITIAL, "summary": SUMMARY, "temporal": FRAME}[family]
    parts = [""] if channels == "mean" else [f"channel{i}/" for i in range(num_channels)]
    found = {f"{part}{name}": column for part in parts for name, column in table.items()}
    if family == "temporal":
        if num_channels > 1:
            found |= {f"cross/{name}": column for name, column in CROSS.items()}
        found = {f"{name}/{pool}": column for name, column in found.items() for pool in POOLS}
    return {f"{family}/{name}": column for name, column in found.items()}


def hash_of(*parts: object) -> str:
    """16 hexadecimal digits of plain values, equal in every process."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def version_of(families: tuple[str, ...], *, channels: str, domain_length: float) -> str:
    """Hash of the definitions, their constants and the options."""
    tables = [{n: tuple(c) for n, c in t.items()} for t in (INITIAL, SUMMARY, FRAME, CROSS)]
    return hash_of(tables, POOLS, CONSTANTS, families, channels, float(domain_length))
