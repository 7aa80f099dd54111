"""Other accepted names of keys: published configurations, their renamed losses, and shorter forms."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

from nops_schedules import rename_legacy_losses
from nops_train import Alias
from pydantic import Field

from turbulence.config_loss import TERMS
from turbulence.config_weighting import SchedulerConfig
from turbulence.published import METHODS

LEGACY_TERMS = (
    *("recMSE", "reconstruction_mse", "lossRecMSE", "predMSE", "prediction_mse", "lossPredMSE"),
    *("reconstruction_lsim", "prediction_lsim"),
)
COMPONENTS = ("source_components", "target_components", "static_components")
DICTS = (*COMPONENTS, "roles", "caps")
CORRECTOR = (
    *("stage1_epochs", "stage2_epochs", "stage1_lr", "stage2_lr", "training_stage"),
    *("freeze_prior_after_stage1", "correction_strength", "correction_schedule"),
    *("diffusion_num_steps", "diffusion_sigma_data", "enable_dcar", "dcar_correction_frequency"),
)
OTHER_LOSSES = (
    *("extraMSEvelZ", "regVae", "regLatStep", "diffusion_loss_weight", "consistency_loss_weight"),
    *("prior_loss_weight", "adversarial_loss_weight", "perceptual_loss_weight"),
)
FIELDS = {
    "dens": "density",
    "density": "density",
    "pres": "pressure",
    "pressure": "pressure",
    "velZ": "velocityZ",
    "velocityZ": "velocityZ",
}
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


def _none_of(name: str) -> Callable[[Any], Settings]:
    """Accepts the weight 0 of a loss that there is none of."""

    def check(value: float) -> Settings:
        return {} if value == 0 else _refused(f"{name} belongs to")(value)

    return check


def _refused(name: str) -> Callable[[Any], Settings]:
    def refuse(value: Any) -> Settings:
        raise ValueError(f"{name} a method that this app does not ship")

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
    Alias(name="training_params.test_interval", sets="train.validate_every"),
    Alias(
        name="training_params.save_interval",
        sets=lambda value: {},
        type=Annotated[int, Field(ge=1)],
        help="Accepted: every epoch leaves a checkpoint here, so any interval is kept.",
    ),
    Alias(name="training_params.fadeInPredLoss", sets="loss.fadeInPredLoss"),
    Alias(name="training_params.fadeInSeqLen", sets="train.fadeInSeqLen"),
    Alias(name="training_params.fadeInSeqLenLin", sets="train.fadeInSeqLenLin"),
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
UNDERSCORED = {
    "batch": "batch_size",
    "sequenceLength": "sequence_length",
    "dataSize": "data_size",
    "randSeqOffset": "random_sequence_offset",
    "normalizeMode": "normalize_mode",
    "simFields": "sim_fields",
    "simParams": "sim_params",
    "lr": "learning_rate",
    "weightDecay": "weight_decay",
    "expLrGamma": "exp_lr_gamma",
}
OF_FILES = tuple(  # as the published files spell them
    replace(alias, name=f"{section}.{UNDERSCORED[name]}")
    for alias in PUBLISHED
    for section, _, name in [alias.name.partition(".")]
    if section != "loss_params" and name in UNDERSCORED
)
REFUSED = (
    *(
        Alias(name=name, sets=_refused(f"{name} is"), type=Any, help="Refused: not shipped.")
        for name in METHODS
    ),
    *(
        Alias(
            name=f"training_params.{name}",
            sets=_refused(f"{name} belongs to"),
            type=Any,
            help="Refused: of a corrector that is not shipped.",
        )
        for name in CORRECTOR
    ),
    *(
        Alias(
            name=f"loss_params.{name}",
            sets=_none_of(name),
            type=float,
            help="0; the method is not shipped.",
        )
        for name in OTHER_LOSSES
    ),
)
ALIASES = (
    *SHORT,
    *PUBLISHED,
    *OF_FILES,
    *_legacy("loss", "loss", float),
    *_legacy("loss_params", "loss", float),
    *_scheduler(),
    *REFUSED,
)
