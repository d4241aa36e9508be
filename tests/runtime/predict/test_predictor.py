"""Predictions of an engine in closed form: every map is computed again here, in float64, from the definition.

The toy engine (conftest) gives 0.25 + 0.5 * sum_k w_k grey_k + 0.05 * mean(log-mel), clipped to [0, 1].
"""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from dtfsal.engines import AudioSpec, ClipSpec, EngineError, EngineMismatchError, open_engine
from dtfsal.engines.errors import UsageError
from dtfsal.runtime import SaliencyFrame, SaliencyPredictor
from dtfsal.runtime.frontend.log_mel import log_mel_slice, resize_slice
from dtfsal.runtime.frontend.windows import slice_indices, window_centre_seconds
from dtfsal.runtime.predict.maps import normalise_map, resize_map, smooth_map

TAP_WEIGHTS = (0.1, 0.2, 0.4, 0.3)
CLIP = ClipSpec(frames=4, height=24, width=40, frame_rate_hz=25.0)
AUDIO = AudioSpec(slices=9, height=12, width=20)
SILENCE = 0.05 * np.log(0.01)
# float32 through normalisation, its inverse and a few sums
TOLERANCE = 3e-6


def make_video(count, height=24, width=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def mirrored(index, count):
    """Reflection at both ends without repeating them, as often as needed."""
    if count == 1:
        return 0
    index %= 2 * (count - 1)
    return min(index, 2 * (count - 1) - index)


def clamped(index, count):
    return min(max(index, 0), count - 1)


def expected_maps(video, sound=SILENCE, fold=mirrored):
    """The toy engine's maps of frames at its nominal rate; taps are at -2, -1, 0, 1 frames from the target."""
    grey = video.astype(np.float64).mean(axis=3) / 255
    count = len(video)
    sound = np.broadcast_to(sound, (count,))
    return np.stack(
        [
            np.clip(
                0.25 + 0.5 * sum(w * grey[fold(i + k - 2, count)] for k, w in enumerate(TAP_WEIGHTS)) + sound[i],
                0,
                1,
            )
            for i in range(count)
        ]
    )


@pytest.fixture(scope="module", params=["toy_engine", "toy_reuse_engine"])
def engine(request):
    """The toy engine, as one graph and as three."""
    with open_engine(request.getfixturevalue(request.param), threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def visual_engine(toy_visual_engine):
    with open_engine(toy_visual_engine, threads=1) as opened:
        yield opened


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 11])
@pytest.mark.parametrize("padding", ["reverse", "repeat"])
def test_every_frame_has_the_map_of_the_definition(engine, count, padding):
    video = make_video(count)
    predictor = SaliencyPredictor(engine, padding=padding)
    frames = list(predictor.predict_frames(iter(video), frame_rate_hz=25))
    assert [frame.index for frame in frames] == list(range(count))
    assert [frame.time_seconds for frame in frames] == pytest.approx([i / 25 for i in range(count)])
    maps = np.stack([frame.saliency_map for frame in frames])
    assert maps.dtype == np.float32
    expected = expected_maps(video, fold=mirrored if padding == "reverse" else clamped)
    np.testing.assert_allclose(maps, expected, atol=TOLERANCE)


def test_frames_are_shrunk_to_the_model_and_maps_enlarged_to_the_source(visual_engine):
    video = make_video(5, 61, 83)
    predictor = SaliencyPredictor(visual_engine)
    small = [frame.saliency_map for frame in predictor.predict_frames(video, frame_rate_hz=25)]
    assert small[0].shape == (24, 40)
    maps = predictor.predict_arrays(video, 25)
    assert maps.shape == (5, 61, 83)
    assert maps.dtype == np.float32
    for one, wanted in zip(maps, small, strict=True):
        np.testing.assert_array_equal(one, resize_map(wanted, 61, 83))


def test_a_constant_video_has_a_constant_map(visual_engine):
    video = np.full((6, 50, 70, 3), 102, np.uint8)
    maps = SaliencyPredictor(visual_engine).predict_arrays(video, 30)
    np.testing.assert_allclose(maps, 0.25 + 0.5 * 102 / 255, atol=TOLERANCE)


