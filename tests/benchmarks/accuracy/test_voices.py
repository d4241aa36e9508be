"""A face that is drawn, whose mouth moves when the test says so; the engine's maps are known in closed form."""

import json

import numpy as np
import pytest

from dtfsal.benchmarks.accuracy.voices import mouth_loudness, pair, spoken
from dtfsal.engines import UsageError
from dtfsal.runtime.cli import main

SPOKEN = (slice(10, 16), slice(40, 46))  # frames in which the mouth moves: early in the first half, late in the second


def talking(count=60, size=(48, 80)):
    """A grey picture whose lower middle flashes while it speaks, (count, *size, 3)."""
    frames = np.full((count, *size, 3), 90, np.uint8)
    frames[:, :, :10] = 30  # so that a mirrored picture differs
    for part in SPOKEN:
        for index in range(part.start, part.stop, 2):
            frames[index, 28:36, 32:48] = 200
    return frames


def test_the_mouth_is_loud_while_it_moves():
    loudness = mouth_loudness(talking())
    loud = np.flatnonzero(loudness > 0.5)
    # Smoothing over three frames widens each part by one.
    assert set(loud) <= {index for part in SPOKEN for index in range(part.start - 1, part.stop + 2)}
    assert {11, 12, 13, 41, 42, 43} <= set(loud)
    assert loudness.min() == 0
    assert loudness.max() == 1


def test_two_halves_stand_side_by_side():
    frames = talking()
    shown = pair(frames)
    np.testing.assert_array_equal(shown.frames[:, :, :80], frames[:30])
    np.testing.assert_array_equal(shown.frames[:, :, :79:-1], frames[30:])
    assert shown.envelopes["left"].argmax() in range(9, 17)
    assert shown.envelopes["right"].argmax() in range(9, 17)
    assert shown.envelopes["right"][:9].max() == 0


def test_the_voice_is_as_loud_as_the_mouth_moves():
    loudness = np.zeros(50)
    loudness[20:30] = 1
    samples = spoken(loudness, 25.0, 16000, seed=3)
    assert samples.shape == (32000,)
    power = np.square(samples).reshape(50, -1).mean(1)
    assert power[21:29].min() > 0.01 * power.max()
    assert power[:19].max() == 0
    assert power[31:].max() == 0


def test_faces_that_do_not_talk_are_refused():
    with pytest.raises(UsageError, match="nothing moves where a mouth would be"):
        pair(np.full((40, 48, 80, 3), 7, np.uint8))
    with pytest.raises(UsageError, match="has 31 frames: give one of a talking face with 32"):
        pair(talking()[:31])


def test_a_voice_that_the_engine_hears_everywhere_moves_nothing(toy_engine, make_toy_clip, tmp_path, capsys):
    """The toy engine adds one value to the whole map for a sound, so a voice takes shares towards a half."""
    clip = make_toy_clip(frames=talking())
    output = tmp_path / "voices.json"
    command = ["benchmark", "voices", "--engine", str(toy_engine), "--video", str(clip), "--voices", "2"]
    assert main([*command, "--output", str(output), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["frames"] == 30
    assert report["share_of_left"]["muted"] == pytest.approx(0.5, abs=0.02)
    assert abs(report["gain"]["mean"]) < 0.01
    assert report["gain"]["least"] <= report["gain"]["mean"] <= report["gain"]["most"]
    assert json.loads(output.read_text()) == report
    assert "--voices 2" in output.with_suffix(".md").read_text()


def test_an_engine_that_does_not_hear_is_refused(toy_visual_engine, make_toy_clip, capsys):
    clip = make_toy_clip(frames=talking())
    assert main(["benchmark", "voices", "--engine", str(toy_visual_engine), "--video", str(clip)]) == 2
    assert "does not hear: give an audio-visual engine" in capsys.readouterr().err
