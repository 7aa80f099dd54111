"""Universal Physics Transformer: encode, step in latent space, decode anywhere."""

from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from nops_models._checks import check_choice
from nops_models._upt_approximator import Approximator
from nops_models._upt_condition import Conditioner
from nops_models._upt_config import TIME, UPTConfig
from nops_models._upt_decoder import AnyPointDecoder
from nops_models._upt_encoder_grid import GridEncoder
from nops_models._upt_encoder_supernodes import SupernodeEncoder

RolloutMode = Literal["latent", "image"]


class UPTOutput(NamedTuple):
    """What one forward pass yields.

    Attributes:
        latent: Tokens of the input `[B, T, D]`.
        next_latent: Tokens one step later, same shape.
        fields: Each field of the next state `[B, Q, C]`.
    """

    latent: Tensor
    next_latent: Tensor
    fields: dict[str, Tensor]


class UPT(nn.Module):
    """Encoder E, approximator A and decoder G around a latent of a few tokens.

    Fields are normalised values `[B, N, C]` by name, on a grid (flattened, last axis fastest) or on
    any points. `model.encoder`, `model.approximator` and `model.decoder` may be called by
    themselves, with the same conditions.

    Args:
        config: Sizes and choices.

    Source:
        Alkin et al., "Universal physics transformers", arXiv 2402.12365.
    """

    def __init__(self, config: UPTConfig) -> None:
        super().__init__()
        self.config = config
        self.conditioner = Conditioner(config)
        encoder = GridEncoder if config.encoder == "grid" else SupernodeEncoder
        self.encoder = encoder(config, conditioner=self.conditioner)
        self.approximator = Approximator(config, conditioner=self.conditioner)
        self.decoder = AnyPointDecoder(config, conditioner=self.conditioner)

    def forward(
        self,
        fields: dict[str, Float[Tensor, "_ _ _"]],
        positions: Float[Tensor, "... _ axis"],
        *,
        query_positions: Float[Tensor, "... _ axis"] | None = None,
        condition: Float[Tensor, "_ parameter"] | None = None,
        supernodes: Int[Tensor, "... _"] | None = None,
        generator: Generator | None = None,
        chunk_size: int | None = None,
        checkpoint: bool = False,
    ) -> UPTOutput:
        """Encode, one step, decode at `query_positions`, by default at `positions`.

        Arguments are those of `encode`, `step` and `decode`.
        """
        latent = self.encode(
            fields, positions, condition=condition, supernodes=supernodes, generator=generator
        )
        next_latent = self.step(latent, condition=condition)
        decoded = self.decode(
            positions if query_positions is None else query_positions,
            next_latent,
            condition=condition,
            chunk_size=chunk_size,
            checkpoint=checkpoint,
        )
        return UPTOutput(latent, next_latent, decoded)

    def encode(
        self,
        fields: dict[str, Float[Tensor, "_ _ _"]],
        positions: Float[Tensor, "... _ axis"],
        *,
        condition: Float[Tensor, "_ parameter"] | None = None,
        supernodes: Int[Tensor, "... _"] | None = None,
        generator: Generator | None = None,
    ) -> Float[Tensor, "_ token channel"]:
        """Fields to tokens: see `GridEncoder.forward` or `SupernodeEncoder.forward`."""
        return self.encoder(
            fields, positions, condition=condition, supernodes=supernodes, generator=generator
        )

    def step(
        self,
        latent: Float[Tensor, "sample token channel"],
        *,
        condition: Float[Tensor, "sample parameter"] | None = None,
    ) -> Float[Tensor, "sample token channel"]:
        """Tokens one step later: see `Approximator.forward`."""
        return self.approximator(latent, condition=condition)

    def decode(
        self,
        positions: Float[Tensor, "... query axis"],
        latent: Float[Tensor, "sample token channel"],
        *,
        condition: Float[Tensor, "sample parameter"] | None = None,
        chunk_size: int | None = None,
        checkpoint: bool = False,
    ) -> dict[str, Float[Tensor, "sample query _"]]:
        """Tokens to fields at any points: see `AnyPointDecoder.forward`."""
        return self.decoder(
            positions, latent, condition=condition, chunk_size=chunk_size, checkpoint=checkpoint
        )

    def rollout(
        self,
        fields: dict[str, Float[Tensor, "_ _ _"]],
        positions: Float[Tensor, "... _ axis"],
        *,
        steps: int,
        query_positions: Float[Tensor, "... _ axis"] | None = None,
        mode: RolloutMode = "latent",
        condition: Float[Tensor, "_ ... parameter"] | None = None,
        decode_every: int = 1,
        chunk_size: int | None = None,
        supernodes: Int[Tensor, "... _"] | None = None,
        generator: Generator | None = None,
    ) -> dict[str, Float[Tensor, "_ time _ _"]]:
        """The model's own trajectory.

        Args:
            fields: The start, as for `encode`.
            positions: Of its points, as for `encode`.
            steps: K, at least 1.
            query_positions: Where to decode, `[Q, d]` or `[B, Q, d]`; None: at `positions`.
            mode: "latent" encodes once and steps tokens; "image" decodes each state at `positions`
                and encodes it again.
            condition: Numbers `[B, P]`, of which "time" is that of the first step and counts on; or
                `[B, K, P]`, one row for each step. A row serves a step and the decoding after it.
            decode_every: Return every so-many-th state only; must divide `steps`. With "latent" the
                others are not decoded at all.
            chunk_size: Queries decoded at a time.
            supernodes: As for `encode`.
            generator: As for `encode`.

        Returns:
            Each field `[B, K/decode_every, Q, C]`; the start is not among the states.

        Raises:
            KeyError: If a field is missing.
            ValueError: If a shape or a number does not fit, or a step lies beyond the time table.
        """
        check_choice("mode", mode, get_args(RolloutMode))
        if steps < 1 or decode_every < 1 or steps % decode_every:
            raise ValueError(
                "steps must be at least 1 and a multiple of decode_every, got "
                f"steps={steps}, decode_every={decode_every}."
            )
        rows = _rows(condition, steps, self.config)
        queries = positions if query_positions is None else query_positions

        def encode(fields: dict[str, Tensor], row: Tensor | None) -> Tensor:
            draws = {"supernodes": supernodes, "generator": generator}
            return self.encode(fields, positions, condition=row, **draws)

        def decode(where: Tensor, latent: Tensor, row: Tensor | None) -> dict[str, Tensor]:
            return self.decode(where, latent, condition=row, chunk_size=chunk_size)

        latent: Tensor | None = None
        states: list[dict[str, Tensor]] = []
        for step, row in enumerate(rows, start=1):
            if latent is None or mode == "image":
                latent = encode(fields, row)
            latent = self.step(latent, condition=row)
            state = None
            if mode == "image" and step < steps:
                state = decode(positions, latent, row)
                fields = self._followed_by(fields, state)
            if step % decode_every == 0:
                if state is None or query_positions is not None:
                    state = decode(queries, latent, row)
                states.append(state)
        return {name: torch.stack([s[name] for s in states], dim=1) for name in self.config.fields}

    def _followed_by(
        self, fields: dict[str, Tensor], state: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """The history one state later: the oldest is dropped, `state` is appended."""
        return {
            name: torch.cat((fields[name][..., channels:], state[name]), dim=-1)
            for name, channels in self.config.fields.items()
        }


def _rows(condition: Tensor | None, steps: int, config: UPTConfig) -> list[Tensor | None]:
    """The condition `[B, P]` of each step."""
    if condition is None:
        return [None] * steps
    if condition.ndim == 3 and condition.shape[1] != steps:
        raise ValueError(
            f"a condition for each step needs the shape (sample, {steps}, "
            f"{len(config.condition)}), got {tuple(condition.shape)}."
        )
    if condition.ndim == 2:
        is_time = torch.tensor([name == TIME for name in config.condition])
        counted = torch.arange(steps)[:, None] * is_time
        condition = condition[:, None] + counted.to(condition)
    if TIME in config.condition and not torch.compiler.is_compiling():
        _check_times(condition[..., config.condition.index(TIME)], config)
    return list(condition.unbind(1))


def _check_times(times: Tensor, config: UPTConfig) -> None:
    """Refuse indices `[B, K]` beyond the time table; reads them from the device, once."""
    assert config.time_steps is not None
    latest = times.amax(0).tolist()
    allowed = next((k for k, time in enumerate(latest) if time >= config.time_steps), None)
    if allowed is not None:
        raise ValueError(
            f"a rollout of {len(latest)} steps from time {latest[0]:g} goes beyond the time table "
            f"of time_steps={config.time_steps}: at most {allowed} steps."
        )
