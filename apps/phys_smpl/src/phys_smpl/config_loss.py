"""The sections `loss` and `phases`: terms with their weights, and when they come in."""

from nops_train import Config
from pydantic import Field, model_validator

TERMS = (
    "bootstrap",
    "reconstruction",
    "kl_physics",
    "kl_aux",
    "gate",
    "residual",
    "orthogonality",
    "coefficient",
    "edge",
    "smoothness",
    "capacity",
)


class CapacityConfig(Config):
    """A target for the divergence of the physics latents, in place of its weight."""

    on: bool = Field(
        default=False, description="Hold KL of the physics latents at a rising target."
    )
    c_max: float | None = Field(
        default=None, ge=0, description="Target at the end, nats; null: one per physics latent."
    )
    gamma: float = Field(default=10.0, gt=0, description="Factor on the squared distance from it.")


class LossConfig(Config):
    """Weights of the terms, 0 switching one off; errors are sums over standardised channels."""

    noise_variance: float = Field(
        default=0.005, gt=0, description="Variance of the noise per standardised channel, σ²."
    )
    beta_physics: float = Field(
        default=1.0, ge=0, description="Times 2σ²: KL of the physics latents."
    )
    beta_aux: float = Field(
        default=1.0, ge=0, description="Times 2σ²: KL of the auxiliary latents."
    )
    bootstrap: float = Field(
        default=1.0, ge=0, description="Parameters of simulations, in pretraining."
    )
    gate: float = Field(default=1e-3, ge=0, description="Mean of the gate.")
    residual: float = Field(default=1e-4, ge=0, description="Square of the proposed correction.")
    orthogonality: float = Field(
        default=0.1, ge=0, description="How far patterns are from orthonormal."
    )
    coefficient: float = Field(
        default=1e-4, ge=0, description="Square of the patterns' coefficients."
    )
    edge: float = Field(default=0.0, ge=0, description="Physics latents near their bounds.")
    edge_power: float = Field(default=1.0, gt=0, description="Power of that penalty.")
    smoothness: float = Field(
        default=0.0, ge=0, description="Variance of the first three parameters along a sequence."
    )
    capacity: CapacityConfig = Field(
        default=CapacityConfig(), description="Target for a divergence."
    )


class RampConfig(Config):
    """A value that goes along a line after pretraining, and stays."""

    init: float = Field(default=..., ge=0, description="Value at the first epoch of training.")
    final: float = Field(default=..., ge=0, description="Value from the last epoch of the ramp on.")
    warmup_epochs: int = Field(default=..., ge=0, description="Epochs of the ramp.")


class PhasesConfig(Config):
    """Pretraining on simulations, then training on the data."""

    epochs_pretrain: int = Field(default=20, ge=0, description="Epochs on simulations alone.")
    kl_warmup_epochs: int = Field(
        default=30, ge=0, description="Epochs of training over which the KL terms come in."
    )
    tau: RampConfig = Field(
        default=RampConfig(init=3.0, final=1.0, warmup_epochs=20),
        description="Temperature of the low-rank coefficients.",
    )
    r: RampConfig = Field(
        default=RampConfig(init=0.0, final=1.0, warmup_epochs=30),
        description="Strength of the low-rank correction.",
    )

    @model_validator(mode="after")
    def _temperature_is_positive(self) -> "PhasesConfig":
        if not min(self.tau.init, self.tau.final) > 0:
            raise ValueError("tau.init and tau.final must be above 0")
        return self
