"""The window loader against raw h5py reads of the same bytes and against the-well's loader.

Contiguous windows at random places of one file, warm page cache, one process, the same windows
for all. Ours is the whole way from a sampler to collated and checked batches; h5py's is the bare
indexing of open data sets, into arrays that are thrown away; the-well's gives single samples,
not collated. Throughputs are compared, so a ratio above 1 means that ours is faster.
"""

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from _harness import Claim, compare, paired_ratio, record
from nops_data import Batches, ResumableSampler, WellReader, WellWriter, Windows

BATCH = 16
EPOCHS = 3
CASES = {  # trajectories, frames, points per side, window, chunk
    "32x32, window 5": (128, 65, 32, 5, 5),
    "64x64, window 33": (32, 257, 64, 33, 33),
}
RAW_BAR = 0.8
WELL_BAR = 2.0


def write(folder: Path, *, trajectories: int, frames: int, points: int, chunk: int) -> Path:
    rng = np.random.default_rng(0)
    shape = (trajectories, frames, points, points)
    fields = {name: rng.normal(size=shape).astype(np.float32) for name in ("u", "v")}
    writer = WellWriter(folder, dataset_name="bench", chunk_frames=chunk)
    return writer.write("train", fields, np.arange(frames))


def ours(windows: Windows) -> Callable[[], None]:
    source = Batches(windows, ResumableSampler(len(windows), batch_size=BATCH, seed=0))

    def read() -> None:
        for epoch in range(EPOCHS):
            for batch in source.batches(epoch=epoch):
                del batch

    return read


def places(windows: Windows) -> list[tuple[int, int]]:
    """The (sample, start) that `ours` visits, in its order."""
    sampler = ResumableSampler(len(windows), batch_size=BATCH, seed=0)
    batches = [windows.batch(draws) for epoch in range(EPOCHS) for draws in sampler.batches(epoch)]
    pairs = [zip(b["sample"].tolist(), b["start"].tolist(), strict=True) for b in batches]
    return [pair for batch in pairs for pair in batch]


def raw(path: Path, visits: list[tuple[int, int]], length: int) -> Callable[[], None]:
    file = h5py.File(path)
    datasets = [file["t0_fields/u"], file["t0_fields/v"]]

    def read() -> None:
        for sample, start in visits:
            for dataset in datasets:
                dataset[sample, start : start + length]  # type: ignore[index]

    return read


def the_well(path: Path, visits: list[tuple[int, int]], length: int) -> Callable[[], None] | None:
    if importlib.util.find_spec("the_well") is None:
        return None
    from the_well.data import WellDataset  # type: ignore[import-not-found]

    dataset = WellDataset(path=str(path.parent), n_steps_input=1, n_steps_output=length - 1)
    per_sample = dataset.n_windows_per_trajectory[0]

    def read() -> None:
        for sample, start in visits:
            dataset[sample * per_sample + start]

    return read


def measure(name: str, folder: Path) -> tuple[list[Claim], dict[str, Any]]:
    trajectories, frames, points, length, chunk = CASES[name]
    path = write(folder, trajectories=trajectories, frames=frames, points=points, chunk=chunk)
    windows = Windows(WellReader(folder, split="train"), length=length, seed=0)
    visits = places(windows)
    readers = {"nops": ours(windows), "h5py": raw(path, visits, length)}
    ratio = paired_ratio(readers["h5py"], readers["nops"], repeat=21)
    claims = [claim(f"{name}: throughput / h5py", ratio, RAW_BAR)]
    peer = the_well(path, visits, length)
    if peer is not None:
        readers["the-well"] = peer
    seconds = compare(readers, repeat=3)
    megabytes = len(visits) * length * 2 * points**2 * 4 / 1e6
    details: dict[str, Any] = {key: round(megabytes / value) for key, value in seconds.items()}
    if peer is None:
        print(f"{name}: the-well is not installed and not compared")
        details["the-well"] = "not installed"
    else:
        ratio = seconds["the-well"] / seconds["nops"]
        claims.append(claim(f"{name}: throughput / the-well", ratio, WELL_BAR))
    return claims, details


def claim(text: str, value: float, bar: float) -> Claim:
    return {"claim": text, "value": value, "bar": bar, "kind": "at_least"}


def main() -> None:
    claims, details = [], {}
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            found, described = measure(name, Path(folder))
        claims += found
        details[name] = described
    record("loader", claims, {"megabytes per second": details})


if __name__ == "__main__":
    main()
