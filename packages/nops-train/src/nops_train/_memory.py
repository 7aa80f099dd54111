"""How much memory training will take, how much there is, and how much was taken.

Activations saved for the backward pass are what grows with a rollout: with a per sample and step, c per
step whatever the batch, s a state per sample, B the batch, w the window and k steps per checkpoint,

    w (B a + c)                      without checkpoints,
    w B s + k (B a + c)              with them.
"""

import bisect
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from nops_train._errors import InputError

__all__ = ["MemoryForecast", "check_memory", "free_memory", "peak_memory_bytes", "predict_memory"]

# Control groups of Linux: limit, use and reclaimable cache of a container, version 2 and version 1.
CGROUP = Path("/sys/fs/cgroup")
CGROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)
PROCESS_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryForecast:
    """What a training step will hold, in bytes, beside the parameters themselves.

    Attributes:
        per_sample: Activations per sample and step (a).
        per_step: Activations per step whatever the batch (c).
        per_state: One state of one sample (s).
        optimizer: Gradients and the two moments of Adam, to be made by the first step.
        batch_size: Samples that are back-propagated at once (a micro-batch).
        window: Steps that gradients flow through.
        checkpoint_every: Steps between stored states; 0 stores all activations.
    """

    per_sample: int
    per_step: int
    per_state: int
    optimizer: int
    batch_size: int
    window: int
    checkpoint_every: int

    @property
    def activations(self) -> int:
        """Bytes saved for one backward pass, by the formulas of this module."""
        step = self.batch_size * self.per_sample + self.per_step
        if self.checkpoint_every == 0:
            return self.window * step
        states = self.window * self.batch_size * self.per_state
        return states + min(self.checkpoint_every, self.window) * step

    @property
    def total(self) -> int:
        """Bytes that the first step will take: activations, gradients and optimizer."""
        return self.activations + self.optimizer

    def __str__(self) -> str:
        """One line, as a run prints it before its first step."""
        stored = f", a state stored every {self.checkpoint_every}" if self.checkpoint_every else ""
        return (
            f"memory forecast {gibibytes(self.total)}: activations {gibibytes(self.activations)} "
            f"(window {self.window}, {self.batch_size} samples at once{stored}), gradients and "
            f"optimizer {gibibytes(self.optimizer)}"
        )


def predict_memory(
    module: nn.Module,
    sample: Tensor | tuple[Tensor, ...],
    *,
    batch_size: int,
    window: int,
    checkpoint_every: int = 0,
) -> MemoryForecast:
    """Forecast the memory of back-propagation through `window` steps of a module.

    The module runs forward on one sample and on two; the tensors that autograd saves are counted, each
    storage once, parameters and buffers aside. Buffers and random state are put back afterwards. The
    transient gradients of the backward pass (about one layer's) are not in the forecast.

    Args:
        module: One step of the rollout, `module(*sample)`, on the device and under the autocast that
            training uses.
        sample: Its inputs, samples along dimension 0; the first of them is the state.
        batch_size: Samples that will be back-propagated at once.
        window: Steps that gradients flow through.
        checkpoint_every: Steps between stored states; 0 stores all activations.

    Returns:
        Bytes of activations, for the whole batch and window.

    Raises:
        ValueError: If a number is out of range, or an input holds no sample.
    """
    inputs = (sample,) if isinstance(sample, Tensor) else sample
    if not inputs or any(x.ndim == 0 or len(x) == 0 for x in inputs):
        raise ValueError("sample needs one sample at least along dimension 0 of each input")
    if batch_size < 1 or window < 1 or checkpoint_every < 0:
        raise ValueError(
            "batch_size and window must be 1 at least and checkpoint_every 0 at least, got "
            f"{batch_size}, {window} and {checkpoint_every}"
        )
    one = tuple(x[:1].detach() for x in inputs)
    first = saved_bytes(module, one)
    second = saved_bytes(module, tuple(torch.cat([x, x]) for x in one))
    trained = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    return MemoryForecast(
        per_sample=second - first,
        per_step=max(2 * first - second, 0),
        per_state=one[0].numel() * one[0].element_size(),
        optimizer=3 * trained,
        batch_size=batch_size,
        window=window,
        checkpoint_every=checkpoint_every,
    )


