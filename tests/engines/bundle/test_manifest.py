import copy
import dataclasses
import json
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dtfsal.engines import (
    AudioSpec,
    ClipSpec,
    EngineError,
    EngineMismatchError,
    FileRecord,
    GraphSpec,
    Manifest,
    TensorSpec,
)
from dtfsal.engines.bundle.manifest import SCHEMA_VERSION

HEX = "0123456789abcdef"
SHA256 = "ab" * 32


def sample() -> dict:
    """A sound manifest as JSON, written out by hand: what a reader in another language would be told."""
    return {
        "schema_version": 1,
        "model_name": "tiny",
        "model_config": {"widths": [8, 16], "nested": {"rate": 0.5, "none": None, "flag": True}},
        "weights": {"source": "tiny.safetensors", "sha256": SHA256},
        "clip": {
            "frames": 8,
            "height": 64,
            "width": 96,
            "frame_rate_hz": 30,
            "target": "last",
            "mean": [0.45, 0.45, 0.45],
            "std": [0.225, 0.225, 0.225],
        },
        "audio": {
            "slices": 9,
            "height": 32,
            "width": 48,
            "sample_rate_hz": 16000,
            "window_length": 400,
            "hop_length": 160,
            "mel_bands": 64,
            "min_hz": 125.0,
            "max_hz": 7500.0,
            "log_offset": 0.01,
            "slice_frames": 64,
            "slice_hop_frames": 11,
        },
        "graphs": {
            "window": {
                "file": "model.onnx",
                "inputs": [
                    {
                        "name": "video",
                        "dtype": "float32",
                        "shape": [-1, 3, 8, 64, 96],
                        "minimum": None,
                        "maximum": None,
                        "description": "",
                    }
                ],
                "outputs": [
                    {
                        "name": "saliency_map",
                        "dtype": "float32",
                        "shape": [-1, 1, 64, 96],
                        "minimum": 0,
                        "maximum": 1.0,
                        "description": "",
                    }
                ],
            }
        },
        "target": "onnxruntime",
        "precision": "fp32",
        "deform_conv": "native",
        "builder": "torch.onnx",
        "builder_version": "2.13.0",
        "created_by": "dtfsal 0.1.0",
        "compute_capabilities": ["8.6", "12.0"],
        "files": {"model.onnx": {"sha256": SHA256, "size_bytes": 12}},
    }


def read(document: object) -> Manifest:
    return Manifest.from_json(json.dumps(document))


def set_at(document: dict, path: tuple, value: object) -> dict:
    document = copy.deepcopy(document)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


