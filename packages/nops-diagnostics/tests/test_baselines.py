"""PCA and oracle: a peer, a table of measured data, maps that can be inverted."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_diagnostics import oracle_fit, pca_baseline
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)
MATRIX = torch.tensor([[1.0, 0.2], [0.0, 2.0], [0.5, -1.0]], dtype=torch.float64)


class TestPCA:
    @given(seed=seeds)
    def test_it_is_the_truncated_decomposition(self, fields, seed):
        train, test = fields(seed, 30, 5) @ fields(seed + 1, 5, 5), fields(seed + 2, 7, 5)
        got = pca_baseline(train, test, ranks=range(6))
        right = torch.linalg.svd(train - train.mean(0), full_matrices=False).Vh
        for k in range(6):
            change = test - train.mean(0)
            left = change - change @ right[:k].mT @ right[:k]
            assert got[k] == pytest.approx(left.square().sum(1).mean().item(), rel=1e-9, abs=1e-20)
        assert list(got.values()) == sorted(got.values(), reverse=True)
        assert got[5] < 1e-20

    def test_by_hand(self):
        train = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) + 1
        test = torch.tensor([[3.0, 5.0], [1.0, 2.0]])
        # around (1, 1): (2, 4) and (0, 1); the first component is the first axis
        assert pca_baseline(train, test, ranks=[0, 1, 2]) == pytest.approx({0: 10.5, 1: 8.5, 2: 0})

    @pytest.mark.parametrize(
        ("name", "columns", "table"),
        [
            ("mogi", 36, {0: (51.8, 46.0), 4: (29.3, 20.0), 8: (20.2, 12.9)}),
            ("rtm", 11, {2: (1.35, 1.30), 4: (0.354, 0.307), 7: (0.053, 0.051), 9: (0.011, 0.010)}),
        ],
    )
    def test_the_table_of_measured_data(self, name, columns, table):
        if not (root := os.environ.get("NOPS_TEST_DATA")):
            pytest.skip("NOPS_TEST_DATA is not set: no measured displacements and spectra")
        parts = {
            part: torch.from_numpy(
                np.loadtxt(
                    Path(root) / "phys_smpl" / name / f"{part}.csv",
                    delimiter=",",
                    skiprows=1,
                    usecols=range(columns),
                )
            )
            for part in ("train", "valid", "test")
        }
        for index, part in enumerate(("valid", "test")):
            got = pca_baseline(parts["train"], parts[part], ranks=list(table))
            for k, values in table.items():
                digits = len(str(values[index]).partition(".")[2])  # as many as the table gives
                assert got[k] == pytest.approx(values[index], abs=0.51 * 10.0**-digits)

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize(
        ("shapes", "ranks", "says"),
        [
            (((4, 3), (4, 2)), [1], "expected .sample, feature. with the same features"),
            (((4, 3), (0, 3)), [1], "expected"),
            (((2, 3), (4, 3)), [1, 3], r"ranks \[3\] are outside 0 to 2"),
            (((4, 3), (4, 3)), [-1], r"ranks \[-1\] are outside"),
        ],
    )
    def test_refuses(self, shapes, ranks, says):
        with pytest.raises(ValueError, match=says):
            pca_baseline(*map(torch.ones, shapes), ranks=ranks)
        with pytest.raises(ValueError, match="not finite"):
            pca_baseline(torch.ones(3, 2), torch.full((1, 2), math.nan), ranks=[0])


def point_source(stations):
    """Displacement in mm by a point source, [east, north, up], from its closed form; nu is 1/4."""
    low = torch.tensor([-9.33, -5.80, 2.0, -1e7], dtype=torch.float64)
    high = torch.tensor([14.35, 7.62, 20.0, 1e7], dtype=torch.float64)

    def decode(z):
        x, y, depth, volume = (low + (high - low) * z)[:, :, None].unbind(1)
        east, north = stations[:, 0] - x, stations[:, 1] - y
        distance = (east.square() + north.square() + depth.square()).sqrt()
        strength = 0.75 * volume / math.pi / 1e3 / distance**3  # m^3 and km give mm
        return torch.cat((strength * east, strength * north, strength * depth), dim=1)

    return decode


@pytest.mark.nightly
def test_the_best_point_source_for_measured_displacements():
    """Our measurement on these files: 30.4 and 24.4, medians 25.8 and 19.5."""
    if not (root := os.environ.get("NOPS_TEST_DATA")):
        pytest.skip("NOPS_TEST_DATA is not set: no measured displacements")
    folder = Path(root) / "phys_smpl" / "mogi"
    places = json.loads((folder / "station_info.json").read_text())
    stations = torch.tensor([[p["xE"], p["yN"]] for p in places.values()], dtype=torch.float64)
    mean, scale = (
        torch.from_numpy(np.load(folder / f"train_x_{n}.npy")) for n in ("mean", "scale")
    )
    decode = point_source(stations)
    for part, error, median in (("valid", 30.4, 25.8), ("test", 24.4, 19.5)):
        x = torch.from_numpy(
            np.loadtxt(folder / f"{part}.csv", delimiter=",", skiprows=1, usecols=range(36))
        )
        got = oracle_fit(lambda z: (decode(z) - mean) / scale, x, dim=4).error
        assert got.mean().item() == pytest.approx(error, rel=0.02)
        assert got.median().item() == pytest.approx(median, rel=0.02)


class TestOracle:
    def test_it_inverts_a_linear_map(self, fields):
        z = torch.tensor([[0.2, 0.7], [0.5, 0.1], [0.9, 0.95]], dtype=torch.float64)
        got = oracle_fit(lambda z: z @ MATRIX.mT, z @ MATRIX.mT, dim=2, starts=2, steps=400)
        assert_close(got.z, z, rtol=0, atol=3e-3)  # Adam's rate stays, so the last digits move
        assert got.error.max() < 1e-5
        assert_close(got.pred, got.z @ MATRIX.mT)

    def test_noisy_data_have_the_least_squares_solution(self, fields):
        x = torch.tensor([[0.5, 0.4]], dtype=torch.float64) @ MATRIX.mT + 0.05 * fields(0, 20, 3)
        got = oracle_fit(lambda z: z @ MATRIX.mT, x, dim=2, starts=2, steps=400)
        best = torch.linalg.lstsq(MATRIX, x.mT).solution.mT
        assert ((best > 0) & (best < 1)).all()
        assert_close(got.z, best, rtol=0, atol=2e-3)
        assert_close(got.error, (best @ MATRIX.mT - x).square().sum(1), rtol=1e-3, atol=1e-6)
        assert_close(got.error, (got.pred - x).square().sum(1))

    def test_what_lies_outside_is_fitted_at_the_bound(self):
        x = torch.tensor([[2.0], [-1.0]])
        got = oracle_fit(lambda z: z, x, dim=1, starts=1, steps=600, lr=0.1)
        assert got.z.tolist() == [pytest.approx([1.0], abs=3e-3), pytest.approx([0.0], abs=3e-3)]
        assert ((got.z > 0) & (got.z < 1)).all()
        assert_close(got.error, torch.ones(2), rtol=0.01, atol=0)

    def test_more_starts_find_the_right_valley(self):
        def decode(z):  # three valleys, of which one is deeper
            return torch.cat([torch.cos(6 * math.pi * z), 0.3 * z], 1)

        z = torch.linspace(0.1, 0.9, 17, dtype=torch.float64)[:, None]
        one, many = (oracle_fit(decode, decode(z), dim=1, starts=n, steps=120) for n in (1, 12))
        assert one.error.max() > 1e-3
        assert many.error.max() < 1e-4
        assert (many.error <= one.error).all()

    def test_observations_do_not_meet(self, fields):
        x = fields(0, 4, 3).sigmoid()
        whole = oracle_fit(lambda z: z @ MATRIX.mT, x, dim=2, starts=2, steps=50)
        alone = oracle_fit(lambda z: z @ MATRIX.mT, x[2:3], dim=2, starts=2, steps=50)
        assert_close(alone.z, whole.z[2:3])

    def test_a_model_that_fails_somewhere(self):
        def decode(z):  # not a number where z is large
            return torch.where(z > 0.6, torch.full_like(z, math.nan), z)

        got = oracle_fit(decode, torch.tensor([[0.3]]), dim=1, starts=4, steps=100)
        assert got.error.item() < 1e-3

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"starts": 0}, "need dim, starts, steps >= 1"),
            ({"lr": 0.0}, "need dim, starts, steps >= 1 and lr > 0"),
            ({"x": torch.full((2, 1), math.nan)}, "x holds values that are not finite"),
            ({"decode": lambda z: z[:1]}, r"decode gave \(1, 1\), x has \(2, 1\)"),
            ({"decode": lambda z: z / 0}, r"no finite error for the observations \[0, 1\]"),
        ],
    )
    def test_refuses(self, options, says):
        given = {"decode": lambda z: z, "x": torch.ones(2, 1), "dim": 1, "steps": 2, **options}
        with pytest.raises(ValueError, match=says):
            oracle_fit(given.pop("decode"), given.pop("x"), **given)
