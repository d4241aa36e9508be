"""A GPU through cuda-core: memory, streams, events and captured graphs, as little of it as an engine needs.

Why cuda-core and not PyCUDA: it is NVIDIA's own binding, comes as wheels, imports without a driver, uses the GPU's
primary context, which PyTorch and CuPy share, and takes and gives arrays by DLPack. PyCUDA is built from source against
the machine's toolkit and driver, and makes contexts of its own. PyCUDA's arrays are taken all the same, as any with a
`__cuda_array_interface__`.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import EngineError, UnavailableError
from dtfsal.engines.gpu.driver import CUDA_LIBRARY

INSTALL = "pip install 'dtfsal[tensorrt-rtx]'"


@dataclasses.dataclass(frozen=True)
class DeviceBuffer:
    """Memory on the GPU.

    Attributes:
        address: of its first byte.
        size: in bytes.
        handle: what owns it; the memory lives as long.
    """

    address: int
    size: int
    handle: Any


@dataclasses.dataclass(frozen=True)
class PinnedBuffer:
    """Host memory that the GPU copies from and to by itself.

    Attributes:
        bytes: (n,) uint8 view of it.
        handle: what owns it; the memory lives as long.
    """

    bytes: npt.NDArray[np.uint8]
    handle: Any


@dataclasses.dataclass(frozen=True)
class RowCopy:
    """Rows that lie apart in the source, the target, or both.

    Attributes:
        target: address of the first row's place.
        target_pitch: bytes from one row to the next there.
        source: address of the first row.
        source_pitch: bytes from one row to the next there.
        width: bytes of a row.
        rows: how many.
    """

    target: int
    target_pitch: int
    source: int
    source_pitch: int
    width: int
    rows: int


class GpuDevice(Protocol):
    """What an engine asks of a GPU. Copies and launches are queued on a stream and return at once."""

    @property
    def name(self) -> str:
        """The GPU's name."""
        ...

    def activate(self) -> None:
        """Make it the calling thread's GPU."""
        ...

    def free_bytes(self) -> int:
        """Memory that nobody uses."""
        ...

    def allocate(self, size: int, stream: Any = None) -> DeviceBuffer:
        """Memory on the GPU. Raises EngineError where none is left.

        With a stream, only what that stream is given may use it. Whenever it is dropped, it is freed after the work
        that the stream has by then. Without one, any stream may use it, and it is dropped when its work is done.
        """
        ...

    def pin(self, size: int) -> PinnedBuffer:
        """Pinned host memory."""
        ...

    def stream(self) -> Any:
        """A new stream, which runs beside others."""
        ...

    def stream_address(self, stream: Any) -> int:
        """What other libraries know a stream by."""
        ...

    def upload(self, target: DeviceBuffer, source: PinnedBuffer, stream: Any) -> None:
        """Copy all of `source`, which is as large as `target`, to the GPU."""
        ...

    def download(self, target: PinnedBuffer, source: DeviceBuffer, stream: Any) -> None:
        """Copy all of `source` to the host."""
        ...

    def copy_rows(self, copy: RowCopy, stream: Any) -> None:
        """Copy equally long rows within the GPU's memory."""
        ...

    def record(self, stream: Any) -> Any:
        """An event: all that the stream has been given so far."""
        ...

    def wait(self, stream: Any, event: Any) -> None:
        """What the stream is given from now on comes after the event."""
        ...

    def synchronise(self, event: Any) -> None:
        """Wait for an event on the host."""
        ...

    def capture(self, stream: Any, work: Callable[[Any], None]) -> Any:
        """A graph of what `work` queues on the stream that it is given, which is not executed meanwhile.

        Raises EngineError where that cannot be captured; the stream then takes work as before.
        """
        ...

    def launch(self, graph: Any, stream: Any) -> None:
        """Execute a captured graph."""
        ...

    def release(self, *things: Any) -> None:
        """Free buffers, streams and graphs; their work is done."""
        ...


class _Memcpy2D(ctypes.Structure):
    """CUDA_MEMCPY2D of the driver's interface."""

    _fields_ = (
        ("srcXInBytes", ctypes.c_size_t),
        ("srcY", ctypes.c_size_t),
        ("srcMemoryType", ctypes.c_int),
        ("srcHost", ctypes.c_void_p),
        ("srcDevice", ctypes.c_uint64),
        ("srcArray", ctypes.c_void_p),
        ("srcPitch", ctypes.c_size_t),
        ("dstXInBytes", ctypes.c_size_t),
        ("dstY", ctypes.c_size_t),
        ("dstMemoryType", ctypes.c_int),
        ("dstHost", ctypes.c_void_p),
        ("dstDevice", ctypes.c_uint64),
        ("dstArray", ctypes.c_void_p),
        ("dstPitch", ctypes.c_size_t),
        ("WidthInBytes", ctypes.c_size_t),
        ("Height", ctypes.c_size_t),
    )


