"""Other accepted names of keys: those of the published configuration, its YAML files and overrides."""

from collections.abc import Callable, Mapping
from typing import Any

from nops_train import Alias

Settings = Mapping[str, Any]

ADAPTIVE: Settings = {"weighting.kind": "adaptive"}
CONVOLUTIONS = {
    "gcn": {"model.conv": "gcn", "model.layers": 3, "model.skip": False},
    "deep_gcn": {"model.conv": "gcn", "model.layers": 6, "model.skip": False},
    "residual_gcn": {"model.conv": "gcn", "model.layers": 6, "model.skip": True},
}
TERMS = {
    "w1_PI": "PI_loss1",
    "w2_PI": "PI_loss2",
    "w1_rk4": "RK4_loss1",
    "w2_rk4": "RK4_loss2",
}
OPTIMIZERS = ("adamw", "adam", "sgd")
FREQUENCY = "update_every"


def _under(settings: Settings, key: str) -> Callable[[Any], Settings]:
    """A value for a key, with what the block that it stands in implies."""
    return lambda value: {**settings, key: value}


def _named(value: str) -> Settings:
    return {"weighting.kind": "constant" if value == "fixed" else value}


def _enabled(value: bool) -> Settings:
    return ADAPTIVE if value else {"weighting.kind": "constant"}


def _switch(*terms: str) -> Callable[[bool], Settings]:
    """Terms that are off when the switch is false."""
    return lambda value: {} if value else {f"loss.{term}": 0.0 for term in terms}


def _network(value: str) -> Settings:
    if value not in CONVOLUTIONS:
        raise ValueError(f"expected one of {', '.join(CONVOLUTIONS)}; found {value}")
    return CONVOLUTIONS[value]


def _convolution(value: str | list[str]) -> Settings:
    names = {value} if isinstance(value, str) else set(value)
    if len(names) != 1 or not names <= {"gcn", "GCN", "GCNConv", "mean", "difference"}:
        raise ValueError(f"expected gcn, mean or difference in all layers; found {value}")
    name = names.pop()
    return {"model.conv": name if name in ("mean", "difference") else "gcn"}


def _channels(value: int | list[int]) -> Settings:
    widths = [value] if isinstance(value, int) else value
    if not widths or len(set(widths)) != 1:
        raise ValueError(f"expected one width in all layers; found {value}")
    layers = {"model.layers": len(widths)} if len(widths) > 1 else {}
    return {"model.hidden": widths[0], **layers}


def _optimizer(value: str) -> Settings:
    if value.lower() not in OPTIMIZERS:
        raise ValueError(f"expected one of {', '.join(OPTIMIZERS)}; found {value}")
    return {"train.optimizer": value.lower()}


def _forcing(value: str) -> Settings:
    if value not in ("gaussian", "none"):
        raise ValueError(f"expected gaussian or none; found {value}")
    return {"physics.force.kind": value}


def _sign(value: float) -> Settings:
    if value not in (-1, 1):
        raise ValueError(f"expected 1 or -1; found {value:g}")
    return {"physics.force.amplitude": 3.0 * value}


def _scaling(value: bool) -> Settings:
    return {"model.scaling": "standard"} if value else {"model.scaling": "fixed"}


def _scaling_method(value: str) -> Settings:
    names = {"standard": "standard", "minmax": "minmax", "fixed": "fixed"}
    if value not in names:
        raise ValueError(f"expected one of {', '.join(names)}; found {value}")
    return {"model.scaling": names[value]}


def _stopping(value: bool) -> Settings:
    return {} if value else {"train.early_stop_patience": None}


def _plot(value: bool) -> Settings:
    """Reports are always drawn; accepted so that old commands run."""
    return {}


def _refused(reason: str) -> Callable[[Any], Settings]:
    def refuse(value: Any) -> Settings:
        if value is False or value is None:
            return {}
        raise ValueError(f"{reason}; leave it out, or set it to false")

    return refuse


