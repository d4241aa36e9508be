import dataclasses
import json
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dtfsal.engines import (
    GraphSpec,
    TensorSpec,
    UnavailableError,
    UsageError,
    open_engine,
    read_bundle,
    write_bundle,
)
from dtfsal.engines.gpu.driver import GpuDriver
from dtfsal.engines.onnx_runtime import engine as backend

# Single-precision means of 48 values and a sigmoid: a few units in the last place (6e-8) of values below 1.
TOLERANCE = 1e-6


@pytest.fixture
def engine(make_bundle):
    with open_engine(make_bundle(), device="cpu", threads=1) as engine:
        yield engine


def reference(video: np.ndarray, audio: np.ndarray) -> np.ndarray:
    """What the tiny model computes, in float64."""
    sound = audio.astype(np.float64).mean((1, 2, 3, 4))[:, None, None, None]
    return 1 / (1 + np.exp(-(video.astype(np.float64).mean((1, 2))[:, None] + sound)))


def test_run_equals_the_reference(engine, inputs):
    outputs = engine.run(inputs)
    assert list(outputs) == ["saliency_map"]
    assert outputs["saliency_map"].dtype == np.float32
    assert outputs["saliency_map"].shape == (2, 1, 4, 6)
    np.testing.assert_allclose(outputs["saliency_map"], reference(**inputs), rtol=0, atol=TOLERANCE)


def test_any_batch_size(engine, inputs):
    for batch in (1, 2, 5):
        fed = {name: np.repeat(array[:1], batch, axis=0) for name, array in inputs.items()}
        result = engine.run(fed)["saliency_map"]
        np.testing.assert_allclose(result, reference(**fed), rtol=0, atol=TOLERANCE)


def test_inputs_that_are_not_contiguous_are_copied(engine, inputs):
    flipped = {**inputs, "video": inputs["video"][..., ::-1]}
    np.testing.assert_allclose(engine.run(flipped)["saliency_map"], reference(**flipped), rtol=0, atol=TOLERANCE)


def test_read_only_inputs(engine, inputs):
    for array in inputs.values():
        array.flags.writeable = False
    engine.run(inputs)


def test_outputs_belong_to_the_caller(engine, inputs):
    first = engine.run(inputs)["saliency_map"]
    kept = first.copy()
    other = {**inputs, "video": inputs["video"] + 1}
    second = engine.run(other)["saliency_map"]
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)
    second[:] = 7
    np.testing.assert_array_equal(engine.run(inputs)["saliency_map"], kept)


def test_inputs_are_neither_kept_nor_changed(engine, inputs):
    before = {name: array.copy() for name, array in inputs.items()}
    counts = {name: sys.getrefcount(array) for name, array in inputs.items()}
    engine.run(inputs)
    assert {name: sys.getrefcount(array) for name, array in inputs.items()} == counts
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"audio": None}, r"takes the inputs video, audio, not video$"),
        ({"sound": 1}, r"takes the inputs video, audio, not video, audio, sound"),
        ({"video": lambda x: x.astype(np.float64)}, r"input 'video' must be float32, not float64"),
        ({"video": lambda x: x.astype(">f4")}, r"input 'video' must be float32, not >f4"),
        ({"video": lambda x: (x * 0).astype(np.uint8)}, r"input 'video' must be float32, not uint8"),
        ({"video": lambda x: x[0]}, r"'video' must have shape \(any, 3, 2, 4, 6\), not \(3, 2, 4, 6\)"),
        ({"video": lambda x: x[..., :5]}, r"'video' must have shape \(any, 3, 2, 4, 6\), not \(2, 3, 2, 4, 5\)"),
        ({"video": lambda x: x[:0]}, r"'video' must have shape \(any, 3, 2, 4, 6\), not \(0, 3, 2, 4, 6\)"),
        ({"video": lambda x: x[:1]}, r"the batch\) must agree, not video 1, audio 2"),
        ({"video": lambda x: x.tolist()}, r"'video' must be a NumPy array, or one that DLPack shares, not a list"),
    ],
)
def test_wrong_inputs_are_one_sentence(engine, inputs, change, message):
    for name, how in change.items():
        if how is None:
            del inputs[name]
        else:
            inputs[name] = how(inputs[name]) if callable(how) else how
    with pytest.raises(UsageError, match=message):
        engine.run(inputs)


def test_no_inputs(engine):
    with pytest.raises(UsageError, match="not none"):
        engine.run({})


def test_unknown_graph(engine, inputs):
    with pytest.raises(UsageError, match="no graph 'frame_encoder'; it has window"):
        engine.run(inputs, graph="frame_encoder")


class OnGpu:
    """An array as a GPU library shows it; nothing reads its address here."""

    def __init__(self, shape, typestr="<f4", strides=None):
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": typestr,
            "strides": strides,
            "data": (4096, False),
            "version": 3,
        }


def test_gpu_arrays_are_checked_like_others(engine, inputs):
    with pytest.raises(UsageError, match="must be float32, not float16"):
        engine.run({**inputs, "video": OnGpu((2, 3, 2, 4, 6), "<f2")})
    with pytest.raises(UsageError, match=r"not \(2, 3, 2, 4\)"):
        engine.run({**inputs, "video": OnGpu((2, 3, 2, 4))})
    with pytest.raises(UsageError, match="must be C-contiguous"):
        engine.run({**inputs, "video": OnGpu((2, 3, 2, 4, 6), strides=(4, 8, 24, 48, 192))})
    contiguous = OnGpu((2, 3, 2, 4, 6), strides=(576, 192, 96, 24, 4))
    with pytest.raises(UsageError, match="lies on a GPU and the engine runs on the CPU"):
        engine.run({**inputs, "video": contiguous})


