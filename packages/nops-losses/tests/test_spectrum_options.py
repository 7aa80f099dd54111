"""Estimators, bins, components, masks and windows of `energy_spectrum`."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from nops_losses import energy_spectrum
from scipy.stats import binned_statistic
from torch.testing import assert_close

TURN = 2 * math.pi
GRIDS = [
    ((16,), (3.0,)),
    ((16, 8), (TURN, TURN)),
    ((8, 16), (12.0, 6.0)),
    ((15, 9), (2.0, 5.0)),
    ((6, 8, 5), (1.0, 2.0, 0.7)),
    ((15, 17, 19), (2.0, 1.0, 3.0)),
]


def all_modes(field, lengths):
    """|k| and ½|F|² of every mode of the complex transform, in NumPy."""
    sizes = field.shape[1:]
    spacings = [TURN / length for length in lengths]
    numbers = [np.fft.fftfreq(n, 1 / n) * step for n, step in zip(sizes, spacings, strict=True)]
    radius = np.sqrt(sum(np.square(k) for k in np.meshgrid(*numbers, indexing="ij")))
    power = 0.5 * np.abs(np.fft.fftn(field, axes=range(1, field.ndim), norm="forward")) ** 2
    return radius, power.sum(0), max(spacings)


class TestPeers:
    @pytest.mark.parametrize(("sizes", "lengths"), GRIDS)
    def test_linear_shells_are_scipy_s(self, fields, sizes, lengths):
        field = fields(0, 2, *sizes)
        got = energy_spectrum(field, lengths=lengths, spatial_dims=len(sizes))
        radius, power, spacing = all_modes(field.numpy(), lengths)
        edges = (np.arange(got.energy.numel() + 1) - 0.5) * spacing
        raised = radius.ravel() + 1e-9 * spacing  # ties go up
        expected, _, _ = binned_statistic(raised, power.ravel(), "sum", bins=edges)
        np.testing.assert_allclose(got.energy, expected, rtol=1e-12, atol=1e-18)
        np.testing.assert_allclose(got.wavenumber, (edges[1:] + edges[:-1]) / 2, atol=1e-12)

    @pytest.mark.parametrize(("sizes", "lengths"), GRIDS)
    def test_edges_are_scipy_s(self, fields, sizes, lengths):
        field = fields(1, 2, *sizes)
        radius, power, spacing = all_modes(field.numpy(), lengths)
        edges = [0.55 * spacing, 1.3 * spacing, 2.05 * spacing, 2.97 * spacing]
        got = energy_spectrum(field, lengths=lengths, bins=edges, spatial_dims=len(sizes))
        expected, _, _ = binned_statistic(radius.ravel(), power.ravel(), "sum", bins=edges)
        np.testing.assert_allclose(got.energy, expected, rtol=1e-12, atol=1e-18)
        np.testing.assert_allclose(got.wavenumber, np.mean([edges[1:], edges[:-1]], 0))

    @pytest.mark.parametrize(("sizes", "lengths"), GRIDS)
    def test_mean_estimator_is_scipy_s_mean_times_the_expected_number(self, fields, sizes, lengths):
        dims = len(sizes)
        field = fields(2, 1, *sizes)
        got = energy_spectrum(field, lengths=lengths, estimator="mean", spatial_dims=dims)
        radius, power, spacing = all_modes(field.numpy(), lengths)
        edges = (np.arange(got.energy.numel() + 1) - 0.5) * spacing
        raised = radius.ravel() + 1e-9 * spacing
        mean, _, _ = binned_statistic(raised, power.ravel(), "mean", bins=edges)
        k = got.wavenumber.numpy()
        number = {1: 2.0, 2: TURN * k, 3: 2 * TURN * k**2}[dims]
        number = number * spacing / math.prod(TURN / length for length in lengths)
        expected = mean * number
        expected[0] = power[radius < (0.5 - 1e-9) * spacing].sum()  # shell 0 stays a sum
        np.testing.assert_allclose(got.energy, expected, rtol=1e-12, atol=1e-18)

    def test_the_well_s_power_spectrum(self, fields):
        """Its definition, afresh: mean of |fftn|² over bins of 2π fftfreq(n, spacing), upper edge
        excluded, every channel alone; times count / n⁴ it is our energy twice."""
        n, spacing = 20, 0.3
        field = fields(3, 2, n, n)
        edges = np.linspace(0, 1.001 * math.pi / spacing, 7)  # no mode on an edge but 0
        k = TURN * np.fft.fftfreq(n, d=spacing)
        radius = np.hypot(k[:, None], k[None, :])
        power = np.abs(np.fft.fftn(field.numpy(), axes=(1, 2))) ** 2
        inside = [(low <= radius) & (radius < high) for low, high in pairwise(edges)]
        mean = np.stack([power[:, cells].mean(-1) for cells in inside], -1)
        counts = np.array([cells.sum() for cells in inside])
        box = (n * spacing,) * 2
        got = energy_spectrum(field, lengths=box, bins=edges.tolist(), components="each")
        np.testing.assert_allclose(got.energy.numpy(), mean * counts / (2 * n**4), rtol=1e-12)


class TestBins:
    @pytest.mark.parametrize("sizes", [(64,), (64, 48), (33, 20, 16)])
    def test_log_bins_add_up_linear_shells(self, fields, sizes):
        field = fields(0, 2, *sizes)
        shells = energy_spectrum(field, spatial_dims=len(sizes))
        merged = energy_spectrum(field, bins="log", spatial_dims=len(sizes))
        assert_close(merged.energy.sum(), shells.energy.sum(), rtol=1e-13, atol=0)
        alone = 12  # 8 log2(13/12) < 1: from 12 on shells share a bin
        assert torch.equal(merged.wavenumber[:alone], shells.wavenumber[:alone])
        assert_close(merged.energy[:alone], shells.energy[:alone], rtol=0, atol=0)
        assert len(merged.energy) < len(shells.energy)

    def test_log_bins_are_about_eight_per_octave(self, fields):
        k = energy_spectrum(fields(0, 1, 1024), bins="log", spatial_dims=1).wavenumber
        for octave in (16, 32, 64, 128, 256):
            assert 7 <= int(((k >= octave) & (k < 2 * octave)).sum()) <= 9

    def test_edges_hold_from_the_lower_one_on_and_drop_the_rest(self, grid):
        x1, x2 = grid(16, 16)
        field = 0.5 + (2 * x1).cos() + 2 * (4 * x2).cos() + 3 * (6 * x1).cos()
        got = energy_spectrum(field[None], bins=[2, 4, 6])
        # ½⟨u²⟩ of each wave is a²/4: 2 lies in [2, 4), 4 in [4, 6), the mean and 6 in none
        assert_close(got.energy, torch.tensor([0.25, 1.0], dtype=torch.float64))
        assert got.wavenumber.tolist() == [3, 5]

    def test_edges_from_zero_hold_the_mean_as_it_is(self, grid):
        x1, _ = grid(16, 16)
        field = (0.5 + x1.cos())[None]
        for estimator in ("sum", "mean"):
            got = energy_spectrum(field, bins=[0, 1, 3], estimator=estimator)
            assert got.energy[0].item() == pytest.approx(0.125, rel=1e-14)

    @pytest.mark.parametrize("dims", [1, 2, 3])
    def test_linear_edges_are_linear_shells(self, fields, dims):
        field = fields(0, 2, *(8, 9, 10)[:dims])
        shells = energy_spectrum(field, spatial_dims=dims)
        edges = [0, *(shells.wavenumber + 0.5).tolist()]
        same = energy_spectrum(field, bins=edges, spatial_dims=dims)
        assert_close(same.energy, shells.energy, rtol=0, atol=0)

    def test_mean_estimator_takes_the_ripple_of_the_lattice_away(self, fields):
        # White noise has k modes' energy on average: E/k is flat but for the count of modes.
        field = fields(0, 64, 1, 32, 32)
        for estimator, low, high in (("sum", 0.1, 0.2), ("mean", 0.0, 0.05)):
            k, energy = energy_spectrum(field, estimator=estimator)
            flat = (energy.mean(0) / k)[1:16]
            assert low < float((flat.max() - flat.min()) / flat.mean() / 4) < high

    def test_mean_estimator_in_log_bins_expects_what_its_shells_do(self, fields):
        field = torch.zeros(1, 64, 64, dtype=torch.float64)
        field[0, 0, 0] = 64.0**2  # |F|² = 1 in every mode, so energy is half the expected number
        k, energy = energy_spectrum(field, estimator="mean")
        assert_close(energy[1:], math.pi * k[1:])
        merged = energy_spectrum(field, estimator="mean", bins="log")
        assert_close(merged.energy.sum(), energy.sum())


class TestComponents:
    def test_each_keeps_the_channels(self, fields):
        field = fields(0, 2, 3, 8, 9)
        each = energy_spectrum(field, components="each").energy
        assert each.shape[:2] == (2, 3)
        assert_close(each.sum(1), energy_spectrum(field).energy, rtol=1e-13, atol=0)
        assert_close(each[1, 2], energy_spectrum(field[1, 2:]).energy, rtol=1e-13, atol=0)


class TestMask:
    def test_walls_get_the_mean_of_the_fluid(self, fields):
        field = fields(0, 2, 2, 8, 8)
        mask = torch.ones(8, 8, dtype=torch.bool)
        mask[2:4, 3:] = False
        filled = field.clone()
        for sample in filled.flatten(0, 1):
            sample[~mask] = sample[mask].mean()
        field[..., ~mask] = math.nan
        got = energy_spectrum(field, mask=mask).energy
        assert_close(got, energy_spectrum(filled).energy, rtol=1e-13, atol=1e-18)

    def test_cells_of_walls_get_no_gradient(self, fields):
        field = fields(1, 1, 8, 8).requires_grad_()
        mask = fields(2, 8, 8) > -0.5
        energy_spectrum(field, mask=mask).energy[1:4].sum().backward()
        assert not field.grad[:, ~mask].any()
        assert field.grad[:, mask].all()

    def test_a_field_without_fluid_is_zero(self, fields):
        energy = energy_spectrum(fields(0, 1, 8, 8), mask=torch.zeros(8, 8, dtype=torch.bool))
        assert not energy.energy.any()


class TestWindow:
    def test_hann_by_hand(self):
        # sin²(π(j + ½)/4) = (1 − ½√2)/2, (1 + ½√2)/2 twice, …; its mean square is 3/8. Of a
        # constant 1 the windowed mean is ½, hence energy ½ · ¼ / (3/8) = 1/3 in shell 0.
        field = torch.ones(1, 4, dtype=torch.float64)
        energy = energy_spectrum(field, window="hann", spatial_dims=1).energy
        assert_close(energy, torch.tensor([1 / 3, 1 / 6, 0], dtype=torch.float64))

    @pytest.mark.parametrize("window", ["hann", "tukey"])
    def test_energy_of_a_windowed_field(self, fields, window):
        field = fields(0, 2, 16, 9)
        x = [(torch.arange(n, dtype=torch.float64) + 0.5) / n for n in (16, 9)]
        taper = {"hann": 0.5, "tukey": 0.25}[window]
        profile = [
            torch.where(
                torch.minimum(a, 1 - a) < taper,
                0.5 - 0.5 * torch.cos(math.pi * torch.minimum(a, 1 - a) / taper),
                1.0,
            )
            for a in x
        ]
        square = torch.outer(*profile).square()
        expected = 0.5 * (field.square() * square).sum(0).mean() / square.mean()
        got = energy_spectrum(field, window=window).energy.sum()
        assert_close(got, expected, rtol=1e-13, atol=0)

    @pytest.mark.parametrize("window", ["hann", "tukey"])
    def test_a_mirrored_field_has_the_same_spectrum(self, fields, window):
        field = fields(0, 1, 12, 9)
        expected = energy_spectrum(field, window=window).energy
        for axis in (1, 2):
            assert_close(energy_spectrum(field.flip(axis), window=window).energy, expected)

    def test_a_window_stops_the_leak_of_a_field_that_is_not_periodic(self):
        x = torch.linspace(0, 1, 128, dtype=torch.float64)[None]
        plain = energy_spectrum(x, detrend="mean", spatial_dims=1).energy
        tapered = energy_spectrum(x, detrend="mean", window="hann", spatial_dims=1).energy
        assert tapered[30:].sum() < 1e-4 * plain[30:].sum()

    def test_detrend_takes_the_mean_of_each_channel(self, fields):
        field = fields(0, 2, 8, 8) + torch.tensor([3.0, -2.0]).view(2, 1, 1)
        energy = energy_spectrum(field, detrend="mean").energy
        assert energy[0] < 1e-25
        assert_close(energy[1:], energy_spectrum(field).energy[1:], rtol=1e-11, atol=0)


class TestMachinery:
    @pytest.mark.parametrize("bins", ["log", (0.5, 1.5, 3.0)])
    def test_derivatives_with_all_options(self, fields, bins):
        field = fields(0, 2, 4, 5).requires_grad_()
        mask = torch.ones(4, 5, dtype=torch.bool)
        mask[1, 2] = False

        def energy(u):
            options = {"mask": mask, "window": "tukey", "detrend": "mean"}
            return energy_spectrum(u, bins=bins, estimator="mean", **options).energy

        assert torch.autograd.gradcheck(energy, field)
        assert torch.autograd.gradgradcheck(energy, field)

    @pytest.mark.filterwarnings("ignore")  # the tracer warns of the interpreter and of itself
    @pytest.mark.usefixtures("unchecked", "fresh_compiler")
    @pytest.mark.parametrize("bins", ["log", (0.5, 1.5, 3.0)])
    def test_compiles_with_all_options(self, fields, bins):
        field, mask = fields(0, 2, 8, 6), fields(1, 8, 6) > -1

        def energy(u):
            options = {"mask": mask, "window": "hann", "detrend": "mean"}
            return energy_spectrum(u, bins=bins, estimator="mean", **options).energy

        compiled = torch.compile(energy, backend="eager", fullgraph=True, dynamic=False)
        assert_close(compiled(field), energy(field), rtol=0, atol=0)

    def test_plans_are_few_and_found_again(self, fields):
        from nops_losses._spectrum_plan import _cached_plan

        _cached_plan.cache_clear()
        for n in range(8, 48):
            energy_spectrum(fields(0, 1, n), spatial_dims=1)
        energy_spectrum(fields(0, 3, 1, 47), spatial_dims=1)
        info = _cached_plan.cache_info()
        assert (info.currsize, info.hits) == (32, 1)

    def test_bins_change_no_operation(self, fields, operations):
        field = fields(0, 1, 16, 16).requires_grad_()

        def step(bins):
            energy_spectrum(field, bins=bins)  # makes the plan
            field.grad = None
            return operations(lambda: energy_spectrum(field, bins=bins).energy.sum().backward())

        linear = step("linear")
        assert linear.count("aten.index_add.default") == 1
        assert linear == step("log") == step([0.5, 3.0, 8.0])


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("estimator", "median"),
            ("bins", "octave"),
            ("components", "average"),
            ("window", "hamming"),
            ("detrend", "linear"),
        ],
    )
    def test_unknown_options_name_the_choices(self, option, value):
        with pytest.raises(ValueError, match=rf"{option}='{value}' is unknown; choose one of"):
            energy_spectrum(torch.zeros(1, 8, 8), **{option: value})

    @pytest.mark.parametrize("edges", [[1.0], [2.0, 1.0], [-1.0, 1.0], [0.0, math.inf]])
    def test_edges_that_are_none(self, edges):
        with pytest.raises(ValueError, match="rising wavenumbers"):
            energy_spectrum(torch.zeros(1, 8, 8), bins=edges)

    def test_a_mask_of_another_grid(self):
        with pytest.raises(ValueError, match=r"mask of shape \(3, 4\)"):
            energy_spectrum(torch.zeros(1, 8, 8), mask=torch.ones(3, 4, dtype=torch.bool))
