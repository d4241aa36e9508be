"""The C++ library's parts against the Python runtime's, and against the libraries that both follow."""

import copy
import ctypes
import hashlib
import json
import math

import av
import numpy as np
import PIL
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from dtfsal.engines import AudioSpec, ClipSpec, DtfsalError, Manifest
from dtfsal.engines.cpu.threads import default_threads
from dtfsal.runtime.capi.build import C_LIBRARY
from dtfsal.runtime.capi.library import MATRICES
from dtfsal.runtime.frontend.log_mel import log_mel_slice, resize_slice
from dtfsal.runtime.frontend.preprocess import resize_frame
from dtfsal.runtime.frontend.windows import EQUAL_SECONDS, slice_indices, tap_interval
from dtfsal.runtime.predict.maps import resize_map

AUDIO = AudioSpec(slices=9, height=112, width=192)
# Pillow 13 resizes columns first where that is less work; a level may then differ by one.
LEVELS = 0 if int(PIL.__version__.split(".")[0]) < 13 else 1
PIXEL_FORMATS = ("rgb24", "bgr24", "rgba", "bgra", "gray", "nv12", "yuv420p")


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


@given(data=st.binary(max_size=500), step=st.integers(1, 200))
def test_sha256(parts, data, step):
    text = ctypes.create_string_buffer(65)
    parts.part_sha256(data, ctypes.c_size_t(len(data)), ctypes.c_size_t(step), text)
    assert text.value.decode() == hashlib.sha256(data).hexdigest()


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    target=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    pixel_format=st.sampled_from(PIXEL_FORMATS[:5]),
    padding=st.integers(0, 9),
    seed=st.integers(0, 99),
    loops=st.integers(0, 2),
)
@example(size=(720, 1280), target=(224, 384), pixel_format="bgra", padding=0, seed=0, loops=0)
@example(size=(720, 1280), target=(224, 384), pixel_format="bgra", padding=0, seed=0, loops=1)
@example(size=(720, 1280), target=(224, 384), pixel_format="bgra", padding=0, seed=0, loops=2)
@example(size=(224, 384), target=(224, 384), pixel_format="rgb24", padding=0, seed=0, loops=0)
@settings(deadline=None, max_examples=200)
def test_pictures_are_resized_as_pillow_does(parts, size, target, pixel_format, padding, seed, loops):
    """By the loops for this processor, for every x86 one, and for any: along the rows, then along the columns."""
    height, width = size
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if pixel_format == "gray":
        rgb = rgb[:, :, :1].repeat(3, axis=2)
    ordered = rgb[:, :, ::-1] if pixel_format.startswith("bgr") else rgb
    if pixel_format.endswith("a"):
        ordered = np.concatenate([ordered, np.full((height, width, 1), 77, np.uint8)], axis=2)
    rows = (ordered[:, :, :1] if pixel_format == "gray" else ordered).reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    found = resized(parts, pixel_format, size, [padded], target, loops=loops)
    narrow = Image.fromarray(rgb).resize((target[1], height), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found, np.asarray(narrow.resize((target[1], target[0]), Image.Resampling.BILINEAR)))
    assert np.abs(found.astype(int) - resize_frame(rgb, *target).astype(int)).max() <= LEVELS


def resized(parts, pixel_format, size, planes, target, matrix=0, full_range=0, loops=0):
    planes = [np.ascontiguousarray(plane) for plane in planes]
    found = np.full((*target, 3), 0xAA, np.uint8)
    parts.part_resize(
        loops,
        PIXEL_FORMATS.index(pixel_format),
        size[1],
        size[0],
        (ctypes.c_void_p * 3)(*[plane.ctypes.data for plane in planes]),
        (ctypes.c_int64 * 3)(*[plane.shape[1] for plane in planes]),
        matrix,
        full_range,
        *target,
        pointer(found),
    )
    return found


