"""Frames and slices of sound from the host's memory to an engine's inputs on the GPU, one after another.

Two are under way: while one is copied, the kernels of the one before run. What `prepare` gives is complete when the
compute stream comes to it: for work on that stream it is there, for anything else it is not yet.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from dtfsal.engines.gpu.device import DeviceBuffer, GpuDevice, PinnedBuffer
from dtfsal.engines.gpu.output import DeviceOutput
from dtfsal.engines.native.frontend.library import TYPES, FrameCall, FrontEndLibrary, SliceCall
from dtfsal.engines.raw_inputs import MATRICES, Picture, SliceTables, YuvPicture, planes_of

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class _Streams:
    upload: Any
    compute: Any


class _Staging:
    """Host bytes to the GPU, through one of two places in turn: the other may still be read.

    Args:
        device: the GPU.
        streams: copies go on the first, and are read on the second.
        size: bytes of each place.
    """

    def __init__(self, device: GpuDevice, streams: _Streams, size: int) -> None:
        self.size = size
        self._device, self._streams = device, streams
        self._pinned = [device.pin(size) for _ in range(2)]
        self._buffers = [device.allocate(size) for _ in range(2)]
        self._copied: list[Any] = [None, None]
        self._read: list[Any] = [None, None]
        self._turn = itertools.cycle((0, 1))
        self._place = 0

    def upload(self, parts: tuple[Array, ...]) -> list[int]:
        """Copy arrays, one after another; their addresses on the GPU, which the compute stream may read."""
        device, streams = self._device, self._streams
        self._place = place = next(self._turn)
        if self._copied[place] is not None:
            device.synchronise(self._copied[place])  # the pinned memory is free again
        offset, offsets = 0, []
        for part in parts:
            self._pinned[place].bytes[offset : offset + part.nbytes] = part.reshape(-1).view(np.uint8)
            offsets.append(offset)
            offset += part.nbytes
        if self._read[place] is not None:
            device.wait(streams.upload, self._read[place])
        device.upload(self._buffers[place], self._pinned[place], streams.upload)
        self._copied[place] = device.record(streams.upload)
        device.wait(streams.compute, self._copied[place])
        return [self._buffers[place].address + offset for offset in offsets]

    def done(self) -> None:
        """The compute stream has been given all that reads the last upload."""
        self._read[self._place] = self._device.record(self._streams.compute)

    def things(self) -> list[DeviceBuffer | PinnedBuffer]:
        """All that must be released."""
        return [*self._pinned, *self._buffers]


class _Preparer:
    """What frames and slices have in common: constants on the GPU, a staging place, and their release."""

    def __init__(self, device: GpuDevice, library: FrontEndLibrary, upload: Any, compute: Any) -> None:
        self._device, self._library = device, library
        self._streams = _Streams(upload, compute)
        self._held: list[DeviceBuffer | PinnedBuffer] = []
        self._staging: _Staging | None = None

    def _constant(self, values: Array) -> DeviceBuffer:
        """An array on the GPU, held until `close`."""
        device, compute = self._device, self._streams.compute
        buffer, pinned = device.allocate(values.nbytes), device.pin(values.nbytes)
        pinned.bytes[...] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        device.upload(buffer, pinned, compute)
        device.synchronise(device.record(compute))
        device.release(pinned)
        self._held.append(buffer)
        return buffer

    def _stage(self, size: int) -> _Staging:
        if self._staging is None or self._staging.size != size:
            self._release_staging()
            self._staging = _Staging(self._device, self._streams, size)
        return self._staging

    def _output(self, shape: tuple[int, ...], dtype: str) -> DeviceOutput:
        kind = np.dtype(dtype)
        size = int(np.prod(shape)) * kind.itemsize
        return DeviceOutput(shape, kind, self._device.allocate(size, self._streams.compute))

    def _release_staging(self) -> None:
        if self._staging is not None:
            self._device.synchronise(self._device.record(self._streams.upload))
            self._device.synchronise(self._device.record(self._streams.compute))
            self._device.release(*self._staging.things())
            self._staging = None

    def _release(self, *buffers: DeviceBuffer) -> None:
        for buffer in buffers:
            self._held.remove(buffer)
        self._device.release(*buffers)

    def close(self) -> None:
        """Wait for what is under way, and free all memory; what `prepare` gave stays."""
        self._device.activate()
        self._release_staging()
        self._device.release(*self._held)
        self._held = []


@dataclasses.dataclass(frozen=True)
class _Geometry:
    """What depends on a picture's size: tables of both axes, and room for the rows between them."""

    size: tuple[int, int]
    column_taps: int
    row_taps: int
    buffers: tuple[DeviceBuffer, ...]  # columns' first and weights, rows' first and weights, workspace


