"""`noa diagnose`: a surrogate's checkpoint and a vocabulary, four sections, four gates, one verdict."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nops_diagnostics import Report, plot_skill
from nops_models import UAFNO, LatentProjector
from nops_train import (
    CheckFailed,
    InputError,
    Invocation,
    RunFolder,
    load_checkpoint,
    load_weights,
    parse_config,
)

from noa.build import Bundle, build_model, open_bundle
from noa.config import NoaConfig
from noa.diagnosis import Diagnosis, diagnose_model
from noa.diagnosis_report import add_diagnosis
from noa.evaluation import collect, probe_set, train_mean
from noa.generation import domain_of, with_other_data
from noa.readings import check_clips
from noa.report import DIAGNOSIS
from noa.training import given_vocabulary
from noa.vocabulary import Vocabulary, check_kind, stored_normaliser

REPORT = "diagnosis.html"
CHECKPOINTS, BEST = "checkpoints", "best_model.pt"
PROJECTOR = "projector"  # part of the model where the loss trains one


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """What is diagnosed.

    Attributes:
        weights: A run folder, whose best checkpoint counts, or a checkpoint file.
        folder: Of the run: what is found goes there.
        config: That it was trained with.
        state: Of a checkpoint.
    """

    weights: Path
    folder: Path
    config: NoaConfig
    state: dict[str, Any]


def diagnose_run(call: Invocation) -> Diagnosis:
    """Grade a surrogate, write `diagnosis.json` and `diagnosis.html` into its run folder.

    Raises:
        CheckFailed: If the verdict is POOR, naming the gates that failed.
        InputError: If there is no vocabulary, or data and settings do not fit.
    """
    surrogate = find_surrogate(call)
    call.folder = surrogate.folder
    vocabulary = given_vocabulary(call)
    if vocabulary is None:
        raise InputError(
            "diagnose reads tokens: name a run of `noa train-vqvae` after the run, or by --vqvae-path"
        )
    config = _with_data(surrogate.config, call)
    bundle = _in_units_of(surrogate, config)
    found, position = _diagnose(surrogate, vocabulary, config, bundle, call)
    run = RunFolder.at(surrogate.folder)
    counts = {
        name: {"truth": found.truth[name].tolist(), "rollouts": count.tolist()}
        for name, count in found.counts.items()
    }
    about = {"position": position, "weights": str(surrogate.weights), "vqvae": str(vocabulary.path)}
    run.keep(
        DIAGNOSIS,
        {**about, "dataset": config.data.path, **found.report.as_dict(), "counts": counts},
    )
    path = write_diagnosis(run, found, config)
    print(found.report.text())
    print(f"Report: {path}")
    if found.report.verdict == "POOR":
        why = (
            f"failed gates: {', '.join(found.report.failed)}"
            if found.report.failed
            else "its grades"
        )
        raise CheckFailed(f"{surrogate.folder}: POOR, {why}")
    return found


def find_surrogate(call: Invocation) -> Surrogate:
    """The run, or the checkpoint of one, that the words name.

    Raises:
        InputError: If both or neither are named, or it is a run of another training.
        CheckpointError: If there is no good checkpoint.
    """
    file = call.options["noa_checkpoint"]
    if file is not None and call.folders:
        raise InputError(
            f"--noa-checkpoint {file}, and the folder {call.folders[0]}: give one of them, the VQ-VAE "
            "by --vqvae-path"
        )
    if file is None and not call.folders:
        raise InputError("RUN: expected a run folder, or --noa-checkpoint FILE; found neither")
    if file is None:
        weights, folder = call.folders[0], call.folders[0]
    else:
        weights = Path(file)
        folder = weights.parent.parent if weights.parent.name == CHECKPOINTS else weights
    if not (folder / "config.yaml").is_file():
        raise InputError(
            f"--noa-checkpoint {file}: expected a run folder, or a file in its {CHECKPOINTS}/"
        )
    check_kind(folder, tokens=False)
    best = weights / CHECKPOINTS / BEST
    newest = weights / CHECKPOINTS if weights.is_dir() else weights
    state = load_checkpoint(best if best.is_file() else newest)
    config = parse_config(NoaConfig, state["config"], source=str(weights))
    return Surrogate(weights=weights, folder=folder, config=config, state=state)


def _with_data(config: NoaConfig, call: Invocation) -> NoaConfig:
    """The configuration with the data set that `--dataset` names in place of the run's."""
    path = call.options["dataset"]
    return config if path is None else with_other_data(config, path)


