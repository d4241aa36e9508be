"""What cannot be: a status and a sentence, and never a crash."""

import ctypes
import json
import math
import shutil

import numpy as np
import pytest

from dtfsal.engines import AudioSpec, ClipSpec
from dtfsal.engines.errors import EngineError, UnavailableError, UsageError
from dtfsal.runtime.capi import C_LIBRARY, NativePredictor
from dtfsal.runtime.capi.library import (
    BAD_ARGUMENT,
    BAD_ENGINE,
    BUSY,
    ENGINE_FAILED,
    FINISHED,
    NO_MAP,
    OK,
    OUT_OF_MEMORY,
    UNAVAILABLE,
    Audio,
    Counts,
    Description,
    Frame,
    Map,
    NativeLibrary,
    Options,
    ProgressFunction,
    onnxruntime_library,
)

CLIP = ClipSpec(frames=4, height=24, width=40, frame_rate_hz=25.0)
AUDIO = AudioSpec(slices=9, height=12, width=20)
PIXELS = (ctypes.c_uint8 * (3 * 64 * 64))()
SAMPLES = (ctypes.c_float * 1000)()
VALUES = (ctypes.c_float * (64 * 64))()


@pytest.fixture(scope="module")
def engine(make_toy_engine):
    return make_toy_engine(CLIP, AUDIO)


@pytest.fixture
def predictor(library, engine):
    with NativePredictor(engine, library=library, frame_rate_hz=25) as opened:
        yield opened


def address(array):
    return ctypes.cast(array, ctypes.c_void_p).value


def a_frame(**changes):
    frame = Frame(width=64, height=48, pts_seconds=changes.pop("pts_seconds", 0.0))
    frame.planes[0], frame.pitches[0] = address(PIXELS), 3 * 64
    for name, value in changes.items():
        if name in ("plane", "pitch"):
            (frame.planes if name == "plane" else frame.pitches)[value[0]] = value[1]
        else:
            setattr(frame, name, value)
    return frame


def some_sound(**changes):
    audio = Audio(sample_rate_hz=16000, samples=address(SAMPLES), count=1000)
    for name, value in changes.items():
        setattr(audio, name, value)
    return audio


def a_map(**changes):
    map_ = Map(width=40, height=24, data=address(VALUES))
    for name, value in changes.items():
        setattr(map_, name, value)
    return map_


