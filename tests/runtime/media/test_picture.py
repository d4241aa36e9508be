"""Pictures upright, in their colours."""

import struct

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from dtfsal.runtime.media.picture import Colours, to_rgb
from dtfsal.runtime.media.video import VideoReader
from dtfsal.runtime.media.writer import VideoWriter

# A stored point (p, q) is shown at (a p + c q, b p + d q), y downwards: ISO/IEC 14496-12, 6.2.2; and what NumPy makes
# of that.
MATRICES = {
    "as it is": ((1, 0, 0, 1), lambda x: x),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "half a turn": ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
    "upside down": ((1, 0, 0, -1), np.flipud),
    "transposed": ((0, 1, 1, 0), lambda x: x.transpose(1, 0, 2)),
    "clockwise": ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),
    "transverse": ((0, -1, -1, 0), lambda x: np.rot90(x, 2).transpose(1, 0, 2)),
    "counter-clockwise": ((0, -1, 1, 0), lambda x: np.rot90(x, 1)),
}


def first(path):
    with VideoReader(path) as reader:
        return next(iter(reader)).rgb, reader.info


def turned(path, matrix):
    """The track header's matrix, written by hand."""
    a, b, c, d = (value * 65536 for value in matrix)
    content = bytearray(path.read_bytes())
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 2**30)
    place = content.index(identity, content.index(b"tkhd"))
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 2**30)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", MATRICES)
def test_the_eight_display_matrices(clip, name):
    path = clip(count=2, size=(48, 64))
    stored, _ = first(path)
    matrix, expected = MATRICES[name]
    shown, info = first(turned(path, matrix))
    np.testing.assert_array_equal(shown, expected(stored))
    assert (info.height, info.width) == shown.shape[:2]
    assert info.mirrored == (matrix[0] * matrix[3] - matrix[1] * matrix[2] < 0)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_the_eight_exif_orientations(tmp_path, value, suffix):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:12, :16], pixels[:12, -16:] = (250, 20, 20), (20, 250, 20)
    exif = Image.Exif()
    exif[274] = value
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif, **({"subsampling": 0} if suffix == "jpg" else {}))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    shown, _ = first(path)
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).max() <= 3  # two JPEG decoders


def yuv_frame(matrix, y, u, v, *, full=False):
    """A frame of one colour, 4:2:0 of 8 bits."""
    planes = np.concatenate([np.full(32 * 32, y), np.full(16 * 16, u), np.full(16 * 16, v)]).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(planes.reshape(48, 32), format="yuv420p")
    frame.colorspace = matrix
    frame.color_range = 2 if full else 1
    return frame


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("rgb", [(250, 10, 20), (10, 200, 60), (30, 60, 240), (128, 128, 128)])
def test_ycgco(rgb, full):
    """ITU-T H.273, equations 45 to 47: Y = (R + 2 G + B) / 4, Cg = (2 G - R - B) / 4, Co = (R - B) / 2."""
    red, green, blue = np.array(rgb) / 255
    y, cg, co = (red + 2 * green + blue) / 4, (2 * green - red - blue) / 4, (red - blue) / 2
    scale, chroma, black = (255, 255, 0) if full else (219, 224, 16)
    levels = (round(black + scale * y), round(128 + chroma * cg), round(128 + chroma * co))
    shown = to_rgb(yuv_frame(8, *levels, full=full), "a file")
    assert np.abs(shown.astype(int) - rgb).max() <= 4  # three levels rounded