def tone(seconds, rate=16000):
    """Starts quiet and grows, so that every window hears something else."""
    time = np.arange(int(seconds * rate)) / rate
    return (np.sin(2 * np.pi * 1000 * time) * time / seconds).astype(np.float32)


def expected_sound(samples, times):
    """The toy engine's term for the sound of each window, from the whole sound at once."""
    padded = np.concatenate([np.zeros(40000, np.float32), samples, np.zeros(40000, np.float32)])
    result = []
    for time in times:
        slices = []
        for j in slice_indices(AUDIO, window_centre_seconds(CLIP, time, 1 / 25)):
            start = 40000 + round(j * 0.11 * 16000)
            slices.append(resize_slice(log_mel_slice(padded[start : start + AUDIO.slice_samples], AUDIO), AUDIO))
        result.append(0.05 * np.mean(slices, dtype=np.float64))
    return np.array(result)


def test_each_window_hears_the_sound_around_it(engine):
    video = make_video(40)
    samples = tone(1.6)
    prediction = SaliencyPredictor(engine).predict_frames(
        video, frame_rate_hz=25, samples=samples, sample_rate_hz=16000
    )
    maps = np.stack([frame.saliency_map for frame in prediction])
    assert prediction.sound == "used"
    sound = expected_sound(samples, np.arange(40) / 25)
    assert np.ptp(sound) > 0.02  # windows do differ
    np.testing.assert_allclose(maps, expected_maps(video, sound), atol=1e-5)  # log of float32 magnitudes


def test_stereo_at_another_rate_is_heard_the_same(engine):
    video = make_video(30)
    predictor = SaliencyPredictor(engine)
    mono = predictor.predict_arrays(video, 25, tone(1.2), 16000)
    stereo = np.stack([2 * tone(1.2, 48000), np.zeros(57600, np.float32)], axis=1) / 2
    loud = np.stack([tone(1.2, 48000)] * 2, axis=1)
    # The resampler's filter; a tone of half the level moves the map by more than 0.01.
    np.testing.assert_allclose(predictor.predict_arrays(video, 25, loud, 48000), mono, atol=2e-3)
    assert np.abs(predictor.predict_arrays(video, 25, stereo, 48000) - mono).max() > 5e-3


def test_what_was_heard_is_told(engine, visual_engine):
    video = make_video(3)
    samples = {"samples": tone(0.2), "sample_rate_hz": 16000}
    told = [
        SaliencyPredictor(one).predict_frames(video, frame_rate_hz=25, **options).sound
        for one in (engine, visual_engine)
        for options in (samples, {})
    ]
    assert told == ["used", "silence", "unused", "unused"]


@pytest.mark.parametrize(("count", "stride"), [(11, 1), (11, 3), (12, 4), (10, 100), (1, 5), (2, 2)])
def test_strided_maps_are_linear_in_time_between_predicted_ones(visual_engine, count, stride):
    video = make_video(count)
    times = np.cumsum(np.random.default_rng(1).uniform(0.03, 0.05, count))
    exact = {
        frame.index: frame.saliency_map
        for frame in SaliencyPredictor(visual_engine).predict_frames(video, timestamps=times)
    }
    prediction = SaliencyPredictor(visual_engine, stride=stride).predict_frames(video, timestamps=times)
    frames = list(prediction)
    assert [frame.index for frame in frames] == list(range(count))
    assert [frame.time_seconds for frame in frames] == times.tolist()
    computed = sorted({*range(0, count, stride), count - 1})
    assert prediction.predicted_frames == len(computed)
    for frame in frames:
        if frame.index in computed:
            np.testing.assert_array_equal(frame.saliency_map, exact[frame.index])
        else:
            before = max(i for i in computed if i < frame.index)
            after = min(i for i in computed if i > frame.index)
            share = (times[frame.index] - times[before]) / (times[after] - times[before])
            expected = (1 - share) * exact[before] + share * exact[after]
            np.testing.assert_allclose(frame.saliency_map, expected, atol=1e-6)  # float32


