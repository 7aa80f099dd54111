"""What a trained model is worth on test observations: reconstruction, parameters, signs of collapse."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from nops_diagnostics import (
    collapse_report,
    identifiability,
    oracle_fit,
    pca_baseline,
    recovery_report,
    residual_ratio,
)
from nops_models import PhysicsVAE
from torch import Tensor

from phys_smpl.config import PhysConfig
from phys_smpl.data import Bundle, Split
from phys_smpl.task import squares

BATCH = 256  # observations decoded at a time
NUM_UNIT = 256  # draws at which identifiability is looked at
DOMINATES = 0.5  # of the physics' norm: the correction is more than half of it


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores on test observations, and what the report draws; tensors on the CPU.

    Attributes:
        problem: Of the run.
        kind: Variant A, B, C or G.
        seed: Of training.
        channels: Their names.
        units: Of the channels.
        parameters: Names of the physics latents; empty for variant A.
        parameter_units: Their units.
        errors: Mean over observations of Σ squares in standardised units: `x_pb`, `x_p`,
            `residual`, by name; of valid as `valid_x_pb`.
        baselines: The same of the mean, of k principal components (`pca_<k>`), of the best fit of
            the physics (`oracle`).
        channel_rows: Per channel: RMSE in its unit and R², of x_PB and of x_P.
        recovery: Per parameter with a truth: R², RMSE, bias, coverage of the 90 % interval, and what
            is attainable.
        identifiability: Per parameter, attainable R²; with the weakest direction and condition.
        collapse: What `collapse_report` found; None for variant A.
        posterior: Mean, sd, share of rows at an edge; by name.
        estimate: Posterior means (row, P), physical.
        spread: Their standard deviations.
        truth: True parameters (row, P) with NaN where none is known.
        days: Day of each test row, or None.
        kinds: Kind of each test row, or None.
        patterns: Leading directions of the correction (k, D), standardised, with their shares.
        shares: Of the correction's variance.
        dominated: Share of rows in which the correction dominates.
    """

    problem: str
    kind: str
    seed: int
    channels: tuple[str, ...]
    units: tuple[str, ...]
    parameters: tuple[str, ...]
    parameter_units: tuple[str, ...]
    errors: dict[str, float]
    baselines: dict[str, float]
    channel_rows: list[dict[str, Any]]
    recovery: list[dict[str, Any]]
    identifiability: dict[str, Any]
    collapse: dict[str, Any] | None
    posterior: list[dict[str, Any]]
    estimate: Tensor
    spread: Tensor
    truth: Tensor
    days: list[int] | None
    kinds: list[str] | None
    patterns: Tensor
    shares: Tensor
    dominated: float

    def as_plain(self) -> dict[str, Any]:
        """Tensors, numbers, strings, lists and dictionaries, to be stored beside the run."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Evaluation":
        """The evaluation that `as_plain` gave."""
        tuples = ("channels", "units", "parameters", "parameter_units")
        held: dict[str, Any] = {field.name: plain[field.name] for field in fields(cls)}
        held |= {name: tuple(held[name]) for name in tuples}
        return cls(**held)

    def summary(self) -> dict[str, float]:
        """The model's figures for `summary.json`."""
        recovered = {f"r2_{row['parameter']}": row["r2"] for row in self.recovery}
        return {**self.errors, **recovered, "residual_dominates": self.dominated}

    def as_metrics(self) -> dict[str, Any]:
        """Figures without pictures, for `metrics.json`."""
        large = ("estimate", "spread", "truth", "days", "kinds", "patterns", "shares")
        return {k: v for k, v in self.as_plain().items() if k not in large}


