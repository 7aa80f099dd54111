"""Where a run can be watched beside its event log: TensorBoard, Weights & Biases, or a sink of your own.

A sink is fed with the events that go to `events.jsonl`, and with nothing else but pictures. The log is
the truth: where a run goes on, a sink brings itself to the state of the log, without gap or repetition.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from nops_train._errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

SinkName = Literal["tensorboard", "wandb"]
LIMIT = 8  # pictures per validation that are shown; more would be a data set

__all__ = ["Sink", "SinkName", "check_image", "make_sinks", "require"]


@runtime_checkable
class Sink(Protocol):
    """Shows events and pictures. It must not touch the run."""

    def begin(self, events: Sequence[Mapping[str, Any]], *, step: int) -> None:
        """A run starts, or goes on.

        Args:
            events: The whole log so far; what was shown beyond it did not happen.
            step: Optimizer steps applied so far.
        """
        ...

    def event(self, record: Mapping[str, Any]) -> None:
        """One event, as it is logged: "event", "epoch", "step" and its own fields."""
        ...

    def image(self, name: str, image: "Tensor", *, step: int) -> None:
        """One picture of a validation: uint8 `[3, H, W]` or `[1, H, W]`, of 0-based `step`."""
        ...

    def flush(self) -> None:
        """Bring everything to the disk: a checkpoint is being written."""
        ...

    def close(self) -> None:
        """The process ends; the run may go on later."""
        ...


def make_sinks(names: Sequence[SinkName], *, folder: Path, config: Mapping[str, Any]) -> list[Sink]:
    """The sinks of these names, for one run.

    Args:
        names: Each at most once.
        folder: The run's folder, `<runs>/<app>/<name>`.
        config: The run's configuration.

    Raises:
        InputError: If a package is missing, with the command that installs it.
    """
    return [_MAKERS[name](folder, config) for name in names]


def _tensorboard(folder: Path, config: Mapping[str, Any]) -> Sink:
    from nops_train._sink_tensorboard import TensorBoardSink

    return TensorBoardSink(folder / "tensorboard", config=config)


def _wandb(folder: Path, config: Mapping[str, Any]) -> Sink:
    from nops_train._sink_wandb import WandbSink

    return WandbSink(folder, config=config)


_MAKERS: dict[str, Callable[[Path, Mapping[str, Any]], Sink]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
}


def require(error: ImportError, *, extra: str) -> InputError:
    """The error of a missing package."""
    return InputError(
        f"train.log_to holds {extra}, which cannot be imported ({error}); install it: "
        f'pip install "nops-train[{extra}]"'
    )


def check_image(name: str, image: "Tensor") -> "Tensor":
    """A picture in bytes, on the CPU.

    Args:
        name: For the message.
        image: `[3, H, W]` or `[1, H, W]`, values in [0, 1], clipped; NaN becomes 0; or uint8.

    Returns:
        uint8, same shape.

    Raises:
        InputError: If it has another shape.
    """
    import torch

    if image.dim() != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        raise InputError(
            f"task.images returned {name} of shape {tuple(image.shape)}, expected (3, H, W) or (1, H, W)"
        )
    if image.dtype == torch.uint8:
        return image.detach().cpu()
    values = image.detach().float().nan_to_num(0.0, 1.0, 0.0).clamp(0.0, 1.0)
    return (values * 255).round().to(torch.uint8).cpu()
