"""Features: hand values, invariances, gradients, what `fit` learns, and what is refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nops_diagnostics import FeatureExtractor, _features, temporal_spectrum
from nops_losses import energy_spectrum
from nops_testing.contract import through_file
from torch.testing import assert_close

SEEDS = st.integers(0, 2**31 - 1)
DOUBLE = {"dtype": torch.float64}


def wave(ky: int, kx: int, *, side: int = 32, amplitude: float = 1.0) -> torch.Tensor:
    """A clip `[1, 8, 1, side, side]` of one standing plane wave on the unit square."""
    x = torch.arange(side, **DOUBLE) / side
    field = amplitude * torch.cos(2 * math.pi * (ky * x[:, None] + kx * x[None, :]) + 0.3)
    return field.expand(1, 8, 1, side, side)


@pytest.fixture(scope="module")
def clips(fields):
    """Twelve clips of two channels, rough, drifting and different from each other."""
    size = 1 + torch.arange(12, **DOUBLE)[:, None, None, None, None] / 4
    return size * fields(0, 12, 6, 2, 8, 8).cumsum(1) + fields(1, 12, 1, 2, 1, 1)


@pytest.fixture(scope="module")
def fitted(clips):
    return FeatureExtractor().fit(clips)


@pytest.mark.parametrize("cells", [1, 2 * 6 * 2 * 8 * 8])
def test_clips_at_once_change_no_value(clips, monkeypatch, cells):
    whole = FeatureExtractor().raw(clips)
    monkeypatch.setattr(_features, "CELLS_AT_ONCE", cells)
    parts = FeatureExtractor().raw(clips)
    assert_close(parts, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("ky", "kx"), [(0, 5), (3, 4), (6, 0)])
def test_a_plane_wave_gives_its_wavenumber(ky, kx):
    k = math.hypot(ky, kx)
    raw = FeatureExtractor().raw(wave(ky, kx, amplitude=2.0))
    got = {name.removeprefix("temporal/").removesuffix("/mean"): v for name, v in raw.items()}
    expected = {
        "centroid": k,
        "dominant": round(k),
        "roll_off": round(k),
        "share_4": 1.0,
        "share_8": 0.0,
        "bandwidth": 0.0,
        "spectral_entropy": 0.0,
        "std": math.sqrt(2),  # of 2 cos
        "gradient_rms": 2 * math.pi * k * math.sqrt(2),
        "laplacian_rms": (2 * math.pi * k) ** 2 * math.sqrt(2),
        "spectral_anisotropy": (kx**2 - ky**2) / k**2,
        "gradient_anisotropy": (kx**2 - ky**2) / k**2,
        "mean": 0.0,
        "skewness": 0.0,
        "excess_kurtosis": -1.5,  # of a cosine: ⟨cos⁴⟩ / ⟨cos²⟩² = 3/2
    }
    for name, value in expected.items():
        # the soft roll-off adds 5.5e-4 for each shell beyond; the rest is rounding
        assert got[name].item() == pytest.approx(value, rel=1e-6, abs=0.02), name


def test_white_noise_is_as_flat_as_its_periodogram(fields):
    # |F|² is exponential: the mean of its logarithm is -0.5772 below that of its mean.
    raw = FeatureExtractor(families=("temporal",)).raw(fields(3, 4, 8, 1, 32, 32))
    assert raw["temporal/flatness/mean"].mean().item() == pytest.approx(0.5615, abs=0.005)
    assert raw["temporal/excess_kurtosis/mean"].mean().item() == pytest.approx(0, abs=0.05)
    assert raw["temporal/q95/mean"].mean().item() == pytest.approx(1.645, abs=0.03)


def test_a_moving_wave_by_hand():
    # One wave of 16 cells moves by one cell per frame, for two whole periods.
    x = torch.arange(16, **DOUBLE)
    field = torch.cos(2 * math.pi * (x[None, :] - torch.arange(32, **DOUBLE)[:, None]) / 16)
    clip = field[None, :, None, None, :].expand(1, 32, 1, 16, 16)
    raw = {k.removeprefix("summary/"): v.item() for k, v in FeatureExtractor().raw(clip).items()}
    turn = 2 * math.pi / 16
    assert raw["growth_rate"] == pytest.approx(0, abs=1e-9)
    assert raw["speed"] == pytest.approx(2 * math.sin(turn / 2))  # |e^{iω} − 1|
    assert raw["acceleration"] == pytest.approx(2 * math.sin(turn / 2))
    assert raw["lag_correlation"] == pytest.approx(math.cos(turn))
    assert raw["temporal_centroid"] == pytest.approx(1 / 16)
    assert raw["temporal_entropy"] == pytest.approx(0, abs=1e-6)
    # mean over t of cos²: 1 − cos 2ω for what moves forward, 0 along the other axis
    assert raw["flow_x"] == pytest.approx(1 - math.cos(2 * turn))
    assert raw["flow_y"] == pytest.approx(0, abs=1e-9)
    assert raw["irreversibility"] == pytest.approx(0, abs=1e-9)
    assert raw["decorrelation_time"] == pytest.approx(16)  # Σ cos² over two periods of lags
    assert raw["persistence_error"] == pytest.approx(2 - 2 * math.cos(7 * turn))  # lag 31 // 4
    assert raw["l2_drift"] == pytest.approx(0, abs=1e-9)
    mirrored = FeatureExtractor().raw(clip.flip(-1))
    assert mirrored["summary/flow_x"].item() == pytest.approx(-raw["flow_x"])


def test_growth_by_hand(fields):
    clip = (
        fields(4, 1, 1, 1, 16, 16)
        * torch.exp(0.25 * torch.arange(8, **DOUBLE))[:, None, None, None]
    )
    raw = FeatureExtractor(families=("summary",)).raw(clip)
    assert raw["summary/growth_rate"].item() == pytest.approx(0.5)  # of the energy: twice 0.25
    assert raw["summary/decorrelation_time"].item() == pytest.approx(8)  # one pattern throughout


def test_quantiles_and_crossings_by_hand():
    # 64 values 0 … 63 in a row-wise ramp: q25 = 15.75; rows 3 and 4 lie on two sides of 31.5.
    field = torch.arange(64, **DOUBLE).view(8, 8)
    clip = field.expand(1, 4, 1, 8, 8)
    raw = FeatureExtractor().raw(clip)
    assert raw["temporal/q25/mean"].item() == 15.75
    assert raw["temporal/max/mean"].item() == 63
    # down: 2 of 8 rows' borders (3|4 and 7|0) in 8 columns; across none: 16 of 128 pairs
    assert raw["initial/crossing_rate"].item() == 16 / 128


@given(seed=SEEDS, scale=st.floats(0.1, 100))
@settings(max_examples=5)
def test_scaling_moves_amplitudes_alone(fields, seed, scale):
    clip = fields(seed, 1, 5, 2, 8, 8)
    one, other = (FeatureExtractor().raw(u) for u in (clip, scale * clip))
    linear = ("std", "min", "max", "mean", "mean_abs", "gradient_rms", "laplacian_rms")
    linear += ("total_variation", "q05", "q25", "q50", "q75", "q95")
    for name, value in one.items():
        quantity = name.split("/")[1]
        factor = scale if quantity in linear and not name.startswith("summary") else 1.0
        assert_close(other[name], factor * value, rtol=1e-5, atol=1e-6, msg=name)


@given(seed=SEEDS, down=st.integers(0, 7), right=st.integers(0, 7))
@settings(max_examples=5)
def test_translation_changes_nothing(fields, seed, down, right):
    clip = fields(seed, 1, 5, 1, 8, 8)
    one = FeatureExtractor().raw(clip)
    other = FeatureExtractor().raw(clip.roll((down, right), (-2, -1)))
    for name, value in one.items():
        assert_close(other[name], value, rtol=1e-9, atol=1e-9, msg=name)


def test_a_quarter_turn_flips_anisotropy_and_flow_alone(fields):
    clip = fields(5, 2, 5, 1, 8, 8)
    one, other = (FeatureExtractor().raw(u) for u in (clip, clip.rot90(1, (-2, -1))))
    for name, value in one.items():
        if "flow" in name:
            continue
        flips = "anisotropy" in name and not name.endswith("std")
        assert_close(other[name], -value if flips else value, rtol=1e-9, atol=1e-9, msg=name)
    assert_close(other["summary/flow_y"], -one["summary/flow_x"])
    assert_close(other["summary/flow_x"], one["summary/flow_y"])


def test_a_finer_grid_gives_the_same_spectral_columns():
    coarse, fine = (
        FeatureExtractor().raw(wave(2, 3, side=n) + wave(4, -1, side=n)) for n in (16, 32)
    )
    for name in ("std", "gradient_rms", "centroid", "bandwidth", "share_4", "laplacian_rms"):
        key = f"temporal/{name}/mean"
        assert_close(coarse[key], fine[key], rtol=1e-9, atol=0)


def test_spectra_are_those_of_the_rest_of_the_package(fields):
    clip = fields(6, 1, 9, 1, 16, 16)
    raw = FeatureExtractor().raw(clip)
    energy = energy_spectrum(clip[0, :, 0, None]).energy[:, 1:]
    number = torch.arange(1, energy.shape[1] + 1, **DOUBLE)
    dominant = energy.pow(4) @ number / energy.pow(4).sum(1)
    assert_close(raw["temporal/dominant/mean"], dominant.mean()[None])
    found = temporal_spectrum(clip - clip.mean(1, keepdim=True), frame_interval=1.0)
    centroid = (found.energy * found.frequency).sum(1) / found.energy.sum(1)
    assert_close(raw["summary/temporal_centroid"], centroid)


@pytest.mark.parametrize("families", [("initial",), ("summary",), ("temporal",)])
def test_gradcheck_of_every_declared_column(fields, families):
    extractor = FeatureExtractor(families=families)
    clip = fields(7, 1, 4, 2, 8, 8).requires_grad_()

    def declared(values):
        raw = extractor.raw(values)
        kept = [v for name, v in raw.items() if not name.endswith("crossing_rate")]
        return torch.stack(kept, dim=-1)

    assert torch.autograd.gradcheck(declared, (clip,), fast_mode=True)


def test_gradients_are_there_exactly_where_declared(clips):
    extractor = FeatureExtractor(families=("initial", "summary")).fit(clips)
    clip = clips[:2].clone().requires_grad_()
    features = extractor(clip)
    assert extractor.differentiable == tuple("crossing" not in n for n in extractor.names)
    assert not all(extractor.differentiable)
    for column, declared in zip(features.unbind(1), extractor.differentiable, strict=True):
        found = None
        if column.requires_grad:
            found = torch.autograd.grad(column.sum(), clip, retain_graph=True, allow_unused=True)[0]
        assert (found is not None and bool((found != 0).any())) == declared


def test_equal_values_share_the_gradient_of_their_order():
    clip = torch.zeros(1, 4, 1, 8, 8, **DOUBLE).requires_grad_()
    raw = FeatureExtractor().raw(clip)
    (found,) = torch.autograd.grad(raw["temporal/max/mean"].sum(), clip)
    assert_close(found, torch.full_like(found, 1 / 4 / 64))


def test_a_constant_clip_is_finite_in_value_and_gradient():
    clip = torch.ones(1, 5, 2, 8, 8).requires_grad_()
    values = torch.stack(list(FeatureExtractor().raw(clip).values()))
    values.sum().backward()
    assert values.isfinite().all()
    assert clip.grad is not None
    assert clip.grad.isfinite().all()


def test_half_precision_is_computed_in_single(clips):
    half = clips[:1].bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = FeatureExtractor().raw(half)
    expected = FeatureExtractor().raw(half.float())
    assert all(torch.equal(got[name], value) for name, value in expected.items())


def test_fit_standardises_and_squashes(clips, fitted):
    features = fitted(clips)
    z = torch.atanh(features / 5) * 5
    assert_close(z.mean(0), torch.zeros(z.shape[1], **DOUBLE), atol=1e-9, rtol=0)
    assert_close(z.std(0, correction=0), torch.ones(z.shape[1], **DOUBLE))
    assert fitted(1e6 * clips).abs().max() <= 5


def test_no_column_knows_of_the_batch(clips, fitted):
    assert_close(fitted(clips)[3:4], fitted(clips[3:4]), rtol=1e-9, atol=1e-9)
    assert fitted(clips[:2]).abs().max() < 5  # a batch of two is no ±0.707


def test_fit_drops_what_repeats_or_does_not_vary(clips):
    still = clips.clone()
    still[:, 1:] = still[:, :1]  # nothing moves: no change between frames
    extractor = FeatureExtractor().fit(still)
    assert "temporal/std/change" in extractor.dropped
    assert extractor.dropped["temporal/std/change"].startswith("variance")
    # u₀ is every frame: the frames' mean repeats the initial state's
    assert extractor.dropped["temporal/std/mean"] == "|correlation| > 0.99 with initial/std"
    assert "initial/std" in extractor.names
    table = extractor.raw(still)
    assert {*extractor.names, *extractor.dropped} == set(table)
    kept = torch.stack([table[name] for name in extractor.names])
    correlation = torch.corrcoef(kept).abs() - torch.eye(len(kept), **DOUBLE)
    assert correlation.max() <= 0.99


def test_batches_fit_as_one_tensor(clips, fitted):
    other = FeatureExtractor().fit(iter(clips.split(5)))
    assert other.names == fitted.names
    assert_close(other(clips), fitted(clips), rtol=1e-6, atol=1e-9)
    starts = clips[:, 0] * 2
    pairs = FeatureExtractor().fit(zip(clips.split(5), starts.split(5), strict=True))
    assert_close(
        pairs(clips, starts),
        FeatureExtractor().fit(clips, starts)(clips, starts),
        rtol=1e-6,
        atol=0,
    )


def test_more_clips_than_are_read_at_once(fields):
    many = fields(9, 70, 4, 1, 8, 8)
    extractor = FeatureExtractor().fit(many)
    expected = torch.stack([extractor.raw(many)[name] for name in extractor.names]).mean(1)
    assert_close(extractor.state_dict()["fit"]["mean"], expected)
    starts = fields(10, 70, 1, 8, 8)
    other = FeatureExtractor().fit(many, starts)
    key = other.names.index("initial/std")
    mean = other.raw(many, starts)["initial/std"].mean()
    assert_close(other.state_dict()["fit"]["mean"][key], mean)


def test_categories_are_the_families(fitted):
    families = fitted.families
    assert list(families) == ["initial", "summary", "temporal"]
    assert sorted(n for places in families.values() for n in places) == [*range(len(fitted.names))]
    assert all(fitted.names[n].startswith("summary/") for n in families["summary"])


def test_the_version_is_that_of_the_definitions():
    # Change the definitions and this changes: files made before must be refused from then on.
    assert FeatureExtractor().version == "4fd5a87ec419480c"
    others = [
        FeatureExtractor(domain_length=2.0),
        FeatureExtractor(channels="each"),
        FeatureExtractor(families=("summary", "initial")),
    ]
    assert len({FeatureExtractor().version, *(other.version for other in others)}) == 4


def test_a_state_goes_through_a_file(clips, fitted):
    other = FeatureExtractor()
    other.load_state_dict(through_file(fitted.state_dict()))
    assert torch.equal(other(clips), fitted(clips))
    other.check_same(through_file(fitted.state_dict()))
    assert other.fingerprint == fitted.fingerprint


@pytest.mark.usefixtures("unchecked")
class TestRefused:
    """What would give other numbers under the same names."""

    def test_another_version_or_option(self, fitted):
        with pytest.raises(ValueError, match=r"domain_length: 1\.0, expected 2\.0"):
            FeatureExtractor(domain_length=2.0).load_state_dict(fitted.state_dict())
        altered = {**fitted.state_dict(), "version": "0"}
        with pytest.raises(ValueError, match="version: '0', expected"):
            FeatureExtractor().load_state_dict(altered)

    def test_a_normaliser_or_columns_of_others(self, clips, fitted):
        shifted = fitted.state_dict()
        shifted["fit"]["mean"] = shifted["fit"]["mean"].clone()
        shifted["fit"]["mean"][0] += 1e-12
        with pytest.raises(ValueError, match="mean: 1 of"):
            fitted.check_same(shifted)
        fewer = fitted.state_dict()
        fewer["fit"] |= {"kept": list(fitted.names[:1])}
        with pytest.raises(ValueError, match="kept: 1 columns"):
            fitted.check_same(fewer)
        with pytest.raises(ValueError, match="clip_length: None, expected 6"):
            fitted.check_same(FeatureExtractor().state_dict())
        fewer["fit"]["kept"] = ["summary/speeed"]
        with pytest.raises(ValueError, match="unknown columns: summary/speeed"):
            FeatureExtractor().load_state_dict(fewer)
        assert FeatureExtractor().fit(clips[:-1]).fingerprint != fitted.fingerprint

    def test_another_clip(self, clips, fitted):
        for clip in (clips[:, :5], clips[:, :, :1]):
            with pytest.raises(ValueError, match="nothing is padded or cut"):
                fitted(clip)
        with pytest.raises(ValueError, match=r"\(6, 2, True\), expected \(6, 2, False\)"):
            fitted(clips, clips[:, 0])
        with pytest.raises(ValueError, match="batches differ"):
            FeatureExtractor().fit([clips, clips[:, :5]])

    def test_before_fit(self, clips):
        with pytest.raises(ValueError, match="call fit"):
            FeatureExtractor()(clips)

    def test_bad_shapes_and_options(self, clips):
        with pytest.raises(ValueError, match=r"shape \(12, 3, 2, 8, 8\)"):
            FeatureExtractor().raw(clips[:, :3])
        with pytest.raises(ValueError, match="8 x 8"):
            FeatureExtractor().raw(clips[..., :7])
        with pytest.raises(ValueError, match="initial has shape"):
            FeatureExtractor().raw(clips, clips[:3, 0])
        with pytest.raises(ValueError, match="families='spatial'"):
            FeatureExtractor(families=("spatial",))
        with pytest.raises(ValueError, match="each once"):
            FeatureExtractor(families=("initial", "initial"))
        with pytest.raises(ValueError, match="domain_length"):
            FeatureExtractor(domain_length=0.0)
        with pytest.raises(ValueError, match="at least 2 clips"):
            FeatureExtractor().fit(clips[:1])

    def test_what_is_not_finite(self, clips):
        broken = clips.clone()
        broken[3, 2, 0, 1, 1] = math.nan
        with pytest.raises(ValueError, match="of clip 3 is nan"):
            FeatureExtractor().fit(broken)
        extractor = FeatureExtractor().fit(clips)
        assert extractor(broken)[3].isnan().any()
        assert torch.equal(extractor(broken)[:3], extractor(clips)[:3])

    def test_nothing_varies(self):
        with pytest.raises(ValueError, match="no column varies"):
            FeatureExtractor().fit(torch.ones(3, 4, 1, 8, 8))


def test_initial_states_are_one_for_each_clip():
    clips = torch.randn(4, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="3 initial states for 4 clips"):
        FeatureExtractor().fit(clips, clips[:3, 0])
