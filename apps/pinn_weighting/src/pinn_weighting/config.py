"""The configuration of the app: one frozen model, validated once, apart from construction."""

import difflib
from typing import Annotated, Literal

from nops_train import Config, TrainConfig
from pydantic import Field, TypeAdapter, field_validator, model_validator

from pinn_weighting.config_weighting import (
    POINTWISE,
    SCHEMES,
    Weighting,
)
from pinn_weighting.problems import CHAIN, FACTS

Count = Annotated[int, Field(ge=1)]
Name = Literal[
    "wave_chain", "poisson", "heat", "burgers", "wave", "helmholtz", "kovasznay", "allen_cahn"
]


class ProblemConfig(Config):
    """What is solved, and on how much data."""

    name: Name = Field(default="wave_chain", description="The problem.")
    num_graphs: int = Field(default=200, ge=2, description="Random motions of wave_chain.")
    num_steps: int = Field(default=5, ge=1, description="Instants of each.")
    train_ratio: float = Field(
        default=0.8, gt=0, lt=1, description="Share of the motions to train on."
    )
    shuffle: bool = Field(default=True, description="New order of samples in each epoch.")
    drop_last: bool = Field(default=True, description="Leave out a last batch with fewer samples.")
    data_seed: int = Field(default=1000, ge=0, description="Motion i is drawn from this plus i.")
    noise: float = Field(
        default=0.03,
        ge=0,
        description="Displacement of random free motions on top of those trained on, of wave_chain.",
    )
    points: dict[str, Count] = Field(
        default={},
        description="Collocation points by set (pde, ic, bc), in place of the problem's.",
    )
    sampling: Literal["uniform", "latin_hypercube"] = Field(
        default="uniform", description="How points are drawn."
    )
    resample: bool = Field(default=False, description="Draw them anew for each step.")
    steps_per_epoch: int = Field(
        default=100, ge=1, description="Optimizer steps of an epoch, of points."
    )
    reference: str | None = Field(
        default=None,
        min_length=1,
        description="FILE.npy on a grid, in place of the computed solution.",
    )
    axes: tuple[tuple[float, float], ...] = Field(
        default=(), description="First and last coordinate of each axis of the file; ends included."
    )

    @model_validator(mode="after")
    def _file_has_axes(self) -> "ProblemConfig":
        if (self.reference is None) != (not self.axes):
            raise ValueError("reference and axes: give both or none")
        return self

    @property
    def is_chain(self) -> bool:
        """Whether a step in time is learned on a graph, and not a solution."""
        return self.name == CHAIN


class ForceConfig(Config):
    """The push on the chain."""

    kind: Literal["gaussian", "none"] = Field(default="gaussian", description="Its form.")
    amplitude: float = Field(default=-3.0, description="Acceleration at its centre.")
    location: float | None = Field(
        default=None, description="Of the centre; null: drawn for each motion."
    )
    margin: float = Field(
        default=0.1, ge=0, lt=0.5, description="Share of the length without centres."
    )


class PhysicsConfig(Config):
    """The chain."""

    n_nodes: int = Field(default=100, ge=3, description="Nodes, ends included.")
    length: float = Field(default=1.0, gt=0, description="Of the chain.")
    c: float = Field(default=1.0, gt=0, description="Speed of waves.")
    k: float = Field(default=1.0, ge=0, description="Damping, per time.")
    dt: float = Field(default=0.01, gt=0, description="Time of one step.")
    scheme: Literal["trapezoidal", "semi_implicit", "euler", "rk4"] = Field(
        default="trapezoidal", description="Integrator whose residuals are PI_loss1 and PI_loss2."
    )
    force: ForceConfig = Field(default=ForceConfig(), description="The push.")


class ModelConfig(Config):
    """The network; null takes the problem's."""

    kind: Literal["graph", "mlp", "fourier"] | None = Field(
        default=None, description="graph on wave_chain, mlp or fourier elsewhere."
    )
    hidden: int | None = Field(default=None, ge=1, description="Width.")
    layers: int | None = Field(default=None, ge=1, description="Hidden layers.")
    activation: Literal["tanh", "silu", "gelu", "elu", "relu"] | None = Field(
        default=None, description="silu on wave_chain, tanh elsewhere."
    )
    conv: Literal["difference", "mean", "gcn"] = Field(
        default="difference", description="What a node sees."
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of features dropped in training."
    )
    skip: bool = Field(default=True, description="Add a graph layer's input to its output.")
    residual: bool = Field(default=True, description="Predict the increment of a step.")
    energy_bound: bool = Field(
        default=False,
        description="Outside of training, let no mode of the chain gain more energy in a step than "
        "the push can give.",
    )
    scaling: Literal["fixed", "standard", "minmax"] = Field(
        default="fixed",
        description="Divisors inside: fixed, standard deviations, or largest values.",
    )
    per_feature: bool = Field(default=True, description="A divisor for each of u, v and f.")
    scaling_epsilon: float = Field(default=1e-8, gt=0, description="Least divisor.")
    bias: float = Field(default=0.0, description="What every bias of mlp starts at.")
    frequencies: int = Field(default=64, ge=1, description="Waves per scale, of fourier.")
    fourier_scales: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(1.0, 10.0), min_length=1, description="Of fourier, per unit of the coordinates."
    )