class CudaCoreDevice:
    """A `GpuDevice` of an NVIDIA GPU.

    Args:
        index: which of the machine's GPUs.

    Raises:
        UnavailableError: cuda-core is not installed, or there is no such GPU.
    """

    def __init__(self, index: int) -> None:
        try:
            import cuda.core as core
        except ImportError as error:
            raise UnavailableError(f"running on a GPU needs cuda-core, which is not installed: {INSTALL}") from error
        self._driver = ctypes.CDLL(CUDA_LIBRARY)
        with _cuda_errors(f"GPU {index} cannot be used"):
            self._device = core.Device(index)
            self._device.set_current()
            self._pinned = core.LegacyPinnedMemoryResource()
            self._memory_stream = self._device.create_stream()

    @property
    def name(self) -> str:
        """See `GpuDevice`."""
        return str(self._device.name)

    def activate(self) -> None:
        """See `GpuDevice`."""
        self._device.set_current()

    def free_bytes(self) -> int:
        """See `GpuDevice`."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        if self._driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)):
            raise EngineError(f"the GPU {self.name} does not report its free memory")
        return free.value

    def allocate(self, size: int, stream: Any = None) -> DeviceBuffer:
        """See `GpuDevice`. A buffer of cuda-core is freed on the stream that it was allocated on."""
        with _cuda_errors(f"the GPU {self.name} cannot hold {size / 2**20:.0f} MiB more"):
            buffer = self._device.allocate(max(size, 1), stream=self._memory_stream if stream is None else stream)
            if stream is None:
                self._memory_stream.sync()  # from now on any stream may use it
            return DeviceBuffer(int(buffer.handle), size, buffer)

    def pin(self, size: int) -> PinnedBuffer:
        """See `GpuDevice`."""
        with _cuda_errors(f"{size / 2**20:.0f} MiB of host memory cannot be pinned"):
            buffer = self._pinned.allocate(max(size, 1))
        view = np.ctypeslib.as_array((ctypes.c_uint8 * max(size, 1)).from_address(int(buffer.handle)))
        return PinnedBuffer(view[:size], buffer)

    def stream(self) -> Any:
        """See `GpuDevice`."""
        return self._device.create_stream()

    def stream_address(self, stream: Any) -> int:
        """See `GpuDevice`."""
        return int(stream.handle)

    def upload(self, target: DeviceBuffer, source: PinnedBuffer, stream: Any) -> None:
        """See `GpuDevice`."""
        with _cuda_errors("an input could not be copied to the GPU"):
            target.handle.copy_from(source.handle, stream=stream)

    def download(self, target: PinnedBuffer, source: DeviceBuffer, stream: Any) -> None:
        """See `GpuDevice`."""
        with _cuda_errors("an output could not be copied from the GPU"):
            source.handle.copy_to(target.handle, stream=stream)

    def copy_rows(self, copy: RowCopy, stream: Any) -> None:
        """See `GpuDevice`."""
        device = 2  # CU_MEMORYTYPE_DEVICE
        params = _Memcpy2D(
            srcMemoryType=device,
            srcDevice=copy.source,
            srcPitch=copy.source_pitch,
            dstMemoryType=device,
            dstDevice=copy.target,
            dstPitch=copy.target_pitch,
            WidthInBytes=copy.width,
            Height=copy.rows,
        )
        # cuda-core copies whole buffers only; this is the driver's own call.
        if code := self._driver.cuMemcpy2DAsync_v2(ctypes.byref(params), ctypes.c_void_p(int(stream.handle))):
            raise EngineError(f"the GPU {self.name} refused a copy within its memory (CUDA error {code})")

    def record(self, stream: Any) -> Any:
        """See `GpuDevice`."""
        return stream.record()

    def wait(self, stream: Any, event: Any) -> None:
        """See `GpuDevice`."""
        stream.wait(event)

    def synchronise(self, event: Any) -> None:
        """See `GpuDevice`."""
        with _cuda_errors("the GPU failed in a run"):
            event.sync()

    def capture(self, stream: Any, work: Callable[[Any], None]) -> Any:
        """See `GpuDevice`."""
        with _cuda_errors("a run could not be captured as a CUDA graph"):
            builder = stream.create_graph_builder()
            try:
                builder.begin_building(mode="thread_local")
                try:
                    work(builder.stream)
                finally:
                    builder.end_building()  # whatever became of it: until then the stream takes no other work
                return builder.complete()
            finally:
                builder.close()

    def launch(self, graph: Any, stream: Any) -> None:
        """See `GpuDevice`."""
        with _cuda_errors("the GPU refused a run"):
            graph.launch(stream)

    def release(self, *things: Any) -> None:
        """See `GpuDevice`."""
        for thing in things:
            handle = thing.handle if isinstance(thing, DeviceBuffer | PinnedBuffer) else thing
            handle.close()


@contextlib.contextmanager
def _cuda_errors(what: str) -> Iterator[None]:
    """CUDA's errors as ours: `what` went wrong, with CUDA's own name of the cause."""
    try:
        yield
    except (EngineError, UnavailableError):
        raise
    except Exception as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        remedy = ""
        if "OUT_OF_MEMORY" in text:
            remedy = "; close other programs that use the GPU, or use a smaller batch or precision"
        elif "INSUFFICIENT_DRIVER" in text or "SYSTEM_DRIVER_MISMATCH" in text:
            remedy = "; upgrade NVIDIA's driver"
        raise EngineError(f"{what} ({text}){remedy}") from error
