"""Every column of the features against a second implementation: NumPy, loops, no shared code."""

import math

import numpy as np
import pytest
import torch
from nops_diagnostics import FeatureExtractor
from torch.testing import assert_close

LENGTH = 2.0
TINY = 1e-12


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def entropy(share):
    return float(-np.sum(share * np.log(share + TINY)) / math.log(len(share)))


def spectral_derivative(field, axis):
    size = field.shape[axis]
    wave = 2j * math.pi * np.fft.fftfreq(size, d=1 / size) / LENGTH
    shape = (-1, 1) if axis == 0 else (1, -1)
    return np.fft.ifft2(np.fft.fft2(field) * wave.reshape(shape))


def spectrum_of(field):
    """|k|, angle and share of the energy of every mode but the mean."""
    height, width = field.shape
    ky = np.fft.fftfreq(height, d=1 / height)[:, None] + np.zeros((1, width))
    kx = np.fft.fftfreq(width, d=1 / width)[None, :] + np.zeros((height, 1))
    power = np.abs(np.fft.fft2(field - field.mean()) / field.size) ** 2
    keep = (kx != 0) | (ky != 0)
    total = power.sum() + TINY
    return np.hypot(kx, ky)[keep], np.arctan2(ky, kx)[keep], power[keep] / total


def spectral(field):
    k, angle, share = spectrum_of(field)
    found = {}
    for low, high in ((1, 2), (2, 4), (4, 8), (8, math.inf)):
        found[f"share_{low}"] = share[(k >= low) & (k < high)].sum()
    found["centroid"] = (k * share).sum()
    found["bandwidth"] = math.sqrt(((k - found["centroid"]) ** 2 * share).sum() + TINY)
    found["flatness"] = math.exp(np.log(share * len(share) + 1e-8).mean())
    found["spectral_anisotropy"] = (np.cos(2 * angle) * share).sum()
    found["four_fold"] = (np.cos(4 * angle) * share).sum()
    shell = np.floor(k + 0.5 + 1e-9).astype(int)
    shells = np.array([share[shell == j].sum() for j in range(1, shell.max() + 1)])
    number = np.arange(1, len(shells) + 1)
    half = min(field.shape) // 2
    found["slope"] = np.polyfit(np.log(number[:half]), np.log(shells[:half] + 1e-8), 1)[0]
    found["roll_off"] = 1 + sigmoid((0.85 - np.cumsum(shells)) / 0.02).sum()
    found["spectral_entropy"] = entropy(shells)
    found["dominant"] = (number * shells**4).sum() / (shells**4).sum()
    return found


def value_entropy(field):
    scaled = (field - field.mean()) / math.sqrt(field.var() + TINY)
    place = (np.clip(scaled, -4, 4) + 4) / 8 * 31
    bins = [np.maximum(0, 1 - np.abs(place - j)).mean() for j in range(32)]
    return entropy(np.array(bins))


def total_variation(field):
    height, width = field.shape
    total = 0.0
    for i in range(height):
        for j in range(width):
            across = (field[i, (j + 1) % width] - field[i, j - 1]) * width / (2 * LENGTH)
            along = (field[(i + 1) % height, j] - field[i - 1, j]) * height / (2 * LENGTH)
            total += math.sqrt(across**2 + along**2 + TINY)
    return total / field.size


def frame(field):
    centred = field - field.mean()
    v = field.var() + TINY
    x, y = (spectral_derivative(field, axis) for axis in (1, 0))
    gx, gy = (np.abs(x) ** 2).mean(), (np.abs(y) ** 2).mean()
    bend = spectral_derivative(spectral_derivative(field, 0), 0) + spectral_derivative(
        spectral_derivative(field, 1), 1
    )
    quantiles = {f"q{q:02d}": np.quantile(field, q / 100) for q in (5, 25, 50, 75, 95)}
    return {
        "mean": field.mean(),
        "std": math.sqrt(v),
        "skewness": (centred**3).mean() / v**1.5,
        "excess_kurtosis": (centred**4).mean() / v**2 - 3,
        "min": field.min(),
        "max": field.max(),
        "mean_abs": np.abs(field).mean(),
        **quantiles,
        "gradient_rms": math.sqrt(gx + gy + TINY),
        "gradient_anisotropy": (gx - gy) / (gx + gy + TINY),
        "laplacian_rms": math.sqrt((np.abs(bend) ** 2).mean() + TINY),
        "total_variation": total_variation(field),
        **{k: v for k, v in spectral(field).items() if k != "four_fold"},
    }