@torch.no_grad()
def evaluate_model(config: PhysConfig, bundle: Bundle, model: PhysicsVAE) -> Evaluation:
    """Score a model, in eval mode, on the test split.

    Args:
        config: Of the run.
        bundle: Of its data.
        model: With the weights to be scored.
    """
    model.eval()
    split, on = bundle.splits["test"], next(model.parameters()).device
    decoded = [v.cpu() for v in decode_means(model, split, on)]
    x_pb, x_p, correction = decoded
    valid = bundle.splits["valid"]
    errors = {
        "x_pb": _mean(x_pb - split.x),
        "x_p": _mean(x_p - split.x),
        "residual": _mean(correction),
        "valid_x_pb": _mean(decode_means(model, valid, on)[0].cpu() - valid.x),
    }
    posterior = _posterior(config, model, split, on)
    names = tuple(model.physics.parameter_names) if model.latent_dim else ()
    known = identify(config, bundle, model) if names else {}
    patterns, shares = leading_patterns(correction)
    physical = [bundle.physical(v) for v in (x_pb, x_p)]
    return Evaluation(
        problem=config.problem,
        kind=config.model.kind,
        seed=config.train.seed,
        channels=bundle.channels,
        units=tuple(model.physics.output_units),
        parameters=names,
        parameter_units=tuple(model.physics.parameter_units) if names else (),
        errors=errors,
        baselines=baselines(config, bundle, model),
        channel_rows=_channel_rows(bundle, split, *physical),
        recovery=_recovery_rows(model, posterior, split, known) if names else [],
        identifiability=known,
        collapse=_collapse(model, split, on) if names else None,
        posterior=posterior["rows"],
        estimate=posterior["mean"],
        spread=posterior["sd"],
        truth=_truth(names, split),
        days=None if split.days is None else split.days.tolist(),
        kinds=split.kinds,
        patterns=patterns,
        shares=shares,
        dominated=_dominated(*physical) if names else 0.0,
    )


def _mean(difference: Tensor) -> float:
    return squares(difference.double()).mean().item()


def _dominated(x_pb: Tensor, x_p: Tensor) -> float:
    return (residual_ratio(x_pb, x_p) > DOMINATES).double().mean().item()


def _slices(count: int) -> list[slice]:
    return [slice(first, first + BATCH) for first in range(0, count, BATCH)]


def moved(split: Split, rows: slice, device: torch.device) -> tuple[Tensor, dict[str, Any]]:
    """Observations of some rows and what the model's calls take beside them, on a device."""
    known = split.known(rows)
    inputs = {name: value.to(device) for name, value in known.pop("inputs").items()}
    return split.x[rows].to(device), {
        "inputs": inputs,
        **{name: value.to(device) for name, value in known.items()},
    }


