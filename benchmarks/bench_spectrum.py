"""What the log spectrum error costs: beside its transforms, beside a loop over shells, in a step.

Fields are [4, 2, 256, 256] in float32, every candidate runs forward and backward. The training step
is U-AFNO with base 32, three levels, 16 modes and four Fourier blocks on two channels of 128².
"""

import math
from collections.abc import Callable

import torch
from _harness import Claim, compare, paired_ratio, record
from nops_losses import log_spectrum_error, relative_l2
from nops_models import UAFNO, UAFNOConfig
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

SHAPE = (4, 2, 256, 256)
STEP_SHAPE = (2, 2, 128, 128)
CONFIG = UAFNOConfig(in_channels=2, base_channels=32, encoder_levels=3, modes=16, afno_blocks=4)
MERGED = (0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 63.5, 182.0)  # 8 bins, the mean in the first

generator = torch.Generator().manual_seed(0)


def fields(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A prediction that asks for its gradient, and a truth."""
    pred, target = torch.randn(2, *shape, generator=generator)
    return pred.requires_grad_(), target


def ours(pred: Tensor, target: Tensor, **options: object) -> Callable[[], None]:
    """`log_spectrum_error` and its backward pass; the plan is made at the first call."""

    def run() -> None:
        pred.grad = None
        log_spectrum_error(pred, target, **options).backward()  # pyright: ignore[reportArgumentType]

    return run


def two_transforms(pred: Tensor, target: Tensor) -> Callable[[], None]:
    """Two real transforms, each with its backward pass: what no spectral loss can do without."""
    leaves = [pred.detach().clone().requires_grad_(), target.clone().requires_grad_()]
    gradient = torch.randn_like(torch.fft.rfft2(pred.detach()))

    def run() -> None:
        for leaf in leaves:
            leaf.grad = None
            torch.fft.rfft2(leaf).backward(gradient)

    return run


def loop_over_shells(pred: Tensor, target: Tensor) -> Callable[[], None]:
    """The same error with one mask and one sum for each shell, as it is often written."""
    size = SHAPE[-1]
    modes = torch.fft.fftfreq(size, d=1 / size)
    radius = torch.hypot(modes[:, None], modes[None, :])
    num_shells = math.floor(math.hypot(size // 2, size // 2) + 0.5) + 1

    def spectrum(field: Tensor) -> Tensor:
        coefficients = torch.fft.fft2(field, norm="forward")
        power = 0.5 * torch.view_as_real(coefficients).square().sum((-1, -4))
        shells = [(radius >= j - 0.5) & (radius < j + 0.5) for j in range(num_shells)]
        return torch.stack([(power * shell).sum((-2, -1)) for shell in shells], dim=-1)

    def run() -> None:
        pred.grad = None
        difference = spectrum(pred).log() - spectrum(target).log()
        difference[..., 1 : size // 2 + 1].square().mean().backward()

    return run


class Counted(TorchDispatchMode):
    """Counts the tensor operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def operators(run: Callable[[], None]) -> int:
    run()
    with Counted() as counted:
        run()
    return counted.count


def training_step(*, spectrum: bool) -> tuple[Callable[[], None], Callable[[], Tensor], UAFNO]:
    """One whole step on one fixed batch, its loss alone, and the model."""
    model = UAFNO(CONFIG)
    state, target = (u.detach() for u in fields(STEP_SHAPE))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.01)

    def loss() -> Tensor:
        pred = model(state)
        value = 0.95 * relative_l2(pred, target)
        return value + 0.05 * log_spectrum_error(pred, target) if spectrum else value

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step, loss, model


def bytes_saved(loss: Callable[[], Tensor], model: UAFNO) -> int:
    """Memory that autograd keeps for the backward pass, parameters apart, each storage once."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}  # holding the tensors keeps their addresses from being used again

    def pack(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = loss()
    total = sum(x.untyped_storage().nbytes() for address, x in kept.items() if address not in own)
    value.backward()
    return total


def of_the_function() -> tuple[list[Claim], dict[str, object]]:
    pair = fields(SHAPE)
    candidates = {
        "ours": ours(*pair),
        "transforms": two_transforms(*pair),
        "merged": ours(*pair, bins=MERGED),
    }
    operations = {name: operators(candidates[name]) for name in ("ours", "merged")}
    seconds = compare(candidates, repeat=41)
    slow = compare({"ours": candidates["ours"], "loop": loop_over_shells(*pair)}, repeat=5)
    claims: list[Claim] = [
        {
            "claim": "log spectrum error / two real transforms",
            "value": paired_ratio(candidates["ours"], candidates["transforms"], repeat=41),
            "bar": 1.5,
            "kind": "at_most",
        },
        {
            "claim": "a loop over shells / log spectrum error",
            "value": slow["loop"] / slow["ours"],
            "bar": 4.0,
            "kind": "at_least",
        },
        {
            "claim": "all 182 shells / 8 merged ones, time",
            "value": paired_ratio(candidates["ours"], candidates["merged"], repeat=41),
            "bar": 1.15,
            "kind": "at_most",
        },
        {
            "claim": "all 182 shells / 8 merged ones, operators",
            "value": operations["ours"] / operations["merged"],
            "bar": 1.0,
            "kind": "at_most",
        },
    ]
    seconds["loop"] = slow["loop"]
    return claims, {"shape": SHAPE, "seconds": seconds, "operators": operations}


def of_a_training_step() -> tuple[list[Claim], dict[str, object]]:
    plain, with_term = (training_step(spectrum=spectrum) for spectrum in (False, True))
    saved = {
        name: bytes_saved(loss, model)
        for name, (_, loss, model) in (("plain", plain), ("with_term", with_term))
    }
    claims: list[Claim] = [
        {
            "claim": "training step of U-AFNO, with / without the spectrum term, time",
            "value": paired_ratio(with_term[0], plain[0], repeat=25),
            "bar": 1.03,
            "kind": "at_most",
        },
        {
            "claim": "training step of U-AFNO, with / without the spectrum term, bytes saved",
            "value": saved["with_term"] / saved["plain"],
            "bar": 1.02,
            "kind": "at_most",
        },
    ]
    return claims, {"step_shape": STEP_SHAPE, "bytes_saved": saved}


def main() -> None:
    """Measure and record."""
    claims, details = of_the_function()
    step_claims, step_details = of_a_training_step()
    record("spectrum", claims + step_claims, details | step_details)


if __name__ == "__main__":
    main()
