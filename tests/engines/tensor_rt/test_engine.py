"""The TensorRT back end on a pretended GPU; see conftest.py."""

import types

import numpy as np
import pytest

from dtfsal.engines import open_engine
from dtfsal.engines.errors import EngineError, EngineMismatchError, UnavailableError, UsageError
from dtfsal.engines.gpu.device import CudaCoreDevice, _cuda_errors
from dtfsal.engines.gpu.driver import GpuDriver
from dtfsal.engines.tensor_rt import checks as tensorrt_checks
from dtfsal.engines.tensor_rt import engine as module
from dtfsal.engines.tensor_rt.engine import SHAPES_HELD, TensorRtEngine
from dtfsal.runtime import SaliencyPredictor

VERSION = "11.4.0.106"


def expected(video, audio):
    sums = video.mean(axis=(1, 2)) + audio.mean(axis=(1, 2, 3, 4))[:, None, None]
    return (1 / (1 + np.exp(-sums)))[:, None].astype(np.float32)


def made_inputs(seed, batch=1):
    rng = np.random.default_rng(seed)
    shapes = {"video": (batch, 3, 2, 4, 6), "audio": (batch, 9, 1, 2, 3)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def check(outputs, inputs):
    np.testing.assert_array_equal(outputs["saliency_map"], expected(**inputs))


@pytest.fixture
def engine(make_trt_bundle, gpu, trt):
    with TensorRtEngine(make_trt_bundle(), device=gpu, module=trt) as engine:
        yield engine


def test_every_run_gives_the_map_of_its_own_inputs(engine):
    for seed in range(7):
        inputs = made_inputs(seed)
        check(engine.run(inputs), inputs)


def test_outputs_belong_to_the_caller(engine):
    first = engine.run(made_inputs(0))["saliency_map"]
    kept = first.copy()
    for seed in range(1, 5):
        engine.run(made_inputs(seed))
    np.testing.assert_array_equal(first, kept)


def test_runs_under_way_do_not_disturb_each_other(engine):
    inputs = [made_inputs(seed) for seed in range(6)]
    given = [{name: array.copy() for name, array in one.items()} for one in inputs]
    pending = []
    for one in given:
        pending.append(engine.submit(one))
        for array in one.values():
            array[...] = np.nan  # the caller's again
    for run, one in zip(reversed(pending), reversed(inputs), strict=True):
        check(run.result(), one)
        check(run.result(), one)  # as often as asked


def test_a_shape_is_captured_once_for_each_run_under_way(engine, gpu):
    for _ in range(2):
        engine.run(made_inputs(0))
    assert engine.describe()["backend"]["captured_graphs"] == 0  # each of the two places has run once
    for _ in range(6):
        engine.run(made_inputs(1))
    assert engine.describe()["backend"]["captured_graphs"] == 2
    inputs = made_inputs(2, batch=3)
    for _ in range(5):
        check(engine.run(inputs), inputs)
    assert engine.describe()["backend"]["captured_graphs"] == 4
    one = made_inputs(3)
    check(engine.run(one), one)  # by the first shape's graph, which is still right


@pytest.mark.parametrize("fault", ["the library refuses", "the driver refuses"])
def test_an_engine_that_cannot_be_captured_runs_all_the_same(engine, gpu, trt, fault):
    trt.refuse_capture = fault == "the library refuses"
    gpu.no_capture = fault == "the driver refuses"
    for seed in range(7):
        inputs = made_inputs(seed)
        check(engine.run(inputs), inputs)
    assert gpu.captures == 1  # not tried at each run
    assert engine.describe()["backend"]["captured_graphs"] == 0


def test_a_context_that_says_that_it_cannot_be_captured_is_not(engine, gpu, trt):
    asked = []

    def is_stream_capturable(stream):
        asked.append(gpu.streams[stream])
        return False

    trt.is_stream_capturable = is_stream_capturable
    for seed in range(7):
        inputs = made_inputs(seed)
        check(engine.run(inputs), inputs)
    assert asked == [engine._streams[1]]
    assert gpu.captures == 0


@pytest.fixture
def rtx(trt, tmp_path, monkeypatch):
    """The pretended library as TensorRT-RTX, with a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    strategies = types.SimpleNamespace(EAGER="EAGER")
    monkeypatch.setattr(trt, "DynamicShapesKernelSpecializationStrategy", strategies, raising=False)
    monkeypatch.setattr(trt, "__version__", "1.7.1.116")
    return trt


RTX = {"target": "tensorrt-rtx", "builder": "tensorrt_rtx", "builder_version": "1.7.1.116"}


def test_what_tensorrt_rtx_compiled_is_kept_for_the_next_process(make_trt_bundle, gpu, rtx, tmp_path):
    bundle = make_trt_bundle(**RTX)
    for time in range(2):
        with TensorRtEngine(bundle, device=gpu, module=rtx) as engine, engine.fork() as fork:
            for each in (engine, fork):
                check(each.run(made_inputs(time)), made_inputs(time))
    assert {config.dynamic_shapes_kernel_specialization_strategy for config in rtx.configs} == {"EAGER"}
    assert all(config.cache is config for config in rtx.configs)
    assert rtx.given == [b"compiled by 1.7.1.116"]  # by the second process
    (file,) = (tmp_path / "cache" / "dtfsal" / "tensorrt-rtx").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    rtx.__version__ = "1.8.0.1"
    TensorRtEngine(bundle, device=gpu, module=rtx).close()
    assert len(rtx.given) == 1  # a version has a cache of its own


def test_a_cache_that_is_damaged_or_anybodys_or_cannot_be_kept_changes_nothing(make_trt_bundle, gpu, rtx, tmp_path):
    bundle, folder = make_trt_bundle(**RTX), tmp_path / "cache" / "dtfsal" / "tensorrt-rtx"
    TensorRtEngine(bundle, device=gpu, module=rtx).close()
    (file,) = folder.iterdir()
    file.write_bytes(b"damaged")
    TensorRtEngine(bundle, device=gpu, module=rtx).close()
    assert rtx.given == [b"damaged"]
    assert file.read_bytes() == b"compiled by 1.7.1.116"
    file.chmod(0o666)
    TensorRtEngine(bundle, device=gpu, module=rtx).close()
    assert len(rtx.given) == 1  # another user may have written it
    file.unlink()
    folder.rmdir()
    folder.write_text("a file where the folder should be")
    with TensorRtEngine(bundle, device=gpu, module=rtx) as engine:
        check(engine.run(made_inputs(0)), made_inputs(0))


def test_the_real_tensorrt_rtx_has_the_names_that_are_used():
    trt = pytest.importorskip("tensorrt_rtx")
    assert "EAGER" in trt.DynamicShapesKernelSpecializationStrategy.__members__
    config = {"dynamic_shapes_kernel_specialization_strategy", "create_runtime_cache", "set_runtime_cache"}
    assert config <= set(dir(trt.IRuntimeConfig))
    assert {"serialize", "deserialize"} <= set(dir(trt.IRuntimeCache))
    assert "create_runtime_config" in dir(trt.ICudaEngine)
    assert "is_stream_capturable" in dir(trt.IExecutionContext)


def test_the_steady_state_allocates_nothing(engine, gpu):
    engine.run(made_inputs(0))
    allocated = gpu.allocations
    for seed in range(5):
        engine.run(made_inputs(seed))
    assert gpu.allocations == allocated == 2 * 3 * 2  # two places, three tensors, on the GPU and pinned


def test_shapes_not_used_for_long_make_room(engine, gpu):
    live = []
    for batch in range(1, SHAPES_HELD + 4):
        inputs = made_inputs(batch, batch=batch)
        check(engine.run(inputs), inputs)
        live.append(len(gpu.live))
    assert live[SHAPES_HELD - 1 :] == [live[SHAPES_HELD - 1]] * 4
    inputs = made_inputs(1)
    check(engine.run(inputs), inputs)  # the first shape again, from anew


class OnTheGpu:
    """A foreign library's array."""

    def __init__(self, gpu, array):
        self.buffer, self.array = gpu.allocate(array.nbytes), array
        gpu.memory[self.buffer.address][...] = array.reshape(-1).view(np.uint8)

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.array.shape, "typestr": "<f4", "data": (self.buffer.address, False), "version": 3}


