"""A fuzzer of all that Python reads: whatever comes is read, or refused with one sentence of ours; nothing else.

The tests try a few inputs of each kind. `make fuzz-python` runs `python tests/test_fuzz.py --inputs 1000000`. An input
follows from its seed, its kind and its number alone: `--only manifest:1234` makes one again.
"""

import argparse
import contextlib
import copy
import faulthandler
import io
import json
import logging
import random
import resource
import signal
import socket
import struct
import sys
import tempfile
import time
import types
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch
from PIL import Image
from safetensors.torch import save

from dtfsal.applications.areas.files import read_areas
from dtfsal.benchmarks.accuracy.recommend import read_results
from dtfsal.benchmarks.count.budget import read_budget
from dtfsal.benchmarks.report.compare import read_result
from dtfsal.engines import Manifest, read_bundle
from dtfsal.engines.errors import DtfsalError, EngineError, UnavailableError, UsageError
from dtfsal.engines.native.trust import built_here
from dtfsal.export.build_record import BuildRecord
from dtfsal.export.report.layers import read_profile, read_report
from dtfsal.runtime.cli.live import _address
from dtfsal.runtime.live.page import MjpegServer
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import probe
from dtfsal.training.data.gaze_table import FrameGaze, read_gaze
from dtfsal.training.data.layouts import read_list
from dtfsal.training.data.picture_files import read_fixation_map, read_rgb
from dtfsal.training.data.prepared_videos import read_index, read_table, write_index
from dtfsal.training.data.stills import DataError, read_stills
from dtfsal.training.data.video_frames import FrameIndex
from dtfsal.training.model.config import PRESETS
from dtfsal.training.model.weights import CONFIG_KEY, FORMAT, FORMAT_KEY, WeightsError, load_weights, read_config
from dtfsal.training.trainer.checkpoint import FILE, KEY, load_checkpoint
from dtfsal.training.trainer.experiment import experiment_from, read_experiment

logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)
ROOT = Path(__file__).parents[1]
HANGS_SECONDS = 20.0
LONGEST_REFUSAL = 2000  # characters
MEMORY_BYTES = 2**31  # beyond what the process had when all was loaded

NUMBERS = [0, -1, 1, 2, 255, 2**31, 2**63 - 1, 2**63, 2**64, 10**30, 1e308, -1e308, 5e-324, 0.5, 1e39]
VALUES = [*NUMBERS, float("nan"), float("inf"), None, True, False, "", "x", "\x1b[2J\0\ud800", "é" * 3000, "1", "../x"]
VALUES += [[], {}, [[]], {"": None}, [None], [0] * 300, ["x"], {"x": 1}, [1.5, "y"], "NaN", "2026-11-28", [[1, 2]]]
WORDS = [b"[" * 3000, b'{"a":' * 2000, b"9" * 5000, b"1e999", b"NaN", b"\xff", b"\0", b'"', b"}", b"\r\n", b"\n", b","]
WORDS += [b"&a [*a,*a]", b"!!python/object:os.system ", b"2026-99-99", b"-", b"1e300", b"..", b"\xef\xbb\xbf", b"\x80"]


class Kind(NamedTuple):
    """A kind of input.

    Attributes:
        seeds: whole ones: bytes, or documents of JSON.
        read: what reads it.
        refusals: what it may raise.
        share: of the inputs; less for those that take longer.
        wrap: from the changed bytes to those that are read.
    """

    seeds: list[Any]
    read: Callable[[bytes], object]
    refusals: tuple[type[DtfsalError], ...]
    share: float = 1.0
    wrap: Callable[[bytes, random.Random], bytes] = lambda data, _chance: data


class Hang(BaseException):
    """An input that takes too long; readers do not catch it."""


def changed(seed: Any, chance: random.Random) -> bytes:
    """An input with up to four things changed."""
    if isinstance(seed, bytes):
        return damaged(seed, chance, chance.randint(1, 4))
    holder = [json.loads(json.dumps(seed))]
    for _ in range(chance.randint(0, 2)):
        change_value(holder, chance)
    data = json.dumps(holder[0]).encode()
    return damaged(data, chance, chance.randint(1, 3)) if chance.random() < 0.3 else data


