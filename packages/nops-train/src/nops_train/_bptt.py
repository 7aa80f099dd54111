"""Truncated back-propagation through time: which steps of a rollout carry gradients, and from where.

T is the number of steps of the target, w the window, u_0 the initial state, û the model's states.

| mode | start | supervised |
|---|---|---|
| `last` | u_0, then T - w steps without gradient | the last w steps |
| `sequential` | u_0; the state is detached between windows | all T, window by window |
| `random_start` | the true state at s, uniform on 0 … T - w, per sample | the w steps after it |
| `pushforward` | the true state at s, then `num_pushforward` steps without gradient | the next w steps |

Source: truncation, Williams and Peng, Neural Computation 2 (1990) 490; pushforward, Brandstetter et al.,
arXiv 2202.03376, section 3.1.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["BPTTMode", "Window", "truncated_bptt"]

BPTTMode = Literal["last", "sequential", "random_start", "pushforward"]
Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Consecutive supervised steps of a rollout.

    Attributes:
        index: Number of the window, 0-based; 0 but for `sequential`.
        first_step: `[sample]`, index along the time axis of the whole target of the first supervised
            step, int64.
        pred: `[sample, time, channel, *grid]`, the model's states; gradients reach back to the start
            of the window.
        target: `[sample, time, channel, *grid]`, the true states at the same times.
        weight: Share of the supervised steps, dimensionless: with a loss that is a mean over steps,
            the weighted sum over windows is the mean over all of them. Weights sum to 1.
    """

    index: int
    first_step: Tensor
    pred: Tensor
    target: Tensor
    weight: float


def truncated_bptt(
    step: Step,
    initial: Tensor,
    target: Tensor,
    *,
    window: int,
    mode: BPTTMode = "random_start",
    checkpoint_every: int = 0,
    num_pushforward: int = 1,
    generator: torch.Generator | None = None,
) -> Iterator[Window]:
    """Roll a model out and yield the windows to supervise, each with a graph of `window` steps.

    Windows are made lazily: back-propagate each before asking for the next, and the memory of one is
    all that is held. `pred` holds what is left of the graph: `del` the window before the next one is
    made, and its memory is used again (5 % faster for windows of 32 steps of a small U-AFNO). With `window` equal to the number of steps, every mode but `pushforward` is full
    back-propagation through time.

    Args:
        step: State to next state, shape kept.
        initial: `[sample, channel, *grid]`, the true state before the first step, any unit.
        target: `[sample, time, channel, *grid]`, the true states; `target[:, 0]` is one step after
            `initial`.
        window: Steps that gradients flow through; the last window of `sequential` may be shorter.
        mode: As in the table above.
        checkpoint_every: Steps between stored states; activations between them are computed again in
            the backward pass (non-reentrant, random state kept). 0 stores all. No gradient changes.
        num_pushforward: Steps without gradient before the window, in mode `pushforward` only.
        generator: Source of the starts; the global one by default. Only `random_start` and
            `pushforward` draw, once per call.

    Returns:
        Iterator over `Window`: one, or for `sequential` ceil(time / window).

    Raises:
        ValueError: If the shapes do not belong together, a number is out of range, or the window (with
            the pushforward steps) is longer than the target; at the call, not at the first window.
    """
    _check_shapes(initial, target)
    lead = num_pushforward if mode == "pushforward" else 0
    _check_numbers(target.shape[1], window=window, mode=mode, every=checkpoint_every, lead=lead)
    if mode == "sequential":
        return _sequential(step, initial, target, window=window, every=checkpoint_every)
    if mode == "last":
        start = torch.zeros(len(target), dtype=torch.int64, device=target.device)
        lead = target.shape[1] - window
    else:
        start = _draw_starts(target, most=target.shape[1] - window - lead, generator=generator)
    return _single(
        step, initial, target, start=start, lead=lead, window=window, every=checkpoint_every
    )