class FramePreparer(_Preparer):
    """Pictures of any size to normalised frames (1, 3, height, width) on the GPU.

    The levels are those of `dtfsal.runtime.frontend.preprocess.resize_frame`, bit for bit, of RGB pictures, and of YUV
    ones up to what the decoder's conversion to RGB differs from FFmpeg's on x86.

    Args:
        device: the GPU.
        library: the kernels.
        upload: a stream for copies.
        compute: the stream that the results are for.
        height: of the result, in pixels.
        width: of the result, in pixels.
        dtype: "float32" or "float16".
        levels: (3, 256) float32, what stands for each level of each channel.
    """

    def __init__(
        self,
        device: GpuDevice,
        library: FrontEndLibrary,
        upload: Any,
        compute: Any,
        *,
        height: int,
        width: int,
        dtype: str,
        levels: npt.NDArray[np.float32],
    ) -> None:
        super().__init__(device, library, upload, compute)
        self._height, self._width, self._dtype = height, width, dtype
        self._levels = self._constant(np.asarray(levels, np.float32))
        self._geometry: _Geometry | None = None

    def prepare(self, picture: Picture) -> DeviceOutput:
        """A picture's frame, (1, 3, height, width); for work on the compute stream it is there at once.

        Raises:
            UsageError: it is not an 8-bit RGB or YUV picture.
            EngineError: the GPU has no memory left, or failed.
        """
        planes = planes_of(picture)
        self._device.activate()
        size = picture.size if isinstance(picture, YuvPicture) else (picture.shape[0], picture.shape[1])
        geometry = self._of_size(size)
        staging = self._stage(sum(plane.nbytes for plane in planes))
        result = self._output((1, 3, self._height, self._width), self._dtype)
        addresses = staging.upload(planes)
        call = FrameCall(
            width=size[1],
            height=size[0],
            target_width=self._width,
            target_height=self._height,
            target_type=TYPES[self._dtype],
            column_taps=geometry.column_taps,
            row_taps=geometry.row_taps,
            levels=self._levels.address,
            target=result.buffer.address,
        )
        names = ("column_first", "column_weights", "row_first", "row_weights", "workspace")
        for name, buffer in zip(names, geometry.buffers, strict=True):
            setattr(call, name, buffer.address)
        for index, (plane, address) in enumerate(zip(planes, addresses, strict=True)):
            call.planes[index], call.pitches[index] = address, plane.shape[1]
        if isinstance(picture, YuvPicture):
            call.format, call.chroma_step = 1, 1
            call.matrix, call.full_range = MATRICES.index(picture.matrix), int(picture.full_range)
        self._library.prepare_frame(call, self._device.stream_address(self._streams.compute))
        staging.done()
        return result

    def _of_size(self, size: tuple[int, int]) -> _Geometry:
        if self._geometry is not None and self._geometry.size == size:
            return self._geometry
        if self._geometry is not None:
            self._device.synchronise(self._device.record(self._streams.compute))
            self._release(*self._geometry.buffers)
            self._geometry = None
        columns = self._library.resize_axis(size[1], self._width)
        rows = self._library.resize_axis(size[0], self._height)
        tables = tuple(self._constant(table) for table in (*columns, *rows))
        workspace = self._device.allocate(3 * size[0] * self._width)
        self._held.append(workspace)
        self._geometry = _Geometry(size, columns[1].shape[1], rows[1].shape[1], (*tables, workspace))
        return self._geometry


