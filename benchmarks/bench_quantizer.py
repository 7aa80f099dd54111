"""A training pass of a vector quantizer against vector-quantize-pytorch's: time and memory.

One pass is forward with the moving means' update, and backward of a loss of code and commitment, on one
table, with one decay and one estimator; both have to choose the same codes. Peak memory is measured in a
fresh process for each, `bench_quantizer.py --peak ours|theirs`, as in `bench_uafno.py`. The peer is needed:
`uv run --with vector-quantize-pytorch python benchmarks/bench_quantizer.py`.
"""

import sys
from collections.abc import Callable

import torch
from _harness import Claim, compare, paired_ratio, peak_of, record
from bench_uafno import resident
from nops_models import EMA, RotationTrick, StraightThrough, VectorQuantizer
from torch import Tensor

CODES, DIM, VECTORS, DECAY = 1024, 64, 16_384, 0.99
BAR = 1.0
ESTIMATORS = {"rotation": RotationTrick(), "straight through": StraightThrough()}
Quantize = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def latents() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(CODES, DIM, generator=generator)
    return torch.randn(VECTORS, DIM, generator=generator), table


def ours(table: Tensor, estimator: str = "rotation") -> Quantize:
    quantizer = VectorQuantizer(
        DIM,
        num_codes=CODES,
        update=EMA(decay=DECAY, kmeans_init=False, revive_below=None),
        estimator=ESTIMATORS[estimator],
    )
    state = quantizer.state_dict()
    quantizer.load_state_dict({**state, "book.table": table, "book.sums": table})

    def quantize(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = quantizer(z)
        return found.code, found.index, found.commitment_loss

    return quantize


def theirs(table: Tensor, estimator: str = "rotation") -> Quantize:
    from vector_quantize_pytorch import (  # pyright: ignore[reportMissingImports]
        VectorQuantize,
    )

    quantizer = VectorQuantize(
        DIM,
        CODES,
        decay=DECAY,
        commitment_weight=0.25,
        rotation_trick=estimator == "rotation",
    )
    quantizer._codebook.embed.copy_(table)
    quantizer._codebook.embed_avg.copy_(table)

    def quantize(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        code, index, loss = quantizer(z[None])
        return code[0], index[0], loss.sum()

    return quantize


MADE = {"ours": ours, "theirs": theirs}


def training_pass(quantize: Quantize, z: Tensor) -> Callable[[], Tensor]:
    """Forward with update, and backward; gives the indices."""
    z = z.clone().requires_grad_()

    def run() -> Tensor:
        z.grad = None
        code, index, commitment = quantize(z)
        (code.square().mean() + commitment).backward()
        return index

    return run


def passes(estimator: str) -> dict[str, Callable[[], Tensor]]:
    z, table = latents()
    return {name: training_pass(make(table, estimator), z) for name, make in MADE.items()}


def check_equal(runs: dict[str, Callable[[], Tensor]]) -> float:
    """Share of equal indices of a first pass; refuses to compare what does different work."""
    share = (runs["ours"]() == runs["theirs"]()).double().mean().item()
    if share < 0.9999:
        raise RuntimeError(f"the two choose different codes: {share:.2%} are equal.")
    return share


def print_peak(name: str) -> None:
    torch.set_num_threads(1)
    z, table = latents()
    run = training_pass(MADE[name](table), z)
    before = resident("VmRSS")
    for _ in range(2):
        run()
    print(resident("VmHWM") - before)


def measure() -> tuple[list[Claim], dict[str, object]]:
    torch.set_num_threads(1)
    peaks = {name: peak_of(__file__, "--peak", name) for name in MADE}
    claims: list[Claim] = [
        {
            "claim": "peak memory of a training pass, ours / vector-quantize-pytorch",
            "value": peaks["ours"] / peaks["theirs"],
            "bar": BAR,
            "kind": "at_most",
        }
    ]
    details: dict[str, object] = {"shape": [VECTORS, DIM], "codes": CODES, "peak_bytes": peaks}
    for estimator in ESTIMATORS:
        runs = passes(estimator)
        details[estimator] = {"equal": check_equal(runs), "seconds": compare(runs, repeat=5)}
        claims.append(
            {
                "claim": f"training pass, time ours / vector-quantize-pytorch, {estimator}",
                "value": paired_ratio(runs["ours"], runs["theirs"], repeat=9),
                "bar": BAR,
                "kind": "at_most",
            }
        )
    return claims, details


def main() -> None:
    """Measure and record, or print the peak of one."""
    if sys.argv[1:2] == ["--peak"]:
        print_peak(sys.argv[2])
    else:
        record("quantizer", *measure())


if __name__ == "__main__":
    main()
