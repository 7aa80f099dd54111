"""JSON files of the original project: their blocks as keys of this one.

A file with a block `arch` is such a file. What it does not say has the original's value, so that it
means the same here as the preset `paper`. Keys that had no effect there, or are decided here by the
data, are listed in one notice; keys that are unknown, or stand in a wrong block, are refused.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Keys = dict[str, Any]
PHYSICS = {"Mogi": "mogi", "RTM": "inform"}
ORIGINAL: Keys = {
    "model.aux_dim": 2,
    "model.feature_dim": 128,
    "model.feature_hidden": [128],
    "model.physics_hidden": [128],
    "model.aux_hidden": [128],
    "model.activation": "elu",
    "phases.epochs_pretrain": 20,
    "phases.kl_warmup_epochs": 50,
    "loss.noise_variance": 0.5,
    "train.epochs": 150,
    "train.batch_size": 256,
    "train.valid_batch_size": 64,
    "train.learning_rate": 3e-4,
    "train.weight_decay": 1e-4,
    "train.amsgrad": True,
    "train.cosine_epochs": 150,
    "train.grad_clip": 1.0,
    "train.early_stop_patience": 20,
    "train.monitor": "reconstruction",
}
OF_PHYSICS = ("phases.epochs_pretrain", "model.physics_hidden")
MODEL: dict[str, str] = {
    "dim_z_aux": "model.aux_dim",
    "residual_rank": "model.rank",
    "num_units_feat": "model.feature_dim",
    "hidlayers_feat": "model.feature_hidden",
    "hidlayers_z_phy": "model.physics_hidden",
    "hidlayers_z_aux": "model.aux_hidden",
    "activation": "model.activation",
    "detach_x_P_for_bias": "model.stop_gradient",
}
RAMPS = {
    f"{name}_{old}": f"phases.{name}.{new}"
    for name in ("tau", "r")
    for old, new in (("init", "init"), ("final", "final"), ("warmup_epochs", "warmup_epochs"))
}
PENALTIES: dict[str, str] = {
    **RAMPS,
    "epochs_pretrain": "phases.epochs_pretrain",
    "kl_warmup_epochs": "phases.kl_warmup_epochs",
    "balance_data_aug": "loss.bootstrap",
    "balance_gate": "loss.gate",
    "balance_residual": "loss.residual",
    "delta_penalty_weight": "loss.residual",
    "ortho_penalty_weight": "loss.orthogonality",
    "coeff_penalty_weight": "loss.coefficient",
    "edge_penalty_weight": "loss.edge",
    "edge_penalty_power": "loss.edge_power",
    "temporal_smoothness_weight": "loss.smoothness",
    "use_capacity_control": "loss.capacity.on",
    "C_max": "loss.capacity.c_max",
    "C_gamma": "loss.capacity.gamma",
    "ema_momentum": "model.ema_decay",
}  # where they stand, under arch or trainer, does not matter here
KL_SWITCHES = ("use_kl_term", "use_kl_term_z_phy", "use_kl_term_z_aux")
KL_WEIGHTS = ("beta_max", "beta_max_z_phy", "beta_max_z_aux", "beta_aux")
OWN_PENALTIES = (*KL_SWITCHES, *KL_WEIGHTS, "use_ema_prior")
CHECKED = ("no_phy", "dim_z_phy")
TRAINER: dict[str, str] = {
    "epochs": "train.epochs",
    "grad_clip_norm": "train.grad_clip",
    "early_stop": "train.early_stop_patience",
    "monitor": "train.monitor",
    "input_const_keys": "data.inputs",
}
OPTIMIZER: dict[str, str] = {
    "lr": "train.learning_rate",
    "weight_decay": "train.weight_decay",
    "amsgrad": "train.amsgrad",
    "eps": "train.adam_eps",
}
ARGUMENTS: dict[str, str] = {
    "mogi_paras": "physics.bounds",
    "rtm_paras": "physics.bounds",
    "station_info": "physics.stations",
}
DEAD: dict[str, tuple[str, ...]] = {
    "": ("name", "n_gpu", "loss", "loss_test", "metrics"),
    "arch": ("type",),
    "arch.args": ("hidden_dim", "input_dim"),
    "data_loader": ("type", "type_test"),
    "data_loader.args": ("shuffle", "validation_split", "num_workers", "with_const"),
    "optimizer": ("type",),
    "lr_scheduler": ("type",),
    "trainer": (
        *("save_dir", "save_period", "log_step", "verbosity", "input_key", "output_key"),
        *("stablize_grad", "tensorboard", "wandb"),
    ),
}
SECTIONS = {
    "": ("arch", "data_loader", "optimizer", "lr_scheduler", "trainer"),
    "arch": ("args", "phys_vae"),
    "data_loader": ("args", "data_dir_valid", "data_dir_test"),
    "optimizer": ("args",),
    "lr_scheduler": ("args",),
}


def rewrite(values: dict[str, Any]) -> Mapping[str, Any]:
    """A mapping of the original layout in keys of this app; any other as it is.

    Raises:
        ValueError: If a key is unknown, stands in a wrong block, or two contradict each other.
    """
    if "arch" not in values:
        return values
    file = _File(values)
    own = file.read()
    found = {**ORIGINAL, **own}
    if own["model.residual"] == "no_physics":
        found = {k: v for k, v in found.items() if k in own or not k.startswith(OF_PHYSICS)}
    if file.dead:
        print(f"not used here: {', '.join(sorted(file.dead))}")
    return found


class _File:
    """One file while it is read; what it holds and nobody asks for is refused at the end."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.dead: list[str] = []

    def read(self) -> Keys:
        arguments = self._block("arch.args")
        found = self._plain("arch.args", ARGUMENTS, known=("physics", "standardization", *TIME))
        found |= self._plain("optimizer.args", OPTIMIZER)
        found |= self._plain("trainer", TRAINER, known=("phys_vae",))
        if "train.monitor" in found:
            found |= _monitor(str(found["train.monitor"]))
        found |= self._plain("lr_scheduler.args", {"T_max": "train.cosine_epochs"})
        found |= self._plain(
            "data_loader.args", {"batch_size": "train.batch_size"}, known=("data_dir",)
        )
        self._check_sections()
        found |= self._physics(arguments) | self._data(arguments)
        return found | self._variant() | self._time(arguments, found)

    def _block(self, path: str) -> Mapping[str, Any]:
        held: Any = self._values
        for name in path.split("."):
            held = held.get(name, {}) if isinstance(held, Mapping) else {}
        if not isinstance(held, Mapping):
            raise ValueError(f"{path}: expected a block, found {held!r}")
        return held

    def _plain(self, path: str, keys: Mapping[str, str], *, known: tuple[str, ...] = ()) -> Keys:
        """The keys of a block that stand for one of ours each."""
        found: Keys = {}
        for name, value in self._block(path).items():
            if name in keys:
                found[keys[name]] = value
            elif name in DEAD.get(path, ()):
                self._ignore(path, name)
            elif name not in known:
                raise ValueError(f"{path}.{name}: {_advice(name, path)}")
        return found

    def _check_sections(self) -> None:
        for path, sections in SECTIONS.items():
            block = self._values if not path else self._block(path)
            for name in block:
                if name in DEAD.get(path, ()):
                    self._ignore(path, name)
                elif name not in sections:
                    where = f"{path}.{name}" if path else name
                    raise ValueError(f"{where}: {_advice(name, path)}")

    def _ignore(self, path: str, name: str) -> None:
        self.dead.append(f"{path}.{name}" if path else name)

    def _physics(self, arguments: Mapping[str, Any]) -> Keys:
        name = arguments.get("physics")
        if name not in PHYSICS:
            raise ValueError(f"arch.args.physics: expected {' or '.join(PHYSICS)}, found {name!r}")
        held = arguments.get("standardization", {})
        if extra := sorted(set(held) - {"x_mean", "x_scale"}):
            raise ValueError(f"arch.args.standardization: unknown {extra}")
        return {"problem": PHYSICS[name], **{f"data.{key}": path for key, path in held.items()}}

    def _data(self, arguments: Mapping[str, Any]) -> Keys:
        """One folder holds the three files."""
        block = self._block("data_loader")
        paths = {
            "data_loader.args.data_dir": self._block("data_loader.args").get("data_dir"),
            **{f"data_loader.{k}": block.get(k) for k in ("data_dir_valid", "data_dir_test")},
        }
        given = {name: path for name, path in paths.items() if path is not None}
        folders = {str(Path(path).parent): name for name, path in given.items()}
        if len(folders) > 1:
            raise ValueError(f"{' and '.join(folders.values())} lie in different folders")
        splits = dict(zip(paths, ("train", "valid", "test"), strict=True))
        for name, path in given.items():
            if Path(path).name != f"{splits[name]}.csv":
                raise ValueError(f"{name}: expected a file {splits[name]}.csv, found {path}")
        return {"data.path": next(iter(folders))} if folders else {}

    def _variant(self) -> Keys:
        """Head, latents, and penalties, which may stand under arch or trainer."""
        arch, trainer = self._block("arch.phys_vae"), self._block("trainer.phys_vae")
        own = self._plain("arch.phys_vae", MODEL, known=(*CHECKED, *PENALTIES, *OWN_PENALTIES))
        for name in trainer:
            if name not in PENALTIES and name not in OWN_PENALTIES:
                raise ValueError(f"trainer.phys_vae.{name}: {_advice(name, 'trainer.phys_vae')}")
        held = dict(trainer)
        for name, value in arch.items():
            if name in PENALTIES or name in OWN_PENALTIES:
                if name in trainer and trainer[name] != value:
                    raise ValueError(
                        f"arch.phys_vae.{name} = {value} contradicts trainer.phys_vae.{name} = "
                        f"{trainer[name]}; give one of them"
                    )
                held[name] = value
        return self._settled(own, held, arch)

    def _settled(self, own: Keys, held: Mapping[str, Any], arch: Mapping[str, Any]) -> Keys:
        no_physics = bool(arch.get("no_phy", False))
        low_rank = "model.rank" in own
        kind = "no_physics" if no_physics else "low_rank" if low_rank else "gated"
        found = {**own, "model.residual": kind, **self._penalties(held, low_rank=low_rank)}
        aux = int(own.get("model.aux_dim", ORIGINAL["model.aux_dim"]))
        if kind != "low_rank" or aux <= 0:
            found.pop("model.rank", None)
        if aux < 0:
            found["model.aux_dim"] = 0
        self._drop(found, kind=kind, aux=aux)
        if no_physics and arch.get("dim_z_phy"):
            raise ValueError(f"no_phy with dim_z_phy = {arch['dim_z_phy']}: without physics, 0")
        return {**found, **_switched(held, kind=kind, aux=aux)}

    def _penalties(self, held: Mapping[str, Any], *, low_rank: bool) -> Keys:
        """The residual's penalty had a name for each head."""
        mine, other = "delta_penalty_weight", "balance_residual"
        names = dict(PENALTIES)
        if low_rank and mine in held:
            names.pop(other)
        elif not low_rank:
            names.pop(mine)
        for name in (mine, other):
            if name in held and name not in names:
                self.dead.append(f"phys_vae.{name}")
        return {key: held[name] for name, key in names.items() if name in held}

    def _drop(self, found: Keys, *, kind: str, aux: int) -> None:
        """Keys of parts that the variant does not have: the files have them anyway."""
        unused = {
            "loss.gate": kind != "gated" or aux <= 0,
            "loss.residual": kind == "no_physics" or aux <= 0,
            "model.stop_gradient": kind == "no_physics" or aux <= 0,
            "loss.edge_power": not found.get("loss.edge"),
            "model.ema_decay": True,
            **dict.fromkeys(
                ("loss.capacity.c_max", "loss.capacity.gamma"),
                not found.get("loss.capacity.on") or kind == "no_physics",
            ),
            **dict.fromkeys(
                ("loss.orthogonality", "loss.coefficient", *RAMPS.values()),
                kind != "low_rank" or aux <= 0,
            ),
            **dict.fromkeys(
                (
                    *("phases.epochs_pretrain", "loss.bootstrap", "loss.edge"),
                    *("loss.smoothness", "loss.capacity.on", "model.physics_hidden"),
                ),
                kind == "no_physics",
            ),
            "model.aux_hidden": aux <= 0,
        }
        for name in [name for name, drop in unused.items() if drop and name in found]:
            del found[name]

    def _time(self, arguments: Mapping[str, Any], found: Keys) -> Keys:
        if not arguments.get("use_time_in_residual", False):
            return {}
        return {"model.time_features": arguments.get("time_feat_dim", 2)}


