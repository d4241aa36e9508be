"""Stages of a thread add up to the whole, and rates follow from them; nothing here asserts a time."""

import json

import numpy as np
import pytest

from dtfsal.benchmarks.timing import stages
from dtfsal.benchmarks.timing.stages import ENGINE_THREAD, OTHER, STAGES, draw, markdown
from dtfsal.engines import AudioSpec, ClipSpec
from dtfsal.runtime import SaliencyPredictor
from dtfsal.runtime.cli import main


@pytest.fixture
def video(tmp_path):
    import av

    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=64, height=48, pix_fmt="yuv420p")
        for index in range(8):
            picture = np.full((48, 64, 3), 30 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_the_command(make_toy_engine, video, tmp_path, capsys):
    clip = ClipSpec(frames=4, height=24, width=40, frame_rate_hz=25.0)
    engine = make_toy_engine(clip, AudioSpec(slices=9, height=12, width=20))
    output = tmp_path / "results" / "stages.json"
    words = ["--engine", str(engine), "--video", str(video), "--stride", "1", "--stride", "3", "--runs", "1"]
    assert main(["benchmark", "stages", *words, "--threads", "1", "-o", str(output)]) == 0
    report = json.loads(output.read_text())
    every, third = report["rows"]
    assert (every["frames"], every["maps"], third["frames"], third["maps"]) == (8, 8, 8, 4)  # 0, 3, 6 and the last
    for row in report["rows"]:
        own_thread = sum(row["stages_ms"][stage] for stage in (*ENGINE_THREAD, OTHER))
        assert own_thread == pytest.approx(row["total_ms"])
        assert set(row["stages_ms"]) == {*STAGES, OTHER}
        assert min(row["stages_ms"].values()) > -0.01  # each second of a thread is counted once
        assert sum(row["stages_ms"][stage] for stage in ("render", "encode")) < row["total_ms"]
        assert row["frames_per_second"] == pytest.approx(8 / row["seconds"][0])
        assert row["engine_only_frames_per_second"] == pytest.approx(8 / row["engine_only_seconds"][0])
        own_rate = row["frames_per_second"] / row["engine_only_frames_per_second"]
        assert row["of_engine_only"] == pytest.approx(own_rate)
    assert {"decode", "engine", "encode"} <= {s for s in STAGES if every["stages_ms"][s] > 0}
    assert markdown(report) == capsys.readouterr().out
    assert str(tmp_path) not in output.read_text()
    labels = [label.get_text() for label in draw(report).axes[0].get_yticklabels()]
    assert labels[3:5] == ["engine only", "stride 3: engine's thread"]


def test_the_engine_alone_makes_the_same_maps(make_toy_engine, video, monkeypatch):
    """Frames in memory are those of the file, at their times: the engine works as much."""
    maps = []
    monkeypatch.setattr(stages, "SaliencyPredictor", recording(maps))
    engine = make_toy_engine(ClipSpec(frames=4, height=24, width=40, frame_rate_hz=25.0), None)
    assert stages.run_alone(engine, video, 1, 1) > 0
    with SaliencyPredictor(engine, threads=1) as predictor:
        np.testing.assert_array_equal(maps, [frame.saliency_map for frame in predictor.predict_file(video)])


def recording(maps):
    """A predictor that keeps the maps of frames given one by one."""

    class Recording(SaliencyPredictor):
        def predict_frames(self, frames, **options):
            prediction = super().predict_frames(frames, **options)
            inner = prediction._frames
            prediction._frames = (maps.append(found[0].saliency_map) or found for found in inner)
            return prediction

    return Recording


@pytest.mark.parametrize("words", [("--stride", "0"), ("--runs", "0"), ("--threads", "0")])
def test_wrong_arguments(words, tmp_path):
    assert main(["benchmark", "stages", "-e", str(tmp_path), "--video", "x.mp4", *words]) == 2
