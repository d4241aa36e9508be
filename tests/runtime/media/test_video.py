"""Frames and times of any video, and one sentence for whatever is not one."""

import numpy as np
import pytest

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.frontend.preprocess import resize_frame
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import VideoReader, probe


def read(path, **options):
    with VideoReader(path, **options) as reader:
        return list(reader), reader


def level(frame):
    """The grey level that a made frame tells its number by."""
    return float(np.median(frame.rgb))


@pytest.mark.parametrize(
    ("name", "frames", "rate", "size", "sound"),
    [
        ("bigbuckbunny.mp4", 132, 25, (720, 1280), True),
        ("bikes.mp4", 250, 25, (272, 640), False),
        ("carphone_pristine.mp4", 120, 30000 / 1001, (144, 176), False),
    ],
)
def test_real_clips(sample_clips, name, frames, rate, size, sound):
    with VideoReader(sample_clips / name, size=(24, 32)) as reader:
        found = [(frame.index, frame.time_seconds) for frame in reader]
    info = reader.info
    assert [index for index, _ in found] == list(range(frames))
    # MP4 keeps these rates exactly; what is left is float64.
    np.testing.assert_allclose([time for _, time in found], np.arange(frames) / rate, rtol=0, atol=1e-9)
    assert (info.height, info.width, info.has_audio) == (*size, sound)
    assert info.frame_interval_seconds == pytest.approx(1 / rate)
    assert (reader.concealed_frames, reader.skipped_frames) == (0, 0)


def test_frames_are_the_pictures_in_order(clip):
    frames, _ = read(clip(count=12))
    levels = [level(frame) for frame in frames]
    # H.264 at its default quality keeps a flat grey to a few levels.
    np.testing.assert_allclose(levels, [30 + 7 * i for i in range(12)], atol=4)
    assert frames[0].rgb.dtype == np.uint8
    assert frames[0].rgb[2, 2, 0] > 200 > 80 > frames[0].rgb[2, 2, 2]  # RGB, the square is red


@pytest.mark.parametrize("fps", [10, 24, 25, 30, 50, 60])
def test_rates(clip, fps):
    frames, reader = read(clip(count=8, fps=fps))
    np.testing.assert_allclose([f.time_seconds for f in frames], np.arange(8) / fps, atol=1e-4)
    assert reader.info.frame_interval_seconds == pytest.approx(1 / fps, rel=1e-3)


def test_variable_rates_keep_their_times(clip):
    times = [0, 0.04, 0.05, 0.3, 0.31, 1.0, 1.2]
    frames, _ = read(clip(count=7, times=times))
    np.testing.assert_allclose([f.time_seconds for f in frames], times, atol=2e-5)  # the time base's step is 11 us


def test_time_zero_is_the_first_frame(clip):
    frames, reader = read(clip("late.mkv", count=5, start=2.0))
    assert frames[0].time_seconds == 0
    assert reader.info.start_seconds == pytest.approx(2.0, abs=1e-3)
    np.testing.assert_allclose([f.time_seconds for f in frames], np.arange(5) / 25, atol=1.1e-3)  # MKV counts in ms


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (33, 47), (240, 7)])
def test_odd_sizes(clip, size):
    frames, reader = read(clip("odd.mkv", count=3, size=size, codec="ffv1", pixel_format="bgr0"))
    assert all(frame.rgb.shape == (*size, 3) for frame in frames)
    assert (reader.info.height, reader.info.width) == size


@pytest.mark.parametrize(
    ("codec", "pixel_format", "name"),
    [
        ("libx264", "yuv420p10le", "ten.mp4"),
        ("libx264", "yuv444p", "full.mp4"),
        ("libx264", "gray", "grey.mp4"),
        ("ffv1", "yuva420p", "alpha.mkv"),
        ("gif", "rgb8", "anim.gif"),
        ("mjpeg", "yuvj420p", "jpeg.avi"),
        ("mpeg4", "yuv420p", "four.avi"),
        ("libvpx-vp9", "yuv420p", "nine.webm"),
    ],
)
def test_formats(clip, codec, pixel_format, name):
    try:
        path = clip(name, count=4, codec=codec, pixel_format=pixel_format)
    except Exception as error:
        pytest.skip(f"this build of FFmpeg does not write it: {error}")
    frames, _ = read(path)
    assert len(frames) == 4
    tolerance = 30 if codec == "gif" else 12  # 256 colours in all; lossy codecs at their default quality
    levels = np.array([30, 37, 44, 51])
    if pixel_format == "gray":  # written with the full range, but H.264 says nothing and so means 16..235
        levels = (levels - 16) * 255 / 219
    np.testing.assert_allclose([level(f) for f in frames], levels, atol=tolerance)


def test_one_frame(clip):
    frames, _ = read(clip(count=1))
    assert [frame.time_seconds for frame in frames] == [0.0]


