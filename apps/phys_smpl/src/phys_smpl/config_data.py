"""The sections `data` and `physics`: observations, made or measured, and what decodes them."""

from typing import Literal

from nops_train import Config
from pydantic import Field

Problem = Literal["mogi", "okada", "inform", "pendulum", "advection_diffusion"]
NETWORKS = ("mogi", "okada")
SERIES = ("pendulum", "advection_diffusion")


class PhysDataConfig(Config):
    """Observations: simulated with noise and disturbances, or read from a folder."""

    path: str | None = Field(
        default=None,
        min_length=1,
        description="Folder with train.csv, valid.csv, test.csv, or with what `generate` wrote; "
        "null: simulate.",
    )
    num_train: int = Field(default=8192, ge=1, description="Simulated observations to train on.")
    num_valid: int = Field(default=512, ge=2, description="Simulated observations to validate on.")
    num_test: int = Field(
        default=1024, ge=2, description="Simulated observations of the evaluation."
    )
    seed: int = Field(
        default=1234,
        ge=0,
        lt=2**63 - 2,
        description="Of the simulated train split; valid, test: +1, +2.",
    )
    noise: float | None = Field(
        default=None,
        gt=0,
        description="Its standard deviation, the data's unit; null: the problem's.",
    )
    disturbance: float = Field(
        default=2.0, ge=0, description="Size of two disturbances of a whole network, mm."
    )
    x_mean: str | None = Field(
        default=None,
        min_length=1,
        description="npy file of channel means; null: beside the data, or theirs.",
    )
    x_scale: str | None = Field(
        default=None, min_length=1, description="npy file of channel scales; null: as x_mean."
    )
    standardise: bool = Field(
        default=True, description="Shift and scale each channel; false: the data's own unit."
    )
    inputs: tuple[str, ...] | None = Field(
        default=None,
        description="Known inputs to read; null: all that physics declares and the data have.",
    )
    sequence_length: int | None = Field(
        default=None,
        ge=2,
        description="Rows in a row that make one item of a batch; null: single rows.",
    )


class PhysicsConfig(Config):
    """The forward model."""

    stations: str | None = Field(
        default=None,
        min_length=1,
        description="JSON of station positions; null: beside the data, or made.",
    )
    bounds: str | None = Field(
        default=None,
        min_length=1,
        description="JSON of ranges; null: beside the data, or the usual ones.",
    )
    ranges: dict[str, tuple[float, float]] = Field(
        default={}, description="Ranges of single parameters, by name, in place of those."
    )
    spectra: str | None = Field(
        default=None,
        min_length=1,
        description="Optical constants of leaves; null: beside the data, or prosail's.",
    )
    srf: str | None = Field(
        default=None,
        min_length=1,
        description="Table of band responses; null: closed forms of Sentinel-2A.",
    )
    soil: str | None = Field(
        default=None,
        min_length=1,
        description="Soil reflectance per nm, 400 to 2500; null: √nm / 100.",
    )
    version: Literal["D", "PRO"] = Field(default="D", description="Of the leaf model PROSPECT.")
    sampling: Literal["quadrature", "full"] = Field(
        default="quadrature", description="Bands by ten nodes each, or at every nm."
    )
    method: Literal["rk4", "euler"] = Field(
        default="rk4", description="Of the pendulum's equation."
    )
