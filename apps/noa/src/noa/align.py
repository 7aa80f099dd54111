"""`noa align`: do the vocabularies of two runs say the same, and would random ones as well?"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from nops_diagnostics import Alignment, Codebook, Report, compute_alignment, plot_alignment
from nops_train import InputError, Invocation, RunFolder, load_run_config
from rich.console import Console
from torch import Tensor

from noa.build import open_bundle
from noa.config import NoaConfig
from noa.evaluation import collect
from noa.generation import with_other_data
from noa.readings import read
from noa.vocabulary import Vocabulary, load_vocabulary, load_vqvae_codebook, with_each_code

MOST_PAIRS = 40  # in the report's table; the JSON has all
MEANING = {
    "signature": "Codes are compared by what they decode to, with the other tokens at their mean, in "
    "the standardised features that both vocabularies have: the cosine of their deviations from the "
    "mean code. The score is the mean of the pairs. By chance: codes mixed by a random rotation, which "
    "keeps their mean and covariance, and columns shuffled one by one; the harder null counts.",
    "behaviour": "Codes are compared by the clips that they stand for, of one probe set that both "
    "vocabularies read. The score is the adjusted mutual information of their tokens: 1 for equal "
    "partitions, 0 by chance. By chance: one side's clips in random order.",
    "geometry": "Codes are compared by where they lie once the latents of one probe set are turned onto "
    "each other. The score is linear centred kernel alignment, 0 to 1. By chance: one side's clips in "
    "random order.",
}


def align_runs(call: Invocation) -> Alignment:
    """Align two vocabularies; write `alignment_<b>.json` and `.html` into the first run's folder.

    Raises:
        InputError: If a folder holds no vocabulary, what the mode needs is missing, or they do not fit.
    """
    mode, folders = call.options["mode"], list(call.folders)
    if (retrained := call.options["retrained"]) is not None:
        folders.append(Path(retrained))
    first, *others = _codebooks(folders, mode=mode, probe=call.options["probe"])
    found = [_aligned(first, other, call) for other in others]
    bound = found[1].score if len(found) > 1 else None
    alignment, run = found[0], RunFolder.at(folders[0])
    names = (folders[0].resolve().name, folders[1].resolve().name)
    name = f"alignment_{names[1]}"
    about = {"a": str(folders[0]), "b": str(folders[1]), "retrained": retrained}
    run.keep(f"{name}.json", {**about, "bound": bound, **as_dict(alignment)})
    path = write_alignment(
        run.path / f"{name}.html", alignment, names=names, bound=bound, about=about
    )
    print_alignment(alignment, names=names, bound=bound)
    print(f"Report: {path}")
    return alignment


def _codebooks(folders: list[Path], *, mode: str, probe: str | None) -> list[Codebook]:
    """What the mode compares, of each run."""
    books = [load_vqvae_codebook(folder) for folder in folders]
    if mode == "signature":
        if probe is not None:
            raise InputError(
                "--probe: mode signature reads no clips; it needs behaviour or geometry"
            )
        return books
    vocabularies = [load_vocabulary(folder) for folder in folders]
    frames = _probe_set(folders[0], probe, vocabularies)
    return [_with_probe(*pair, frames) for pair in zip(books, vocabularies, strict=True)]


def _probe_set(folder: Path, probe: str | None, vocabularies: list[Vocabulary]) -> Tensor:
    """Held-out trajectories that all vocabularies read, their starts included, normalised.

    Raises:
        InputError: If one of them cannot.
    """
    config = load_run_config(NoaConfig, folder)
    if probe is not None:
        config = with_other_data(config, probe)
    bundle, steps = open_bundle(config), config.data.num_steps
    lengths = {str(one.path): one.clip_length for one in vocabularies}
    if len(set(lengths.values())) > 1 or max(lengths.values()) > steps:
        raise InputError(
            f"clips have {lengths} frames, {config.data.path} {steps} steps: expected clips of one "
            "length, no longer than that"
        )
    for one in vocabularies:
        if len(one.channels) != len(bundle.channels):
            raise InputError(
                f"{config.data.path} has {len(bundle.channels)} channels, and {one.path} reads "
                f"{len(one.channels)}: expected a probe set that all vocabularies read"
            )
    return collect(bundle.test.batches(epoch=0, skip=0))[0]


def _with_probe(book: Codebook, vocabulary: Vocabulary, frames: Tensor) -> Codebook:
    """With tokens, latents and codes of a probe set, whose spread is taken for that of the training data."""
    in_units = vocabulary.normaliser.denormalise
    found = read(vocabulary, in_units(frames[:, 1:]), in_units(frames[:, 0]))
    means = [latent.mean(0) for latent in vocabulary.latents(found.features)]
    codes = [
        torch.cat(with_each_code(vocabulary, means, place), dim=1)
        for place in range(len(vocabulary.num_codes))
    ]
    return replace(book, tokens=found.tokens, latents=found.latents, codes=torch.cat(codes))


def _aligned(a: Codebook, b: Codebook, call: Invocation) -> Alignment:
    """`compute_alignment`, what a user can change told as such."""
    options = {name: call.options[name] for name in ("mode", "num_null", "seed")}
    try:
        return compute_alignment(a, b, **options)
    except ModuleNotFoundError as error:
        raise InputError(str(error)) from error
    except ValueError as error:
        advice = str(error).replace(
            "mode='behaviour' on a probe set", "--mode behaviour --probe FOLDER,"
        )
        raise InputError(f"{call.folders[0]} and {call.folders[1]}: {advice}") from error


def as_dict(found: Alignment) -> dict[str, Any]:
    """Plain values, for JSON."""
    return {
        "mode": found.mode,
        "verdict": found.verdict,
        "score": found.score,
        "p_value": found.p_value,
        "null_quantiles": {str(level): value for level, value in found.null_quantiles.items()},
        "procrustes": found.procrustes,
        "pairs": [
            {
                "a": pair.a,
                "b": pair.b,
                "similarity": pair.similarity,
                "p": pair.p,
                "q": pair.q,
                "features": [{"name": n, "a": x, "b": y} for n, x, y in pair.features],
            }
            for pair in found.pairs
        ],
        "rows": found.rows.tolist(),
        "columns": found.columns.tolist(),
        "matrix": found.matrix.tolist(),
    }


def print_alignment(found: Alignment, *, names: tuple[str, str], bound: float | None) -> None:
    """The lines that the command ends with."""
    console = Console()
    console.print(f"{names[0]} and {names[1]}: {found.verdict}", soft_wrap=True)
    for line in _details(found, bound):
        console.print(line, soft_wrap=True)


def _details(found: Alignment, bound: float | None) -> list[str]:
    null = found.null_quantiles
    sure = sum(pair.q < 0.05 for pair in found.pairs)
    lines = [
        f"Score {found.score:.3f}; by chance {null[0.5]:.3f} (median), {null[0.95]:.3f} (95 %); "
        f"p = {found.p_value:.3g}.",
        f"{sure} of {len(found.pairs)} pairs of codes hold at q < 0.05.",
    ]
    if found.procrustes is not None:
        lines.append(f"A rotation brings {found.procrustes:.1%} of the latents' size together.")
    if bound is not None:
        lines.append(f"Upper bound, from a retrained run of the first one's data: {bound:.3f}.")
    return lines


def write_alignment(
    path: Path,
    found: Alignment,
    *,
    names: tuple[str, str],
    bound: float | None,
    about: dict[str, Any],
) -> Path:
    """The report of one alignment."""
    report = Report("Do two vocabularies say the same?", f"{names[0]} and {names[1]}")
    levels = {"strong": "good", "moderate": "good", "weak": "warning"}
    report.add_verdict(
        f"Alignment: {found.verdict}.",
        level=levels.get(found.verdict, "bad"),  # type: ignore[arg-type]
        details=_details(found, bound),
    )
    report.add_section("Score beside chance")
    report.add_text(MEANING[found.mode])
    rows = [{"": "score", "value": found.score}]
    rows += [{"": f"{q:.0%} of chance", "value": v} for q, v in found.null_quantiles.items()]
    rows += [] if bound is None else [{"": "retrained", "value": bound}]
    report.add_table(rows, caption="Score, nulls and bound")
    report.add_section("Codes")
    report.add_figure(
        plot_alignment(found, names=names),
        name="matrix",
        caption="Similarity of codes in use, pairs on the diagonal, best first; rings are the pairs that "
        "hold at q < 0.05. Matching finds likeness among random codes too: only rings count.",
    )
    rows = [_pair_row(pair) for pair in found.pairs[:MOST_PAIRS]]
    report.add_table(rows, caption=f"The best of {len(found.pairs)} pairs", columns=list(rows[0]))
    report.add_section("Compared")
    report.add_config({**about, "mode": found.mode}, caption="Runs")
    report.add_machine()
    return report.write(path)


def _pair_row(pair: Any) -> dict[str, Any]:
    shared = "; ".join(f"{name} {x:+.2f} / {y:+.2f}" for name, x, y in pair.features)
    numbers = {"a": pair.a, "b": pair.b, "similarity": pair.similarity, "p": pair.p, "q": pair.q}
    return {**numbers, "most extreme in both (a / b)": shared or None}