def test_arrays_on_the_gpu_are_read_in_place(engine, gpu):
    for seed in range(4):
        inputs = made_inputs(seed)
        check(engine.run(inputs | {"video": OnTheGpu(gpu, inputs["video"])}), inputs)
        check(engine.run({name: OnTheGpu(gpu, array) for name, array in inputs.items()}), inputs)
        check(engine.run(inputs), inputs)


def test_outputs_may_stay_on_the_gpu(engine, gpu):
    outputs, inputs = [], [made_inputs(seed) for seed in range(3)]
    for one in inputs:
        outputs.append(engine.run_on_device(one)["saliency_map"].__cuda_array_interface__)
        engine.submit(one)
    for interface, one in zip(outputs, inputs, strict=True):
        assert interface["typestr"] == "<f4"
        values = gpu.memory[interface["data"][0]].view(np.float32).reshape(interface["shape"])
        np.testing.assert_array_equal(values, expected(**one))


def test_tensors_are_kept_and_placed_on_the_gpu(engine, gpu):
    """A window put together from frames that entered once, in a tensor that stays: read in place, and captured."""
    video, audio = engine.empty((1, 3, 2, 4, 6), "float32"), engine.empty((1, 9, 1, 2, 3), "float32")
    for seed in range(6):
        inputs = made_inputs(seed)
        for tap in range(2):
            engine.place(video, engine.keep(inputs["video"][:, :, tap]), axis=2, index=tap)
        for number in range(9):
            engine.place(audio, engine.keep(inputs["audio"][:, number]), axis=1, index=number)
        check(engine.run({"video": video, "audio": audio}), inputs)
    assert engine.describe()["backend"]["captured_graphs"] == 2
    with pytest.raises(UsageError, match="does not fit"):
        engine.place(video, audio, axis=2, index=0)
    with pytest.raises(UsageError, match="does not fit"):
        engine.place(audio, engine.keep(inputs["audio"][:, 0]), axis=1, index=9)


