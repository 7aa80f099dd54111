"""The equations of PDEBench and how each one's files are laid out."""

from dataclasses import dataclass

from nops_data._boundary import Sides

PERIODIC: Sides = ("periodic", "periodic")
WALL: Sides = ("wall", "wall")
OPEN: Sides = ("open", "open")


@dataclass(frozen=True, kw_only=True)
class Array:
    """One dataset [sample, time, *grid] or [sample, *grid] that holds one channel.

    Attributes:
        dataset: Its name at the root of the file.
        channel: Name of the channel.
        time_varying: Whether a time axis follows the sample axis.
    """

    dataset: str
    channel: str
    time_varying: bool = True


@dataclass(frozen=True, kw_only=True)
class PDETask:
    """One equation and its layout; the task is named by the user, never guessed from sizes.

    Attributes:
        name: As in `PDEBench(task=...)`.
        dims: Names of the spatial axes in the order of the file.
        arrays: Datasets over all samples, in channel order, those constant in time last; empty
            where every trajectory is a group of its own.
        group_channels: Names of the channels of `/<number>/data` [time, *grid, channel]; empty
            where there are `arrays`.
        tokens: Parameter names to how PDEBench's file names spell them.
        boundary: Kind at the ends of each axis; None where the file name says it.
        steady: Whether there is one frame and no time.
    """

    name: str
    dims: tuple[str, ...]
    arrays: tuple[Array, ...] = ()
    group_channels: tuple[str, ...] = ()
    tokens: tuple[tuple[str, str], ...] = ()
    boundary: tuple[Sides, ...] | None = None
    steady: bool = False

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, those constant in time last."""
        return self.group_channels or tuple(array.channel for array in self.arrays)

    @property
    def constant_channels(self) -> tuple[str, ...]:
        """Those channels that are given rather than predicted."""
        return tuple(array.channel for array in self.arrays if not array.time_varying)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that a file must have."""
        return tuple(name for name, _ in self.tokens)


def _line(name: str, *tokens: tuple[str, str]) -> PDETask:
    arrays = (Array(dataset="tensor", channel="u"),)
    return PDETask(name=name, dims=("x",), arrays=arrays, tokens=tokens, boundary=(PERIODIC,))


def _compressible(dims: str) -> PDETask:
    names = ("density", "pressure", *(f"V{dim}" for dim in dims))
    mach = (("M", "M"),) if len(dims) > 1 else ()
    return PDETask(
        name=f"compressible_{len(dims)}d",
        dims=tuple(dims),
        arrays=tuple(Array(dataset=name, channel=name) for name in names),
        tokens=(*mach, ("eta", "Eta"), ("zeta", "Zeta")),
    )


TASKS = {
    task.name: task
    for task in (
        _line("advection", ("beta", "beta")),
        _line("burgers", ("nu", "Nu")),
        _line("diffusion_reaction_1d", ("nu", "Nu"), ("rho", "Rho")),
        PDETask(
            name="diffusion_sorption",
            dims=("x",),
            group_channels=("u",),
            boundary=(("wall", "open"),),  # u = 1 at the left, u = D du/dx at the right
        ),
        PDETask(
            name="darcy",
            dims=("x", "y"),
            arrays=(
                Array(dataset="tensor", channel="u"),
                Array(dataset="nu", channel="nu", time_varying=False),
            ),
            tokens=(("beta", "beta"),),
            boundary=(WALL, WALL),
            steady=True,
        ),
        PDETask(
            name="diffusion_reaction",
            dims=("y", "x"),  # the generator reshapes to (time, y, x)
            group_channels=("u", "v"),
            boundary=(WALL, WALL),  # no flux
        ),
        PDETask(
            name="shallow_water",
            dims=("x", "y"),  # the solver's states are indexed (x, y)
            group_channels=("h",),
            boundary=(OPEN, OPEN),
        ),
        _compressible("x"),
        _compressible("xy"),
        _compressible("xyz"),
    )
}
# What any of the files may hold at its root; more than the task's own is another layout.
KNOWN_DATASETS = {array.dataset for task in TASKS.values() for array in task.arrays}
KNOWN_TOKENS = {token for task in TASKS.values() for token in task.tokens}


def task_of(name: str) -> PDETask:
    """The task of that name.

    Raises:
        ValueError: If there is none.
    """
    if name not in TASKS:
        raise ValueError(f"task: found {name!r}, expected one of {sorted(TASKS)}")
    return TASKS[name]
