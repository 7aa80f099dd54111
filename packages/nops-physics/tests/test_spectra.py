"""Files of optical constants and band responses: what is read, and what is refused."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch
from nops_physics import SentinelBands, SpectraNotFound, load_spectra
from nops_physics._leaf_angles import gauss_legendre
from torch.testing import assert_close

HEADER = ["lambda", "nrefrac", "sac_chl", "sac_car", "sac_ant", "sac_brown", "sac_ewt", "sac_lma"]
PRO = ["sac_prot", "sac_cbc"]


def write(path, header, *, first=400, count=2101, separator="\t", **cells):
    """A table of ones; `cells` are texts by row and column, as r2_sac_chl (the header is row 1)."""
    lines = [separator.join(header)]
    for i in range(count):
        row = [str(first + i)] + ["1.0"] * (len(header) - 1)
        for key, text in cells.items():
            number, column = key[1:].split("_", 1)
            if int(number) == i + 2:
                row[header.index(column)] = text
        lines.append(separator.join(row))
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("separator", ["\t", " ", ",", " , "])
def test_a_table_is_read_whatever_splits_it(tmp_path, separator):
    path = write(tmp_path / "a.txt", HEADER, separator=separator, r3_sac_chl="0.25")
    got = load_spectra(path)
    assert got.source == str(path)
    assert got.absorption.keys() == {"cab", "car", "anth", "cbrown", "cw", "cm"}
    assert got.absorption["cab"][:3].tolist() == [1.0, 0.25, 1.0]
    assert got.refractive_index.shape == (2101,)


def test_proteins_may_stand_beside_or_in_place_of_dry_matter(tmp_path):
    assert "prot" in load_spectra(write(tmp_path / "a.txt", HEADER + PRO)).absorption
    only = load_spectra(write(tmp_path / "b.txt", HEADER[:-1] + PRO)).absorption
    assert only.keys() >= {"prot", "cbc"}
    assert "cm" not in only


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"first": 401}, "row 2, column 1 is 401 nm, expected 400"),
        ({"r9_lambda": "406.5"}, "row 9, column 1 is 406.5 nm, expected 407"),
        ({"count": 2100}, "row 2101 is the last of 2100 wavelengths, expected 400 to 2500"),
        ({"r7_sac_ant": "nan"}, "row 7, column 'sac_ant' is 'nan', expected a finite number"),
        ({"r7_sac_ant": "x"}, "row 7, column 'sac_ant' is 'x'"),
        ({"r7_sac_ant": "1 2"}, "row 7 has 9 values, expected 8"),
    ],
)
def test_a_bad_table_is_refused_by_row_and_column(tmp_path, change, expected):
    path = write(tmp_path / "bad.txt", HEADER, **change)
    with pytest.raises(ValueError, match=rf"bad.txt: {expected}"):
        load_spectra(path)


@pytest.mark.parametrize("lost", HEADER[1:])
def test_a_missing_column_is_named(tmp_path, lost):
    path = write(tmp_path / "bad.txt", [name for name in HEADER if name != lost])
    with pytest.raises(ValueError, match=f"column '{lost}' is missing, found lambda"):
        load_spectra(path)


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none.txt: cannot be read"):
        load_spectra(tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match=r"row 1 needs column names.*'lambda', found ''"):
        load_spectra(tmp_path / "empty.txt")


def test_without_a_file_and_without_the_peer_advice_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "prosail", None)
    with pytest.raises(SpectraNotFound, match=r"--spectra FILE.*nops-physics\[prosail\] \(GPLv3\)"):
        load_spectra()


def test_constants_of_the_peer_are_read_by_its_names(monkeypatch):
    columns = ["nr", "kab", "kcar", "kbrown", "kw", "km", "kant"]
    constants = {name: [float(i)] * 2101 for i, name in enumerate(columns)}
    library = SimpleNamespace(prospectd=SimpleNamespace(**constants))
    monkeypatch.setitem(sys.modules, "prosail", SimpleNamespace(spectral_lib=library))
    got = load_spectra()
    assert got.source == "prosail"
    assert got.refractive_index[0] == 0
    firsts = {name: values[0].item() for name, values in got.absorption.items()}
    assert firsts == {"cab": 1, "car": 2, "cbrown": 3, "cw": 4, "cm": 5, "anth": 6}


def test_bands_keep_a_constant_and_average_a_line():
    for bands in (SentinelBands(), SentinelBands(sampling="full")):
        assert bands.names[0] == "B02"
        assert len(bands.names) == 11
        assert_close(bands.weights.sum(-1), torch.ones(11).double(), rtol=0, atol=1e-12)
        mean = bands(bands.wavelengths)
        assert (mean[0] - 492.4).abs() < 0.5
        assert (mean[-1] - 2202.4).abs() < 0.5
    assert len(SentinelBands().wavelengths) == 110


def test_a_response_by_hand():
    """B05: centre 704.1, width 15. At 711 nm: exp(-ln 2 (13.8/15)^6) = 0.6569; 714 is the last."""
    bands = SentinelBands(["B05"], sampling="full")
    place = bands.wavelengths.tolist().index(711.0)
    top = bands.wavelengths.tolist().index(704.0)
    ratio = (bands.weights[0, place] / bands.weights[0, top]).item()
    assert ratio == pytest.approx(math.exp(-math.log(2) * (13.8 / 15) ** 6), rel=1e-9)
    assert bands.wavelengths[-1] == 714.0  # (2 * 10.9 / 15)^6 ln 2 = 6.5 > ln 100: 715 is left out


def test_quadrature_is_exact_for_polynomials_of_the_cumulative_response():
    """For a flat response over 100 nm, nodes integrate x^3 over it as Gauss does."""
    nodes, weights = gauss_legendre(10)
    assert weights.sum().item() == pytest.approx(1.0, abs=1e-14)
    assert (weights * nodes**19).sum().item() == pytest.approx(1 / 20, abs=1e-14)


def test_quadrature_follows_the_sum_over_whole_nm():
    full, few = SentinelBands(sampling="full"), SentinelBands()

    def curve(nm):
        return 0.3 + 0.2 * torch.sin(nm / 120)

    assert_close(few(curve(few.wavelengths)), full(curve(full.wavelengths)), rtol=0, atol=1e-4)
    coarse = SentinelBands(nodes=2)
    assert (coarse(curve(coarse.wavelengths)) - full(curve(full.wavelengths))).abs().max() > 1e-4


def test_responses_of_a_file(tmp_path):
    path = tmp_path / "srf.csv"
    path.write_text("wavelength,Q1,Q2\n500,1,0\n501,1,1\n502,2,0\n")
    bands = SentinelBands(["Q2", "Q1"], sampling="full", file=path)
    assert bands.wavelengths.tolist() == [500.0, 501.0, 502.0]
    assert bands.weights.tolist() == [[0.0, 1.0, 0.0], [0.25, 0.25, 0.5]]
    few = SentinelBands(["Q2"], nodes=3, file=path)  # stands for 500.5 to 501.5
    assert few(few.wavelengths).item() == pytest.approx(501.0, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nm,Q1\n500,1\n", "beginning with 'wavelength', found 'nm Q1'"),
        ("wavelength,Q1\n500,1\n502,1\n", "row 3, column 1 is 502 nm, expected 501"),
        ("wavelength,Q1\n399,1\n400,1\n", r"from \[399.0\] to \[400.0\], expected some within"),
        ("wavelength,Q1\n500,0\n", "column 'Q1' needs values from 0 on"),
        ("wavelength,Q1\n", "0 wavelengths"),
    ],
)
def test_bad_responses_are_refused(tmp_path, text, expected):
    path = tmp_path / "srf.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=expected):
        SentinelBands(["Q1"], file=path)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: SentinelBands(["B02", "B02"]), "each once"),
        (lambda: SentinelBands(["B99"]), "B01, B02.*; got B99"),
        (lambda: SentinelBands([]), "names"),
        (lambda: SentinelBands(nodes=0), "nodes >= 1, got 'quadrature', 0"),
        (lambda: SentinelBands()(torch.zeros(3, 5)), r"needs 110 wavelengths, got \(3, 5\)"),
    ],
)
def test_bad_options_are_refused(make, expected):
    with pytest.raises(ValueError, match=expected):
        make()