@pytest.mark.parametrize("rgb", [(250, 10, 20), (10, 200, 60), (30, 60, 240), (128, 128, 128)])
def test_bt2020_with_constant_luminance(rgb):
    """ITU-R BT.2020-2, table 4, forwards."""

    def coded(light):
        return 4.5 * light if light < 0.0181 else 1.0993 * light**0.45 - 0.0993

    def light(code):
        return code / 4.5 if code < 4.5 * 0.0181 else ((code + 0.0993) / 1.0993) ** (1 / 0.45)

    red, green, blue = np.array(rgb) / 255
    y = coded(0.2627 * light(red) + 0.6780 * light(green) + 0.0593 * light(blue))
    cb = (blue - y) / (1.9404 if blue < y else 1.5816)
    cr = (red - y) / (1.7184 if red < y else 0.9936)
    levels = (round(16 + 219 * y), round(128 + 224 * cb), round(128 + 224 * cr))
    shown = to_rgb(yuv_frame(10, *levels), "a file")
    assert np.abs(shown.astype(int) - rgb).max() <= 6  # levels rounded; green follows by a steep curve


@pytest.mark.parametrize("matrix", [3, 11, 12, 13, 14, 15, 16, 17])
def test_other_matrices_give_a_picture_and_a_note(clip, matrix):
    grey = to_rgb(yuv_frame(matrix, 126, 128, 128), "a file")
    assert np.abs(grey.astype(int) - 128).max() <= 2
    assert Colours(matrix=matrix).is_guessed
    assert not Colours(matrix=8).is_guessed


def tagged_clip(path, codes, *, full=False, height=48):
    """Saturated colours, with tags."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 96, height, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = codes
        context.color_range = 2 if full else 1
        rgb = np.repeat(
            np.repeat(np.array([[(220, 30, 30), (30, 200, 40), (40, 40, 230)]], np.uint8), height, 0), 32, 1
        )
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        for index in range(3):
            made = frame.reformat(
                format="yuv420p", dst_colorspace=codes[0] if codes[0] != 2 else 5, dst_color_range=context.color_range
            )
            made.pts = index
            for packet in stream.encode(made):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


def levels(path):
    """The decoded Y, U and V of the first frame's three fields, and its tags; not by our reader."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        yuv = frame.to_ndarray()
    height = frame.height
    y, u, v = (
        yuv[:height],
        yuv[height : height + height // 4].reshape(-1, 48),
        yuv[height + height // 4 :].reshape(-1, 48),
    )
    return np.array([[y[8, 16 + 32 * i], u[4, 8 + 16 * i], v[4, 8 + 16 * i]] for i in range(3)], int), tuple(
        map(int, (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range))
    )


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize(
    ("codes", "full"),
    [((1, 1, 1), False), ((1, 1, 1), True), ((5, 5, 6), False), ((2, 2, 2), False), ((9, 9, 16), False)],
    ids=["bt709", "full range", "bt601", "untagged", "hdr"],
)
def test_a_written_video_has_the_sources_colours_and_tags(tmp_path, codes, full, suffix):
    source, path = tagged_clip(tmp_path / "source.mp4", codes, full=full), tmp_path / f"out.{suffix}"
    with VideoReader(source) as reader:
        info = reader.info
        with VideoWriter(path, width=info.width, height=info.height, source=info) as writer:
            for frame in reader:
                writer.write(frame.rgb, frame.time_seconds)
        notes = reader.notes
    (before, tags), (after, written) = levels(source), levels(path)
    assert written[:3] == tags[:3] == codes
    assert (written[3] == 2) == full
    assert np.abs(after - before).max() <= 3  # CRF 18 on flat fields; BT.601 for BT.709 would be 20 off
    assert bool(notes) == (codes[2] == 16)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_pixels_keep_their_aspect(clip, tmp_path, suffix):
    from fractions import Fraction

    source, path = tmp_path / "source.mp4", tmp_path / f"out.{suffix}"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    for matrix, expected in (((1, 0, 0, 1), Fraction(4, 3)), ((0, 1, -1, 0), Fraction(3, 4))):
        original = source.read_bytes()
        turned(source, matrix)
        with VideoReader(source) as reader:
            info = reader.info
            with VideoWriter(path, width=info.width, height=info.height, source=info) as writer:
                for frame in reader:
                    writer.write(frame.rgb, frame.time_seconds)
        source.write_bytes(original)
        with av.open(str(path)) as container:
            assert container.streams.video[0].sample_aspect_ratio == expected
