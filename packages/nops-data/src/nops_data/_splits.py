"""The three splits of a folder, opened together, with statistics of the first alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from nops_data._fingerprint import file_fingerprints
from nops_data._hdf5 import SPLITS
from nops_data._normaliser import Normaliser
from nops_data._reader import WellReader
from nops_data._trajectories import Trajectories


@runtime_checkable
class NamedTrajectories(Trajectories, Protocol):
    """Trajectories that say what they are."""

    @property
    def dataset_name(self) -> str:
        """Name of the data set."""
        ...

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        ...

    @property
    def frame_interval(self) -> float:
        """Time between the first two frames."""
        ...


ReaderT = TypeVar("ReaderT", bound=NamedTrajectories)


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits(Generic[ReaderT]):
    """What a run takes from its folder of data, or its file.

    Attributes:
        folder: With `data/{train,valid,test}/*.hdf5`; the file where one holds all.
        train: To train on.
        valid: To validate on.
        test: Held out.
        normaliser: Fitted on `train` alone.
        fingerprints: SHA-256 of each file, by its name within the folder: what the engine compares
            where a run goes on.
    """

    folder: Path
    train: ReaderT
    valid: ReaderT
    test: ReaderT
    normaliser: Normaliser
    fingerprints: dict[str, str]

    def __getitem__(self, split: str) -> ReaderT:
        """The reader of "train", "valid" or "test"."""
        if split not in SPLITS:
            raise KeyError(f"found {split!r}, expected one of {SPLITS}")
        return getattr(self, split)

    @property
    def frame_interval(self) -> float:
        """Time between the first two frames of `train`, in the files' unit; 1 for single frames."""
        return self.train.frame_interval


def open_splits(folder: Path | str, *, fields: Sequence[str] | None = None) -> Splits[WellReader]:
    """Open the three splits of a folder, fit the normaliser on the train split, sum the files.

    Args:
        folder: With `data/{train,valid,test}/*.hdf5`.
        fields: As in `WellReader`; all when None.

    Returns:
        Readers of the splits, the normaliser, and the files' fingerprints.

    Raises:
        LayoutError: If files are missing, damaged or do not fit each other.
    """
    readers = {split: WellReader(folder, split=split, fields=fields) for split in SPLITS}
    return Splits(
        folder=Path(folder),
        normaliser=Normaliser.fit(readers["train"]),
        fingerprints=file_fingerprints(folder),
        **readers,
    )


def stored_facts(folder: Path | str) -> dict[str, Any]:
    """Size of a folder's data: what a configuration says of data, as found in the files.

    Args:
        folder: With `data/{train,valid,test}/*.hdf5`.

    Returns:
        `num_train`, `num_valid`, `num_test`; `num_steps` of the shortest trajectory, its start not
        counted; `shape`, the grid points along each axis.

    Raises:
        LayoutError: If the folder holds no readable data.
    """
    return facts_of({split: WellReader(folder, split=split) for split in SPLITS})


def facts_of(readers: Mapping[str, Trajectories]) -> dict[str, Any]:
    """As `stored_facts`, of readers by split."""
    return {
        **{f"num_{split}": len(reader) for split, reader in readers.items()},
        "num_steps": min(reader.num_frames for reader in readers.values()) - 1,
        "shape": readers["train"].shape,
    }


def frame_interval(reader: WellReader) -> float:
    """Time between the first two frames of the first trajectory; 1 where there is one frame.

    Args:
        reader: Of one split.

    Returns:
        The time, in the unit of the file.
    """
    return reader.frame_interval
