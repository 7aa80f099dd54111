"""Reading frames of one open file into a caller's buffer.

Plain datasets (float32 in the machine's byte order, no filter, every chunk allocated and made of
whole frames) are read by `preadv` straight into the buffer: their chunks are stretches of the
file whose places HDF5 tells once. Everything else goes through h5py.
"""

import os

import h5py
import numpy as np

from nops_data._errors import LayoutError, layout_error
from nops_data._hdf5 import get_dataset, open_hdf5
from nops_data._layout import Field, FileLayout

_NATIVE = np.dtype("=f4")
_MAX_BUFFERS = 512  # per preadv call; Linux allows 1024
_MAX_BYTES = 2**30  # per preadv call; Linux stops a little below 2**31


class OpenFile:
    """One file, opened for reading frames.

    Args:
        layout: The file's layout, read before.
        fields: Those of its fields to read, in channel order.
    """

    def __init__(self, layout: FileLayout, *, fields: tuple[Field, ...]) -> None:
        self._layout = layout
        self._fields = fields
        self._file = open_hdf5(layout.path)
        try:
            self._datasets = [get_dataset(self._file, field.dataset) for field in fields]
            self._places = [
                _frame_places(item) if _is_plain(item, field, layout) else None
                for item, field in zip(self._datasets, fields, strict=True)
            ]
            direct = any(places is not None for places in self._places)
            self._descriptor = os.open(layout.path, os.O_RDONLY) if direct else None
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        self._file.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def read_into(self, out: np.ndarray, *, sample: int, start: int) -> None:
        """Fill `out` [n, C, *grid] with frames `start` … `start + n - 1` of one sample.

        Raises:
            LayoutError: If the bytes cannot be read.
        """
        channel = 0
        for item, field, places in zip(self._datasets, self._fields, self._places, strict=True):
            width = len(field.channels)
            try:
                if places is not None and self._descriptor is not None:
                    _read_plain(self._descriptor, out[:, channel], places[sample], start)
                else:
                    out[:, channel : channel + width] = _read_any(
                        item, field, sample, start, len(out)
                    )
            except OSError as error:
                raise self._unreadable(field, sample, start, len(out), error) from error
            channel += width

    def _unreadable(
        self, field: Field, sample: int, start: int, count: int, error: OSError
    ) -> LayoutError:
        where = f"dataset '{field.dataset}', sample {sample}, steps {start} to {start + count - 1}"
        return layout_error(
            self._layout.path, where, found=f"unreadable bytes ({error})", expected="float32 frames"
        )


class _Places:
    """Byte offset in the file of every frame of one sample, and where a stretch ends."""

    __slots__ = ("chunk_frames", "frame_bytes", "offsets")

    def __init__(self, offsets: list[int], *, chunk_frames: int, frame_bytes: int) -> None:
        self.offsets = offsets
        self.chunk_frames = chunk_frames
        self.frame_bytes = frame_bytes


def _is_plain(item: h5py.Dataset, field: Field, layout: FileLayout) -> bool:
    if not (field.order == 0 and field.sample_varying and field.time_varying):
        return False
    if item.dtype != _NATIVE or item.shape[2:] != layout.shape or not hasattr(os, "preadv"):
        return False
    if _frame_bytes(item) > _MAX_BYTES or not hasattr(item.id, "chunk_iter"):
        return False  # h5py offers it from HDF5 1.12.3 on
    properties = item.id.get_create_plist()
    if properties.get_nfilters() or properties.get_external_count() or item.file.userblock_size:
        return False
    if properties.get_layout() == h5py.h5d.CONTIGUOUS:
        return item.id.get_offset() is not None
    if properties.get_layout() != h5py.h5d.CHUNKED:
        return False
    chunk = properties.get_chunk()
    whole = chunk[0] == 1 and chunk[2:] == layout.shape
    return whole and item.id.get_num_chunks() == len(item) * -(-item.shape[1] // chunk[1])


def _frame_bytes(item: h5py.Dataset) -> int:
    return _NATIVE.itemsize * int(np.prod(item.shape[2:]))


def _frame_places(item: h5py.Dataset) -> list[_Places]:
    samples, frames = item.shape[:2]
    frame_bytes = _frame_bytes(item)
    if item.chunks is None:
        first, stride = item.id.get_offset(), frames * frame_bytes
        return [
            _Places([first + i * stride], chunk_frames=frames, frame_bytes=frame_bytes)
            for i in range(samples)
        ]
    length = item.chunks[1]
    offsets = [[0] * -(-frames // length) for _ in range(samples)]

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        sample, step = chunk.chunk_offset[:2]
        offsets[sample][step // length] = chunk.byte_offset

    item.id.chunk_iter(note)
    return [_Places(row, chunk_frames=length, frame_bytes=frame_bytes) for row in offsets]


def _read_plain(descriptor: int, out: np.ndarray, places: _Places, start: int) -> None:
    buffers = list(out)
    length, frame_bytes = places.chunk_frames, places.frame_bytes
    most = min(_MAX_BUFFERS, _MAX_BYTES // frame_bytes)
    done = 0
    while done < len(buffers):
        chunk, within = divmod(start + done, length)
        count = min(length - within, len(buffers) - done, most)
        place = places.offsets[chunk] + within * frame_bytes
        got = os.preadv(descriptor, buffers[done : done + count], place)
        if got != count * frame_bytes:
            raise OSError(f"{got} of {count * frame_bytes} bytes at byte {place}")
        done += count


def _read_any(item: h5py.Dataset, field: Field, sample: int, start: int, count: int) -> np.ndarray:
    """Frames as [count or 1, components, *grid or 1], ready to broadcast."""
    index: tuple[int | slice, ...] = (sample,) if field.sample_varying else ()
    if field.time_varying:
        index += (slice(start, start + count),)
    values = np.asarray(item[index])
    sizes = iter(item.shape[len(index) :])
    kept = len(item.shape) - len(index) - field.order == len(field.dim_varying)
    grid = tuple(next(sizes) if varies or kept else 1 for varies in field.dim_varying)
    values = values.reshape(count if field.time_varying else 1, *grid, len(field.channels))
    return np.moveaxis(values, -1, 1)