def change_value(root: list[Any], chance: random.Random) -> None:
    """Change, remove, rename, add or exchange a value somewhere in a document."""
    holder: Any = root
    key: Any = 0
    while isinstance(holder[key], (dict, list)) and holder[key] and chance.random() < 0.85:
        holder = holder[key]
        key = chance.choice(list(holder)) if isinstance(holder, dict) else chance.randrange(len(holder))
    way = chance.random()
    if way < 0.6 or holder is root:
        holder[key] = copy.deepcopy(chance.choice(VALUES))
    elif way < 0.75:
        del holder[key]
    elif isinstance(holder, dict):
        holder[chance.choice([*holder, "x", "", "\x1b", "é" * 3000])] = holder[key]
    else:
        holder.insert(key, holder[chance.randrange(len(holder))])


def damaged(seed: bytes, chance: random.Random, changes: int) -> bytes:
    """Bytes with a few pieces changed, cut out, doubled, or put in."""
    data = bytearray(seed)
    for _ in range(changes):
        start = chance.randint(0, len(data))
        end = min(len(data), start + chance.choice([0, 1, 1, 2, 4, 8, 40]))
        piece = chance.choice(
            [
                b"",
                chance.randbytes(end - start),
                chance.randbytes(chance.randint(1, 12)),
                chance.choice(WORDS),
                bytes(data[start:end]) * 2,
                struct.pack(chance.choice(["<Q", ">I", "<H"]), chance.choice([0, 1, 2**15, 2**16 - 1])),
            ]
        )
        data[start:end] = piece
    return bytes(data[: chance.randint(0, len(data))] if chance.random() < 0.05 else data)


def survives(kind: Kind, data: bytes, folder: Path) -> bool:
    """Whether an input was read; what is refused is refused in one short sentence, and leaves nothing behind."""
    before = set(folder.iterdir())
    said = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="PIL")  # what Pillow tells of a picture's damage is of use
        try:
            kind.read(data)
            refusal = None
        except kind.refusals as error:
            refusal = str(error)
    assert not said.getvalue(), said.getvalue()
    assert set(folder.iterdir()) == before
    assert refusal is None or 0 < len(refusal.strip()) < LONGEST_REFUSAL, f"{len(refusal or '')} characters"
    return refusal is None


def nth_input(kind: Kind, name: str, number: int, seed: int) -> bytes:
    """An input; number 0 and those after it are the whole ones."""
    chance = random.Random(f"{seed}:{name}:{number}")
    if number < len(kind.seeds):
        whole = kind.seeds[number]
        return kind.wrap(whole if isinstance(whole, bytes) else json.dumps(whole).encode(), random.Random(0))
    return kind.wrap(changed(chance.choice(kind.seeds), chance), chance)


