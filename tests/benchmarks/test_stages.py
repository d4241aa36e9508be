"""Stages add up to the whole, and rates follow from them; nothing here asserts a time."""

import json

import numpy as np
import pytest

from dtfsal.benchmarks.stages import OTHER, STAGES, draw, markdown
from dtfsal.engines import AudioSpec, ClipSpec
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
        assert sum(row["stages_ms"].values()) == pytest.approx(row["total_ms"])
        assert set(row["stages_ms"]) == {*STAGES, OTHER}
        assert min(row["stages_ms"].values()) > -0.01  # each second is counted once
        assert row["of_engine_only"] == pytest.approx(row["stages_ms"]["engine"] / row["total_ms"])
        assert row["frames_per_second"] == pytest.approx(8 / row["seconds"][0])
    assert {"decode", "engine", "encode"} <= {s for s in STAGES if every["stages_ms"][s] > 0}
    assert markdown(report) == capsys.readouterr().out
    assert str(tmp_path) not in output.read_text()
    assert draw(report).axes[0].get_yticklabels()[1].get_text() == "stride 3"


@pytest.mark.parametrize("words", [("--stride", "0"), ("--runs", "0"), ("--threads", "0")])
def test_wrong_arguments(words, tmp_path):
    assert main(["benchmark", "stages", "-e", str(tmp_path), "--video", "x.mp4", *words]) == 2