def said(predictor):
    message = ctypes.create_string_buffer(1000)
    length = predictor.library.message(predictor._handle, message, len(message))
    assert length == len(message.value)
    return message.value.decode()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": 7}, "format"),
        ({"format": -1}, "format"),
        ({"width": 0}, "width"),
        ({"width": -5}, "width"),
        ({"height": 2**31 - 1}, "height"),
        ({"plane": (0, None)}, r"planes\[0\] must not be NULL"),
        ({"pitch": (0, 3 * 64 - 1)}, r"pitches\[0\] must be at least a row's 192 bytes"),
        ({"pitch": (0, -192)}, "pitches"),
        ({"pitch": (0, 2**62)}, "pitches"),
        ({"format": 5}, r"planes\[1\] must not be NULL"),
        ({"format": 6, "plane": (1, address(PIXELS)), "pitch": (1, 32)}, r"planes\[2\] must not be NULL"),
        ({"format": 5, "plane": (1, address(PIXELS)), "pitch": (1, 63)}, r"pitches\[1\]"),
        (
            {"format": 5, "plane": (1, address(PIXELS)), "pitch": (1, 64), "matrix": 3},
            "matrix",
        ),
        ({"pts_seconds": math.nan}, "finite"),
        ({"pts_seconds": -math.inf}, "finite"),
        ({"pts_seconds": 1e11}, "1e10"),
        ({"struct_size": 0}, "DTFSAL_..._INIT"),
        ({"struct_size": 2**31}, "DTFSAL_..._INIT"),
    ],
)
def test_frames_that_cannot_be(predictor, changes, sentence):
    status = predictor.library.push_frame(predictor._handle, a_frame(**changes))
    assert status == BAD_ARGUMENT
    with pytest.raises(UsageError, match=sentence):
        predictor._check(status)
    assert predictor.counts.frames == 0
    assert predictor.library.push_frame(predictor._handle, a_frame()) == OK


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": 2}, "format"),
        ({"channels": 0}, "channels"),
        ({"channels": 65}, "channels"),
        ({"sample_rate_hz": 0}, "sample_rate_hz"),
        ({"sample_rate_hz": -16000}, "sample_rate_hz"),
        ({"sample_rate_hz": 2**31 - 1}, "sample_rate_hz"),
        ({"samples": None}, "samples must not be NULL"),
        ({"count": -1}, "count"),
        ({"count": 2**62}, "count"),
        ({"pts_seconds": math.inf}, "finite"),
        ({"struct_size": 4}, "DTFSAL_..._INIT"),
    ],
)
def test_sound_that_cannot_be(predictor, changes, sentence):
    status = predictor.library.push_audio(predictor._handle, some_sound(**changes))
    assert status == BAD_ARGUMENT
    with pytest.raises(UsageError, match=sentence):
        predictor._check(status)
    assert predictor.library.push_audio(predictor._handle, some_sound()) == OK


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_samples_that_are_no_numbers(predictor, value):
    samples = np.zeros((100, 2), np.float32)
    samples[57, 1] = value
    with pytest.raises(UsageError, match="samples must be finite"):
        predictor.push_audio(samples, 0.0, 48000)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": None}, "data must not be NULL"),
        ({"width": -1}, "width"),
        ({"width": 0}, "width"),
        ({"height": 2**30}, "height"),
        ({"pitch": 39}, "pitch"),
        ({"pitch": -40}, "pitch"),
        ({"struct_size": 1}, "DTFSAL_..._INIT"),
    ],
)
def test_maps_that_cannot_be(predictor, changes, sentence):
    predictor.push_frame(np.zeros((48, 64, 3), np.uint8), 0.0)
    predictor.finish()
    status = predictor.library.poll(predictor._handle, a_map(**changes))
    assert status == BAD_ARGUMENT
    with pytest.raises(UsageError, match=sentence):
        predictor._check(status)
    assert predictor.library.poll(predictor._handle, a_map()) == OK  # the map is still there


def test_null_for_everything(library, predictor):
    handle = predictor._handle
    for function in (library.push_frame, library.push_audio, library.poll, library.describe, library.get_counts):
        assert function(handle, None) == BAD_ARGUMENT
        assert "must not be NULL" in said(predictor)
    assert library.push_frame(None, a_frame()) == BAD_ARGUMENT
    assert library.push_audio(None, some_sound()) == BAD_ARGUMENT
    assert library.poll(None, a_map()) == BAD_ARGUMENT
    assert library.describe(None, Description()) == BAD_ARGUMENT
    assert library.get_counts(None, Counts()) == BAD_ARGUMENT
    assert library.finish(None) == library.reset(None) == BAD_ARGUMENT
    assert library.clone(handle, None) == BAD_ARGUMENT
    other = ctypes.c_void_p(1)
    assert library.clone(None, ctypes.byref(other)) == BAD_ARGUMENT
    assert not other
    assert library.close(None) == OK
    message = ctypes.create_string_buffer(b"x", 10)
    assert library.message(None, message, 10) == 0
    assert message.value == b""
    nothing = ProgressFunction()
    assert library.predict(None, None, None, 0, None, nothing, None) == BAD_ARGUMENT
    assert library.predict(handle, None, None, 1, None, nothing, None) == BAD_ARGUMENT
    assert library.predict(handle, None, None, -1, None, nothing, None) == BAD_ARGUMENT
    assert library.predict(handle, None, None, 0, None, nothing, None) == OK