def kinds(folder: Path) -> dict[str, Kind]:
    """All that is read from outside, by name; files are written below a folder."""
    tables: dict[str, Kind] = {}
    manifest = json.loads((ROOT / "runtime" / "capi" / "fuzz" / "manifest.json").read_text())
    later = {**manifest, "schema_version": 2, "native_libraries": {"libx.so": 1}}

    def by_path(read: Callable[[Path], object], name: str = "input") -> Callable[[bytes], object]:
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()

        def written(data: bytes) -> object:
            path.write_bytes(data)
            return read(path)

        return written

    def add(name: str, *kind: Any, **options: Any) -> None:
        tables[name] = Kind(*kind, **options)

    add("manifest", [manifest, later], Manifest.from_json, (EngineError,))
    add("bundle", [manifest], by_path(lambda path: read_bundle(path.parent), "b/manifest.json"), (EngineError,))

    def read_record(path: Path) -> BuildRecord:
        files = types.SimpleNamespace(files={"build.json": None})
        return BuildRecord.of_bundle(types.SimpleNamespace(path=path, manifest=files, file=lambda _: path))  # type: ignore[arg-type]

    add("build record", [BUILD_RECORD], by_path(read_record), (EngineError,))
    library = folder / "c" / "libx.so"
    built = by_path(lambda _path: built_here(library, folder / "c", "x", "y"), "c/libx.so.built")
    library.touch()
    add("record of a library", [b"0" * 64 + b"  libx.so\n" + b"0" * 64 + b"  sources\n"], built, (UnavailableError,))

    configs = [PRESETS[name].to_dict() for name in ("tiny", "lite", "dtfsal-v", "dtfsal")]
    add("configuration", configs, by_path(read_config), (WeightsError,), wrap=weights_header)
    tiny = save({"x": torch.zeros(2)}, {FORMAT_KEY: FORMAT, CONFIG_KEY: json.dumps(configs[0])})
    add("weights", [tiny], by_path(load_weights), (WeightsError, UsageError), share=0.1)
    header = {"version": 1, "experiment": experiment_from(EXPERIMENT).to_dict(), "progress": {"epoch": 1}, "scaler": {}}
    state = save({"random": torch.get_rng_state()}, {KEY: json.dumps(header)})
    read_state = by_path(lambda path: load_checkpoint(path.parent), f"d/{FILE}")
    add("checkpoint", [state], read_state, (WeightsError,), share=0.3)
    add("checkpoint's header", [header], read_state, (WeightsError,), wrap=checkpoint_header)
    experiments = [(ROOT / "experiments" / "dhf1k.yaml").read_bytes(), EXPERIMENT]
    add("experiment", experiments, by_path(read_experiment), (UsageError,), share=0.5)

    for name, read in (("result", read_result), ("budget", read_budget), ("report", read_report)):
        add(name, [RESULT, {"a/nodes": 1}, REPORT, []], by_path(read), (UsageError,))
    add("profile", [[{"name": "a", "averageMs": 1.0}]], by_path(read_profile), (UsageError,))
    add("results", [PARETO, RESULT], by_path(lambda path: read_results([path])), (UsageError,))

    areas = by_path(lambda path: [a.at(1.5) for a in read_areas(path, width=64, height=48)])
    add("areas", [AREAS, TOBII_AREAS, *AREAS_OF_OTHERS], areas, (UsageError,))

    add("video list", [b"a 10 25\nb 20 29.97\n"], by_path(read_list), (DataError,))
    gaze = b"time,x,y,observer,duration\n0.0,1.5,2.5,anna,0.1\n0.1,,,anna,0\n"
    add("gaze table", [gaze], by_path(read_gaze), (DataError,))
    (folder / "e" / "images").mkdir(parents=True)
    (folder / "e" / "images" / "1.jpg").touch()
    fixations = b"image,observer,order,x,y,duration_ms\n1.jpg,0,0,1.5,2.5,200\n1.jpg,0,1,3,4,200\n"
    stills = by_path(lambda path: read_stills(path.parent), "e/fixations.csv")
    add("fixations", [fixations], stills, (DataError,))
    add("dataset", [DATASET], by_path(lambda path: read_table(path.parent), "f/dataset.json"), (DataError,))

    made = folder / "made"
    times = np.array([0.0, 0.04])
    index = FrameIndex(times, np.array([0, 1]), np.array([0]), (8, 8), 0)
    write_index(made, index, FrameGaze(np.array([0, 1, 1]), np.zeros((1, 2), np.float32)))
    add("index", [made.read_bytes()], by_path(read_index), (DataError,), share=0.5)
    matlab = []
    for content in (np.eye(4), scipy.sparse.csc_array(np.eye(4)), np.array([{"x": 1}, "y"], object)):
        for compressed in (False, True):
            scipy.io.savemat(made, {"eyeMap": content}, appendmat=False, do_compression=compressed)
            matlab.append(made.read_bytes())
    add("fixation map", matlab, by_path(read_fixation_map, "i.mat"), (DataError,), share=0.5)
    encoded = []
    for suffix in ("png", "jpeg", "gif", "bmp", "tiff"):
        Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(made, suffix)
        encoded.append(made.read_bytes())
    add("picture", encoded, by_path(read_rgb), (DataError,), share=0.5)
    made.unlink()
    add(
        "video",
        [clip(suffix) for suffix in ("mp4", "matroska", "avi", "mpegts")],
        by_path(probe),
        (MediaError, UnavailableError),
        share=0.1,
    )

    add("address", [b"127.0.0.1:8765", b"[::1]:0", b"8765"], lambda d: _address(d.decode("latin-1")), (UsageError,))
    with MjpegServer() as page:
        page.show(np.zeros((8, 8, 3), np.uint8), {"maps": 1})
    with MjpegServer(token="x") as asking:
        pass
    for name, server in (("request", page), ("request with a token", asking)):
        requests = [
            f"GET /{place}?token=x HTTP/1.1\r\n".encode() + HEADERS for place in ("", "status.json", "stream.mjpg")
        ]
        add(name, requests, lambda data, server=server: ask(server, data), (), share=0.5)
    return tables