# Names and numbers as they may stand in a sound manifest.
text = st.text(st.characters(codec="utf-8", categories=["L", "M", "N", "P", "S"]), min_size=1, max_size=12)
plain_names = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=10)
identifiers = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
size = st.integers(1, 70)  # five axes of it are still a tensor
sha256 = st.text(HEX, min_size=64, max_size=64)
any_text = st.text(st.characters(codec="utf-8"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | finite | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)
clips = st.builds(
    ClipSpec,
    frames=st.integers(1, 64),
    height=st.integers(1, 1024),
    width=st.integers(1, 1024),
    frame_rate_hz=st.floats(1e-3, 1e4),
    target=st.sampled_from(["last", "centre"]),
    mean=st.tuples(finite, finite, finite),
    std=st.tuples(*[st.floats(1e-6, 1e6)] * 3),
)
audios = st.builds(AudioSpec, slices=st.integers(1, 256), height=size, width=size, log_offset=st.floats(1e-9, 1))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    file_names = draw(st.lists(plain_names.map(lambda name: name + ".onnx"), min_size=1, max_size=3, unique=True))

    def tensor(name: str) -> TensorSpec:
        low, high = sorted((draw(finite), draw(finite)))
        bounds = draw(st.sampled_from([(None, None), (low, high), (low, None), (None, high)]))
        shape = tuple(draw(st.lists(size | st.just(-1), max_size=5)))
        return TensorSpec(
            name, draw(st.sampled_from(["float16", "float32", "uint8"])), shape, *bounds, draw(text | st.just(""))
        )

    def graph() -> GraphSpec:
        names = draw(st.lists(text, min_size=2, max_size=4, unique=True))
        cut = draw(st.integers(1, len(names) - 1))
        tensors = [tensor(name) for name in names]
        taps = draw(st.dictionaries(st.sampled_from(names[:cut]), st.lists(st.integers(-9, 9), min_size=1).map(tuple)))
        return GraphSpec(draw(st.sampled_from(file_names)), tuple(tensors[:cut]), tuple(tensors[cut:]), taps)

    return Manifest(
        model_name=draw(text),
        model_config=draw(st.dictionaries(any_text, json_values, max_size=3)),
        weights={"source": draw(text), "sha256": draw(sha256 | st.none())},
        clip=draw(clips),
        audio=draw(audios | st.none()),
        graphs={name: graph() for name in draw(st.lists(identifiers, min_size=1, max_size=3, unique=True))},
        target=draw(st.sampled_from(["onnxruntime", "openvino", "tensorrt-rtx", "tensorrt"])),
        precision=draw(st.sampled_from(["fp32", "fp16"])),
        deform_conv=draw(st.sampled_from(["native", "plugin", "gather", "none"])),
        builder=draw(text),
        builder_version=draw(text),
        created_by=draw(text),
        compute_capabilities=tuple(draw(st.lists(st.sampled_from(["8.0", "8.6", "12.0"]), max_size=3))),
        files={name: FileRecord(draw(sha256), draw(st.integers(0, 2**62))) for name in file_names},
        native_libraries=draw(st.dictionaries(plain_names, st.integers(1, 1000), max_size=2)),
    )


def paths(value: object, prefix: tuple = ()) -> list[tuple]:
    """Every place in a JSON document but the root."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return []
    return [p for key, item in items for p in [(*prefix, key), *paths(item, (*prefix, key))]]


def assert_manifest_or_engine_error(document: str | bytes) -> None:
    try:
        manifest = Manifest.from_json(document)
    except EngineError as error:
        message = str(error)
        message.encode("utf-8")  # a terminal can show it
        assert message.startswith("manifest.json")
        assert len(message.splitlines()) == 1
    else:
        assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    ("config", "rule"),
    [({}, "stride-4"), ({"temporal_rule": "stride-4"}, "stride-4"), ({"temporal_rule": "stride-2"}, "stride-2")],
)
def test_an_engine_tells_its_temporal_rule(config, rule):
    """The first version's engines do not name theirs, and run on as what they are."""
    assert read({**sample(), "model_config": config}).temporal_rule == rule


@pytest.mark.parametrize("rule", ["stride-8", "", None, 2, [], {"stride-2": 1}, "x" * 10_000])
def test_an_unknown_temporal_rule_is_refused(rule):
    with pytest.raises(EngineError, match="temporal_rule must be one of stride-2, stride-4, not") as caught:
        read({**sample(), "model_config": {"temporal_rule": rule}})
    assert caught.value.exit_code == 4
    assert len(str(caught.value)) < 250


@settings(max_examples=60, deadline=None)
@given(manifests())
def test_round_trip(manifest):
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert Manifest.from_json(manifest.to_json().encode()) == manifest


def test_reads_what_the_document_says():
    manifest = read(sample())
    assert manifest.clip == ClipSpec(frames=8, height=64, width=96, target="last")
    assert manifest.audio == AudioSpec(slices=9, height=32, width=48)
    assert manifest.graphs["window"].inputs == (TensorSpec("video", "float32", (-1, 3, 8, 64, 96)),)
    assert manifest.graphs["window"].outputs[0].maximum == 1.0
    assert manifest.compute_capabilities == ("8.6", "12.0")
    assert manifest.files == {"model.onnx": FileRecord(SHA256, 12)}
    assert manifest.weights == {"source": "tiny.safetensors", "sha256": SHA256}
    assert manifest.size_bytes == 12
    assert json.loads(manifest.to_json()) == sample()


def test_sound_and_weights_file_are_optional():
    document = set_at(set_at(sample(), ("audio",), None), ("weights", "sha256"), None)
    assert read(document).audio is None
    assert read(document).weights["sha256"] is None


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_single_change_gives_a_manifest_or_an_engine_error(data):
    document = sample()
    path = data.draw(st.sampled_from(paths(document)))
    what = data.draw(st.sampled_from(["replace", "delete", "add", "swap"]))
    if what == "replace":
        document = set_at(document, path, data.draw(json_values))
    elif what == "swap":  # a value of the right kind for another field
        other = data.draw(st.sampled_from(paths(document)))
        value = document
        for key in other:
            value = value[key]
        document = set_at(document, path, value)
    else:
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        if what == "delete":
            del parent[path[-1]]
        elif isinstance(parent, dict):
            parent[data.draw(st.text())] = data.draw(json_values)
        else:
            parent.append(data.draw(json_values))
    assert_manifest_or_engine_error(json.dumps(document))


@settings(max_examples=100, deadline=None)
@given(json_values)
@example([])
@example({})
@example({"schema_version": 1})
@example({"schema_version": True})
def test_any_json_is_a_manifest_or_an_engine_error(value):
    assert_manifest_or_engine_error(json.dumps(value))


@settings(max_examples=100, deadline=None)
@given(st.binary() | st.text())
@example(b"\xff\xfe{\x00}\x00")  # UTF-16
@example(b"\xef\xbb\xbf{}")  # byte order mark
@example("[" * 100_000)
@example('{"schema_version": ' + "9" * 5000 + "}")
@example('{"schema_version": 1e999}')
def test_any_bytes_are_a_manifest_or_an_engine_error(document):
    assert_manifest_or_engine_error(document)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1, exclude_max=True))
