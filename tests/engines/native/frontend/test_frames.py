"""Frames: the GPU's program, on the CPU, against Pillow and FFmpeg."""

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfsal.engines import ClipSpec
from dtfsal.engines.errors import UsageError
from dtfsal.engines.raw_inputs import MATRICES, YuvPicture, planes_of
from dtfsal.runtime.frontend.preprocess import normalisation_table, normalise_clip, resize_frame
from dtfsal.runtime.media.video import VideoReader, yuv_picture

SIDES = st.integers(1, 70)
# FFmpeg's numbers of the matrices' colour spaces.
COLOUR_SPACES = {"bt709": 1, "fcc": 4, "bt601": 6, "smpte240m": 7, "bt2020": 9}


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@settings(deadline=None, max_examples=150)
@given(height=SIDES, width=SIDES, new_height=SIDES, new_width=SIDES, seed=st.integers(0, 99))
def test_a_frame_is_pillows_bit_for_bit(host_library, calls, height, width, new_height, new_width, seed):
    rgb = noise(seed, height, width, 3)
    # One axis at a time: Pillow 13 takes the columns first for some sizes, where a level may differ by one.
    expected = resize_frame(resize_frame(rgb, height, new_width), new_height, new_width)
    found = calls.prepared(host_library, rgb, new_height, new_width)
    np.testing.assert_array_equal(found, expected.transpose(2, 0, 1))
    direct = resize_frame(rgb, new_height, new_width).astype(int)
    assert np.abs(found - direct.transpose(2, 0, 1)).max() <= 1


@pytest.mark.parametrize(
    "size", [(1080, 1920), (2160, 3840), (720, 1280), (1280, 720), (480, 854), (224, 384), (100, 5000)]
)
def test_usual_sizes(host_library, calls, size):
    rgb = noise(0, *size, 3)
    found = calls.prepared(host_library, rgb, 224, 384)
    assert np.abs(found - resize_frame(rgb, 224, 384).astype(int).transpose(2, 0, 1)).max() <= 1


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_levels_become_normalised_values(host_library, calls, dtype):
    clip = ClipSpec(frames=1, height=12, width=20)
    rgb = noise(1, 30, 50, 3)
    found = calls.prepared(host_library, rgb, 12, 20, dtype=dtype, levels=normalisation_table(clip))
    small = resize_frame(resize_frame(rgb, 30, 20), 12, 20)
    np.testing.assert_array_equal(found, normalise_clip([small], clip)[:, 0].astype(dtype))


def test_half_precision_is_rounded_as_ieee_says(host_library, calls):
    """Every kind of number: subnormal, halfway between two, too large, infinite, not a number."""
    rng = np.random.default_rng(0)
    levels = np.zeros((3, 256), np.float32)
    levels[0] = np.ldexp(rng.standard_normal(256), rng.integers(-28, 18, 256)).astype(np.float32)
    levels[1] = np.arange(256, dtype=np.float32) * 2**-24 + 2**-25  # halves of the smallest
    levels[2, :8] = [np.inf, -np.inf, np.nan, 65504, 65519.99, 65520, -0.0, 2**-26]
    levels[2, 8:] = 1 + np.arange(248) * 2**-11  # halfway between FP16 numbers, every second
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    found = calls.prepared(host_library, ramp, 1, 256, dtype="float16", levels=levels)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found[:, 0], levels.astype(np.float16))


def decoded_picture(planes, kind, colour_space, full):
    height, width = planes[0].shape
    picture = av.VideoFrame(width, height, kind)
    for target, plane in zip(picture.planes, planes, strict=True):
        rows = np.zeros((target.height, target.line_size), np.uint8)
        rows[:, : plane.shape[1]] = plane
        target.update(rows.tobytes())
    picture.colorspace = colour_space
    picture.color_range = 2 if full else 1
    return picture


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_yuv_is_ffmpegs(host_library, calls, matrix, full):
    """Levels of all kinds, outside the range, too. FFmpeg rounds so on x86; its C code is within 3 levels."""
    height, width = 96, 128
    planes = noise(2, height, width), noise(3, height // 2, width // 2), noise(4, height // 2, width // 2)
    picture = decoded_picture(planes, "yuv420p", COLOUR_SPACES[matrix], full)
    yuv = yuv_picture(picture)
    assert (yuv.matrix, yuv.full_range) == (matrix, full)
    expected = picture.to_ndarray(format="rgb24").astype(int)
    found = calls.prepared(host_library, yuv, height, width).transpose(1, 2, 0)
    assert np.abs(found - expected).max() <= 3
    small = calls.prepared(host_library, yuv, 24, 40).transpose(1, 2, 0)
    assert np.abs(small - resize_frame(expected.astype(np.uint8), 24, 40)).max() <= 1  # what the model sees


def test_a_gradient_in_closed_form(host_library, calls):
    """Greys have no colour, whatever the matrix: (y - 16) * 255 / 219."""
    levels = np.arange(256, dtype=np.uint8)[None].repeat(2, axis=0)
    grey = np.full((1, 128), 128, np.uint8)
    for matrix in MATRICES:
        found = calls.prepared(host_library, YuvPicture(levels, grey, grey, matrix), 2, 256)
        expected = np.clip((np.arange(256) - 16) * 255 / 219, 0, 255)
        assert np.abs(found - expected).max() <= 1
        full = calls.prepared(host_library, YuvPicture(levels, grey, grey, matrix, True), 2, 256)
        np.testing.assert_array_equal(full[0, 0], np.arange(256))


def test_nv12_is_the_same_picture(host_library, calls):
    y, u, v = noise(5, 20, 30), noise(6, 10, 15), noise(7, 10, 15)
    picture = YuvPicture(y, u, v, "bt709")
    expected = calls.prepared(host_library, picture, 8, 12)
    call, found, _alive = calls.frame_call(host_library, picture, 8, 12)
    chroma = np.ascontiguousarray(np.stack([u, v], axis=2))
    call.chroma_step = 2
    call.planes[1], call.planes[2] = chroma.ctypes.data, chroma.ctypes.data + 1
    call.pitches[1] = call.pitches[2] = 30
    host_library.prepare_frame(call, 0)
    np.testing.assert_array_equal(found, expected)


def test_odd_sizes_have_half_a_colour_more(host_library, calls):
    y, u, v = noise(8, 5, 7), noise(9, 3, 4), noise(10, 3, 4)
    found = calls.prepared(host_library, YuvPicture(y, u, v), 5, 7)
    even = calls.prepared(host_library, YuvPicture(np.pad(y, ((0, 1), (0, 1))), u, v), 6, 8)
    np.testing.assert_array_equal(found, even[:, :5, :7])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("width", 0, "a size is not positive, too large or not possible"),
        ("target_height", -1, "a size is not positive, too large or not possible"),
        ("column_taps", 0, "a size is not positive, too large or not possible"),
        ("width", 40000, "a size is not positive, too large or not possible"),
        ("format", 7, "a type, layout, format or matrix is unknown"),
        ("target_type", 2, "a type, layout, format or matrix is unknown"),
        ("target", None, "a pointer that is needed is null"),
        ("levels", None, "a pointer that is needed is null"),
    ],
)
def test_wrong_calls_are_told(host_library, calls, field, value, message):
    call, _result, _alive = calls.frame_call(host_library, noise(0, 4, 6, 3), 2, 3)
    setattr(call, field, value)
    with pytest.raises(UsageError, match=message):
        host_library.prepare_frame(call, 0)


