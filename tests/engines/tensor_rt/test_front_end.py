"""A TensorRT engine that prepares frames and slices itself, on the pretended GPU, which runs the kernels late."""

import av
import numpy as np
import pytest

from dtfsal.engines import AudioSpec, open_engine
from dtfsal.engines.errors import UsageError
from dtfsal.engines.native.frontend.library import FrameCall, FrontEndLibrary, SliceCall
from dtfsal.engines.native.frontend.prepare import FrontEnd
from dtfsal.engines.native.projects import FRONT_END
from dtfsal.engines.tensor_rt.engine import TensorRtEngine
from dtfsal.runtime import SaliencyPredictor
from dtfsal.runtime.frontend.log_mel import slice_tables

AUDIO = AudioSpec(slices=9, height=2, width=3)


class PretendedFrontEnd:
    """The kernels, queued on the pretended GPU's streams: they run when somebody waits for them, and no sooner."""

    def __init__(self, gpu, library):
        self._gpu, self._library = gpu, library
        self.frames = self.slices = 0
        self.resize_axis = library.resize_axis

    def prepare_frame(self, call, stream):
        self.frames += 1
        queued = FrameCall.from_buffer_copy(call)
        self._gpu.queue(self._gpu.streams[stream], lambda: self._library.prepare_frame(queued, 0))

    def prepare_slice(self, call, stream):
        self.slices += 1
        queued = SliceCall.from_buffer_copy(call)
        self._gpu.queue(self._gpu.streams[stream], lambda: self._library.prepare_slice(queued, 0))


@pytest.fixture(scope="session")
def host_library(tmp_path_factory):
    return FrontEndLibrary(FRONT_END.build_host(tmp_path_factory.mktemp("front_end_host")))


@pytest.fixture
def front_end(gpu, host_library):
    return PretendedFrontEnd(gpu, host_library)


@pytest.fixture
def engine(make_trt_bundle, gpu, trt, front_end, monkeypatch):
    monkeypatch.setattr("dtfsal.engines.tensor_rt.engine.installed_front_end", lambda: front_end)
    with TensorRtEngine(make_trt_bundle(), device=gpu, module=trt) as engine:
        yield engine


@pytest.fixture
def clip(tmp_path):
    """H.264 with sound: 20 frames of 64x48 that move."""
    path, rng = tmp_path / "clip.mp4", np.random.default_rng(0)
    ground = rng.integers(0, 256, (12, 40, 3), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for number in range(20):
            rgb = np.ascontiguousarray(ground[:, 4 * number : 4 * number + 64])
            container.mux(video.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(video.encode(None))
        tone = (8000 * np.sin(np.arange(10240) * 0.2)).astype(np.int16)
        samples = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        samples.sample_rate = 16000
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=16000, frame_size=1024)
        for part in (*resampler.resample(samples), *resampler.resample(None)):
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    return path


def maps_of(engine, path, **options):
    with SaliencyPredictor(engine, **options).predict_file(path) as prediction:
        return np.stack([frame.saliency_map for frame in prediction])


@pytest.mark.parametrize("options", [{}, {"stride": 3}, {"padding": "repeat"}])
def test_a_file_gives_the_cpus_maps(engine, gpu, front_end, onnx_bundle, clip, options):
    with open_engine(onnx_bundle, device="cpu", threads=1) as cpu:
        expected = maps_of(cpu, clip, **options)
    found = maps_of(engine, clip, **options)
    assert expected.std() > 0.01
    # A level of one frame in 255, normalised and averaged over two frames and three colours, through a sigmoid.
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-3)
    assert front_end.frames == 20  # each once, whatever the windows
    assert 9 <= front_end.slices <= 20
    assert engine.describe()["backend"]["front_end"] == "GPU"
    # Pictures of 4:2:0 go up as they were decoded: 1.5 bytes a pixel.
    assert gpu.uploaded.count(64 * 48 * 3 // 2) == 20


def test_frames_from_memory_give_the_cpus_maps(engine, onnx_bundle):
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (9, 30, 50, 3), dtype=np.uint8)
    sound = rng.standard_normal(8000).astype(np.float32) / 4
    with open_engine(onnx_bundle, device="cpu", threads=1) as cpu:
        expected, found = (
            SaliencyPredictor(which).predict_arrays(frames, 30.0, sound, 16000) for which in (cpu, engine)
        )
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-3)


def test_frames_of_changing_sizes(engine, onnx_bundle, gpu):
    """A camera may change its mode; the tables and the staging follow."""
    rng = np.random.default_rng(2)
    sizes = [(30, 50), (30, 50), (12, 80), (30, 50), (5, 5), (5, 5), (64, 3)]
    frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    with open_engine(onnx_bundle, device="cpu", threads=1) as cpu:
        expected, found = (
            np.stack(
                [f.saliency_map for f in SaliencyPredictor(which).predict_frames(iter(frames), frame_rate_hz=30.0)]
            )
            for which in (cpu, engine)
        )
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-3)


def test_silence_is_the_cpus(engine, onnx_bundle, front_end):
    frames = np.random.default_rng(3).integers(0, 256, (4, 30, 50, 3), dtype=np.uint8)
    with open_engine(onnx_bundle, device="cpu", threads=1) as cpu:
        expected, found = (SaliencyPredictor(which).predict_arrays(frames, 30.0) for which in (cpu, engine))
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-3)
    assert front_end.slices == 0


def test_wrong_frames_are_told(engine):
    with pytest.raises(UsageError, match="uint8 RGB"):
        list(SaliencyPredictor(engine).predict_frames([np.zeros((4, 4, 3))], frame_rate_hz=30.0))


def test_a_fork_has_a_front_end_of_its_own(engine, clip):
    expected = maps_of(engine, clip)
    with engine.fork() as fork:
        np.testing.assert_array_equal(maps_of(fork, clip), expected)
    np.testing.assert_array_equal(maps_of(engine, clip), expected)


def test_closing_frees_all_but_what_was_given(gpu, front_end):
    upload, compute = gpu.stream(), gpu.stream()
    live = set(gpu.live)
    parts = FrontEnd(gpu, front_end, upload, compute)
    levels = np.zeros((3, 256), np.float32)
    frames, slices = parts.frames(4, 6, "float16", levels), parts.slices("float32", slice_tables(AUDIO))
    assert parts.frames(4, 6, "float16", levels.copy()) is frames
    assert parts.slices("float32", slice_tables(AUDIO)) is slices
    pictures = (np.zeros((height, 8, 3), np.uint8) for height in (6, 6, 6, 9, 9, 2))
    given = [frames.prepare(picture) for picture in pictures]
    given += [slices.prepare(np.zeros(AUDIO.slice_samples, np.float32)) for _ in range(3)]
    assert {gpu.ordered[output.buffer.address] for output in given} == {compute}  # freed after what reads them
    parts.close()
    assert gpu.live == live | {id(output.buffer.handle) for output in given}
    for output in given:
        values = gpu.memory[output.buffer.address].view(output.dtype)
        assert np.isfinite(values).all()  # what was queued has been done: nothing is freed beneath it


def test_the_steady_state_allocates_its_outputs_alone(gpu, front_end):
    frames = FrontEnd(gpu, front_end, gpu.stream(), gpu.stream()).frames(
        4, 6, "float32", np.zeros((3, 256), np.float32)
    )
    picture = np.zeros((30, 40, 3), np.uint8)
    frames.prepare(picture)
    allocated = gpu.allocations
    for _ in range(5):
        frames.prepare(picture)
    assert gpu.allocations == allocated + 5
