"""What `latent` adds to a training step of three terms: forward, backward, clip, AdamW.

The preset `simultaneous`: Gray-Scott on 32 x 32, 16 trajectories, windows of 16 steps that hold a clip, three
steps of them projected; float32, one thread. Without it the step has `traj` and `commit`: the clip's features
and latents are computed either way. Weights of the VQ-VAE are random: no cost depends on them.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from _harness import Claim, paired_ratio, record
from noa.config import RolloutConfig
from noa.task import RolloutTask
from noa.token_terms import TokenTerms
from noa.vocabulary import Vocabulary
from nops_data import Normaliser
from nops_diagnostics import FeatureExtractor
from nops_models import UAFNO, VQVAE, LatentProjector, UAFNOConfig, VQVAEConfig
from torch import Tensor

BAR = 1.05
WINDOW, BATCH, CHANNELS, SIDE = 16, 16, 2, 32


def make_task() -> RolloutTask:
    """A surrogate of the preset's size, its tokens, its projector."""
    generator = torch.Generator().manual_seed(0)
    shape = (32, WINDOW, CHANNELS, SIDE, SIDE)
    clips = torch.randn(shape, generator=generator).cumsum(1)
    extractor = FeatureExtractor().fit(clips, clips[:, 0])
    one = torch.ones(CHANNELS)
    normaliser = Normaliser(mean=0 * one, std=one, increment_mean=0 * one, increment_std=one)
    vocabulary = Vocabulary(
        VQVAE(VQVAEConfig(categories=extractor.families)),
        extractor,
        normaliser,
        channels=("u", "v"),
        path=Path(),
    )
    config = UAFNOConfig(
        in_channels=CHANNELS,
        num_parameters=2,
        base_channels=8,
        encoder_levels=2,
        blocks_per_level=1,
        afno_blocks=2,
        afno_groups=4,
        embedding=32,
    )
    model = UAFNO(config)
    projector = LatentProjector(config.level_channels[-1], vocabulary.latent_dim)
    terms = TokenTerms(vocabulary, normaliser=normaliser, projector=projector, count=3)
    return RolloutTask(model, rollout=RolloutConfig(window=WINDOW), tokens=terms)


def make_step(task: RolloutTask, batch: dict[str, Tensor], *terms: str) -> Callable[[], None]:
    """One optimizer step of some terms."""
    assert task.tokens is not None
    assert task.tokens.projector is not None
    held = [*task.model.parameters(), *task.tokens.projector.parameters()]
    optimizer = torch.optim.AdamW(held, lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        for found in task.losses(batch, epoch=0, step=0, active=frozenset(terms)):
            torch.stack(list(found.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(held, 1.0)
        optimizer.step()

    return step


def main() -> None:
    """Measure and record."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    frames = torch.randn(BATCH, WINDOW + 1, CHANNELS, SIDE, SIDE).cumsum(1)
    batch = {"frames": frames, "initial": frames[:, :1], "parameters": torch.rand(BATCH, 2)}
    task = make_task()
    with_latent = make_step(task, batch, "traj", "commit", "latent")
    without = make_step(task, batch, "traj", "commit")
    ratio = paired_ratio(with_latent, without)
    claims: list[Claim] = [
        {
            "claim": "L_latent with 3 samples, step time with / without",
            "value": ratio,
            "bar": BAR,
            "kind": "at_most",
        }
    ]
    record("token_terms", claims, {"shape": list(frames.shape), "window": WINDOW})


if __name__ == "__main__":
    main()
