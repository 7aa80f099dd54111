"""Physics decoders: what a reflectance and a displacement cost, beside a peer and beside networks.

The peer is PyPI's `prosail` (numba, no gradient). Both sides take the measured constants of leaves
that come with it. Times are medians over turns, on two threads; where others use the machine,
`cpu` in the details, the time of the processor on one thread, tells more.
"""

import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _harness import Claim, paired_ratio, peak_of, record
from nops_diagnostics import oracle_fit
from nops_losses import gaussian_kl
from nops_models import PhysicsVAE, PhysicsVAEConfig
from nops_physics import Inform, Mogi, SentinelBands, sunflower_stations
from torch import Tensor, nn

SAMPLES, TURNS, CPU_TURNS = 256, 9, 5
MEGABYTE = 10**6
SAMPLINGS = {"full": "1 nm", "quadrature": "quadrature"}
TIME_BARS = {"full": 0.35, "quadrature": 0.15}
MEMORY_BARS = {"full": 300.0, "quadrature": 100.0}
ROWS, DRAWS, BATCH = 1305, 256, 64
FIT_STEPS, FIT_PART = 1200, 40  # a fortieth of the steps is timed: each costs the same


def uniform(physics: Inform, count: int) -> Tensor:
    """Parameters drawn within the physics' bounds `[count, parameter]`."""
    low, high = physics.bounds.unbind(-1)
    unit = torch.rand(count, len(low), generator=torch.Generator().manual_seed(0))
    return low + (high - low) * unit


def ours(sampling: Any, count: int = SAMPLES) -> Callable[[], None]:
    """Reflectance of `count` forests in 11 bands and its gradient."""
    model = Inform(bands=SentinelBands(sampling=sampling))
    parameters = uniform(model, count).requires_grad_()

    def run() -> None:
        parameters.grad = None
        model(parameters).sum().backward()

    return run


def peer() -> Callable[[], None]:
    """As many leaves and canopies of 2101 wavelengths."""
    prosail: Any = importlib.import_module("prosail")

    rows = uniform(Inform(), SAMPLES).tolist()
    fixed = {"ant": 2.0, "prospect_version": "D", "typelidf": 1, "lidfb": 0.0}

    def run() -> None:
        for n, cab, cw, cm, lai, _, _ in rows:
            leaf = (n, cab, 10.0, 0.25, cw, cm)
            prosail.run_prosail(*leaf, lai, 0.0, 0.01, 30.0, 0.0, 0.0, rsoil=1, psoil=1, **fixed)

    return run


def cpu_seconds(run: Callable[[], None]) -> float:
    """Least time of the processor over a few turns, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run()
    spent = []
    for _ in range(CPU_TURNS):
        start = time.process_time()
        run()
        spent.append(time.process_time() - start)
    torch.set_num_threads(threads)
    return min(spent)


def high_water() -> int:
    """Bytes of this process's peak resident memory."""
    status = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def print_growth(sampling: str) -> None:
    """Growth of the peak over one call, after one with batch 2."""
    ours(sampling, 2)()
    run = ours(sampling)
    before = high_water()
    run()
    print(high_water() - before)


class Networks(nn.Module):
    """The networks of the physics VAE around a linear map from parameters to observations."""

    def __init__(self, model: PhysicsVAE, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(len(model.physics.parameter_names), outputs)
        for name in ("parameter_names", "parameter_units", "input_names", "input_units"):
            setattr(self, name, getattr(model.physics, name))
        for name in ("input_defaults", "output_names", "output_units"):
            setattr(self, name, getattr(model.physics, name))
        self.register_buffer("bounds", torch.tensor([[0.0, 1.0]] * self.linear.in_features))
        self.register_buffer("input_bounds", model.physics.input_bounds)

    def forward(self, parameters: Tensor, inputs: object = None) -> Tensor:
        """A linear map of the parameters."""
        return self.linear(parameters)


def vae(*, linear: bool) -> PhysicsVAE:
    """Variant C on twelve stations, or the same with a linear decoder."""
    torch.manual_seed(0)
    config = PhysicsVAEConfig(aux_dim=6, rank=6)
    physics: Any = Mogi(sunflower_stations())
    model = PhysicsVAE(config, physics, x_scale=10.0)
    around: Any = Networks(model, 36)
    return PhysicsVAE(config, around, x_scale=10.0) if linear else model


def training(*, linear: bool) -> Callable[[], None]:
    """One optimizer step of reconstruction and both divergences."""
    model, x = vae(linear=linear), torch.randn(BATCH, 36)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        out = model(x)
        e = out.encoding
        loss = (out.decoding.x_pb - x).square().sum(-1).mean()
        loss = loss + gaussian_kl(e.u_mean, e.u_lnvar) + gaussian_kl(e.aux_mean, e.aux_lnvar)
        loss.backward()
        optimizer.step()

    return step


def posterior_over_oracle() -> tuple[float, dict[str, float]]:
    """The posterior of every row against the fit of every row, from a part of its steps."""
    model = vae(linear=False).eval()
    x = model.generate_physonly(model.sample_unit(ROWS)) + 0.1 * torch.randn(ROWS, 36)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        model.posterior(x, samples=DRAWS)
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    oracle_fit(model.generate_physonly, x, dim=4, steps=FIT_STEPS // FIT_PART)
    oracle = FIT_PART * (time.perf_counter() - start)
    posterior = sorted(seconds[1:])[1]
    return posterior / oracle, {"posterior": posterior, "oracle_fit": oracle}


def claim(name: str, value: float, bar: float) -> Claim:
    return {"claim": name, "value": value, "bar": bar, "kind": "at_most"}


def main() -> None:
    """Measure and record."""
    torch.set_num_threads(2)
    theirs = peer()
    cpu = {"prosail": cpu_seconds(theirs)}
    claims = []
    for sampling, name in SAMPLINGS.items():
        run = ours(sampling)
        ratio = paired_ratio(run, theirs, repeat=TURNS)
        cpu[name] = cpu_seconds(run)
        claims.append(claim(f"INFORM, {name}: time / prosail", ratio, TIME_BARS[sampling]))
        grown = peak_of(__file__, "memory", sampling) / MEGABYTE
        claims.append(claim(f"INFORM, {name}: growth of memory, MB", grown, MEMORY_BARS[sampling]))
    step = paired_ratio(training(linear=False), training(linear=True), repeat=101)
    claims.append(claim("Mogi, training step / with a linear decoder", step, 1.35))
    ratio, seconds = posterior_over_oracle()
    claims.append(claim("posterior of 1305 rows / oracle_fit", ratio, 0.05))
    details = {
        "samples": SAMPLES,
        "cpu_seconds_on_one_thread": cpu,
        "oracle_fit": f"{FIT_STEPS} steps, from the time of {FIT_STEPS // FIT_PART}",
        "posterior_seconds": seconds,
        "load": os.getloadavg(),
        "memory_method": "VmHWM over one call, after one of batch 2, in a fresh process",
    }
    record("physics", claims, details)


if __name__ == "__main__":
    print_growth(sys.argv[2]) if sys.argv[1:2] == ["memory"] else main()
