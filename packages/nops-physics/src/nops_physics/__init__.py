"""Differentiable PDE solvers, random operators, exact solutions and initial conditions.

Fields are `[sample, channel, *grid]`, trajectories `[sample, time, channel, *grid]` with the
initial field as frame 0. Grids are periodic where a class does not say otherwise. Solvers compute in float64; `trajectory` returns
float32. Everything random is a pure function of integer seeds: the global generator is neither
read nor changed.
"""

from nops_physics._advection import Advection1D
from nops_physics._allen_cahn import AllenCahn1D, allen_cahn_reference
from nops_physics._burgers import Burgers1D
from nops_physics._cno_replayer import CNOReplayer
from nops_physics._coarsen import coarsen
from nops_physics._cole_hopf import BurgersColeHopf, ColeHopf
from nops_physics._darcy import Darcy2D, darcy_pressure
from nops_physics._diffusion_reaction import DiffusionReaction2D
from nops_physics._domain import Domain, Parameter, physical_parameters
from nops_physics._exact import HelmholtzExact, KovasznayExact, PoissonExact, WaveExact
from nops_physics._flow import DecayingTurbulence2D, KolmogorovFlow
from nops_physics._four_sail import CanopyLayer, FourSail
from nops_physics._gray_scott import GrayScott
from nops_physics._heat import Heat, heat_exact
from nops_physics._inform import Inform
from nops_physics._initial import (
    gaussian_blobs,
    gaussian_random_field,
    multiscale_field,
    sinusoids,
)
from nops_physics._mixture import DEFAULT_KINDS, initial_mixture
from nops_physics._mogi import Mogi
from nops_physics._navier_stokes import NavierStokes2D
from nops_physics._okada import Okada
from nops_physics._periodic_flow import Budget, PeriodicFlow
from nops_physics._plates import LeafOptics
from nops_physics._prospect import Prospect
from nops_physics._random_conv import RandomConvOperator
from nops_physics._random_field import random_field
from nops_physics._random_smooth import SmoothSpec
from nops_physics._random_stack import StackSpec
from nops_physics._registry import DOMAIN_NAMES, make_domain
from nops_physics._sampling import sobol_parameters
from nops_physics._seeds import derive_seed
from nops_physics._sentinel import SentinelBands
from nops_physics._spectra import Spectra, SpectraNotFound, load_spectra
from nops_physics._stations import line_of_sight, network_modes, sunflower_stations
from nops_physics._taylor_green import TaylorGreen, taylor_green_exact
from nops_physics._time_series import AdvectionDiffusion, Pendulum
from nops_physics._wave_chain import WaveChain
from nops_physics._wave_equation import WaveEquation2D
from nops_physics._wave_samples import GaussianForce, WaveSamples

__all__ = [
    "DEFAULT_KINDS",
    "DOMAIN_NAMES",
    "Advection1D",
    "AdvectionDiffusion",
    "AllenCahn1D",
    "Budget",
    "Burgers1D",
    "BurgersColeHopf",
    "CNOReplayer",
    "CanopyLayer",
    "ColeHopf",
    "Darcy2D",
    "DecayingTurbulence2D",
    "DiffusionReaction2D",
    "Domain",
    "FourSail",
    "GaussianForce",
    "GrayScott",
    "Heat",
    "HelmholtzExact",
    "Inform",
    "KolmogorovFlow",
    "KovasznayExact",
    "LeafOptics",
    "Mogi",
    "NavierStokes2D",
    "Okada",
    "Parameter",
    "Pendulum",
    "PeriodicFlow",
    "PoissonExact",
    "Prospect",
    "RandomConvOperator",
    "SentinelBands",
    "SmoothSpec",
    "Spectra",
    "SpectraNotFound",
    "StackSpec",
    "TaylorGreen",
    "WaveChain",
    "WaveEquation2D",
    "WaveExact",
    "WaveSamples",
    "allen_cahn_reference",
    "coarsen",
    "darcy_pressure",
    "derive_seed",
    "gaussian_blobs",
    "gaussian_random_field",
    "heat_exact",
    "initial_mixture",
    "line_of_sight",
    "load_spectra",
    "make_domain",
    "multiscale_field",
    "network_modes",
    "physical_parameters",
    "random_field",
    "sinusoids",
    "sobol_parameters",
    "sunflower_stations",
    "taylor_green_exact",
]
