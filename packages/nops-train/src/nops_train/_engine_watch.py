"""What a run shows beside its log: sinks, pictures of a validation, gradient norms by term.

Nothing here may change the run: generators are put back, and a sink that fails is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nops_train._config import TrainConfig
from nops_train._engine_rng import preserved_rng
from nops_train._engine_step import Stepper
from nops_train._engine_term_norms import TermNorms
from nops_train._errors import InputError
from nops_train._events import read_events
from nops_train._protocols import Task
from nops_train._run_folder import RunFolder
from nops_train._scalars import PER_TERM
from nops_train._sinks import LIMIT, Sink, check_image, make_sinks


class Watch:
    """Feeds the sinks of one run, from `begin` until the block is left.

    Args:
        config: Names the sinks, and asks for gradient norms by term.
        run: Its event log is what the sinks are fed with.
        task: Its `images`, where it has one, gives pictures.
        stepper: Whose steps are measured.
        sinks: The app's own, beside those that the configuration names.

    Raises:
        InputError: If a package is missing.
    """

    def __init__(
        self,
        *,
        config: TrainConfig,
        run: RunFolder,
        task: Task,
        stepper: Stepper,
        sinks: Sequence[Sink] = (),
    ) -> None:
        self._config, self._run, self._task, self._stepper = config, run, task, stepper
        made = make_sinks(config.log_to, folder=run.path, config=run.config)
        self._all = [] if run.follows else [*made, *sinks]  # one rank shows the run
        # A forward pass of a sharded model takes all ranks, also those that show nothing.
        self._together = config.shard and bool(made or sinks)
        self._live: list[Sink] = []
        self._step = 0

    def begin(self, *, step: int) -> None:
        """Bring the sinks to the state of the log, and follow it from here on.

        Raises:
            InputError: If one cannot start, with its reason.
        """
        if not self._all:
            return
        events = read_events(self._run.events.path)
        for sink in self._all:
            try:
                sink.begin(events, step=step)
            except Exception as error:
                raise InputError(f"{type(sink).__name__} did not start: {error}") from error
            self._live.append(sink)
        self._run.events.listeners.append(self)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        if self in self._run.events.listeners:
            self._run.events.listeners.remove(self)
        self._each(lambda sink: sink.close())
        self._live.clear()

    def event(self, record: Mapping[str, Any]) -> None:
        """An event was logged."""
        self._each(lambda sink: sink.event(record))

    def flush(self) -> None:
        """The log is brought to the disk."""
        self._each(lambda sink: sink.flush())

    def looker(self, *, step: int) -> Callable[[Any], None] | None:
        """What a validation calls with its first batch; None where there is nothing to show."""
        if not self._has_pictures():
            return None

        def look(batch: Any) -> None:
            images = self._images(batch)
            self._each(lambda sink: _show(sink, images, step=step))

        return look

    def checker(self) -> Callable[[Any], Any] | None:
        """What the start-up check calls with a batch, so that a wrong shape is told before training."""
        return self._images if self._has_pictures() else None

    def measure(self, *, step: int) -> None:
        """Have the next step's gradient measured by term, where that is asked for and logged."""
        asked = self._config.gradient_norm_per_term and step % self._config.log_every == 0
        stepper = self._stepper
        stepper.term_norms = TermNorms.of(stepper) if asked else None

    def measured(self) -> dict[str, Any]:
        """The norms of the step just made, as a field of its event."""
        norms = self._stepper.term_norms
        return {} if norms is None else {PER_TERM: norms.norms(self._stepper.world)}

    def _has_pictures(self) -> bool:
        return bool(self._live or self._together) and hasattr(self._task, "images")

    def _images(self, batch: Any) -> dict[str, Any]:
        with preserved_rng():
            found = self._task.images(batch)  # pyright: ignore[reportAttributeAccessIssue]
        return {name: check_image(name, image) for name, image in list(found.items())[:LIMIT]}

    def _each(self, act: Callable[[Sink], None]) -> None:
        for sink in list(self._live):
            try:
                act(sink)
            except Exception as error:
                self._live.remove(sink)
                message = f"{type(sink).__name__} failed and is left out from here on: {error}"
                self._run.note("warning", message=message)


def _show(sink: Sink, images: Mapping[str, Any], *, step: int) -> None:
    for name, image in images.items():
        sink.image(name, image, step=step)
