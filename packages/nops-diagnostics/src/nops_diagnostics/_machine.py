"""What a figure was made with: machine and versions."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

PACKAGES = (
    "numpy",
    "matplotlib",
    "nops-losses",
    "nops-models",
    "nops-physics",
    "nops-data",
    "nops-schedules",
    "nops-train",
    "nops-diagnostics",
)


def describe_machine() -> dict[str, str]:
    """Machine and versions of this process, as text by name.

    Returns:
        Operating system, processor, cores this process may use, memory, accelerators if any,
        Python, and the version of each installed package of the stack.
    """
    facts = {
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "processor": _processor(),
        "cores": str(_cores()),
        "memory": _memory(),
    }
    for index in range(torch.cuda.device_count()):
        facts[f"accelerator {index}"] = torch.cuda.get_device_name(index)
    facts |= {"python": platform.python_version(), "torch": torch.__version__}
    return facts | {name: found for name in PACKAGES if (found := _version(name))}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """Model name where the system tells it, else its architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return "unknown"
    return f"{total / 2**30:.1f} GiB"