def test_open_with_null(library, engine):
    handle, message = ctypes.c_void_p(1), ctypes.create_string_buffer(200)
    assert library.open(None, None, ctypes.byref(handle), message, len(message)) == BAD_ENGINE
    assert not handle
    assert b"no engine is installed with this library: give an engine's folder" in message.value
    assert library.open(str(engine).encode(), None, None, message, len(message)) == BAD_ARGUMENT
    assert library.open(b"/nowhere", None, ctypes.byref(handle), None, 0) == BAD_ENGINE


def test_a_message_is_cut_to_its_buffer(library):
    handle, message = ctypes.c_void_p(), ctypes.create_string_buffer(b"\xff" * 20, 20)
    assert library.open(b"/nowhere", None, ctypes.byref(handle), message, 10) == BAD_ENGINE
    assert message.raw == b"/nowhere \0" + b"\xff" * 10


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 0},
        {"max_ready": 0},
        {"frame_rate_hz": -1.0},
        {"frame_rate_hz": math.nan},
        {"frame_rate_hz": 1e9},
        {"delay_seconds": math.nan},
        {"sound_wait_seconds": -1.0},
        {"sound_wait_seconds": math.inf},
        {"threads": -1},
        {"device": -1},
        {"backend": b"abacus"},
        {"struct_size": 5},
    ],
    ids=str,
)
def test_options_that_cannot_be(library, engine, options):
    handle, message = ctypes.c_void_p(), ctypes.create_string_buffer(500)
    given = Options(**{k: v for k, v in options.items() if k != "struct_size"})
    given.struct_size = options.get("struct_size", given.struct_size)
    status = library.open(str(engine).encode(), given, ctypes.byref(handle), message, len(message))
    assert status == BAD_ARGUMENT
    assert b"options" in message.value
    assert not handle


def test_an_older_programs_struct_is_read_as_far_as_it_goes(library, engine, predictor):
    """A program that knew no `matrix`, and one whose counts were shorter: nothing beyond is read or written."""
    old = a_frame(pts_seconds=1.0)
    old.struct_size = Frame.matrix.offset
    assert library.push_frame(predictor._handle, old) == OK  # its time, which lay beyond, is then the default
    counts = Counts()
    counts.struct_size = Counts.dropped_maps.offset
    counts.refused_frames = 77
    assert library.get_counts(predictor._handle, counts) == OK
    assert (counts.frames, counts.refused_frames, counts.struct_size) == (1, 77, Counts.dropped_maps.offset)


@pytest.fixture
def copied(engine, tmp_path):
    return shutil.copytree(engine, tmp_path / "engine")


def refusal(library, folder, **options):
    handle, message = ctypes.c_void_p(), ctypes.create_string_buffer(2000)
    status = library.open(str(folder).encode(), Options(**options), ctypes.byref(handle), message, len(message))
    assert not handle
    text = message.value.decode()
    assert "\n" not in text
    assert str(folder) in text
    return status, text


def test_a_folder_that_is_no_engine(library, tmp_path):
    assert refusal(library, tmp_path / "none") == (
        BAD_ENGINE,
        f"{tmp_path / 'none'} does not exist; give the folder of an engine, or build one with `dtfsal build`",
    )
    assert "no manifest.json" in refusal(library, tmp_path)[1]
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"video")
    assert "is a file" in refusal(library, file)[1]


def test_a_damaged_engine(library, copied):
    model = next(copied.glob("*.onnx"))
    whole = model.read_bytes()
    model.write_bytes(whole[:-1])
    assert "truncated" in refusal(library, copied)[1]
    model.write_bytes(whole[:-1] + b"?")
    assert "SHA-256" in refusal(library, copied)[1]
    assert refusal(library, copied, skip_hashes=1)[0] == BAD_ENGINE  # ONNX Runtime cannot read it
    model.unlink()
    assert "lacks the file" in refusal(library, copied)[1]
    model.write_bytes(whole)
    (copied / "note.txt").write_text("x")
    assert "does not list" in refusal(library, copied)[1]


