"""How well a surrogate's rollouts and bottlenecks fit a vocabulary, on trajectories it never saw."""

import torch
from nops_models import UAFNO
from torch import Tensor

from noa.token_terms import Recorder, TokenTerms


@torch.no_grad()
def score_tokens(
    model: UAFNO,
    tokens: TokenTerms,
    *,
    frames: Tensor,
    parameters: Tensor,
    window: int,
    batch_size: int,
) -> dict[str, float]:
    """Commitment of the last clip of rollouts and of the truth; the latents' error beside trivial ones.

    Args:
        model: The surrogate in eval mode.
        tokens: Terms of the training.
        frames: Held-out trajectories, normalised `[sample, time + 1, channel, *grid]`.
        parameters: Their parameters.
        window: Last steps whose bottlenecks are read, as in training; a clip at least.
        batch_size: Trajectories rolled out at a time.

    Returns:
        `commit` and `commit_truth`; `same_tokens`, the share of tokens that rollout and truth agree on. With a
        projector P also `latent`, the mean squared distance of P from the latents; `latent_zero`, that of 0;
        `latent_mean`, that of the mean latent, which knows the held-out latents but no trajectory; and `r2`,
        1 − latent / latent_mean.
    """
    device = next(model.parameters()).device
    tokens.vocabulary.to(device)
    parts = zip(frames.split(batch_size), parameters.split(batch_size), strict=True)
    found = [_part(model, tokens, u.to(device), p.to(device), window) for u, p in parts]
    values = {key: torch.cat([part[key] for part in found]) for key in found[0]}
    scores = {key: float(values[key].mean()) for key in ("commit", "commit_truth", "same_tokens")}
    if "projected" not in values:
        return scores
    latent, zero = values["latent"], values["latent"].square().mean()
    error = (values["projected"] - latent).square().mean()
    mean = (latent - latent.mean(0)).square().mean()
    return {
        **scores,
        "latent": float(error),
        "latent_zero": float(zero),
        "latent_mean": float(mean),
        "r2": float(1 - error / mean),
    }


def _part(
    model: UAFNO, tokens: TokenTerms, frames: Tensor, parameters: Tensor, window: int
) -> dict[str, Tensor]:
    initial, target = frames[:, 0], frames[:, 1:]
    step = Recorder(lambda state: model(state, parameters, return_bottleneck=True), window=window)
    state, states = initial, []
    for _ in range(target.shape[1]):
        state = step(state)
        states.append(state)
    pred = torch.stack(states[-tokens.clip_length :], dim=1)
    latents, truth = (tokens.latents(path, initial) for path in (pred, target))
    codes, true_codes = tokens.codes(latents), tokens.codes(truth)
    same = [(one == other).all(-1).float() for one, other in zip(codes, true_codes, strict=True)]
    found = {
        "commit": _apart(latents, codes),
        "commit_truth": _apart(truth, true_codes),
        "same_tokens": torch.stack(same, -1).mean(-1),
        "latent": torch.cat(latents, -1),
    }
    if tokens.projector is not None:
        found["projected"] = tokens.projected(step.take(window)).mean(1)
    return {key: value.float().cpu() for key, value in found.items()}


def _apart(latents: list[Tensor], codes: list[Tensor]) -> Tensor:
    return (torch.cat(latents, -1) - torch.cat(codes, -1)).square().mean(1)
