"""A very small audio-visual model as an engine bundle, and a pretended GPU that runs it as late as events allow.

Work that a stream has been given is done only when somebody waits for it, and then no more than what was waited for.
So a copy or a run that its events do not order is not done in time, and the maps are wrong.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dtfsal.engines import AudioSpec, ClipSpec, GraphSpec, Manifest, TensorSpec, read_bundle, write_bundle
from dtfsal.engines.errors import EngineError
from dtfsal.engines.gpu.device import DeviceBuffer, PinnedBuffer
from dtfsal.engines.gpu.driver import GpuDriver
from dtfsal.engines.tensor_rt import checks as tensorrt_checks

DRIVER = GpuDriver("13.0", (("Card", "9.0"), ("Small card", "8.6")))
VERSION = "11.4.0.106"
CLIP = ClipSpec(frames=2, height=4, width=6)
AUDIO = AudioSpec(slices=9, height=2, width=3)


def window_graph(batch: int) -> GraphSpec:
    return GraphSpec(
        "model.onnx",
        (
            TensorSpec("video", "float32", (batch, 3, 2, 4, 6), description="normalised RGB"),
            TensorSpec("audio", "float32", (batch, 9, 1, 2, 3), description="log-mel"),
        ),
        (TensorSpec("saliency_map", "float32", (batch, 1, 4, 6), 0.0, 1.0),),
    )


def build_manifest(batch: int = -1) -> Manifest:
    return Manifest(
        model_name="mean",
        model_config={"widths": (1, 2), "dropout": 0.5, "name": "mean"},
        weights={"source": "none", "sha256": None},
        clip=CLIP,
        audio=AUDIO,
        graphs={"window": window_graph(batch)},
        target="onnxruntime",
        precision="fp32",
        deform_conv="none",
        builder="onnx.helper",
        builder_version=onnx.__version__,
        created_by="dtfsal tests",
    )


def build_model(batch: int | str = "batch", video_type: int = TensorProto.FLOAT, video_name: str = "video"):
    """sigmoid(mean of the video over channels and time + mean of the sound): (B, 1, 4, 6)."""
    nodes = [
        helper.make_node("Cast", [video_name], ["v32"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["v32", "video_axes"], ["v"], keepdims=0),  # (B, 4, 6)
        helper.make_node("Unsqueeze", ["v", "one"], ["v4"]),  # (B, 1, 4, 6)
        helper.make_node("ReduceMean", ["audio", "audio_axes"], ["a"], keepdims=0),  # (B, 1)
        helper.make_node("Unsqueeze", ["a", "two_three"], ["a4"]),  # (B, 1, 1, 1)
        helper.make_node("Add", ["v4", "a4"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["saliency_map"]),
    ]
    constants = {"video_axes": [1, 2], "one": [1], "audio_axes": [1, 3, 4], "two_three": [2, 3]}
    graph = helper.make_graph(
        nodes,
        "mean",
        [
            helper.make_tensor_value_info(video_name, video_type, [batch, 3, 2, 4, 6]),
            helper.make_tensor_value_info("audio", TensorProto.FLOAT, [batch, 9, 1, 2, 3]),
        ],
        [helper.make_tensor_value_info("saliency_map", TensorProto.FLOAT, [batch, 1, 4, 6])],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    onnx.checker.check_model(model)
    return model


@pytest.fixture
def manifest() -> Manifest:
    return build_manifest()


@pytest.fixture
def tiny_manifest() -> Callable[..., Manifest]:
    """`build_manifest`, as a function that takes the batch size."""
    return build_manifest


@pytest.fixture
def tiny_model() -> Callable[..., onnx.ModelProto]:
    """`build_model`, as a function that takes its variations."""
    return build_model


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Make a bundle in a new folder from a model and a manifest; the tiny ones by default."""
    made: list[Path] = []

    def make(model: onnx.ModelProto | bytes | None = None, manifest: Manifest | None = None) -> Path:
        source = tmp_path / f"model{len(made)}.onnx"
        model = build_model() if model is None else model
        source.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        folder = tmp_path / f"engine{len(made)}"
        made.append(folder)
        write_bundle(folder, build_manifest() if manifest is None else manifest, {"model.onnx": source})
        return folder

    return make


@pytest.fixture
def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "video": rng.standard_normal((2, 3, 2, 4, 6), dtype=np.float32),
        "audio": rng.standard_normal((2, 9, 1, 2, 3), dtype=np.float32),
    }


