"""Features that windows share: the same maps as whole windows give, each frame encoded once, memory bounded.

The maps themselves are held to their closed form in test_predictor.py, with both kinds of engine.
"""

import dataclasses
import itertools
import threading
import weakref
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfsal.engines import AudioSpec, ClipSpec, EngineError, EngineMismatchError, open_engine, read_bundle
from dtfsal.engines.onnx_runtime.engine import OnnxRuntimeEngine
from dtfsal.runtime import SaliencyPredictor, StreamPredictor
from dtfsal.runtime.frontend.preprocess import normalise_clip
from dtfsal.runtime.media.audio_reader import AudioReader
from dtfsal.runtime.media.video import VideoReader
from dtfsal.runtime.predict.reused_features import ReusedFeatures
from dtfsal.runtime.predict.window_runners import WholeWindow, runner_type

# Two orders of the same float32 sums, through decoders and two sigmoids.
REUSE = 1e-5


class CountingEngine(OnnxRuntimeEngine):
    """Tells which graphs ran, and how many of the arrays that they gave are alive."""

    def __init__(self, path):
        self.runs = Counter()
        self.seen = Counter()
        self.alive = {}
        super().__init__(read_bundle(path), device="cpu", threads=1)

    def run(self, inputs, *, graph="window"):
        self.runs[graph] += 1
        if graph != "head":
            (array,) = inputs.values()
            self.seen[graph, array.tobytes()] += 1
        outputs = super().run(inputs, graph=graph)
        for array in outputs.values():
            key = id(array)
            self.alive[key] = weakref.ref(array, lambda _, key=key: self.alive.pop(key))
        return outputs