def test_features_of_one_run_feed_another_without_leaving_the_gpu(engine, gpu):
    inputs = made_inputs(0)
    kept = engine.run_kept(inputs)["saliency_map"]
    pair = engine.empty((1, 2, 1, 4, 6), "float32")
    engine.place(pair, kept, axis=1, index=1)
    gpu.synchronise(gpu.record(engine._streams[1]))
    values = gpu.memory[pair.buffer.address].view(np.float32).reshape(pair.shape)
    np.testing.assert_array_equal(values[0, 1], expected(**inputs)[0])
    assert np.isnan(values[0, 0]).all()


def test_tensors_that_python_drops_are_freed_after_the_work_that_reads_them(engine, gpu):
    """A kept frame may be dropped when its copy into a window is queued and not yet done: its stream frees it then."""
    inputs = made_inputs(0)
    given = [
        engine.keep(inputs["video"]),
        engine.empty((1, 2), "float32"),
        engine.run_kept(inputs)["saliency_map"],
        engine.run_on_device(inputs)["saliency_map"],
    ]
    assert {gpu.ordered[output.buffer.address] for output in given} == {engine._streams[1]}  # what `place` works on
    engine.run(inputs)
    (shape,) = engine._shapes.values()
    held = [buffer for slot in shape.slots for buffer in (*slot.inputs.values(), *slot.outputs.values())]
    assert {gpu.ordered[buffer.address] for buffer in held} == {None}  # three streams use them, in turn


