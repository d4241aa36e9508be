"""Frames to the model's input, against the triangle filter's definition in float64 and the closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfsal.engines.bundle.specs import ClipSpec
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.frontend.preprocess import normalise_clip, resize_frame, rgb_frame

try:
    import cv2
except ImportError:
    cv2 = None

CLIP = ClipSpec(frames=3, height=6, width=10)
SKEWED = ClipSpec(frames=2, height=4, width=5, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def triangle(size, new_size):
    """(new_size, size) weights: a triangle around the new pixel's centre, as wide as the step where it shrinks."""
    step = size / new_size
    centres = (np.arange(new_size)[:, None] + 0.5) * step
    weights = np.maximum(0, 1 - np.abs(np.arange(size) + 0.5 - centres) / max(step, 1.0))
    return weights / weights.sum(1, keepdims=True)


def resized_in_float64(rgb, height, width):
    rows, columns = triangle(rgb.shape[0], height), triangle(rgb.shape[1], width)
    return np.einsum("yi,xj,ijc->yxc", rows, columns, rgb.astype(np.float64), optimize=True)


def random_frame(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    new_size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 99),
)
def test_resizing_is_the_triangle_filter_to_one_level(size, new_size, seed):
    rgb = random_frame(*size, seed)
    result = resize_frame(rgb, *new_size)
    assert result.dtype == np.uint8
    assert result.shape == (*new_size, 3)
    # Each of the two passes rounds to whole levels, half a level each, and its weights to 22 bits.
    assert np.abs(result - resized_in_float64(rgb, *new_size)).max() <= 1.01


@pytest.mark.parametrize("size", [(1080, 1920), (240, 320), (113, 7)])
def test_resizing_usual_frames(size):
    rgb = random_frame(*size)
    assert np.abs(resize_frame(rgb, 112, 192) - resized_in_float64(rgb, 112, 192)).max() <= 1.01


def test_a_large_picture_shrinks_without_aliasing():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::2] = 255
    assert np.abs(resize_frame(stripes, 8, 8).astype(int) - 127.5).max() <= 6  # the triangle's side lobes


def test_flat_frames_stay_flat_and_channels_apart():
    rgb = np.empty((50, 31, 3), np.uint8)
    rgb[:] = (3, 128, 255)
    assert (resize_frame(rgb, 17, 40) == (3, 128, 255)).all()


def test_a_frame_of_the_right_size_is_left_alone():
    rgb = random_frame(6, 10)
    np.testing.assert_array_equal(resize_frame(rgb, 6, 10), rgb)


def test_any_strides_are_taken():
    rgb = random_frame(20, 30)
    flipped = rgb[::-1, ::2]
    np.testing.assert_array_equal(resize_frame(flipped, 6, 10), resize_frame(flipped.copy(), 6, 10))


@pytest.mark.parametrize(
    "rgb",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
)
def test_what_is_not_a_frame_is_said(rgb):
    with pytest.raises(UsageError, match=r"\(H, W, 3\) uint8"):
        resize_frame(rgb, 2, 2)


@pytest.mark.parametrize("clip", [CLIP, SKEWED])
def test_normalisation_in_closed_form(clip):
    frames = np.stack([random_frame(clip.height, clip.width, seed) for seed in range(clip.frames)])
    expected = (frames / 255 - np.array(clip.mean)) / np.array(clip.std)
    for given_ in (frames, list(frames), tuple(frames[::1])):
        result = normalise_clip(given_, clip)
        assert result.dtype == np.float32
        # One rounding to float32 of values up to 2.7.
        np.testing.assert_allclose(result, expected.transpose(3, 0, 1, 2), rtol=0, atol=2e-7)


def test_every_level_of_every_channel():
    clip = ClipSpec(frames=1, height=16, width=16, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    result = normalise_clip([np.stack([levels] * 3, axis=-1)], clip)
    for channel, (mean, std) in enumerate(zip(clip.mean, clip.std, strict=True)):
        expected = (np.arange(256) / 255 - mean) / std
        np.testing.assert_allclose(result[channel, 0].ravel(), expected, rtol=0, atol=2e-7)


def test_out_is_written_to_and_returned():
    frames = [random_frame(6, 10, seed) for seed in range(3)]
    batch = np.full((2, 3, 3, 6, 10), np.nan, np.float32)
    result = normalise_clip(frames, CLIP, out=batch[1])
    assert np.shares_memory(result, batch)
    np.testing.assert_array_equal(batch[1], normalise_clip(frames, CLIP))
    assert np.isnan(batch[0]).all()


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 6, 10, 3), np.uint8),
        np.zeros((3, 10, 6, 3), np.uint8),
        np.zeros((3, 6, 10), np.uint8),
        np.zeros((3, 6, 10, 3), np.float32),
        [],
        [random_frame(6, 10), random_frame(6, 10), random_frame(6, 9)],
    ],
)
def test_frames_that_are_no_clip_are_said(frames):
    with pytest.raises(UsageError, match=r"3 frames of \(6, 10, 3\) uint8"):
        normalise_clip(frames, CLIP)


@pytest.mark.parametrize("out", [np.zeros((3, 3, 6, 9), np.float32), np.zeros((3, 3, 6, 10), np.float64)])
def test_out_of_another_kind_is_said(out):
    with pytest.raises(UsageError, match="out must be"):
        normalise_clip([random_frame(6, 10)] * 3, CLIP, out=out)


def test_bgr_is_a_view_of_the_same_frame():
    bgr = random_frame(6, 10)
    rgb = rgb_frame(bgr, "bgr")
    np.testing.assert_array_equal(rgb, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB) if cv2 else bgr[:, :, [2, 1, 0]])
    assert np.shares_memory(rgb, bgr)
    assert rgb_frame(bgr) is bgr
    np.testing.assert_array_equal(resize_frame(rgb, 4, 5), resize_frame(rgb.copy(), 4, 5))


def test_a_resized_frame_is_a_new_array():
    """A camera's next frame may lie in the same memory."""
    rgb = random_frame(6, 10)
    assert not np.shares_memory(resize_frame(rgb, 6, 10), rgb)


@pytest.mark.parametrize("color", ["BGR", "rgba", None])
def test_another_order_of_channels_is_refused(color):
    with pytest.raises(UsageError, match="color must be one of rgb, bgr, not"):
        rgb_frame(random_frame(6, 10), color)
    with pytest.raises(UsageError, match=r"a frame must be \(H, W, 3\) uint8 BGR"):
        rgb_frame(random_frame(6, 10)[:, :, :2], "bgr")