HEADERS = b"Host: 127.0.0.1\r\nConnection: close\r\nAccept: */*\r\n\r\n"
AREA_KEYS = [{"time_seconds": t, "points": [[t, 0], [9, 9], [0, 9]], "visible": t < 2} for t in (0, 1, 2)]
AREAS = {"format": "dtfsal-areas", "version": 1, "coordinates": "pixels", "width": 64, "height": 48}
AREAS["areas"] = [
    {"name": "a", "shape": "polygon", "keys": AREA_KEYS, "outside": "hold"},
    {"name": "b", "shape": "ellipse", "keys": [{"time_seconds": 1, "box": [1, 2, 3, 4]}]},
]
TOBII_AREAS = {"Media": {"Width": 64, "Height": 48}, "Aois": [{"Name": "a", "KeyFrames": []}]}
TOBII_AREAS["Aois"][0]["KeyFrames"] += [
    {"IsActive": t > 0, "Seconds": t, "Vertices": [{"X": x, "Y": y} for x, y in ((0, t), (9, 0), (9, 9))]}
    for t in (0, 3)
]
AREAS_OF_OTHERS = [
    b"# x\n-0 -40 RECTANGLE 1 1 2 30 40 a b\n-41 -80 RECTANGLE 1 2 2 30 40 a b\nFREEHAND 2 1,2 3,4 5,1 c\n",
    b"<ArrayOfDynamicAOI><DynamicAOI><Name>a</Name><Type>Ellipse</Type><KeyFrames><KeyFrame><Timestamp>5</Timestamp>"
    b"<Visible>true</Visible><Points><Point><X>1</X><Y>2</Y></Point><Point><X>9</X><Y>9</Y></Point></Points>"
    b"</KeyFrame></KeyFrames></DynamicAOI></ArrayOfDynamicAOI>",
]
EXPERIMENT = {"name": "x", "model": {"preset": "tiny"}, "data": {"dataset": "dhf1k", "root": "r"}}
RESULT = {"kind": "pareto", "machine": {"cpu": "x"}, "matrix_product_gflop_per_second": 1.0}
RESULT["rows"] = [{"form": "a", "seconds": [1.0, 2.0]}, {"form": "b", "seconds": [1.0]}]
PARETO_ROW = {"form": "a", "engine": "lite", "stride": 1, "model": "lite", "weights": "x", "target": "onnxruntime"}
PARETO_ROW |= {"precision": "fp32", "own_kernels": False, "device": "cpu", "size": [224, 384], "clip_frames": 8}
PARETO_ROW |= {"cc": 1.0, "worst_cc": 0.9, "frames_per_second_interval": [1.0, 2.0], "seconds": [1.0]}
PARETO = {**RESULT, "rows": [PARETO_ROW]}
STEP = {"name": "a", "kind": "attention", "nodes": ["n"], "milliseconds": None}
NODE = {"node": "n", "place": "p", "shape": {"heads": 1}, "flops": 1, "bytes_moved": 1, "kernels": ["a"], "fused": True}
REPORT = {"model": "x", "target": "tensorrt", "precision": "fp32", "builder": "x", "evidence": "none", "windows": 1}
REPORT |= {"flops": {"a": {"b": 1}}, "attentions": [NODE], "poolings": [], "decoders": [], "steps": [STEP]}
BUILD_RECORD = {"version": 1, "forms": {"deform_conv": "native"}, "tuned_batch": 1, "max_batch_size": None}
BUILD_RECORD |= {"refittable": True, "strip_weights": False, "hardware_compatibility": "none"}
BUILD_RECORD |= {"signatures": {"window": "0" * 64}, "attention_fused": {"a": True}}
BUILD_RECORD |= {"quantisation": {"sources": ["x"], "windows": 1, "layers": {"window": {"int8": ["x"]}}}}
VIDEO = {"name": "a", "file": "videos/a.mp4", "fixations": "fixations/a.csv", "split": "train", "frame_count": 2}
VIDEO |= {"frame_rate_hz": 25.0, "height": 8, "width": 8, "has_sound": True, "start_seconds": 0.0, "file_bytes": 10}
VIDEO |= {"fixations_sha256": "0" * 64, "observers": 1}
DATASET = {"format": 1, "videos": [VIDEO], "pixels_per_degree": 20.0}


