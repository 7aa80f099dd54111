"""The loss section: terms by name, their base weights, and how spectra are compared."""

from collections.abc import Mapping
from typing import Annotated, Literal

from nops_train import Config
from pydantic import Field, field_validator, model_validator

RECONSTRUCTION = ("recFieldError", "recLSIM")  # of models that reconstruct their input: none here
PHASE_AWARE = ("predFieldError", "predLSIM", "coherenceError", "sobolevError")
SPECTRUM_TERMS = ("spectrumError", "bspError", "anisotropicSpectrumError", "waveletError")
FOURIER_TERMS = (
    "spectrumError",
    "bspError",
    "anisotropicSpectrumError",
    "coherenceError",
    "sobolevError",
)
REGULARISERS = ("regMeanStd", "regDiv")
OWN_GRADIENT, REST_GRADIENT = "gradient_spectrum", "gradient_rest"  # metrics, see `gradients`
MEASURED_SCALE = f"{REST_GRADIENT} / {OWN_GRADIENT}"  # weights are shares of the gradient norm then
TERMS = (*RECONSTRUCTION, *PHASE_AWARE, *SPECTRUM_TERMS, *REGULARISERS)


def _weight(text: str, default: float = 0.0) -> float:
    return Field(default=default, ge=0, description=text)


class SpectrumOptions(Config):
    """How every spectral term and metric reads a field."""

    window: Literal["none", "hann", "tukey"] = Field(
        default="none", description="Taper towards the borders, for fields that are not periodic."
    )
    detrend: Literal["none", "mean"] = Field(
        default="none", description="Take each channel's mean away before the window."
    )
    bins: Literal["linear", "log"] = Field(
        default="linear", description="Shells of wave numbers, or about 8 bins per octave."
    )
    estimator: Literal["sum", "mean"] = Field(
        default="sum",
        description="Sum of a shell's modes, or their mean times their expected number.",
    )


class LossConfig(Config):
    """Base weight of each term, 0 switching it off, and the options of the spectral ones."""

    recFieldError: float = _weight(  # noqa: N815 - a published name
        "Field error of a reconstructed input; the models here predict, and have none.", 1.0
    )
    predFieldError: float = _weight("Field error of the predicted frames.", 1.0)  # noqa: N815
    recLSIM: float = _weight(  # noqa: N815
        "`lsim` of a reconstructed input; the models here predict, and have none."
    )
    predLSIM: float = _weight("`lsim` of the predicted frames.")  # noqa: N815
    coherenceError: float = _weight("Loss of phase per shell; blind to amplitude.")  # noqa: N815
    sobolevError: float = _weight("Error in the Sobolev norm of order 1.")  # noqa: N815
    spectrumError: float = _weight("Spectrum error of `spectrum_kind`; blind to phase.")  # noqa: N815
    bspError: float = _weight("Binned spectral power error; blind to phase.")  # noqa: N815
    anisotropicSpectrumError: float = _weight(  # noqa: N815
        "Log error of the spectra along each axis; blind to phase."
    )
    waveletError: float = _weight("Wavelet energies per scale; nearly blind to phase.")  # noqa: N815
    regMeanStd: float = _weight(  # noqa: N815
        "Difference in spatial mean and deviation, in units of training; blind to phase."
    )
    regDiv: float = _weight(  # noqa: N815
        "Divergence of `divergence_field`, physical, per time; blind to phase."
    )
    spectrum_kind: Literal["log", "relative_log"] = Field(
        default="log",
        description="What spectrumError is: free of units, or the published definition.",
    )
    spectrum_scale: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        default=1.0,
        description="Factor on the weight of spectrumError, outside the schedule; auto measures it "
        "once, at the end of the schedule's warm-up, so that weights are shares of the gradient norm.",
    )
    spectrum_options: SpectrumOptions = Field(
        default=SpectrumOptions(), description="How spectral terms and metrics read a field."
    )
    wavelet: Literal["haar", "db2", "db4", "sym4"] = Field(
        default="db2", description="Of waveletError."
    )
    wavelet_undecimated: bool = Field(
        default=False, description="Keep every position on every level: any grid size, more memory."
    )
    divergence_field: str = Field(
        default="velocity", min_length=1, description="Vector field whose divergence regDiv is."
    )
    fadeInPredLoss: tuple[float, float] = Field(  # noqa: N815
        default=(-1, 0),
        description="Epochs [a, b] over which frames after the first predicted one count.",
    )
    lsim: str | None = Field(
        default=None,
        pattern=r"^[\w.]+:\w+$",
        description="`module:function` of (pred, target) to a scalar.",
    )
    legacy_mse: Literal["field_error", "mse"] = Field(
        default="field_error",
        description="What recMSE and predMSE mean: field error, or true squares.",
    )

    @field_validator("fadeInPredLoss")
    @classmethod
    def _rising(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"expected [a, b] with a <= b, got {list(value)}")
        return value

    @model_validator(mode="after")
    def _lsim_is_given(self) -> "LossConfig":
        if self.predLSIM > 0 and self.lsim is None:
            raise ValueError(
                f"predLSIM = {self.predLSIM:g} without lsim: no network comes with this app, name "
                "a function of yours as lsim: module:function"
            )
        return self

    def weights(self) -> dict[str, float]:
        """Base weight of every term that there is: a model which predicts reconstructs nothing."""
        absent = {*RECONSTRUCTION, *(("predLSIM",) if self.lsim is None else ())}
        return {name: getattr(self, name) for name in TERMS if name not in absent}

    @property
    def is_measured(self) -> bool:
        """Whether the scale of the spectrum's weight is measured in training."""
        return self.spectrum_scale == "auto"

    def factors(self) -> dict[str, float | str]:
        """Factors on weights as a schedule takes them: a measured one is an expression of metrics."""
        return {**self.scales(), **({"spectrumError": MEASURED_SCALE} if self.is_measured else {})}

    def scales(self) -> dict[str, float]:
        """Factors on weights, outside any schedule; 1 for one that is measured."""
        scale = self.spectrum_scale
        return {"spectrumError": 1.0 if isinstance(scale, str) else scale}


def check_leaves_a_phase(weights: Mapping[str, float], *, where: str) -> None:
    """Refuse weights that see no phase: a shifted field would be as good as the true one.

    Raises:
        ValueError: If every positive weight is of a term that is blind to phase, or none is.
    """
    positive = [name for name, weight in weights.items() if weight > 0]
    if any(name in PHASE_AWARE for name in positive):
        return
    if not positive:
        raise ValueError(f"{where}: every weight is 0, nothing would be trained")
    raise ValueError(
        f"{where}: {', '.join(positive)} alone {'is' if len(positive) == 1 else 'are'} blind to "
        "phase, so that a shifted field is as good as the true one: add predFieldError or "
        "coherenceError"
    )