class LossConfig(Config):
    """Base weight of each term's mean square; 0 is off. A problem reads those of its own terms."""

    PI_loss1: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the residual of the integrator in u, of wave_chain.",
    )
    PI_loss2: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the residual of the integrator in v, of wave_chain.",
    )
    RK4_loss1: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the distance to a Runge-Kutta step in u, of wave_chain.",
    )
    RK4_loss2: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the distance to a Runge-Kutta step in v, of wave_chain.",
    )
    pde: float = Field(default=1.0, ge=0, description="Weight of the residual of the equation.")
    momentum_x: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the residual of the first momentum equation, of kovasznay.",
    )
    momentum_y: float = Field(
        default=1.0, ge=0, description="Weight of the residual of the second, of kovasznay."
    )
    divergence: float = Field(
        default=1.0, ge=0, description="Weight of the divergence of the velocity, of kovasznay."
    )
    ic: float = Field(default=1.0, ge=0, description="Weight of the values at the start.")
    ic_u: float = Field(
        default=1.0, ge=0, description="Weight of the values at the start, of wave."
    )
    ic_v: float = Field(default=1.0, ge=0, description="Weight of the rates at the start, of wave.")
    bc: float = Field(default=1.0, ge=0, description="Weight of the values on the sides.")


class PinnTrainConfig(TrainConfig):
    """Optimisation: what every app has, and the choice of an optimizer."""

    epochs: int = Field(default=50, ge=1, description="Passes over the training set.")
    batch_size: int = Field(default=32, ge=1, description="Samples per step, of wave_chain.")
    learning_rate: float | None = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default=None, gt=0, description="At its peak; null: 0.005 on wave_chain, else 0.001."
    )
    weight_decay: float = Field(
        default=0.0, ge=0, description="Decoupled (adamw) or not (adam, sgd)."
    )
    grad_clip: float | None = Field(default=None, gt=0, description="Largest norm of the gradient.")
    save_every: int = Field(default=1000, ge=1, description="Optimizer steps between checkpoints.")
    log_every: int = Field(
        default=5, ge=1, description="Optimizer steps between lines of the event log."
    )
    monitor: str = Field(
        default="error", min_length=1, description="Metric that decides the best model."
    )
    optimizer: Literal["adamw", "adam", "sgd"] = Field(
        default="adamw", description="Of the weights."
    )
    adam_eps: float | None = Field(
        default=None,
        gt=0,
        description="Added to the second moment's root; null: 1e-15 on wave_chain, else 1e-8.",
    )
    scale_lr: bool = Field(default=False, description="Times the root of samples over lr_baseline.")
    measure_batches: int = Field(
        default=0, ge=0, description="Batches that kind: adaptive measures before the first step."
    )
    lr_baseline: int = Field(
        default=1000, ge=1, description="Samples at which scale_lr changes nothing."
    )

    @model_validator(mode="after")
    def _one_module(self) -> "PinnTrainConfig":
        if self.shard:
            raise ValueError("shard has no effect on networks of this size")
        return self


class CompareConfig(Config):
    """What `compare` runs."""

    problems: tuple[Name, ...] = Field(default=("poisson",), min_length=1, description="On which.")
    schemes: tuple[str, ...] = Field(
        default=(
            *("fixed", "tuned", "equal_init", "equal_init_ema"),
            *("relobralo", "lra", "gradient_norm", "config"),
        ),
        min_length=1,
        description="Names of weightings; tuned is fixed with the best factor of fixed_grid.",
    )
    seeds: int = Field(default=5, ge=1, description="How many, counted from first_seed.")
    first_seed: int = Field(default=0, ge=0, description="The first of them.")
    steps: int = Field(
        default=1500, ge=1, description="Optimizer steps of a run, but on wave_chain."
    )
    fixed_grid: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(1.0, 10.0, 100.0, 1000.0),
        min_length=1,
        description="Factors on all terms but residuals that tuned tries.",
    )
    tuning_seed: int = Field(default=1000, ge=0, description="Seed of the runs that tune.")
    budget: tuple[Literal["steps", "time"], ...] = Field(
        default=("steps", "time"), min_length=1, description="Equal steps, equal time, or both."
    )
    workers: int | None = Field(
        default=None, ge=1, description="Processes; null: one per processor."
    )
    vary: tuple[str, ...] = Field(
        default=(),
        description="Values of further keys, such as weighting.eps=1e-8,1e-6, with each scheme.",
    )

    @field_validator("schemes")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in SCHEMES:
                near = difflib.get_close_matches(name, SCHEMES, n=1)
                advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(SCHEMES)}"
                raise ValueError(f"{name}: unknown scheme; {advice}")
        return value

    @field_validator("vary")
    @classmethod
    def _assigns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            key, equals, values = text.partition("=")
            if not (key and equals and values):
                raise ValueError(f"expected KEY=VALUE,VALUE; found {text}")
        return value

    @field_validator("problems", "schemes", "fixed_grid", "budget")
    @classmethod
    def _each_once(cls, value: tuple) -> tuple:
        if len(set(value)) < len(value):
            raise ValueError(f"one of {list(value)} is there twice")
        return value

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(range(self.first_seed, self.first_seed + self.seeds))