def weights_header(config: bytes, chance: random.Random) -> bytes:
    """A weights file with a configuration; now and then its length lies."""
    texts = {FORMAT_KEY: FORMAT, CONFIG_KEY: config.decode("utf-8", "replace")}
    return _safetensors({"__metadata__": texts}, b"", chance)


def checkpoint_header(header: bytes, chance: random.Random) -> bytes:
    """A checkpoint with a header."""
    state = torch.get_rng_state().numpy().tobytes()
    tensor = {"dtype": "U8", "shape": [len(state)], "data_offsets": [0, len(state)]}
    return _safetensors({"__metadata__": {KEY: header.decode("utf-8", "replace")}, "random": tensor}, state, chance)


def _safetensors(header: dict[str, Any], content: bytes, chance: random.Random) -> bytes:
    text = json.dumps(header).encode()
    length = chance.getrandbits(64) if chance.random() < 0.01 else len(text)
    return struct.pack("<Q", length) + text + content


def clip(container: str) -> bytes:
    """A small video."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(3):
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    return file.getvalue()


def ask(page: MjpegServer, data: bytes) -> None:
    """A client that sends these bytes to a page and no more; the page is closed, so that its stream ends."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data[:60000])
        ours.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            page._server.RequestHandlerClass(theirs, ("127.0.0.1", 1), page._server)
        theirs.close()
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # it closed without reading all of this
            answer = ours.recv(12)
    assert not answer or answer.startswith((b"HTTP/1.", b"<!DOCTYPE", b"<!doctype", b"{")), answer


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    return kinds(folder), folder


def test_anything_is_read_or_refused(fuzzed):
    for name, kind in fuzzed[0].items():
        for number in range(len(kind.seeds) + round(60 * kind.share)):
            survives(kind, nth_input(kind, name, number, 0), fuzzed[1])


def test_what_is_whole_is_read(fuzzed):
    """Else inputs would be refused at once, and nothing behind that be tried."""
    for name, kind in fuzzed[0].items():
        read = [survives(kind, nth_input(kind, name, number, 0), fuzzed[1]) for number in range(len(kind.seeds))]
        assert any(read) or name in UNREADABLE, name


# Whole ones of these need more than a file.
UNREADABLE = {"bundle", "record of a library", "weights"}