def _sequential(
    step: Step, initial: Tensor, target: Tensor, *, window: int, every: int
) -> Iterator[Window]:
    """Windows one after another from the model's own, detached states."""
    num_steps = target.shape[1]
    state = initial
    for index, first in enumerate(range(0, num_steps, window)):
        part = target[:, first : first + window]
        states = _unroll(step, state, num_steps=part.shape[1], every=every)
        state = states[-1].detach()
        made = Window(
            index=index,
            first_step=torch.full((len(target),), first, device=target.device),
            pred=torch.stack(states, dim=1),
            target=part,
            weight=part.shape[1] / num_steps,
        )
        del states
        yield made
        del made  # nothing of it is held while the next one is made


def _single(
    step: Step,
    initial: Tensor,
    target: Tensor,
    *,
    start: Tensor,
    lead: int,
    window: int,
    every: int,
) -> Iterator[Window]:
    """One window, `lead` steps without gradient after the true states at `start` `[sample]`."""
    sample = torch.arange(len(target), device=target.device)
    is_initial = (start == 0).view(-1, *[1] * (initial.ndim - 1))
    state = torch.where(is_initial, initial, target[sample, (start - 1).clamp(min=0)])
    state = _advance(step, state, num_steps=lead)
    first = start + lead
    steps = first[:, None] + torch.arange(window, device=target.device)
    yield Window(
        index=0,
        first_step=first,
        pred=torch.stack(_unroll(step, state, num_steps=window, every=every), dim=1),
        target=target[sample[:, None], steps],
        weight=1.0,
    )


def _draw_starts(target: Tensor, *, most: int, generator: torch.Generator | None) -> Tensor:
    """A start per sample, uniform on 0 … `most`, drawn where the generator lives."""
    device = torch.device("cpu") if generator is None else generator.device
    start = torch.randint(0, most + 1, (len(target),), generator=generator, device=device)
    return start.to(target.device)


@torch.no_grad()
def _advance(step: Step, state: Tensor, *, num_steps: int) -> Tensor:
    """The state after steps that leave no graph; the state itself after none."""
    for _ in range(num_steps):
        state = _checked_step(step, state)
    return state


def _unroll(step: Step, state: Tensor, *, num_steps: int, every: int) -> list[Tensor]:
    """The next states, with a graph; activations are kept, or computed again segment by segment."""
    if every == 0 or not torch.is_grad_enabled():
        return _segment(step, state, num_steps)
    states: list[Tensor] = []
    while len(states) < num_steps:
        length = min(every, num_steps - len(states))
        states += checkpoint(_segment, step, state, length, use_reentrant=False)
        state = states[-1]
    return states


def _segment(step: Step, state: Tensor, num_steps: int) -> list[Tensor]:
    """The next states in order."""
    states = []
    for _ in range(num_steps):
        state = _checked_step(step, state)
        states.append(state)
    return states


def _checked_step(step: Step, state: Tensor) -> Tensor:
    """The next state, of the same shape."""
    following = step(state)
    if following.shape != state.shape:
        raise ValueError(
            f"step must keep the shape of the state: given {tuple(state.shape)}, "
            f"it returned {tuple(following.shape)}"
        )
    return following


def _check_shapes(initial: Tensor, target: Tensor) -> None:
    """Refuse tensors of which one is not a trajectory of the other."""
    if target.ndim < 3 or target.shape[:1] + target.shape[2:] != initial.shape:
        raise ValueError(
            "initial needs the shape (sample, channel, *grid) and target (sample, time, channel, "
            f"*grid), got {tuple(initial.shape)} and {tuple(target.shape)}"
        )


def _check_numbers(num_steps: int, *, window: int, mode: str, every: int, lead: int) -> None:
    """Refuse settings that no rollout of this length can have."""
    if mode not in get_args(BPTTMode):
        raise ValueError(f"mode must be one of {', '.join(get_args(BPTTMode))}, got {mode!r}")
    if every < 0:
        raise ValueError(f"checkpoint_every must be 0 or more, got {every}")
    if window < 1:
        raise ValueError(f"window must be 1 at least, got {window}")
    if mode == "pushforward" and lead < 1:
        raise ValueError(f"num_pushforward must be 1 at least, got {lead}")
    if window + lead > num_steps:
        pushed = f" and num_pushforward {lead}" if lead else ""
        raise ValueError(
            f"window {window}{pushed} need a target of {window + lead} steps at least, "
            f"got num_steps {num_steps}"
        )
