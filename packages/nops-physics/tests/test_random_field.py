"""random_field: its spectrum on any grid, its divergence, its draws."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_physics import random_field
from torch.testing import assert_close

GRIDS = {
    "line": ((16,), None),
    "square": ((16, 16), None),
    "rectangle": ((8, 16), (1.0, 3.0)),
    "odd": ((9, 15), (2.0, 1.0)),
    "box": ((6, 8, 5), (2.0, 1.0, 3.0)),
    "ties": ((64, 32), (12.0, 6.0)),  # 8 modes on a border are rounded below it
}


def power_law(k):
    return k ** (-5 / 3)


def waves(shape, lengths=None):
    """Wave vector of every mode of the full transform, radians per length."""
    lengths = lengths or (2 * math.pi,) * len(shape)
    axes = [
        2 * math.pi * torch.fft.fftfreq(side, d=length / side, dtype=torch.float64)
        for side, length in zip(shape, lengths, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def spectrum_of(field, lengths=None):
    """Shell centres and energies [..., K] of [..., component, *grid], over the full transform."""
    wave = waves(field.shape[1:], lengths)
    spacing = 2 * math.pi / min(lengths) if lengths else 1.0
    shell = torch.floor(wave.square().sum(0).sqrt() / spacing + 0.5 + 1e-9).long()
    dims = tuple(range(1, field.ndim))
    power = 0.5 * torch.fft.fftn(field, dim=dims, norm="forward").abs().square().sum(0)
    total = torch.zeros(int(shell.max()) + 1, dtype=torch.float64)
    return spacing * torch.arange(len(total)).double(), total.index_add(
        0, shell.flatten(), power.flatten()
    )


def divergence(field, lengths=None):
    wave = waves(field.shape[1:], lengths)
    dims = tuple(range(1, field.ndim))
    modes = torch.fft.fftn(field, dim=dims)
    return torch.fft.ifftn((1j * wave * modes).sum(0), dim=tuple(range(field.ndim - 1))).real


# ---- the spectrum ----


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize(("shape", "lengths"), GRIDS.values(), ids=GRIDS)
def test_fixed_amplitudes_have_the_spectrum(shape, lengths, components):
    field = random_field(power_law, shape=shape, lengths=lengths, components=components, seed=0)
    k, energy = spectrum_of(field, lengths)
    assert_close(energy[1:], power_law(k[1:]), rtol=1e-12, atol=0)
    assert energy[0] < 1e-30


@pytest.mark.parametrize(
    ("shape", "lengths"), [GRIDS["square"], GRIDS["odd"], GRIDS["box"]], ids=["2", "odd", "3"]
)
@pytest.mark.parametrize("amplitude", ["fixed", "gaussian"])
def test_no_divergence(shape, lengths, amplitude):
    field = random_field(
        power_law,
        shape=shape,
        lengths=lengths,
        components=len(shape),
        divergence_free=True,
        amplitude=amplitude,
        seed=0,
    )
    assert divergence(field, lengths).abs().max() < 1e-12 * field.abs().max() * max(shape)
    assert field.abs().max() > 0.1
    if amplitude == "fixed":
        k, energy = spectrum_of(field, lengths)
        # the farthest shells of even sides hold Nyquist modes alone, which have no derivative
        inside = energy > 1e-20
        assert inside[1 : min(shape) // 2].all()
        assert_close(energy[inside], power_law(k[inside]), rtol=1e-12, atol=0)


def test_a_single_shell_has_all_its_modes_alike():
    """Shell 1 of a square: 8 modes (4 of |k| = 1, 4 of sqrt 2); E = 1 gives |F|^2 = 2/8 each."""
    field = random_field(lambda k: (k == 1).double(), shape=(8, 8), seed=3)
    power = torch.fft.fftn(field[0], norm="forward").abs().square()
    expected = torch.zeros(8, 8, dtype=torch.float64)
    for row, column in [(0, 1), (1, 0), (1, 1), (0, 7), (7, 0), (7, 7), (1, 7), (7, 1)]:
        expected[row, column] = 0.25
    assert_close(power, expected, rtol=0, atol=1e-15)
    assert field.square().mean().item() / 2 == pytest.approx(1.0, abs=1e-13)


@pytest.mark.parametrize("vector", [False, True])
def test_gaussian_amplitudes_have_the_spectrum_in_the_mean(vector):
    options = {"components": 2, "divergence_free": True} if vector else {}
    fields = random_field(
        power_law, shape=(16, 16), batch=(400,), amplitude="gaussian", seed=1, **options
    )
    energies = torch.stack([spectrum_of(field)[1] for field in fields])
    k = torch.arange(1, 8, dtype=torch.float64)
    mean, spread = energies.mean(0)[1:8], energies.std(0)[1:8] / 20
    assert ((mean - power_law(k)).abs() < 4 * spread).all()
    # shell 1 has 8 modes, 4 independent complex ones: a relative spread of 1 / 2
    assert energies[:, 1].std() == pytest.approx(0.5, rel=0.15)


@pytest.mark.parametrize("slope", [-5 / 3, -3.0])
@pytest.mark.parametrize("amplitude", ["fixed", "gaussian"])
def test_slopes_are_found_again(slope, amplitude):
    """A straight line through the mean log spectrum of k = 4 ... n/3."""
    field = random_field(
        lambda k: k**slope, shape=(96, 96), batch=(8,), amplitude=amplitude, seed=0
    )
    energy = torch.stack([spectrum_of(sample)[1] for sample in field]).mean(0)
    x = torch.arange(4, 33, dtype=torch.float64).log()
    y = energy[4:33].log()
    x, y = x - x.mean(), y - y.mean()
    assert (x @ y / (x @ x)).item() == pytest.approx(slope, abs=0.03)


# ---- a table ----


def test_a_table_is_interpolated_in_logarithms():
    """Two entries of a power law give the power law between them, and nothing outside."""
    k = torch.tensor([2.0, 6.0], dtype=torch.float64)
    field = random_field((k, power_law(k)), shape=(16, 16), seed=0)
    energy = spectrum_of(field)[1]
    inside = torch.arange(2, 7).double()
    assert_close(energy[2:7], power_law(inside), rtol=1e-12, atol=0)
    assert energy[:2].max() < 1e-30
    assert energy[7:].max() < 1e-30


@pytest.mark.parametrize(("shape", "lengths"), GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_spectrum_of_a_field_serves_as_a_table(shape, lengths, dtype):
    first = random_field(power_law, shape=shape, lengths=lengths, amplitude="gaussian", seed=0)
    k, energy = spectrum_of(first, lengths)
    k = k.to(dtype)
    field = random_field((k, energy), shape=shape, lengths=lengths, seed=1)
    assert_close(spectrum_of(field, lengths)[1], energy, rtol=1e-12, atol=1e-30)


def test_an_entry_without_energy_and_a_single_entry():
    k = torch.tensor([1.0, 3.0, 5.0])
    field = random_field((k, torch.tensor([1.0, 0.0, 2.0])), shape=(16, 16), seed=0)
    expected = torch.tensor([0, 1, 0, 0, 0, 2], dtype=torch.float64)
    assert_close(spectrum_of(field)[1][:6], expected, rtol=0, atol=1e-14)
    field = random_field((k[1:2], k[1:2]), shape=(16, 16), seed=0)
    expected = torch.tensor([0, 0, 0, 3, 0, 0], dtype=torch.float64)
    assert_close(spectrum_of(field)[1][:6], expected, rtol=0, atol=1e-14)


# ---- draws ----


@given(seed=st.integers(0, 2**31), amplitude=st.sampled_from(["fixed", "gaussian"]))
def test_seeds_repeat_and_the_first_samples_do_not_depend_on_the_batch(seed, amplitude):
    options = {"shape": (6, 9), "components": 2, "amplitude": amplitude, "seed": seed}
    before = torch.get_rng_state()
    many = random_field(power_law, batch=(2, 3), **options)
    few = random_field(power_law, batch=(2,), **options)
    assert torch.equal(torch.get_rng_state(), before)
    assert many.shape == (2, 3, 2, 6, 9)
    assert many.dtype == torch.float64
    assert torch.equal(many[0, :2], few)
    assert (few[0] - few[1]).abs().max() > 1e-3


def test_a_generator_goes_on():
    generator = torch.Generator().manual_seed(5)
    first = random_field(power_law, shape=(8,), generator=generator)
    second = random_field(power_law, shape=(8,), generator=generator)
    both = random_field(power_law, shape=(8,), batch=(2,), seed=5)
    assert torch.equal(torch.stack((first, second)), both)


def test_a_component_has_its_share_in_every_direction():
    """The field is isotropic: both components of a vector have half the energy, over samples."""
    fields = random_field(
        power_law, shape=(16, 16), components=2, batch=(200,), divergence_free=True, seed=0
    )
    share = fields[:, 0].square().mean() / fields.square().sum(1).mean()
    assert share.item() == pytest.approx(0.5, abs=0.02)


# ---- bad input ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": ()}, "shape needs"),
        ({"components": 0}, "components"),
        ({"batch": (0,)}, "batch"),
        ({"lengths": (1.0,)}, "lengths"),
        ({"divergence_free": True}, "2 or 3 axes"),
        ({"shape": (8,), "divergence_free": True}, "2 or 3 axes"),
        ({"generator": torch.Generator()}, "exactly one"),
        ({"spectrum": lambda k: -k}, "-1.0 at k = 1"),
        ({"spectrum": lambda k: 1 / (k - 2)}, "the spectrum is"),
        ({"spectrum": lambda k: k.sum()}, "gave shape"),
        ({"spectrum": (torch.ones(2), torch.ones(3))}, "two lists of one length"),
        ({"spectrum": (torch.ones(2), torch.ones(2))}, "increase"),
        ({"spectrum": (torch.zeros(1), torch.ones(1))}, "increase"),
        ({"spectrum": (torch.arange(1.0, 3), -torch.ones(2))}, "at least 0"),
    ],
)
def test_bad_input_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        random_field(**{"spectrum": power_law, "shape": (8, 8), "seed": 0, **options})


def test_an_unknown_amplitude_is_refused(unchecked):
    with pytest.raises(ValueError, match="'fixed' or 'gaussian', got 'normal'"):
        random_field(power_law, shape=(8,), amplitude="normal", seed=0)
