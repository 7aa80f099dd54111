"""The data section: an equation that is solved, or files in one of two layouts."""

from typing import Literal

from nops_train import DataConfig
from pydantic import Field, model_validator

OWN = {
    "burgers": ("viscosity",),
    "diffusion_reaction": ("Du", "Dv", "k"),
    "advection": ("speed",),
    "darcy": ("beta",),
}  # keys that an equation reads
SOLVED = tuple(OWN)
AXES = {"burgers": 1, "advection": 1, "diffusion_reaction": 2, "darcy": 2}
GIVEN = {"darcy": ("nu",)}  # of a steady equation, the channels that are no answer
Equation = Literal[
    "burgers",
    "diffusion_reaction",
    "advection",
    "diffusion_reaction_1d",
    "diffusion_sorption",
    "shallow_water",
    "compressible_1d",
    "compressible_2d",
    "compressible_3d",
    "darcy",
]


class UptDataConfig(DataConfig):
    """Trajectories of an equation, solved where they are absent, or read from given files."""

    pde: Equation = Field(
        default="burgers",
        description="Equation: solved (burgers, diffusion_reaction, advection, darcy), or that of "
        "PDEBench's files.",
    )
    source: Literal["generate", "well", "pdebench"] = Field(
        default="generate",
        description="Solve; or read `path`: a folder of the_well's or PDEBench's files.",
    )
    dt: float = Field(
        default=0.1,
        gt=0,
        description="Time between frames; checked against files where it is given.",
    )
    time_stride: int = Field(
        default=1, ge=1, description="Keep every n-th frame of PDEBench's files."
    )
    parameters: dict[str, float] = Field(
        default={}, description="Parameters that PDEBench's files do not tell, by name."
    )
    viscosity: float = Field(default=0.01, ge=0, description="Of burgers, length² per time.")
    speed: float = Field(default=0.4, description="Of advection, length per time.")
    Du: float = Field(default=1e-3, ge=0, description="Diffusivity of u in diffusion_reaction.")
    Dv: float = Field(default=5e-3, ge=0, description="Diffusivity of v in diffusion_reaction.")
    k: float = Field(default=5e-3, ge=0, description="Constant of diffusion_reaction.")
    beta: float = Field(default=1.0, description="Source of darcy, a pressure over area.")
    vary: dict[str, tuple[float, float]] = Field(
        default={},
        description="Ranges that parameters of the equation are drawn from, each trajectory its own; "
        "the model has to be told of them (model.condition).",
    )

    @model_validator(mode="after")
    def _source_fits(self) -> "UptDataConfig":
        if self.source == "generate" and self.pde not in SOLVED:
            raise ValueError(f"pde = {self.pde} cannot be solved here, only {', '.join(SOLVED)}")
        if self.source != "generate" and self.path is None:
            raise ValueError(f"source = {self.source} without path: where are the files?")
        if self.parameters and self.source != "pdebench":
            raise ValueError(f"parameters have no effect while source is {self.source}")
        if self.vary and self.source != "generate":
            raise ValueError(f"vary has no effect while source is {self.source}")
        for name, (low, high) in self.vary.items():
            if name not in OWN[self.pde]:
                raise ValueError(f"vary.{name}: {self.pde} has {', '.join(OWN[self.pde])}")
            if low >= high:
                raise ValueError(
                    f"vary.{name} = [{low:g}, {high:g}], expected a lower and an upper end"
                )
        if self.source == "generate" and len(self.shape) != AXES[self.pde]:
            raise ValueError(
                f"shape = {list(self.shape)}, expected {AXES[self.pde]} axes for {self.pde}"
            )
        if self.source == "generate" and self.steady and self.num_steps != 1:
            raise ValueError(
                f"num_steps = {self.num_steps}, expected 1: {self.pde} is steady, one step from rest"
            )
        return self

    @property
    def steady(self) -> bool:
        """Whether there is no time: one step maps what is given to the answer."""
        return self.pde in GIVEN
