"""The TensorRT and TensorRT-RTX back ends: engines on an NVIDIA GPU, their uploads and downloads beside their work.

A run's way: NumPy arrays into pinned memory, from there to the GPU on one stream, the engine on a second, the outputs
back on a third. Two runs may be under way (`submit`), so that one computes while the other is copied. From the second
run of a shape on, the engine's work is one captured CUDA graph; an engine that cannot be captured is run each time.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dtfsal.engines.arrays import AnyArray, Array, DeviceArray, checked_inputs, output_shape
from dtfsal.engines.bundle.folder import Bundle
from dtfsal.engines.bundle.manifest import GraphSpec
from dtfsal.engines.engine import Engine
from dtfsal.engines.errors import EngineError, UsageError
from dtfsal.engines.gpu.device import CudaCoreDevice, DeviceBuffer, GpuDevice, PinnedBuffer, RowCopy
from dtfsal.engines.gpu.output import DeviceOutput
from dtfsal.engines.native.deform_conv import load_plugin_library
from dtfsal.engines.native.frontend.library import FrontEndLibrary, installed_front_end
from dtfsal.engines.native.frontend.prepare import FramePreparer, FrontEnd, SlicePreparer
from dtfsal.engines.native.projects import DEFORM_CONV
from dtfsal.engines.native.trust import engine_libraries
from dtfsal.engines.raw_inputs import SliceTables
from dtfsal.engines.tensor_rt.checks import check_gpu, check_tensors, check_version, import_library
from dtfsal.engines.tensor_rt.contexts import Contexts
from dtfsal.engines.tensor_rt.log import make_logger

RUNS_UNDER_WAY = 2
SHAPES_HELD = 4  # of a graph with open sizes; each has an execution context, buffers and captured graphs


class Pending:
    """A run under way; made by `TensorRtEngine.submit`."""

    def __init__(self, device: GpuDevice, slot: _Slot, done: Any) -> None:
        self._device, self._slot, self._done = device, slot, done
        self._outputs: dict[str, Array] | None = None

    def result(self) -> dict[str, Array]:
        """Wait for the run, and give a new array for each output.

        Raises:
            EngineError: the GPU failed.
        """
        if self._outputs is None:
            self._device.synchronise(self._done)
            self._outputs = {
                name: pinned.bytes.view(dtype).reshape(shape).copy()
                for (name, pinned), (shape, dtype) in zip(
                    self._slot.fetched.items(), self._slot.output_types, strict=True
                )
            }
            self._slot.pending = None
        return self._outputs


@dataclasses.dataclass
class _Slot:
    """Everything that one run of a shape holds while it is under way."""

    inputs: dict[str, DeviceBuffer]
    staged: dict[str, PinnedBuffer]
    outputs: dict[str, DeviceBuffer]
    fetched: dict[str, PinnedBuffer]
    output_types: list[tuple[tuple[int, ...], np.dtype[Any]]]
    addresses: tuple[int, ...] = ()  # of the inputs of the run before
    captured_addresses: tuple[int, ...] = ()
    graph: Any = None
    pending: Pending | None = None

    def things(self) -> list[Any]:
        """All that must be released."""
        buffers = (self.inputs, self.staged, self.outputs, self.fetched)
        return [b for held in buffers for b in held.values()] + ([] if self.graph is None else [self.graph])


@dataclasses.dataclass
class _Shape:
    """A graph at certain input sizes: an execution context of its own, since captured graphs depend on its state."""

    context: Any
    slots: collections.deque[_Slot]
    capturable: bool = True


class TensorRtEngine(Engine):
    """Runs a bundle whose target is "tensorrt" or "tensorrt-rtx".

    One thread at a time may use an engine; `fork` gives another thread one of its own that shares the weights.

    Args:
        bundle: what `read_bundle` gave.
        index: which of the machine's GPUs.
        trust: run native code that the bundle brings.
        device: what stands for the GPU; one through cuda-core by default.
        module: the TensorRT library; imported by default.

    Raises:
        UnavailableError: there is no driver, no such GPU, or a library is missing.
        EngineMismatchError: the engine was built for another GPU or another version.
        EngineError: it cannot be loaded.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        index: int = 0,
        trust: bool = False,
        device: GpuDevice | None = None,
        module: Any | None = None,
    ) -> None:
        self._index = index
        self._trust = trust
        self._device: Any = device
        self._trt: Any = module
        self._contexts: dict[str, Contexts] = {}
        self._forked = False
        self._shapes: dict[tuple[Any, ...], _Shape] = {}
        self._streams: tuple[Any, ...] = ()
        self._library: FrontEndLibrary | None = None
        self._front_end: FrontEnd | None = None
        super().__init__(bundle)

    def _load(self) -> None:
        libraries = engine_libraries(self.bundle, DEFORM_CONV, trust=self._trust)
        if self.manifest.deform_conv == "plugin" and not libraries:
            raise EngineError(f"{self.bundle.path} uses a plugin and names no library that has it; build it again")
        check_gpu(self.bundle, self._index)
        trt = self._trt = self._trt or import_library(self.manifest)
        check_version(self.bundle, trt)
        if self._device is None:
            self._device = CudaCoreDevice(self._index)
        self._device.activate()
        needed = sum(record.size_bytes for record in self.manifest.files.values())
        if (free := self._device.free_bytes()) < needed:
            raise EngineError(
                f"{self.bundle.path} needs more than {needed / 2**20:.0f} MiB and the GPU {self._device.name} has "
                f"{free / 2**20:.0f} MiB left: close other programs that use it, or take another GPU"
            )
        for library in libraries:
            load_plugin_library(trt, library)
        log = make_logger(trt)
        runtime = trt.Runtime(log)
        for name, graph in self.manifest.graphs.items():
            file = self.bundle.file(graph.file)
            engine = runtime.deserialize_cuda_engine(file.read_bytes())
            if engine is None:
                raise EngineError(f"{trt.__name__} {trt.__version__} cannot load {file}: {log.last_error}")
            check_tensors(f"{file}", graph, engine, trt)
            self._contexts[name] = Contexts(trt, engine, self.manifest.files[graph.file].sha256, self._device.name)
        self._keep_alive = (log, runtime)
        self._library = self._library or installed_front_end()
        self._make_streams()

    def _make_streams(self) -> None:
        self._streams = tuple(self._device.stream() for _ in range(3))
        self._front_end = None
        if self._library is not None:
            self._front_end = FrontEnd(self._device, self._library, *self._streams[:2])

    def fork(self) -> TensorRtEngine:
        """Another engine with the same weights on the same GPU, for another thread. Close it before this one.

        Raises:
            UsageError: the engine is closed.
        """
        if not self._open:
            raise UsageError(f"the engine {self.bundle.path} is closed; open it again with open_engine")
        other = TensorRtEngine.__new__(TensorRtEngine)
        other.bundle, other._index, other._device, other._trt = self.bundle, self._index, self._device, self._trt
        other._contexts, other._shapes, other._keep_alive = dict(self._contexts), {}, self._keep_alive
        other._forked = True
        other._library = self._library
        other._make_streams()
        other._open = True
        return other

    def submit(self, inputs: Mapping[str, AnyArray], *, graph: str = "window") -> Pending:
        """Start a run and return at once; as `run` otherwise. Two may be under way, a third waits for the first.

        Arrays in the host's memory may be changed when this returns; arrays on the GPU when the run is done.
        """
        return self._submit(graph, checked_inputs(self._graph(graph), inputs))

    def run_on_device(self, inputs: Mapping[str, AnyArray], *, graph: str = "window") -> dict[str, DeviceOutput]:
        """As `run`, with outputs that stay on the GPU and belong to the caller."""
        spec = self._graph(graph)
        arrays = checked_inputs(spec, inputs)
        self._device.activate()
        shape = self._shape(graph, arrays)
        slot = shape.slots[0]
        outputs = {
            tensor.name: DeviceOutput(sizes, dtype, self._device.allocate(_bytes(sizes, dtype), self._streams[1]))
            for tensor, (sizes, dtype) in zip(spec.outputs, slot.output_types, strict=True)
        }
        if slot.pending is not None:
            slot.pending.result()
        addresses = {name: output.buffer.address for name, output in outputs.items()}
        self._upload(slot, arrays)
        self._execute(shape.context, slot, arrays, addresses, self._streams[1])
        self._device.synchronise(self._device.record(self._streams[1]))
        return outputs

    def run_kept(self, inputs: Mapping[str, AnyArray], *, graph: str = "window") -> dict[str, Any]:
        """See `Engine.run_kept`."""
        return dict(self.run_on_device(inputs, graph=graph))

    def keep(self, array: Array) -> DeviceOutput:
        """See `Engine.keep`."""
        kept = self.empty(array.shape, array.dtype.name)
        staged = self._device.pin(array.nbytes)
        staged.bytes[...] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self._device.upload(kept.buffer, staged, self._streams[1])
        self._device.synchronise(self._device.record(self._streams[1]))
        self._device.release(staged)
        return kept

    def empty(self, shape: tuple[int, ...], dtype: str) -> DeviceOutput:
        """See `Engine.empty`."""
        self._device.activate()
        kind = np.dtype(dtype)
        return DeviceOutput(tuple(shape), kind, self._device.allocate(_bytes(tuple(shape), kind), self._streams[1]))

    def frame_preparer(self, graph: str, levels: npt.NDArray[np.float32]) -> FramePreparer | None:
        """See `Engine.frame_preparer`."""
        tensor = self._graph(graph).inputs[0]
        if self._front_end is None:
            return None
        height, width = tensor.shape[-2:]
        return self._front_end.frames(height, width, tensor.dtype, levels)

    def slice_preparer(self, graph: str, name: str, tables: SliceTables) -> SlicePreparer | None:
        """See `Engine.slice_preparer`."""
        (tensor,) = (tensor for tensor in self._graph(graph).inputs if tensor.name == name)
        return None if self._front_end is None else self._front_end.slices(tensor.dtype, tables)

    def place(self, target: DeviceOutput, source: DeviceOutput, *, axis: int, index: int) -> None:
        """See `Engine.place`."""
        rows = int(np.prod(target.shape[:axis], dtype=np.int64))
        width = _bytes(target.shape[axis + 1 :], target.dtype)
        pitch = target.shape[axis] * width
        if source.buffer.size != rows * width or not 0 <= index < target.shape[axis]:
            raise UsageError(f"{source.shape} does not fit at {index} of axis {axis} of {target.shape}")
        copy = RowCopy(target.buffer.address + index * width, pitch, source.buffer.address, width, width, rows)
        self._device.copy_rows(copy, self._streams[1])

    def _run(self, graph: str, inputs: dict[str, Array | DeviceArray]) -> dict[str, Array]:
        return self._submit(graph, inputs).result()

    def _submit(self, graph: str, inputs: dict[str, Array | DeviceArray]) -> Pending:
        device, (_, compute, download) = self._device, self._streams
        device.activate()
        shape = self._shape(graph, inputs)
        slot = shape.slots[0]
        shape.slots.rotate(-1)
        if slot.pending is not None:
            slot.pending.result()  # its arrays are needed now; it keeps a copy
        self._upload(slot, inputs)
        outputs = {name: buffer.address for name, buffer in slot.outputs.items()}
        addresses = tuple(_address(slot, name, array) for name, array in inputs.items())
        replayed = slot.graph is not None and addresses == slot.captured_addresses
        if not replayed and shape.capturable and addresses == slot.addresses:
            replayed = self._captured(shape, slot, inputs, outputs, addresses)
        if replayed:
            device.launch(slot.graph, compute)
        else:
            self._execute(shape.context, slot, inputs, outputs, compute)
        slot.addresses = addresses
        device.wait(download, device.record(compute))
        for name, pinned in slot.fetched.items():
            device.download(pinned, slot.outputs[name], download)
        slot.pending = Pending(device, slot, device.record(download))
        return slot.pending

    def _captured(
        self,
        shape: _Shape,
        slot: _Slot,
        inputs: Mapping[str, Array | DeviceArray],
        outputs: Mapping[str, int],
        addresses: tuple[int, ...],
    ) -> bool:
        """Whether the slot's graph is now one of a run with these addresses; if not, this shape is not tried again.

        Not at the first run with some addresses: the library then allocates and chooses, which a captured graph cannot,
        and foreign arrays may never be seen again.
        """
        device, compute = self._device, self._streams[1]
        if slot.graph is not None:
            device.release(slot.graph)
            slot.graph = None
        # TensorRT-RTX says whether a context can be captured; TensorRT tells by failing.
        ask = getattr(shape.context, "is_stream_capturable", None)
        shape.capturable = ask is None or bool(ask(device.stream_address(compute)))
        if shape.capturable:
            try:
                slot.graph = device.capture(
                    compute, lambda stream: self._execute(shape.context, slot, inputs, outputs, stream)
                )
                slot.captured_addresses = addresses
            except EngineError:
                shape.capturable = False
        return shape.capturable

    def _upload(self, slot: _Slot, inputs: Mapping[str, Array | DeviceArray]) -> None:
        """Host arrays to the slot's memory; what the compute stream is given from now on comes after it."""
        upload, compute, _ = self._streams
        copied = False
        for name, array in inputs.items():
            if isinstance(array, np.ndarray):
                slot.staged[name].bytes[...] = array.reshape(-1).view(np.uint8)
                self._device.upload(slot.inputs[name], slot.staged[name], upload)
                copied = True
        if copied:
            self._device.wait(compute, self._device.record(upload))

    def _execute(
        self,
        context: Any,
        slot: _Slot,
        inputs: Mapping[str, Array | DeviceArray],
        outputs: Mapping[str, int],
        stream: Any,
    ) -> None:
        for name, array in inputs.items():
            context.set_tensor_address(name, _address(slot, name, array))
        for name, address in outputs.items():
            context.set_tensor_address(name, address)
        if not context.execute_async_v3(self._device.stream_address(stream)):
            raise EngineError(f"{self.bundle.path}: the GPU refused a run: {self._keep_alive[0].last_error}")

    def _shape(self, graph: str, inputs: Mapping[str, Array | DeviceArray]) -> _Shape:
        """The context and the memory for these input sizes; the sizes unused for longest make room."""
        key = (graph, *(array.shape for array in inputs.values()))
        if key in self._shapes:
            self._shapes[key] = self._shapes.pop(key)  # used last
            return self._shapes[key]
        held = [old for old in self._shapes if old[0] == graph]
        if len(held) >= SHAPES_HELD:
            self._free(self._shapes.pop(held[0]))
        spec = self.manifest.graphs[graph]
        context = self._contexts[graph].create()
        if context is None:
            raise EngineError(
                f"{self.bundle.path}: the GPU {self._device.name} has no memory left to run the graph {graph!r}: "
                f"{self._keep_alive[0].last_error}"
            )
        for name, array in inputs.items():
            if not context.set_input_shape(name, array.shape):
                raise UsageError(
                    f"{self.bundle.path} was not built for an input {name!r} of {array.shape}; build it with a larger "
                    "batch"
                )
        slots = collections.deque(self._slot(spec, inputs, context) for _ in range(RUNS_UNDER_WAY))
        self._shapes[key] = _Shape(context, slots)
        return self._shapes[key]

    def _slot(self, spec: GraphSpec, inputs: Mapping[str, Array | DeviceArray], context: Any) -> _Slot:
        sizes = {name: _bytes(array.shape, array.dtype) for name, array in inputs.items()}
        types = []
        for tensor in spec.outputs:
            shape = output_shape(spec, tensor, inputs)
            types.append((tuple(shape or context.get_tensor_shape(tensor.name)), np.dtype(tensor.dtype)))
        made = {tensor.name: _bytes(*kind) for tensor, kind in zip(spec.outputs, types, strict=True)}
        device = self._device
        return _Slot(
            {name: device.allocate(size) for name, size in sizes.items()},
            {name: device.pin(size) for name, size in sizes.items()},
            {name: device.allocate(size) for name, size in made.items()},
            {name: device.pin(size) for name, size in made.items()},
            types,
        )

    def _free(self, shape: _Shape) -> None:
        for slot in shape.slots:
            if slot.pending is not None:
                slot.pending.result()
            self._device.release(*slot.things())

    def _close(self) -> None:
        for shape in self._shapes.values():
            self._free(shape)
        self._shapes.clear()
        if not self._forked:
            for contexts in self._contexts.values():
                contexts.save()
        self._contexts.clear()
        if self._front_end is not None:
            self._front_end.close()
            self._front_end = None
        if self._device is not None:
            self._device.release(*self._streams)
        self._streams = ()

    def _describe_backend(self) -> dict[str, Any]:
        return {
            "name": self._trt.__name__,
            "version": str(self._trt.__version__),
            "device": "cuda",
            "gpu": self._device.name,
            "front_end": "GPU" if self._front_end is not None else "CPU",
            "index": self._index,
            "providers": [],
            "threads": 0,
            "captured_graphs": sum(slot.graph is not None for shape in self._shapes.values() for slot in shape.slots),
        }


def _address(slot: _Slot, name: str, array: Array | DeviceArray) -> int:
    return array.pointer if isinstance(array, DeviceArray) else slot.inputs[name].address


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
