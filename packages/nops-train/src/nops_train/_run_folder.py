"""The folder of one run: configuration, events, sessions, checkpoints, summary.

<root>/<app>/<name>/
    config.yaml      complete, as resolved
    events.jsonl     what training did; the same however often it was interrupted, times aside
    sessions.jsonl   starts, resumes, interruptions, warnings: what happened to the process
    checkpoints/     step_N.pt, epoch_N.pt, best_model.pt, manifest.json
    summary.json     status, best value, metrics, resources
    report.html      written by the app, with plots/

Everything but `sessions.jsonl` is the same however often the run was stopped, times aside.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from nops_train._checkpoint import remove_leftovers, write_text
from nops_train._checkpoint_folder import CheckpointFolder
from nops_train._command_line_layers import completed
from nops_train._errors import InputError
from nops_train._events import EventLog, as_json, read_record
from nops_train._run_folder_diff import check_same, differences
from nops_train._run_folder_lock import folder_lock
from nops_train._world import join_world

RESUME_MODES = ("auto", "never", "force")


class RunFolder:
    """One run's folder. `RunFolder.open` makes or continues one; `RunFolder.at` reads one.

    Attributes:
        path: The folder.
        config: The configuration of the run, in plain values.
        config_class: The class whose defaults stand for keys that an older run lacks; None: it lacks
            them.
        resume: "auto", "never" or "force".
        resume_file: The checkpoint to go on from, where one was named.
        neutral: Dotted keys of the configuration that may differ when a run goes on.
        follows: Whether another rank writes: this object then only reads.
        events: The event log.
        checkpoints: The checkpoints.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        config: Mapping[str, Any],
        config_class: type[BaseModel] | None = None,
        resume: str = "auto",
        resume_file: Path | None = None,
        neutral: tuple[str, ...] = (),
        follows: bool = False,
    ) -> None:
        self.path = Path(path)
        self.config = dict(config)
        self.config_class = config_class
        self.resume = resume
        self.resume_file = resume_file
        self.neutral = neutral
        self.follows = follows
        self.events = EventLog(self.path / "events.jsonl", enabled=not follows)
        self.checkpoints = CheckpointFolder(self.path / "checkpoints", read_only=follows)

    @classmethod
    def open(
        cls,
        root: str | os.PathLike[str],
        *,
        app: str,
        name: str,
        config: Mapping[str, Any] | BaseModel,
        resume: str = "auto",
        neutral: tuple[str, ...] = (),
    ) -> "RunFolder":
        """The folder `<root>/<app>/<name>`, new or to be continued.

        Under `torchrun` every rank calls this; rank 0 makes the folder and is the only one that writes.

        Args:
            root: Folder of all runs.
            app: Name of the app.
            name: Name of the run.
            config: The configuration: a `Config`, or plain values. A run that was made before a key was
                added to the class of a `Config` counts as one with that key's default.
            resume: "auto" continues a run of the same configuration; "never" starts `<name>-2`, `-3` …
                where `<name>` is taken; "force" continues although configuration or data differ; a file
                continues from that checkpoint.
            neutral: Dotted keys, or their first parts, that may differ when a run goes on, such as
                "train.device".

        Raises:
            InputError: If the folder cannot be written, the configuration differs (with the keys and both
                values) from that of a run with a checkpoint, or `resume` names no file.
        """
        config_class = type(config) if isinstance(config, BaseModel) else None
        plain = _as_yaml_reads_it(config)
        resume_file = None
        if resume not in RESUME_MODES:
            resume_file = _checkpoint_file(resume)
        world = join_world()

        def make() -> Path:
            path = Path(root) / app / name
            if resume == "never":
                path = _newest_folder(path) if _was_restarted() else _free_folder(path)
            run = cls(path, config=plain, config_class=config_class, resume=resume, neutral=neutral)
            run._write_config()
            return path

        return cls(
            world.from_main(make),
            config=plain,
            config_class=config_class,
            resume=resume,
            resume_file=resume_file,
            neutral=neutral,
            follows=not world.is_main,
        )

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """An existing run, to be read.

        Raises:
            InputError: If there is none at `path`.
        """
        return cls(path, config=read_config(path))

    @property
    def name(self) -> str:
        """The run's name: the last part of its path."""
        return self.path.name

    @property
    def plots(self) -> Path:
        """The folder of the report's pictures, made when asked for."""
        folder = self.path / "plots"
        _make_folder(folder)
        return folder

    @property
    def report(self) -> Path:
        """Where the report goes."""
        return self.path / "report.html"

    def note(self, event: str, **fields: Any) -> None:
        """Append to `sessions.jsonl`: what happened to the process rather than in training."""
        log = EventLog(self.path / "sessions.jsonl", enabled=not self.follows)
        log.write(event, **fields)
        log.close()

    def summary(self) -> dict[str, Any]:
        """`summary.json`; empty where there is none yet.

        Raises:
            InputError: If it is no JSON object.
        """
        return self.record("summary.json")

    def update_summary(self, **fields: Any) -> None:
        """Set fields of `summary.json`, the others kept; written at once or not at all."""
        self.keep("summary.json", {**self.summary(), **fields})

    def record(self, name: str) -> dict[str, Any]:
        """A JSON file of the run, its non-finite numbers back; empty where there is none yet.

        Raises:
            InputError: If it is no JSON object.
        """
        return read_record(self.path / name)

    def keep(self, name: str, record: Mapping[str, Any]) -> None:
        """Write a JSON file that `record` reads; at once or not at all."""
        if not self.follows:
            write_text(self.path / name, as_json(record))

    def check_config(self, stored: Mapping[str, Any], *, where: str) -> dict[str, str]:
        """Stop where a stored configuration is another one; neutral keys and `resume="force"` pass.

        A key that it lacks counts with its default in `config_class`.

        Args:
            stored: The configuration in `config.yaml` or a checkpoint.
            where: How messages call the place.

        Returns:
            Dotted keys that differ all the same, each with a line that names both values.

        Raises:
            InputError: With the keys and both values.
        """
        found = self._differing(stored)
        if self.resume != "force":
            check_same(found, neutral=self.neutral, where=where)
        return found

    def _differing(self, stored: Mapping[str, Any]) -> dict[str, str]:
        if self.config_class is not None:
            stored = completed(self.config_class, stored)
        return differences(stored, self.config)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Held while the run trains, so that no second process writes into its folder.

        Raises:
            InputError: If another process holds it.
        """
        if self.follows:
            self.checkpoints.reload()
            yield
            return
        with folder_lock(self.path):
            remove_leftovers(self.path)
            self.checkpoints.remove_leftovers()
            self.checkpoints.reload()  # another process may have trained since
            try:
                yield
            finally:
                self.events.close()

    def _write_config(self) -> None:
        path = self.path / "config.yaml"
        _make_folder(self.path)
        if path.is_file():
            stored = read_config(self.path)
            changed = self._changed(stored, where=str(path))
            missing = [key for key in differences(stored, self.config) if key not in changed]
            if changed:
                self.note("config_changed", changes=list(changed.values()))
            if missing:
                self.note("config_completed", keys=missing)
            if not (changed or missing):
                return
        write_text(path, yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True))

    def _changed(self, stored: Mapping[str, Any], *, where: str) -> dict[str, str]:
        """As `check_config`; a run that ended before its first checkpoint takes any configuration."""
        if self.checkpoints.entries or not self._differing(stored):
            return self.check_config(stored, where=where)
        with folder_lock(self.path):  # it may be at work, on the way to its first
            return self._differing(stored)


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The configuration of the run in folder `path`.

    Raises:
        InputError: If there is no run, or its `config.yaml` is damaged.
    """
    file = Path(path) / "config.yaml"
    if not file.is_file():
        raise InputError(f"{path}: no run folder: it has no config.yaml")
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{file}: no YAML: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{file}: holds {type(config).__name__}, expected keys and values")
    return config


def _as_yaml_reads_it(config: Mapping[str, Any] | BaseModel) -> dict[str, Any]:
    plain = config.model_dump(mode="json") if isinstance(config, BaseModel) else dict(config)
    try:
        return yaml.safe_load(yaml.safe_dump(plain, sort_keys=False))
    except yaml.YAMLError as error:
        raise TypeError(
            f"config must hold plain values (numbers, strings, lists, dicts): {error}"
        ) from error


def _checkpoint_file(resume: str) -> Path:
    path = Path(resume)
    if not path.is_file():
        raise InputError(
            f"--resume {resume}: neither {', '.join(RESUME_MODES)} nor a checkpoint file"
        )
    return path.resolve()


def _free_folder(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _newest_folder(path: Path) -> Path:
    """The folder that `_free_folder` gave last."""
    number, newest = 1, path
    while (following := path.with_name(f"{path.name}-{number + 1}")).exists():
        number, newest = number + 1, following
    return newest


def _was_restarted() -> bool:
    """Whether `torchrun` started this process again after a failure: the run is then one of its own."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be made: {error.strerror}") from error
