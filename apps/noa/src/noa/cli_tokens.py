"""The commands that read tokens: validate, diagnose, align."""

from typing import Literal

from nops_train import Command, Folders, Option

MODES = Literal["signature", "behaviour", "geometry"]

VQVAE = Option(flag="--vqvae-path", help="Run folder of a VQ-VAE, instead of a second folder.")

VALIDATE = Command(
    name="validate",
    help="Evaluate the best model of a run again, with a VQ-VAE its tokens too; write its report.",
    run="noa.training:validate_run",
    config="run",
    folders=Folders(metavar="RUN", help="Run folder, and that of a VQ-VAE.", minimum=0, maximum=2),
    options=(VQVAE,),
    spellings=("evaluate",),
)

DIAGNOSE = Command(
    name="diagnose",
    help="Grade how a model's rollouts tokenise; exit code 1 where the verdict is POOR.",
    run="noa.diagnose:diagnose_run",
    config="none",
    folders=Folders(metavar="RUN", help="Run folder, and that of a VQ-VAE.", minimum=0, maximum=2),
    options=(
        Option(flag="--noa-checkpoint", help="Checkpoint of a run, instead of its best one."),
        VQVAE,
        Option(flag="--dataset", help="Folder of data, instead of the run's."),
        Option(
            flag="--n-samples",
            help="Held-out trajectories, the first so many; all by default.",
            type=int,
        ),
        Option(flag="--timesteps", help="Steps to roll out; all by default.", type=int),
    ),
)

ALIGN = Command(
    name="align",
    help="Compare the vocabularies of two VQ-VAE runs, code by code, beside what chance gives.",
    run="noa.align:align_runs",
    config="none",
    folders=Folders(metavar="VQVAE", help="Two run folders.", minimum=2, maximum=2),
    options=(
        Option(
            flag="--mode",
            help="Codes by what they decode to, by the samples they stand for, or by where they lie.",
            type=MODES,
            default="signature",
        ),
        Option(
            flag="--probe",
            help="Folder of data whose held-out clips both read, for behaviour and geometry; the "
            "first run's by default.",
        ),
        Option(
            flag="--retrained",
            help="Run of the first one's data with another seed: its score bounds what can be had.",
        ),
        Option(flag="--num-null", help="Random draws.", type=int, default=200),
        Option(flag="--seed", help="Of the draws.", type=int, default=0),
    ),
)
