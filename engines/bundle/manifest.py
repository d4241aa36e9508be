"""The manifest of an engine bundle: what the model wants, gives, was made from and needs. `manifest.json`, both ways.

The JSON mirrors the dataclasses field by field. Reading is strict: an unknown or missing key, a wrong type or a value
out of range is an `EngineError` that names the field. `schema_version` rises with every change of the fields; a reader
refuses a newer one by `EngineMismatchError`. A manifest is written in the oldest version that can hold it:

1   all fields but those below
2   `native_libraries` too
3   `taps` of graphs too
4   `precision` may be "tf32"
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, get_args, get_origin

from dtfsal.engines import limits
from dtfsal.engines.bundle.specs import FIRST_TEMPORAL_RULE, TEMPORAL_RULES, AudioSpec, ClipSpec
from dtfsal.engines.bundle.strict_json import JsonNode, parse_json, plain_json
from dtfsal.engines.errors import DtfsalError, EngineError, EngineMismatchError

SCHEMA_VERSION = 4
MANIFEST_FILE = "manifest.json"
DIGEST_FILE = "manifest.sha256"
DYNAMIC = -1

EngineTarget = Literal["onnxruntime", "openvino", "tensorrt-rtx", "tensorrt"]
# Targets whose model file is the ONNX graph itself, and which run on the CPU.
GRAPH_TARGETS: frozenset[EngineTarget] = frozenset({"onnxruntime", "openvino"})
Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8"]
DeformConvLowering = Literal["native", "plugin", "gather", "none"]
TensorType = Literal[
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"
]

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")
_Built = TypeVar("_Built")


class WeightsRecord(TypedDict):
    """Where the weights came from: a file's name or "random, seed 0", and the file's SHA-256 if it was one."""

    source: str
    sha256: str | None


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph.

    Attributes:
        name: its name in the graph.
        dtype: NumPy's name of the element type.
        shape: sizes, outermost axis first; `DYNAMIC` (-1) stands for any size >= 1. Dynamic first axes are the batch:
            they agree within a graph.
        minimum: least value that occurs, in the tensor's own unit; None where there is no bound.
        maximum: greatest value, as minimum.
        description: one line for people: axes and unit.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    minimum: float | None = None
    maximum: float | None = None
    description: str = ""

    def __post_init__(self) -> None:
        _require_text(self.name, "name")
        _require_choice(self.dtype, TensorType, "dtype")
        if not isinstance(self.shape, tuple) or not all(
            type(size) is int and (size >= 1 or size == DYNAMIC) for size in self.shape
        ):
            raise EngineError(f"shape must be a tuple of positive integers, or -1 for any size, not {self.shape!r}")
        values = math.prod(size for size in self.shape if size != DYNAMIC)
        if len(self.shape) > limits.TENSOR_AXES or values > limits.TENSOR_VALUES:
            raise EngineError(f"shape {limits.shown(self.shape)} is of a tensor larger than any model has")
        for bound in (self.minimum, self.maximum):
            if bound is not None and not math.isfinite(bound):
                raise EngineError(f"minimum and maximum must be finite or null, not {bound!r}")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise EngineError(f"minimum {self.minimum!r} must not exceed maximum {self.maximum!r}")
        _require_text(self.description, "description", empty=True)


@dataclasses.dataclass(frozen=True)
class GraphSpec:
    """A graph that the engine runs.

    Attributes:
        file: that it lies in.
        inputs: its tensors, whose names are unique.
        outputs: likewise.
        taps: of inputs that stack another graph's output over times, which they share their name with: the times, in
            order. They count from the window's first in a graph that gives the map, and from the graph's own time in
            others. See `dtfsal.engines.bundle.chain`.
    """

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    taps: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "taps", dict(self.taps))
        for name, taps in self.taps.items():
            if name not in {tensor.name for tensor in self.inputs}:
                raise EngineError(f"taps must be of inputs of the graph, not of {limits.shown(name)}")
            most = limits.CLIP["frames"][1]
            if not taps or len(taps) > most or not all(type(tap) is int and abs(tap) <= most for tap in taps):
                raise EngineError(f"taps.{name} must be whole numbers of times in a window, not {limits.shown(taps)}")
        require_file_name(self.file, "file")
        names = [tensor.name for tensor in (*self.inputs, *self.outputs)]
        if not self.inputs or not self.outputs:
            raise EngineError("inputs and outputs must each hold at least one tensor")
        if len(set(names)) != len(names):
            raise EngineError(f"tensor names must be unique within a graph, not {', '.join(names)}")


@dataclasses.dataclass(frozen=True)
class FileRecord:
    """What a file of the bundle must be: its SHA-256 (64 lower-case hexadecimal digits) and size."""

    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        _require_sha256(self.sha256, "sha256")
        if type(self.size_bytes) is not int or not 0 <= self.size_bytes < 2**63:
            raise EngineError(f"size_bytes must be a non-negative integer, not {self.size_bytes!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that the runtime knows about an engine.

    Attributes:
        model_name: the model's or preset's name, e.g. "dtfsal".
        model_config: the training room's configuration as JSON; opaque to the runtime.
        weights: where the weights came from.
        clip: the video window that the model wants.
        audio: the sound slices that it wants, or None for a visual model.
        graphs: by name; a model of one graph calls it "window", one whose windows share their work has "frame",
            "head" and others; see `dtfsal.engines.bundle.chain`.
        target: the back end that runs the engine.
        precision: of the weights and most of the arithmetic. "tf32" is "fp32" whose products may round their factors to
            TF32 (10 bits of mantissa) where a GPU does that; a CPU computes it as "fp32".
        deform_conv: how deformable convolution was lowered; "none" where the graphs have none.
        builder: what made the model files, e.g. "torch.onnx" or "tensorrt_rtx".
        builder_version: its version.
        created_by: project and version, e.g. "dtfsal 0.1.0".
        compute_capabilities: GPUs it was built for, e.g. ("8.0", "8.6"); empty means any device.
        files: every file of the bundle other than the manifest's own two. Empty in a draft, which `write_bundle`
            completes.
        native_libraries: libraries of this package that the engine needs, by the names of their files, and the version
            of each; see `dtfsal.engines.native.trust`.

    Raises:
        EngineMismatchError: on construction, when the model has a temporal rule of a later version.
        EngineError: on construction, when a value is out of range or values contradict each other.
    """

    model_name: str
    model_config: dict[str, Any]
    weights: WeightsRecord
    clip: ClipSpec
    audio: AudioSpec | None
    graphs: Mapping[str, GraphSpec]
    target: EngineTarget
    precision: Precision
    deform_conv: DeformConvLowering
    builder: str
    builder_version: str
    created_by: str
    compute_capabilities: tuple[str, ...] = ()
    files: Mapping[str, FileRecord] = dataclasses.field(default_factory=dict)
    native_libraries: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("model_name", "builder", "builder_version", "created_by"):
            _require_text(getattr(self, name), name)
        if not isinstance(self.model_config, dict):
            raise EngineError(f"model_config must be an object, not a {type(self.model_config).__name__}")
        object.__setattr__(self, "model_config", plain_json(self.model_config, "model_config"))
        if self.temporal_rule not in TEMPORAL_RULES:
            raise EngineMismatchError(
                f"model_config.temporal_rule must be one of {', '.join(TEMPORAL_RULES)}, not "
                f"{str(self.temporal_rule)[:40]!r}: upgrade dtfsal, or rebuild the engine with this version"
            )
        if not isinstance(self.weights, dict) or set(self.weights) != {"source", "sha256"}:
            raise EngineError(f"weights must have the keys 'source' and 'sha256', not {self.weights!r}")
        _require_text(self.weights["source"], "weights.source")
        if self.weights["sha256"] is not None:
            _require_sha256(self.weights["sha256"], "weights.sha256")
        _require_choice(self.target, EngineTarget, "target")
        _require_choice(self.precision, Precision, "precision")
        _require_choice(self.deform_conv, DeformConvLowering, "deform_conv")
        for capability in self.compute_capabilities:
            if not isinstance(capability, str) or not _CAPABILITY.fullmatch(capability):
                raise EngineError(f"compute_capabilities must look like '8.6', not {capability!r}")
        object.__setattr__(self, "graphs", dict(self.graphs))
        object.__setattr__(self, "files", dict(self.files))
        object.__setattr__(self, "native_libraries", dict(self.native_libraries))
        if not self.graphs:
            raise EngineError("graphs must hold at least one graph")
        for name in self.graphs:
            if not isinstance(name, str) or not (name.isascii() and name.isidentifier()):
                raise EngineError(f"graphs: a graph's name must be an identifier, not {name!r}")
        for name in self.files:
            require_file_name(name, "files")
        for name, version in self.native_libraries.items():
            require_file_name(name, "native_libraries")
            if type(version) is not int or not 1 <= version <= 1000:
                raise EngineError(f"native_libraries.{name} must be a version from 1 to 1000, not {version!r}")
        if self.files:
            for name, graph in self.graphs.items():
                if graph.file not in self.files:
                    raise EngineError(f"graphs.{name}.file {graph.file!r} is not among the bundle's files")

    @property
    def schema_version(self) -> int:
        """The oldest layout of this record that holds all of it."""
        if self.precision == "tf32":
            return 4
        if any(graph.taps for graph in self.graphs.values()):
            return 3
        return 2 if self.native_libraries else 1

    @property
    def temporal_rule(self) -> str:
        """How the model's decoders bring a window's times to one, one of `TEMPORAL_RULES`."""
        rule: str = self.model_config.get("temporal_rule", FIRST_TEMPORAL_RULE)
        return rule

    @property
    def size_bytes(self) -> int:
        """Bytes of all files of the bundle other than the manifest's own two."""
        return sum(record.size_bytes for record in self.files.values())

    def to_json(self) -> str:
        """Return the text of `manifest.json`: indented, fields in the order above, newline at the end.

        Raises:
            EngineError: the values don't survive the way back, e.g. because one has a type that JSON lacks.
        """
        fields = dataclasses.asdict(self)
        if self.schema_version < 3:
            for graph in fields["graphs"].values():
                del graph["taps"]
        if self.schema_version < 2:
            del fields["native_libraries"]
        fields = {"schema_version": self.schema_version, **fields}
        try:
            text = json.dumps(fields, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        except (TypeError, ValueError) as error:
            raise EngineError(f"the manifest of {self.model_name!r} cannot be written as JSON: {error}") from error
        Manifest.from_json(text)
        return text

    @classmethod
    def from_json(cls, text: str | bytes, source: str = MANIFEST_FILE) -> Manifest:
        """Read a manifest from the text of `manifest.json`.

        Args:
            text: the document; bytes are UTF-8.
            source: what to call it in an error.

        Raises:
            EngineMismatchError: a newer schema than this version knows.
            EngineError: anything else that is wrong, with the field's path.
        """
        root = parse_json(text, source)
        version = _schema_version(root)
        names = [field.name for field in dataclasses.fields(cls) if version > 1 or field.name != "native_libraries"]
        node = root.record(["schema_version", *names])
        weights = node["weights"].record(["source", "sha256"])
        fields: dict[str, Any] = {
            "model_config": node["model_config"].plain(),
            "weights": {"source": weights["source"].string(), "sha256": _optional(weights["sha256"], JsonNode.string)},
            "clip": _read_spec(node["clip"], ClipSpec),
            "audio": _optional(node["audio"], lambda audio: _read_spec(audio, AudioSpec)),
            "graphs": {name: _read_graph(graph, version) for name, graph in node["graphs"].mapping().items()},
            "compute_capabilities": tuple(item.string() for item in node["compute_capabilities"].array()),
            "files": {name: _read_file_record(record) for name, record in node["files"].mapping().items()},
        }
        if version > 1:
            libraries = node["native_libraries"].mapping()
            fields["native_libraries"] = {name: needed.integer() for name, needed in libraries.items()}
        if not fields["files"]:
            raise EngineError(f"{source}: files: the manifest lists none; build the engine again")
        for name in ("model_name", "target", "precision", "deform_conv", "builder", "builder_version", "created_by"):
            fields[name] = node[name].string()
        return _build(root, lambda: cls(**fields))


def require_file_name(name: object, what: str) -> None:
    """Check the name of a bundle's file: letters, digits and ._+- only, so it cannot lead out of the folder.

    Raises:
        EngineError: it has another character, begins with a dot, or is one of the manifest's own two names.
    """
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
        raise EngineError(f"{what}: a file's name must be plain (letters, digits and ._+-, no folders), not {name!r}")
    if name in (MANIFEST_FILE, DIGEST_FILE):
        raise EngineError(f"{what}: {name!r} is the manifest's own name")


def _require_text(value: object, what: str, *, empty: bool = False) -> None:
    if not isinstance(value, str) or not value.isprintable() or not (value or empty):
        raise EngineError(f"{what} must be one line of printable text, not {limits.shown(value)}")
    if len(value) > limits.TEXT_CHARACTERS:
        raise EngineError(f"{what} is a text of {len(value)} characters, and at most {limits.TEXT_CHARACTERS} can be")


def _require_choice(value: object, choices: Any, what: str) -> None:
    if value not in get_args(choices):
        raise EngineError(f"{what} must be one of {', '.join(get_args(choices))}, not {value!r}")


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, 64 lower-case hexadecimal digits; streamed, so memory stays flat."""
    with path.open("rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require_sha256(value: object, what: str) -> None:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise EngineError(f"{what} must be 64 lower-case hexadecimal digits, not {value!r}")


def _schema_version(root: JsonNode) -> int:
    """Judge the version before the keys, since a newer schema has other keys."""
    members = root.mapping()
    if "schema_version" not in members:
        root.fail("lacks the key 'schema_version', so it is not an engine's manifest")
    version = members["schema_version"].integer()
    if version > SCHEMA_VERSION:
        raise EngineMismatchError(
            f"{root.source} has schema version {version} and this dtfsal reads up to {SCHEMA_VERSION}: "
            "upgrade dtfsal, or rebuild the engine with this version"
        )
    if version < 1:
        members["schema_version"].fail(f"must be at least 1, not {version}")
    return version


def _build(node: JsonNode, construct: Callable[[], _Built]) -> _Built:
    """Construct a dataclass; what its own checks say gets the place of the node in front."""
    try:
        return construct()
    except DtfsalError as error:
        place = f"{node.source}: {node.path}: " if node.path else f"{node.source}: "
        raise EngineError(f"{place}{error}") from None


def _optional(node: JsonNode, read: Callable[[JsonNode], _Built]) -> _Built | None:
    return None if node.value is None else read(node)


def _read_spec(node: JsonNode, spec: type[_Built]) -> _Built:
    """Read a `ClipSpec` or `AudioSpec`, whose fields are int, float, str or tuples of float."""
    fields: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(spec)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, member in node.record(list(fields)).items():
        if fields[name] is int:
            values[name] = member.integer()
        elif fields[name] is float:
            values[name] = member.number()
        elif get_origin(fields[name]) is tuple:
            values[name] = tuple(item.number() for item in member.array())
        else:
            values[name] = member.string()
    return _build(JsonNode(None, "", node.source), lambda: spec(**values))


def _read_graph(node: JsonNode, version: int) -> GraphSpec:
    members = node.record(["file", "inputs", "outputs", *(["taps"] if version > 2 else [])])
    file = members["file"].string()
    inputs = tuple(_read_tensor(item) for item in members["inputs"].array())
    outputs = tuple(_read_tensor(item) for item in members["outputs"].array())
    taps = {}
    if version > 2:
        given = members["taps"].mapping()
        taps = {name: tuple(tap.integer() for tap in item.array()) for name, item in given.items()}
    return _build(node, lambda: GraphSpec(file, inputs, outputs, taps))


def _read_tensor(node: JsonNode) -> TensorSpec:
    members = node.record(["name", "dtype", "shape", "minimum", "maximum", "description"])
    name, dtype, description = (members[key].string() for key in ("name", "dtype", "description"))
    shape = tuple(size.integer() for size in members["shape"].array())
    minimum, maximum = (_optional(members[key], JsonNode.number) for key in ("minimum", "maximum"))
    return _build(node, lambda: TensorSpec(name, dtype, shape, minimum, maximum, description))


def _read_file_record(node: JsonNode) -> FileRecord:
    members = node.record(["sha256", "size_bytes"])
    sha256, size_bytes = members["sha256"].string(), members["size_bytes"].integer()
    return _build(node, lambda: FileRecord(sha256, size_bytes))
