"""`torch.compile` for the model, and what happens where it does not work."""

import importlib
from collections.abc import Callable
from typing import Any

from torch import nn

COMPILERS = ("torch._dynamo", "torch._inductor", "torch._functorch", "triton")


def compile_model(model: nn.Module) -> None:
    """Have `model(...)` compiled at its first call; parameters, state and other methods stay as they are.

    The compiled backward pass may be walked more than once, as the check of inert terms, norms by term and
    gradient-balancing weightings do: the compiler must not reuse the memory of what it has saved.
    """
    settings: Any = importlib.import_module("torch._functorch.config")
    settings.donated_buffer = False
    model.compile()


def with_fallback(model: nn.Module, run: Callable[[], None], *, enabled: bool) -> str | None:
    """Call `run`, which uses the model; where the compiler fails, once more without it.

    Args:
        model: As left by `compile_model`.
        run: Leaves no trace, so that it can be repeated.
        enabled: Whether the model is compiled at all.

    Returns:
        What the user should know: why the compiler was left out, or where it split the model; else None.
    """
    if not enabled:
        run()
        return None
    try:
        run()
    except Exception as error:
        if not type(error).__module__.startswith(COMPILERS):
            raise
        model._compiled_call_impl = None
        run()
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        return f"torch.compile failed, training goes on without: {type(error).__name__}: {first}"
    return _breaks()


def _breaks() -> str | None:
    from torch._dynamo.utils import counters

    reasons = counters["graph_break"]
    if not reasons:
        return None
    first = str(next(iter(reasons))).strip().splitlines()[0]
    return f"torch.compile split the model {sum(reasons.values())} times; first: {first}"
