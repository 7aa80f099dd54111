"""What the flows refuse, and how they say it."""

import math
import re

import pytest
import torch
from nops_physics import DecayingTurbulence2D, KolmogorovFlow

FLOWS = {
    "kolmogorov": KolmogorovFlow(resolution=16, viscosity=0.02),
    "odd": KolmogorovFlow(resolution=15, length=3.0, viscosity=0.02, forcing_wavenumber=2),
    "decaying": DecayingTurbulence2D(resolution=16, viscosity=0.02),
}


@pytest.fixture(params=FLOWS)
def flow(request):
    return FLOWS[request.param]


def test_a_step_above_the_stable_one_is_refused_with_one_that_works(flow):
    start = flow.initial(2, seed=0)
    stable = float(flow.stable_dt(start).min())
    with pytest.raises(ValueError, match="above the stable step") as caught:
        flow.step(start, stable * 1.01)
    named = float(re.search(r"dt <= (\S+),", str(caught.value))[1])
    assert named == pytest.approx(stable, rel=2e-4)
    flow.step(start, named / 1.05)  # the flow may speed up on the way
    with pytest.raises(ValueError, match="above the stable step"):
        flow.solve(start, times=[stable * 1.5], dt=stable * 1.5)


def test_a_step_is_judged_by_every_state_on_the_way():
    """This flow is fastest between its start and its end, where a step in between is too long."""
    flow = DecayingTurbulence2D(resolution=16)
    start = flow.initial(1, seed=6)
    frames = flow.solve(start, times=[0.02 * frame for frame in range(21)])
    first, *others, last = flow.stable_dt(frames)[0].tolist()
    assert min(others) < 0.99 * min(first, last)
    assert flow._advance(flow._kept(start), 0.02, 20)[1] == pytest.approx(min(others), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, w: f.step(w, 0.0), "dt > 0"),
        (lambda f, w: f.step(w, 0.01, steps=0), "steps >= 1"),
        (lambda f, w: f.solve(w, times=[0.1], dt=-1.0), "dt needs to be positive"),
        (lambda f, w: f.solve(w, times=[0.2, 0.1]), "times need to rise"),
        (lambda f, w: f.solve(w[:, 0], times=[0.1]), "state has shape"),
        (lambda f, w: f.solve(w[..., :-1], times=[0.1]), "state has shape"),
        (lambda f, w: f.solve(w / 0, times=[0.1]), "sample 0, frame 0, channel 'vorticity'"),
        (lambda f, w: f.velocity(w.expand(1, 2, 16, 16)), "found shape"),
        (lambda f, w: f.vorticity(w), "found shape"),
        (lambda f, w: f.initial(0, seed=0), "n >= 1"),
        (
            lambda f, w: f.initial(1, seed=0, peak_wavenumber=6),
            "peak_wavenumber is 6; expected 1 to 5",
        ),
        (lambda f, w: f.initial(1, seed=0, rms_vorticity=0.0), "rms_vorticity"),
    ],
)
def test_bad_input_is_refused(call, message, unchecked):
    flow = DecayingTurbulence2D(resolution=16)
    with pytest.raises(ValueError, match=message):
        call(flow, flow.initial(1, seed=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 3}, "at least 4"),
        ({"length": 0.0}, "length"),
        ({"viscosity": -1e-3}, "viscosity"),
        ({"drag": math.nan}, "drag"),
        ({"forcing_amplitude": math.inf}, "forcing_amplitude"),
        ({"resolution": 8, "forcing_wavenumber": 3}, "forcing_wavenumber is 3; expected 1 to 2"),
        ({"dtype": torch.float16}, "dtype is float32 or float64"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        KolmogorovFlow(**options)
