"""Weights that make the weighted terms of a loss equal, at the start or all along."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsFloat

from nops_schedules._check import choice, flag, fraction, whole
from nops_schedules._check import weight as not_negative
from nops_schedules._loss_weights import LossWeights
from nops_schedules._normalise import MODES, normalised

STRATEGIES = ("equal_init", "equal_init_ema", "ema", "fixed")
_FAR_ABOVE_EPS = 100  # below this times ε the weighted loss is off by one percent and more


class AdaptiveLossWeights(LossWeights):
    """Balances terms by their sizes: w_i ∝ 1 / (L_i + ε).

    | strategy | weights |
    |---|---|
    | "equal_init" | set by the first update, then constant |
    | "equal_init_ema" | the same, then w ← β·w + (1−β)·target of the moving average of the losses |
    | "ema" | that from the first update on, beginning at the initial weights |
    | "fixed" | the initial weights |

    The average is L̄ ← α·L̄ + (1−α)·L, and begins at the first loss seen, not at 0. It follows every
    update; the weights move at the first update and at every `update_every`-th after it.

    Attributes:
        terms: Each term's initial weight, dimensionless, zero included.
        epoch: Epoch of the last update; None before the first.

    Source:
        The rules are ours; α and β as in the moving averages of Adam, without bias to correct.
    """

    def __init__(
        self,
        loss_names: Sequence[str],
        initial_weights: Mapping[str, float] | None = None,
        strategy: str = "equal_init",
        ema_alpha: float = 0.9,
        update_frequency: int = 1,
        eps: float = 1e-8,
        min_weight: float = 1e-4,
        max_weight: float = 1e4,
        *,
        normalize: str = "mean",
        prior: bool = False,
        weight_beta: float = 0.9,
        update_unit: str = "epoch",
        update_every: int | None = None,
        floor: float = 0.0,
        max_invalid: int = 10,
    ) -> None:
        """Take the terms and how they are balanced.

        Args:
            loss_names: Names of the terms.
            initial_weights: Weight of each, dimensionless; 0 is off for ever. None: 1 for each. Without
                `prior` only their mean (or under "total" their weighted sum) has a say.
            strategy: One of the four.
            ema_alpha: α in [0, 1), the share of the old average.
            update_frequency: Older name of `update_every`. It is a period: more is less often.
            eps: ε, in the unit of the losses.
            min_weight: Least weight of a term that is on.
            max_weight: Largest weight.
            normalize: Total scale of the weights: "mean" keeps their mean, "unit" makes each weighted loss 1,
                "sum" makes them sum to 1, "total" keeps the total loss.
            prior: Keep the ratios of the initial weights: w_i·L_i ∝ w0_i.
            weight_beta: β in [0, 1), the share of the old weight.
            update_unit: "epoch" or "step": what one update is.
            update_every: Updates from one move of the weights to the next.
            floor: Loss at which a term counts as satisfied: it keeps its weight for this time.
            max_invalid: NaN, infinite or missing values of a term in a row that are an error.

        Raises:
            ValueError: If a name, a weight, or a number makes no sense.
            TypeError: If a weight is no number.
        """
        self._strategy = choice(*STRATEGIES)("strategy", strategy)
        self._alpha = fraction("ema_alpha", ema_alpha)
        self._beta = fraction("weight_beta", weight_beta)
        self._every = _period(update_frequency, update_every)
        self._eps = not_negative("eps", eps)
        self._mode = choice(*MODES)("normalize", normalize)
        self._prior = flag("prior", prior)
        self._floor = not_negative("floor", floor)
        self._warned = False
        fixed = strategy == "fixed"
        super().__init__(
            loss_names,
            initial_weights,
            min_weight=min_weight,
            max_weight=max_weight,
            update_unit=update_unit,
            floor=self._floor,
            signed=fixed,
            max_invalid=None if fixed else max_invalid,
            within=not fixed,
        )

    @property
    def initialized(self) -> bool:
        """Whether a first update with valid losses was made."""
        return bool(self._initial_losses)

    @property
    def initial_losses(self) -> dict[str, float]:
        """The valid losses of the first update."""
        return dict(self._initial_losses)

    @property
    def loss_ema(self) -> dict[str, float]:
        """The moving average of each loss that was seen."""
        return dict(self._ema)

    def measure(self, samples: Iterable[Mapping[str, SupportsFloat]]) -> dict[str, float]:
        """Make the first update with the mean over losses that were taken before training.

        Args:
            samples: Losses by name, of several batches.

        Returns:
            The weight of every term, as a new dict.

        Raises:
            ValueError: If there is no sample, or an update was made already.
        """
        if self.initialized or self._intake.epoch is not None:
            raise ValueError("measure comes before the first update, and one was made already.")
        valid = [self._intake.read(sample) for sample in samples]
        if not valid:
            raise ValueError("measure needs one sample at least, got none.")
        for losses in valid:
            self._intake.add(0, losses)
        self._update(self._intake.take(), None)
        return dict(self._weights)

    def _move(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        if self._strategy == "fixed":
            return {}
        if not self._initial_losses:
            return self._move_first(losses)
        for name, value in losses.items():
            old = self._ema.get(name, value)
            self._ema[name] = self._alpha * old + (1 - self._alpha) * value
        if self._at_rest or self._updates % self._every:
            return {}
        return self._smoothed({name: self._ema[name] for name in losses})

    def _move_first(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        self._initial_losses, self._ema = dict(losses), dict(losses)
        self._at_rest = self._strategy == "equal_init"
        if self._at_rest and (late := sorted(self._on - losses.keys())):
            warnings.warn(
                f"{late} had no positive, finite loss in the first update, and keep their initial "
                'weights for good; take strategy="equal_init_ema" for terms that come in later.',
                UserWarning,
                stacklevel=5,
            )
        return self._smoothed(losses) if self._strategy == "ema" else self._target(losses)

    def _smoothed(self, losses: Mapping[str, float]) -> dict[str, float]:
        beta, now = self._beta, self._weights
        target = self._target(losses)
        return {name: beta * now[name] + (1 - beta) * value for name, value in target.items()}

    def _target(self, losses: Mapping[str, float]) -> dict[str, float]:
        if not self._warned and min(losses.values()) < _FAR_ABOVE_EPS * self._eps:
            self._warned = True
            warnings.warn(
                f"a loss of {min(losses.values()):.3g} is not far above eps={self._eps:g}, and its weighted "
                "loss falls behind the others: give a smaller eps, or a larger unit.",
                UserWarning,
                stacklevel=6,
            )
        return normalised(
            losses, initial=self._initial, mode=self._mode, prior=self._prior, eps=self._eps
        )

    def _forget(self) -> None:
        self._initial_losses: dict[str, float] = {}
        self._ema: dict[str, float] = {}
        self._at_rest = self._strategy == "fixed"

    def _settings(self) -> dict[str, Any]:
        return {
            "strategy": self._strategy,
            "ema_alpha": self._alpha,
            "eps": self._eps,
            "normalize": self._mode,
            "prior": self._prior,
            "weight_beta": self._beta,
            "update_every": self._every,
            "floor": self._floor,
        }

    def _remembered(self) -> dict[str, Any]:
        return {
            "strategy": self._strategy,
            "initialized": self.initialized,
            "initial_losses": self.initial_losses,
            "loss_ema": self.loss_ema,
        }

    def _remember(self, state: Mapping[str, Any]) -> None:
        self._initial_losses, self._ema = dict(state["initial_losses"]), dict(state["loss_ema"])
        constant = self._strategy == "equal_init" and self.initialized
        self._at_rest = constant or self._strategy == "fixed"


def _period(update_frequency: int, update_every: int | None) -> int:
    older = whole(1)("update_frequency", update_frequency)
    if update_every is None:
        return older
    if older not in (1, whole(1)("update_every", update_every)):
        raise ValueError(
            f"update_frequency={older} is the older name of update_every={update_every}: give one."
        )
    return update_every
