"""How an engine was built: `build.json` in its bundle, for whoever refits it or wants to know.

The runtime needs none of it; what it needs is in the manifest.
"""

import dataclasses
import hashlib
import json
import types
import typing
from typing import Any, Literal

import onnx

from dtfsal.engines.bundle.folder import Bundle
from dtfsal.engines.bundle.strict_json import parse_json
from dtfsal.engines.errors import MALFORMED, EngineError, EngineMismatchError
from dtfsal.engines.limits import shown
from dtfsal.export.graph.lowering import Forms
from dtfsal.export.tensor_rt.flavours import HardwareCompatibility

RECORD_FILE = "build.json"
RECORD_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantisationRecord:
    """How an int8 engine was calibrated, and what of it computes in integers.

    Attributes:
        sources: names of the videos' files, or that there was none.
        windows: that were run, of all sources together.
        layers: by graph and type, "int8" or "fp32", the names of convolutions, matrix products and attentions.
    """

    sources: tuple[str, ...]
    windows: int
    layers: dict[str, dict[str, list[str]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildRecord:
    """How an engine was built.

    Attributes:
        forms: the operator forms of its graphs.
        tuned_batch: windows that it takes, or is tuned for.
        max_batch_size: of an engine for any batch, else None.
        refittable: it takes other weights.
        strip_weights: it was written without its weights.
        hardware_compatibility: TensorRT's level.
        signatures: `graph_signature` of each graph, by name.
        attention_fused: whether each Attention node of a graph became one kernel, by name; None where no builder said.
        quantisation: of an int8 engine, else None.
    """

    forms: Forms
    tuned_batch: int
    max_batch_size: int | None
    refittable: bool
    strip_weights: bool
    hardware_compatibility: HardwareCompatibility
    signatures: dict[str, str]
    attention_fused: dict[str, bool | None]
    quantisation: QuantisationRecord | None = None

    def to_json(self) -> str:
        """The text of `build.json`."""
        return json.dumps({"version": RECORD_VERSION, **dataclasses.asdict(self)}, indent=2) + "\n"

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> "BuildRecord":
        """Read the record of a bundle.

        Raises:
            EngineMismatchError: it has none, or one of another version.
            EngineError: it is damaged.
        """
        if RECORD_FILE not in bundle.manifest.files:
            raise EngineMismatchError(
                f"{bundle.path} does not say how it was built ({RECORD_FILE}): build it again with this version"
            )
        path = bundle.file(RECORD_FILE)
        fields = parse_json(path.read_bytes(), str(path)).plain()
        if not isinstance(fields, dict) or fields.pop("version", None) != RECORD_VERSION:
            raise EngineMismatchError(f"{path} is of another version of dtfsal: build the engine again with this one")
        try:
            if (quantisation := fields.get("quantisation")) is not None:
                sources = tuple(quantisation["sources"])
                fields["quantisation"] = QuantisationRecord(**{**quantisation, "sources": sources})
            record = cls(**{**fields, "forms": Forms(**fields["forms"])})
            _check_choices(record.forms)
            _check_choices(record)
            return record
        except MALFORMED as error:
            raise EngineError(f"{path} is not a record of a build ({error}): build the engine again") from error


def _check_choices(record: object) -> None:
    """See that fields that are one of a few values are, and that others have a type that they are declared with.

    Raises:
        ValueError: one is not.
    """
    for name, wanted in typing.get_type_hints(type(record)).items():
        value = getattr(record, name)
        if typing.get_origin(wanted) is Literal:
            fits = value in typing.get_args(wanted)
        else:
            kinds = [typing.get_origin(kind) or kind for kind in typing.get_args(wanted) or () if kind is not ...]
            origin = typing.get_origin(wanted)
            fits = isinstance(value, tuple(kinds) if origin is types.UnionType else origin or wanted)
        if not fits:
            raise ValueError(f"{name} can't be {shown(value)}")


def graph_signature(model: onnx.ModelProto) -> str:
    """SHA-256 of all of a graph but its weights' values: equal if and only if weights can be exchanged.

    Integer constants count as structure, since shapes and indices are made of them; weights count with name, type and
    shape.
    """
    digest = hashlib.sha256()

    def add(*parts: Any) -> None:
        digest.update(json.dumps(parts, sort_keys=True, default=str).encode() + b"\n")

    graph = model.graph
    add(sorted((opset.domain, opset.version) for opset in model.opset_import))
    for value in [*graph.input, *graph.output]:
        sizes = [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        add(value.name, value.type.tensor_type.elem_type, sizes)
    for tensor in sorted(graph.initializer, key=lambda tensor: tensor.name):
        add(tensor.name, tensor.data_type, list(tensor.dims))
        if tensor.data_type not in _WEIGHT_TYPES:
            add(onnx.numpy_helper.to_array(tensor).tolist())
    for node in graph.node:
        attributes = sorted((a.name, a.SerializeToString(deterministic=True).hex()) for a in node.attribute)
        add(node.name, node.domain, node.op_type, list(node.input), list(node.output), attributes)
    return digest.hexdigest()


_WEIGHT_TYPES = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
}