def decode_means(
    model: PhysicsVAE, split: Split, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """x_PB, x_P and their difference at the means of the latents, all rows, standardised."""
    parts = []
    for rows in _slices(len(split)):
        x, more = moved(split, rows, device)
        found = model(x, **more, hard=True).decoding
        parts.append((found.x_pb, found.x_p, found.correction))
    x_pb, x_p, correction = (torch.cat(column) for column in zip(*parts, strict=True))
    return x_pb, x_p, correction


def _posterior(
    config: PhysConfig, model: PhysicsVAE, split: Split, device: torch.device
) -> dict[str, Any]:
    if not model.latent_dim:
        empty = split.x[:, :0]
        return {"rows": [], "mean": empty, "sd": empty}
    generator = torch.Generator(device=device).manual_seed(config.train.seed)
    parts = []
    for rows in _slices(len(split)):
        x, more = moved(split, rows, device)
        found = model.posterior(x, **more, samples=config.evaluate.samples, generator=generator)
        parts.append((found.mean_tensor, found.samples.std(1), found.edge))
    mean, sd, edge = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    names, units = model.physics.parameter_names, model.physics.parameter_units
    rows = [
        {
            "parameter": name,
            "unit": unit,
            "mean": mean[:, i].mean().item(),
            "sd over rows": mean[:, i].std().item(),
            "mean posterior sd": sd[:, i].mean().item(),
            "at an edge": edge[:, i].double().mean().item(),
        }
        for i, (name, unit) in enumerate(zip(names, units, strict=True))
    ]
    return {"rows": rows, "mean": mean, "sd": sd}


def _truth(names: tuple[str, ...], split: Split) -> Tensor:
    """(row, P), NaN where the truth of a parameter is not known."""
    unknown = torch.full((len(split),), torch.nan, dtype=torch.float64)
    columns = [split.truth.get(name, unknown) for name in names]
    return torch.stack(columns, 1) if columns else unknown[:, None][:, :0]


def _recovery_rows(
    model: PhysicsVAE, posterior: dict[str, Any], split: Split, known: dict[str, Any]
) -> list[dict[str, Any]]:
    names = model.physics.parameter_names
    there = [i for i, name in enumerate(names) if name in split.truth]
    if not there:
        return []
    chosen = [names[i] for i in there]
    found = recovery_report(
        posterior["mean"][:, there].double(),
        _truth(names, split)[:, there],
        names=chosen,
        bounds=model.physics.bounds.detach().cpu()[there],
        sd=posterior["sd"][:, there].double(),
    )
    error = (posterior["mean"] - _truth(names, split)).abs().mean(0)
    assert found.coverage is not None
    return [
        {
            "parameter": name,
            "unit": model.physics.parameter_units[i],
            "r2": found.r2[j].item(),
            "attainable r2": known["attainable_r2"][name],
            "rmse": found.rmse[j].item(),
            "mae": error[i].item(),
            "bias": found.bias[j].item(),
            "coverage of 90 %": found.coverage[j].item(),
        }
        for j, (i, name) in enumerate(zip(there, chosen, strict=True))
    ]


def _channel_rows(bundle: Bundle, split: Split, *physical: Tensor) -> list[dict[str, Any]]:
    target = bundle.physical(split.x).double()
    spread = (target - target.mean(0)).square().sum(0)
    rows: list[dict[str, Any]] = [{"channel": name} for name in bundle.channels]
    for name, pred in zip(("x_PB", "x_P"), physical, strict=True):
        error = (pred.double() - target).square()
        rmse, r2 = error.mean(0).sqrt(), 1 - error.sum(0) / spread
        for row, one, other in zip(rows, rmse.tolist(), r2.tolist(), strict=True):
            row |= {f"RMSE {name}": one, f"R² {name}": other}
    return rows


def _collapse(model: PhysicsVAE, split: Split, device: torch.device) -> dict[str, Any]:
    x, more = moved(split, slice(0, None), device)
    found = asdict(collapse_report(model, x, **more))
    return {k: v.tolist() if isinstance(v, Tensor) else v for k, v in found.items()}


def identify(config: PhysConfig, bundle: Bundle, model: PhysicsVAE) -> dict[str, Any]:
    """What observations can tell of the parameters, at draws from their ranges."""
    generator = torch.Generator().manual_seed(config.train.seed)
    names = model.physics.parameter_names
    z = 0.02 + 0.96 * torch.rand(NUM_UNIT, len(names), generator=generator)
    noise = bundle.noise
    if noise is None:
        noise = torch.tensor(config.loss.noise_variance**0.5)
    on = next(model.parameters()).device
    found = identifiability(model.generate_physonly, z.to(on), noise=noise.to(on), names=names)
    return {
        "attainable_r2": dict(zip(names, found.attainable_r2.tolist(), strict=True)),
        "sd": dict(zip(names, found.sd.mean(0).tolist(), strict=True)),
        "condition": found.condition,
        "weakest": found.weakest,
    }


def baselines(config: PhysConfig, bundle: Bundle, model: PhysicsVAE) -> dict[str, float]:
    """Σ squares of what is no model: the mean, principal components, the best fit of the physics."""
    train, test = bundle.splits["train"].x, bundle.splits["test"].x
    most = min(train.shape)
    aux, physics = config.model.aux_dim, model.latent_dim
    ranks = sorted({min(k, most) for k in (0, aux, physics, physics + aux)})
    found = pca_baseline(train, test, ranks=ranks)
    named = {"mean" if k == 0 else f"pca_{k}": value for k, value in found.items()}
    if config.oracle_starts:
        named["oracle"] = oracle_error(config, bundle, model)
    return named


def oracle_error(config: PhysConfig, bundle: Bundle, model: PhysicsVAE) -> float:
    """Σ squares of the best fit of the physics to each of the rows that `oracle_slice` takes."""
    split, settings = bundle.splits["test"], config.evaluate
    rows = oracle_slice(len(split), settings.oracle_rows)
    on = next(model.parameters()).device
    x, more = moved(split, rows, on)

    def decode(z: Tensor) -> Tensor:
        return model.generate_physonly(z, more["inputs"])

    fit: Callable[..., Any] = oracle_fit
    found = fit(
        decode,
        x,
        dim=model.physics_dim,
        starts=config.oracle_starts,
        steps=settings.oracle_steps,
    )
    return found.error.double().mean().item()


def oracle_slice(count: int, most: int | None) -> slice:
    """At most so many of the rows, evenly over all: the first of a series in time are like no others."""
    return slice(None, None, -(-count // (most or count)))


def leading_patterns(correction: Tensor) -> tuple[Tensor, Tensor]:
    """Principal directions of a correction (k, D) and their shares of its variance, at most four."""
    centred = correction.double() - correction.double().mean(0)
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    energy = values.square()
    if energy.sum() == 0:
        return directions[:0], energy[:0]
    count = min(4, int((energy > 1e-6 * energy[0]).sum()))
    return directions[:count], (energy / energy.sum())[:count]