def initial(field):
    centred = field - field.mean()
    v = field.var() + TINY
    scalars, waves = frame(field), spectral(field)
    lag = np.mean([(centred * np.roll(centred, 1, axis)).mean() for axis in (0, 1)]) / v
    inside = [
        np.roll(field, (-i, -j), (0, 1))[:8, :8].var()
        for i in range(field.shape[0])
        for j in range(field.shape[1])
    ]
    above = field > np.median(field)
    crossed = np.mean([(above != np.roll(above, 1, axis)).mean() for axis in (0, 1)])
    return {
        "std": scalars["std"],
        "skewness": scalars["skewness"],
        "kurtosis": scalars["excess_kurtosis"] + 3,
        "lag_correlation": lag,
        "centroid": waves["centroid"],
        "slope": waves["slope"],
        "dominant": waves["dominant"],
        "entropy": value_entropy(field),
        "gradient_rms": scalars["gradient_rms"],
        "local_variance": np.mean(inside) / v,
        "four_fold": waves["four_fold"],
        "crossing_rate": crossed,
    }


def time_shares(clip):
    series = clip - clip.mean(0)
    power = (np.abs(np.fft.fft(series, axis=0)) ** 2).mean((1, 2))
    frequency = np.abs(np.fft.fftfreq(len(clip)))
    known = sorted(set(frequency[1:]))
    energy = np.array([power[frequency == f].sum() for f in known])
    return np.array(known), energy / energy.sum()


def pattern_decay(clip):
    num, total = len(clip), 0.0
    flat = [f.ravel() - f.mean() for f in clip]
    for lag in range(num):
        values = [
            flat[t] @ flat[t + lag] / np.linalg.norm(flat[t]) / np.linalg.norm(flat[t + lag])
            for t in range(num - lag)
        ]
        total += np.mean(values) ** 2
    return total


