"""Fuzzers of all that Python reads: whatever comes is read, or refused with one sentence of ours; nothing else.

DTFSAL_FUZZ_EXAMPLES is how many inputs each of them gets: few by default, a million by night (`make fuzz-python`).
"""

import json
import os
import socket
import struct
import sys
import urllib.parse
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dtfsal.benchmarks.accuracy.recommend import read_results
from dtfsal.benchmarks.count.budget import read_budget
from dtfsal.benchmarks.report.compare import read_result
from dtfsal.engines import Manifest, read_bundle
from dtfsal.engines.errors import DtfsalError, EngineError, UsageError
from dtfsal.export.report.layers import read_report
from dtfsal.runtime.live.page import MjpegServer
from dtfsal.training.model.config import PRESETS
from dtfsal.training.model.weights import CONFIG_KEY, FORMAT, FORMAT_KEY, WeightsError, read_config
from dtfsal.training.trainer.experiment import read_experiment

EXAMPLES = int(os.environ.get("DTFSAL_FUZZ_EXAMPLES", "60"))
ROOT = Path(__file__).parents[1]
fuzzed = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
long_enough = pytest.mark.timeout(600 + EXAMPLES // 50)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**30, 1e308, -1e308, 5e-324, ""])
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
WORDS = [b"[" * 3000, b'{"a":' * 2000, b"9" * 5000, b"1e999", b"NaN", b"\xff", b"\0", b'"', b"}", b"\r\n"]
WORDS += [b"&a [*a,*a]", b"!!python/object:os.system ", b"2026-99-99"]


@st.composite
def damaged(draw, seed: bytes) -> bytes:
    """The bytes with a few pieces changed, cut out, doubled or put in."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        piece = draw(st.binary(max_size=12) | st.sampled_from(WORDS) | st.just(bytes(data[start:end]) * 2))
        data[start:end] = piece
    return bytes(data) if draw(st.integers(0, 9)) else draw(st.binary(max_size=200))


@st.composite
def changed(draw, document: object) -> bytes:
    """A JSON document with another value at a place or two, or the text of it damaged."""
    root = [json.loads(json.dumps(document))]
    for _ in range(draw(st.integers(0, 2))):
        holder, key = root, 0
        while isinstance(holder[key], (dict, list)) and holder[key] and draw(st.integers(0, 4)):
            holder = holder[key]
            key = draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
        holder[key] = draw(json_values)
    text = json.dumps(root[0]).encode()
    return draw(damaged(text)) if draw(st.booleans()) else text


def read_or_refused(read, *errors):
    """Read; what is refused is refused in one short sentence, and nothing warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read()
        except errors as error:
            refusal = error
        else:
            return
    assert isinstance(refusal, DtfsalError)
    assert str(refusal).strip()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A file to write inputs to."""
    return tmp_path_factory.mktemp("fuzz") / "input"


MANIFEST = json.loads((ROOT / "runtime" / "capi" / "fuzz" / "manifest.json").read_text())


@long_enough
@fuzzed
@given(changed(MANIFEST) | changed({**MANIFEST, "schema_version": 2, "native_libraries": {"libx.so": 1}}))
def test_manifests(data):
    read_or_refused(lambda: Manifest.from_json(data), EngineError)


@long_enough
@fuzzed
@given(st.data())
def test_model_configurations_and_weights_headers(place, data):
    preset = data.draw(st.sampled_from(["tiny", "lite", "dtfsal-v"]))
    config = data.draw(changed(PRESETS[preset].to_dict())).decode("utf-8", "replace")
    header = {
        "__metadata__": {FORMAT_KEY: FORMAT, CONFIG_KEY: config},
        "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
    }
    text = json.dumps(header).encode()
    if data.draw(st.booleans()):
        text = data.draw(damaged(text))
    length = len(text) if data.draw(st.integers(0, 5)) else data.draw(st.integers(0, 2**64 - 1))
    place.write_bytes(struct.pack("<Q", length) + text + bytes(4))
    read_or_refused(lambda: read_config(place), WeightsError)


SMALL_EXPERIMENT = {"name": "x", "model": {"preset": "tiny"}, "data": {"dataset": "dhf1k", "root": "r"}}
EXPERIMENT = (ROOT / "experiments" / "dhf1k.yaml").read_bytes()


@long_enough
@fuzzed
@given(
    damaged(EXPERIMENT)
    | changed(
        {"name": "x", "model": {"preset": "tiny"}, "data": {"dataset": "dhf1k", "root": "r"}, "schedule": {"epochs": 1}}
    )
)
def test_experiments(place, data):
    place.write_bytes(data)
    read_or_refused(lambda: read_experiment(place), UsageError)


RESULT = {"kind": "pareto", "machine": {"cpu": "x"}, "matrix_product_gflop_per_second": 1.0}
RESULT["rows"] = [{"form": "a", "seconds": [1.0, 2.0]}, {"form": "b", "seconds": [1.0]}]


@long_enough
@fuzzed
@given(changed(RESULT) | changed({"a/nodes": 1}) | changed([]))
def test_results(place, data):
    place.write_bytes(data)
    for read in (read_result, read_budget, read_report, lambda path: read_results([path])):
        read_or_refused(lambda read=read: read(place), UsageError)


@long_enough
@fuzzed
@given(changed(MANIFEST))
def test_bundles(place, data):
    folder = place.with_name("bundle")
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(data)
    (folder / "manifest.sha256").write_bytes(data[:100])
    read_or_refused(lambda: read_bundle(folder), EngineError)


@pytest.fixture(scope="module")
def page():
    with MjpegServer() as served:
        served.show(np.zeros((8, 8, 3), np.uint8), {"maps": 1})
        yield served


REQUEST = b"GET /status.json?token=x HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAccept: */*\r\n\r\n"


@long_enough
@fuzzed
@given(damaged(REQUEST))
def test_requests(page, data):
    """The page answers by HTTP or closes, says nothing on the terminal, and goes on."""
    said = []
    port = urllib.parse.urlsplit(page.address).port
    with pytest.MonkeyPatch.context() as patch, socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        patch.setattr(sys.stderr, "write", said.append)
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(12)
        except OSError as error:
            if isinstance(error, TimeoutError):  # it neither answers nor closes
                raise
            answer = b""
    assert not answer or answer.startswith((b"HTTP/1.", b"<!DOCTYPE", b"<!doctype", b"{"))
    assert not said