def test_a_video_through_the_gpu_is_the_same_as_through_the_cpu(engine, gpu, onnx_bundle):
    """The predictor's own windows, frames and slices: each enters the GPU once, and the maps are ONNX Runtime's."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (4, 6, 3), dtype=np.uint8) for _ in range(9)]
    sound = rng.standard_normal(16000 // 2).astype(np.float32) / 4
    maps, backends = [], (open_engine(onnx_bundle, device="cpu", threads=1), engine)
    for backend in backends:
        gpu.uploaded.clear()
        predicted = SaliencyPredictor(backend).predict_frames(
            frames, frame_rate_hz=30.0, samples=sound, sample_rate_hz=16000
        )
        maps.append(np.stack([frame.saliency_map for frame in predicted]))
    np.testing.assert_allclose(maps[1], maps[0], rtol=0, atol=2e-7)  # two orders of summing
    assert maps[0].std() > 0.01
    frame_bytes, slice_bytes = 4 * 3 * 4 * 6, 4 * 2 * 3
    # One upload for each frame; one for each slice of the grid, every 0.11 s over 0.3 s and the window's 1.52 s.
    assert gpu.uploaded.count(frame_bytes) == len(frames)
    assert set(gpu.uploaded) == {frame_bytes, slice_bytes}
    assert 9 <= gpu.uploaded.count(slice_bytes) <= 13


def test_a_fork_runs_beside_its_engine_and_shares_the_weights(engine, gpu):
    live = len(gpu.live)
    with engine.fork() as fork:
        inputs = [made_inputs(seed) for seed in range(4)]
        pending = [(one, which.submit(one)) for one, which in zip(inputs, (engine, fork, fork, engine), strict=True)]
        for one, run in pending:
            check(run.result(), one)
        engine_only = live + 2 * 3 * 2
    assert len(gpu.live) == engine_only  # all of the fork's is freed
    check(engine.run(inputs[0]), inputs[0])


def test_closing_frees_everything(make_trt_bundle, gpu, trt):
    engine = TensorRtEngine(make_trt_bundle(), device=gpu, module=trt)
    for seed in range(5):
        engine.submit(made_inputs(seed))
    engine.close()
    engine.close()
    assert not gpu.live
    with pytest.raises(UsageError, match="is closed"):
        engine.run(made_inputs(0))
    with pytest.raises(UsageError, match="is closed"):
        engine.fork()


def test_what_is_said_of_it(engine):
    backend = engine.describe()["backend"]
    assert backend["name"] == "tensorrt"
    assert (backend["version"], backend["device"], backend["gpu"]) == (VERSION, "cuda", "Card")


def test_inputs_are_checked_before_the_gpu_sees_them(engine):
    inputs = made_inputs(0)
    with pytest.raises(UsageError, match="must be float32, not float64"):
        engine.run(inputs | {"video": inputs["video"].astype(np.float64)})
    with pytest.raises(UsageError, match="was not built for an input 'video'"):
        engine.run(made_inputs(0, batch=9))


@pytest.mark.parametrize(
    "asking", [{"files": ["libdtfsal_plugins.so"]}, {"native_libraries": {"libdtfsal_plugins.so": 1}}]
)
def test_the_plugin_is_registered_before_the_engine_is_read(make_trt_bundle, gpu, trt, tmp_path, monkeypatch, asking):
    library = tmp_path / "installed.so"
    monkeypatch.setenv("DTFSAL_PLUGIN_LIBRARY", str(library))
    library.write_text("a library")  # the same as the one that an older engine brings
    bundle = make_trt_bundle(deform_conv="plugin", **asking)
    with TensorRtEngine(bundle, device=gpu, module=trt):
        assert trt.loaded == [str(library)]


def test_a_plugin_that_the_engine_brings_needs_trust(make_trt_bundle, gpu, trt, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bundle = make_trt_bundle(deform_conv="plugin", files=["libdtfsal_plugins.so"])
    with pytest.raises(EngineError, match=r"brings native code, libdtfsal_plugins\.so"):
        TensorRtEngine(bundle, device=gpu, module=trt)
    assert not trt.loaded
    with TensorRtEngine(bundle, device=gpu, module=trt, trust=True):
        assert trt.loaded == [str(bundle.path / "libdtfsal_plugins.so")]


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"compute_capabilities": ("8.9",)},
            EngineMismatchError,
            "compute capability 8.9, and GPU 0, Card",
        ),
        ({"builder_version": "11.3.0.1"}, EngineMismatchError, r"was built by tensorrt 11\.3\.0\.1, and 11\.4\.0\.106"),
        ({"content": b"broken"}, EngineError, "cannot load .*: the file is damaged"),
        ({"types": {"audio": "HALF"}}, EngineMismatchError, "'audio' is HALF .* the manifest says float32"),
        ({"content": b"{}"}, EngineMismatchError, "has the tensors  and the manifest says audio"),
        ({"deform_conv": "plugin"}, EngineError, "names no library"),
    ],
)
def test_bundles_that_do_not_fit_are_one_sentence(make_trt_bundle, gpu, trt, changes, kind, message):
    with pytest.raises(kind, match=message):
        TensorRtEngine(make_trt_bundle(**changes), device=gpu, module=trt)
    assert not gpu.live


def test_rtx_engines_run_on_later_versions(make_trt_bundle, gpu, trt):
    trt.__version__ = "1.8.0.1"
    changes = {"target": "tensorrt-rtx", "compute_capabilities": ("8.9", "9.0")}
    TensorRtEngine(make_trt_bundle(builder_version="1.7.1.116", **changes), device=gpu, module=trt).close()
    with pytest.raises(EngineMismatchError, match="build the engine again"):
        TensorRtEngine(make_trt_bundle(builder_version="2.0", **changes), device=gpu, module=trt)


def test_too_little_memory_is_one_sentence(make_trt_bundle, gpu, trt):
    gpu.free = 100
    with pytest.raises(EngineError, match="the GPU Card has 0 MiB left"):
        TensorRtEngine(make_trt_bundle(), device=gpu, module=trt)
    gpu.free = 2**30
    trt.no_context = True
    with (
        TensorRtEngine(make_trt_bundle(), device=gpu, module=trt) as engine,
        pytest.raises(EngineError, match="no memory left to run the graph 'window'"),
    ):
        engine.run(made_inputs(0))


def test_a_refused_run_is_an_error(engine, trt):
    trt.refuse = True
    with pytest.raises(EngineError, match="the GPU refused a run"):
        engine.run(made_inputs(0))


def test_another_gpu_of_the_machine(make_trt_bundle, gpu, trt):
    bundle = make_trt_bundle(compute_capabilities=("8.6",))
    TensorRtEngine(bundle, index=1, device=gpu, module=trt).close()
    with pytest.raises(EngineMismatchError, match=r"GPU 0, Card, has 9\.0"):
        TensorRtEngine(bundle, device=gpu, module=trt)
    with pytest.raises(UnavailableError, match="there is no GPU 2; this machine has 2"):
        TensorRtEngine(bundle, index=2, device=gpu, module=trt)


def test_no_driver_is_said_before_any_library_is_asked(make_trt_bundle, monkeypatch):
    bundle = make_trt_bundle()
    monkeypatch.setattr(
        tensorrt_checks, "find_gpu_driver", lambda: GpuDriver(None, problem="there is no NVIDIA driver")
    )
    monkeypatch.setattr(module, "import_library", lambda _: pytest.fail("the library crashes without a driver"))
    with pytest.raises(UnavailableError, match="needs an NVIDIA GPU, but there is no NVIDIA driver"):
        open_engine(bundle.path)
    with pytest.raises(UnavailableError, match="runs on an NVIDIA GPU only"):
        open_engine(bundle.path, device="cpu")


def test_a_missing_library_is_named_with_its_remedy(make_trt_bundle, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(UnavailableError, match=r"pip install 'dtfsal\[tensorrt\]' with NVIDIA's package index"):
        open_engine(make_trt_bundle().path)


def test_cudas_errors_name_cause_and_remedy():
    for text, remedy in (
        ("CUDA_ERROR_OUT_OF_MEMORY: no room", "use a smaller batch"),
        ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "upgrade NVIDIA's driver"),
        ("", r"\(RuntimeError\)$"),
    ):
        with pytest.raises(EngineError, match=f"it went wrong.*{remedy}"), _cuda_errors("it went wrong"):
            raise RuntimeError(text)


def test_the_cuda_core_device_has_all_that_an_engine_asks_for(gpu):
    asked = {name for name in vars(module.GpuDevice) if not name.startswith("_")}
    assert asked <= set(vars(CudaCoreDevice))
    assert asked <= set(dir(gpu))