class EvaluateConfig(Config):
    """The evaluation."""

    checkpoint: Literal["last", "best"] = Field(
        default="last", description="Which weights are scored."
    )
    points: int = Field(default=200, ge=10, description="Of the test grid along each column.")
    duration: float = Field(default=10.0, gt=0, description="Of the rollout of wave_chain.")


ADAPTIVE = TypeAdapter(Weighting).validate_python({"kind": "adaptive"})


class PinnConfig(Config):
    """Everything that a run of the app depends on."""

    problem: ProblemConfig = Field(default=ProblemConfig(), description="What is solved.")
    physics: PhysicsConfig = Field(default=PhysicsConfig(), description="The chain of wave_chain.")
    model: ModelConfig = Field(default=ModelConfig(), description="Network.")
    loss: LossConfig = Field(default=LossConfig(), description="Base weight of each term.")
    weighting: Weighting = Field(default=ADAPTIVE, description="Weights over time.")
    train: PinnTrainConfig = Field(default=PinnTrainConfig(), description="Optimisation.")
    compare: CompareConfig = Field(default=CompareConfig(), description="Of the command compare.")
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="Evaluation.")

    @model_validator(mode="after")
    def _network_fits(self) -> "PinnConfig":
        kinds = ("graph",) if self.problem.is_chain else ("mlp", "fourier")
        if self.model.kind is not None and self.model.kind not in kinds:
            raise ValueError(
                f"model.kind = {self.model.kind}: problem {self.problem.name} takes "
                f"{' or '.join(kinds)}"
            )
        if self.model.activation == "relu" and not self.problem.is_chain:
            raise ValueError("model.activation = relu has no second derivative; take tanh")
        if self.train.compile and not self.problem.is_chain:
            raise ValueError(
                "train.compile: torch.compile has no double backward, which residuals need; "
                "leave it false"
            )
        return self

    @model_validator(mode="after")
    def _scheme_fits(self) -> "PinnConfig":
        kind, problem = self.weighting.kind, self.problem
        if kind in POINTWISE and (problem.is_chain or problem.resample):
            raise ValueError(
                f"weighting.kind = {kind} weighs fixed points: it needs a problem of points, "
                f"and problem.resample false; found {problem.name}, {problem.resample}"
            )
        if kind == "ntk" and problem.is_chain:
            raise ValueError("weighting.kind = ntk needs residuals of points; take another problem")
        if kind == "causal" and "t" not in FACTS[problem.name].columns:
            raise ValueError(f"weighting.kind = causal needs time; {problem.name} has none")
        if not any(self.base_weights().values()):
            raise ValueError(f"loss: every weight of {problem.name} is 0, nothing is trained")
        return self

    @model_validator(mode="after")
    def _sets_are_known(self) -> "PinnConfig":
        known = FACTS[self.problem.name].points
        for name in self.problem.points:
            if name not in known:
                raise ValueError(
                    f"problem.points.{name}: {self.problem.name} has {', '.join(known) or 'none'}"
                )
        return self

    def point_counts(self) -> dict[str, int]:
        """Points of each set."""
        return {**FACTS[self.problem.name].points, **self.problem.points}

    def rows_of(self, term: str) -> int:
        """Residuals of a term in one step."""
        facts, counts = FACTS[self.problem.name], self.point_counts()
        if self.problem.is_chain:
            return self.train.batch_size * self.physics.n_nodes
        is_given = term in facts.data_terms
        return counts[term.partition("_")[0] if is_given else "pde"]

    def base_weights(self) -> dict[str, float]:
        """Base weight of each term of the problem."""
        return {name: getattr(self.loss, name) for name in FACTS[self.problem.name].terms}

    def settled(self) -> "PinnConfig":
        """The config with the problem's own values in place of the nulls that stand for them."""
        facts, chain = FACTS[self.problem.name], self.problem.is_chain
        model = {
            "kind": self.model.kind or ("graph" if chain else "mlp"),
            "hidden": self.model.hidden or facts.hidden,
            "layers": self.model.layers or facts.layers,
            "activation": self.model.activation or ("silu" if chain else "tanh"),
        }
        train = {
            "learning_rate": self.train.learning_rate or (0.005 if chain else 0.001),
            "adam_eps": self.train.adam_eps or (1e-15 if chain else 1e-8),
        }
        return self.model_copy(
            update={
                "model": self.model.model_copy(update=model),
                "train": self.train.model_copy(update=train),
            }
        )