@pytest.fixture(scope="module")
def lite(lite_engine):
    with open_engine(lite_engine, device="cpu", threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def lite_window(lite_window_engine):
    with open_engine(lite_window_engine, device="cpu", threads=1) as engine:
        yield engine


def make_video(count, height=64, width=96, seed=0):
    """Noise that drifts, so that frames differ and neighbours are alike."""
    rng = np.random.default_rng(seed)
    large = rng.integers(0, 256, (height + count, width, 3), dtype=np.uint8)
    return np.stack([large[index : index + height] for index in range(count)])


def sound(seconds, rate=16000):
    """Noise that swells, with a silent second half."""
    samples = np.random.default_rng(1).standard_normal(int(seconds * rate)).astype(np.float32)
    samples *= np.linspace(0, 0.3, len(samples), dtype=np.float32)
    samples[len(samples) // 2 :] = 0
    return samples


def maps_of(engine, video, options, **source):
    return np.stack([f.saliency_map for f in SaliencyPredictor(engine, **options).predict_frames(video, **source)])


@pytest.mark.parametrize("padding", ["reverse", "repeat"])
@pytest.mark.parametrize(("stride", "count", "rate"), [(1, 45, 25), (3, 32, 25), (1, 20, 12.5), (1, 1, 25), (1, 5, 25)])
def test_reuse_gives_the_maps_of_whole_windows(lite, lite_window, padding, stride, count, rate):
    """Windows that interleave (25 fps) and do not (12.5); fewer frames than taps; a single one."""
    video, options = make_video(count), {"padding": padding, "stride": stride}
    source = {"frame_rate_hz": rate, "samples": sound(3.0), "sample_rate_hz": 16000}
    expected = maps_of(lite_window, video, options, **source)
    np.testing.assert_allclose(maps_of(lite, video, options, **source), expected, rtol=0, atol=REUSE)
    if count > 10:
        assert np.abs(np.diff(expected, axis=0)).max() > 100 * REUSE  # windows do differ


@pytest.mark.parametrize("mean_interval", [0.02, 0.08, 0.3])
def test_also_at_a_variable_frame_rate(lite, lite_window, mean_interval):
    steps = np.random.default_rng(2).uniform(0.2, 1.8, 24) * mean_interval
    steps[10] = 3.0  # a gap
    source = {"timestamps": np.cumsum(steps), "samples": sound(6.0), "sample_rate_hz": 16000}
    expected = maps_of(lite_window, make_video(24), {}, **source)
    np.testing.assert_allclose(maps_of(lite, make_video(24), {}, **source), expected, rtol=0, atol=REUSE)


def test_a_file_with_sound(lite, lite_window, clip):
    path = clip(count=40, size=(90, 120), samples=sound(1.6, 48000))
    maps = [
        np.stack([frame.saliency_map for frame in SaliencyPredictor(engine).predict_file(path)])
        for engine in (lite, lite_window)
    ]
    np.testing.assert_allclose(*maps, rtol=0, atol=REUSE)


def test_videos_do_not_see_each_other(lite):
    """Frames are known by their number, and each video begins at 0."""
    predictor = SaliencyPredictor(lite)
    first, second = make_video(6, seed=3), make_video(6, seed=4)
    alone = predictor.predict_arrays(second, 12.5)
    pair = zip(
        predictor.predict_frames(first, frame_rate_hz=12.5),
        predictor.predict_frames(second, frame_rate_hz=12.5),
        strict=True,
    )
    for frame, (_, other) in enumerate(pair):
        np.testing.assert_array_equal(other.saliency_map, alone[frame])


@pytest.mark.parametrize("padding", ["reverse", "repeat"])
@pytest.mark.parametrize(("rate", "stride"), [(25, 1), (50, 1), (25, 3), (10, 1)])
def test_each_frame_and_slice_is_encoded_once(toy_reuse_engine, padding, rate, stride):
    video = make_video(60, 24, 40)
    with CountingEngine(toy_reuse_engine) as engine:
        predictor = SaliencyPredictor(engine, padding=padding, stride=stride)
        prediction = predictor.predict_frames(
            video, frame_rate_hz=rate, samples=sound(60 / rate + 4), sample_rate_hz=16000
        )
        list(prediction)
    assert engine.runs["head"] == prediction.predicted_frames
    assert set(engine.seen.values()) == {1}  # the video's frames and what is heard all differ; silence is one slice
    assert engine.runs["frame"] <= 60
    if stride == 1:
        assert engine.runs["frame"] == 60
    assert engine.runs["slice"] > 5


def test_silence_is_encoded_once(toy_reuse_engine):
    with CountingEngine(toy_reuse_engine) as engine:
        SaliencyPredictor(engine).predict_arrays(make_video(50, 24, 40), 25)
    assert engine.runs == {"frame": 50, "slice": 1, "head": 50}


@pytest.mark.parametrize("target", ["centre", "last"])
@pytest.mark.parametrize(("rate", "per_tap"), [(12.5, 1), (25, 2), (100, 8)])
def test_memory_is_bounded_by_the_clip_length(make_toy_reuse_engine, rate, per_tap, target):
    clip = ClipSpec(frames=8, height=4, width=8, frame_rate_hz=12.5, target=target)
    audio = AudioSpec(slices=9, height=4, width=8)
    path = make_toy_reuse_engine(clip, audio, weights=[0.125] * 8)
    frames = (np.zeros((4, 8, 3), np.uint8) for _ in range(3000))
    with CountingEngine(path) as engine:
        prediction = SaliencyPredictor(engine).predict_frames(
            frames, frame_rate_hz=rate, samples=sound(3000 / rate), sample_rate_hz=16000
        )
        most = 0
        for _ in prediction:
            most = max(most, len(engine.alive))
    assert engine.runs["frame"] == 3000
    # Two arrays for each frame of a clip length, an interval more at both ends, and the one before the first; one for
    # each slice and for silence; the map.
    assert most <= 2 * (clip.frames * per_tap + 2 * per_tap + 2) + 9 + 1 + 2


def test_stages_are_those_of_whole_windows(toy_reuse_engine):
    with SaliencyPredictor(toy_reuse_engine, threads=1) as predictor:
        prediction = predictor.predict_frames(make_video(9, 24, 40), frame_rate_hz=25)
        list(prediction)
    assert set(prediction.clock.seconds) == {"decode", "preprocess", "engine", "smooth"}


def test_the_graphs_choose_the_runner(toy_engine, toy_visual_engine, toy_reuse_engine, make_toy_reuse_engine):
    for path, runner in [
        (toy_engine, WholeWindow),
        (toy_visual_engine, WholeWindow),
        (toy_reuse_engine, ReusedFeatures),
        (make_toy_reuse_engine(), ReusedFeatures),
    ]:
        with open_engine(path, threads=1) as engine:
            assert runner_type(engine) is runner


def test_a_visual_engine_of_two_graphs(make_toy_reuse_engine, toy_visual_engine):
    video = make_video(11, 24, 40)
    with open_engine(make_toy_reuse_engine(), threads=1) as engine, open_engine(toy_visual_engine) as window_engine:
        maps = [SaliencyPredictor(one).predict_arrays(video, 25) for one in (engine, window_engine)]
    np.testing.assert_allclose(*maps, rtol=0, atol=1e-6)


def streamed(engine, video, times, bursts, samples=None, **options):
    """Maps of a stream whose frames come in bursts, so that several windows are ready at once."""
    interval = float(np.median(np.diff(times))) if len(times) > 1 else 0.04
    options = {"frame_rate_hz": 1 / interval, "sound": samples is not None, "max_ready": 1000, **options}
    with StreamPredictor(engine, **options) as stream:
        found, bursts = [], itertools.cycle(bursts)
        if samples is not None:
            stream.push_audio(samples, 0.0, 16000)
        while not stream.finished:
            burst = next(bursts)
            for index in range(stream.counts.frames, min(stream.counts.frames + burst, len(video))):
                assert stream.push_frame(video[index], times[index])
            if stream.counts.frames == len(video):
                stream.finish()
            while (frame := stream.poll()) is not None:
                found.append(frame.saliency_map)
    return np.stack(found)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_streams_and_arrays_of_any_times_have_the_maps_of_whole_windows(chained_toys, data):
    """Strides, rates, lengths, variable frame rates, both paddings; in bursts, and so with windows begun ahead."""
    shared, whole = chained_toys
    count, stride = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 6))
    padding = data.draw(st.sampled_from(["reverse", "repeat"]))
    interval = 1 / data.draw(st.sampled_from([10.0, 24.0, 25.0, 29.97, 50.0, 60.0]))
    times = np.arange(count) * interval
    if data.draw(st.booleans()):
        steps = data.draw(st.lists(st.floats(0.2, 3.0), min_size=count, max_size=count))
        times = np.cumsum(steps) * interval
        times -= times[0]
    video, options = make_video(count, 24, 40, seed=count), {"padding": padding, "stride": stride}
    source = {"timestamps": times, "samples": sound(1.0), "sample_rate_hz": 16000}
    expected = maps_of(whole, video, options, **source)
    maps = maps_of(shared, video, options, **source)
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-6)
    bursts = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    if count > 1:  # a stream of one frame has no rate
        np.testing.assert_array_equal(streamed(shared, video, times, bursts, sound(1.0), **options), maps)


