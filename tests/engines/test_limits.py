"""Bounds: the table is the same in C, and what is beyond it is one sentence, never another exception."""

import json
import re
import time
from pathlib import Path

import pytest

from dtfsal import SaliencyPredictor, StreamPredictor, open_engine
from dtfsal.engines import AudioSpec, ClipSpec, limits
from dtfsal.engines.bundle.strict_json import parse_json
from dtfsal.engines.errors import EngineError, UsageError
from dtfsal.runtime.cli import main
from dtfsal.runtime.predict.maps import smooth_map

HEADER = Path(__file__).parents[2] / "runtime" / "capi" / "source" / "limits.h"
CLIP = {"frames": 16, "height": 96, "width": 160}
AUDIO = {"slices": 9, "height": 48, "width": 80}
NUMBERS = [10**30, -(10**30), 10**5000, 1e308, float("inf"), float("nan"), "1", None, [], True, 0, -1]


def numbers(*without):
    """Parameters of their own names, since one has too many digits for a text."""
    chosen = [value for value in NUMBERS if not any(value is other for other in without)]
    return pytest.mark.parametrize("value", chosen, ids=map(str, range(len(chosen))))


def test_c_has_the_same_bounds():
    text = HEADER.read_text()
    found = {
        name: (float(least), float(eval(most)))
        for name, least, most in re.findall(r"k(\w+) = \{([\d.e-]+), ([\d.e+< ]+)\}", text)
    }
    names = {"frame_rate_hz": "FrameRate", "sample_rate_hz": "SampleRate"}
    for table, prefix in ((limits.CLIP, ""), (limits.AUDIO, "Slice")):
        for name, bounds in table.items():
            camel = names.get(name, "".join(word.capitalize() for word in name.split("_")))
            if name in ("height", "width"):
                camel = prefix + camel
            assert found.pop(camel) == bounds, name
    assert not found
    powers = {name: 2 ** int(power) for name, power in re.findall(r"k(\w+) = int64_t\{1\} << (\d+)", text)}
    assert powers == {
        "ClipPixels": limits.CLIP_PIXELS,
        "SliceValues": limits.SLICE_VALUES,
        "WindowSamples": limits.WINDOW_SAMPLES,
        "TensorValues": limits.TENSOR_VALUES,
    }
    assert f"kTensorAxes = {limits.TENSOR_AXES}," in text
    assert f"kTextCharacters = {limits.TEXT_CHARACTERS};" in text


@numbers(True)
def test_specs_refuse_what_no_model_has(value):
    for spec, table, usual in ((ClipSpec, limits.CLIP, CLIP), (AudioSpec, limits.AUDIO, AUDIO)):
        for name in table:
            with pytest.raises(UsageError, match=name) as caught:
                spec(**{**usual, name: value})
            assert len(str(caught.value)) < 400


def test_what_is_large_together_is_refused():
    with pytest.raises(UsageError, match="pixels in a window"):
        ClipSpec(frames=4096, height=4096, width=4096)
    for large in ({"window_length": 16384, "slice_frames": 4096}, {"slices": 256, "slice_hop_frames": 4096}):
        with pytest.raises(UsageError, match="a length that no model takes"):
            AudioSpec(**AUDIO, **large) if "slices" not in large else AudioSpec(**{**AUDIO, **large})


@numbers(None, True, 0)
@pytest.mark.parametrize(
    "name", ["stride", "max_ready", "frame_rate_hz", "sound_wait_seconds", "threads", "delay_seconds"]
)
def test_stream_arguments(toy_engine, name, value):
    with pytest.raises(UsageError, match=name):
        StreamPredictor(toy_engine, **{name: value})


@numbers(True, 0)
def test_other_arguments(toy_engine, value):
    with pytest.raises(UsageError, match="smoothing"):
        smooth_map([[1.0]], value)
    with pytest.raises(UsageError, match="stride"):
        SaliencyPredictor(toy_engine, stride=value)
    if value is not None:
        with pytest.raises(UsageError, match="threads"):
            open_engine(toy_engine, threads=value)


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "x.mp4", "-e", "E", "-o", "o.csv", "--threads", "1e20"],
        ["predict", "x.mp4", "-e", "E", "-o", "o.csv", "--threads", "1" + "0" * 20],
        ["predict", "x.mp4", "-e", "E", "-o", "o.csv", "--threads", "9" * 5000],
        ["predict", "x.mp4", "-e", "E", "-o", "o.csv", "--smoothing", "1e308"],
        ["predict", "x.mp4", "-e", "E", "-o", "o.csv", "--smoothing", "nan"],
        ["predict", "x.mp4", "-e", "E", "-o", "o.csv", "--stride", "1" + "0" * 30],
        ["build", "--preset", "tiny", "-o", "new.engine", "--seed", "1e20"],
        ["build", "--preset", "tiny", "-o", "new.engine", "--seed", "-1"],
        ["build", "--preset", "tiny", "-o", "new.engine", "--seed", "9" * 40],
        ["build", "--preset", "tiny", "-o", "new.engine", "--frames", "9" * 40],
        ["build", "--preset", "tiny", "-o", "new.engine", "--size", "999999999999x32"],
        ["build", "--preset", "tiny", "-o", "new.engine", "--max-batch-size", "9" * 40],
        ["parity", "E", "--windows", "9" * 40],
        ["benchmark", "latency", "-e", "E", "--runs", "9" * 40],
        ["benchmark", "latency", "-e", "E", "--runs", "1", "--threads", "9" * 40],
    ],
    ids=lambda words: f"{words[0]} {words[-2]} {words[-1][:8]}",
)
def test_command_lines(words, toy_engine, make_toy_clip, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    clip = str(make_toy_clip("x.mp4.mkv"))
    words = [{"E": str(toy_engine), "x.mp4": clip}.get(word, word) for word in words]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("dtfsal: error: ")
    assert "this is a bug" not in error
    assert len(error) < 600
    assert not (tmp_path / "new.engine").exists()


def test_many_keys_are_read_in_time_that_grows_with_them():
    """40,000 keys took a minute, which was quadratic; no time is asserted but one a thousand times this."""
    keys = [f"key {number}" for number in range(200_000)]
    text = json.dumps(dict.fromkeys(keys, 0))[:-1] + ', "key 199999": 1}'
    started = time.process_time()
    with pytest.raises(EngineError, match="'key 199999' occurs twice"):
        parse_json(text, "x")
    assert time.process_time() - started < 60


def test_a_tree_of_shared_lists_ends():
    """YAML's aliases make a list of lists of ... the same list: 64 ** 30 values in a few lines."""
    value: object = [1] * 64
    for _ in range(30):
        value = [value] * 64
    with pytest.raises(UsageError, match="more than any model has"):
        limits.check_model_values({"x": value})
    assert len(limits.shown(value)) <= 60
