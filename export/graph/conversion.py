"""PyTorch to ONNX: clean graphs, checked, of fixed shapes and with nothing in them but arithmetic.

A graph for any batch is the exception: its first axes are open, and it asks its inputs for their number of windows.
"""

import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator

import onnx
import onnx_ir
import torch

from dtfsal.engines.errors import DtfsalError
from dtfsal.export.graph.lowering import PLUGIN_DOMAIN, Forms, lowered
from dtfsal.export.graph.parts import GraphPart, window_part
from dtfsal.export.graph.simplification import simplify
from dtfsal.training.model.network import DTFSal

OPSET = 23  # the first with Attention
SCOPES_KEY = "pkg.torch.onnx.name_scopes"  # the exporter's list of modules around a node, outermost first
# What must not be left in a graph of fixed shapes.
INDEX_ARITHMETIC = {"Shape", "Size", "Range", "NonZero", "ConstantOfShape", "If", "Loop", "Scan"}
BATCH_ARITHMETIC = {"Shape"}  # what a graph for any batch may have of it
BATCH_AXIS = "batch"  # ONNX's name of the open size


class ExportError(DtfsalError):
    """The graph that came out of the exporter is not the one that was wanted. Exit code 1."""


def to_onnx(model: DTFSal, forms: Forms, part: GraphPart | None = None) -> onnx.ModelProto:
    """Export a graph of a model in fp32.

    Args:
        model: the model; it is copied, not changed.
        forms: operator forms for the target.
        part: the graph; None for the whole model on one window.

    Returns:
        A checked model of opset 23 with the part's inputs and outputs.

    Raises:
        ExportError: the graph is not clean.
    """
    part = part or window_part(model.config)
    with torch.no_grad(), quiet():
        program = torch.onnx.export(
            part.module(lowered(model, forms)).eval(),
            part.example_inputs(),
            dynamo=True,
            opset_version=OPSET,
            input_names=[tensor.name for tensor in part.inputs],
            output_names=[tensor.name for tensor in part.outputs],
            optimize=False,
            verbose=False,
            dynamic_shapes=tuple({0: torch.export.Dim(BATCH_AXIS)} for _ in part.inputs)
            if part.dynamic_batch
            else None,
        )
        assert program is not None
        graph = program.model
        simplify(graph)
        graph.graph.sort()
        proto = onnx_ir.to_proto(graph)
    assert isinstance(proto, onnx.ModelProto)
    _strip_metadata(proto, model.config.name if part.name == "window" else f"{model.config.name}.{part.name}")
    check(proto, dynamic_batch=part.dynamic_batch)
    return proto


def check(model: onnx.ModelProto, *, dynamic_batch: bool = False) -> None:
    """onnx.checker, strict shape inference, and no shape or index arithmetic.

    Args:
        model: the graph.
        dynamic_batch: the first sizes of inputs and outputs are open, and what depends on them.

    Raises:
        ExportError: with the first finding.
    """
    operators = count_operators(model)
    unwanted = sorted((INDEX_ARITHMETIC - (BATCH_ARITHMETIC if dynamic_batch else set())) & operators.keys())
    if unwanted:
        raise ExportError(f"the exported graph computes shapes at run time ({', '.join(unwanted)})")
    try:
        onnx.checker.check_model(model)
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported graph is not valid ONNX: {error}") from error
    closed = [] if dynamic_batch else list(inferred.graph.value_info)
    for value in [*closed, *inferred.graph.input, *inferred.graph.output]:
        dims = value.type.tensor_type.shape.dim[1 if dynamic_batch else 0 :]
        if any(not dim.HasField("dim_value") for dim in dims):
            raise ExportError(f"the exported graph leaves the shape of {value.name!r} open")


def count_operators(model: onnx.ModelProto) -> Counter[str]:
    """How often each operator occurs; custom ones as `dtfsal::Name`."""
    names = (
        f"{node.domain}::{node.op_type}" if node.domain == PLUGIN_DOMAIN else node.op_type for node in model.graph.node
    )
    return Counter(names)


def _strip_metadata(model: onnx.ModelProto, name: str) -> None:
    """Name nodes by their place in the model, `encoder.blocks.0.attn/Attention.3`, and drop the exporter's notes.

    The notes hold source paths of the machine; the names are what precision islands and layer reports go by.
    """
    for number, node in enumerate(model.graph.node):
        notes = {prop.key: prop.value for prop in node.metadata_props}
        scopes = [scope.strip(" '\"") for scope in notes.get(SCOPES_KEY, "").strip("[]").split(",")]
        # Where the graph is a part, the model is the member `model` of what was exported.
        place = (scopes[-2] if len(scopes) > 1 else "").removeprefix("model.") or "model"
        node.name = f"{place}/{node.op_type}.{number}"
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.graph.name = name
    model.producer_name, model.producer_version = "dtfsal", ""
    used = {node.domain for node in model.graph.node}
    for opset in [opset for opset in model.opset_import if opset.domain not in used]:
        model.opset_import.remove(opset)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep a library's progress and its notes off the terminal; its errors still raise."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
