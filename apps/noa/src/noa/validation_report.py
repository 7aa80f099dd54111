"""The part of a report that sets the tokens of rollouts beside those of the truth."""

from collections.abc import Mapping
from typing import Any

import torch
from nops_diagnostics import Estimate, Report, plot_distances, plot_token_usage
from nops_train import CheckFailed
from rich.console import Console

from noa.validation import FAILED, GRADES, LARGEST_KL

LEVELS = {"excellent": "good", "good": "good", "acceptable": "warning", FAILED: "bad"}
PANELS = 9  # quantizers whose codes are drawn, those that differ most


def check_grade(tokens: Mapping[str, Any]) -> None:
    """Refuse rollouts that the vocabulary cannot reconstruct.

    Raises:
        CheckFailed: With the ratio and the bar.
    """
    if tokens["grade"] == FAILED:
        raise CheckFailed(f"{_ratio_text(tokens)}: expected at most {GRADES['acceptable']:g}")


def print_tokens_verdict(tokens: Mapping[str, Any]) -> None:
    """The lines that a validation ends with, in the terminal."""
    console = Console()
    console.print(f"{_ratio_text(tokens)}: {tokens['grade']}", soft_wrap=True)
    for line in _details(tokens):
        console.print(line, soft_wrap=True)


def add_tokens(report: Report, tokens: Mapping[str, Any]) -> None:
    """Verdict and sections of a validation's `tokens`, as `validation.json` has them."""
    report.add_verdict(
        f"Rollouts tokenise like the truth: {tokens['grade']}."
        if tokens["grade"] != FAILED
        else "Rollouts do not tokenise like the truth.",
        level=LEVELS[tokens["grade"]],  # type: ignore[arg-type]
        details=[f"{_ratio_text(tokens)}.", *_details(tokens)],
    )
    _reconstruction_section(report, tokens)
    _usage_section(report, tokens)
    _distance_section(report, tokens)


def estimate_of(plain: Mapping[str, Any]) -> Estimate:
    """What `Estimate.as_dict` gave."""
    return Estimate(**{key: torch.tensor(float(value)) for key, value in plain.items()})


def _ratio_text(tokens: Mapping[str, Any]) -> str:
    found = tokens["ratio"]["total"]
    return (
        f"Reconstruction error of rollouts over the truth's: {found['value']:.3g} "
        f"[{found['low']:.3g}, {found['high']:.3g}]"
    )


def _details(tokens: Mapping[str, Any]) -> list[str]:
    kl = tokens["kl"]
    low = sum(one["value"] < LARGEST_KL for one in kl.values())
    name, worst = max(kl.items(), key=lambda item: item[1]["value"])
    far = [k for k, one in tokens["wasserstein"].items() if one["value"] > one["null"]]
    agreement = {k: estimate_of(v).value.item() for k, v in tokens["agreement"].items()}
    return [
        f"KL of token frequencies below {LARGEST_KL} nats in {low} of {len(kl)} quantizers; at most "
        f"{worst['value']:.3g} ({name}; halves of the truth {worst['null']:.3g}).",
        f"{len(far)} of {len(tokens['wasserstein'])} features lie further from the truth than its "
        "halves from each other.",
        f"{agreement['rollouts']:.0%} of tokens equal the truth's; its most frequent ones alone "
        f"{agreement['majority']:.0%}, another trajectory's {agreement['shuffled']:.0%}.",
    ]


def _reconstruction_section(report: Report, tokens: Mapping[str, Any]) -> None:
    report.add_section("Tokens: reconstruction")
    report.add_text(
        f"Mean squared error of standardised features through the tokens, on clips of "
        f"{tokens['trajectories']} held-out trajectories: of the rollouts, and of the truth from the "
        "same initial fields and parameters. A ratio of at most 1.5 is excellent, 2 good, 3 "
        "acceptable. Intervals are 95 % bootstraps over trajectories."
    )
    rows = [
        {
            "category": name,
            "rollouts": tokens["errors"][name]["rollouts"],
            "truth": tokens["errors"][name]["truth"],
            "ratio": estimate_of(ratio),
        }
        for name, ratio in tokens["ratio"].items()
    ]
    report.add_table(rows, caption="Reconstruction error")
    rows = [{"tokens of": k, "equal": estimate_of(v)} for k, v in tokens["agreement"].items()]
    report.add_table(rows, caption="Share of tokens that equal the truth's")


def _usage_section(report: Report, tokens: Mapping[str, Any]) -> None:
    report.add_section("Tokens: use of codes")
    report.add_text(
        "KL(truth‖rollouts) of each quantizer's token frequencies, in nats, half a count added to "
        "each code; `halves of the truth` is the 95 % quantile of the same between random halves of "
        "the truth's trajectories."
    )
    rows = [
        {"quantizer": name, "KL": one["value"], "halves of the truth": one["null"]}
        for name, one in tokens["kl"].items()
    ]
    report.add_table(rows, caption="Divergence of token frequencies")
    worst = sorted(tokens["kl"], key=lambda name: -tokens["kl"][name]["value"])[:PANELS]
    drawn = [name for name in tokens["counts"] if name in worst]
    add_usage(report, tokens["counts"], drawn, name="token_usage")


def add_usage(
    report: Report, counts: Mapping[str, Mapping[str, Any]], drawn: list[str], *, name: str
) -> None:
    """How often codes stand for the truth and for the rollouts, of some quantizers."""
    truth, rollouts = (
        {quantizer: torch.tensor(counts[quantizer][side]) for quantizer in drawn}
        for side in ("truth", "rollouts")
    )
    report.add_figure(
        plot_token_usage(truth, rollouts),
        name=name,
        caption="Share of each code, by the truth's use: bars the truth, dots the rollouts.",
    )


def _distance_section(report: Report, tokens: Mapping[str, Any]) -> None:
    report.add_section("Features: distance")
    report.add_text(
        "Wasserstein-1 distance of each feature's distribution, in standard deviations of the "
        "training clips, and energy distance of each family, each beside the 95 % quantile of the "
        "same between random halves of the truth's trajectories."
    )
    rows = [
        {"family": name, "energy distance": one["value"], "halves of the truth": one["null"]}
        for name, one in tokens["energy"].items()
    ]
    report.add_table(rows, caption="Energy distance")
    columns = tokens["wasserstein"]
    values, nulls = (
        torch.tensor([one[key] for one in columns.values()]) for key in ("value", "null")
    )
    report.add_figure(
        plot_distances(values, nulls, names=tuple(columns)),
        name="distances",
        caption="The features that lie furthest from the truth; bars are what chance gives.",
    )