def _in_units_of(surrogate: Surrogate, config: NoaConfig) -> Bundle:
    """The data, normalised as those that the surrogate was trained on.

    Raises:
        InputError: If they have other channels.
    """
    normaliser = stored_normaliser(surrogate.state["stateful"]["normaliser"])
    bundle = open_bundle(config, normaliser)
    if bundle.channels != normaliser.channels:
        raise InputError(
            f"{surrogate.folder}: trained on channels {', '.join(normaliser.channels)}, the data "
            f"have {', '.join(bundle.channels)}"
        )
    return bundle


def _diagnose(
    surrogate: Surrogate,
    vocabulary: Vocabulary,
    config: NoaConfig,
    bundle: Bundle,
    call: Invocation,
) -> tuple[Diagnosis, dict[str, Any]]:
    """The diagnosis, and where in training the weights are from."""
    domain = domain_of(config)
    if domain is None or not bundle.parameter_names:
        raise InputError(
            f"{config.data.path}: no known domain with parameters (data.domain): how strongly rollouts "
            "answer to θ is measured on trajectories that its solver makes"
        )
    model = build_model(config, bundle)
    projector = _attached_projector(model, surrogate, vocabulary)
    position = load_weights(model, surrogate.weights)
    frames, parameters = collect(bundle.test.batches(epoch=0, skip=0))
    samples, steps = _extent(call, available=(len(frames), frames.shape[1] - 1))
    check_clips(vocabulary, num_steps=steps, channels=bundle.channels)
    data, normaliser = config.data, bundle.normaliser
    used = data.num_train + data.num_valid + data.num_test
    trajectories, theta = probe_set(
        domain, sizes=config.evaluate.probe, num_steps=steps, seed=data.seed, skip=used
    )
    mean = train_mean(bundle.whole_train.batches(epoch=0, skip=0), spatial_dims=2)
    found = diagnose_model(
        model.eval(),
        vocabulary,
        projector=projector,
        frames=frames[:samples, : steps + 1],
        parameters=parameters[:samples],
        mean=mean[:steps],
        probe=(normaliser.normalise(trajectories), theta),
        to_data=normaliser.denormalise,
        batch_size=config.train.batch_size,
        bootstrap=config.evaluate.bootstrap,
        frame_interval=bundle.frame_interval,
    )
    return found, position


def _attached_projector(
    model: UAFNO, surrogate: Surrogate, vocabulary: Vocabulary
) -> LatentProjector | None:
    """The projector that the checkpoint holds weights of, as a part of the model; None where it has none.

    Raises:
        InputError: If it projects to the latents of another vocabulary.
    """
    own = {k: v for k, v in surrogate.state["model"].items() if k.startswith(f"{PROJECTOR}.")}
    if not own:
        return None
    projector = LatentProjector(model.config.level_channels[-1], vocabulary.latent_dim)
    found = own[f"{PROJECTOR}.{list(projector.state_dict())[-1]}"].shape[0]
    if found != vocabulary.latent_dim:
        raise InputError(
            f"{surrogate.weights}: its projector gives {found} latents, {vocabulary.path} has "
            f"{vocabulary.latent_dim}: name the VQ-VAE that it was trained with"
        )
    model.add_module(PROJECTOR, projector)
    return projector


def _extent(call: Invocation, *, available: tuple[int, int]) -> tuple[int, int]:
    """Trajectories and steps to roll out, all where no flag says fewer."""
    flags = {"n_samples": (2, "held-out trajectories"), "timesteps": (1, "steps")}
    wanted = []
    for (name, (least, what)), most in zip(flags.items(), available, strict=True):
        asked = call.options[name]
        value = most if asked is None else asked
        if not least <= value <= most:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag} {value}: expected {least} to {most}, the {what} there are")
        wanted.append(value)
    return wanted[0], wanted[1]


def write_diagnosis(run: RunFolder, found: Diagnosis, config: NoaConfig) -> Path:
    """`diagnosis.html`: the sections, and the skill that the first gate rests on."""
    record = run.record(DIAGNOSIS)
    report = Report("Diagnosis of a surrogate's tokens", f"{run.name} · {record['vqvae']}")
    add_diagnosis(report, record)
    report.add_section("Skill over lead time")
    report.add_figure(
        plot_skill(found.evaluation.scores), name="skill", caption="Skill against each baseline."
    )
    report.add_section("The run")
    report.add_text(f"Weights `{record['weights']}`, data `{record['dataset']}`.")
    report.add_config(config.model_dump(mode="json"))
    report.add_machine()
    return report.write(run.path / REPORT)