def test_eight_k(clip):
    frames, reader = read(clip("8k.mp4", count=2, size=(4320, 7680), options={"preset": "ultrafast"}), size=(224, 384))
    assert (reader.info.width, reader.info.height) == (7680, 4320)
    assert [frame.rgb.shape for frame in frames] == [(224, 384, 3)] * 2


def test_resizing_while_reading_is_resizing_after(clip):
    path = clip(count=3)
    full, _ = read(path)
    small, _ = read(path, size=(20, 30))
    for a, b in zip(full, small, strict=True):
        np.testing.assert_array_equal(resize_frame(a.rgb, 20, 30), b.rgb)


def test_a_missing_frame_leaves_the_times_of_the_others(clip):
    """Packets dropped from a stream of key frames: fewer frames, the same times."""
    path = clip("gap.mkv", count=12, codec="mjpeg", pixel_format="yuvj420p", keep=lambda i, _: i not in (4, 5))
    frames, _ = read(path)
    expected = [i / 25 for i in range(12) if i not in (4, 5)]
    np.testing.assert_allclose([f.time_seconds for f in frames], expected, atol=1.1e-3)
    np.testing.assert_allclose([level(f) for f in frames], [30 + 7 * round(t * 25) for t in expected], atol=6)


def test_damage_in_the_middle_is_counted_and_time_stays_right(clip):
    def spoil(index, payload):
        return payload[:40] + bytes(b ^ 0x5A for b in payload[40:]) if index in (10, 11) else payload

    path = clip("bad.mkv", count=40, size=(96, 128), damage=spoil, options={"g": "20", "bf": "0"})
    frames, reader = read(path)
    assert reader.concealed_frames + reader.skipped_frames > 0
    assert len(frames) >= 36
    times = np.array([f.time_seconds for f in frames])
    assert (np.diff(times) > 0).all()
    np.testing.assert_allclose(times * 25, np.round(times * 25), atol=0.03)  # all on the source's grid, MKV's ms
    assert times[-1] == pytest.approx(39 / 25, abs=1.1e-3)
    assert level(frames[-1]) == pytest.approx(30 + (7 * 39) % 180, abs=6)  # and right again after the next key frame


def test_a_truncated_file_gives_what_is_there(clip):
    path = clip("cut.mkv", count=60, options={"g": "5"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, _ = read(path)
    assert 5 < len(frames) < 60


def bad_files(folder, clip):
    whole = clip("whole.mp4", count=20).read_bytes()
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("this is not a video\n" * 50)
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(20000))
    (folder / "header.mp4").write_bytes(whole[:200])
    (folder / "folder.mp4").mkdir()
    return folder


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("none.mp4", "there is no file"),
        ("empty.mp4", "is empty"),
        ("text.mp4", "is not a video"),
        ("noise.mp4", "is not a video"),
        ("header.mp4", "is not a video|no frame"),
        ("folder.mp4", "is a folder"),
    ],
)
def test_what_is_not_a_video_is_said_in_a_sentence(tmp_path, clip, name, match, capfd):
    path = bad_files(tmp_path, clip) / name
    with pytest.raises(MediaError, match=match) as error:
        probe(path)
    assert name in str(error.value)
    assert "\n" not in str(error.value)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")  # FFmpeg's own lines stay away


def test_sound_alone_is_not_a_video(tmp_path):
    import wave

    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    with pytest.raises(MediaError, match="only sound"):
        probe(path)


def test_cover_art_is_not_a_video(tmp_path, clip):
    import av

    source = clip("source.mp4", count=1, samples=np.zeros(48000, np.float32))
    path = tmp_path / "song.m4a"
    with av.open(str(source)) as before, av.open(str(path), "w", format="mp4") as after:
        sound = after.add_stream_from_template(before.streams.audio[0])
        cover = after.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        for packet in [*cover.encode(frame.reformat(format="yuvj420p")), *cover.encode(None)]:
            after.mux(packet)
        for packet in before.demux(before.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = sound
                after.mux(packet)
    with av.open(str(path)) as container:
        marked = [bool(s.disposition & av.stream.Disposition.attached_pic) for s in container.streams.video]
    if marked != [True]:
        pytest.skip("this muxer does not mark cover art")
    with pytest.raises(MediaError, match="only sound"):
        probe(path)


def test_a_video_without_frames(clip):
    path = clip("none.mkv", count=5, keep=lambda *_: False)
    with pytest.raises(MediaError, match=r"none\.mkv"):
        probe(path)


def test_an_absurd_size_is_refused(clip, monkeypatch):
    from dtfsal.runtime.media import video as media

    monkeypatch.setattr(media, "MAX_SIDE", 60)
    with pytest.raises(MediaError, match="64x48"):
        probe(clip())


def test_a_reader_is_read_once(clip):
    with VideoReader(clip(count=2)) as reader:
        assert len(list(reader)) == 2
        with pytest.raises(UsageError, match="once"):
            list(reader)


def test_the_file_is_closed_and_closing_twice_is_fine(clip):
    reader = VideoReader(clip(count=2))
    reader.close()
    reader.close()
