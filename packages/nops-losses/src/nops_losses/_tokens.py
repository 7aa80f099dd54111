"""What ties latents to the codes that stand for them, and to each other."""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nops_losses._checks import check_same_shape, read_row_pair, read_rows, to_working_dtype


def commitment_loss(latent: Tensor | Sequence[Tensor], code: Tensor | Sequence[Tensor]) -> Tensor:
    """Mean of (latent − code)² over all entries: how far latents are from their codes.

    Args:
        latent: Latents z before quantisation, axes (..., width), or a list of them, one per token, whose
            widths may differ and which are laid side by side first.
        code: The code e of each, same shapes; it gets no gradient.

    Returns:
        Scalar in the unit squared, float32 (float64 for float64 latents), 0 when equal.

    Raises:
        ValueError: If the shapes differ, or there is nothing.
        TypeError: If one is not real floating point.

    Source:
        van den Oord et al., arXiv 1711.00937, third term, without its weight.
    """
    pred, target = _beside(latent, "latent"), _beside(code, "code").detach()
    check_same_shape(pred, target, names=("latent", "code"))
    return (pred - target).square().mean()


def latent_alignment_loss(
    projected: Float[Tensor, "sample step latent"], latent: Float[Tensor, "sample latent"]
) -> Float[Tensor, ""]:
    """Mean squared error of the mean over steps of projected features against a latent.

    Args:
        projected: P of the features of n steps, axes (sample, step, latent).
        latent: z of the whole sample, axes (sample, latent), same unit; it gets no gradient.

    Returns:
        Scalar in the unit squared, float32 (float64 for float64 inputs). For latents of unit mean square
        P = 0 scores 1, and P the mean latent 1 − mean((E z)²): compare with the latter.

    Raises:
        ValueError: If the shapes do not belong together, or there is no step.
        TypeError: If one is not real floating point.
    """
    if projected.ndim != 3 or projected.shape[1] == 0:
        raise ValueError(
            f"projected has shape {tuple(projected.shape)}, expected (sample, step, latent) with a step."
        )
    mean = to_working_dtype(projected, name="projected").mean(1)
    pred, target = read_row_pair(mean, latent.detach(), names=("projected", "latent"))
    return (pred - target).square().mean()


def orthogonality_loss(latents: Sequence[Float[Tensor, "sample _"]]) -> Float[Tensor, ""]:
    """Mean squared correlation between the columns of different latents, over all pairs of latents.

    0 where no column of one says anything, linearly, about a column of another. Over n samples
    independent columns score 1/(n − 1). Neither unit nor width of a latent matters.

    Args:
        latents: Two or more, axes (sample, width), with the same samples; any units.

    Returns:
        Dimensionless, from 0 to 1, float32 (float64 for float64 latents); columns that are constant over
        the samples count as 0 with gradient 0.

    Raises:
        ValueError: If there are fewer than two, or they differ in their samples.
        TypeError: If one is not real floating point.
    """
    if len(latents) < 2 or len({len(latent) for latent in latents}) != 1:
        shapes = [tuple(latent.shape) for latent in latents]
        raise ValueError(f"latents need two or more with the same samples, got shapes {shapes}.")
    units = [_unit_columns(read_rows(latent, name="latents")) for latent in latents]
    with torch.autocast(units[0].device.type, enabled=False):
        shares = [(a.mT @ b).square().mean() for a, b in itertools.combinations(units, 2)]
    return torch.stack(shares).mean()