def test_a_truncated_document_is_an_engine_error(part):
    document = json.dumps(sample())
    with pytest.raises(EngineError, match="not valid JSON"):
        Manifest.from_json(document[: int(part * len(document))])


def test_every_missing_key_is_named():
    for path in paths(sample()):
        if isinstance(path[-1], str) and path[0] != "model_config" and path[:1] != path[:-1] != ("files",):
            document = sample()
            parent = document
            for key in path[:-1]:
                parent = parent[key]
            del parent[path[-1]]
            with pytest.raises(EngineError, match=rf"(lacks the key '{path[-1]}'|at least one graph|lists no files)"):
                read(document)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("surprise",), 1, "unknown key 'surprise'"),
        (("clip", "fps"), 30, "clip has the unknown key 'fps'"),
        (("clip", "frames"), 8.0, "clip.frames must be an integer, not 8.0"),
        (("clip", "frames"), True, "clip.frames must be an integer, not true"),
        (("clip", "frames"), 0, "clip.frames must be a positive integer"),
        (("clip", "mean"), [0.4, 0.4], "clip.mean must be three"),
        (("clip", "mean"), "abc", 'clip.mean must be an array, not "abc"'),
        (("clip", "mean", 1), "0.4", r"clip.mean\[1\] must be a number"),
        (("clip", "std", 0), 0, "clip.std must be positive"),
        (("clip", "target"), "first", "clip.target must be"),
        (("clip", "frame_rate_hz"), 10**400, "clip.frame_rate_hz must be a finite number"),
        (("audio", "hop_length"), "160", "audio.hop_length must be an integer"),
        (("audio", "max_hz"), 9000.0, "audio bands"),
        (("audio", "log_offset"), 0, "audio.log_offset must be positive"),
        (("graphs",), {}, "at least one graph"),
        (("graphs", "window", "file"), "other.onnx", "graphs.window.file 'other.onnx' is not among"),
        (("graphs", "window", "inputs"), [], "graphs.window: inputs and outputs"),
        (("graphs", "window", "inputs", 0, "name"), "saliency_map", "graphs.window: tensor names must be unique"),
        (("graphs", "window", "inputs", 0, "name"), "", r"graphs.window.inputs\[0\]: name must be"),
        (("graphs", "window", "inputs", 0, "name"), "a\x1b[31m", r"graphs.window.inputs\[0\]: name must be"),
        (("graphs", "window", "inputs", 0, "dtype"), "float", r"graphs.window.inputs\[0\]: dtype must be one of"),
        (("graphs", "window", "inputs", 0, "shape", 1), 0, r"graphs.window.inputs\[0\]: shape must be"),
        (("graphs", "window", "inputs", 0, "shape", 1), -2, r"graphs.window.inputs\[0\]: shape must be"),
        (("graphs", "window", "inputs", 0, "shape", 1), 2**63, r"inputs\[0\].shape\[1\] must be an integer"),
        (("graphs", "window", "outputs", 0, "minimum"), 2, r"graphs.window.outputs\[0\]: minimum 2.0 must not exceed"),
        (("graphs", "two words"), sample()["graphs"]["window"], "name must be an identifier, not 'two words'"),
        (("target",), "tvm", "target must be one of onnxruntime, openvino, tensorrt-rtx, tensorrt, not 'tvm'"),
        (("precision",), "int4", "precision must be one of"),
        (("deform_conv",), "grid_sample", "deform_conv must be one of"),
        (("weights", "sha256"), SHA256.upper(), "weights.sha256 must be 64 lower-case"),
        (("weights",), "random", "weights must be an object"),
        (("compute_capabilities",), ["sm_89"], "compute_capabilities must look like '8.6', not 'sm_89'"),
        (("compute_capabilities",), "8.6", "compute_capabilities must be an array"),
        (("model_config",), [], "model_config must be an object"),
        (("model_config", "x"), 2**64, "model_config.x does not fit"),
        (("files",), {}, "files: the manifest lists none"),
        (("files", "model.onnx", "size_bytes"), -1, "files.model.onnx: size_bytes must be"),
        (("files", "model.onnx", "sha256"), "abc", "files.model.onnx: sha256 must be"),
        (("schema_version",), 0, "schema_version must be at least 1"),
        (("schema_version",), "1", "schema_version must be an integer"),
    ],
)
def test_bad_values_are_refused_with_their_place(path, value, message):
    with pytest.raises(EngineError, match=f"^manifest.json:? .*{message}"):
        read(set_at(sample(), path, value))


