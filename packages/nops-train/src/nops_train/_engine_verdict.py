"""Steps that no host waits for: whether a step counts is known to the device, and read later.

The optimizer's own kernel leaves out the update of a step that is not finite, as it does for a gradient
scaler; everything else that a step changes is chosen between its old and its new value on the device.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nops_train._precision import Precision


def can_fuse(parameters: Iterable[Tensor], *, device_type: str = "cuda") -> bool:
    """Whether the optimizer's fused kernel takes these parameters on a device of this type."""
    return all(
        _is_plain(p) and p.is_floating_point() and p.device.type == device_type for p in parameters
    )


def can_skip(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `step` leaves everything alone where the device says so: Adam and AdamW, fused.

    Fused SGD does too, but the momentum of a first step that it skips is never initialised.
    """
    if not isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
        return False
    groups = optimizer.param_groups
    return all(group["fused"] and all(map(_is_plain, group["params"])) for group in groups)


def can_wait(
    optimizer: torch.optim.Optimizer,
    *,
    device: torch.device,
    precision: Precision,
    deferred: tuple[Any, ...],
) -> bool:
    """Whether the verdict on a step may wait, as far as is known before the first.

    On a CPU there is nothing to gain. The loss scale of fp16 is a matter of the host, and so are objects
    with `apply_update` and `discard_update`.
    """
    is_gain = device.type == "cuda"
    return is_gain and not precision.scaler.is_enabled() and not deferred and can_skip(optimizer)


def needs_host(weighting: Any, owner: Any) -> bool:
    """Whether a weighting takes part in the step itself, or wants its values at once.

    Args:
        weighting: As given to the engine.
        owner: The member in charge of this step.
    """
    methods = ("balance", "accumulate", "apply_update")
    return weighting.observes == "step" or any(hasattr(owner, name) for name in methods)


def step_unless(optimizer: Any, bad: Tensor) -> None:
    """Make the optimizer's step, which changes nothing where `bad` (bool, scalar, on the device) is true."""
    optimizer.grad_scale, optimizer.found_inf = None, bad.to(torch.float32)
    try:
        optimizer.step()
    finally:
        del optimizer.grad_scale, optimizer.found_inf


def keep_kernel(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer that is restored compute as it was made: its kernel is the machine's, not the run's."""

    def keep(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any] | None:
        own, saved = optimizer.param_groups, state["param_groups"]
        if len(own) != len(saved):
            return None  # refused by `load_state_dict` itself
        groups = [
            {**theirs, "fused": ours["fused"]} if "fused" in ours else theirs
            for ours, theirs in zip(own, saved, strict=True)
        ]
        return {**state, "param_groups": groups}

    optimizer.register_load_state_dict_pre_hook(keep)


def _is_plain(parameter: Tensor) -> bool:
    """Whether it is no subclass, such as the rows of a sharded parameter, which has ways of its own."""
    return type(parameter) in (nn.Parameter, Tensor)