def summary(clip):
    steps = np.diff(clip, axis=0)
    rms, s = math.sqrt((steps**2).mean()), clip.std()
    w = clip - clip.mean(0)
    frequency, share = time_shares(clip)
    h = max(1, (len(clip) - 1) // 4)
    persistence = [(clip[t + h] - clip[t]) ** 2 for t in range(len(clip) - h)]
    straight = [(clip[t + h] - 2 * clip[t] + clip[t - h]) ** 2 for t in range(h, len(clip) - h)]
    found = {
        "growth_rate": np.polyfit(np.arange(len(clip)), np.log((clip**2).mean((1, 2))), 1)[0],
        "speed": rms / s,
        "acceleration": math.sqrt((np.diff(steps, axis=0) ** 2).mean()) / rms,
        "lag_correlation": (w[1:] * w[:-1]).mean() / (w**2).mean(),
        "decorrelation_time": pattern_decay(clip),
        "irreversibility": (steps**3).mean() / rms**3,
        "temporal_centroid": (frequency * share).sum(),
        "temporal_entropy": entropy(share),
    }
    norms = {
        "l1": [np.abs(f).mean() for f in clip],
        "l2": [math.sqrt((f**2).mean()) for f in clip],
        "linf": [np.abs(f).max() for f in clip],
        "tv": [total_variation(f) for f in clip],
        "entropy": [value_entropy(f) for f in clip],
    }
    for name, values in norms.items():
        found[f"{name}_drift"] = (values[-1] - values[0]) / (np.mean(values) + 1e-6)
        bends = np.diff(values, n=2)
        found[f"{name}_roughness"] = math.sqrt((bends**2).mean()) / (np.mean(values) + 1e-6)
    c = clip - clip.mean((1, 2), keepdims=True)
    for name, axis in (("x", 2), ("y", 1)):
        moved = np.roll(c[1:], -1, axis) - np.roll(c[1:], 1, axis)
        found[f"flow_{name}"] = (c[:-1] * moved).mean() / (c**2).mean()
    found["persistence_error"] = np.mean(persistence) / s**2
    found["extrapolation_error"] = np.mean(straight) / s**2
    found["event_rate"] = sigmoid((np.abs(steps) / rms - 3) / 0.25).mean()
    return found


def cross(fields):
    matrix = np.corrcoef(fields.reshape(len(fields), -1))
    pairs = np.abs(matrix[np.triu_indices(len(fields), 1)])
    values = np.linalg.eigvalsh(matrix)
    return {
        "correlation_mean": pairs.mean(),
        "correlation_max": pairs.max(),
        "participation": np.trace(matrix) ** 2 / (matrix**2).sum(),
        "log_condition": math.log((values[-1] + 1e-6) / (values[0] + 1e-6)),
    }


def pooled(rows):
    found = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        found[f"{name}/mean"] = values.mean()
        found[f"{name}/std"] = math.sqrt(values.var() + TINY)
        found[f"{name}/change"] = values[-1] - values[0]
    return found


def features(clip, start):
    """All columns of one sample: clip [time, channel, height, width], channels apart."""
    found = {}
    for i in range(clip.shape[1]):
        one = {f"initial/channel{i}/{k}": v for k, v in initial(start[i]).items()}
        one |= {f"summary/channel{i}/{k}": v for k, v in summary(clip[:, i]).items()}
        frames = pooled([frame(f) for f in clip[:, i]])
        found |= one | {f"temporal/channel{i}/{k}": v for k, v in frames.items()}
    across = pooled([cross(fields) for fields in clip])
    return found | {f"temporal/cross/{k}": v for k, v in across.items()}


@pytest.fixture(scope="module")
def case(fields):
    clip = fields(0, 2, 6, 3, 8, 9).cumsum(1) + 0.3 * fields(1, 2, 1, 1, 8, 9)
    start = fields(2, 2, 3, 8, 9)
    expected = [features(c.numpy(), s.numpy()) for c, s in zip(clip, start, strict=True)]
    return clip, start, expected


def test_every_column_apart(case):
    clip, start, expected = case
    raw = FeatureExtractor(channels="each", domain_length=LENGTH).raw(clip, start)
    assert set(raw) == set(expected[0])
    for name, value in raw.items():
        want = torch.tensor([float(row[name]) for row in expected], dtype=torch.float64)
        assert_close(value, want, rtol=1e-8, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


def test_the_mean_over_channels(case):
    clip, start, expected = case
    raw = FeatureExtractor(domain_length=LENGTH).raw(clip, start)
    joined = []  # of each frame first, then pooled
    for sample in clip.numpy():
        frames = [[frame(field) for field in fields] for fields in sample]
        joined.append(pooled([{k: np.mean([c[k] for c in row]) for k in row[0]} for row in frames]))
    for name, value in raw.items():
        family, rest = name.split("/", 1)
        parts = [name] if "/cross/" in name else [f"{family}/channel{i}/{rest}" for i in range(3)]
        want = [np.mean([row[part] for part in parts]) for row in expected]
        if family == "temporal" and "/cross/" not in name:
            want = [row[rest] for row in joined]
        assert_close(value, torch.tensor(want, dtype=torch.float64), rtol=1e-8, atol=1e-9)


def test_single_precision_is_near(case):
    clip, start, _ = case
    extractor = FeatureExtractor(channels="each", domain_length=LENGTH)
    double, single = extractor.raw(clip, start), extractor.raw(clip.float(), start.float())
    for name, value in single.items():
        assert value.dtype == torch.float32
        # log_condition of nearly dependent channels, and differences of quantiles, lose most
        assert_close(value.double(), double[name], rtol=2e-3, atol=2e-4)
