"""The report of a VQ-VAE: use of codes, reconstruction by category, what tokens say about θ."""

import math
from pathlib import Path
from typing import Any

from nops_diagnostics import Report, plot_training, plot_usage
from nops_train import RunFolder, keep_evaluation, kept_evaluation, read_events
from rich.console import Console
from rich.table import Table

from noa.features import FEATURES, FeatureSet
from noa.token_evaluation import TokenEvaluation

TOKENS = "token_evaluation.pt"
COLUMNS = {
    "token": "token",
    "codes": "codes",
    "utilisation": "used",
    "perplexity": "perplexity",
    "entropy_bits": "entropy, bits",
    "dead": "never used",
    "distortion": "distortion",
    "kmeans": "of k-means",
    "ratio": "ratio",
}


def store_tokens(run: RunFolder, evaluation: TokenEvaluation, facts: dict[str, Any]) -> None:
    """Keep what the report needs beside the run."""
    keep_evaluation(run, {"evaluation": evaluation.as_plain(), "facts": facts}, name=TOKENS)


def load_tokens(run: RunFolder) -> tuple[TokenEvaluation, dict[str, Any]]:
    """What `store_tokens` kept, once it fits the features beside it.

    Raises:
        InputError: If the run has not ended yet, a file is damaged, or they do not belong together.
    """
    found = kept_evaluation(
        run,
        lambda plain: (TokenEvaluation.from_plain(plain["evaluation"]), plain["facts"]),
        again=f"noa train-vqvae --name {run.name}",
        name=TOKENS,
    )
    FeatureSet.load(run.path / FEATURES).check(found[1]["features"], where=str(run.path / TOKENS))
    return found


def print_tokens(evaluation: TokenEvaluation) -> None:
    """The tables that a run ends with, in the terminal."""
    table = Table(title="Held-out clips: use of codes")
    shown = ("token", "codes", "utilisation", "perplexity", "entropy_bits", "ratio")
    labels = {**COLUMNS, "ratio": "distortion / k-means"}
    for name in shown:
        table.add_column(labels[name], justify="right")
    for row in evaluation.rows():
        table.add_row(*(_shown(row[name]) for name in shown))
    console = Console()
    console.print(table)
    parts = (f"{name} {error:.3f}" for name, error in evaluation.reconstruction.items())
    console.print(f"Reconstruction error, in the features' variance: {', '.join(parts)}")


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def write_token_report(run: RunFolder) -> Path:
    """The report of one evaluated VQ-VAE."""
    evaluation, facts = load_tokens(run)
    summary = run.summary()
    report = Report("Tokens of trajectories", f"{run.name} · {facts['dynamics']}")
    _verdict(report, evaluation)
    report.add_facts(
        {
            "clips scored": int(evaluation.usage[0].counts.sum()),
            "columns": len(facts["columns"]),
            "tokens per clip": len(evaluation.tokens),
            "model parameters": facts["model_parameters"],
            "optimizer steps": summary.get("steps", "–"),
            "training, s": summary.get("seconds", "–"),
        }
    )
    _usage_section(report, evaluation)
    _reconstruction_section(report, evaluation)
    _information_section(report, evaluation, facts)
    report.add_section("Training")
    report.add_figure(
        plot_training(read_events(run.path)),
        name="training",
        caption="Raw terms, their weights and weighted values; validation; norm of the gradient.",
    )
    _columns_section(report, facts)
    report.add_section("The run")
    report.add_text(facts["data"])
    report.add_config(run.config)
    report.add_machine()
    return report.write(run.report, plots=run.plots)


def _verdict(report: Report, evaluation: TokenEvaluation) -> None:
    error, trivial = evaluation.reconstruction["all"], evaluation.trivial["all"]
    entropy = [usage.bits for usage in evaluation.usage]
    single = [
        name
        for name, usage in zip(evaluation.tokens, evaluation.usage, strict=True)
        if usage.perplexity < 1.5 and len(usage.counts) > 1
    ]
    ratios = [row["ratio"] for row in evaluation.rows() if math.isfinite(row["ratio"])]
    details = [
        f"Reconstruction error {error:.3g}, that of the training mean {trivial:.3g}.",
        f"Entropy of a token: {min(entropy):.2f} to {max(entropy):.2f} bits.",
    ]
    if ratios:
        worst = max(ratios)
        details.append(f"Distortion at most {worst:.2f} times that of k-means with as many codes.")
    if error >= trivial:
        report.add_verdict(
            "Tokens say nothing: the mean does as well.", level="bad", details=details
        )
    elif single:
        details.append(f"All but always one code: {', '.join(single)}.")
        report.add_verdict("Some tokens have collapsed.", level="warning", details=details)
    else:
        report.add_verdict("All tokens are in use.", level="good", details=details)


def _usage_section(report: Report, evaluation: TokenEvaluation) -> None:
    report.add_section("Use of codes")
    report.add_text(
        "On clips that were neither trained nor stopped by. `perplexity` is how many codes, used equally, "
        "would say as much; `distortion` the mean squared distance of a latent from its code, beside that of a "
        "k-means of the training latents with as many codes. A small commitment is no sign of health: points "
        "that have collapsed have none."
    )
    report.add_table(evaluation.rows(), caption="Per token", columns=COLUMNS)
    figure = plot_usage(dict(zip(evaluation.tokens, evaluation.usage, strict=True)))
    report.add_figure(
        figure,
        name="usage",
        caption="How often each code is used, the most used first; the line is an even use.",
    )


def _reconstruction_section(report: Report, evaluation: TokenEvaluation) -> None:
    report.add_section("Reconstruction")
    report.add_text(
        f"Mean squared error of standardised features. Commitment, per entry of the latents: "
        f"{evaluation.commitment:.3g}."
    )
    rows = [
        {"category": name, "error": error, "of the training mean": evaluation.trivial[name]}
        for name, error in evaluation.reconstruction.items()
    ]
    report.add_table(rows, caption="Per category")


def _information_section(
    report: Report, evaluation: TokenEvaluation, facts: dict[str, Any]
) -> None:
    if (found := evaluation.information) is None:
        return
    report.add_section("What tokens say about θ")
    report.add_text(
        "Mutual information, in bits, of each token and of the quarter that a parameter lies in (2 bits in "
        "all), with the 95 % quantile of the same for the parameters of other trajectories."
    )
    names = facts["parameter_names"]
    rows = [
        {"token": token, "entropy": float(found.entropy[i]) / math.log(2)}
        | {
            key: value / math.log(2)
            for j, name in enumerate(names)
            for key, value in (
                (name, float(found.information[i, j])),
                (f"{name}, by chance", float(found.null[i, j])),
            )
        }
        for i, token in enumerate(evaluation.tokens)
    ]
    report.add_table(rows, caption="Bits per token", columns=list(rows[0]))


def _columns_section(report: Report, facts: dict[str, Any]) -> None:
    report.add_section("Features")
    report.add_text(f"Version `{facts['version']}`. Columns: {', '.join(facts['columns'])}.")
    dropped = [{"column": name, "because": why} for name, why in facts["dropped"].items()]
    if dropped:
        report.add_table(dropped, caption="Columns left out")
