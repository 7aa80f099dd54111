"""Mean squared errors of rolled-out trajectories."""

from jaxtyping import Float
from torch import Tensor

from nops_losses._checks import check_same_shape, to_working_dtype


def trajectory_loss(
    pred: Float[Tensor, "sample time channel *grid"],
    target: Float[Tensor, "sample time channel *grid"],
    *,
    scale: Float[Tensor, "channel"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over samples, steps, channels and cells of ((pred - target) / scale)².

    Args:
        pred: Rolled-out states, axes (sample, time, channel, *grid), any unit.
        target: True states at the same times, same shape and unit; it gets no gradient.
        scale: One positive length per channel in the channel's unit, for fields that are not
            normalised; None divides by nothing.

    Returns:
        Scalar in float32 (float64 for float64 inputs), 0 when equal. Dimensionless with `scale`,
        in the unit squared without. Half-precision inputs are computed in float32.

    Raises:
        ValueError: If the shapes differ, or `scale` does not have one entry per channel.

    Source:
        The trajectory term L_traj of neural operator surrogates trained through rollouts.
    """
    check_same_shape(pred, target)
    _check_trajectory(pred)
    error = to_working_dtype(pred, name="pred") - to_working_dtype(target.detach(), name="target")
    if scale is not None:
        error = error / _per_channel(scale, error)
    return error.square().mean()


def initial_condition_loss(
    pred: Float[Tensor, "sample time channel *grid"],
    target: Float[Tensor, "sample time channel *grid"],
    *,
    num_states: int = 1,
) -> Float[Tensor, ""]:
    """Mean squared error of the first predicted states û₁ … ûₙ against u₁ … uₙ, both from u₀.

    It holds the model to the truth where no error of its own has been fed back yet.

    Args:
        pred: States rolled out from the true u₀, axes (sample, time, channel, *grid); entry 0 of
            the time axis is one step after u₀.
        target: True states at the same times, same shape and unit; it gets no gradient.
        num_states: n, how many of the first states count.

    Returns:
        Scalar in the unit squared, 0 when equal; float32 (float64 for float64 inputs).

    Raises:
        ValueError: If the shapes differ, or `num_states` is not within 1 and the time axis.

    Source:
        The initial-condition term L_ic of neural operator surrogates trained through rollouts.
    """
    check_same_shape(pred, target)
    _check_trajectory(pred)
    if not 1 <= num_states <= pred.shape[1]:
        raise ValueError(
            f"num_states={num_states} needs to be within 1 and the {pred.shape[1]} states given."
        )
    return trajectory_loss(pred[:, :num_states], target[:, :num_states])


def _check_trajectory(pred: Tensor) -> None:
    if pred.ndim < 3 or pred.numel() == 0:
        raise ValueError(
            "a trajectory has axes (sample, time, channel, *grid), none empty; "
            f"got shape {tuple(pred.shape)}."
        )


def _per_channel(scale: Tensor, error: Tensor) -> Tensor:
    channels = error.shape[2]
    if scale.shape != (channels,):
        raise ValueError(
            f"scale needs one entry for each of the {channels} channels, "
            f"got shape {tuple(scale.shape)}."
        )
    return scale.to(error.dtype).view(channels, *(1,) * (error.ndim - 3))
