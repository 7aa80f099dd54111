"""Other accepted names of keys: shorter forms, and those of the original project's YAML files.

A file with its block `training` selects `loss.preset: seed` and the curriculum. Keys that had no effect
there, or that presume a frozen encoder, are refused with what to write instead.
"""

from collections.abc import Callable, Mapping
from typing import Any

from nops_train import Alias

Settings = Mapping[str, Any]

SEED: Settings = {"loss.preset": "seed"}
CURRICULUM: Settings = {**SEED, "weighting.kind": "curriculum"}
PRECISIONS = {"bfloat16": "bf16", "float16": "fp16", "bf16": "bf16", "fp16": "fp16"}
OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = {name: name for name in ("cosine", "step", "plateau", "constant")} | {
    "cosineannealinglr": "cosine",
    "steplr": "step",
    "reducelronplateau": "plateau",
    "constantlr": "constant",
}


def _under(settings: Settings, *keys: str) -> Callable[[Any], Settings]:
    """A value for some keys, with what the block that it stands in implies."""

    def expand(value: Any) -> Settings:
        return {**settings, **dict.fromkeys(keys, value)}

    return expand


def _steps(value: int) -> Settings:
    if value < 2:
        raise ValueError("2 frames at least")
    return {"data.num_steps": value - 1}


def _switch(value: bool) -> Settings:
    """Without inverse losses there is nothing that could come in late."""
    rule: Settings = CURRICULUM if value else SEED
    return {**rule, "loss.use_inverse_losses": value}


def _warmup(value: int) -> Settings:
    return {**CURRICULUM, "weighting.delay": value, "weighting.ramp": value}


def _precision(value: bool) -> Settings:
    return {**SEED, "train.precision": "bf16"} if value else SEED


def _precision_type(value: str) -> Settings:
    if value not in PRECISIONS:
        raise ValueError(f"expected one of {', '.join(PRECISIONS)}; found {value}")
    return {**SEED, "train.precision": PRECISIONS[value]}


def _optimizer(value: str) -> Settings:
    if value not in OPTIMIZERS:
        raise ValueError(f"expected one of {', '.join(OPTIMIZERS)}; found {value}")
    return {"train.optimizer": value}


def _scheduler(value: str) -> Settings:
    if value.lower() not in SCHEDULES:
        raise ValueError(f"expected one of {', '.join(SCHEDULES)}; found {value}")
    return {"train.lr_schedule": SCHEDULES[value.lower()]}


def _only(expected: Any, reason: str) -> Callable[[Any], Settings]:
    """Accepts what is so here anyway, and says so of anything else."""

    def check(value: Any) -> Settings:
        if value != expected:
            raise ValueError(f"{reason}; found {value}")
        return {}

    return check


def _refused(reason: str) -> Callable[[Any], Settings]:
    def refuse(value: Any) -> Settings:
        raise ValueError(reason)

    return refuse


WEIGHTS = {
    "lambda_forward": "L_forward",
    "lambda_inv_enc": "L_inv_enc",
    "lambda_inv_dec": "L_inv_dec",
    "lambda_rollout": "L_rollout",
    "lambda_spectral": "L_spec",
    "lambda_latent_norm": "L_latent_norm",
    "lambda_latent_diversity": "L_latent_diversity",
    "lambda_divergence": "L_divergence",
    "lambda_conservation": "L_conservation",
    "lambda_boundary": "L_boundary",
    "lambda_positivity": "L_positivity",
}
PRIORS = tuple(name for name in WEIGHTS if name not in tuple(WEIGHTS)[:5])
LOSS_KEYS = ("rollout_horizon", "rollout_queries", "chunk_size", "preset")
SAMPLING = {"enabled": bool, "num_queries": int, "strategy": str}

OWN = (
    *(Alias(name=f"losses.{name}", sets=f"loss.{term}") for name, term in WEIGHTS.items()),
    *(Alias(name=f"losses.{name}", sets=f"loss.{name}") for name in LOSS_KEYS),
    *(
        Alias(name=f"losses.query_sampling.{name}", sets=f"loss.query_sampling.{name}")
        for name in SAMPLING
    ),
    Alias(name="data.files", sets="data.path"),
    Alias(name="data.grid_shape", sets="data.shape"),
    *(
        Alias(name=f"data.n_{split}", sets=f"data.num_{split}")
        for split in ("train", "valid", "test")
    ),
    Alias(name="data.frames", sets=_steps, type=int, help="Frames per trajectory."),
    Alias(name="train.lr", sets="train.learning_rate"),
    Alias(name="train.patience", sets="train.early_stop_patience"),
    Alias(name="train.schedule", sets="train.lr_schedule"),
)


def _training(
    name: str, sets: Callable[[Any], Settings], kind: Any, text: str = "Of the block training."
) -> Alias:
    return Alias(name=f"training.{name}", sets=sets, type=kind, help=text)