TIME = ("time_feat_dim", "use_time_in_residual")


def _monitor(text: str) -> Keys:
    """`min val_rec_loss`: which way is better, and the metric; `off` watched nothing."""
    mode, _, name = text.rpartition(" ")
    if mode not in ("", "min", "max") or name == "off":
        raise ValueError(f"trainer.monitor: expected such as 'min val_rec_loss', found {text!r}")
    return {"train.monitor": name, "train.monitor_mode": mode or "min"}


def _switched(held: Mapping[str, Any], *, kind: str, aux: int) -> Keys:
    """Weights of the divergences, and the prior."""
    shared = held.get("use_kl_term", True)
    physics = held.get("beta_max_z_phy", held.get("beta_max", 1.0))
    own = held.get("beta_max_z_aux", held.get("beta_aux", held.get("beta_max", 1.0)))
    found: Keys = {}
    if kind != "no_physics":
        found["loss.beta_physics"] = physics if held.get("use_kl_term_z_phy", shared) else 0.0
        if held.get("use_ema_prior", False):
            found |= {"model.prior": "ema", "model.ema_decay": held.get("ema_momentum", 0.99)}
    else:
        found["loss.beta_physics"] = 0.0
    found["loss.beta_aux"] = own if aux > 0 and held.get("use_kl_term_z_aux", shared) else 0.0
    return found


def _advice(name: str, path: str) -> str:
    """Where a key belongs that stands in a wrong block, or that there is none."""
    homes: dict[str, Callable[[], Any]] = {
        "trainer": lambda: (*TRAINER, *DEAD["trainer"]),
        "arch.phys_vae or trainer.phys_vae": lambda: (*PENALTIES, *OWN_PENALTIES),
        "arch.phys_vae": lambda: (*MODEL, *CHECKED),
        "arch.args": lambda: (*ARGUMENTS, "physics", "standardization", *TIME),
        "optimizer.args": lambda: tuple(OPTIMIZER),
        "lr_scheduler.args": lambda: ("T_max",),
        "data_loader.args": lambda: ("batch_size", "data_dir"),
    }
    found = [home for home, names in homes.items() if name in names() and home != path]
    return f"misplaced; it belongs in {found[0]}" if found else "unknown key"
