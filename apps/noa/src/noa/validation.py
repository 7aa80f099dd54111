"""Do rollouts tokenise like the truth? Both through one vocabulary, on the same samples."""

from dataclasses import dataclass
from typing import Any

import torch
from nops_diagnostics import (
    Estimate,
    FeatureDistribution,
    TokenDivergence,
    bootstrap_estimate,
    derangement,
    feature_distribution,
    token_divergence,
)
from nops_train import InputError
from torch import Tensor

from noa.readings import Readings, Tokeniser, code_counts, families_of, read

GRADES = {"excellent": 1.5, "good": 2.0, "acceptable": 3.0}  # of the ratio, at most
FAILED = "failed"
LARGEST_KL = 0.1  # nats, of a quantizer whose tokens are used alike
LEAST_TRAJECTORIES = 4  # of which halves are made


@dataclass(frozen=True, kw_only=True)
class TokenValidation:
    """Rollouts beside the truth of the same initial states and parameters.

    Attributes:
        grade: Of the ratio: "excellent", "good", "acceptable" or "failed".
        ratio: Error of the features through the tokens, rollouts over truth, with a bootstrap interval
            over trajectories; "total" and each category.
        errors: The two errors, (rollouts, truth), by the same names.
        distance: Of the features, in training standard deviations, beside halves of the truth.
        divergence: KL(truth‖rollouts) of the tokens per quantizer, in nats, beside halves of the truth.
        agreement: Share of tokens that equal the truth's: of the rollouts; of the truth's most frequent
            token ("majority"); of another trajectory's truth ("shuffled").
        truth: How often each code stands for the truth, by quantizer.
        rollouts: The same of the rollouts.
        names: Of the features.
        num_trajectories: That were compared.
    """

    grade: str
    ratio: dict[str, Estimate]
    errors: dict[str, tuple[float, float]]
    distance: FeatureDistribution
    divergence: TokenDivergence
    agreement: dict[str, Estimate]
    truth: dict[str, Tensor]
    rollouts: dict[str, Tensor]
    names: tuple[str, ...]
    num_trajectories: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        quantizers = zip(self.truth, self.divergence.kl, self.divergence.null, strict=True)
        columns = zip(
            self.names, self.distance.wasserstein, self.distance.wasserstein_null, strict=True
        )
        return {
            "grade": self.grade,
            "trajectories": self.num_trajectories,
            "ratio": {name: value.as_dict() for name, value in self.ratio.items()},
            "errors": {
                name: {"rollouts": found, "truth": truth}
                for name, (found, truth) in self.errors.items()
            },
            "kl": {name: {"value": kl.item(), "null": n.item()} for name, kl, n in quantizers},
            "wasserstein": {
                name: {"value": value.item(), "null": null.item()} for name, value, null in columns
            },
            "energy": {
                name: {"value": value, "null": self.distance.energy_null[name]}
                for name, value in self.distance.energy.items()
            },
            "agreement": {name: value.as_dict() for name, value in self.agreement.items()},
            "counts": {
                name: {"truth": count.tolist(), "rollouts": self.rollouts[name].tolist()}
                for name, count in self.truth.items()
            },
        }


def validate_tokens(
    vocabulary: Tokeniser,
    pred: Tensor,
    target: Tensor,
    initial: Tensor,
    *,
    bootstrap: int,
    seed: int = 0,
) -> TokenValidation:
    """Compare what a vocabulary reads from rollouts with what it reads from the truth.

    Args:
        vocabulary: Frozen; any domain's that has these channels.
        pred: Rollouts in the data's units `[trajectory, time, channel, height, width]`, finite.
        target: Truth of the same initial states and parameters.
        initial: Those initial states `[trajectory, channel, height, width]`.
        bootstrap: Resamples behind each interval.
        seed: Of intervals and nulls.

    Raises:
        ValueError: If there are fewer than four trajectories, or the vocabulary cannot read them.
    """
    model, truth = (read(vocabulary, frames, initial) for frames in (pred, target))
    groups = truth.trajectory
    ratio = {
        name: bootstrap_estimate(
            _ratio,
            *(side.by_trajectory(side.errors[name]) for side in (model, truth)),
            num_resamples=bootstrap,
            seed=seed,
        )
        for name in truth.errors
    }
    return TokenValidation(
        grade=grade_of(ratio["total"].value.item()),
        ratio=ratio,
        errors={
            name: (model.errors[name].mean().item(), truth.errors[name].mean().item())
            for name in truth.errors
        },
        distance=feature_distribution(
            truth.features,
            model.features,
            families=families_of(vocabulary.names),
            groups=groups,
            seed=seed,
        ),
        divergence=token_divergence(
            truth.tokens, model.tokens, num_codes=vocabulary.num_codes, groups=groups, seed=seed
        ),
        agreement=_agreements(model, truth, bootstrap=bootstrap, seed=seed),
        truth=code_counts(vocabulary, truth),
        rollouts=code_counts(vocabulary, model),
        names=vocabulary.names,
        num_trajectories=len(pred),
    )


def check_count(num_trajectories: int) -> None:
    """Refuse too few held-out trajectories.

    Raises:
        InputError: If there are fewer than four.
    """
    if num_trajectories < LEAST_TRAJECTORIES:
        raise InputError(
            f"data.num_test = {num_trajectories}: tokens are compared on {LEAST_TRAJECTORIES} "
            "held-out trajectories at least"
        )


def grade_of(ratio: float) -> str:
    """In words."""
    return next((name for name, bar in GRADES.items() if ratio <= bar), FAILED)


def _ratio(model: Tensor, truth: Tensor) -> Tensor:
    """1 where both are 0."""
    return torch.where((model == 0) & (truth == 0), 1.0, model / truth)


def _agreements(
    model: Readings, truth: Readings, *, bootstrap: int, seed: int
) -> dict[str, Estimate]:
    tokens, num = truth.tokens, int(truth.trajectory.max()) + 1
    order = derangement(num, seed=seed)
    offsets = torch.arange(len(tokens) // num).repeat_interleave(num) * num
    moved = tokens[order.repeat(len(tokens) // num) + offsets]
    guesses = {
        "rollouts": model.tokens,
        "majority": tokens.mode(0).values.expand_as(tokens),
        "shuffled": moved,
    }
    return {
        name: bootstrap_estimate(
            torch.clone,
            truth.by_trajectory((guess == tokens).double().mean(1)),
            num_resamples=bootstrap,
            seed=seed,
        )
        for name, guess in guesses.items()
    }
