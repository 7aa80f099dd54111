"""Features of a batch of trajectories, beside a loop over samples and frames.

32 trajectories of 64 frames, one channel on 32 x 32 cells, float32, one thread. The loop computes the same
columns with the same formulas, one sample or one frame at a time. `--peak` measures memory in a fresh process.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from _harness import Claim, compare, peak_of, record
from nops_diagnostics import FeatureExtractor
from nops_diagnostics._feature_clips import clip_scalars
from nops_diagnostics._feature_frames import crossing_rate, frame_scalars
from torch import Tensor

SHAPE = (32, 64, 1, 32, 32)
BAR = 10
MEMORY_BAR = 4  # peak over what the clips themselves take


def clips() -> Tensor:
    """Random walks: each frame differs a little from the one before."""
    walk = torch.empty(SHAPE)  # filled frame by frame, so that the peak before is that of the clips
    generator = torch.Generator().manual_seed(0)
    walk[:, 0].zero_()
    for step in range(1, SHAPE[1]):
        walk[:, step] = walk[:, step - 1] + torch.randn(walk[:, 0].shape, generator=generator)
    return walk


def vectorised(clip: Tensor) -> Callable[[], dict[str, Tensor]]:
    """All samples, frames and channels at once."""
    extractor = FeatureExtractor()
    return torch.no_grad()(lambda: extractor.raw(clip))


def loop(clip: Tensor) -> Callable[[], list[dict[str, Tensor]]]:
    """One sample after the other, one frame after the other."""

    @torch.no_grad()
    def run() -> list[dict[str, Tensor]]:
        found = []
        for sample in clip:
            frames = [frame_scalars(frame, length=1.0) for frame in sample]
            crossed = crossing_rate(sample[0], frames[0]["q50"])
            joined = {k: torch.stack([f[k] for f in frames])[None] for k in frames[0]}
            found.append({**clip_scalars(sample[None], joined), **joined, "crossed": crossed})
        return found

    return run


def check(clip: Tensor) -> None:
    """Both give the same numbers."""
    ours, theirs = vectorised(clip[:2])(), loop(clip[:2])()
    for name in ("centroid", "q95", "std"):
        expected = torch.stack([found[name].mean() for found in theirs])
        torch.testing.assert_close(ours[f"temporal/{name}/mean"], expected)
    for name in ("growth_rate", "flow_x", "decorrelation_time"):
        expected = torch.stack([found[name][0, 0] for found in theirs])
        torch.testing.assert_close(ours[f"summary/{name}"], expected)


def peak_kib() -> int:
    """Peak resident memory; that of getrusage would be the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def peak() -> None:
    """Print by how many bytes the peak of this process grows for the features."""
    clip = clips()
    vectorised(clip[:1])()  # libraries are loaded
    before = peak_kib()
    vectorised(clip)()
    print(1024 * (peak_kib() - before))


def main() -> None:
    """Measure and record."""
    torch.set_num_threads(1)
    clip = clips()
    if "--peak" in sys.argv:
        peak()
        return
    check(clip)
    seconds = compare({"vectorised": vectorised(clip), "loop": loop(clip)}, repeat=3)
    memory, own = peak_of(__file__, "--peak"), clip.numel() * clip.element_size()
    claims: list[Claim] = [
        {
            "claim": "features, loop over samples and frames / vectorised",
            "value": seconds["loop"] / seconds["vectorised"],
            "bar": BAR,
            "kind": "at_least",
        },
        {
            "claim": "features, peak memory / the clips' own",
            "value": memory / own,
            "bar": MEMORY_BAR,
            "kind": "at_most",
        },
    ]
    details = {"shape": SHAPE, "seconds": seconds, "bytes": {"clips": own, "features": memory}}
    record("features", claims, details)


if __name__ == "__main__":
    main()
