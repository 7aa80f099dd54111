"""A variational autoencoder whose decoder is a physics model with a bounded learned correction."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nops_models._bounded import bound_lnvar, draw
from nops_models._moving_prior import MovingPrior
from nops_models._physics_decoder import KnownInputs, PhysicsDecoder, check_names, check_physics
from nops_models._residual_heads import GatedResidual, LowRankResidual, NoPhysicsHead, mlp
from nops_models._vae_config import PhysicsVAEConfig
from nops_models._vae_outputs import Decoding, Draw, Encoding, Posterior, VAEOutput

Inputs = Mapping[str, Tensor]
EDGE = 0.01  # of the range of a parameter


class PhysicsVAE(nn.Module):
    """Physical parameters with uncertainty from an observation, through a physics model.

    An encoder gives normals over u, a sigmoid takes u into the physics' bounds, the physics decodes
    it, and a residual of auxiliary latents corrects the output. Observations are standardised as
    (x − x_mean) / x_scale, per output.

    With `aux_dim=0` there is no residual, and `x_pb is x_p`. The physics computes in float32 or better
    with autocast off.

    Args:
        config: Sizes and choices.
        physics: A `PhysicsDecoder` of P parameters, D outputs.
        x_mean: Mean of each output, (D,), or one number; in the physics' unit; None is 0.
        x_scale: Scale of each output, positive, alike; None is 1.

    Raises:
        ValueError: If the physics does not declare itself, `rank` is above D, or a mean or scale is
            of another width, not finite, or not positive.

    Source:
        Physics-integrated VAEs: Takeishi and Kalousis, arXiv 2102.13156; low-rank residual: She et
        al., arXiv 2405.18953.
    """

    x_mean: Tensor
    x_scale: Tensor

    def __init__(
        self,
        config: PhysicsVAEConfig,
        physics: PhysicsDecoder,
        *,
        x_mean: Tensor | float | None = None,
        x_scale: Tensor | float | None = None,
    ) -> None:
        super().__init__()
        check_physics(physics)
        self.config = config
        self.physics = cast("Any", physics)
        self.output_dim = len(physics.output_names)
        self.physics_dim = len(physics.parameter_names)
        self.latent_dim = 0 if config.residual == "no_physics" else self.physics_dim
        self.register_buffer("x_mean", self._per_output("x_mean", x_mean, 0.0))
        self.register_buffer("x_scale", self._per_output("x_scale", x_scale, 1.0))
        if not bool((self.x_scale > 0).all()):
            raise ValueError(f"x_scale must be positive, got {self.x_scale.min():g} as its least.")
        self.known_inputs = KnownInputs(physics) if config.encode_inputs else None
        self._build_encoder()
        self.head = self._build_head()
        is_moving = config.prior == "ema"
        self.prior = MovingPrior(self.latent_dim, config.ema_decay) if is_moving else None

    def _per_output(self, name: str, values: Tensor | float | None, default: float) -> Tensor:
        given = torch.as_tensor(default if values is None else values)
        given = given.detach().to(torch.get_default_dtype())
        if given.shape not in ((), (self.output_dim,)):
            raise ValueError(
                f"{name} has shape {tuple(given.shape)}, expected ({self.output_dim},) as the "
                "outputs of the physics."
            )
        if not bool(given.isfinite().all()):
            raise ValueError(f"{name} holds values that are not finite.")
        return given.expand(self.output_dim).clone()

    def _build_encoder(self) -> None:
        c = self.config
        known = 0 if self.known_inputs is None else self.known_inputs.width
        widths = [self.output_dim + known, *c.feature_hidden, c.feature_dim]
        self.features = mlp(widths, c.activation)
        sizes = {"u": (self.latent_dim, c.physics_hidden), "aux": (c.aux_dim, c.aux_hidden)}
        self.heads = nn.ModuleDict(
            {
                f"{kind}_{moment}": mlp([c.feature_dim, *hidden, width], c.activation)
                for kind, (width, hidden) in sizes.items()
                for moment in ("mean", "lnvar")
                if width
            }
        )

    def _build_head(self) -> GatedResidual | LowRankResidual | NoPhysicsHead | None:
        c, outputs = self.config, self.output_dim
        if c.aux_dim == 0:
            return None
        if c.residual == "no_physics":
            return NoPhysicsHead(outputs, c.aux_dim, activation=c.activation)
        if c.residual == "gated":
            options = {"gate_bias": c.gate_bias, "activation": c.activation}
            return GatedResidual(
                outputs, self.latent_dim, c.aux_dim, **options, stop_gradient=c.stop_gradient
            )
        sizes = {"rank": c.num_patterns, "extra_dim": c.time_features}
        return LowRankResidual(outputs, c.aux_dim, **sizes, stop_gradient=c.stop_gradient)

    def encode(
        self, x: Float[Tensor, "sample output"], *, inputs: Inputs | None = None
    ) -> Encoding:
        """Posterior of the latents of standardised observations.

        Args:
            x: Observations, (sample, D), standardised.
            inputs: Known inputs by name, (sample,) or (sample, k) as their default; those not given
                take their default.

        Raises:
            ValueError: If the width is another, or an input is unknown or of another shape.
        """
        self._check("x", x, self.output_dim)
        check_names(inputs, self.physics.input_names)
        seen = x if self.known_inputs is None else torch.cat([x, self.known_inputs(inputs, x)], 1)
        features = self.features(seen)
        u, aux = self._moments("u", features), self._moments("aux", features)
        return Encoding(*u, *aux)

    def _moments(self, kind: str, features: Tensor) -> tuple[Tensor, Tensor]:
        if f"{kind}_mean" not in self.heads:
            return features[:, :0], features[:, :0]
        mean, lnvar = (self.heads[f"{kind}_{moment}"](features) for moment in ("mean", "lnvar"))
        return mean, bound_lnvar(lnvar, self.config.lnvar_bounds, self.config.lnvar_bound)

    def draw(
        self,
        encoding: Encoding,
        *,
        sample_physics: bool = True,
        sample_aux: bool = True,
        generator: torch.Generator | None = None,
    ) -> Draw:
        """Latents from their posterior; where a kind is not sampled, its means.

        Args:
            encoding: From `encode`.
            sample_physics: Draw the physics latents.
            sample_aux: Draw the auxiliary latents.
            generator: Of the draws, on the device of the model; None is torch's own.
        """
        u, z_aux = encoding.u_mean, encoding.aux_mean
        if sample_physics:
            u = draw(u, encoding.u_lnvar, generator)
        if sample_aux:
            z_aux = draw(z_aux, encoding.aux_lnvar, generator)
        return Draw(torch.sigmoid(u), z_aux, u)

    def decode(
        self,
        z: Float[Tensor, "sample latent"],
        z_aux: Float[Tensor, "sample aux"],
        *,
        inputs: Inputs | None = None,
        time_features: Float[Tensor, "sample feature"] | None = None,
    ) -> Decoding:
        """Standardised outputs of the physics, and of the physics with its correction.

        Args:
            z: Physics latents in (0, 1), (sample, P); zero-width without physics.
            z_aux: Auxiliary latents, (sample, A).
            inputs: Known inputs by name, as for `encode`.
            time_features: (sample, `config.time_features`), required where that is not 0.

        Raises:
            ValueError: If a width is another, an input is unknown, or time features are missing or
                not wanted.
        """
        self._check("z", z, self.latent_dim)
        self._check("z_aux", z_aux, self.config.aux_dim)
        extra = self._time_features(time_features)
        has_physics = self.latent_dim > 0
        x_p = self._simulate(z, inputs) if has_physics else z_aux.new_zeros(len(z), self.output_dim)
        if self.head is None:
            zero = torch.zeros_like(x_p)
            return Decoding(x_p, x_p, zero, zero[:, :0], zero)
        delta, gain, correction = self.head(x_p, z, z_aux, *extra)
        x_pb = x_p + correction
        if not has_physics:
            return Decoding(x_pb, x_pb, delta, gain, delta)
        return Decoding(x_pb, x_p, delta, gain, correction)

    def _time_features(self, given: Tensor | None) -> tuple[Tensor, ...]:
        wanted = self.config.time_features
        if (given is None) != (wanted == 0):
            found = "none" if given is None else tuple(given.shape)
            raise ValueError(f"time_features: found {found}, config.time_features is {wanted}.")
        if given is None:
            return ()
        self._check("time_features", given, wanted)
        return (given,)

    def _simulate(self, z: Tensor, inputs: Inputs | None) -> Tensor:
        """The physics' standardised output, computed in float32 or better."""
        with torch.autocast(z.device.type, enabled=False):
            precise = z.to(torch.promote_types(z.dtype, torch.float32))
            output = self.physics(self.to_physical(precise), inputs)
            return ((output - self.x_mean) / self.x_scale).to(z.dtype)

    def generate_physonly(
        self, z: Float[Tensor, "sample parameter"], const: Inputs | None = None
    ) -> Float[Tensor, "sample output"]:
        """Standardised outputs of the physics alone: simulations to learn from.

        Args:
            z: Parameters in (0, 1), (sample, P), such as from `sample_unit`.
            const: Known inputs by name; those not given take their default.

        Raises:
            ValueError: If the width is another, z is not within (0, 1), or an input is unknown.
        """
        self._check("z", z, self.physics_dim)
        check_names(const, self.physics.input_names)
        if not bool(((z > 0) & (z < 1)).all()):
            raise ValueError(f"z must lie within (0, 1), found {z.min():g} to {z.max():g}.")
        return self._simulate(z, const)

    def forward(
        self,
        x: Float[Tensor, "sample output"],
        *,
        inputs: Inputs | None = None,
        time_features: Float[Tensor, "sample feature"] | None = None,
        hard: bool = False,
    ) -> VAEOutput:
        """Encode, draw and decode.

        Args:
            x: Observations, (sample, D), standardised.
            inputs: Known inputs by name, as for `encode`.
            time_features: As for `decode`.
            hard: Decode the means instead of a draw.

        Raises:
            ValueError: As `encode` and `decode`.
        """
        encoding = self.encode(x, inputs=inputs)
        drawn = self.draw(encoding, sample_physics=not hard, sample_aux=not hard)
        more = {"inputs": inputs, "time_features": time_features}
        return VAEOutput(encoding, drawn, self.decode(drawn.z, drawn.z_aux, **more))

    @torch.no_grad()
    def posterior(
        self,
        x: Float[Tensor, "sample output"],
        *,
        inputs: Inputs | None = None,
        time_features: Float[Tensor, "sample feature"] | None = None,
        samples: int = 256,
        generator: torch.Generator | None = None,
    ) -> Posterior:
        """Physical parameters with uncertainty, without gradients.

        Args:
            x: Observations, (sample, D), standardised.
            inputs: Known inputs by name, as for `encode`.
            time_features: As for `decode`.
            samples: Draws S per observation, at least 2.
            generator: Of the draws; None is torch's own.

        Raises:
            ValueError: If `samples` is below 2, the model has no physics, or as `encode`.
        """
        if self.latent_dim == 0:
            raise ValueError("residual='no_physics' has no physical parameters, so no posterior.")
        if samples < 2:
            raise ValueError(f"samples must be at least 2 for a spread, got {samples}.")
        encoding = self.encode(x, inputs=inputs)
        means = self.draw(encoding, sample_physics=False, sample_aux=False)
        u_mean, u_lnvar = (v[:, None].expand(-1, samples, -1) for v in encoding[:2])
        drawn = self.to_physical(torch.sigmoid(draw(u_mean, u_lnvar, generator)))
        decoded = self.decode(means.z, means.z_aux, inputs=inputs, time_features=time_features)
        names, mean, sd = self.physics.parameter_names, drawn.mean(1), drawn.std(1)
        return Posterior(
            names=names,
            samples=drawn,
            mean=dict(zip(names, mean.unbind(1), strict=True)),
            sd=dict(zip(names, sd.unbind(1), strict=True)),
            mean_tensor=mean,
            edge=(means.z < EDGE) | (means.z > 1 - EDGE),
            residual_ratio=self._residual_ratio(decoded),
        )

    def _residual_ratio(self, decoded: Decoding) -> Tensor:
        physics = decoded.x_p * self.x_scale + self.x_mean
        return (decoded.correction * self.x_scale).norm(dim=1) / physics.norm(dim=1)

    def sample_unit(
        self, n: int, *, eps: float = 1e-4, generator: torch.Generator | None = None
    ) -> Float[Tensor, "sample parameter"]:
        """Uniform parameters (n, P), clamped to [eps, 1 − eps], on the model's device.

        Raises:
            ValueError: If n is below 1, or `eps` not within (0, ½).
        """
        if n < 1 or not 0 < eps < 0.5:
            raise ValueError(f"need n >= 1 and 0 < eps < 0.5, got n={n}, eps={eps}.")
        like = self.x_mean
        z = torch.rand(
            n, self.physics_dim, generator=generator, dtype=like.dtype, device=like.device
        )
        return z.clamp(eps, 1 - eps)

    def to_physical(
        self, z: Float[Tensor, "*batch parameter"]
    ) -> Float[Tensor, "*batch parameter"]:
        """Low + (high − low)·z, in the parameters' units."""
        low, high = self.physics.bounds.to(z).unbind(1)
        return low + (high - low) * z

    def to_unit(
        self, parameters: Float[Tensor, "*batch parameter"]
    ) -> Float[Tensor, "*batch parameter"]:
        """(p − low) / (high − low): the way back, outside (0, 1) for what is outside the bounds."""
        low, high = self.physics.bounds.to(parameters).unbind(1)
        return (parameters - low) / (high - low)

    def set_progress(self, *, r: float, tau: float) -> None:
        """Set strength r, not negative, and temperature τ, positive, of the low-rank residual.

        Raises:
            ValueError: If one is out of range, or the residual is another.
        """
        if not isinstance(self.head, LowRankResidual):
            raise ValueError("r and tau belong to a low-rank residual, and this model has none.")
        if not (0 <= r < float("inf") and 0 < tau < float("inf")):
            raise ValueError(f"need r of at least 0 and tau above 0, got r={r}, tau={tau}.")
        self.head.r.fill_(r)
        self.head.tau.fill_(tau)

    def prior_moments(self) -> tuple[Tensor, Tensor] | None:
        """Mean and log-variance (P,) of the normal prior of u; None for the uniform prior of z."""
        if self.config.prior == "uniform":
            return None
        if self.prior is not None:
            return self.prior.mean.clone(), self.prior.variance.log()
        return self.x_mean.new_zeros(self.latent_dim), self.x_mean.new_zeros(self.latent_dim)

    def update_prior(self, encoding: Encoding) -> None:
        """Let the moving prior follow these posteriors, at once or with the engine's step.

        Raises:
            ValueError: If `config.prior` is not "ema".
        """
        if self.prior is None:
            raise ValueError(f"config.prior is {self.config.prior!r}: only 'ema' moves.")
        self.prior.update(encoding.u_mean, encoding.u_lnvar)

    def _check(self, name: str, values: Tensor, width: int) -> None:
        if values.ndim != 2 or values.shape[1] != width:
            raise ValueError(f"{name} has shape {tuple(values.shape)}, expected (sample, {width}).")