@pytest.mark.parametrize(
    "name",
    [
        "../model.onnx",
        "/etc/passwd",
        "a/b.onnx",
        "a\\b.onnx",
        "..",
        ".",
        "",
        ".hidden",
        "model.onnx\n",
        "nul\x00.onnx",
        "C:model",
        "manifest.json",
        "manifest.sha256",
        "x" * 300,
    ],
)
def test_file_names_cannot_lead_out_of_the_bundle(name):
    record = {"sha256": SHA256, "size_bytes": 1}
    with pytest.raises(EngineError, match="name"):
        read(set_at(sample(), ("files", name), record))
    with pytest.raises(EngineError, match="name"):
        read(set_at(sample(), ("graphs", "window", "file"), name))


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize(
    "path", [("clip", "frame_rate_hz"), ("graphs", "window", "outputs", 0, "maximum"), ("model_config", "x")]
)
def test_numbers_that_are_not_finite_are_refused(constant, path):
    document = json.dumps(set_at(sample(), path, "HERE")).replace('"HERE"', constant)
    with pytest.raises(EngineError):
        Manifest.from_json(document)


def test_a_repeated_key_is_refused():
    document = json.dumps(sample())
    document = '{"target": "tensorrt", ' + document[1:]
    with pytest.raises(EngineError, match="'target' occurs twice"):
        Manifest.from_json(document)


def test_deep_nesting_is_refused():
    value: object = 1
    for _ in range(60):
        value = [value]
    with pytest.raises(EngineError, match="nested more than"):
        read(set_at(sample(), ("model_config", "deep"), value))


def test_a_newer_schema_asks_for_an_upgrade_even_with_unknown_keys():
    document = set_at(set_at(sample(), ("schema_version",), SCHEMA_VERSION + 1), ("new_field",), 1)
    with pytest.raises(EngineMismatchError, match=r"schema version 5 .* reads up to 4: upgrade dtfsal"):
        read(document)


def test_a_manifest_is_written_in_the_oldest_version_that_holds_it():
    first = read(sample())
    assert json.loads(first.to_json())["schema_version"] == 1
    assert "native_libraries" not in json.loads(first.to_json())
    second = dataclasses.replace(first, native_libraries={"libx.so": 3})
    document = json.loads(second.to_json())
    assert (document["schema_version"], document["native_libraries"]) == (2, {"libx.so": 3})
    assert read(document) == second
    with pytest.raises(EngineError, match="unknown key 'native_libraries'"):
        read(document | {"schema_version": 1})
    last = dataclasses.replace(first, precision="tf32")
    assert json.loads(last.to_json())["schema_version"] == 4
    assert read(json.loads(last.to_json())) == last


def test_foreign_json_is_named_as_such():
    with pytest.raises(EngineError, match="not an engine's manifest"):
        read({"name": "a web page", "icons": []})


def test_model_config_is_a_copy_with_lists_for_tuples(manifest):
    widths = [1, 2]
    made = dataclasses.replace(manifest, model_config={"widths": widths, "kernel": (3, 7, 7)})
    widths.append(3)
    assert made.model_config == {"widths": [1, 2], "kernel": [3, 7, 7]}


@pytest.mark.parametrize(
    "change",
    [
        {"model_config": {"x": float("nan")}},
        {"model_config": {"x": object()}},
        {"model_config": {1: "x"}},
        {"model_config": {"x": "\ud800"}},
        {"model_name": ""},
        {"model_name": "two\nlines"},
        {"target": "cpu"},
        {"graphs": {}},
        {"weights": {"source": "x"}},
        {"native_libraries": {"../x.so": 1}},
        {"native_libraries": {"x.so": 0}},
        {"native_libraries": {"x.so": True}},
    ],
)
def test_construction_checks_too(manifest, change):
    with pytest.raises(EngineError):
        dataclasses.replace(manifest, **change)


def test_a_draft_without_files_is_not_written(manifest):
    with pytest.raises(EngineError, match="lists none"):
        manifest.to_json()


def test_is_frozen(manifest):
    with pytest.raises(dataclasses.FrozenInstanceError):
        manifest.target = "tensorrt"