def topographic_similarity(
    first: Float[Tensor, "sample _"], second: Float[Tensor, "sample _"]
) -> Float[Tensor, ""]:
    """ρ: correlation of the distances between samples in one space with those in another.

    Pairs of different samples alone: a sample's distance 0 from itself is equal in all spaces, and would
    make unrelated ones look alike.

    Args:
        first: Points, axes (sample, feature), any unit.
        second: The same samples elsewhere, of any width and unit.

    Returns:
        Dimensionless, from −1 to 1, float32 (float64 for float64 points); 0 with gradient 0 where all
        distances of one are equal, as with two samples.

    Raises:
        ValueError: If axes or samples differ, or there are fewer than two samples.
        TypeError: If one is not real floating point.

    Source:
        Brighton and Kirby, Artificial Life 12 (2006), with Pearson's coefficient.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(
            "first and second need the same samples, two at least, got "
            f"{tuple(first.shape)} and {tuple(second.shape)}."
        )
    return _pearson(_distances(first, "first"), _distances(second, "second"))


def topographic_loss(
    features: Float[Tensor, "sample _"],
    latent: Float[Tensor, "sample width"],
    code: Float[Tensor, "sample width"],
    *,
    pre_weight: float = 0.3,
    post_weight: float = 0.7,
) -> Float[Tensor, ""]:
    """0.3·(1 − ρ of features and latents) + 0.7·(1 − ρ of latents and codes): neighbours stay so.

    ρ is `topographic_similarity`. Pass codes with the gradient that they should have.

    Args:
        features: What is encoded, axes (sample, feature).
        latent: Before quantisation, axes (sample, width).
        code: After it, same shape.
        pre_weight: Of the first, not negative.
        post_weight: Of the second, not negative.

    Returns:
        Dimensionless, from 0 to twice the sum of the weights, float32 (float64 for float64 inputs).

    Raises:
        ValueError: If shapes do not belong together, or a weight is negative.
        TypeError: If one is not real floating point.
    """
    check_same_shape(latent, code, names=("latent", "code"))
    if not (0 <= pre_weight < math.inf and 0 <= post_weight < math.inf):
        raise ValueError(
            f"weights must be finite and not negative, got {pre_weight} and {post_weight}."
        )
    before = 1 - topographic_similarity(features, latent)
    return pre_weight * before + post_weight * (1 - topographic_similarity(latent, code))


def code_entropy_loss(
    latent: Float[Tensor, "sample width"],
    codebook: Float[Tensor, "code width"],
    *,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Ln K − H of the use of codes: 0 where all of a table are chosen equally often.

    The choice of the nearest code has no gradient, so each latent chooses all of them, in proportion to
    exp(−‖z − e‖² / temperature); for a temperature far below the differences of the squared distances this is
    the nearest alone.

    Args:
        latent: Latents z, axes (sample, width).
        codebook: The table, axes (code, width), same unit; it gets a gradient too where it has one.
        temperature: In the unit squared, positive.

    Returns:
        In nats, from 0 to ln K, float32 (float64 for float64 latents).

    Raises:
        ValueError: If the widths differ, one is empty, or the temperature is not positive.
        TypeError: If one is not real floating point.
    """
    rows, codes = read_rows(latent, name="latent"), read_rows(codebook, name="codebook")
    if rows.shape[1] != codes.shape[1] or not len(rows) or not len(codes):
        raise ValueError(
            f"latent and codebook need one width, and a row each, got {tuple(rows.shape)} and "
            f"{tuple(codes.shape)}."
        )
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}.")
    with torch.autocast(rows.device.type, enabled=False):
        products = rows @ codes.mT
    squares = codes.square().sum(1) - 2 * products  # ‖z‖² is the same for all codes
    usage = torch.softmax(-squares / temperature, dim=1).mean(0)
    return math.log(len(codes)) - torch.special.entr(usage).sum()


def _beside(values: Tensor | Sequence[Tensor], name: str) -> Tensor:
    parts = [values] if isinstance(values, Tensor) else list(values)
    if not parts or any(part.numel() == 0 for part in parts):
        raise ValueError(f"{name} is empty.")
    if len({part.shape[:-1] for part in parts}) != 1:
        raise ValueError(
            f"{name} need equal axes before the last, got {[tuple(part.shape) for part in parts]}."
        )
    read = [to_working_dtype(part, name=name) for part in parts]
    return torch.cat(read, dim=-1)


def _unit_columns(values: Tensor) -> Tensor:
    centred = values - values.mean(0)
    norm = torch.linalg.vector_norm(centred, dim=0)
    return torch.where(norm > 0, centred / norm.where(norm > 0, 1.0), 0.0)


def _distances(points: Tensor, name: str) -> Tensor:
    """Of all pairs of different rows; the gradient of a distance 0 is 0."""
    return torch.nn.functional.pdist(read_rows(points, name=name))


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(), b - b.mean()
    power = a.square().sum() * b.square().sum()
    some = power > 0
    return torch.where(some, (a * b).sum() / power.where(some, 1.0).sqrt(), 0.0)