@pytest.mark.parametrize("pixel_format", ["nv12", "yuv420p"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("size", [(48, 64), (180, 320)])
def test_yuv_pictures_have_swscales_colours(parts, pixel_format, full_range, matrix, size):
    """Within a level of what the Python runtime sees; on x86 they are the very same."""
    rng = np.random.default_rng(1)
    luma = rng.integers(0, 256, size, dtype=np.uint8)
    chroma = rng.integers(0, 256, (2, size[0] // 2, size[1] // 2), dtype=np.uint8)
    picture = av.VideoFrame(size[1], size[0], "yuv420p")
    for target, plane in zip(picture.planes, (luma, *chroma), strict=True):
        rows = np.zeros((target.height, target.line_size), np.uint8)
        rows[:, : plane.shape[1]] = plane
        target.update(rows.tobytes())
    picture.colorspace = {"bt601": 5, "bt709": 1, "bt2020": 9}[matrix]  # FFmpeg's AVColorSpace
    picture.color_range = 2 if full_range else 1
    planes = [luma, *chroma]
    if pixel_format == "nv12":
        planes = [luma, chroma.transpose(1, 2, 0).reshape(len(chroma[0]), -1)]
    found = resized(parts, pixel_format, size, planes, (24, 40), MATRICES[matrix], int(full_range))
    wanted = resize_frame(picture.to_ndarray(format="rgb24"), 24, 40)
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1


def test_odd_sizes_have_half_a_colour_more(parts):
    rng = np.random.default_rng(2)
    luma = rng.integers(0, 256, (36, 52), dtype=np.uint8)
    chroma = rng.integers(0, 256, (2, 18, 26), dtype=np.uint8)
    even = resized(parts, "yuv420p", (36, 52), [luma, *chroma], (36, 52))
    odd = resized(parts, "yuv420p", (35, 51), [luma[:35, :51], *chroma], (35, 51))
    np.testing.assert_array_equal(odd, even[:35, :51])


@given(size=st.tuples(st.integers(1, 40), st.integers(1, 40)), target=st.tuples(st.integers(1, 90), st.integers(1, 90)))
@settings(deadline=None)
def test_maps_are_resized_as_pillow_does(parts, size, target):
    source = np.random.default_rng(size[0]).random(size, dtype=np.float32)
    found = np.full(target, np.nan, np.float32)
    parts.part_resize_map(pointer(source), *size, pointer(found), *target)
    # Pillow sums float32 products in double precision and rounds once for each axis, as this does.
    np.testing.assert_allclose(found, resize_map(source, *target), atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("step", [1000, 37])
def test_sound_is_resampled_as_ffmpeg_does(parts, rate, step):
    samples = np.random.default_rng(3).uniform(-1, 1, rate // 4).astype(np.float32)
    resampler = av.AudioResampler(format="flt", layout="mono", rate=16000)
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate = rate
    wanted = np.concatenate(
        [piece.to_ndarray()[0] for piece in [*resampler.resample(frame), *resampler.resample(None)]]
    )
    found = np.empty(len(samples) * 3 + 4000, np.float32)
    count = parts.part_resample(
        pointer(samples), ctypes.c_int64(len(samples)), ctypes.c_int64(step), rate, 16000, pointer(found)
    )
    assert count == len(wanted)
    # FFmpeg sums some 70 float32 products in float32, this in double precision.
    np.testing.assert_allclose(found[:count], wanted, atol=2e-6)


def test_a_tone_of_any_rate_stays_that_tone(parts):
    """44101 Hz has more phases than are kept: between two of them the filter is interpolated."""
    samples = np.sin(2 * np.pi * 440 * np.arange(44101) / 44101).astype(np.float32)
    found = np.empty(20000, np.float32)
    count = parts.part_resample(
        pointer(samples), ctypes.c_int64(len(samples)), ctypes.c_int64(441), 44101, 16000, pointer(found)
    )
    assert count == 16000
    wanted = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(found[200:15800], wanted[200:15800], atol=1e-4)


@given(seed=st.integers(0, 50), gain=st.sampled_from([0.0, 1e-4, 0.1, 1.0]))
@settings(deadline=None, max_examples=30)
def test_slices_of_the_log_mel_spectrogram(parts, seed, gain):
    samples = (gain * np.random.default_rng(seed).uniform(-1, 1, AUDIO.slice_samples)).astype(np.float32)
    rows, found = np.empty((64, 64), np.float32), np.empty((112, 192), np.float32)
    parts.part_log_mel_slice(112, 192, pointer(samples), pointer(rows), pointer(found))
    wanted = log_mel_slice(samples, AUDIO)
    np.testing.assert_allclose(rows, wanted, atol=1e-4)
    np.testing.assert_allclose(found, resize_slice(wanted, AUDIO), atol=1e-4)


def test_all_halves_are_numpys(parts):
    codes = np.arange(2**16, dtype=np.uint16)
    wanted = codes.view(np.float16).astype(np.float32)
    found = np.array([parts.part_float(int(code)) for code in codes], np.float32)
    np.testing.assert_array_equal(found, wanted)


@given(st.floats(width=32, allow_nan=False))
@example(65519.996)
@example(65520.0)
@example(2.0**-25)
@example(-(2.0**-24))
@settings(max_examples=1000)
def test_floats_are_rounded_to_numpys_half(parts, value):
    with np.errstate(over="ignore"):
        wanted = np.float32(value).astype(np.float16).view(np.uint16)
    assert parts.part_half(ctypes.c_float(value)) == wanted


@given(rate=st.floats(1, 240), source=st.floats(1, 240))
def test_the_interval_of_taps(parts, rate, source):
    clip = ClipSpec(frames=8, height=8, width=8, frame_rate_hz=rate)
    wanted = tap_interval(clip, 1 / source)
    found = parts.part_tap_interval(ctypes.c_double(rate), ctypes.c_double(1 / source))
    assert found == pytest.approx(wanted, rel=1e-12)


@given(time=st.floats(-50, 50), last=st.floats(0, 20), hold=st.booleans())
def test_times_beyond_the_ends(parts, time, last, hold):
    found = parts.part_folded(ctypes.c_double(time), ctypes.c_double(0), ctypes.c_double(last), int(hold))
    if hold:
        assert found == min(max(time, 0.0), last)
    else:  # a triangle wave
        phase = math.fmod(abs(time), 2 * last) if last else 0.0
        assert found == pytest.approx(min(phase, 2 * last - phase), abs=1e-9)
        assert 0 <= found <= last


@given(
    times=st.lists(st.integers(0, 1000), min_size=1, max_size=20, unique=True).map(sorted), wanted=st.floats(-10, 1010)
)
def test_the_nearest_of_times(parts, times, wanted):
    array = np.array(times, float)
    place = parts.part_nearest(pointer(array), ctypes.c_int64(len(array)), ctypes.c_double(wanted))
    distances = np.abs(array - wanted)
    assert distances[place] <= distances.min() + EQUAL_SECONDS
    assert place == 0 or not distances[place - 1] <= distances[place] - EQUAL_SECONDS


@given(st.floats(-100, 1e5))
def test_the_slices_of_a_window(parts, centre):
    assert parts.part_first_slice(ctypes.c_double(centre)) == slice_indices(AUDIO, centre).start


# CPUID's leaves 1 (ECX) and 7 (EBX) of real processors, and what the system saves of their registers.
PROCESSORS = {
    "Nehalem": (0x009CE3BD, 0x00000000, 0x3, 0),
    "Piledriver, with FMA and AVX alone": (0x3E98320B, 0x00000008, 0x7, 0),
    "Haswell": (0x7FFAFBBF, 0x000027AB, 0x7, 1),
    "Haswell, whose system saves no AVX": (0x7FFAFBBF, 0x000027AB, 0x3, 0),
    "Knights Landing, without VL and DQ": (0x7FF8F3BF, 0x1C0D23AB, 0xE7, 1),
    "Skylake-SP": (0x7FFEFBFF, 0xD39FFFFB, 0x2FF, 3),
    "Skylake-SP, whose system saves no AVX-512": (0x7FFEFBFF, 0xD39FFFFB, 0x7, 1),
}


@pytest.mark.parametrize(("leaf1", "leaf7", "saved", "sets"), PROCESSORS.values(), ids=PROCESSORS)
def test_the_instruction_sets_of_a_processor(parts, leaf1, leaf7, saved, sets):
    if not hasattr(parts, "part_processor"):
        pytest.skip("not an x86-64 processor")
    assert parts.part_processor(ctypes.c_uint32(leaf1), ctypes.c_uint32(leaf7), ctypes.c_uint32(saved)) == sets


def test_threads_are_as_many_as_in_python(parts):
    assert parts.part_default_threads() == default_threads()


SOUND_MANIFEST = json.loads((C_LIBRARY.sources / "fuzz" / "manifest.json").read_text())


def places(value, path=()):
    """All paths into a JSON value."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def changed(path, new):
    document = copy.deepcopy(SOUND_MANIFEST)
    if not path:
        return new
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return document


def judged(parts, text):
    """What C++ says of a manifest; None if it takes it."""
    message = ctypes.create_string_buffer(2000)
    refused = parts.part_manifest(text, ctypes.c_size_t(len(text)), message, ctypes.c_size_t(len(message)))
    return message.value.decode(errors="replace") if refused else None


def assert_same_verdict(parts, text):
    try:
        Manifest.from_json(text.decode())
        wanted = None
    except (DtfsalError, UnicodeDecodeError) as error:
        wanted = error
    found = judged(parts, text)
    if found is not None and "no model takes" in found:
        return  # sizes that are taken for damage here, and that Python leaves to the engine
    assert (found is None) == (wanted is None), (text, found, wanted)
    assert found is None or found.startswith("manifest.json")


def test_a_sound_manifest_is_read(parts):
    assert judged(parts, json.dumps(SOUND_MANIFEST).encode()) is None
    assert_same_verdict(parts, json.dumps({**SOUND_MANIFEST, "audio": None}).encode())


@pytest.mark.parametrize(
    "taps",
    [
        {"audio": [-1, 0, 4096]},
        *(
            {"audio": taps}
            for taps in ([], [4097], [-4097], [0.5], [True], ["0"], [None], 0, None, {}, [0] * 4097, [2**70])
        ),
        *({name: [0]} for name in ("video", "saliency_map", "", "other")),
        {},
        None,
        [],
    ],
)
def test_taps_are_taken_or_refused_as_in_python(parts, taps):
    """The third schema: a graph says at which times it takes an input."""
    document = copy.deepcopy({**SOUND_MANIFEST, "schema_version": 3, "native_libraries": {}})
    for graph in document["graphs"].values():
        graph["taps"] = taps
    assert_same_verdict(parts, json.dumps(document).encode())
    assert judged(parts, json.dumps({**document, "schema_version": 2}).encode()) is not None
    assert_same_verdict(parts, json.dumps({**document, "schema_version": 4, "precision": "tf32"}).encode())
    for graph in document["graphs"].values():
        del graph["taps"]
    assert judged(parts, json.dumps(document).encode()) is not None  # it must not be absent


@pytest.mark.parametrize("rule", ["stride-2", "stride-4", "stride-8", "", None, 2, [], {"stride-2": 1}])
def test_the_temporal_rule_of_a_manifest_is_known_or_it_is_refused(parts, rule):
    document = json.dumps({**SOUND_MANIFEST, "model_config": {"temporal_rule": rule}}).encode()
    assert (judged(parts, document) is None) == (rule in ("stride-2", "stride-4"))
    assert_same_verdict(parts, document)


@pytest.mark.parametrize("path", list(places(SOUND_MANIFEST)), ids=lambda path: ".".join(map(str, path)) or "all")
def test_a_changed_manifest_is_taken_or_refused_as_in_python(parts, path):
    """Every place of it, with values of each kind."""
    values = (None, True, -1, 0, 1, 2, 1.5, 65536, "", "8.6", "x", "../x", "manifest.json", [], [1, 2, 3], {}, {"x": 1})
    for new in values:
        assert_same_verdict(parts, json.dumps(changed(path, new)).encode())
    if path and isinstance(path[-1], str):
        document = changed(path, None)
        place = document
        for key in path[:-1]:
            place = place[key]
        kept = dict(place)
        del place[path[-1]]
        assert_same_verdict(parts, json.dumps(document).encode())
        place.update(kept)
        place[path[-1]] = 1
        place["unknown"] = 1
        assert_same_verdict(parts, json.dumps(document).encode())


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_damaged_text_is_taken_or_refused_as_in_python(parts, data):
    text = bytearray(json.dumps(SOUND_MANIFEST).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        match data.draw(st.sampled_from(["set", "delete", "insert", "cut"])):
            case "set":
                text[at] = data.draw(st.integers(0, 127))
            case "delete":
                del text[at]
            case "insert":
                text[at:at] = data.draw(st.sampled_from([b'"', b"{", b"}", b",", b"0", b"-", b".", b"e9", b"\\u0041"]))
            case "cut":
                del text[at:]
        if not text:
            break
    assert_same_verdict(parts, bytes(text))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[" * 100000,
        b'{"a":' * 100000,
        b"\xff\xfe",
        b'"\xed\xa0\x80"',
        b"NaN",
        b"1e999",
        b"{}garbage",
        b'{"schema_version": 1, "schema_version": 1}',
        b'{"schema_version": 99}',
        b'{"schema_version": 123456789012345678901234567890}',
        b"\x00",
    ],
)
def test_what_is_no_manifest_is_refused(parts, text):
    assert judged(parts, text).startswith("manifest.json")