class PretendedStream:
    def __init__(self, address):
        self.address, self.work, self.done = address, [], 0


class PretendedGpu:
    """A `GpuDevice` in NumPy; it is also where the pretended library looks up addresses and streams."""

    name = "Card"

    def __init__(self, free=2**30):
        self.free, self.memory, self.streams, self.allocations = free, {}, {}, 0
        self.live, self.capturing, self.uploaded = set(), None, []
        self.captures, self.no_capture, self.ordered = 0, False, {}
        self._addresses = itertools.count(2**20, 2**20)

    def activate(self):
        pass

    def free_bytes(self):
        return self.free

    def allocate(self, size, stream=None):
        buffer = self._new(DeviceBuffer, size)
        self.ordered[buffer.address] = stream
        return buffer

    def pin(self, size):
        address, handle = self._memory(size)
        return PinnedBuffer(self.memory[address], handle)

    def stream(self):
        stream = PretendedStream(next(self._addresses))
        self.streams[stream.address] = stream
        self.live.add(id(stream))
        return stream

    def stream_address(self, stream):
        return stream.address

    def upload(self, target, source, stream):
        self.uploaded.append(target.size)
        self.queue(stream, lambda: np.copyto(self.memory[target.address], source.bytes))

    def download(self, target, source, stream):
        self.queue(stream, lambda: np.copyto(target.bytes, self.memory[source.address]))

    def copy_rows(self, copy, stream):
        def work():
            for row in range(copy.rows):
                source = self._place(copy.source + row * copy.source_pitch, copy.width)
                self._place(copy.target + row * copy.target_pitch, copy.width)[...] = source

        self.queue(stream, work)

    def _place(self, address, size):
        base = max(start for start in self.memory if 0 < start <= address)
        part = self.memory[base][address - base : address - base + size]
        assert part.size == size, "past the end of the memory"
        return part

    def record(self, stream):
        return stream, len(stream.work)

    def wait(self, stream, event):
        self.queue(stream, lambda: self.synchronise(event))

    def synchronise(self, event):
        stream, position = event
        while stream.done < position:
            stream.done += 1
            stream.work[stream.done - 1]()

    def capture(self, stream, work):
        self.captures += 1
        self.capturing = []
        try:
            work(stream)
        finally:
            graph, self.capturing = self.capturing, None
        if self.no_capture:
            raise EngineError("a run could not be captured as a CUDA graph")
        self.live.add(id(graph))
        return graph

    def launch(self, graph, stream):
        for work in graph:
            self.queue(stream, work)

    def release(self, *things):
        for thing in things:
            self.live.remove(id(thing.handle if hasattr(thing, "handle") else thing))

    def queue(self, stream, work):
        (stream.work if self.capturing is None else self.capturing).append(work)

    def _new(self, kind, size):
        address, handle = self._memory(size)
        return kind(address, size, handle)

    def _memory(self, size):
        self.allocations += 1
        memory, handle = np.full(max(size, 1), 0xFF, np.uint8)[:size], object()
        address = memory.ctypes.data  # real, so that code of ours in C can be pretended to run there, too
        self.memory[address] = memory
        self.live.add(id(handle))
        self.memory[-address] = handle  # kept, so that its id stays its own
        return address, handle


class PretendedTensorRt:
    """A module like `tensorrt` whose engines are JSON and compute sigmoid(mean of the video + mean of the sound)."""

    __name__, __version__ = "tensorrt", VERSION

    class ILogger:
        class Severity:
            ERROR, INTERNAL_ERROR = range(2)

    class TensorIOMode:
        INPUT, OUTPUT = range(2)

    def __init__(self, gpu):
        self.gpu, self.refuse, self.no_context, self.contexts, self.loaded = gpu, False, False, 0, []
        self.refuse_capture, self.configs, self.given = False, [], []

    def get_plugin_registry(self):
        return self

    def get_creator(self, *_):
        return self.loaded[-1] if self.loaded else None

    def load_library(self, path):
        self.loaded.append(path)
        return object()

    def Runtime(self, log):  # noqa: N802 - TensorRT's name
        return PretendedRuntime(self, log)


class PretendedRuntime:
    def __init__(self, trt, log):
        self.trt, self.log = trt, log

    def deserialize_cuda_engine(self, data):
        if data == b"broken":
            self.log.log(self.trt.ILogger.Severity.ERROR, " the file is damaged\n")
            return None
        return PretendedEngine(self.trt, json.loads(data))


