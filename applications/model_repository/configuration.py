"""Triton's `config.pbtxt` of an engine's graphs, and of the model that predicts streams.

The fields are those of Triton's `model_config.proto`. Tests parse every text with that schema, as a package brings it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dtfsal.engines import DYNAMIC, GraphSpec, Manifest, TensorSpec

# Of each target whose graphs Triton runs by itself: its back end, and what it calls such a file.
BACKENDS: Mapping[str, tuple[str, str]] = {
    "onnxruntime": ("onnxruntime", "onnxruntime_onnx"),
    "tensorrt": ("tensorrt", "tensorrt_plan"),
}
MOST_SEQUENCES = 16  # that one copy of the streams' model holds at the same time
IDLE_SECONDS = 60  # after which a sequence that says nothing is forgotten
_TYPES = {"float16": "FP16", "float32": "FP32", "float64": "FP64"}


class Word(str):
    """A value that stands without quotes: a name of an enumeration."""

    __slots__ = ()


def graph_configuration(name: str, manifest: Manifest, graph: GraphSpec, max_batch_size: int) -> str:
    """The configuration of a model that is one graph.

    A graph whose tensors all have an open first axis is batched by Triton, up to `max_batch_size`; other graphs are
    given whole tensors.

    Args:
        name: the model's.
        manifest: of the engine.
        graph: which.
        max_batch_size: the largest batch; of a TensorRT engine no more than it was built for.
    """
    backend, platform = BACKENDS[manifest.target]
    batched = all(tensor.shape[:1] == (DYNAMIC,) for tensor in (*graph.inputs, *graph.outputs))
    fields: dict[str, Any] = {
        "name": name,
        "backend": backend,
        "platform": platform,
        "max_batch_size": max_batch_size if batched else 0,
        "default_model_filename": graph.file,
        "input": [_tensor(tensor, batched) for tensor in graph.inputs],
        "output": [_tensor(tensor, batched) for tensor in graph.outputs],
    }
    if batched:
        fields["dynamic_batching"] = {"max_queue_delay_microseconds": 1000}
    return as_text(fields)


def stream_configuration(name: str, manifest: Manifest, instances: int) -> str:
    """The configuration of the model that predicts streams, one sequence each, in Triton's Python back end.

    Args:
        name: the model's.
        manifest: of the engine.
        instances: processes, each with an engine of its own.
    """
    clip = manifest.clip
    inputs = [
        {"name": "frames", "data_type": Word("TYPE_UINT8"), "dims": [-1, -1, -1, 3]},
        {"name": "times_seconds", "data_type": Word("TYPE_FP64"), "dims": [-1]},
        {"name": "frame_rate_hz", "data_type": Word("TYPE_FP64"), "dims": [1], "optional": True},
        {"name": "samples", "data_type": Word("TYPE_FP32"), "dims": [-1], "optional": True},
        {"name": "samples_seconds", "data_type": Word("TYPE_FP64"), "dims": [1], "optional": True},
        {"name": "sample_rate_hz", "data_type": Word("TYPE_INT32"), "dims": [1], "optional": True},
    ]
    outputs = [
        {"name": "saliency_maps", "data_type": Word("TYPE_FP32"), "dims": [-1, clip.height, clip.width]},
        {"name": "map_times_seconds", "data_type": Word("TYPE_FP64"), "dims": [-1]},
        {"name": "map_indices", "data_type": Word("TYPE_INT64"), "dims": [-1]},
    ]
    controls: list[dict[str, Any]] = [
        {"name": "START", "control": [{"kind": Word("CONTROL_SEQUENCE_START"), "int32_false_true": [0, 1]}]},
        {"name": "END", "control": [{"kind": Word("CONTROL_SEQUENCE_END"), "int32_false_true": [0, 1]}]},
        {
            "name": "CORRID",
            "control": [{"kind": Word("CONTROL_SEQUENCE_CORRID"), "data_type": Word("TYPE_UINT64")}],
        },
    ]
    return as_text(
        {
            "name": name,
            "backend": "python",
            "max_batch_size": 0,
            "input": inputs,
            "output": outputs,
            "sequence_batching": {
                "max_sequence_idle_microseconds": IDLE_SECONDS * 10**6,
                "control_input": controls,
                "oldest": {"max_candidate_sequences": MOST_SEQUENCES},
            },
            "instance_group": [{"count": instances, "kind": Word("KIND_CPU")}],
        }
    )


def as_text(fields: Mapping[str, Any], indent: str = "") -> str:
    """Protobuf's text format of plain values; a list of mappings is a field that comes again."""
    lines = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            lines.append(f"{indent}{name} {{\n{as_text(value, indent + '  ')}{indent}}}\n")
        elif isinstance(value, Sequence) and not isinstance(value, str) and value and isinstance(value[0], Mapping):
            lines += [f"{indent}{name} {{\n{as_text(item, indent + '  ')}{indent}}}\n" for item in value]
        else:
            lines.append(f"{indent}{name}: {_plain(value)}\n")
    return "".join(lines)


def _plain(value: Any) -> str:
    if isinstance(value, Word):
        return str(value)
    # JSON's strings of ASCII are protobuf's, and so are its numbers, true and false.
    return json.dumps(value)


def _tensor(tensor: TensorSpec, batched: bool) -> dict[str, Any]:
    dtype = _TYPES.get(tensor.dtype, tensor.dtype.upper())
    dims = list(tensor.shape[1:] if batched else tensor.shape)
    if not dims:  # Triton has no tensor without axes; one value is a tensor of one
        return {"name": tensor.name, "data_type": Word(f"TYPE_{dtype}"), "dims": [1], "reshape": {"shape": []}}
    return {"name": tensor.name, "data_type": Word(f"TYPE_{dtype}"), "dims": dims}