def test_maps_belong_to_the_caller(visual_engine):
    """Writing into a map must not change a later one that is interpolated from it."""
    video = make_video(9)
    predictor = SaliencyPredictor(visual_engine, stride=4)
    untouched = predictor.predict_arrays(video, 25)
    for frame in predictor.predict_frames(video, frame_rate_hz=25):
        np.testing.assert_array_equal(frame.saliency_map, untouched[frame.index])
        frame.saliency_map[:] = 7


def test_smoothing_and_normalisation_are_applied(visual_engine):
    video = make_video(4)
    plain = SaliencyPredictor(visual_engine).predict_arrays(video, 25)
    smooth = SaliencyPredictor(visual_engine, smoothing_sigma=1.5, normalisation="sum").predict_arrays(video, 25)
    for one, wanted in zip(smooth, plain, strict=True):
        np.testing.assert_allclose(one, normalise_map(smooth_map(wanted, 1.5), "sum"), rtol=1e-5)


@pytest.mark.parametrize("normalisation", ["max", "sum", "range"])
def test_normalisation_holds_at_the_sources_resolution(visual_engine, normalisation):
    maps = SaliencyPredictor(visual_engine, normalisation=normalisation).predict_arrays(make_video(3, 50, 90), 25)
    for one in maps:
        if normalisation == "sum":
            assert one.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)
        else:
            assert one.max() == 1
            assert (one.min() == 0) == (normalisation == "range")


def test_an_endless_stream_is_predicted_as_it_comes(visual_engine):
    """Maps come out after half a clip, and the frames behind are let go."""
    asked = 0

    def camera():
        nonlocal asked
        while True:
            asked += 1
            yield np.full((24, 40, 3), asked % 256, np.uint8)

    prediction = SaliencyPredictor(visual_engine).predict_frames(camera(), frame_rate_hz=25)
    for index, frame in zip(range(50), prediction, strict=False):
        assert frame.index == index
        assert asked <= index + 5
    prediction.close()
    assert list(prediction) == []


def test_the_clock_and_the_counts_tell_of_the_run(engine):
    prediction = SaliencyPredictor(engine, stride=3).predict_frames(make_video(8), frame_rate_hz=25)
    list(prediction)
    assert {"decode", "preprocess", "engine"} <= set(prediction.clock.seconds)
    assert (prediction.frames, prediction.predicted_frames) == (8, 4)
    assert (prediction.concealed_frames, prediction.skipped_frames, prediction.concealed_sound_seconds) == (0, 0, 0)
    assert prediction.info is None


def test_no_frames_give_no_maps(visual_engine):
    predictor = SaliencyPredictor(visual_engine)
    assert list(predictor.predict_frames([], frame_rate_hz=25)) == []
    assert predictor.predict_arrays(make_video(0), 25).shape == (0, 24, 40)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either frame_rate_hz or timestamps"),
        ({"frame_rate_hz": 25, "timestamps": [0.0]}, "not both"),
        ({"frame_rate_hz": 0}, "positive"),
        ({"frame_rate_hz": float("nan")}, "positive"),
        ({"timestamps": [0.0, 0.0, 1.0]}, "increase"),
        ({"timestamps": [0.0, float("nan"), 1.0]}, "finite"),
        ({"frame_rate_hz": 25, "samples": np.zeros(4)}, "sample_rate_hz"),
        ({"frame_rate_hz": 25, "sample_rate_hz": 16000}, "without samples"),
        ({"frame_rate_hz": 25, "samples": np.zeros((2, 2, 2)), "sample_rate_hz": 16000}, "channels"),
    ],
)
def test_arguments_that_cannot_be_are_refused_at_once(engine, arguments, message):
    with pytest.raises(UsageError, match=message):
        SaliencyPredictor(engine).predict_frames(make_video(3), **arguments)


def test_too_few_timestamps_are_told(visual_engine):
    prediction = SaliencyPredictor(visual_engine).predict_frames(make_video(3), timestamps=[0.0, 0.04])
    with pytest.raises(UsageError, match="only 2 timestamps"):
        list(prediction)