# What the fuzzer found, in few bytes.
FIXATIONS_OF = b"image,observer,order,x,y,duration_ms\n%b,0,0,%b,2,0\n"
HUGE_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 12000, 12000, 8, 2, 0, 0, 0)
HUGE_PNG += struct.pack(">I", zlib.crc32(HUGE_PNG[12:]))
FOUND = [
    ("picture", HUGE_PNG),
    ("build record", b"[1]"),
    ("build record", b"1.5"),
    ("build record", json.dumps({**BUILD_RECORD, "signatures": None}).encode()),
    ("build record", json.dumps({**BUILD_RECORD, "forms": {"deform_conv": 5}}).encode()),
    ("profile", b"[" * 100_000),
    ("profile", b'[{"name": "a", "averageMs": "x"}]'),
    ("fixations", FIXATIONS_OF % (b"9" * 300, b"1")),
    ("fixations", FIXATIONS_OF % (b"../../" + b"x.jpg", b"1")),
    ("fixations", FIXATIONS_OF % (b"1.jpg", b"1e39")),
    ("gaze table", b"time,x,y,observer\n0,1e39,1,a\n"),
    ("index", b"PK\3\4"),
]


@pytest.mark.parametrize(("name", "data"), FOUND)
def test_what_was_found_is_refused(fuzzed, name, data):
    assert not survives(fuzzed[0][name], data, fuzzed[1])


@pytest.mark.parametrize("kind", [0, 10, 14, 18, 178, 30000])
def test_a_matlab_file_whose_numbers_are_of_no_kind_is_refused(fuzzed, kind):
    """SciPy looks such a kind up in a table in C, beyond its end: the process ended."""
    whole = bytearray(fuzzed[0]["fixation map"].seeds[0])
    place = whole.index(b"eyeMap") + 8
    assert whole[place : place + 4] == struct.pack("<I", 9)
    whole[place : place + 4] = struct.pack("<I", kind)
    assert not survives(fuzzed[0]["fixation map"], bytes(whole), fuzzed[1])


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Try very many inputs; the first that does anything else than be read or refused ends it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="KIND[:NUMBER]", help="a kind, or one input of it, which is printed")
    parser.add_argument("--keep-going", action="store_true", help="count what fails, and go on")
    args = parser.parse_args()
    memory = Path("/dev/shm")  # files are quicker there
    with tempfile.TemporaryDirectory(prefix="dtfsal-fuzz-", dir=memory if memory.is_dir() else None) as place:
        folder = Path(place)
        tables = kinds(folder)
        if args.only is not None and ":" in args.only:
            name, _, number = args.only.rpartition(":")
            data = nth_input(tables[name], name, int(number), args.seed)
            outcome = "read" if survives(tables[name], data, folder) else "refused"
            tell(f"{data!r}\n{outcome}")
            return 0
        chosen = {name: kind for name, kind in tables.items() if args.only in (None, name)}
        return fuzz(chosen, folder, args.inputs, args.seed, keep_going=args.keep_going)


def fuzz(chosen: dict[str, Kind], folder: Path, inputs: int, seed: int, *, keep_going: bool) -> int:
    """Try inputs of each kind; how many failed, at most 1 unless it goes on."""

    def hang(_number: int, _frame: object) -> None:
        raise Hang(f"more than {HANGS_SECONDS:g} s")

    signal.signal(signal.SIGALRM, hang)
    faulthandler.enable()
    torch.set_num_threads(1)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    each = inputs / sum(kind.share for kind in chosen.values())
    failures = tried = 0
    files = set(folder.rglob("*"))
    started, computed = time.monotonic(), time.process_time()
    for name, kind in chosen.items():
        count, read, since = round(each * kind.share), 0, time.monotonic()
        for number in range(count):
            data = nth_input(kind, name, number, seed)
            signal.setitimer(signal.ITIMER_REAL, HANGS_SECONDS)
            try:
                read += survives(kind, data, folder)
            except (Exception, Hang) as error:
                failures += 1
                tell(f"--only '{name}:{number}' --seed {seed}: {type(error).__name__}: {str(error)[:300]}")
                if not keep_going:
                    raise
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        tried += count
        assert set(folder.rglob("*")) == files, name
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        tell(f"{name:22} {count:8} inputs, {read:8} read, {time.monotonic() - since:7.1f} s, peak {peak:.0f} MiB")
    seconds, computed = time.monotonic() - started, time.process_time() - computed
    tell(
        f"{tried} inputs of {len(chosen)} kinds: {seconds:.0f} s, {computed:.0f} s of the processor, {failures} failed"
    )
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
