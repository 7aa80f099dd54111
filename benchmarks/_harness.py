"""What every benchmark shares: interleaved timing, peak memory of a process, and the record.

A figure is a ratio inside one run. Candidates take turns, so that a slow spell of the machine
falls on all of them, and the median of their times is reported.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch

RESULTS = Path(__file__).parent / "results"


class Claim(TypedDict):
    """One measured ratio and the bar that it has to meet."""

    claim: str
    value: float
    bar: float
    kind: Literal["at_most", "at_least"]


def compare(candidates: Mapping[str, Callable[[], object]], *, repeat: int = 7) -> dict[str, float]:
    """Median seconds of each candidate; they take turns, after one warm-up each."""
    for run in candidates.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeat):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def paired_ratio(
    numerator: Callable[[], object], denominator: Callable[[], object], *, repeat: int = 15
) -> float:
    """Median over turns of the ratio of two neighbouring timings: robust on a shared machine."""
    for run in (numerator, denominator):
        run()
    ratios = []
    for turn in range(repeat):
        pair = [("n", numerator), ("d", denominator)]
        times = {}
        for name, run in pair if turn % 2 else reversed(pair):
            start = time.perf_counter()
            run()
            times[name] = time.perf_counter() - start
        ratios.append(times["n"] / times["d"])
    return statistics.median(ratios)


def peak_of(script: str, *arguments: str) -> int:
    """Bytes of peak memory that `script`, run in a fresh process, prints as its last line."""
    result = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise RuntimeError(f"{script} {' '.join(arguments)} failed:\n{result.stderr}")
    return int(result.stdout.strip().splitlines()[-1])


def machine() -> dict[str, Any]:
    """Processor, cores, memory, device, Python and torch of this run."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def record(name: str, claims: Sequence[Claim], details: Mapping[str, Any]) -> None:
    """Print the table, write `results/<name>.json`, and leave with 1 when a bar is missed."""
    rows = [dict(claim, met=_met(claim)) for claim in claims]
    RESULTS.mkdir(exist_ok=True)
    document = {"name": name, "machine": machine(), "claims": rows, "details": dict(details)}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    for row in rows:
        sign = "<=" if row["kind"] == "at_most" else ">="
        verdict = "ok    " if row["met"] else "MISSED"
        print(f"{verdict} {row['claim']}: {row['value']:.4g} (bar {sign} {row['bar']:g})")
    if not all(row["met"] for row in rows):
        sys.exit(1)


def _met(claim: Claim) -> bool:
    value, bar = claim["value"], claim["bar"]
    return value <= bar if claim["kind"] == "at_most" else value >= bar