class PretendedEngine:
    def __init__(self, trt, tensors):
        self.trt, self.tensors, self.names = trt, tensors, list(tensors)
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, index):
        return self.names[index]

    def get_tensor_shape(self, name):
        return tuple(self.tensors[name]["shape"])

    def get_tensor_dtype(self, name):
        return type("DataType", (), {"name": self.tensors[name]["type"]})

    def get_tensor_mode(self, name):
        return self.tensors[name]["mode"]

    def create_execution_context(self, config=None):
        self.trt.contexts += 1
        self.trt.configs.append(config)
        return None if self.trt.no_context else PretendedContext(self)

    def create_runtime_config(self):
        return PretendedConfig(self.trt)


class PretendedConfig:
    """TensorRT-RTX's configuration of contexts; what the library compiles is the name of its version."""

    def __init__(self, trt):
        self.trt, self.cache = trt, None
        self.dynamic_shapes_kernel_specialization_strategy = "LAZY"

    def create_runtime_cache(self):
        return self

    def deserialize(self, content):
        self.trt.given.append(content)
        return content == self.serialize()

    def serialize(self):
        return f"compiled by {self.trt.__version__}".encode()

    def set_runtime_cache(self, cache):
        self.cache = cache


class PretendedContext:
    def __init__(self, engine):
        self.engine, self.addresses, self.shapes = engine, {}, {}
        if hasattr(engine.trt, "is_stream_capturable"):
            self.is_stream_capturable = engine.trt.is_stream_capturable

    def set_input_shape(self, name, shape):
        self.shapes[name] = shape
        return shape[0] <= 8

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        trt, gpu, bound, shapes = self.engine.trt, self.engine.trt.gpu, dict(self.addresses), dict(self.shapes)

        def work():
            video, audio = (gpu.memory[bound[n]].view(np.float32).reshape(shapes[n]) for n in ("video", "audio"))
            gpu.memory[bound["saliency_map"]][...] = mean_map(video, audio).reshape(-1).view(np.uint8)

        gpu.queue(gpu.streams[stream], work)
        return not (trt.refuse or (trt.refuse_capture and gpu.capturing is not None))


def mean_map(video, audio):
    """What the model of this file computes."""
    sums = video.mean(axis=(1, 2)) + audio.mean(axis=(1, 2, 3, 4))[:, None, None]
    return (1 / (1 + np.exp(-sums)))[:, None].astype(np.float32)


@pytest.fixture
def gpu():
    return PretendedGpu()


@pytest.fixture
def trt(gpu):
    return PretendedTensorRt(gpu)


@pytest.fixture
def make_trt_bundle(tmp_path, tiny_manifest, monkeypatch):
    """(changes of the manifest) -> a bundle; the machine has two GPUs."""
    monkeypatch.setattr(tensorrt_checks, "find_gpu_driver", lambda: DRIVER)
    numbers = itertools.count()

    def make(batch=-1, content=None, types=None, files=None, **changes):
        manifest = tiny_manifest(batch)
        spec = manifest.graphs["window"]
        tensors = {
            tensor.name: {"shape": tensor.shape, "type": (types or {}).get(tensor.name, "FLOAT"), "mode": mode}
            for mode, specs in enumerate((spec.inputs, spec.outputs))
            for tensor in specs
        }
        folder = tmp_path / f"source{next(numbers)}"
        folder.mkdir()
        (folder / "model.engine").write_bytes(content or json.dumps(tensors).encode())
        sources = {"model.engine": folder / "model.engine"}
        for name in files or ():
            sources[name] = folder / name
            sources[name].write_text("a library")
        values = {"target": "tensorrt", "builder": "tensorrt", "builder_version": VERSION, "precision": "fp16"}
        values["graphs"] = {"window": dataclasses.replace(spec, file="model.engine")}
        path = tmp_path / f"bundle{next(numbers)}"
        write_bundle(path, dataclasses.replace(manifest, **(values | changes)), sources)
        return read_bundle(path)

    return make


@pytest.fixture
def onnx_bundle(tmp_path, tiny_model, tiny_manifest):
    """The same model for ONNX Runtime."""
    (tmp_path / "model.onnx").write_bytes(tiny_model().SerializeToString())
    write_bundle(tmp_path / "onnx", tiny_manifest(), {"model.onnx": tmp_path / "model.onnx"})
    return tmp_path / "onnx"
