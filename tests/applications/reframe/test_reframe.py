"""Whole runs: a spot that moves through a clip, with its sound."""

import json

import av
import numpy as np
import pytest

from dtfsal.applications.reframe import reframe as module
from dtfsal.applications.reframe.outputs import write_video
from dtfsal.applications.reframe.planner import ReframeSettings
from dtfsal.applications.reframe.reframe import plan_file
from dtfsal.engines.errors import UnavailableError
from dtfsal.runtime import SaliencyPredictor
from dtfsal.runtime.cli import main
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import VideoReader

pytest.importorskip("scipy")

SQUARE = ReframeSettings(aspect=1.0, letterbox="never")


class Cuts:
    """Finds the cuts that it is told, as late as PySceneDetect does."""

    def __init__(self, *frames):
        self.frames, self.count = frames, 0

    def push(self, _picture):
        self.count += 1
        return [frame for frame in self.frames if frame + 3 == self.count]


def spots(*columns):
    """Black frames of 48x96 with a white square about each column."""
    frames = np.zeros((len(columns), 48, 96, 3), np.uint8)
    for frame, column in zip(frames, columns, strict=True):
        frame[16:32, max(0, column - 8) : column + 8] = 255
    return frames


@pytest.fixture
def predictor(make_toy_engine):
    """Its maps are grey levels."""
    with SaliencyPredictor(make_toy_engine(audio=None), threads=1) as opened:
        yield opened


@pytest.fixture
def scenedetect():
    return pytest.importorskip("scenedetect")


def test_the_crop_follows_the_spot_and_keeps_the_sound(predictor, make_toy_clip, tmp_path):
    clip = make_toy_clip(frames=spots(*[12] * 10, *[84] * 10), sound_seconds=0.8)
    path = plan_file(predictor, clip, SQUARE, cuts=Cuts(10))
    assert [shot.first for shot in path.shots] == [0, 10]
    with VideoReader(clip) as reader:
        write_video(reader, path, tmp_path / "out.mkv", lambda: None)
    with VideoReader(tmp_path / "out.mkv") as reader:
        pictures = [frame.rgb for frame in reader]
    assert len(pictures) == 20
    for index in (0, 9, 10, 19):
        assert pictures[index].shape == (48, 48, 3)
        # A quarter of the window is white at most: 16x16 of 48x48 is a ninth.
        assert pictures[index].mean() == pytest.approx(255 / 9, abs=4)

    def sound(name):
        with av.open(str(name)) as container:
            return [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size]

    assert b"".join(sound(tmp_path / "out.mkv")) == b"".join(sound(clip))


def test_a_file_that_changes_on_the_way_is_said_and_leaves_nothing(predictor, make_toy_clip, tmp_path):
    path = plan_file(predictor, make_toy_clip(frames=spots(*[12] * 8)), SQUARE, cuts=Cuts())
    shorter = make_toy_clip("other.mkv", frames=spots(*[12] * 5))
    with VideoReader(shorter) as reader, pytest.raises(MediaError, match="changed"):
        write_video(reader, path, tmp_path / "out.mkv", lambda: None)
    assert {file.name for file in tmp_path.iterdir()} == {"clip.mkv", "other.mkv"}


def test_a_clip_of_one_frame(predictor, make_toy_clip):
    path = plan_file(predictor, make_toy_clip(frames=spots(84)), SQUARE, cuts=Cuts())
    np.testing.assert_allclose(path.windows, [[48, 0, 48, 48]], atol=1)  # the toy's maps have a floor


def test_without_scenedetect_the_extra_is_named(predictor, make_toy_clip, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scenedetect", None)
    with pytest.raises(UnavailableError, match=r"dtfsal\[reframe\]"):
        plan_file(predictor, make_toy_clip(), SQUARE)


def test_a_cut_is_found_in_both_kinds_of_pictures(scenedetect):
    from dtfsal.engines.raw_inputs import YuvPicture

    rng = np.random.default_rng(0)
    textures = [rng.integers(0, high, (90, 160, 3), dtype=np.uint8) for high in (255, 80)]

    def yuv(rgb):
        y = np.ascontiguousarray(rgb[..., 1])
        return YuvPicture(y, y[::2, ::2].copy(), y[::2, ::2].copy(), "bt709", True)

    for kind in (lambda rgb: rgb, yuv):
        finder = module.SceneCuts(25.0)
        found = [cut for index in range(60) for cut in finder.push(kind(textures[index >= 31]))]
        assert found == [31]


def test_the_command(scenedetect, capsys, make_toy_engine, make_toy_clip, tmp_path):
    engine = make_toy_engine(audio=None)
    clip = make_toy_clip(frames=spots(*[12] * 6))
    outputs = ["--path", tmp_path / "path.json", "--filter-script", tmp_path / "crop.txt", "-o", tmp_path / "out.mp4"]
    command = ["reframe", clip, "--aspect", "1:1", "-e", engine, "--threads", "1", *outputs, "--json"]
    assert main([str(word) for word in command]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["frames"] == 6
    assert summary["output_size"] == [48, 48]
    assert summary["kept_share"] > 0.5
    assert all((tmp_path / name).stat().st_size for name in ("out.mp4", "path.json", "crop.txt"))


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--aspect", "16-9"], 2, "9:16"),
        (["--aspect", "1:1", "-o", "out.avi"], 2, ".mp4"),
        (["--aspect", "1:1", "-o", "clip.mkv"], 2, "is the video"),
        (["--aspect", "1:1", "--zoom", "99"], 2, "zoom"),
        (["--aspect", "1:1", "--dead-zone", "2"], 2, "dead zone"),
        (["--aspect", "1:1", "--keep", "none.json"], 2, "none.json"),
        (["--aspect", "1:1", "--keep", "outside.json"], 2, "does not lie in the frame"),
        (["--aspect", "1:1", "-o", "out.mp4", "--path", "out.mp4"], 2, "named twice"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    capsys, toy_visual_engine, make_toy_clip, tmp_path, monkeypatch, words, code, told
):
    monkeypatch.chdir(tmp_path)
    make_toy_clip(frames=spots(*[12] * 4))
    (tmp_path / "outside.json").write_text('[{"box": [0, 0, 100, 10]}]')
    before = {file.name for file in tmp_path.iterdir()}
    assert main(["reframe", "clip.mkv", "-e", str(toy_visual_engine), *words]) == code
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert {file.name for file in tmp_path.iterdir()} == before


def test_a_sound_file_is_refused(capsys, clip_of_sound, toy_visual_engine):
    assert main(["reframe", str(clip_of_sound), "--aspect", "1:1", "-e", str(toy_visual_engine)]) == 3
    assert "only sound" in capsys.readouterr().err


@pytest.fixture
def clip_of_sound(tmp_path):
    path = tmp_path / "sound.mka"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return path