def test_an_edited_manifest(library, copied):
    file = copied / "manifest.json"
    document = json.loads(file.read_text())
    document["clip"]["mean"] = [0.0, 0.0, 0.0]
    file.write_text(json.dumps(document))
    assert "edited" in refusal(library, copied)[1]
    file.write_text("{")
    assert str(file) in refusal(library, copied)[1]


def test_an_engine_for_another_library(library, engine):
    status, text = refusal(library, engine, backend=b"tensorrt")
    assert status == BAD_ENGINE
    assert "was built for onnxruntime" in text


def test_libraries_that_are_not_there(library, engine, build):
    for file in (b"/nowhere/libonnxruntime.so", str(build.folder / "libdtfsal.so").encode()):
        handle, message = ctypes.c_void_p(), ctypes.create_string_buffer(2000)
        options = Options(backend_library=file)
        status = library.open(str(engine).encode(), options, ctypes.byref(handle), message, len(message))
        assert status == UNAVAILABLE
        assert file in message.value
    assert "DTFSAL_ONNXRUNTIME_LIBRARY" in message.value.decode() or b"OrtGetApiBase" in message.value


def test_a_tensorrt_engine_without_tensorrt(library, copied):
    """What this library was built without is said; as is a driver that is not there, where it was built with it."""
    file = copied / "manifest.json"
    document = json.loads(file.read_text())
    document["target"] = "tensorrt"
    rewrite(copied, document)
    status, text = refusal(library, copied)
    assert status == UNAVAILABLE
    assert "TENSORRT_INCLUDE_DIR" in text


def test_an_openvino_engine(library, copied):
    document = json.loads((copied / "manifest.json").read_text())
    document["target"] = "openvino"
    rewrite(copied, document)
    status, text = refusal(library, copied)
    assert status == BAD_ENGINE
    assert "built for OpenVINO" in text
    assert "dtfsal build --target onnxruntime" in text


def rewrite(folder, document):
    import hashlib

    text = json.dumps(document).encode()
    (folder / "manifest.json").write_bytes(text)
    (folder / "manifest.sha256").write_text(f"{hashlib.sha256(text).hexdigest()}  manifest.json\n")


def test_an_engine_whose_tensors_are_others(library, copied):
    document = json.loads((copied / "manifest.json").read_text())
    graph = document["graphs"]["window"]
    graph["outputs"][0]["shape"] = [1, 1, 48, 40]
    rewrite(copied, document)
    status, text = refusal(library, copied)
    assert status == BAD_ENGINE
    assert "build the engine again" in text


def test_an_engine_that_gives_no_numbers(library, make_toy_engine, tmp_path):
    """A map that is not finite is an error, and the stream goes on."""
    engine = make_toy_engine(ClipSpec(frames=4, height=24, width=40, frame_rate_hz=25.0, std=(1e-39, 1.0, 1.0)), None)
    with NativePredictor(engine, library=library, frame_rate_hz=25) as predictor:
        predictor.push_frame(np.full((24, 40, 3), 200, np.uint8), 0.0)
        predictor.finish()
        status = predictor.library.poll(predictor._handle, a_map())
        if status != OK:  # the toy clips its sum, and some CPUs take what is below the smallest number for zero
            assert status == ENGINE_FAILED
            assert "finite" in said(predictor)


def test_after_the_end(predictor, library):
    predictor.push_frame(np.zeros((48, 64, 3), np.uint8), 0.0)
    predictor.finish()
    predictor.finish()  # twice is no harm
    assert library.push_frame(predictor._handle, a_frame(pts_seconds=1.0)) == FINISHED
    assert "dtfsal_reset" in said(predictor)
    assert library.push_audio(predictor._handle, some_sound()) == FINISHED
    assert predictor.poll() is not None
    assert predictor.poll() is None


