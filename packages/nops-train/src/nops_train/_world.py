"""The processes of a run, as `torchrun` starts them: who this one is, and what all of them agree on.

Everything here is the identity in a single process. Numbers that decide what a run does next travel over
gloo between the hosts, gradients and loss terms over the device's own backend; so no decision waits for a
GPU.
"""

import atexit
import importlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from nops_train._errors import InputError, PeerFailed, PeersLost

T = TypeVar("T")
GRACE_SECONDS = 0.5
BUCKET_BYTES = 25 << 20  # of gradients that are reduced in one message


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What the ranks have told each other between two steps.

    Attributes:
        signal: Largest number of a signal that any of them received; 0 for none.
        samples: Samples of the step's batch, all ranks together.
        failed: Ranks that could not read their share of the batch.
    """

    signal: int
    samples: int
    failed: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class World:
    """The ranks of a run; every method is collective: each rank calls it, in the same order.

    Attributes:
        rank: This process, 0-based.
        size: Number of processes.
        local_rank: This process among those of its host: its CUDA device.
        active: Whether there is a process group; false in a process that was not started by `torchrun`.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    active: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this rank writes: files, log, messages."""
        return self.rank == 0

    def agree(self, *, signal: int, samples: int, failed: bool) -> Agreement:
        """Share what happened on each rank since the last step."""
        if not self.active:
            return Agreement(signal=signal, samples=samples, failed=(0,) if failed else ())
        mine = (signal, samples, int(failed))
        table = torch.zeros(self.size, len(mine), dtype=torch.int64)
        table[self.rank] = torch.tensor(mine)
        _told(dist.all_reduce, table)
        signals, counts, failures = table.T.tolist()
        ranks = tuple(rank for rank, has_failed in enumerate(failures) if has_failed)
        return Agreement(signal=max(signals), samples=sum(counts), failed=ranks)

    def gather(self, value: T) -> list[T]:
        """The value of every rank, by rank."""
        values = [value] * self.size
        if self.active:
            _told(dist.all_gather_object, values, value)
        return values

    def from_main(self, compute: Callable[[], T]) -> T:
        """What rank 0 computes, on all ranks; the others do not compute.

        Raises:
            PeerFailed: On the other ranks, with the message, where rank 0 raises.
        """
        if not self.active:
            return compute()
        return _received() if self.rank else _sent(compute)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.gather(None)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum `tensor` over the ranks, in place."""
        if self.active:
            _told(dist.all_reduce, tensor)
        return tensor

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Sum each parameter's gradient over the ranks; one that no rank has stays None."""
        if not self.active:
            return
        mine = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)
        _told(dist.all_reduce, mine)
        reached = [p for p, count in zip(parameters, mine.tolist(), strict=True) if count]
        for parameter in reached:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets([p.grad for p in reached if p.grad is not None]):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            _told(dist.all_reduce, flat)
            sizes = [gradient.numel() for gradient in bucket]
            for gradient, part in zip(bucket, flat.split(sizes), strict=True):
                gradient.copy_(part.view_as(gradient))

    @torch.no_grad()
    def join_rows(self, rows: Tensor, *, shape: tuple[int, ...]) -> Tensor | None:
        """On rank 0 the tensor whose rows the ranks hold, on the host; None on the others.

        Args:
            rows: This rank's: of n on all ranks ceil(n / size), the last ranks fewer or none.
            shape: Of the whole.
        """
        each = -(-shape[0] // self.size)
        padded = rows.new_zeros(each, *shape[1:])
        if rows.numel():
            padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.size)] if self.is_main else None
        _told(dist.gather, padded, parts, dst=0)
        if parts is None:
            return None
        counts = [max(0, min(each, shape[0] - i * each)) for i in range(self.size)]
        return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)]).cpu()

    @torch.no_grad()
    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Give every rank rank 0's values, in place."""
        for tensor in tensors if self.active else ():
            _told(dist.broadcast, tensor, src=0)


@cache
def join_world() -> World:
    """This process's place among those that `torchrun` started; the process group is made when absent.

    A group that the caller has initialised is used as it is; it needs gloo for CPU tensors
    (`backend="cpu:gloo,cuda:nccl"`).

    Returns:
        The world, the same one at every call; a single rank outside `torchrun`.

    Raises:
        InputError: If the variables that `torchrun` sets are incomplete.
    """
    if not dist.is_available() or ("WORLD_SIZE" not in os.environ and not dist.is_initialized()):
        return World()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if not dist.is_initialized():
        _start_group(local_rank)
    return World(
        rank=dist.get_rank(), size=dist.get_world_size(), local_rank=local_rank, active=True
    )


def _start_group(local_rank: int) -> None:
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if missing := [name for name in names if name not in os.environ]:
        raise InputError(
            f"WORLD_SIZE is set, but not {', '.join(missing)}: start several processes with torchrun"
        )
    # Its functions take the group of the moment of import as their default: imported later (the optimizers
    # do), they keep it alive beyond its end, and its threads then abort the process.
    importlib.import_module("torch.distributed.nn.functional")
    has_cuda = torch.cuda.is_available()
    if has_cuda:
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    from torch.distributed.rendezvous import rendezvous

    # A group that torchrun starts again may meet its predecessor's addresses in the store: they are told apart.
    store, rank, size = next(rendezvous("env://"))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if has_cuda else "gloo",
        store=dist.PrefixStore(  # pyright: ignore[reportPrivateImportUsage]
            f"nops/{attempt}", store
        ),
        rank=rank,
        world_size=size,
    )
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        # A thread of gloo may still hold a tensor of the last message, and need Python to let go of it; some
        # versions of torch wait for that thread without letting Python go on. So it goes first.
        time.sleep(GRACE_SECONDS)
        dist.destroy_process_group()


def _told(collective: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Call a collective of torch; one that breaks off means that another rank has ended.

    Raises:
        PeersLost: If it breaks off.
    """
    try:
        collective(*arguments, **options)
    except RuntimeError as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PeersLost(f"lost the other ranks: {first}") from error


def _sent(compute: Callable[[], T]) -> T:
    content: list[Any] = [None, None]
    try:
        content[0] = compute()
    except Exception as error:
        content[1] = f"{type(error).__name__}: {error}"
        raise
    finally:
        dist.broadcast_object_list(content, device=_HOST)
    return content[0]


def _received() -> Any:
    content: list[Any] = [None, None]
    _told(dist.broadcast_object_list, content, device=_HOST)
    value, error = content
    if error is not None:
        raise PeerFailed(f"rank 0 stopped: {error}")
    return value


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one type and device, up to `BUCKET_BYTES` together."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        same = not bucket or (gradient.dtype, gradient.device) == (
            bucket[0].dtype,
            bucket[0].device,
        )
        if not same or size > BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.numel() * gradient.element_size()
    if bucket:
        yield bucket


_HOST = torch.device("cpu")