def saved_bytes(module: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Bytes that autograd saves for the backward pass of one call, each storage counted once.

    Inputs carry gradients, as the states of a rollout do; parameters and buffers do not count.
    """
    held = {p.untyped_storage().data_ptr() for p in (*module.parameters(), *module.buffers())}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor  # kept alive by the graph, so that no address is used twice

    inputs = tuple(x.clone().requires_grad_(x.is_floating_point()) for x in inputs)
    buffers = {name: b.clone() for name, b in module.named_buffers()}
    devices = {x.device.index for x in inputs if x.device.type == "cuda"}
    with (
        torch.random.fork_rng(devices=devices),
        torch.enable_grad(),
        saved_tensors_hooks(pack, same),
    ):
        output = module(*inputs)
    del output
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            if name in buffers:
                buffer.copy_(buffers[name])
    return sum(saved.values())


def same(tensor: Tensor) -> Tensor:
    """The tensor as it was saved."""
    return tensor


def free_memory(device: torch.device | str) -> int:
    """Bytes that a device has left for this process.

    CPU: what the system can give without swapping, within the limit of the container, if any. CUDA: what
    the device has free, and what this process has reserved and not in use.

    Args:
        device: Such as "cpu" or "cuda:0".

    Returns:
        Bytes.
    """
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    limit = container_memory()
    available = psutil.virtual_memory().available
    return available if limit is None else min(available, limit)


def container_memory(folder: Path = CGROUP) -> int | None:
    """Bytes left in a memory-limited control group; None where there is no limit to be found."""
    for limit_file, used_file, statistics_file, cache in CGROUP_FILES:
        try:
            limit = (folder / limit_file).read_text().strip()
            used = int((folder / used_file).read_text())
            lines = (folder / statistics_file).read_text().splitlines()
        except (OSError, ValueError):  # no control groups, or those of the other version
            continue
        reclaimable = int(dict(line.split() for line in lines).get(cache, 0))
        return None if limit == "max" else max(int(limit) - used + reclaimable, 0)
    return None


def check_memory(
    forecast: MemoryForecast,
    *,
    device: torch.device | str,
    free: int | None = None,
    window_key: str | None = None,
    checkpoint_key: str | None = None,
) -> None:
    """Refuse a run that will not fit, before its first step.

    Args:
        forecast: Of `predict_memory`.
        device: Where the run will be.
        free: Bytes that are free; asked of the device by default.
        window_key: The app's setting of the window, such as `rollout.window`; None offers no other.
        checkpoint_key: The app's setting of the steps between stored states; None offers no other.

    Raises:
        InputError: If the forecast is above what is free, with the settings that fit.
    """
    free = free_memory(device) if free is None else free
    if forecast.total <= free:
        return
    found = alternatives(forecast, free=free, window_key=window_key, checkpoint_key=checkpoint_key)
    fitting = [f"{text} ({gibibytes(changed.total)})" for text, changed in found]
    advice = (
        f"settings that fit: {', or '.join(fitting)}"
        if fitting
        else "no batch fits: take a smaller model or grid"
    )
    raise InputError(f"{forecast}; only {gibibytes(free)} are free on {device}; {advice}")


def alternatives(
    forecast: MemoryForecast, *, free: int, window_key: str | None, checkpoint_key: str | None
) -> list[tuple[str, MemoryForecast]]:
    """Changes of one setting with which a forecast fits, the largest value of each, in words."""
    found = []
    stored = replace(forecast, checkpoint_every=1)
    if checkpoint_key and forecast.checkpoint_every != 1 and stored.total <= free:
        found.append((f"{checkpoint_key} 1", stored))
    if batch := _largest(forecast, "batch_size", free=free):
        text = f"{batch} samples at once (train.batch_size {batch}, or a larger train.accumulate)"
        found.append((text, replace(forecast, batch_size=batch)))
    if window_key and (window := _largest(forecast, "window", free=free)):
        found.append((f"{window_key} {window}", replace(forecast, window=window)))
    return found


def _largest(forecast: MemoryForecast, field: str, *, free: int) -> int:
    """The largest value below the present one with which the forecast fits; 0 where none does."""
    below = range(1, getattr(forecast, field))
    return bisect.bisect_right(below, free, key=lambda n: replace(forecast, **{field: n}).total)


def peak_memory_bytes(device: torch.device | str = "cpu") -> int:
    """The most memory this process has held so far, in bytes.

    CPU: its largest resident set. CUDA: the most that tensors took on the device, since the start or the
    last `torch.cuda.reset_peak_memory_stats`.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    if PROCESS_STATUS.exists():  # where ru_maxrss would begin at the size of the parent process
        lines = PROCESS_STATUS.read_text().splitlines()
        peaks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        if peaks:
            return int(peaks[0]) * 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def gibibytes(count: int) -> str:
    """Bytes in words: `1.5 GiB`, `20 MiB`."""
    if count >= 2**30:
        return f"{count / 2**30:.1f} GiB"
    return f"{count / 2**20:.1f} MiB"
