"""The graphs that a target is built from, as ONNX files in a folder: `dtfsal build --onnx-only`.

For targets that cannot be built on this machine, and for tools that read ONNX. The folder holds each graph with its
weights beside it, and `export.json`, which says what a reader must be able to do: operators, their versions, and the
custom nodes with their fields and shapes.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import onnx

from dtfsal.engines.bundle.manifest import WeightsRecord, sha256_file
from dtfsal.engines.errors import UsageError
from dtfsal.export.build_record import graph_signature
from dtfsal.export.builder import (
    Progress,
    calibration_inputs,
    created_by,
    no_progress,
    part_graph,
    requested_model,
    save_onnx,
    scratch_folder,
)
from dtfsal.export.graph.conversion import count_operators
from dtfsal.export.graph.costs import value_types
from dtfsal.export.graph.lowering import PLUGIN_DOMAIN
from dtfsal.export.graph.parts import GraphPart, graph_parts
from dtfsal.export.request import BuildRequest, graph_forms
from dtfsal.export.tensor_rt.flavours import FLAVOURS, tensorrt_target
from dtfsal.training.model.network import DTFSal

EXPORT_FILE = "export.json"
EXPORT_VERSION = 1


def export_onnx(request: BuildRequest, *, progress: Progress | None = None) -> dict[str, Any]:
    """Write the graphs of a request, whole or not at all; nothing of the target's library is needed.

    Args:
        request: what would be built; what concerns the engine alone is not used.
        progress: told when a stage begins.

    Returns:
        What `export.json` holds: model, weights, target, precision, forms, the oldest library that reads it, and
        for each graph its files, inputs and outputs, operators by number, versions by domain, and plugin nodes.

    Raises:
        UsageError: the output exists and is not such a folder.
        WeightsError: the weights file cannot be used.
        ExportError: a graph did not come out.
        OutputError: the result cannot be written.
    """
    report = progress or no_progress
    final = Path(request.output)
    _check_replaceable(final, overwrite=request.overwrite)
    forms = graph_forms(request.target, request.precision, pooling=request.pooling)
    with scratch_folder(final) as scratch:
        folder = scratch / "export"
        folder.mkdir()
        report("weights", 0, 0)
        model, weights = requested_model(request)
        windows = calibration_inputs(request, model, report)
        graphs = {}
        for part in graph_parts(model, request.graphs, batch_size=request.graph_batch):
            graph = part_graph(model, part, request, forms, windows, report)
            graphs[part.name] = _describe(graph, part, folder)
        summary = _summary(request, model, weights, dataclasses.asdict(forms), graphs)
        (folder / EXPORT_FILE).write_text(json.dumps(summary, indent=2) + "\n")
        _check_replaceable(final, overwrite=request.overwrite)
        if final.exists():
            final.rename(scratch / "replaced")
        folder.rename(final)
    return summary


def _summary(
    request: BuildRequest, model: DTFSal, weights: WeightsRecord, forms: dict[str, Any], graphs: dict[str, Any]
) -> dict[str, Any]:
    library = None
    if (tensorrt := tensorrt_target(request.target)) is not None:
        flavour = FLAVOURS[tensorrt]
        uses_attention = any("Attention" in graph["operators"] for graph in graphs.values())
        oldest = flavour.attention_from if uses_attention else flavour.oldest
        library = {"module": flavour.module, "oldest": ".".join(map(str, oldest))}
    return {
        "version": EXPORT_VERSION,
        "created_by": created_by(),
        "model_name": model.config.name,
        "model_config": model.config.to_dict(),
        "weights": weights,
        "target": request.target,
        "precision": request.precision,
        "forms": forms,
        "library": library,
        "graphs": graphs,
    }


def _describe(graph: onnx.ModelProto, part: GraphPart, folder: Path) -> dict[str, Any]:
    kinds = value_types(graph)
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}

    def tensor(name: str) -> dict[str, Any]:
        if name in weights:
            kind, shape = weights[name].data_type, list(weights[name].dims)
        else:
            kind, shape = kinds[name].elem_type, [d.dim_param or d.dim_value for d in kinds[name].shape.dim]
        return {"name": name, "dtype": onnx.TensorProto.DataType.Name(kind).lower(), "shape": shape}

    summary = {
        "signature": graph_signature(graph),
        "inputs": [dataclasses.asdict(spec) for spec in part.inputs],
        "outputs": [dataclasses.asdict(spec) for spec in part.outputs],
        "operators": dict(sorted(count_operators(graph).items())),
        "opsets": {opset.domain or "ai.onnx": opset.version for opset in graph.opset_import},
        "plugin_nodes": [
            {
                "name": node.name,
                "operator": node.op_type,
                "domain": node.domain,
                "attributes": {a.name: _plain(onnx.helper.get_attribute_value(a)) for a in node.attribute},
                "inputs": [tensor(name) if name else None for name in node.input],
                "outputs": [tensor(name) for name in node.output],
            }
            for node in graph.graph.node
            if node.domain == PLUGIN_DOMAIN
        ],
    }
    files = save_onnx(graph, folder, part.stem)
    return {
        "files": {file.name: {"sha256": sha256_file(file), "size_bytes": file.stat().st_size} for file in files},
        **summary,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return list(value) if isinstance(value, (list, tuple)) else value


def _check_replaceable(final: Path, *, overwrite: bool) -> None:
    """Refuse to replace anything but an empty folder or, if told to, a folder that this module wrote."""
    if not final.exists():
        return
    if not final.is_dir():
        raise UsageError(f"{final} is a file; name another folder")
    names = {entry.name for entry in final.iterdir()}
    if not names:
        return
    ours = set()
    if EXPORT_FILE in names:
        try:
            graphs = json.loads((final / EXPORT_FILE).read_text())["graphs"]
            ours = {EXPORT_FILE, *(name for graph in graphs.values() for name in graph["files"])}
        except (ValueError, KeyError, TypeError, AttributeError):
            ours = set()
    if not names <= ours:
        raise UsageError(f"{final} exists and holds something other than exported graphs; name another folder")
    if not overwrite:
        raise UsageError(f"{final} already holds exported graphs; name another folder, or replace them with --force")
