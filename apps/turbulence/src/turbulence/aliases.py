"""Other accepted names of keys: published configurations, their renamed losses, and shorter forms."""

from collections.abc import Callable, Mapping
from typing import Any

from nops_schedules import rename_legacy_losses
from nops_train import Alias

from turbulence.config_loss import TERMS
from turbulence.config_weighting import SchedulerConfig

LEGACY_TERMS = (
    *("recMSE", "reconstruction_mse", "lossRecMSE", "predMSE", "prediction_mse", "lossPredMSE"),
    *("reconstruction_lsim", "prediction_lsim"),
)
COMPONENTS = ("source_components", "target_components", "static_components")
DICTS = (*COMPONENTS, "roles", "caps")
METHODS = ("diffusion", "dcar", "gan", "tno")
FIELDS = {"dens": "density", "pres": "pressure", "velZ": "velocityZ"}
PARAMETERS = {"rey": "Reynolds Number", "mach": "Mach Number"}
Settings = Mapping[str, Any]


def legacy(section: str, name: str) -> Callable[[Any], Settings]:
    """What an old name of a loss sets in a section; it warns, once per place."""

    def expand(value: Any) -> Settings:
        renamed = rename_legacy_losses({name: value}, stacklevel=3)
        return {f"{section}.{new}": held for new, held in renamed.items()}

    return expand


def _enabled(value: bool) -> Settings:
    return {"weighting.kind": "scheduler" if value else "constant"}


def _sequence(value: list[int]) -> Settings:
    length, stride = value
    if length < 2:
        raise ValueError(f"a frame and its successor at least, got a length of {length}")
    if stride != 1:
        raise ValueError(
            f"the stride is that of the data: give frames [first, last, {stride}] in data.splits, and "
            f"[{length}, 1] here"
        )
    return {"train.unroll": length - 1}


def _frames(value: int) -> Settings:
    if value < 2:
        raise ValueError("2 frames at least")
    return {"data.num_steps": value - 1}


def _trajectories(value: list[int]) -> Settings:
    names = ("num_train", "num_valid", "num_test")
    return {f"data.{name}": count for name, count in zip(names, value, strict=True)}


def _resolution(value: int) -> Settings:
    return {"data.shape": [value, value]}


def _fields(value: list[str]) -> Settings:
    return {"data.fields": ["velocity", *(_known(name, FIELDS) for name in value)]}


def _parameters(value: list[str]) -> Settings:
    return {"data.parameters": [_known(name, PARAMETERS) for name in value]}


def _known(name: str, table: Mapping[str, str]) -> str:
    if name not in table:
        raise ValueError(f"expected some of {', '.join(table)}; found {name}")
    return table[name]


def _gamma(value: float) -> Settings:
    return {"train.lr_gamma": value, "train.lr_schedule": "constant"}


def _only(expected: Any, reason: str) -> Callable[[Any], Settings]:
    """Accepts what is so here anyway, and says so of anything else."""

    def check(value: Any) -> Settings:
        if value != expected:
            raise ValueError(f"{reason}; found {value}")
        return {}

    return check


def _refused(method: str) -> Callable[[Any], Settings]:
    def refuse(value: Any) -> Settings:
        raise ValueError(f"{method} is a method that this app does not ship")

    return refuse


def _names(prefix: str, section: str, names: tuple[str, ...]) -> tuple[Alias, ...]:
    return tuple(Alias(name=f"{prefix}.{name}", sets=f"{section}.{name}") for name in names)


def _legacy(prefix: str, section: str, kind: Any) -> tuple[Alias, ...]:
    return tuple(
        Alias(
            name=f"{prefix}.{name}",
            sets=legacy(section, name),
            type=kind,
            help=f"Old name of a loss; see {section}.",
        )
        for name in LEGACY_TERMS
    )


def _scheduler() -> tuple[Alias, ...]:
    """The section `scheduler` by the schedule's own names."""
    plain = tuple(n for n in SchedulerConfig.model_fields if n not in ("kind", *DICTS))
    kinds = dict.fromkeys(COMPONENTS[:2], bool) | {COMPONENTS[2]: float}
    components = [
        alias
        for part, kind in kinds.items()
        for alias in (
            *_names(f"scheduler.{part}", f"weighting.{part}", TERMS),
            *_legacy(f"scheduler.{part}", f"weighting.{part}", kind),
            *_legacy(f"weighting.{part}", f"weighting.{part}", kind),
        )
    ]
    enabled = Alias(
        name="scheduler.enabled", sets=_enabled, type=bool, help="Whether weights move at all."
    )
    return (enabled, *_names("scheduler", "weighting", plain), *components)


SHORT = (
    Alias(name="data.batch", sets="train.batch_size"),
    Alias(name="data.dt", sets="data.time_step"),
    Alias(name="train.lr", sets="train.learning_rate"),
    Alias(name="data.frames", sets=_frames, type=int, help="Frames per trajectory."),
    Alias(
        name="data.trajectories",
        sets=_trajectories,
        type=tuple[int, int, int],
        help="Trajectories to train on, validate and test.",
    ),
    Alias(name="data.resolution", sets=_resolution, type=int, help="Cells along each axis."),
)
PUBLISHED = (
    Alias(name="data_params.batch", sets="train.batch_size"),
    Alias(name="data_params.dataSize", sets="data.shape"),
    Alias(name="data_params.normalizeMode", sets="data.normalise"),
    Alias(
        name="data_params.sequenceLength",
        sets=_sequence,
        type=tuple[int, int],
        help="Frames per window, and their stride, which is that of the data.",
    ),
    Alias(
        name="data_params.randSeqOffset",
        sets=_only(True, "windows start at random here"),
        type=bool,
        help="True: windows start at random.",
    ),
    Alias(
        name="data_params.dimension",
        sets=_only(2, "fields have 2 dimensions here"),
        type=int,
        help="2.",
    ),
    Alias(
        name="data_params.augmentations",
        sets=_only(["normalize"], "normalize is the only augmentation here"),
        type=list[str],
        help="normalize alone.",
    ),
    Alias(
        name="data_params.simFields",
        sets=_fields,
        type=list[str],
        help=f"Fields beside the velocity: {', '.join(FIELDS)}.",
    ),
    Alias(
        name="data_params.simParams",
        sets=_parameters,
        type=list[str],
        help=f"Parameters: {', '.join(PARAMETERS)}.",
    ),
    Alias(name="training_params.epochs", sets="train.epochs"),
    Alias(name="training_params.lr", sets="train.learning_rate"),
    Alias(name="training_params.weightDecay", sets="train.weight_decay"),
    Alias(
        name="training_params.expLrGamma",
        sets=_gamma,
        type=float,
        help="Factor on the learning rate per epoch.",
    ),
    *_names("loss_params", "loss", (*TERMS, "fadeInPredLoss")),
)
REFUSED = tuple(
    Alias(name=method, sets=_refused(method), type=Any, help="Refused: not shipped.")
    for method in METHODS
)
ALIASES = (
    *SHORT,
    *PUBLISHED,
    *_legacy("loss", "loss", float),
    *_legacy("loss_params", "loss", float),
    *_scheduler(),
    *REFUSED,
)