TRAINING = (
    _training("use_inverse_losses", _switch, bool, "Whether inverse losses are used."),
    _training("lambda_inv_enc", _under(SEED, "loss.L_inv_enc"), float),
    _training("lambda_inv_dec", _under(SEED, "loss.L_inv_dec"), float),
    *(
        _training(name, _under(SEED, f"loss.{WEIGHTS[name]}"), float)
        for name in ("lambda_forward", "lambda_rollout", "lambda_spectral")
    ),
    _training("rollout_horizon", _under(SEED, "loss.rollout_horizon"), int),
    _training(
        "inverse_loss_warmup_epochs", _warmup, int, "Epochs of delay, and as many of the ramp."
    ),
    _training("inverse_loss_max_weight", _under(CURRICULUM, "weighting.cap"), float),
    _training("inverse_loss_frequency", _under(CURRICULUM, "weighting.every"), int),
    *(
        _training(f"query_sampling.{name}", _under(SEED, f"loss.query_sampling.{name}"), kind)
        for name, kind in SAMPLING.items()
    ),
    *(
        _training(f"physics_priors.{name}", _under(SEED, f"loss.{WEIGHTS[name]}"), float)
        for name in PRIORS
    ),
    _training("dt", _under(SEED, "data.dt"), float),
    _training("time_stride", _under(SEED, "data.time_stride"), int),
    _training("batch_size", _under(SEED, "train.batch_size"), int, "Windows per step."),
    _training("grad_clip", _under(SEED, "train.grad_clip"), float),
    _training("accum_steps", _under(SEED, "train.accumulate"), int),
    _training("ema_decay", _under(SEED, "train.ema_decay"), float),
    _training("patience", _under(SEED, "train.early_stop_patience"), int),
    _training("num_workers", _under(SEED, "train.num_workers"), int),
    _training("amp", _precision, bool, "True: bf16."),
    _training("amp_dtype", _precision_type, str, "bfloat16 or float16."),
    _training("compile", _only(False, "compile has no effect here: leave it out"), bool),
)
PROJECT = (
    Alias(name="data.task", sets="data.pde"),
    Alias(name="data.root", sets="data.path"),
    Alias(
        name="data.split",
        sets=_only("train", "splits are made here, of every file"),
        help="train.",
    ),
    Alias(name="data.patch_size", sets="model.patch_size"),
    Alias(name="latent.tokens", sets="model.tokens"),
    Alias(name="latent.dim", sets="model.dim"),
    Alias(name="operator.pdet.depth", sets="model.approximator_depth"),
    Alias(name="operator.pdet.num_heads", sets="model.heads"),
    Alias(name="operator.pdet.hidden_dim", sets="model.approximator_width"),
    Alias(name="operator.pdet.qk_norm", sets="model.qk_norm"),
    Alias(name="operator.pdet.drop_path", sets="model.drop_path"),
    Alias(
        name="operator.architecture_type",
        sets=_only("pdet_stack", "expected pdet_stack, a stack of transformer blocks"),
        help="pdet_stack.",
    ),
    Alias(name="stages.operator.epochs", sets="train.epochs"),
    Alias(name="stages.operator.optimizer.lr", sets="train.learning_rate"),
    Alias(name="stages.operator.optimizer.weight_decay", sets="train.weight_decay"),
    Alias(
        name="stages.operator.optimizer.name",
        sets=_optimizer,
        help=f"{', '.join(OPTIMIZERS)}.",
    ),
    Alias(
        name="stages.operator.scheduler.name",
        sets=_scheduler,
        help="cosine, step, plateau, constant, or torch's names of them.",
    ),
    Alias(name="stages.operator.scheduler.step_size", sets="train.lr_step_epochs"),
    Alias(name="stages.operator.scheduler.gamma", sets="train.lr_factor"),
    Alias(name="stages.operator.scheduler.factor", sets="train.lr_factor"),
    Alias(name="stages.operator.scheduler.patience", sets="train.lr_patience"),
)
FROZEN = "it presumes a frozen encoder, and here the encoder is trained: leave it out"
DEAD = {
    "training.query_sampling.curriculum.enabled": "it was never read: raise "
    "loss.query_sampling.num_queries in a second run that starts from the first (train.init_from)",
    "training.grad_clip_per_param": "it was never read: training.grad_clip limits the norm of all",
    "training.cache_dir": "it was never read: data lie where data.path says",
    "training.task_sampling.strategy": "on one device it was never read: train on one equation",
    "ttc.decoder.output_channels": "it was never read: channels follow from the data",
    "training.use_parallel_encoding": FROZEN,
    "training.latent_cache_dir": FROZEN,
}
REFUSED = tuple(
    Alias(name=name, sets=_refused(reason), type=Any, help=f"Refused: {reason}.")
    for name, reason in DEAD.items()
)
ALIASES = (*OWN, *TRAINING, *PROJECT, *REFUSED)