def test_short_pitches_wrong_chroma_and_missing_planes_are_told(host_library, calls):
    picture = YuvPicture(noise(0, 4, 6), noise(1, 2, 3), noise(2, 2, 3))
    for index, message in ((0, "pitch"), (2, "pitch")):
        call, _result, _alive = calls.frame_call(host_library, picture, 2, 3)
        call.pitches[index] -= 1
        with pytest.raises(UsageError, match=message):
            host_library.prepare_frame(call, 0)
    for field, value in (("chroma_step", 3), ("matrix", 5)):
        call, _result, _alive = calls.frame_call(host_library, picture, 2, 3)
        setattr(call, field, value)
        with pytest.raises(UsageError, match="a type, layout, format or matrix is unknown"):
            host_library.prepare_frame(call, 0)
    call, _result, _alive = calls.frame_call(host_library, picture, 2, 3)
    call.planes[1] = None
    with pytest.raises(UsageError, match="null"):
        host_library.prepare_frame(call, 0)


def test_axes_that_cannot_be_are_told(host_library):
    for source, target in ((0, 4), (4, 0), (40000, 4)):
        with pytest.raises(UsageError, match="a size is not positive, too large or not possible"):
            host_library.resize_axis(source, target)


@pytest.mark.parametrize("picture", [noise(0, 4, 6), noise(0, 4, 6, 4), noise(0, 0, 6, 3), np.zeros((4, 6, 3))])
def test_what_is_no_picture_is_told(picture):
    with pytest.raises(UsageError, match="uint8 RGB"):
        planes_of(picture)


def test_planes_that_do_not_fit_are_told():
    with pytest.raises(UsageError, match="colour must be"):
        YuvPicture(noise(0, 4, 6), noise(1, 2, 2), noise(2, 2, 3))
    with pytest.raises(UsageError, match="planes must be"):
        YuvPicture(np.zeros((4, 6)), noise(1, 2, 3), noise(2, 2, 3))
    with pytest.raises(UsageError, match="matrix must be"):
        YuvPicture(noise(0, 4, 6), noise(1, 2, 3), noise(2, 2, 3), "rgb")


def test_pictures_of_a_video_are_its_frames(make_toy_clip, tmp_path, host_library, calls):
    """H.264's YUV, through a file: what the model sees of `pictures()` is what it sees of the frames."""
    rows, columns = np.mgrid[:90, :160]
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 90, 160, "yuv420p"
        for number in range(6):
            rgb = np.stack([rows * 2, columns, (rows + columns + 20 * number) % 256], axis=2).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    with VideoReader(path, size=(24, 40)) as reader, VideoReader(path) as other:
        pairs = list(zip(reader, other.pictures(), strict=True))
    assert len(pairs) == 6
    for frame, decoded in pairs:
        assert (frame.index, frame.time_seconds) == (decoded.index, decoded.time_seconds)
        assert isinstance(decoded.picture, YuvPicture)
        found = calls.prepared(host_library, decoded.picture, 24, 40).transpose(1, 2, 0)
        assert np.abs(found - frame.rgb.astype(int)).max() <= 1


def test_pictures_that_are_not_yuv_are_rgb(make_toy_clip, tmp_path):
    make_toy_clip(tmp_path / "clip.mkv")
    with VideoReader(tmp_path / "clip.mkv") as reader, VideoReader(tmp_path / "clip.mkv") as other:
        for frame, decoded in zip(reader, other.pictures(), strict=True):
            np.testing.assert_array_equal(decoded.picture, frame.rgb)


def test_odd_sizes_and_rare_colours_are_left_to_ffmpeg():
    planes = noise(0, 6, 10), noise(1, 3, 5), noise(2, 3, 5)
    assert yuv_picture(decoded_picture(planes, "yuv420p", 8, False)) is None  # YCgCo
    assert yuv_picture(av.VideoFrame(10, 6, "yuv422p")) is None
    assert yuv_picture(av.VideoFrame(9, 6, "yuv420p")) is None