@pytest.mark.parametrize("video", [np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8), [1, 2]])
def test_other_arrays_are_refused(visual_engine, video):
    with pytest.raises(UsageError, match="uint8, not"):
        SaliencyPredictor(visual_engine).predict_arrays(video, 25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "zero"}, "padding"),
        ({"stride": 0}, "stride"),
        ({"stride": 1.5}, "stride"),
        ({"smoothing_sigma": -1.0}, "smoothing"),
        ({"normalisation": "mean"}, "normalisation"),
    ],
)
def test_options_that_cannot_be_are_refused(visual_engine, options, message):
    with pytest.raises(UsageError, match=message):
        SaliencyPredictor(visual_engine, **options)


def test_an_engine_opened_here_is_closed_and_a_given_one_is_not(toy_visual_engine, visual_engine):
    with SaliencyPredictor(toy_visual_engine, threads=1) as predictor:
        assert isinstance(next(predictor.predict_frames(make_video(4), frame_rate_hz=25)), SaliencyFrame)
    with pytest.raises(UsageError, match="closed"):
        predictor.predict_arrays(make_video(1), 25)
    with SaliencyPredictor(visual_engine):
        pass
    assert SaliencyPredictor(visual_engine).predict_arrays(make_video(1), 25).shape == (1, 24, 40)


def test_a_folder_that_is_no_engine_is_refused(tmp_path):
    with pytest.raises(EngineError, match=r"manifest\.json"):
        SaliencyPredictor(tmp_path)


def test_a_graph_of_another_shape_is_refused(engine, monkeypatch):
    other = dataclasses.replace(engine.manifest, clip=dataclasses.replace(CLIP, frames=8))
    monkeypatch.setattr(engine, "bundle", dataclasses.replace(engine.bundle, manifest=other))
    with pytest.raises(EngineMismatchError, match="build the engine again"):
        SaliencyPredictor(engine)


def test_a_map_that_is_not_finite_is_an_error(visual_engine, monkeypatch):
    broken = np.full((1, 1, 24, 40), np.nan, np.float32)
    monkeypatch.setattr(visual_engine, "run", lambda *_, **__: {"saliency_map": broken})
    with pytest.raises(EngineError, match="not finite"):
        SaliencyPredictor(visual_engine).predict_arrays(make_video(2), 25)


def test_import_is_light():
    """Neither PyTorch nor the media and inference libraries load with the package."""
    code = (
        "import sys, dtfsal.runtime; "
        "heavy = {'torch', 'av', 'onnxruntime', 'onnx', 'PIL', 'tqdm', 'h5py'} & set(sys.modules); "
        "assert not heavy, heavy; "
        "dtfsal.runtime.SaliencyPredictor; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_exist():
    import dtfsal.runtime as package

    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_frames_and_sound_of_other_libraries(engine):
    """OpenCV's order of channels, and PyTorch's tensors."""
    video, sound = make_video(6), tone(0.3)
    with SaliencyPredictor(engine) as predictor:
        expected = predictor.predict_arrays(video, 25, sound, 16000)
        bgr = np.ascontiguousarray(video[..., ::-1])
        np.testing.assert_array_equal(predictor.predict_arrays(bgr, 25, sound, 16000, color="bgr"), expected)
        tensors = torch.from_numpy(video), torch.from_numpy(sound)
        np.testing.assert_array_equal(predictor.predict_arrays(tensors[0], 25, tensors[1], 16000), expected)
        with pytest.raises(UsageError, match="color must be"):
            predictor.predict_arrays(video, 25, color="yuv")


def test_a_source_may_use_its_frames_memory_again(visual_engine):
    """A frame of the model's own size, too."""
    video = make_video(6, visual_engine.manifest.clip.height, visual_engine.manifest.clip.width)
    place = np.empty_like(video[0])

    def camera():
        for frame in video:
            place[...] = frame
            yield place

    with SaliencyPredictor(visual_engine) as predictor:
        maps = [frame.saliency_map for frame in predictor.predict_frames(camera(), frame_rate_hz=25)]
        np.testing.assert_array_equal(maps, predictor.predict_arrays(video, 25))
