"""The choice of a scheme by what the losses and their gradients do, with the evidence kept."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nops_schedules._adaptive import AdaptiveLossWeights
from nops_schedules._check import number, positive
from nops_schedules._composite import Composite
from nops_schedules._evidence import GradientNotes, LossWindow
from nops_schedules._names import did_you_mean, qualified_name
from nops_schedules._normalise import checked_names, first_weights
from nops_schedules._relobralo import ReLoBRaLo
from nops_schedules._restore import check_same

VERSION = 1
CHOICES = ("ConFIG", "GradientNormWeights", "ReLoBRaLo", "fixed")
_BY_GRADIENTS = CHOICES[:2]


class AutoSelect(Composite):
    """Constant weights for a window, and then the scheme that what was seen there asks for.

    | seen | scheme |
    |---|---|
    | mean pairwise cosine of the gradients below `cosine` | "ConFIG" |
    | else largest over smallest gradient norm above `norm_ratio` | "GradientNormWeights" |
    | else a loss that fell or rose by more than `drift` | "ReLoBRaLo" |
    | else | "fixed" |

    The drift of a loss is between its means over the first and the last tenth of the window. An engine
    that calls `balance` has the gradients measured once in each tenth, at one backward pass for each
    term; elsewhere `note` takes their statistics. Without them the first two lines are skipped, and
    `evidence` says so.

    Attributes:
        terms: Each term's initial weight, dimensionless, zero included.
        choice: Name of the scheme chosen; None within the window.
        evidence: What was seen and compared, in plain values; empty within the window.
    """

    def __init__(
        self,
        loss_names: Sequence[str],
        *,
        window: int = 200,
        cosine: float = -0.1,
        norm_ratio: float = 10.0,
        drift: float = 10.0,
        candidates: Mapping[str, Callable[[Sequence[str]], Any]] | None = None,
        initial_weights: Mapping[str, float] | None = None,
        min_weight: float = 1e-4,
        max_weight: float = 1e4,
        update_unit: str = "step",
    ) -> None:
        """Take the terms and what is compared.

        Args:
            loss_names: Names of the terms.
            window: Updates before the choice, 100 or more.
            cosine: Mean cosine below which the terms conflict.
            norm_ratio: Ratio of gradient norms above which they are out of balance.
            drift: Factor of a loss above which its size changes too much for constant weights.
            candidates: What to make in place of a scheme of the table, by its name there: called with the
                names of the terms that are on.
            initial_weights: Weight of each within the window; 0 is off for ever. None: 1 for each.
            min_weight: Least weight of a term that is on.
            max_weight: Largest weight.
            update_unit: "epoch" or "step": what one update is.

        Raises:
            ValueError: If a name, a weight, or a number makes no sense.
            TypeError: If a weight is no number.
        """
        self.terms: dict[str, float] = first_weights(checked_names(loss_names), initial_weights)
        self._limits = {
            "cosine": number("cosine", cosine),
            "norm_ratio": positive("norm_ratio", norm_ratio),
            "drift": positive("drift", drift),
        }
        self._candidates = _checked_candidates(candidates or {})
        self._limits_of_weights = (min_weight, max_weight)
        self._unit = update_unit
        self._on = {name: weight for name, weight in self.terms.items() if weight > 0}
        self._notes = GradientNotes()
        self._losses = LossWindow(
            self._on,
            window=window,
            min_weight=min_weight,
            max_weight=max_weight,
            unit=update_unit,
            notes=self._notes,
        )
        self._chosen: Any = None
        self.choice: str | None = None
        self.evidence: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"AutoSelect({self.choice or 'not chosen yet'}: {self._scheme})"

    def note(self, stats: Mapping[str, Any]) -> None:
        """Take gradient statistics, `{"cosine": [m][m], "norm": [m]}`; after the choice nothing is done.

        Raises:
            ValueError: If their sizes do not fit.
            ImportError: If a scheme that they may lead to is not installed.
        """
        if self.choice is not None:
            return
        for name in _BY_GRADIENTS if not self._notes.count else ():
            if name not in self._candidates:
                gradient_scheme(name)
        self._notes.add(stats)

    @property
    def observes(self) -> str | None:
        """What the weighting in charge observes."""
        return self._scheme.observes

    def active(self, *, epoch: int, step: int) -> frozenset[str]:
        """Names of the terms to compute now."""
        self._catch_up(epoch, step)
        return self._scheme.active(epoch=epoch, step=step)

    def weights(self, *, epoch: int, step: int) -> dict[str, float]:
        """Weight of every term now, those that are off included."""
        self._catch_up(epoch, step)
        now = self._scheme.weights(epoch=epoch, step=step)
        return {name: now.get(name, 0.0) if name in self._on else 0.0 for name in self.terms}

    def observe(self, values: Mapping[str, float], *, epoch: int, step: int, split: str) -> None:
        """Show values to the weighting in charge, and choose when the window is over."""
        off = self.terms.keys() - self._on.keys()
        shown = {name: value for name, value in values.items() if name not in off}
        self._scheme.observe(shown, epoch=epoch, step=step, split=split)
        self._choose_if_due(epoch, step)

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered and the settings, in plain numbers, texts, lists and dicts."""
        return {
            "version": VERSION,
            "scheme": type(self).__name__,
            "settings": self._settings(),
            "window": self._losses.state_dict(),
            "notes": self._notes.plain(),
            "choice": self.choice,
            "evidence": _copied(self.evidence),
            "chosen": None if self._chosen is None else self._chosen.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, as if it had never stopped.

        Raises:
            ValueError: If it is of other terms or settings: each is listed with both values.
        """
        check_same(state, self.state_dict(), kind="automatic selection")
        self._losses.load_state_dict(state["window"])
        self._notes.restore(state["notes"])
        self.choice, self.evidence = state["choice"], _copied(state["evidence"])
        self._chosen = None if self.choice is None else self._make(self.choice)
        if self._chosen is not None:
            self._chosen.load_state_dict(state["chosen"])

    @property
    def _scheme(self) -> Any:
        return self._losses if self._chosen is None else self._chosen

    def _catch_up(self, epoch: int, step: int) -> None:
        """Let what an earlier epoch left in the window take effect."""
        if self._chosen is None:
            self._losses.weights(epoch=epoch, step=step)
            self._choose_if_due(epoch, step)

    def _choose_if_due(self, epoch: int, step: int) -> None:
        if self._chosen is not None or not self._losses.full:
            return
        drift = self._losses.drift()
        seen = {
            "cosine": self._notes.cosine(),
            "norm_ratio": self._notes.norm_ratio(),
            "drift": max(drift.values(), default=None),
        }
        self.choice, reason = _judge(seen, self._limits)
        self.evidence = {
            **seen,
            "drift_by_term": drift,
            "limits": dict(self._limits),
            "notes": self._notes.count,
            "skipped": [name for name, value in seen.items() if value is None],
            "epoch": epoch,
            "step": step,
            "choice": self.choice,
            "reason": reason,
        }
        self._chosen = self._make(self.choice)
        if hasattr(self._chosen, "begin_at"):
            self._chosen.begin_at(self._losses.get_weights())

    def _make(self, choice: str) -> Any:
        names = list(self._on)
        if choice in self._candidates:
            return self._candidates[choice](names)
        if choice == "ReLoBRaLo":
            low, high = self._limits_of_weights
            return ReLoBRaLo(
                names,
                initial_weights=self._on,
                min_weight=low,
                max_weight=high,
                update_unit=self._unit,
            )
        if choice == "fixed":
            return AdaptiveLossWeights(names, self._on, strategy="fixed")
        return gradient_scheme(choice)(names)

    def _settings(self) -> dict[str, Any]:
        made = {name: qualified_name(make) for name, make in self._candidates.items()}
        return {"terms": dict(self.terms), **self._limits, "candidates": made}


def gradient_scheme(name: str) -> Any:
    """A class of `nops_schedules.gradient`.

    Raises:
        ImportError: If torch, which that module needs, is not installed.
    """
    try:
        return getattr(importlib.import_module("nops_schedules.gradient"), name)
    except ImportError as error:
        raise ImportError(
            f"{name} works on gradients and needs the extra: pip install 'nops-schedules[torch]'; or give "
            f'candidates={{"{name}": ...}}.'
        ) from error


def _judge(seen: Mapping[str, float | None], limits: Mapping[str, float]) -> tuple[str, str]:
    """The name of the scheme, and why, in one sentence."""
    cosine, ratio, drift = seen["cosine"], seen["norm_ratio"], seen["drift"]
    if cosine is not None and cosine < limits["cosine"]:
        return CHOICES[0], f"the gradients conflict: mean cosine {cosine:.3g}"
    if ratio is not None and ratio > limits["norm_ratio"]:
        return CHOICES[1], f"the gradient norms are {ratio:.3g} times apart"
    if drift is not None and drift > limits["drift"]:
        return CHOICES[2], f"a loss changed by a factor of {drift:.3g}"
    unknown = "" if cosine is not None else "; there were no gradient statistics"
    return CHOICES[3], f"nothing seen passes its limit{unknown}"


def _checked_candidates(candidates: Mapping[str, Any]) -> dict[str, Any]:
    for name, make in candidates.items():
        if name not in CHOICES:
            hint = did_you_mean(name, CHOICES)
            raise ValueError(f"candidates: '{name}' is none of {list(CHOICES)}.{hint}")
        if not callable(make):
            raise ValueError(
                f"candidates: '{name}' must be called with the names of the terms, got {make!r}."
            )
    return dict(candidates)


def _copied(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that shares no dict and no list."""
    copies = {dict: dict, list: list}
    return {key: copies.get(type(of), lambda same: same)(of) for key, of in evidence.items()}