def test_a_call_within_a_call_and_closing_during_one(library, predictor):
    """From the progress function: the same kind of call is refused, and so is closing."""
    statuses = []

    def meanwhile(_data, _done):
        statuses.append(library.poll(predictor._handle, a_map()))
        statuses.append(library.close(predictor._handle))
        return 0

    frames = (Frame * 2)(a_frame(), a_frame(pts_seconds=0.04))
    values = np.empty((2, 24, 40), np.float32)
    maps = (Map * 2)(*(a_map(data=each.ctypes.data) for each in values))
    assert library.predict(predictor._handle, frames, maps, 2, None, ProgressFunction(meanwhile), None) == OK
    assert statuses[1] == BUSY
    assert statuses[0] in (BUSY, NO_MAP)


def test_statuses_have_words(library):
    texts = {library.status_text(status) for status in range(ENGINE_FAILED, 4)}
    assert len(texts) == 11
    assert library.status_text(99)
    assert library.status_text(OUT_OF_MEMORY) == b"out of memory"


def test_the_binding_checks_what_ctypes_would_cut(library, engine, predictor):
    for options in ({"stride": 2**33 + 1}, {"max_ready": 1.5}, {"device": 2**31}, {"threads": -(2**40)}):
        with pytest.raises(UsageError, match="whole number"):
            NativePredictor(engine, library=library, **options)
    with pytest.raises(UsageError, match="whole number"):
        predictor.push_audio(np.zeros(10), 0.0, 2**32 + 16000)
    for options in ({"frame_rate_hz": 0}, {"delay_seconds": -1}):
        with pytest.raises(UsageError, match=next(iter(options))):
            NativePredictor(engine, library=library, **options)


def test_the_binding_checks_shapes(predictor):
    frame = np.zeros((48, 64, 3), np.uint8)
    for picture in (frame.astype(np.float32), frame[:, :, 0], "frame", np.zeros((2, 2, 4), np.uint8)):
        with pytest.raises(UsageError, match="frame must be"):
            predictor.push_frame(picture, 0.0)
    with pytest.raises(UsageError, match="width"):
        predictor.push_frame(np.zeros((0, 0, 3), np.uint8), 0.0)
    with pytest.raises(UsageError, match="even"):
        predictor.push_frame(np.zeros((47, 64), np.uint8), 0.0, pixel_format="nv12")
    with pytest.raises(UsageError, match="pixel_format"):
        predictor.push_frame(frame, 0.0, pixel_format="cmyk")
    with pytest.raises(UsageError, match="matrix"):
        predictor.push_frame(frame, 0.0, matrix="bt1")
    with pytest.raises(UsageError, match="samples must be"):
        predictor.push_audio(np.zeros((1, 2, 3)), 0.0, 16000)


def test_a_closed_predictor_says_so(library, engine):
    predictor = NativePredictor(engine, library=library)
    predictor.close()
    predictor.close()
    with pytest.raises(UsageError, match="closed"):
        predictor.finish()


def test_errors_are_the_projects(library, tmp_path, engine, monkeypatch):
    with pytest.raises(EngineError, match="does not exist"):
        NativePredictor(tmp_path / "none", library=library)
    with pytest.raises(UnavailableError, match=r"dtfsal native build capi"):
        NativeLibrary(tmp_path / "libdtfsal.so")
    with pytest.raises(UnavailableError, match=r"dtfsal native build capi"):
        NativeLibrary(onnxruntime_library())  # a library, and another one
    monkeypatch.setenv("DTFSAL_LIBRARY", str(tmp_path / "named.so"))
    with pytest.raises(UnavailableError, match=r"named\.so"):
        NativePredictor(engine)
    with pytest.raises(UsageError, match=r"NvInfer\.h"):
        C_LIBRARY.build(tmp_path, tensorrt_include=tmp_path)
