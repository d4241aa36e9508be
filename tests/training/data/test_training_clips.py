"""Windows to train and score on: cut as the runtime cuts them, with maps that follow flips and sizes."""

import dataclasses
import runpy
from pathlib import Path

import numpy as np
import pytest

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.frontend.log_mel import MelSlices
from dtfsal.runtime.frontend.preprocess import normalise_clip, resize_frame
from dtfsal.runtime.frontend.windows import iter_windows
from dtfsal.runtime.media.audio_reader import AudioReader
from dtfsal.runtime.media.video import VideoReader
from dtfsal.training.data.datasets import open_dataset
from dtfsal.training.data.stills import DataError
from dtfsal.training.data.training_clips import (
    Augmentation,
    EveryFrames,
    TrainingClips,
    evaluation_windows,
    fixation_map,
    resized_density,
)
from dtfsal.training.model.config import PRESETS

TINY = PRESETS["tiny"]


def clips_of(items, **arguments):
    arguments = {"seed": 5, **arguments}
    return TrainingClips(items, TINY.clip, TINY.audio, **arguments)


def test_a_window_depends_on_seed_epoch_and_index_alone(make_miniature):
    items = open_dataset("avad", make_miniature("avad", count=12), "train", fold=1)
    first, second = clips_of(items, windows_per_video=2), clips_of(items, windows_per_video=2)
    assert len(first) == 2 * len(items) == 4
    first.set_epoch(3)
    second.set_epoch(3)
    second[1]
    for name, value in first[2].items():
        np.testing.assert_array_equal(value, second[2][name])
    second.set_epoch(4)
    # Some windows may be of the same frame as in the epoch before, but not all.
    assert any(not np.array_equal(first[index]["video"], second[index]["video"]) for index in range(4))
    with pytest.raises(IndexError):
        first[4]


class Blank:
    """A video of so many frames, none of which is read."""

    def __init__(self, frame_count):
        self.frame_count = frame_count


@pytest.mark.parametrize(
    ("name", "every", "cited", "known"),
    [
        # DiffSal's loader of DHF1K: range(0, frames - 32, 16), the frames counted on the disk.
        ("DHF1K", EveryFrames(16), lambda n: len(range(0, n - 32, 16)), 20710),
        # STAViS's and DiffSal's of the audio-visual sets: range(1, frames, 90 - 16), the frames of the list.
        ("ETMD_1", EveryFrames(74, 1), lambda n: len(range(1, n, 74)), 554),
        ("AVAD_1", EveryFrames(74, 1), lambda n: len(range(1, n, 74)), None),
    ],
)
def test_windows_of_an_epoch_are_as_many_as_the_cited_loaders_draw(name, every, cited, known):
    counts = runpy.run_path(str(Path(__file__).with_name("public_counts.py")))[name]
    clips = TrainingClips([Blank(count) for count in counts], PRESETS["dtfsal"].clip, None, seed=0, every=every)
    assert len(clips) == sum(map(cited, counts))
    assert known in (None, len(clips))


