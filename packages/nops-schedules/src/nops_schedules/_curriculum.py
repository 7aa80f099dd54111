"""Loss terms that come in late: nothing for a while, then a ramp to their weight."""

from collections.abc import Mapping, Sequence
from typing import Any

from nops_schedules._check import choice, flag, optional, positive, sequence, text, whole
from nops_schedules._check import weight as not_negative
from nops_schedules._constant import checked_terms
from nops_schedules._names import did_you_mean
from nops_schedules._ramp import ramp as steady_ramp
from nops_schedules._restore import differences

VERSION = 1
INVERSE_TERMS = ("L_inv_enc", "L_inv_dec")
SHAPES = ("linear", "cosine", "step")


def inverse_loss_weight(
    t: float,
    base: float,
    *,
    delay: float,
    ramp: float,
    shape: str = "linear",
    cap: float | None = None,
) -> float:
    """Weight that is 0 up to `delay`, `base` from `delay + ramp` on, and clipped at `cap`.

    min(b·φ((t − delay) / ramp), cap) with φ(q) = q ("linear") or ½(1 − cos πq) ("cosine"); "step"
    stays at 0 until `delay + ramp`. With `ramp` = 0 all three jump at `delay`, where the weight is
    already full. The cap clips and does not stretch: where `base` is far above it, a ramp is nearly a
    jump to the cap; where `base` is below, it never shows.

    Args:
        t: Epoch or step, 0-based, whole or not.
        base: Full weight b, dimensionless, 0 or more.
        delay: Last place at 0, in the unit of `t`.
        ramp: Places from there to the full weight, in the same unit.
        shape: "linear", "cosine" or "step".
        cap: Highest weight; None for no cap.

    Returns:
        The weight, within 0 and min(base, cap); it never falls as `t` rises.

    Raises:
        ValueError: If a number is negative or not finite, or the shape is unknown.
    """
    limits = {"t": t, "base": base, "delay": delay, "ramp": ramp}
    t, base, delay, ramp = (not_negative(name, value) for name, value in limits.items())
    choice(*SHAPES)("shape", shape)
    stop = delay + ramp
    start, curve = (stop, "linear") if shape == "step" else (delay, shape)
    value = steady_ramp(t, start=start, stop=stop, end=base, curve=curve)
    return value if cap is None else min(value, not_negative("cap", cap))


def compute_inverse_loss_curriculum_weight(
    epoch: float | None,
    base_weight: float,
    warmup_epochs: float = 15,
    max_weight: float = 0.05,
) -> float:
    """Weight of an inverse loss: 0 for `warmup_epochs`, then as many epochs of a straight ramp.

    For w epochs of warm-up: 0 up to epoch w, min(base·(e − w)/w, cap) up to 2w, min(base, cap) from
    there. `inverse_loss_weight` with delay and ramp of one length.

    Args:
        epoch: 0-based; None where there is none, which gives min(base, cap).
        base_weight: Full weight, dimensionless, 0 or more.
        warmup_epochs: Length of the delay and of the ramp; 0 is full at once.
        max_weight: Cap of the weight.

    Returns:
        The weight, dimensionless.

    Raises:
        ValueError: If a number is negative or not finite.
    """
    delay = not_negative("warmup_epochs", warmup_epochs)
    t = 2 * delay if epoch is None else epoch
    return inverse_loss_weight(t, base_weight, delay=delay, ramp=delay, cap=max_weight)


