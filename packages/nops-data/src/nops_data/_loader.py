"""From batches of draws to batches of tensors, in this process or in workers."""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.context import BaseContext
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from nops_data._sampler import BatchSampler, Draw


def loader(
    dataset: Any,
    sampler: BatchSampler,
    *,
    epoch: int,
    skip: int = 0,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Any]:
    """The collated batches of an epoch, from batch `skip` on; what is skipped is never read.

    Batches do not depend on `num_workers`, and torch's global random generator is not touched.

    Args:
        dataset: Map-style; indexed with `Draw(epoch, index)`. Its method `batch(draws)` is used
            where it has one (as `Windows` does), else items are fetched and collated one by one.
        sampler: Gives the draws of each batch: a `ResumableSampler` or a `BalancedSampler`.
        epoch: 0-based.
        skip: Batches to leave out at the start of the epoch.
        num_workers: Processes that read ahead, each with its own file handles; 0 reads here.
            They start afresh (forkserver, else spawn), so a script needs the usual
            `if __name__ == "__main__":`.
        pin_memory: Copy batches to page-locked memory, for a GPU.

    Returns:
        The batches, one by one, on the CPU.
    """
    draws = sampler.batches(epoch, skip=skip)
    if num_workers == 0:
        batches = (fetch(dataset, batch) for batch in draws)
        return (_pin(batch) for batch in batches) if pin_memory else batches
    if hasattr(dataset, "close"):
        dataset.close()  # so that no open handle is handed down
    workers = DataLoader(
        _Batched(dataset),
        sampler=list(draws),  # type: ignore[arg-type]  # one "sample" is a whole batch
        batch_size=None,
        collate_fn=_as_is,
        num_workers=num_workers,
        pin_memory=pin_memory,
        multiprocessing_context=_context(),
        worker_init_fn=partial(_start_worker, flush=_flushes_denormals()),
        generator=torch.Generator(),
    )
    with _interrupts_blocked():
        batches = iter(workers)
    return _unwrapped(batches)


class Batches:
    """A data set and a sampler as a source of batches for the engine.

    Args:
        dataset: As in `loader`.
        sampler: As in `loader`.
        num_workers: As in `loader`.
        pin_memory: As in `loader`.
    """

    def __init__(
        self,
        dataset: Any,
        sampler: BatchSampler,
        *,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        if sampler.num_samples != len(dataset):
            raise ValueError(
                f"sampler: found {sampler.num_samples} samples, expected {len(dataset)} as in "
                "the data set"
            )
        self.dataset = dataset
        self.sampler = sampler
        self.num_workers = num_workers
        self.pin_memory = pin_memory

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return len(self.sampler)

    def batches(self, *, epoch: int, skip: int = 0) -> Iterator[Any]:
        """The collated batches of an epoch, from batch `skip` on."""
        return loader(
            self.dataset,
            self.sampler,
            epoch=epoch,
            skip=skip,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
        )


class _Batched(Dataset):
    """A data set whose items are the batches of another."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitem__(self, index: Sequence[Draw]) -> Any:
        try:
            return fetch(self._dataset, index)
        except Exception as error:
            return _Failed(error)


class _Failed:
    """An error on its way from a worker, as it was raised and with the worker's traceback.

    Left to itself, torch wraps the text of an error in its own, and waits five seconds for the
    worker to end.
    """

    def __init__(self, error: Exception) -> None:
        text = "".join(traceback.format_exception(error))
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
        error.add_note(f"In a data worker:\n{text}")
        self.error = error


def _unwrapped(batches: Iterator[Any]) -> Iterator[Any]:
    failed: _Failed | None = None
    for batch in batches:
        if isinstance(batch, _Failed):
            failed = batch
            break
        yield batch
    del batches  # ends the workers now, rather than when the error's traceback is let go
    if failed is not None:
        raise failed.error


def fetch(dataset: Any, draws: Sequence[Draw]) -> Any:
    """One batch of a data set: by its method `batch` where it has one, else collated."""
    if hasattr(dataset, "batch"):
        return dataset.batch(draws)
    return default_collate([dataset[draw] for draw in draws])


def _as_is(batch: Any) -> Any:
    return batch


def _pin(batch: Any) -> Any:
    if isinstance(batch, torch.Tensor):
        return batch.pin_memory()
    if isinstance(batch, dict):
        return {key: _pin(value) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return [_pin(value) for value in batch]
    return batch


def _flushes_denormals() -> bool:
    """Whether numbers below the smallest normal one count as 0 here."""
    return float(torch.tensor(1e-39) * 1) == 0.0


def _start_worker(worker: int, *, flush: bool) -> None:
    torch.set_flush_denormal(flush)  # a worker reads what this process would, bit for bit
    # Not every worker inherits the mask: a server of processes may have been started before, without it.
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    _end_with_parent(worker)


def _end_with_parent(_worker: int) -> None:
    """Let this worker end when the process it reads for does, be it by SIGKILL.

    torch looks at the parent's number, which under forkserver is that of the server, and the
    server stays as long as a worker does: the two would wait for each other for ever.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let processes started in here never see Ctrl-C, from their first instruction on.

    The terminal sends it to all; this process decides what it means, and ends its workers.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # started with the workers, it would unblock Ctrl-C again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _context() -> BaseContext:
    """Processes that inherit no threads and no handles, with torch loaded once for all."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nops_data"])
    return context
