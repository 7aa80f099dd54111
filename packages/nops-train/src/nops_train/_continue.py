"""What a command that may continue a run or a study starts from: its folder and its config."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from nops_train._command_line_layers import resumed_config
from nops_train._command_line_spec import Invocation
from nops_train._errors import InputError
from nops_train._run_folder import RunFolder
from nops_train._study import Study

ConfigT = TypeVar("ConfigT", bound=BaseModel)

_WHERE = ("train.device", "train.shard", "train.num_workers", "data.path")
_WATCHING = ("train.progress", "train.log_to", "train.gradient_norm_per_term")
_SAVING = ("train.async_save", "train.save_every", "train.keep_last")


def neutral_keys(*own: str) -> tuple[str, ...]:
    """Keys that may differ when a run goes on, for `RunFolder.open`: nothing trained depends on them.

    Where it computes, how it is watched and saved. Moved data are recognised by their fingerprint.

    Args:
        own: More of them, or whole sections, such as "evaluate".

    Returns:
        Dotted keys and sections.
    """
    return (*_WHERE, *_WATCHING, *_SAVING, *own)


def continued_config(config: ConfigT, call: Invocation) -> ConfigT:
    """The config of the run that a call goes on with, or the call's own where it starts one.

    Keys given now lie over the stored ones, so that absent flags keep what the run was started with.
    A given `--preset` counts as all its keys.

    Args:
        config: As resolved, with a section `train`.
        call: Its run is `<runs>/<app>/<name>`.

    Returns:
        The config to train with.

    Raises:
        InputError: If the stored config no longer fits, or `train.init_from` of a new run is not
            there: told before data are made and the run has a folder.
    """
    folder = call.runs / call.app / call.name
    is_new = call.resume == "never" or not (folder / "config.yaml").is_file()
    if is_new:
        check_start_weights(config.train.init_from)  # type: ignore[attr-defined]
    if is_new or call.preset_given:
        return config
    stored = RunFolder.at(folder).config
    return resumed_config(config, stored, explicit=call.explicit, source=f"{folder}/config.yaml")


def check_start_weights(source: str | None) -> None:
    """Refuse a path of start weights at which there is nothing.

    Args:
        source: A path as in `train.init_from`, or None, which is fine.

    Raises:
        InputError: Naming `train.init_from` and the path.
    """
    if source is not None and not Path(source).exists():
        raise InputError(
            f"train.init_from: found nothing at {source}, expected a run, checkpoint or export"
        )


def open_study(call: Invocation, *, word: str | None = None) -> Study:
    """The folder `<runs>/<app>/<name>` of a study; a new one beside it, `-2`, `-3` …, for `--resume never`.

    Under `torchrun` rank 0 calls this for all: `world.from_main(lambda: open_study(call))`.

    Args:
        call: Its `runs`, `app`, `name` and `resume` count; its `folder` becomes that of the study.
        word: Such as "ablation", for an app whose preset is also a single run's name: a study without `--name`
            lies in the folder of this name, with the preset behind it where it is not the default.

    Returns:
        The study, whose `study.json` is there or will be.

    Raises:
        InputError: If the folder cannot be made.
    """
    given = call.name
    if word is not None and given == call.preset:  # the run of that name has a report of its own
        given = word if call.preset in ("default", word) else f"{word}_{call.preset}"
    name, number = given, 2
    while call.resume == "never" and (call.runs / call.app / name).exists():
        name, number = f"{given}-{number}", number + 1
    study = Study.open(call.runs, app=call.app, name=name)
    call.folder = study.path  # errors are logged there
    return study


def study_config(config: ConfigT, study: Study, call: Invocation) -> ConfigT:
    """The config of a study that goes on, with the keys given now laid over it; else the call's own.

    Args:
        config: As resolved.
        study: What `study.update(config=config.model_dump(mode="json"))` has stored is found there.
        call: Keys and preset that were given.

    Returns:
        The config to go on with.

    Raises:
        InputError: If the stored config no longer fits the class.
    """
    stored = study.read().get("config")
    if call.preset_given or stored is None:
        return config
    source = f"{study.path}/study.json"
    return resumed_config(config, stored, explicit=call.explicit, source=source)