class CurriculumRamp:
    """Constant weights, but for some terms that start at 0 and ramp up to theirs.

    It has what a training engine asks of a weighting: `terms`, `observes`, `active`, `weights`,
    `observe`, `state_dict`, `load_state_dict`. A term at weight 0 is not active, so that nothing is
    computed for it.

    Attributes:
        terms: Each term's base weight, dimensionless, zero included.
        observes: None: it wants to see no values.
    """

    def __init__(
        self,
        base: Mapping[str, float],
        *,
        ramped: Sequence[str] = INVERSE_TERMS,
        delay: float = 5,
        ramp: float = 5,
        shape: str = "linear",
        cap: float | None = None,
        unit: str = "epoch",
        every: int = 1,
        rescale: bool = False,
    ) -> None:
        """Take the weights and how some of them come in.

        Args:
            base: Weight by name of the loss term; finite and not negative, one at least positive.
            ramped: Terms that ramp; the others keep their base weight. Of the two inverse terms that
                are the default, either may be absent from `base`.
            delay: Last `unit` at weight 0.
            ramp: Units from there to the full weight.
            shape: "linear", "cosine" or "step", see `inverse_loss_weight`.
            cap: Highest weight of each ramped term by itself; it is no share of the total.
            unit: "epoch" or "step": what `delay` and `ramp` count, both 0-based.
            every: The ramped terms are computed at optimizer steps that this divides, counted from
                the start of the run, not of the epoch; elsewhere their weight is 0.
            rescale: Multiply the ramped weights by `every`, after the cap, so that their mean over
                the steps stays.

        Raises:
            ValueError: If a number is out of range, `every` is 0, a name in `ramped` is no term, or
                no term ramps.
            TypeError: If a name is not a string, or a weight not a number.
        """
        self.terms: dict[str, float] = checked_terms(base)
        self.observes: str | None = None
        self._ramped = _ramped_terms(ramped, self.terms)
        self._delay = not_negative("delay", delay)
        self._ramp = not_negative("ramp", ramp)
        self._shape = choice(*SHAPES)("shape", shape)
        self._cap = optional(positive)("cap", cap)
        self._unit = choice("epoch", "step")("unit", unit)
        self._every = whole(1)("every", every)
        self._rescale = flag("rescale", rescale)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"CurriculumRamp({settings})"

    def active(self, *, epoch: int, step: int) -> frozenset[str]:
        """Names of the terms to compute now: those with a positive weight."""
        weights = self.weights(epoch=epoch, step=step)
        return frozenset(name for name, weight in weights.items() if weight > 0)

    def weights(self, *, epoch: int, step: int) -> dict[str, float]:
        """Weight of every term now, those at 0 included."""
        at = epoch if self._unit == "epoch" else step
        return self.terms | {name: self._weight(name, at, step) for name in self._ramped}

    def _weight(self, name: str, at: int, step: int) -> float:
        if step % self._every:
            return 0.0
        options = {"delay": self._delay, "ramp": self._ramp, "shape": self._shape, "cap": self._cap}
        value = inverse_loss_weight(at, self.terms[name], **options)
        return value * self._every if self._rescale else value

    def observe(self, values: Mapping[str, float], *, epoch: int, step: int, split: str) -> None:
        """Look at nothing: the curriculum follows the calendar alone."""

    def state_dict(self) -> dict[str, Any]:
        """The settings, so that no other curriculum goes on from here; nothing else is remembered."""
        return {"version": VERSION, **self._settings()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Accept a state of the same settings.

        Raises:
            ValueError: If it has other settings, each of which is listed, or is of another weighting.
        """
        if found := differences(state, self.state_dict()):
            text = "\n  ".join(found)
            raise ValueError(f"the state was saved with another curriculum of weights:\n  {text}")

    def _settings(self) -> dict[str, Any]:
        return {
            "base": dict(self.terms),
            "ramped": list(self._ramped),
            "delay": self._delay,
            "ramp": self._ramp,
            "shape": self._shape,
            "cap": self._cap,
            "unit": self._unit,
            "every": self._every,
            "rescale": self._rescale,
        }


def _ramped_terms(ramped: Sequence[str], terms: Mapping[str, float]) -> tuple[str, ...]:
    names = sequence(text)("ramped", ramped)
    unknown = [] if names == INVERSE_TERMS else [name for name in names if name not in terms]
    if unknown:
        hint = did_you_mean(unknown[0], terms)
        raise ValueError(f"ramped: '{unknown[0]}' is no term of the loss {list(terms)}.{hint}")
    known = tuple(name for name in names if name in terms)
    if not known:
        raise ValueError(
            f"ramped: none of {list(names)} is a term of the loss {list(terms)}, so nothing would "
            "ramp; take ConstantWeights, or name the terms that ramp."
        )
    return known