@pytest.fixture(scope="module")
def chained_toys(make_toy_engine, make_toy_reuse_engine):
    clip, audio = ClipSpec(frames=4, height=24, width=40, frame_rate_hz=25.0), AudioSpec(slices=9, height=12, width=20)
    paths = (make_toy_reuse_engine(clip, audio, chained=True), make_toy_engine(clip, audio))
    with open_engine(paths[0], threads=1) as shared, open_engine(paths[1], threads=1) as whole:
        yield shared, whole


@pytest.mark.parametrize("stride", [1, 3])
def test_a_file_has_the_maps_of_its_frames_to_the_bit(lite, clip, stride):
    """Windows are begun while those before them are computed; the real network, in a file, in memory, in a stream."""
    path, samples = clip(count=40, size=(64, 96), samples=sound(1.6, 16000)), None
    with VideoReader(path) as reader, AudioReader(path, 16000, start_seconds=0.0) as audio:
        frames = list(reader)
        samples = np.concatenate(list(audio))
    video, times = np.stack([frame.rgb for frame in frames]), np.array([frame.time_seconds for frame in frames])
    maps = np.stack([frame.saliency_map for frame in SaliencyPredictor(lite, stride=stride).predict_file(path)])
    source = {"timestamps": times, "samples": samples, "sample_rate_hz": 16000}
    np.testing.assert_array_equal(maps_of(lite, video, {"stride": stride}, **source), maps)
    for bursts in ([1], [5, 2, 9]):
        np.testing.assert_array_equal(streamed(lite, video, times, bursts, samples, stride=stride), maps)


@pytest.mark.parametrize("graph", ["frame", "pair", "head"])
def test_an_engine_that_fails_beside_another_window_says_so_in_turn(chained_toys, clip, monkeypatch, graph):
    engine, runs = chained_toys[0], Counter()
    original = engine._run

    def failing(name, inputs):
        runs[name] += 1
        if name == graph and runs[name] > 9:
            raise EngineError("it broke")
        return original(name, inputs)

    monkeypatch.setattr(engine, "_run", failing)
    maps = []
    with pytest.raises(EngineError, match="it broke"):
        maps.extend(SaliencyPredictor(engine).predict_file(clip(count=20, size=(24, 40))))
    # A window needs the frame after its target. The first two, mirrored, need two pairs each, and the others one.
    assert len(maps) == {"frame": 8, "pair": 7, "head": 9}[graph]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dtfsal-features")]


def without(name):
    return lambda graphs: {key: graph for key, graph in graphs.items() if key != name}


