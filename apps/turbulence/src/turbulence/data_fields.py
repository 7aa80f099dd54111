"""What of the files is emulated: fields by name, parameters, the domain, published moments."""

from pathlib import Path

import torch
from nops_data import Normaliser, WellReader
from nops_train import InputError

from turbulence.terms import Domain

MASK = "obstacle_mask"
EVEN = 1e-2  # of the mean step: coordinates are stored in float32, of long axes too
# Mean and deviation of arXiv 2309.01745's training sets, by channel.
PUBLISHED = {
    "incMixed": {
        "velocity_x": (0.444969, 0.206128),
        "velocity_y": (0.000299, 0.206128),
        "pressure": (0.000586, 0.003942),
    },
    "traMixed": {
        "velocity_x": (0.560642, 0.216987),
        "velocity_y": (-0.000129, 0.216987),
        "density": (0.903352, 0.145391),
        "pressure": (0.637941, 0.119944),
    },
    "isoSingle": {
        "velocity_x": (-0.054618, 0.539194),
        "velocity_y": (-0.385225, 0.710318),
        "velocityZ": (-0.255757, 0.510352),
        "pressure": (0.033446, 0.258235),
    },
}


def fields_named(reader: WellReader, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Fields of the files: a name means itself, or its components `name_x`, `name_y`.

    Raises:
        InputError: If the files have none of a name, naming those they have.
    """
    present = [field.name for field in reader.fields]
    found: list[str] = []
    for name in wanted:
        parts = [one for one in present if one == name or one in _components(name)]
        if not parts:
            raise InputError(
                f"data.fields: {name} is none of the fields of {reader.folder}: {', '.join(present)}"
            )
        found += parts
    return tuple(found)


def _components(name: str) -> tuple[str, ...]:
    return tuple(f"{name}_{axis}" for axis in "xyz")


def parameter_columns(reader: WellReader, wanted: tuple[str, ...]) -> tuple[int, ...]:
    """Columns of the files' scalars, by name; case and spaces do not matter.

    Raises:
        InputError: If the files have none of a name, naming those they have.
    """
    names = [_plain(name) for name in reader.parameter_names]
    for name in wanted:
        if _plain(name) not in names:
            raise InputError(
                f"data.parameters: {name} is none of the scalars of {reader.folder}: "
                f"{', '.join(reader.parameter_names) or 'there are none'}"
            )
    return tuple(names.index(_plain(name)) for name in wanted)


def _plain(name: str) -> str:
    return name.lower().replace(" ", "_")


def domain_of(
    folder: str | Path, reader: WellReader, normaliser: Normaliser | None = None
) -> Domain:
    """Lengths, boundary and obstacle of the files, and the channels with their units of training.

    Args:
        folder: Of the files.
        reader: Of one split, with the fields that are emulated.
        normaliser: Of these channels; None leaves them in the data's units.

    Raises:
        InputError: If obstacles differ from trajectory to trajectory.
    """
    periodic = tuple(low == "periodic" for low, _ in reader.boundary)
    lengths = tuple(
        float(axis[-1] - axis[0]) * (len(axis) / (len(axis) - 1) if wraps else 1.0)
        for axis, wraps in zip(reader.coordinates, periodic, strict=True)
    )
    return Domain(
        shape=reader.shape,
        lengths=lengths,
        periodic=periodic,
        mask=_mask(folder),
        axes=reader.layouts[0].spatial_dims,
        uniform=reader.layouts[0].grid_type == "cartesian"
        and all(_is_even(axis) for axis in reader.coordinates),
        channels=reader.channels,
        scale=(1.0,) * len(reader.channels) if normaliser is None else _floats(normaliser.scale),
    )


def _is_even(axis: torch.Tensor) -> bool:
    steps = axis.double().diff()
    return bool(((steps - steps.mean()).abs() <= EVEN * steps.mean().abs()).all())


def _floats(values: torch.Tensor) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _mask(folder: str | Path) -> torch.Tensor | None:
    """The obstacle of all trajectories, True in the fluid; None without one."""
    masks = []
    for split in ("train", "valid", "test"):
        whole = WellReader(folder, split=split)
        if MASK not in whole.constant_channels:
            return None
        reader = WellReader(folder, split=split, fields=(MASK,))
        masks += [reader.read(index, stop=1)[0, 0] > 0.5 for index in range(len(reader))]
    if not all(torch.equal(mask, masks[0]) for mask in masks):
        raise InputError(f"{folder}: {MASK} differs between trajectories; expected one obstacle")
    return masks[0]


def published_moments(fitted: Normaliser, name: str) -> Normaliser:
    """The normaliser with moments that were published, or with none at all.

    Raises:
        InputError: If the channels are not those of the published set.
    """
    if name == "zscore":
        return fitted
    table = PUBLISHED.get(name, dict.fromkeys(fitted.channels, (0.0, 1.0)))
    if set(table) != set(fitted.channels):
        raise InputError(
            f"data.normalise = {name} is for the channels {', '.join(table)}; the data have "
            f"{', '.join(fitted.channels)}"
        )
    moments = torch.tensor([table[channel] for channel in fitted.channels], dtype=torch.float64)
    return Normaliser(
        mean=moments[:, 0],
        std=moments[:, 1],
        increment_mean=fitted.increment_mean,
        increment_std=fitted.increment_std,
        channels=fitted.channels,
    )
