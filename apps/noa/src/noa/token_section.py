"""What a report says about a run with tokens in its loss."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nops_diagnostics import Report
from nops_train import InputError, RunFolder, read_events

from noa.evaluation import Evaluation

NAMES = {"traj": "L_traj", "ic": "L_ic", "commit": "L_commit", "latent": "L_latent"}
STAYS = 1.1  # a last mean up to so many times the first is no rise


def add_token_terms(
    report: Report,
    run: RunFolder,
    evaluation: Evaluation,
    facts: Mapping[str, Any],
    *,
    rival: tuple[str, Evaluation] | None,
) -> None:
    """Add the section; nothing for a run without tokens.

    Args:
        report: To add to.
        run: The run.
        evaluation: Its evaluation.
        facts: With `tokens`, the scores of `score_tokens`.
        rival: Name and evaluation of a run on trajectories alone, on the same held-out ones.
    """
    if (scores := facts.get("tokens")) is None:
        return
    report.add_section("Tokens in the loss")
    epochs = [event["raw"] for event in read_events(run.path) if event["event"] == "epoch"]
    rows = [
        {"term": NAMES[name], "first epoch": epochs[0][name], "last epoch": epochs[-1][name]}
        for name in NAMES
        if epochs and name in epochs[0] and name in epochs[-1]
    ]
    if rows:
        report.add_table(rows, caption="Means over an epoch, without their weights")
    report.add_text("\n\n".join(_said(epochs, scores)))
    report.add_table([_shown(scores)], caption="On held-out trajectories")
    report.add_text(_compared(evaluation, rival))


def rival_of(config: Mapping[str, Any], load: Any) -> tuple[str, Evaluation] | None:
    """The run that `alignment.against` names, evaluated.

    Args:
        config: Of the run that is compared with it, in plain values.
        load: Gives a run's evaluation and facts.

    Raises:
        InputError: If it is not there, was not evaluated, or is of other trajectories.
    """
    path = config.get("alignment", {}).get("against")
    if path is None:
        return None
    try:
        other = RunFolder.at(path)
        evaluation = load(other)[0]
    except InputError as error:
        raise InputError(f"alignment.against: {error}") from error
    for key in ("num_test", "num_steps", "shape", "domain", "seed"):
        mine, found = config["data"][key], other.config["data"][key]
        if mine != found:
            raise InputError(
                f"alignment.against: {path} has data.{key} = {found}, this run {mine}: they cannot be compared"
            )
    return str(Path(path)), evaluation


def _said(epochs: Sequence[Mapping[str, float]], scores: Mapping[str, float]) -> list[str]:
    """A sentence per token term."""
    said = []
    first, last = (epochs[0], epochs[-1]) if epochs else ({}, {})
    if "latent" in first and "latent" in last:
        fell = "falls" if last["latent"] < first["latent"] else "does not fall"
        said.append(f"L_latent {fell}: {first['latent']:.3g} to {last['latent']:.3g}.")
    if "commit" in first and "commit" in last:
        stays = "stays" if last["commit"] <= STAYS * first["commit"] else "rises"
        said.append(f"L_commit {stays}: {first['commit']:.3g} to {last['commit']:.3g}.")
    said.append(
        f"Clips of held-out rollouts lie {scores['commit']:.3g} from their codes, those of the truth "
        f"{scores['commit_truth']:.3g}; {100 * scores['same_tokens']:.0f} % of the tokens are those of the truth."
    )
    if "r2" in scores:
        said.append(
            f"The projected bottleneck explains R² = {scores['r2']:.3f} of the latents' variance: error "
            f"{scores['latent']:.3g}, of the mean latent {scores['latent_mean']:.3g}, of 0 "
            f"{scores['latent_zero']:.3g}. A constant projection reaches R² = 0 however small its L_latent."
        )
    return said


def _shown(scores: Mapping[str, float]) -> dict[str, float]:
    labels = {
        "commit": "commitment of rollouts",
        "commit_truth": "of the truth",
        "same_tokens": "tokens of the truth",
        "latent": "L_latent",
        "latent_mean": "of the mean latent",
        "latent_zero": "of zero",
        "r2": "R²",
    }
    return {label: scores[name] for name, label in labels.items() if name in scores}


def _compared(evaluation: Evaluation, rival: tuple[str, Evaluation] | None) -> str:
    """Whether trajectories are worse than without tokens, beyond what chance allows."""
    if rival is None:
        return (
            "What tokens cost in trajectories is not known: name a run without them as "
            "`alignment.against`."
        )
    name, other = rival
    leads = [lead for lead in evaluation.lead_times if lead in other.lead_times]
    worse, parts = [], []
    for lead in leads:
        mine, rivals = evaluation.scores.at(lead)["nmse"], other.scores.at(lead)["nmse"]
        parts.append(f"{float(mine.value):.3g} against {float(rivals.value):.3g} at lead {lead}")
        if float(mine.value) > float(rivals.high):
            worse.append(str(lead))
    text = f"NMSE beside `{name}`, trained on trajectories alone: {'; '.join(parts)}. "
    if worse:
        return f"{text}L_traj is worse than its 95 % interval at lead {', '.join(worse)}."
    return f"{text}L_traj is no worse than its 95 % interval at any lead."