def test_closed_engine_says_so(make_bundle, inputs):
    engine = open_engine(make_bundle(), device="cpu", threads=1)
    engine.close()
    engine.close()
    with pytest.raises(UsageError, match="is closed; open it again"):
        engine.run(inputs)
    with pytest.raises(UsageError, match="is closed"):
        engine.warm_up()
    assert engine.describe()["backend"]["name"] == "onnxruntime"


def test_context_manager_closes_on_error(make_bundle, inputs):
    with pytest.raises(ZeroDivisionError), open_engine(make_bundle(), device="cpu", threads=1) as engine:
        raise ZeroDivisionError
    with pytest.raises(UsageError, match="is closed"):
        engine.run(inputs)


def test_warm_up_runs_every_graph_as_often_as_asked(engine, monkeypatch):
    seen = []
    monkeypatch.setattr(engine, "run", lambda inputs, graph: seen.append((graph, inputs)))
    engine.warm_up(3)
    assert [graph for graph, _ in seen] == ["window"] * 3
    assert {name: array.shape for name, array in seen[0][1].items()} == {
        "video": (1, 3, 2, 4, 6),
        "audio": (1, 9, 1, 2, 3),
    }
    with pytest.raises(UsageError, match="negative"):
        engine.warm_up(-1)


def test_warm_up_really_runs(engine):
    engine.warm_up()


def test_describe(engine):
    facts = engine.describe()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["backend"] == {
        "name": "onnxruntime",
        "version": pytest.importorskip("onnxruntime").__version__,
        "device": "cpu",
        "providers": ["CPUExecutionProvider"],
        "threads": 1,
    }
    assert facts["model_name"] == "mean"


def test_threads_default_to_the_machine(make_bundle):
    with open_engine(make_bundle(), device="cpu") as engine:
        assert engine.describe()["backend"]["threads"] == backend.default_threads() >= 1


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_bad_threads(make_bundle, threads):
    with pytest.raises(UsageError, match="threads must be a positive integer"):
        open_engine(make_bundle(), threads=threads)


def test_bad_device(make_bundle):
    with pytest.raises(UsageError, match="device must be auto, cpu, cuda or cuda:N, not 'tpu'"):
        open_engine(make_bundle(), device="tpu")


def test_several_graphs_and_sizes_known_only_afterwards(tmp_path, tiny_manifest):
    """A frame encoder and a graph whose output's length depends on the values: NonZero."""
    doubled = helper.make_graph(
        [helper.make_node("Mul", ["frame", "two"], ["features"])],
        "encoder",
        [helper.make_tensor_value_info("frame", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.array(2, np.float32), "two")],
    )
    nonzero = helper.make_graph(
        [
            helper.make_node("NonZero", ["map"], ["places"]),
            helper.make_node("ReduceMax", ["map"], ["peak"], keepdims=0),
        ],
        "places",
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, ["n"])],
        [
            helper.make_tensor_value_info("peak", TensorProto.FLOAT, []),
            helper.make_tensor_value_info("places", TensorProto.INT64, [1, "m"]),
        ],
    )
    files = {}
    for graph in (doubled, nonzero):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
        files[f"{graph.name}.onnx"] = tmp_path / f"{graph.name}.onnx"
        onnx.save(model, files[f"{graph.name}.onnx"])
    frame, features = TensorSpec("frame", "float32", (-1, 3), 1.0, 2.0), TensorSpec("features", "float32", (-1, 3))
    peak, places = TensorSpec("peak", "float32", ()), TensorSpec("places", "int64", (1, -1))
    manifest = dataclasses.replace(
        tiny_manifest(),
        graphs={
            "frame_encoder": GraphSpec("encoder.onnx", (frame,), (features,)),
            # In another order than the file's: tensors are known by name.
            "finder": GraphSpec("places.onnx", (TensorSpec("map", "float32", (-1,), 1.0),), (places, peak)),
        },
    )
    write_bundle(tmp_path / "engine", manifest, files)
    with open_engine(tmp_path / "engine", device="cpu", threads=1) as engine:
        engine.warm_up()
        frames = np.ones((4, 3), np.float32)
        np.testing.assert_array_equal(engine.run({"frame": frames}, graph="frame_encoder")["features"], 2 * frames)
        found = engine.run({"map": np.array([0, 3, 0, 5], np.float32)}, graph="finder")
        assert list(found) == ["places", "peak"]
        np.testing.assert_array_equal(found["places"], [[1, 3]])
        assert found["peak"] == 5
        assert found["places"].flags.owndata
        with pytest.raises(UsageError, match="no graph 'window'"):
            engine.run({})


@pytest.mark.parametrize("target", ["tensorrt-rtx", "tensorrt"])
def test_tensorrt_engines_are_inspected_without_a_gpu_and_not_run(make_bundle, tiny_manifest, target, monkeypatch):
    monkeypatch.setattr(
        "dtfsal.engines.tensor_rt.checks.find_gpu_driver", lambda: GpuDriver(None, problem="there is no driver")
    )
    manifest = dataclasses.replace(tiny_manifest(), target=target, precision="fp16", compute_capabilities=("8.9",))
    folder = make_bundle(b"engine", manifest)
    with pytest.raises(UnavailableError, match=f"is a {target} engine and needs an NVIDIA GPU, but there is no driver"):
        open_engine(folder)
    assert read_bundle(folder).describe()["compute_capabilities"] == ["8.9"]