def changed(graph, side, tensor, **fields):
    """The graphs with something else about one tensor."""

    def change(graphs):
        tensors = tuple(
            dataclasses.replace(one, **fields) if one.name == tensor else one for one in getattr(graphs[graph], side)
        )
        return graphs | {graph: dataclasses.replace(graphs[graph], **{side: tensors})}

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("head"), "has the graphs frame, slice and"),
        (without("slice"), "has the graphs frame, head and"),
        (without("frame"), "has the graphs slice, head and"),
        (changed("frame", "inputs", "frame", shape=(1, 3, 24, 48)), "'frame' has the tensors frame"),
        (changed("frame", "inputs", "frame", name="picture"), "'frame' has the tensors picture"),
        (changed("frame", "outputs", "features_1", shape=(1, 2, 24, 48)), "'head' has the tensors"),
        (changed("frame", "outputs", "features_1", shape=(1, 2, 24, -1)), "leaves sizes open"),
        (changed("frame", "outputs", "features_2", name="features_3"), "'head' takes features_2, which no other graph"),
        (changed("frame", "outputs", "features_2", dtype="float16"), "'head' has the tensors"),
        (changed("slice", "inputs", "slice", shape=(1, 1, 12, 21)), "'slice' has the tensors"),
        (changed("slice", "outputs", "slice_features", shape=(1, 2, 1, 1)), "'head' has the tensors"),
        (changed("slice", "outputs", "slice_features", name="sound"), "gives sound and not slice_features"),
        (changed("head", "inputs", "features_1", shape=(1, 5, 2, 24, 40)), "'head' has the tensors"),
        (changed("head", "inputs", "slice_features", shape=(1, 8, 1, 1, 1)), "'head' has the tensors"),
        (changed("head", "outputs", "saliency_map", shape=(1, 1, 12, 40)), "'head' has the tensors"),
        (changed("head", "outputs", "saliency_map", dtype="uint8"), "'head' has the tensors"),
    ],
)
def test_graphs_that_do_not_fit_are_said(toy_reuse_engine, monkeypatch, change, message):
    with open_engine(toy_reuse_engine, threads=1) as engine:
        manifest = engine.manifest
        other = dataclasses.replace(manifest, graphs=change(dict(manifest.graphs)))
        monkeypatch.setattr(engine, "bundle", dataclasses.replace(engine.bundle, manifest=other))
        with pytest.raises(EngineMismatchError, match=message) as caught:
            SaliencyPredictor(engine)
    assert "\n" not in str(caught.value)
    assert "build the engine again" in str(caught.value)


class FromScratch(WholeWindow):
    """What a whole window is by definition: all of its frames and slices normalised for it alone."""

    def run(self, window, slices, clock, following=None):
        del clock, following
        inputs = {"video": normalise_clip([frame.pixels for frame in window.frames], self.clip)[None]}
        if slices is not None:
            inputs["audio"] = slices.window(window.centre_seconds)[None]
        return self.engine.run(inputs)["saliency_map"][0, 0]


@pytest.mark.parametrize("padding", ["reverse", "repeat"])
@pytest.mark.parametrize(("rate", "stride"), [(25, 1), (50, 1), (25, 3), (10, 1)])
def test_frames_that_are_kept_give_the_very_maps_of_windows_from_scratch(toy_engine, padding, rate, stride):
    video, source = make_video(40, 24, 40), {"frame_rate_hz": rate, "samples": sound(1.0), "sample_rate_hz": 16000}
    with open_engine(toy_engine, device="cpu", threads=1) as engine:
        predictors = [SaliencyPredictor(engine, padding=padding, stride=stride) for _ in range(2)]
        predictors[1]._runner_type = FromScratch
        kept, scratch = (
            np.stack([frame.saliency_map for frame in predictor.predict_frames(video, **source)])
            for predictor in predictors
        )
    assert np.array_equal(kept, scratch)  # bit for bit
    assert np.abs(np.diff(kept, axis=0)).max() > 0.01


@pytest.mark.parametrize(("rate", "stride"), [(25, 1), (50, 1), (25, 3)])
def test_whole_windows_normalise_each_frame_and_slice_once(toy_engine, rate, stride):
    class Keeping(OnnxRuntimeEngine):
        def keep(self, array):
            kept.append(array.tobytes())
            return super().keep(array)

    kept, most, video = [], 0, make_video(60, 24, 40)
    with Keeping(read_bundle(toy_engine), device="cpu", threads=1) as engine:
        predictor, runners = SaliencyPredictor(engine, stride=stride), []
        predictor._runner_type = lambda engine: runners.append(WholeWindow(engine)) or runners[-1]
        for _ in predictor.predict_frames(video, frame_rate_hz=rate, samples=sound(3.0), sample_rate_hz=16000):
            most = max(most, len(runners[0]._frames))
    frames = [array for array in kept if len(array) == 3 * 24 * 40 * 4]
    assert len(frames) == len(set(frames)) <= len(video)
    # Of the 60 frames no more than a window spans, half of it before the first frame where the video is mirrored.
    assert most <= 3 * 4 * max(1, rate // 25) // 2 + stride
