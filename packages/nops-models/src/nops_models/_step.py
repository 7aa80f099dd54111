"""What the models of one step share: checks, conditioning, the residual, rollouts."""

import abc
from collections.abc import Callable
from typing import Generic, Literal, TypeVar, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nops_models._config import StepConfig

ConfigT = TypeVar("ConfigT", bound=StepConfig)


class StepModel(nn.Module, abc.ABC, Generic[ConfigT]):
    """One step of a time-dependent operator on a 2-D grid, conditioned on its parameters.

    next frame = last frame + residual_scale·F(state, parameters), or F alone; the state is the last
    `previous_frames` frames, one by default. F ends in a layer that starts at zero, so that an
    untrained model predicts persistence and the first loss is that of the trivial baseline.
    `UAFNO`, `UNet` and `FNO` differ in F alone and stand in for each other.

    Attributes:
        config: Sizes and choices.
    """

    config: ConfigT
    embed: nn.Sequential
    output: nn.Conv2d
    scale: Tensor | None

    @abc.abstractmethod
    def _features(self, state: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the output layer reads `[B, F, H, W]`, and the bottleneck `[B, F', h, w]`."""

    @overload
    def forward(
        self,
        state: Tensor,
        parameters: Tensor | None = None,
        *,
        return_bottleneck: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self, state: Tensor, parameters: Tensor | None = None, *, return_bottleneck: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self,
        state: Float[Tensor, "sample channel height width"],
        parameters: Float[Tensor, "sample parameter"] | None = None,
        *,
        return_bottleneck: bool = False,
    ) -> (
        Float[Tensor, "sample out_channel height width"]
        | tuple[
            Float[Tensor, "sample out_channel height width"],
            Float[Tensor, "sample feature coarse_height coarse_width"],
        ]
    ):
        """One step.

        Args:
            state: Current state [B, n·C, H, W]: n = `previous_frames` frames, oldest first, in the
                unit the model was trained in; `state_of` makes it of frames.
            parameters: Operator parameters [B, P], usually in the unit cube; None if P is 0.
            return_bottleneck: Also return the features of the model's innermost layer.

        Returns:
            Next frame [B, C, H, W], same unit and dtype (other channels with `out_channels`), and with
            `return_bottleneck` the bottleneck: [B, base·min(2^levels, 8), h, w] on the coarsest
            grid of a U-shaped model; [B, base, H, W] after the last layer of an FNO.

        Raises:
            ValueError: If a shape does not fit, parameters are missing or not asked for, or the
                grid is too small for the model.
        """
        self._check(state, parameters)
        next_state, bottleneck = self._step(state, self._condition(parameters))
        return (next_state, bottleneck) if return_bottleneck else next_state

    def rollout(
        self,
        state: Float[Tensor, "sample channel height width"],
        parameters: Float[Tensor, "sample parameter"] | None = None,
        *,
        num_steps: int,
        checkpoint_every: int = 0,
    ) -> Float[Tensor, "sample time out_channel height width"]:
        """The model's own trajectory: each output is the last frame of the next input.

        Args:
            state: Start [B, n·C, H, W], as for `forward`.
            parameters: Operator parameters [B, P], constant along the trajectory.
            num_steps: Steps to take, at least 1.
            checkpoint_every: Steps between stored states; what lies between them is computed again
                in the backward pass, which costs a second forward pass. 0 stores everything. No
                gradient changes.

        Returns:
            The frames after each step [B, num_steps, C, H, W]; the start is not among them.

        Raises:
            ValueError: As for `forward`, if the output cannot be fed back, or if a number is out of
                range.
        """
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
        if checkpoint_every < 0:
            raise ValueError(f"checkpoint_every must not be negative, got {checkpoint_every}.")
        if self.config.num_outputs != self.config.in_channels:
            raise ValueError(
                f"a model of {self.config.in_channels} input and {self.config.num_outputs} output "
                "channels cannot be rolled out."
            )
        self._check(state, parameters)
        condition = self._condition(parameters)
        frames = _unroll(
            lambda state: self._step(state, condition)[0],
            state,
            num_steps=num_steps,
            every=checkpoint_every,
        )
        return torch.stack(frames, dim=1)

    def state_of(
        self, frames: Float[Tensor, "sample time channel height width"]
    ) -> Float[Tensor, "sample all_channel height width"]:
        """The state after some frames: the last `previous_frames` of them as channels.

        Args:
            frames: Frames [B, T, C, H, W] in order of time, T at least `previous_frames`.

        Returns:
            [B, n·C, H, W], oldest first; a view where that is possible.

        Raises:
            ValueError: If there are fewer frames.
        """
        needed = self.config.previous_frames
        if frames.ndim != 5 or frames.shape[1] < needed:
            raise ValueError(
                f"a model of previous_frames={needed} needs frames of shape (sample, time, channel, "
                f"height, width) with at least {needed} in time, got {tuple(frames.shape)}."
            )
        return frames[:, -needed:].flatten(1, 2)

    def _step(self, state: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        features, bottleneck = self._features(self._prepared(state), condition)
        change = self.output(features).to(state.dtype)
        if self.scale is None:
            return change, bottleneck
        last = state[:, -self.config.in_channels :]
        return last + self.scale.to(state.dtype) * change, bottleneck

    def _prepared(self, state: Tensor) -> Tensor:
        """The state in the weights' precision: an accurate state may be stepped by bf16 weights."""
        return state.to(self.output.weight.dtype)

    def _condition(self, parameters: Tensor | None) -> Tensor | None:
        if parameters is None:
            return None
        return self.embed(parameters.to(self.output.weight.dtype))

    def _check(self, state: Tensor, parameters: Tensor | None) -> None:
        config = self.config
        if state.ndim != 4 or state.shape[1] != config.num_inputs:
            raise ValueError(
                f"state needs the shape (sample, {config.num_inputs}, height, width), "
                f"got {tuple(state.shape)}."
            )
        config.check_grid(state.shape[-2], state.shape[-1])
        found = None if parameters is None else tuple(parameters.shape)
        expected = (state.shape[0], config.num_parameters) if config.num_parameters else None
        if found != expected:
            raise ValueError(
                f"a model of num_parameters={config.num_parameters} needs parameters of shape "
                f"{expected} here, got {found}."
            )


def embedding_layers(config: StepConfig) -> nn.Sequential:
    """Parameters `[B, P]` to their embedding `[B, embedding]`; nothing without parameters."""
    if not config.num_parameters:
        return nn.Sequential()
    return nn.Sequential(
        nn.Linear(config.num_parameters, config.embedding),
        nn.SiLU(),
        nn.Linear(config.embedding, config.embedding),
    )


def output_layer(channels: int, config: StepConfig) -> nn.Conv2d:
    """The last layer, which starts at zero."""
    layer = nn.Conv2d(channels, config.num_outputs, 1)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def residual_scale(config: StepConfig) -> Tensor | None:
    """The scale of the change `[C or 1, 1, 1]`; None where the output is F alone."""
    if config.residual_scale is None:
        return None
    scale = config.residual_scale
    return torch.tensor(scale if isinstance(scale, tuple) else (scale,)).view(-1, 1, 1)


def condition_width(config: StepConfig) -> int | None:
    """Width of the condition that the blocks get; None without parameters."""
    return config.embedding if config.num_parameters else None


def _unroll(
    step: Callable[[Tensor], Tensor], state: Tensor, *, num_steps: int, every: int
) -> list[Tensor]:
    """The next frames; activations are kept, or computed again segment by segment."""
    if every == 0 or not torch.is_grad_enabled():
        return _segment(step, state, num_steps)
    frames: list[Tensor] = []
    while len(frames) < num_steps:
        length = min(every, num_steps - len(frames))
        new = checkpoint(_segment, step, state, length, use_reentrant=False)
        for frame in new:
            state = _followed_by(state, frame)
        frames += new
    return frames


def _segment(step: Callable[[Tensor], Tensor], state: Tensor, num_steps: int) -> list[Tensor]:
    """The next frames in order."""
    frames = []
    for _ in range(num_steps):
        frames.append(step(state))
        state = _followed_by(state, frames[-1])
    return frames


def _followed_by(state: Tensor, frame: Tensor) -> Tensor:
    """The state one frame later, its oldest frame left out."""
    if state.shape[1] == frame.shape[1]:
        return frame
    return torch.cat([state[:, frame.shape[1] :], frame], dim=1)
