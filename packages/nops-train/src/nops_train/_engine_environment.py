"""What a run was computed with, and what it took."""

import platform
import sys
from typing import Any

import numpy as np
import psutil
import torch

from nops_train._errors import InputError


def choose_device(name: str, *, local_rank: int = 0) -> torch.device:
    """The device of "auto", "cpu" or "cuda"; each rank of a host has a CUDA device of its own.

    Raises:
        InputError: If "cuda" is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("train.device is cuda, but torch finds no CUDA device; use auto or cpu")
    if name == "cpu" or not available:
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise InputError(
            f"local rank {local_rank} has no CUDA device: there are {count}; start at most as many "
            "processes per host (torchrun --nproc-per-node)"
        )
    return torch.device("cuda", local_rank)


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def machine(device: torch.device) -> dict[str, Any]:
    """The machine in words: system, processors, device, threads."""
    found: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processors": psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device.type,
    }
    if device.type == "cuda":
        found["device_name"] = torch.cuda.get_device_name(device)
    return found


def peak_memory(device: torch.device) -> str:
    """The largest memory in use so far, in words."""
    owner = "the device's tensors" if device.type == "cuda" else "the whole process"
    return f"Peak memory {peak_memory_bytes(device) / 2**20:.1f} MiB ({owner})"


def peak_memory_bytes(device: torch.device) -> int:
    """Largest memory in use so far: the device's tensors on CUDA, the process's resident set on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    windows = getattr(psutil.Process().memory_info(), "peak_wset", None)
    if windows is not None:
        return int(windows)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
