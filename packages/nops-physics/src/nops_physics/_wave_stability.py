"""How the schemes of a damped string multiply its modes, and up to which step none grows.

`squared` holds the modes' squared frequencies [mode], rising, `damping` is a rate.
"""

import math

import torch
from torch import Tensor

SCHEMES = ("rk4", "semi_implicit", "trapezoidal", "euler")
ROUNDING = 1e-12  # growth above 1 by less is rounding
LARGEST_STEP = 4.0  # times |eigenvalue|: beyond the stable region of Runge-Kutta 4
SCAN = 400  # steps below that one, among which the first unstable one is looked for
HALVINGS = 60


def check_scheme(scheme: str) -> str:
    """The scheme, if there is one of this name."""
    if scheme not in SCHEMES:
        raise ValueError(f"WaveChain: scheme is {scheme!r}, expected {', '.join(SCHEMES)}")
    return scheme


def spectral_radius(scheme: str, squared: Tensor, damping: float, step: float) -> float:
    """The largest factor by which a step multiplies a mode."""
    z = step * _rates(squared, damping)
    match check_scheme(scheme):
        case "rk4":
            growth = _runge_kutta_growth(z)
        case "trapezoidal":
            growth = (1 + z / 2) / (1 - z / 2)
        case "euler":
            growth = 1 + z
        case _:
            growth = _semi_implicit_growth(squared, damping, step)
    return float(growth.abs().max())


def stable_step(scheme: str, squared: Tensor, damping: float) -> float:
    """The largest step up to which no mode grows; infinite for `trapezoidal`."""
    rates = _rates(squared, damping)
    match check_scheme(scheme):
        case "trapezoidal":
            return math.inf
        case "semi_implicit":  # where an eigenvalue reaches -1
            highest = float(squared[-1])
            return (math.sqrt(damping**2 + 4 * highest) - damping) / highest
        case "euler":  # |1 + step z| = 1 at step = -2 Re z / |z|^2
            return float((-2 * rates.real / rates.abs().square()).min())
        case _:
            return _stable_runge_kutta(rates)


def _rates(squared: Tensor, damping: float) -> Tensor:
    """Eigenvalues of the equation itself, two for each mode, complex."""
    root = torch.complex(damping**2 / 4 - squared, torch.zeros_like(squared)).sqrt()
    return torch.cat((-damping / 2 + root, -damping / 2 - root))


def _runge_kutta_growth(z: Tensor) -> Tensor:
    return 1 + z * (1 + z / 2 * (1 + z / 3 * (1 + z / 4)))


def _semi_implicit_growth(squared: Tensor, damping: float, step: float) -> Tensor:
    """Eigenvalues of ((1 - h^2 w^2, h (1 - h k)), (-h w^2, 1 - h k)), which sum to `2 half`."""
    half = (2 - damping * step - step**2 * squared) / 2
    product = 1 - damping * step
    root = torch.complex(half.square() - product, torch.zeros_like(half)).sqrt()
    return torch.cat((half + root, half - root))


def _stable_runge_kutta(rates: Tensor) -> float:
    """The first step at which a mode grows, by a scan and then by halves."""

    def stable(steps: Tensor) -> Tensor:
        return _runge_kutta_growth(steps[:, None] * rates).abs().amax(-1) <= 1 + ROUNDING

    largest = LARGEST_STEP / float(rates.abs().max())
    steps = torch.linspace(0, largest, SCAN, dtype=torch.float64)
    first = int(torch.nonzero(~stable(steps))[0])
    low, high = steps[first - 1], steps[first]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if bool(stable(middle[None])) else (low, middle)
    return float(low)
