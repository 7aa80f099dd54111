"""A study: a folder above ordinary runs that belong together, such as seeds or arms of a comparison.

<root>/<app>/<study>/
    study.json      what is compared, and the outcome
    report.html     written by the app
    <child>/        an ordinary run folder, one per seed or arm

Each run continues by itself; so a study continues by being repeated.
"""

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from nops_train._checkpoint import write_text
from nops_train._command_line_layers import completed
from nops_train._command_line_spec import Invocation
from nops_train._errors import InputError
from nops_train._events import as_json, read_record
from nops_train._run_folder import RunFolder
from nops_train._run_folder_diff import check_same, differences
from nops_train._world import join_world

ConfigT = TypeVar("ConfigT", bound=BaseModel)
PartsT = TypeVar("PartsT")


class Study:
    """The folder of a study; its runs continue by themselves, so a study continues by being repeated.

    Args:
        path: The folder.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, root: str | os.PathLike[str], *, app: str, name: str) -> "Study":
        """The study `<root>/<app>/<name>`, made if need be.

        Raises:
            InputError: If the folder cannot be made.
        """
        study = cls(Path(root) / app / name)
        try:
            study.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{study.path}: cannot be made: {error.strerror}") from error
        return study

    @staticmethod
    def is_at(folder: str | os.PathLike[str]) -> bool:
        """Whether a folder is one of a study."""
        return (Path(folder) / "study.json").is_file()

    @property
    def report(self) -> Path:
        """Where the report goes."""
        return self.path / "report.html"

    def run(
        self,
        child: str,
        *,
        config: Mapping[str, Any] | BaseModel,
        resume: str = "auto",
        neutral: tuple[str, ...] = (),
    ) -> RunFolder:
        """The run folder of one child; arguments and errors as `RunFolder.open`."""
        parent = self.path.parent
        return RunFolder.open(
            parent, app=self.path.name, name=child, config=config, resume=resume, neutral=neutral
        )

    def children(self) -> list[RunFolder]:
        """The runs in the folder, by name."""
        files = sorted(self.path.glob("*/config.yaml"))
        return [RunFolder.at(file.parent) for file in files]

    def read(self) -> dict[str, Any]:
        """`study.json`; empty where there is none yet.

        Raises:
            InputError: If it is no JSON object.
        """
        return read_record(self.path / "study.json")

    def update(self, **fields: Any) -> None:
        """Set fields of `study.json`, the others kept; `runs` always holds each child's summary."""
        runs = {run.name: run.summary() for run in self.children()}
        write_text(self.path / "study.json", as_json({**self.read(), **fields, "runs": runs}))


def train_children(
    study: Study,
    children: Mapping[str, ConfigT],
    call: Invocation,
    *,
    config: ConfigT,
    build: Callable[[ConfigT], PartsT],
    train: Callable[[RunFolder, PartsT], object],
    report: Callable[[RunFolder], object],
    neutral: Callable[[ConfigT], tuple[str, ...]],
    titles: Mapping[str, str] | None = None,
) -> None:
    """Train the runs of a study one after the other; called again, it goes on where it stopped.

    Each run is built before its folder is opened, so that what is refused leaves none behind.

    Args:
        study: Its folder.
        children: The configuration of each run, by the name of its folder.
        call: Of the command; its folder becomes that of the run at work, for `error.log`.
        config: Of the study, kept in `study.json` for `study_config`.
        build: From a run's configuration to what `train` needs.
        train: Trains the run of a folder to its end.
        report: Writes a run's report, on rank 0.
        neutral: Keys of a run that may differ when it goes on, as for `RunFolder.open`; those of
            `config` may when the study does, such as its list of seeds.
        titles: What is printed after a run's name.

    Raises:
        InputError: If the study has trained runs and other settings: with the keys and both values.
    """
    world, titles = join_world(), titles or {}
    if call.resume != "force":
        world.from_main(lambda: _check_settings(study, config, neutral=neutral(config)))
    resume = "auto" if call.resume == "never" else call.resume
    for name, own in children.items():
        print(f"\n{name}{titles.get(name, '')}", flush=True)
        parts = build(own)
        run = study.run(name, config=own, resume=resume, neutral=neutral(own))
        call.folder = run.path
        if world.is_main:
            study.update(config=config.model_dump(mode="json"))
        train(run, parts)
        if world.is_main:
            report(run)
    if world.is_main:
        study.update()


def _check_settings(study: Study, config: BaseModel, *, neutral: tuple[str, ...]) -> None:
    """Stop where runs of these settings would stand beside trained ones of others."""
    stored = study.read().get("config")
    if stored is None or not any(run.checkpoints.entries for run in study.children()):
        return
    found = differences(completed(type(config), stored), config.model_dump(mode="json"))
    check_same(found, neutral=neutral, where=str(study.path / "study.json"))


def mean_and_spread(values: Sequence[float]) -> float | str:
    """A figure over seeds as tables show it: the only value, or mean ± standard deviation in words.

    Args:
        values: One for each seed, one at least.

    Returns:
        A number, or words such as "0.12 ± 0.01".
    """
    if len(values) == 1:
        return values[0]
    return f"{statistics.fmean(values):.3g} ± {statistics.stdev(values):.2g}"


def report_each(
    call: Invocation, *, run: Callable[[RunFolder], Path], study: Callable[[Path], Path]
) -> None:
    """For a command `report`: write the report of each folder given again, and say where it is.

    Args:
        call: With the folders of `runs_or_studies()`.
        run: Writes the report of a run.
        study: Writes the report of a study.
    """
    for folder in call.folders:
        path = study(folder) if Study.is_at(folder) else run(RunFolder.at(folder))
        print(f"Report: {path}")
