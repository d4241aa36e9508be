"""Raw maps: NPZ (NumPy) and HDF5.

Both hold `saliency_maps` (N, H, W) float32 in the predictor's normalisation, at the model's resolution or the
source's, `times_seconds` (N,) float64 and `indices` (N,) int64 of the frames, and `source_size` (height, width). Both
are written as maps come, so memory does not grow with the video.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UnavailableError
from dtfsal.runtime.frontend.preprocess import Rgb
from dtfsal.runtime.media.writer import atomic_output
from dtfsal.runtime.predict.maps import SaliencyMap, normalise_map, resize_map
from dtfsal.runtime.predict.prediction import SaliencyFrame
from dtfsal.runtime.sinks.base import SinkContext, Write

_COPY_BYTES = 2**20


@contextlib.contextmanager
def npz_sink(path: Path, context: SinkContext) -> Iterator[Write]:
    """An uncompressed .npz; maps gather in a nameless file in the same folder, since its header comes first."""
    times: list[float] = []
    indices: list[int] = []
    shape: tuple[int, ...] = (0, 0)
    with atomic_output(path) as partial, tempfile.TemporaryFile(dir=partial.parent) as gathered:

        def write(frame: SaliencyFrame, _rgb: Rgb | None) -> None:
            nonlocal shape
            with context.clock.stage("encode"):
                saliency_map = _sized(frame, context)
                shape = saliency_map.shape
                gathered.write(saliency_map.astype("<f4", copy=False).tobytes())
                times.append(frame.time_seconds)
                indices.append(frame.index)

        yield write
        gathered.seek(0)
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            with archive.open("saliency_maps.npy", "w", force_zip64=True) as member:
                header = {"descr": "<f4", "fortran_order": False, "shape": (len(times), *shape)}
                np.lib.format.write_array_header_1_0(member, header)
                shutil.copyfileobj(gathered, member, _COPY_BYTES)
            _add(archive, "times_seconds", np.array(times, np.float64))
            _add(archive, "indices", np.array(indices, np.int64))
            _add(archive, "source_size", np.array([context.source.height, context.source.width], np.int64))


@contextlib.contextmanager
def hdf5_sink(path: Path, context: SinkContext) -> Iterator[Write]:
    """An .h5 file, a chunk per map, compressed without loss; `model` and `normalisation` are attributes."""
    h5py = _import_h5py()
    with (
        atomic_output(path) as partial,
        partial.open("w+b", buffering=0) as raw,
        _enduring(raw) as stream,
        h5py.File(stream, "w") as file,
    ):
        file.attrs["model"] = context.model_name
        file.attrs["normalisation"] = context.map_normalisation
        file["source_size"] = np.array([context.source.height, context.source.width], np.int64)
        height, width = _map_shape(context)
        maps = file.create_dataset(
            "saliency_maps",
            shape=(0, height, width),
            maxshape=(None, height, width),
            chunks=(1, height, width),
            dtype="<f4",
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )
        times = file.create_dataset("times_seconds", shape=(0,), maxshape=(None,), chunks=(1024,), dtype="<f8")
        indices = file.create_dataset("indices", shape=(0,), maxshape=(None,), chunks=(1024,), dtype="<i8")

        def write(frame: SaliencyFrame, _rgb: Rgb | None) -> None:
            with context.clock.stage("encode"):
                count = len(times)
                for dataset, value in (
                    (maps, _sized(frame, context)),
                    (times, frame.time_seconds),
                    (indices, frame.index),
                ):
                    dataset.resize(count + 1, axis=0)
                    dataset[count] = value
                stream.check()

        yield write


class _EnduringFile:
    """A file whose writes never fail for the one who writes.

    The HDF5 library crashes the process when it is closed after a write that failed. So the first error is kept, later
    writes go nowhere, and `check` raises it where it does no harm.
    """

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self._error: BaseException | None = None

    def check(self) -> None:
        """Raise the error of the first write that failed, if one did."""
        if self._error is not None:
            raise self._error

    def write(self, data: memoryview) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self._error is None and rest:
                rest = rest[self._raw.write(rest) or 0 :]
        except BaseException as error:  # Ctrl-C too: it must not pass through the library either
            self._error = error
        return size

    def readinto(self, data: memoryview) -> int:
        count = self._raw.readinto(data) or 0
        data[count:] = bytes(len(data) - count)  # what could not be written reads as zeros
        return len(data)

    def read(self, size: int = -1) -> bytes:
        return self._raw.read(size) or b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def truncate(self, size: int) -> int:
        try:
            if self._error is None:
                self._raw.truncate(size)
        except BaseException as error:
            self._error = error
        return size

    def flush(self) -> None:
        """Nothing is buffered."""


@contextlib.contextmanager
def _enduring(raw: io.FileIO) -> Iterator[_EnduringFile]:
    """An `_EnduringFile` that is checked once more after the library has closed it."""
    stream = _EnduringFile(raw)
    yield stream
    stream.check()


def _map_shape(context: SinkContext) -> tuple[int, int]:
    if context.map_size == "source":
        return context.source.height, context.source.width
    return context.model_size


def _sized(frame: SaliencyFrame, context: SinkContext) -> SaliencyMap:
    """The map at the wanted resolution; scaled again, since enlarging changes what a map sums to."""
    if context.map_size == "model":
        return frame.saliency_map
    enlarged = resize_map(frame.saliency_map, context.source.height, context.source.width)
    return normalise_map(enlarged, context.map_normalisation)


def _add(archive: zipfile.ZipFile, name: str, array: npt.NDArray[Any]) -> None:
    member: IO[bytes]
    with archive.open(f"{name}.npy", "w") as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _import_h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UnavailableError(f"HDF5 output needs h5py ({error}): run `pip install 'dtfsal[hdf5]'`") from error
    return h5py
