"""`dtfsal triton`: a model repository for NVIDIA's Triton Inference Server, of an engine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dtfsal.engines.errors import printable
from dtfsal.runtime.cli import common

HELP = "write an engine as a model repository for Triton Inference Server"

_EPILOG = """\
models:
  NAME           takes frames of a stream, sequence by sequence, and gives maps; it runs in Triton's Python, where
                 dtfsal must be installed
  NAME-GRAPH     a graph of the engine, for Triton's ONNX Runtime or TensorRT back end

examples:
  dtfsal triton lite -o models
  dtfsal triton mine.engine -o models --name mine --max-batch 16
  tritonserver --model-repository models
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "engine", metavar="ENGINE", help="the name of an engine that the package carries, or a folder that `dtfsal "
        "build` made"
    )  # fmt: skip
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="a new folder: the model repository")
    parser.add_argument("--name", metavar="NAME", help="of the models (default: the engine's folder's)")
    parser.add_argument(
        "--max-batch",
        type=common.positive_int,
        default=8,
        metavar="N",
        help="the largest batch of graphs whose batch is open (default: %(default)s)",
    )
    parser.add_argument(
        "--instances",
        type=common.positive_int,
        default=1,
        metavar="N",
        help="processes of the streams' model, each with an engine of its own (default: %(default)s)",
    )
    common.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Write it."""
    from dtfsal.applications.model_repository.repository import write_repository

    written = write_repository(
        args.engine, Path(args.output), name=args.name, max_batch_size=args.max_batch, instances=args.instances
    )
    if args.json:
        common.print_json({"path": str(written.path), "models": written.models, "notes": written.notes})
        return 0
    common.print_table([("wrote", written.path), ("models", ", ".join(written.models))])
    for note in written.notes:
        print(f"note: {printable(note)}", file=sys.stderr)
    return 0
