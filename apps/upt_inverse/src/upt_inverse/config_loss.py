"""The loss section: terms by name with their base weights, and how they are computed."""

from typing import Any, Literal

from nops_train import Config
from pydantic import Field, model_validator

INVERSE = ("L_inv_enc", "L_inv_dec")
LATENT_TARGETS = ("L_forward_latent", "L_spec")
PENALTIES = (
    *("L_latent_norm", "L_latent_diversity"),
    *("L_divergence", "L_conservation", "L_boundary", "L_positivity"),
)
TERMS = ("L_forward", *INVERSE, "L_rollout", *LATENT_TARGETS, *PENALTIES)
PRESETS: dict[str, dict[str, float]] = {
    "original": {"L_forward": 1.0, "L_inv_enc": 1.0, "L_inv_dec": 1.0, "L_rollout": 1.0},
    "seed": {"L_forward": 1.0, "L_inv_enc": 0.01, "L_inv_dec": 0.01, "L_rollout": 0.0},
}
STRATEGIES = {"original": "stratified", "seed": "uniform"}


def _weight(text: str) -> Any:
    return Field(default=0.0, ge=0, description=text)


def _preset_weight(text: str) -> Any:
    return Field(default=None, ge=0, description=f"{text} Null: that of the preset.")


class QuerySamplingConfig(Config):
    """A step reads and decodes some of the points."""

    enabled: bool = Field(
        default=False, description="Draw points anew in each step, for each sample."
    )
    num_queries: int | None = Field(default=None, ge=1, description="Points per sample, Q.")
    strategy: Literal["stratified", "uniform", "importance"] | None = Field(
        default=None,
        description="Evenly along a space-filling curve; any; or more where the true state is steep, "
        "each point weighed by the inverse of its chance. Null: that of the preset.",
    )
    importance_floor: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Share of the points of importance that are drawn evenly.",
    )

    @model_validator(mode="after")
    def _number_is_given(self) -> "QuerySamplingConfig":
        if self.enabled and self.num_queries is None:
            raise ValueError("enabled is true without num_queries: how many points?")
        return self


class LossConfig(Config):
    """Base weight of each term, 0 switching it off, and how terms are computed."""

    preset: Literal["original", "seed"] = Field(
        default="original",
        description="original: re-encode the predicted next state; seed: the present one, towards a "
        "latent without gradient. It also says what weights of null are.",
    )
    L_forward: float | None = _preset_weight("Decoded next state against the true one.")
    L_inv_enc: float | None = _preset_weight("Decoded latent against the field encoded into it.")
    L_inv_dec: float | None = _preset_weight("Re-encoded decoded latent against that latent.")
    L_rollout: float | None = _preset_weight("Decoded states 2 to rollout_horizon.")
    L_forward_latent: float = _weight("Next latent against the encoded next state.")
    L_spec: float = _weight("The same, of spectra over token channels.")
    L_latent_norm: float = _weight("Norm of tokens against the root of their width.")
    L_latent_diversity: float = _weight("Cosine between different tokens.")
    L_divergence: float = _weight("Divergence of divergence_field, in physical units.")
    L_conservation: float = _weight("Change of each field's total over a step.")
    L_boundary: float = _weight("Squared distance from boundary_value at the border.")
    L_positivity: float = _weight("How far values are below positivity_minimum.")
    use_inverse_losses: bool | None = Field(
        default=None,
        description="Whether inverse losses are used; weights that contradict it are refused.",
    )
    rollout_horizon: int = Field(
        default=4,
        ge=1,
        description="Steps that L_rollout unrolls in latent space; 1: no such term.",
    )
    rollout_queries: float = Field(
        default=0.5, gt=0, le=1, description="Share of the points decoded at its steps."
    )
    reencode: Literal["decoded", "detached", "truth"] = Field(
        default="decoded",
        description="What L_inv_dec encodes: the decoded state, the same without gradient into the "
        "decoder, or (original) the true next state.",
    )
    detach_latent: bool = Field(default=False, description="L_inv_enc trains the decoder alone.")
    query_sampling: QuerySamplingConfig = Field(
        default=QuerySamplingConfig(), description="Points of a step."
    )
    chunk_size: int | None = Field(
        default=None, ge=1, description="Points decoded at once, recomputed in the backward pass."
    )
    divergence_field: str | None = Field(
        default=None,
        min_length=1,
        description="Vector field of L_divergence, one component per axis.",
    )
    conservation_scale: Literal["rms", "integral"] = Field(
        default="rms", description="What L_conservation divides by."
    )
    boundary_value: float = Field(default=0.0, description="Of L_boundary, in the data's unit.")
    positivity_minimum: float = Field(
        default=0.0, description="Of L_positivity, in the data's unit."
    )

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, values: Any) -> Any:
        """Nulls as the preset has them, so that a run's config says what it was trained with."""
        if not isinstance(values, dict) or values.get("preset", "original") not in PRESETS:
            return values
        preset = values.get("preset", "original")
        weights = dict(PRESETS[preset])
        if values.get("use_inverse_losses") is False:
            weights |= dict.fromkeys(INVERSE, 0.0)
        filled: dict[str, Any] = {
            name: weights[name] for name in weights if values.get(name) is None
        }
        sampling = values.get("query_sampling", {})
        if isinstance(sampling, dict) and sampling.get("strategy") is None:
            filled["query_sampling"] = {**sampling, "strategy": STRATEGIES[preset]}
        return {**values, **filled}

    @model_validator(mode="after")
    def _switch_agrees(self) -> "LossConfig":
        positive = [name for name in INVERSE if getattr(self, name) > 0]
        if self.use_inverse_losses is False and positive:
            raise ValueError(
                f"use_inverse_losses is false, but {positive[0]} = {getattr(self, positive[0]):g}; "
                "leave the switch out, or set the weight to 0"
            )
        if self.use_inverse_losses and not positive:
            raise ValueError(
                "use_inverse_losses is true, but L_inv_enc and L_inv_dec are 0; leave the switch "
                "out, or give one of them a weight"
            )
        return self

    @model_validator(mode="after")
    def _options_count(self) -> "LossConfig":
        if not self.weights():
            raise ValueError("every weight is 0, nothing would be trained")
        if self.preset == "seed" and self.reencode == "truth":
            raise ValueError("reencode: truth is the next state, of preset original; found seed")
        if (self.L_divergence > 0) != (self.divergence_field is not None):
            raise ValueError(
                f"L_divergence = {self.L_divergence:g} and divergence_field = "
                f"{self.divergence_field}: give both or none"
            )
        return self

    @model_validator(mode="after")
    def _importance_is_used(self) -> "LossConfig":
        sampling = self.query_sampling
        unrolls = "L_rollout" in self.weights() and self.rollout_queries < 1
        if sampling.strategy == "importance" and not sampling.enabled and not unrolls:
            raise ValueError(
                "query_sampling.strategy: importance, but no points are drawn: query_sampling.enabled is "
                "false, and no L_rollout has rollout_queries below 1"
            )
        return self

    def weights(self) -> dict[str, float]:
        """Base weight of each term that is switched on, those still at 0 by schedule included."""
        given = {name: getattr(self, name) for name in TERMS}
        if self.rollout_horizon == 1:
            given["L_rollout"] = 0.0
        return {name: weight for name, weight in given.items() if weight}

    @property
    def steps(self) -> int:
        """Steps after the present state that training needs the truth of."""
        return self.rollout_horizon if "L_rollout" in self.weights() else 1
