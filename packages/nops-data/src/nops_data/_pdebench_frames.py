"""Reading frames of one open PDEBench file into a caller's buffer."""

import h5py
import numpy as np

from nops_data._errors import layout_error
from nops_data._hdf5 import get_dataset, open_hdf5
from nops_data._pdebench_layout import PDEFile
from nops_data._pdebench_tasks import PDETask


class OpenPDEFile:
    """One file, opened for reading frames."""

    def __init__(self, file: PDEFile, task: PDETask) -> None:
        self._facts, self._task = file, task
        self._file = open_hdf5(file.path)

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        self._file.close()

    def read_into(
        self, out: np.ndarray, *, sample: int, start: int, strides: tuple[int, int]
    ) -> None:
        """Fill `out` [n, C, *grid] with n frames of one sample, `start` counting those kept.

        Raises:
            LayoutError: If the bytes cannot be read.
        """
        time, space = strides
        frames = slice(start * time, (start + len(out) - 1) * time + 1, time)
        grid = (slice(None, None, space),) * len(self._facts.shape)
        try:
            if self._task.group_channels:
                item = self._item(dataset_of(self._facts, self._task, sample, 0))
                out[:] = np.moveaxis(item[frames][(slice(None), *grid)], -1, 1)
                return
            for channel, array in enumerate(self._task.arrays):
                index = (sample, frames) if array.time_varying else (sample,)
                values = self._item(array.dataset)[index]
                out[:, channel] = values[(..., *grid)]
        except OSError as error:
            where = f"sample {sample}, frames {frames.start} to {frames.stop - 1}"
            found = f"unreadable bytes ({error})"
            raise layout_error(self._facts.path, where, found=found, expected="frames") from error

    def _item(self, name: str) -> h5py.Dataset:
        return get_dataset(self._file, name)


def dataset_of(file: PDEFile, task: PDETask, sample: int, channel: int) -> str:
    """Name of the dataset that holds one channel of one sample."""
    if task.group_channels:
        return f"{file.groups[sample]}/data"
    return task.arrays[channel].dataset