class SlicePreparer(_Preparer):
    """Slices of sound to resized log-mel (1, 1, height, width) on the GPU, as `runtime.frontend.log_mel` makes them.

    Args:
        device: the GPU.
        library: the kernels.
        upload: a stream for copies.
        compute: the stream that the results are for.
        dtype: "float32" or "float16".
        tables: of the front-end.
    """

    def __init__(
        self, device: GpuDevice, library: FrontEndLibrary, upload: Any, compute: Any, *, dtype: str, tables: SliceTables
    ) -> None:
        super().__init__(device, library, upload, compute)
        self._dtype, self._tables = dtype, tables
        phases = 2 * np.pi * np.arange(tables.fft_length) / tables.fft_length
        self._window, self._cosines, self._filters = (
            self._constant(values) for values in (tables.window, np.cos(phases), tables.filters)
        )
        self._workspace = device.allocate(4 * tables.frames * tables.filters.shape[1])
        self._held.append(self._workspace)

    def prepare(self, samples: npt.NDArray[np.float32]) -> DeviceOutput:
        """A slice's log-mel, (1, 1, height, width); for work on the compute stream it is there at once.

        Args:
            samples: (n,) mono, as many as a slice has.

        Raises:
            EngineError: the GPU has no memory left, or failed.
        """
        tables = self._tables
        self._device.activate()
        staging = self._stage(4 * tables.samples)
        result = self._output((1, 1, tables.height, tables.width), self._dtype)
        (sound,) = staging.upload((np.ascontiguousarray(samples, np.float32),))
        call = SliceCall(
            samples=tables.samples,
            frames=tables.frames,
            window_length=len(tables.window),
            hop_length=tables.hop_length,
            fft_length=tables.fft_length,
            bands=tables.filters.shape[1],
            target_width=tables.width,
            target_height=tables.height,
            target_type=TYPES[self._dtype],
            log_offset=tables.log_offset,
            sound=sound,
            window=self._window.address,
            cosines=self._cosines.address,
            filters=self._filters.address,
            workspace=self._workspace.address,
            target=result.buffer.address,
        )
        self._library.prepare_slice(call, self._device.stream_address(self._streams.compute))
        staging.done()
        return result


class FrontEnd:
    """The preparers of an engine, each made when it is first asked for.

    Args:
        device: the GPU.
        library: the kernels.
        upload: a stream for copies.
        compute: the stream that the engine works on.
    """

    def __init__(self, device: GpuDevice, library: FrontEndLibrary, upload: Any, compute: Any) -> None:
        self._parts = (device, library, upload, compute)
        self._preparers: dict[tuple[Any, ...], FramePreparer | SlicePreparer] = {}

    def frames(self, height: int, width: int, dtype: str, levels: npt.NDArray[np.float32]) -> FramePreparer:
        """A preparer of frames; see `FramePreparer`."""
        key = (height, width, dtype, levels.tobytes())
        if key not in self._preparers:
            self._preparers[key] = FramePreparer(*self._parts, height=height, width=width, dtype=dtype, levels=levels)
        preparer = self._preparers[key]
        assert isinstance(preparer, FramePreparer)
        return preparer

    def slices(self, dtype: str, tables: SliceTables) -> SlicePreparer:
        """A preparer of slices; see `SlicePreparer`."""
        key = (dtype, tables)
        if key not in self._preparers:
            self._preparers[key] = SlicePreparer(*self._parts, dtype=dtype, tables=tables)
        preparer = self._preparers[key]
        assert isinstance(preparer, SlicePreparer)
        return preparer

    def close(self) -> None:
        """Wait for what is under way, and free all memory; what the preparers gave stays."""
        for preparer in self._preparers.values():
            preparer.close()
        self._preparers.clear()
