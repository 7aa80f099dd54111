"""From the configuration to data, model, task and weighting: construction, and nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from nops_models import MLP, FourierMLP, WaveGraphNet
from nops_schedules import warmup_cosine
from nops_train import BatchSource, InputError, ListSource, join_world, make_learning_rate
from torch import Tensor, nn

from pinn_weighting.chain import (
    EnergyBound,
    Motions,
    NoisyMotions,
    divisors,
    draw_motions,
    make_chain,
    units,
)
from pinn_weighting.config import ModelConfig, PinnConfig
from pinn_weighting.equations import Equation, make_equation
from pinn_weighting.points import Collocation, grid_points, read_reference, valid_points
from pinn_weighting.problems import FACTS
from pinn_weighting.tasks import ChainTask, PointTask
from pinn_weighting.weightings import Chosen, choose


@dataclass(frozen=True)
class PointProblem:
    """A problem of points: batches of collocation points, and points where the solution is known."""

    config: PinnConfig

    def __post_init__(self) -> None:
        if join_world().active:
            raise InputError(f"problem {self.config.problem.name} trains in one process")

    @cached_property
    def equation(self) -> Equation:
        """Residuals and the exact solution."""
        return make_equation(self.config.problem.name)

    @cached_property
    def train(self) -> Collocation:
        """One step per batch."""
        return Collocation(self.config.problem, self.equation, seed=self.config.train.seed)

    @property
    def valid(self) -> ListSource:
        """Points within the domain, the same for every run."""
        if self.config.problem.reference is not None:
            points, values = self.reference
            batch = {"points": points.flatten(0, -2), "target": values.flatten(0, -2)}
        else:
            points = valid_points(FACTS[self.config.problem.name])
            batch = {"points": points, "target": self.equation.exact(points)}
        return ListSource([batch], shuffle=False)

    @cached_property
    def reference(self) -> tuple[Tensor, Tensor]:
        """The test grid and the fields on it, `[…, columns]` and `[…, outputs]`."""
        config = self.config
        if config.problem.reference is not None:
            return read_reference(config.problem)
        points = grid_points(FACTS[config.problem.name], config.evaluate.points)
        flat = self.equation.exact(points.flatten(0, -2))
        return points, flat.reshape(*points.shape[:-1], -1)

    @property
    def sample(self) -> Mapping[str, Tensor]:
        """A training batch."""
        return self.train.first

    def model(self) -> nn.Module:
        """The network."""
        return _network(self.config.model, FACTS[self.config.problem.name])

    def task(self, model: nn.Module, chosen: Chosen) -> PointTask:
        """What the engine trains."""
        return PointTask(model, self.equation, points=chosen.points)


@dataclass(frozen=True)
class ChainProblem:
    """Steps of the chain: batches of random motions."""

    config: PinnConfig

    @cached_property
    def chain(self) -> Any:
        """The physics."""
        return make_chain(self.config)

    @cached_property
    def motions(self) -> tuple[Motions, Motions]:
        """To train on, and to validate on."""
        return draw_motions(self.config, self.chain)

    @property
    def train(self) -> ListSource | NoisyMotions:
        """Samples in a new order each epoch, with `problem.noise` on top."""
        config, samples = self.config, self.motions[0].samples()
        if config.problem.drop_last and len(samples) < config.train.batch_size:
            raise InputError(
                f"train.batch_size = {config.train.batch_size}: there are {len(samples)} samples, and "
                "problem.drop_last leaves out a smaller batch; lower it"
            )
        source = ListSource(
            samples,
            batch_size=config.train.batch_size,
            shuffle=config.problem.shuffle,
            drop_last=config.problem.drop_last,
            seed=config.train.seed,
        )
        noise, seed = config.problem.noise, config.train.seed
        if not noise:
            return source
        return NoisyMotions(motions=source, chain=self.chain, size=noise, seed=seed)

    @property
    def valid(self) -> ListSource:
        """All held-out samples in one batch: the error is one quotient of sums."""
        return ListSource([self.motions[1].batch()], shuffle=False)

    @property
    def sample(self) -> Mapping[str, Tensor]:
        """A training batch."""
        batch = self.motions[0].batch()
        return {name: values[: self.config.train.batch_size] for name, values in batch.items()}

    def model(self) -> nn.Module:
        """The network, with divisors that fit the motions."""
        model = self.config.model
        assert model.hidden is not None
        assert model.layers is not None
        assert model.activation is not None
        scales = divisors(self.config, self.motions[0])
        gains, increments = units(self.config, scales)
        return WaveGraphNet(
            hidden=model.hidden,
            layers=model.layers,
            conv=model.conv,
            activation=model.activation,
            dropout=model.dropout,
            skip=model.skip,
            residual=model.residual,
            scales=scales,
            gains=gains,
            increments=increments,
            limit=EnergyBound(self.chain) if model.energy_bound else None,
        )

    def task(self, model: nn.Module, chosen: Chosen) -> ChainTask:
        """What the engine trains."""
        return ChainTask(model, self.chain, scheme=self.config.physics.scheme)


Problem = PointProblem | ChainProblem


def open_problem(config: PinnConfig) -> Problem:
    """The problem of a settled config."""
    return ChainProblem(config) if config.problem.is_chain else PointProblem(config)


def _network(model: ModelConfig, facts: Any) -> nn.Module:
    shared: dict[str, Any] = {
        "in_features": len(facts.columns),
        "out_features": len(facts.outputs),
        "hidden": model.hidden,
        "layers": model.layers,
        "activation": model.activation,
    }
    if model.kind == "fourier":
        waves = {"frequencies": model.frequencies, "scales": model.fourier_scales}
        return FourierMLP(**shared, **waves)
    return MLP(**shared, bias=model.bias)


def build_model(config: PinnConfig, problem: Problem) -> nn.Module:
    """The network with weights drawn from the run's seed."""
    torch.manual_seed(config.train.seed)
    return problem.model()


def build_weighting(config: PinnConfig) -> Chosen:
    """The weighting.

    Raises:
        InputError: If it does not fit the terms, or needs an extra that is not installed.
    """
    try:
        return choose(config, config.base_weights())
    except (ValueError, KeyError) as error:
        raise InputError(f"weighting: {error}") from error
    except ImportError as error:
        raise InputError(f"weighting.kind = {config.weighting.kind}: {error}") from error


def build_optimizer(config: PinnConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over what is not frozen."""
    train = config.train
    assert train.learning_rate is not None
    options: dict[str, Any] = {"lr": train.learning_rate, "weight_decay": train.weight_decay}
    if train.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=0.9, **options)
    kind = torch.optim.AdamW if train.optimizer == "adamw" else torch.optim.Adam
    assert train.adam_eps is not None
    return kind(model.parameters(), eps=train.adam_eps, **options)


def learning_rate(
    config: PinnConfig, source: BatchSource, *, samples: int
) -> Callable[[int, int], float]:
    """The rate of each step; under `train.scale_lr` times the root of samples over the baseline."""
    train = config.train
    if train.scale_lr:
        assert train.learning_rate is not None
        scale = (samples / train.lr_baseline) ** 0.5
        train = train.model_copy(update={"learning_rate": train.learning_rate * scale})
    return make_learning_rate(train, steps_per_epoch=source.num_batches, cosine=warmup_cosine)