WEIGHTING = (
    Alias(name="weighting.name", sets=_named, help="A kind, or fixed."),
    Alias(name="weighting.measure_batches", sets="train.measure_batches"),
    *(Alias(name=f"weighting.initial.{term}", sets=f"loss.{term}") for term in TERMS.values()),
    Alias(
        name="weighting.update_frequency",
        sets=f"weighting.{FREQUENCY}",
    ),
)
DATASET = (
    *(
        Alias(name=f"dataset.{name}", sets=f"problem.{name}")
        for name in ("num_graphs", "num_steps", "train_ratio", "shuffle", "drop_last")
    ),
    Alias(name="dataset.batch_size", sets="train.batch_size"),
    Alias(name="problem.batch_size", sets="train.batch_size"),
    Alias(name="dataset.num_nodes", sets="physics.n_nodes"),
    Alias(name="dataset.domain_length", sets="physics.length"),
    Alias(name="dataset.wave_speed", sets="physics.c"),
    Alias(name="dataset.damping", sets="physics.k"),
    Alias(name="dataset.dt", sets="physics.dt"),
    Alias(name="dataset.force.forcing_type", sets=_forcing, help="gaussian or none."),
    Alias(name="dataset.force.location", sets="physics.force.location"),
    Alias(name="dataset.force.sign", sets=_sign, type=float, help="Of an amplitude of 3."),
    Alias(name="dataset.force.margin", sets="physics.force.margin"),
    Alias(name="dataset.scaling.enabled", sets=_scaling, type=bool, help="False: fixed."),
    Alias(name="dataset.scaling.method", sets=_scaling_method, help="standard or minmax."),
    Alias(name="dataset.scaling.per_feature", sets="model.per_feature"),
    Alias(name="dataset.scaling.epsilon", sets="model.scaling_epsilon"),
)
MODEL = (
    Alias(name="--model", sets=_network, help=f"{', '.join(CONVOLUTIONS)}."),
    Alias(
        name="model.hidden_channels",
        sets=_channels,
        type=int | list[int],
        help="Width of all layers, or one for each.",
    ),
    Alias(
        name="model.conv_types",
        sets=_convolution,
        type=str | list[str],
        help="The same in all layers.",
    ),
)
TRAINING = (
    Alias(name="training.epochs", sets="train.epochs"),
    Alias(name="training.learning_rate", sets="train.learning_rate"),
    Alias(name="train.lr", sets="train.learning_rate"),
    Alias(name="training.optimizer", sets=_optimizer, help=f"{', '.join(OPTIMIZERS)}."),
    Alias(name="training.weight_decay", sets="train.weight_decay"),
    Alias(name="training.grad_clip_norm", sets="train.grad_clip"),
    Alias(name="training.scale_lr_with_dataset", sets="train.scale_lr"),
    Alias(name="training.lr_baseline_size", sets="train.lr_baseline"),
    Alias(name="training.log_interval", sets="train.log_every"),
    Alias(
        name="training.early_stopping.enabled",
        sets=_stopping,
        type=bool,
        help="False: never; else give patience.",
    ),
    Alias(name="training.early_stopping.patience", sets="train.early_stop_patience"),
    *(Alias(name=f"training.loss.{old}", sets=f"loss.{term}") for old, term in TERMS.items()),
    Alias(
        name="training.loss.use_pi",
        sets=_switch("PI_loss1", "PI_loss2"),
        type=bool,
        help="False: weights 0.",
    ),
    Alias(
        name="training.loss.use_rk4",
        sets=_switch("RK4_loss1", "RK4_loss2"),
        type=bool,
        help="False: weights 0.",
    ),
    Alias(name="training.loss.adaptive.enabled", sets=_enabled, type=bool, help="False: fixed."),
    Alias(name="training.loss.adaptive.strategy", sets="weighting.strategy"),
    *(
        Alias(name=f"training.loss.adaptive.{name}", sets=f"weighting.{name}")
        for name in ("ema_alpha", "min_weight", "max_weight")
    ),
    Alias(name="training.loss.adaptive.update_frequency", sets=f"weighting.{FREQUENCY}"),
)
DEAD = {
    "wandb": "watch a run with train.log_to",
    "training.loss.use_energy": "an energy term is not part of this program",
    "training.loss.use_gn_solver": "the solver is a graph network without parameters that makes "
    "Runge-Kutta steps, which every rollout is held against here",
}
OTHER = (
    Alias(name="plot", sets=_plot, type=bool, help="Reports are always drawn."),
    *(
        Alias(name=name, sets=_refused(reason), type=Any, help=f"Accepted when false: {reason}.")
        for name, reason in DEAD.items()
    ),
)
ALIASES = (*WEIGHTING, *DATASET, *MODEL, *TRAINING, *OTHER)
