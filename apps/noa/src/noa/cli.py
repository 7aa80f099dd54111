"""The command line: `noa generate | train-vqvae | train | validate | diagnose | align | report`.

Commands name what they run, so that `--help` answers at once.
"""

import sys
from importlib.metadata import version
from importlib.resources import files

from nops_train import (
    Alias,
    App,
    Command,
    Needs,
    generate_command,
    run_cli,
    schedule_needs,
    some_runs,
)

from noa.cli_tokens import ALIGN, DIAGNOSE, VALIDATE
from noa.config import NoaConfig


def _split(samples: int) -> dict[str, int]:
    """The published script's share: nine tenths to train on, the rest to validate."""
    if samples < 2:
        raise ValueError("at least 2 samples, one to train on and one to validate")
    train = int(0.9 * samples)
    return {"data.num_train": train, "data.num_valid": samples - train}


FLAGS = {
    "--dataset": "data.path",
    "--timesteps": "data.num_steps",
    "--bptt-window": "rollout.window",
    "--base-channels": "model.base_channels",
    "--encoder-levels": "model.encoder_levels",
    "--afno-blocks": "model.afno_blocks",
    "--modes": "model.modes",
    "--epochs": "train.epochs",
    "--batch-size": "train.batch_size",
    "--lr": "train.learning_rate",
    "--lr-schedule": "train.lr_schedule",
    "--warmup-steps": "train.warmup_steps",
    "--save-every": "train.save_every",
    "--early-stop-patience": "train.early_stop_patience",
    "--checkpoint-dir": "--runs",
    "--init-from": "train.init_from",
    "loss.traj.weight": "loss.traj",
    "loss.ic.weight": "loss.ic",
    "--vqvae-path": "alignment.vqvae",
    "--lambda-commit": "loss.commit",
    "--lambda-latent": "loss.latent",
    "--latent-sample-steps": "alignment.sample_steps",
    "loss.commit.weight": "loss.commit",
    "loss.latent.weight": "loss.latent",
    "loss.latent.enabled": "alignment.latent",
    "loss.latent.sample_steps": "alignment.sample_steps",
}
ALIASES = (
    *(Alias(name=name, sets=key) for name, key in FLAGS.items()),
    Alias(
        name="--n-samples",
        sets=_split,
        type=int,
        help="Trajectories in all: nine tenths to train on, the rest to validate.",
    ),
    Alias(
        name="--enable-latent-loss",
        sets={"alignment.latent": True},
        help="Let the bottleneck, projected, learn the latents.",
    ),
)

NEEDS = (
    Needs(key="data.operator", other="data.domain", values=("random_conv",)),
    Needs(key="data.noise_scale", other="data.domain", values=("random_conv",)),
    Needs(key="data.axis1", other="data.layout", values=("spinlock",)),
    Needs(key="data.first_frame", other="data.layout", values=("spinlock",)),
    Needs(key="rollout.num_pushforward", other="rollout.mode", values=("pushforward",)),
    Needs(key="loss.latent", other="alignment.latent", values=(True,)),
    Needs(key="alignment.sample_steps", other="alignment.latent", values=(True,)),
    *schedule_needs(),
)

COMMANDS = (
    generate_command(
        "noa.generation",
        text="Generate the trajectories; started again, it goes on where it stopped.",
    ),
    Command(
        name="train",
        help="Train, evaluate on held-out trajectories, write the report. Continues a run.",
        run="noa.training:train_run",
    ),
    Command(
        name="train-vqvae",
        help="Train a vocabulary of the same trajectories: features, VQ-VAE, report. Continues a run.",
        run="noa.token_training:train_vqvae_run",
    ),
    VALIDATE,
    DIAGNOSE,
    ALIGN,
    Command(
        name="report",
        help="Write the report of a run again, or compare several.",
        run="noa.report:report_runs",
        config="none",
        folders=some_runs(),
    ),
)


def infer_preset(path: str) -> tuple[str, str] | None:
    """The preset of the domain that a generated folder says it holds."""
    from noa.generation import stored_domain

    domain = stored_domain(path)
    presets = {f.name.removesuffix(".yaml") for f in (files("noa") / "configs").iterdir()}
    return (domain, f"{path} holds {domain}") if domain in presets else None


def app() -> App:
    """The declared command line."""
    return App(
        name="noa",
        version=version("noa"),
        help="Neural operator agents: train a surrogate that imitates parameterised dynamics "
        "step by step, and show how far ahead it can be trusted.",
        config=NoaConfig,
        presets=files("noa") / "configs",
        commands=COMMANDS,
        aliases=ALIASES,
        needs=NEEDS,
        infer_preset=infer_preset,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command that the words name; the exit code."""
    return run_cli(app(), argv)


if __name__ == "__main__":
    sys.exit(main())
