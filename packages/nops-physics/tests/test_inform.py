"""INFORM: golden values, fractions of ground, limits, precision and refusals."""

import sys

import pytest
import torch
from nops_physics import FourSail, Inform, Prospect, SentinelBands, SpectraNotFound
from nops_physics._inform import ground_fractions
from torch.testing import assert_close

CENTRE = torch.tensor([[2.0, 45.0, 0.0105, 0.0275, 2.0, 1.5, 0.55]], dtype=torch.float64)
SCALE = torch.tensor([1.0, 50.0, 0.01, 0.03, 2.0, 1.5, 0.5], dtype=torch.float64)


@pytest.fixture(scope="module")
def model(spectra):
    return Inform(spectra=spectra)


def draws(model, count, seed=0):
    low, high = model.bounds.double().unbind(-1)
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(count, len(low), dtype=torch.float64, generator=generator)
    return low + (high - low) * unit


def angles(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(3, count, dtype=torch.float64, generator=generator)
    return {"tts": 70 * unit[0], "tto": 30 * unit[1], "psi": 180 * unit[2]}


def fractions(cover, tts, tto, distance):
    numbers = [torch.tensor(value, dtype=torch.float64) for value in (cover, tts, tto, distance)]
    return ground_fractions(*numbers, stem_density=500.0)


def test_golden(real_spectra):
    bands = SentinelBands(sampling="full")
    got = Inform(spectra=real_spectra, bands=bands)(CENTRE)[0]
    expected = [0.02822, 0.04635, 0.02696, 0.06993, 0.17927, 0.21439]
    expected += [0.22278, 0.22734, 0.23108, 0.14024, 0.06324]
    assert_close(got, torch.tensor(expected).double(), rtol=0, atol=6e-6)


def test_fractions_golden_and_sum():
    """fc 0.55, sun at 30 degrees, view overhead: distance tan 30."""
    shares = fractions(0.55, 30.0, 0.0, 3**-0.5)
    expected = [0.219081, 0.203969, 0.251028, 0.325921]
    assert [share.item() for share in shares] == pytest.approx(expected, abs=6e-7)
    for case in ((0.1, 0.0, 0.0, 0.0), (1.0, 70.0, 30.0, 3.0), (1e-4, 10.0, 5.0, 0.1)):
        shares = torch.stack(fractions(*case))
        assert shares.sum().item() == pytest.approx(1.0, abs=1e-15)
        assert (shares >= 0).all()


def test_seen_along_the_sun_no_open_ground_is_in_shade():
    shares = fractions(0.5, 30.0, 30.0, 0.0)
    assert shares.open_shaded.item() == pytest.approx(0.0, abs=1e-16)
    assert shares.crown_lit.item() == pytest.approx(0.0, abs=1e-16)


def undergrowth(spectra, bands, rows):
    """The layer of leaf area LAIu over the soil, from the two public models."""
    leaf = Prospect(spectra, wavelengths=bands.wavelengths).leaf(
        N=rows[:, 0], cab=rows[:, 1], cw=rows[:, 2], cm=rows[:, 3], car=10.0, anth=2.0, cbrown=0.25
    )
    layer = FourSail()(*leaf, lai=rows[:, 5])
    return bands(FourSail.over_soil(layer, bands.wavelengths.sqrt() / 100))


def test_without_crowns_the_undergrowth_is_seen(model, spectra):
    below = undergrowth(spectra, model.bands, CENTRE)
    thin, sparse = CENTRE.clone(), CENTRE.clone()
    thin[0, 4], sparse[0, 6] = 1e-4, 1e-7
    assert 0 < (model(thin) - below).abs().max() < 1e-5
    assert 0 < (model(sparse) - below).abs().max() < 1e-5
    assert (model(CENTRE) - below).abs().max() > 1e-3


def test_without_any_leaves_the_soil_is_seen(spectra):
    soil = torch.linspace(0.1, 0.4, 2101, dtype=torch.float64)
    bare = Inform(spectra=spectra, soil=soil)
    rows = CENTRE.clone()
    rows[0, 4:6] = 0
    nm = bare.bands.wavelengths
    expected = bare.bands(0.1 + 0.3 * (nm - 400) / 2100)
    assert_close(bare(rows)[0], expected, rtol=0, atol=1e-13)


def test_leaf_area_of_crowns_matters(real_spectra):
    """Over its range it moves a band by more than 1.5 standard deviations of the draws."""
    model = Inform(spectra=real_spectra)
    with torch.no_grad():
        deviation = model(draws(model, 500)).std(0)
        rows = CENTRE.repeat(2, 1)
        rows[:, 4] = torch.tensor([0.01, 5.0])
        moved = (model(rows).diff(dim=0)[0] / deviation).abs()
    assert moved.max() > 1.5


def test_quadrature_follows_whole_nm(real_spectra):
    full = Inform(spectra=real_spectra, bands=SentinelBands(sampling="full"))
    few = Inform(spectra=real_spectra)
    rows, seen = draws(few, 200), angles(200)
    with torch.no_grad():
        assert (few(rows, seen) - full(rows, seen)).abs().max() < 1e-4


def test_float32_follows_float64(model):
    rows = draws(model, 200).float()
    seen = {name: value.float() for name, value in angles(200).items()}
    double = {name: value.double() for name, value in seen.items()}
    assert_close(model(rows, seen).double(), model(rows.double(), double), rtol=0, atol=1e-6)
    half = model(rows.half())
    assert half.dtype == torch.float16
    assert_close(half, model(rows.half().float()).half(), rtol=0, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(model(rows), model(rows.clone()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("tts", "tto", "plates"), [(30.0, 12.0, 1.8), (30.0, 30.0, 1.8), (30.0, 12.0, 1.0)]
)
def test_gradients_agree_with_differences(spectra, tts, tto, plates):
    small = Inform(spectra=spectra, bands=SentinelBands(["B03", "B8A", "B11"], nodes=2))
    unit = CENTRE[0] / SCALE
    unit[0] = plates + 1e-5  # a step does not go below one plate
    seen = {"tts": torch.tensor(tts).double(), "tto": torch.tensor(tto).double()}

    def reflectance(parameters, sun, view):
        return small(parameters * SCALE, {"tts": sun, "tto": view})

    inputs = tuple(value.requires_grad_() for value in (unit, seen["tts"], seen["tto"]))
    assert torch.autograd.gradcheck(reflectance, inputs, atol=1e-5)


def test_gradients_are_finite_with_sun_and_view_overhead(model):
    rows = draws(model, 8).requires_grad_()
    seen = {
        name: torch.zeros(8, dtype=torch.float64, requires_grad=True) for name in model.input_names
    }
    model(rows, seen).sum().backward()
    assert rows.grad.isfinite().all()
    assert all(value.grad.isfinite().all() for value in seen.values())


def test_batches_in_any_order_and_changing_angles_give_the_same_rows(model):
    rows, seen = draws(model, 256), angles(256)
    many = model(rows, seen)
    for i in (0, 100):
        one = model(rows[i], {name: value[i] for name, value in seen.items()})
        assert_close(one, many[i], rtol=0, atol=1e-13)
    three = model(rows[:3], {name: value[:3] for name, value in seen.items()})
    assert_close(three, many[:3], rtol=0, atol=1e-13)
    assert (model(rows[:3]) - three).abs().max() > 1e-3
    assert_close(
        model(rows[:6].reshape(2, 3, 7)).reshape(6, -1), model(rows[:6]), rtol=0, atol=1e-13
    )
    assert_close(torch.func.vmap(model)(rows[:4]), model(rows[:4]), rtol=0, atol=1e-13)


def test_inputs_left_out_take_their_defaults(spectra, model):
    given = {"tts": torch.tensor(30.0), "tto": torch.tensor(0.0), "psi": torch.tensor(0.0)}
    assert_close(model(CENTRE), model(CENTRE, given), rtol=0, atol=0)
    low = Inform(spectra=spectra, fixed={"tts": 55.0, "car": 5.0})
    assert low.input_defaults == (55.0, 0.0, 0.0)
    assert (low(CENTRE, given) - model(CENTRE)).abs().max() > 1e-4  # carotenoids


def test_it_declares_itself(model, pro_spectra):
    assert model.parameter_names == ("N", "cab", "cw", "cm", "LAI", "LAIu", "fc")
    assert model.bounds[6].tolist() == pytest.approx([0.1, 1.0])
    assert model.input_names == ("tts", "tto", "psi")
    assert model.input_bounds.shape == (3, 2)
    assert model.output_names[-3:] == ("B09", "B11", "B12")
    assert len(model.output_units) == 11
    assert not any("absorption" in name for name in model.state_dict())
    pro = Inform(spectra=pro_spectra, version="PRO")
    assert pro.parameter_names == ("N", "cab", "cw", "prot", "cbc", "LAI", "LAIu", "fc")
    assert pro(draws(pro, 3)).isfinite().all()


def test_trees_per_hectare_change_shadows_only_through_their_form(spectra, model):
    many = Inform(spectra=spectra, stem_density=5000.0)
    assert 0 < (many(CENTRE) - model(CENTRE)).abs().max() < 0.05


def test_without_constants_advice_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "prosail", None)
    with pytest.raises(SpectraNotFound, match=r"dataSpec_PRO_v2\.txt"):
        Inform()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"version": "PRO"}, "'PRO' needs prot, cbc, which the constants of formulas lack"),
        ({"stem_density": 0.0}, "stem_density"),
        ({"soil": torch.zeros(11)}, r"2101 reflectances.*\(11,\)"),
        ({"soil": torch.full((2101,), 1.5)}, "from 0 to 1.* from 1.5"),
        ({"fixed": {"cab": 40.0}}, r"unknown \['cab'\], expected some of car, anth"),
        ({"fixed": {"tts": 95.0}}, "'tts' is 95"),
        ({"bounds": {"N": (1, 2)}}, r"missing \['LAI', 'LAIu', 'cab'"),
    ],
)
def test_bad_options_are_refused(spectra, options, expected):
    with pytest.raises(ValueError, match=expected):
        Inform(spectra=spectra, **options)


def test_dry_matter_is_not_counted_twice(pro_spectra):
    with pytest.raises(ValueError, match=r"cm is 0.01 .* counted twice"):
        Inform(spectra=pro_spectra, version="PRO", fixed={"cm": 0.01})


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [(0, 0.5, "'N' is 0.5"), (4, -1.0, "'LAI' is -1"), (6, 0.0, "'fc' is 0, expected above 0")],
)
def test_values_without_meaning_are_refused(model, column, value, expected):
    rows = CENTRE.repeat(3, 1)
    rows[1, column] = value
    with pytest.raises(ValueError, match=expected):
        model(rows)


def test_wrong_inputs_are_refused(model):
    with pytest.raises(ValueError, match=r"'tts' needs the shape \(1,\), got \(4,\)"):
        model(CENTRE, {"tts": torch.full((4,), 30.0)})
    with pytest.raises(ValueError, match=r"unknown inputs \['sza'\], known: tts, tto, psi"):
        model(CENTRE, {"sza": torch.tensor(30.0)})
