"""nops_physics.random_field and nops_losses.energy_spectrum have one convention of shells."""

import math

import pytest
from nops_losses import energy_spectrum
from nops_physics import KolmogorovFlow, random_field
from torch.testing import assert_close

GRIDS = {
    "line": ((15,), (3.0,)),
    "square": ((32, 32), None),
    "rectangle": ((16, 8), (12.0, 6.0)),
    "odd": ((15, 17), (2.0, 1.0)),
    "box": ((15, 17, 19), (2.0, 1.0, 3.0)),
}


def power_law(k):
    return k ** (-5 / 3)


@pytest.mark.parametrize(("shape", "lengths"), GRIDS.values(), ids=GRIDS)
def test_fixed_amplitudes_have_the_requested_spectrum(shape, lengths):
    options = {"lengths": lengths, "components": 2, "batch": (3,)}
    field = random_field(power_law, shape=shape, seed=0, **options)
    found = energy_spectrum(field, lengths=lengths, spatial_dims=len(shape))
    expected = power_law(found.wavenumber[1:]).expand(3, -1)
    assert_close(found.energy[:, 1:], expected, rtol=1e-12, atol=0)
    assert found.energy[:, 0].max() < 1e-28
    again = random_field((found.wavenumber, found.energy[0]), shape=shape, seed=1, **options)
    spectrum = energy_spectrum(again, lengths=lengths, spatial_dims=len(shape))
    assert_close(spectrum.energy, found.energy, rtol=1e-12, atol=1e-28)


@pytest.mark.parametrize("slope", [-5 / 3, -3.0])
def test_slopes_are_found_again(slope):
    """A straight line through log E of k = 4 ... n/3, of a vector without divergence."""
    field = random_field(
        lambda k: k**slope,
        shape=(96, 96),
        components=2,
        divergence_free=True,
        amplitude="gaussian",
        batch=(8,),
        seed=0,
    )
    k, energy = energy_spectrum(field)
    x, y = k[4:33].log(), energy.mean(0)[4:33].log()
    x, y = x - x.mean(), y - y.mean()
    assert (x @ y / (x @ x)).item() == pytest.approx(slope, abs=0.03)


def test_the_budget_is_the_spectrum_s_sum():
    flow = KolmogorovFlow(resolution=24, length=2.0)
    state = flow.initial(2, seed=0)
    energy = energy_spectrum(flow.velocity(state), lengths=(2.0, 2.0)).energy.sum(-1)
    assert_close(flow.budget(state).energy, energy, rtol=1e-12, atol=0)
    # (k_p = 4): the most energetic shell of the ensemble is that of k = 4 periods, 4 * 2 pi / 2
    many = energy_spectrum(flow.velocity(flow.initial(100, seed=0)), lengths=(2.0, 2.0))
    peak = many.wavenumber[many.energy.mean(0).argmax()]
    assert peak.item() == pytest.approx(4 * math.pi, abs=1e-9)
