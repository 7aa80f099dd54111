"""The flows that are solved for data: seeds in, velocities out."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from nops_data import Request
from nops_physics import DecayingTurbulence2D, KolmogorovFlow, TaylorGreen, coarsen, random_field
from nops_train import InputError
from torch import Tensor

from turbulence.config import FlowDataConfig

LENGTH = 2 * math.pi
SLOPE = -5 / 3  # energy of random fields over wave number
Solve = Callable[[Request], Any]
Frames = Callable[[Sequence[int]], Tensor]


def solver_version(data: FlowDataConfig) -> str:
    """Changes when the values of a source do."""
    del data
    return "1"


def check_solvable(data: FlowDataConfig) -> None:
    """Refuse settings beyond a solver, before anything is computed.

    Raises:
        InputError: Naming the key.
    """
    try:
        flow_of(data)
    except ValueError as error:
        raise InputError(f"data: {error}") from error


def flow_of(data: FlowDataConfig) -> KolmogorovFlow | DecayingTurbulence2D | TaylorGreen | None:
    """The solver or exact solution of a source; None for random fields."""
    resolution = data.solver_resolution or data.shape[0]
    if data.source == "kolmogorov":
        return KolmogorovFlow(
            resolution=resolution,
            viscosity=data.viscosity,
            drag=data.drag,
            forcing_wavenumber=data.forcing_wavenumber,
        )
    if data.source == "decaying":
        return DecayingTurbulence2D(resolution=resolution, viscosity=data.viscosity)
    if data.source == "taylor_green":
        return TaylorGreen(viscosity=data.viscosity, resolution=data.shape[0])
    return None


def solve_with(data: FlowDataConfig) -> Solve:
    """The callable that computes what a plan asks for.

    It raises InputError where `data.time_step` is above the stable one, naming that.
    """
    makers = {"taylor_green": _taylor_green, "random_field": _swept_fields}
    frames: Frames = makers.get(data.source, _solved)(data)

    def solve(request: Request) -> Tensor:
        try:
            return frames(request.ic_seed).float()
        except ValueError as error:
            raise InputError(f"data.time_step = {data.time_step:g}: {error}") from error

    return solve


def _solved(data: FlowDataConfig) -> Frames:
    flow = flow_of(data)
    assert isinstance(flow, KolmogorovFlow | DecayingTurbulence2D)
    times = data.warmup_time + data.frame_interval * torch.arange(
        data.num_steps + 1, dtype=torch.float64
    )

    def frames(seeds: Sequence[int]) -> Tensor:
        start = flow.initial(len(seeds), seed=seeds)
        velocity = flow.velocity(flow.solve(start, times=times, dt=data.time_step))
        return coarsen(velocity, shape=data.shape)

    return frames


def _taylor_green(data: FlowDataConfig) -> Frames:
    """The exact solution, each trajectory shifted by whole cells and started at its own time."""
    flow = flow_of(data)
    assert isinstance(flow, TaylorGreen)
    steps = data.frame_interval * torch.arange(data.num_steps + 1, dtype=torch.float64)

    def frames(seeds: Sequence[int]) -> Tensor:
        found = []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed % 2**63)
            shift = torch.randint(data.shape[0], (2,), generator=generator).tolist()
            start = data.warmup_time * float(torch.rand((), generator=generator))
            found.append(torch.roll(flow.velocity(start + steps), shift, dims=(-2, -1)))
        return torch.stack(found)

    return frames


def _swept_fields(data: FlowDataConfig) -> Frames:
    """Random fields of slope -5/3, carried along the first axis by a cell per frame."""

    def frames(seeds: Sequence[int]) -> Tensor:
        found = []
        for seed in seeds:
            field = random_field(
                lambda k: k**SLOPE,
                shape=data.shape,
                components=2,
                divergence_free=True,
                seed=seed % 2**63,
            )
            moves = range(data.num_steps + 1)
            found.append(torch.stack([torch.roll(field, move, dims=-2) for move in moves]))
        return torch.stack(found)

    return frames