def test_windows_at_fixed_places_are_the_same_in_every_epoch(make_miniature):
    root = make_miniature("dhf1k", count=40)
    (root / "annotation" / "0002" / "maps" / "0009.png").unlink()
    items = open_dataset("dhf1k", root, "train")
    clip = dataclasses.replace(TINY.clip, frames=16, target="centre")
    every = EveryFrames(8)
    assert every.targets(40, clip) == [8, 16, 24]  # starts 0, 8 and 16: range(0, 40 - 16, 8)
    assert every.targets(5, clip) == [4]  # a video shorter than a window is not lost
    clips = TrainingClips(items, clip, None, seed=0, every=every)
    assert len(clips) == 6
    first = [clips[index] for index in range(6)]
    clips.set_epoch(1)
    for index, sample in enumerate(first):
        numbers = [8, 16, 24][index % 3]
        density = resized_density(items[index // 3].density(numbers), clip.height, clip.width) if index != 3 else None
        if density is not None:
            np.testing.assert_array_equal(sample["density"], density)
            np.testing.assert_array_equal(sample["video"], clips[index]["video"])
    assert first[3]["density"].sum() == pytest.approx(1, abs=1e-5)  # another frame, where the map is missing
    for arguments in ({"every": every, "windows_per_video": 2},):
        with pytest.raises(UsageError, match="windows_per_video is for random windows"):
            clips_of(items, **arguments)
    with pytest.raises(UsageError, match="window_every must be a positive integer, not 0"):
        EveryFrames(0)


def test_shapes_and_ranges(make_miniature):
    items = open_dataset("avad", make_miniature("avad", count=6), "train", fold=1)
    sample = clips_of(items)[0]
    clip, audio = TINY.clip, TINY.audio
    assert sample["video"].shape == (3, clip.frames, clip.height, clip.width)
    assert sample["audio"].shape == (audio.slices, 1, *sample["audio"].shape[2:])
    assert sample["density"].shape == sample["fixations"].shape == (clip.height, clip.width)
    assert sample["density"].sum() == pytest.approx(1, abs=1e-5)
    assert sample["fixations"].any()


def test_the_flip_takes_the_map_along(make_miniature):
    items = open_dataset("dhf1k", make_miniature("dhf1k", count=6), "train")
    plain = clips_of(items, augmentation=Augmentation(flip_share=0.0))
    flipped = clips_of(items, augmentation=Augmentation(flip_share=1.0))
    for name in ("video", "density", "fixations"):
        np.testing.assert_array_equal(flipped[0][name], plain[0][name][..., ::-1])


def test_colour_changes_the_frames_alone_and_gain_the_sound_alone(make_miniature):
    items = open_dataset("avad", make_miniature("avad", count=6), "train", fold=1)
    plain = clips_of(items)[0]
    coloured = clips_of(items, augmentation=Augmentation(colour_share=1.0))[0]
    assert not np.array_equal(coloured["video"], plain["video"])
    np.testing.assert_array_equal(coloured["density"], plain["density"])
    louder = clips_of(items, augmentation=Augmentation(gain_db=12.0))[0]
    np.testing.assert_array_equal(louder["video"], plain["video"])
    # A gain is one number added to a tone's log-mel, where the offset under the logarithm does not count.
    loud = plain["audio"] > plain["audio"].max() - 2
    change = (louder["audio"] - plain["audio"])[loud]
    assert np.abs(change - np.median(change)).max() < 0.1
    assert abs(np.median(change)) > 0.05


def test_a_temporal_stride_moves_the_taps_apart(make_miniature):
    """Row 0 of a miniature's frame holds its number, so the window tells its frames."""
    root = make_miniature("videos", count=90, rate=30, videos=("a",), lossless=True, size=(36, 64))
    items = open_dataset("videos", root, "train")
    near = clips_of(items)[0]["video"]
    far = clips_of(items, augmentation=Augmentation(temporal_strides=(3,)))[0]["video"]

    def steps(video):
        shown = np.abs(np.diff(video.mean(axis=(0, 2, 3))))
        return shown.sum()

    assert steps(far) > 1.5 * steps(near)


def test_evaluation_windows_are_the_runtimes(make_miniature):
    root = make_miniature("videos", count=20, videos=("a",), rate=25)
    (item,) = open_dataset("videos", root, "train")
    path = root / "videos" / "a.mp4"
    with VideoReader(path) as reader, AudioReader(path, 16000, start_seconds=reader.info.start_seconds) as sound:
        slices = MelSlices(TINY.audio, iter(sound))
        expected = [
            (
                window.index,
                normalise_clip(
                    [resize_frame(frame.rgb, TINY.clip.height, TINY.clip.width) for frame in window.frames], TINY.clip
                ),
                slices.window(window.centre_seconds),
            )
            for window in iter_windows(
                reader, TINY.clip, source_interval_seconds=reader.info.frame_interval_seconds, stride=3
            )
        ]
    found = list(evaluation_windows(item, TINY.clip, TINY.audio, stride=3))
    assert [index for index, _ in found] == [index for index, _, _ in expected]
    for (_, inputs), (_, video, audio) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(inputs["video"], video)
        np.testing.assert_array_equal(inputs["audio"], audio)


def test_a_training_window_is_the_evaluations_of_the_same_frame(make_miniature):
    items = open_dataset("avad", make_miniature("avad", count=9), "train", fold=1)
    sample = clips_of(items)[0]
    windows = [inputs for _, inputs in evaluation_windows(items[0], TINY.clip, TINY.audio)]
    equal = [w for w in windows if np.array_equal(w["video"], sample["video"])]
    assert equal
    assert any(np.array_equal(w["audio"], sample["audio"]) for w in equal)


def test_a_clip_shorter_than_the_window_is_padded(make_miniature):
    items = open_dataset("dhf1k", make_miniature("dhf1k", count=1), "train")
    assert np.isfinite(clips_of(items)[0]["video"]).all()
    assert len(list(evaluation_windows(items[0], TINY.clip, None))) == 1


def test_a_video_without_any_map_is_an_error(make_miniature):
    items = open_dataset("dhf1k", make_miniature("dhf1k", count=3), "test")
    with pytest.raises(DataError, match="no frame of dhf1k's 0701 has a map"):
        clips_of(items)[0]


def test_resized_density_keeps_the_place_and_the_sum():
    density = np.zeros((36, 64), np.float32)
    density[9, 16] = 3
    found = resized_density(density, 72, 128)
    assert found.sum() == pytest.approx(1, abs=1e-6)
    rows, columns = np.mgrid[:72, :128]
    # The pixel's centre (16.5, 9.5) is (33, 19) at twice the size.
    assert (found * (columns + 0.5)).sum() == pytest.approx(33, abs=1e-3)
    assert (found * (rows + 0.5)).sum() == pytest.approx(19, abs=1e-3)
    assert not resized_density(np.zeros((4, 4), np.float32), 8, 8).any()


def test_fixations_fall_into_the_pixel_that_holds_them():
    points = np.array([[0, 0], [63, 35], [-1, 3], [64, 3], [10.4, 7]], np.float32)
    found = fixation_map(points, (36, 64), 18, 32)
    assert [tuple(int(n) for n in place) for place in np.argwhere(found)] == [(0, 0), (3, 5), (17, 31)]
    assert not fixation_map(None, (36, 64), 18, 32).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"flip_share": 1.5}, "flip_share must lie in 0..1"),
        ({"temporal_strides": (0,)}, "temporal_strides must be positive"),
        ({"temporal_strides": ()}, "temporal_strides must be positive"),
        ({"gain_db": -1.0}, "gain_db must be at least 0"),
    ],
)
def test_augmentation_is_held_to_what_it_can_be(arguments, message):
    with pytest.raises(UsageError, match=message):
        Augmentation(**arguments)


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"windows_per_video": 0}])
def test_arguments_are_held_to_what_they_can_be(make_miniature, arguments):
    items = open_dataset("dhf1k", make_miniature("dhf1k", count=1), "train")
    with pytest.raises(UsageError):
        clips_of(items, **arguments)
    with pytest.raises(UsageError, match="no video"):
        clips_of([])
