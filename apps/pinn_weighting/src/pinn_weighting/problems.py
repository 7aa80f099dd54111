"""The problems, as plain figures: terms, points, networks. Nothing here needs torch."""

from dataclasses import dataclass, field

CHAIN = "wave_chain"
CHAIN_TERMS = ("PI_loss1", "PI_loss2", "RK4_loss1", "RK4_loss2")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is fixed for a problem before anything is drawn.

    Attributes:
        terms: Names of the loss terms; the first `residuals` of them are residuals of the equation,
            the others hold its solution to given values.
        residuals: How many are residuals.
        points: Points by set: `pde` of the residuals, the other sets as their terms.
        low: Least coordinate of each column, time last where there is one.
        high: The largest.
        columns: Names of the coordinates.
        outputs: Names of the fields.
        layers: Hidden layers of its network.
        hidden: Their width.
        steps: Optimizer steps of a plain run.
    """

    terms: tuple[str, ...]
    residuals: int = 1
    points: dict[str, int] = field(default_factory=dict)
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    columns: tuple[str, ...] = ("x", "t")
    outputs: tuple[str, ...] = ("u",)
    layers: int = 4
    hidden: int = 32
    steps: int = 5000

    @property
    def data_terms(self) -> tuple[str, ...]:
        """Terms that are no residuals: what a grid of fixed weights is tuned over."""
        return self.terms[self.residuals :]


FACTS = {
    "poisson": Facts(
        terms=("pde", "bc"),
        points={"pde": 200, "bc": 2},
        low=(0.0,),
        high=(1.0,),
        columns=("x",),
        steps=1500,
    ),
    "heat": Facts(
        terms=("pde", "ic", "bc"),
        points={"pde": 500, "ic": 100, "bc": 100},
        low=(0.0, 0.0),
        high=(1.0, 1.0),
    ),
    "burgers": Facts(
        terms=("pde", "ic", "bc"),
        points={"pde": 2000, "ic": 50, "bc": 50},
        low=(-1.0, 0.0),
        high=(1.0, 1.0),
        layers=5,
        hidden=50,
    ),
    "wave": Facts(
        terms=("pde", "ic_u", "ic_v", "bc"),
        points={"pde": 500, "ic": 100, "bc": 100},
        low=(0.0, 0.0),
        high=(1.0, 1.0),
    ),
    "helmholtz": Facts(
        terms=("pde", "bc"),
        points={"pde": 500, "bc": 200},
        low=(-1.0, -1.0),
        high=(1.0, 1.0),
        columns=("x", "y"),
    ),
    "kovasznay": Facts(
        terms=("momentum_x", "momentum_y", "divergence", "bc"),
        residuals=3,
        points={"pde": 500, "bc": 200},
        low=(-0.5, -0.5),
        high=(1.0, 1.5),
        columns=("x", "y"),
        outputs=("u", "v", "p"),
    ),
    "allen_cahn": Facts(
        terms=("pde", "ic", "bc"),
        points={"pde": 2000, "ic": 100, "bc": 100},
        low=(-1.0, 0.0),
        high=(1.0, 1.0),
    ),
    CHAIN: Facts(terms=CHAIN_TERMS, residuals=2, columns=("x", "t"), outputs=("u", "v")),
}
EQUATIONS = tuple(name for name in FACTS if name != CHAIN)
