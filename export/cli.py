"""`dtfsal build` and `python export/build_engine.py`."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtfsal.engines.manifest import Manifest

DEFAULT_PRESET = "lite"
HELP = "build an engine from weights"
EXAMPLES = """\
examples:
  dtfsal build --output lite.engine
      the lite preset with the trained weights that the package carries
  dtfsal build --preset tiny --output tiny.engine
      random weights, for a first look, run by ONNX Runtime on the CPU
  dtfsal build --weights dtfsal.safetensors --output dtfsal.engine
      the model in a weights file
  dtfsal build --preset dtfsal --target tensorrt-rtx --precision fp16 --output dtfsal-rtx.engine
      an engine for RTX cards, built on a machine that need not have one

The output is a folder: manifest.json and the model files. Without --weights the preset's own trained weights are taken
(lite has some), else random ones; --seed asks for random ones.
Exit codes: 0 built, 1 failed, 2 wrong usage, 4 bad weights, 5 the target cannot be built here, 6 cannot write.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = "Build an engine bundle: PyTorch weights to ONNX to an engine, with its manifest."
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--preset", metavar="NAME", help="dtfsal, dtfsal-v, lite, tiny or tiny-v; needed without --weights"
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="safetensors file that dtfsal saved")
    parser.add_argument("--seed", type=int, metavar="N", help="take random weights, of this seed")
    parser.add_argument(
        "--target",
        choices=("onnxruntime", "tensorrt-rtx", "tensorrt"),
        default="onnxruntime",
        help="what is to run the engine (default: onnxruntime)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16"),
        help="default: fp32 for onnxruntime, fp16 for tensorrt-rtx and tensorrt",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="the engine's folder (needed but for --inspect)"
    )
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="windows per run (default: 1)")
    parser.add_argument(
        "--single-graph",
        action="store_true",
        help="one graph for whole windows also where neighbouring windows could share their frames' features",
    )
    parser.add_argument(
        "--timing-cache",
        type=Path,
        metavar="FILE",
        help="keep TensorRT's timings there (not for tensorrt-rtx, which has none)",
    )
    parser.add_argument("--force", action="store_true", help="replace an engine that stands at the output")
    parser.add_argument(
        "--inspect",
        action="store_true",
        help="list the layers: of the graph, and of the engine where a GPU can read it",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> int:
    """Build; errors are for the caller to print."""
    from dtfsal.engines.errors import UsageError
    from dtfsal.engines.manifest import Precision
    from dtfsal.export.builder import BuildRequest, build_engine

    if args.output is None:
        raise UsageError("say where to put the engine: --output DIR")
    precision: Precision = args.precision or ("fp32" if args.target == "onnxruntime" else "fp16")
    request = BuildRequest(
        preset=args.preset or (None if args.weights else DEFAULT_PRESET),
        weights=args.weights,
        seed=args.seed,
        target=args.target,
        precision=precision,
        output=args.output,
        batch_size=args.batch_size,
        graphs="window" if args.single_graph else "reuse",
        overwrite=args.force,
        timing_cache=args.timing_cache,
    )
    started = time.perf_counter()
    with _Stages(quiet=args.quiet) as stages:
        manifest = build_engine(request, progress=stages)
    seconds = time.perf_counter() - started
    if manifest.weights["sha256"] is None and not args.quiet:
        print(
            f"dtfsal: the weights are not trained ({manifest.weights['source']}); the maps mean nothing",
            file=sys.stderr,
        )
    layers = _layers(args.output, manifest) if args.inspect else None
    if args.json:
        result = {"engine": str(args.output), "seconds": seconds, "manifest": json.loads(manifest.to_json())}
        print(json.dumps(result | ({"layers": layers} if layers is not None else {}), indent=2))
    else:
        for layer in layers or []:
            print("  ".join(str(value) for value in layer.values()))
        what = f"{manifest.model_name}, {manifest.precision}, {manifest.target}"
        print(f"{args.output}: {what}, {manifest.size_bytes / 2**20:.1f} MiB, {seconds:.0f} s")
    return 0


def _layers(output: Path, manifest: "Manifest") -> list[dict[str, Any]]:
    """The layers of what was built, graph by graph: the builder's report, or the graph's nodes."""
    import onnx

    from dtfsal.export.builder import layers_file

    layers: list[dict[str, Any]] = []
    for graph in manifest.graphs.values():
        report = output / layers_file(Path(graph.file).stem)
        if report.name in manifest.files:
            layers += json.loads(report.read_text())
        else:
            nodes = onnx.load(output / graph.file, load_external_data=False).graph.node
            layers += [{"name": node.name, "type": node.op_type} for node in nodes]
    return layers


class _Stages:
    """Progress on stderr: a bar for the builder's steps on a terminal, a line per stage elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._stage = ""
        self._bar = None

    def __enter__(self) -> "_Stages":
        from tqdm import tqdm

        if not self._quiet and self._terminal:
            self._bar = tqdm(total=0, bar_format="{desc} [{elapsed}]", leave=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, stage: str, done: int, steps: int) -> None:
        if self._bar is not None:
            self._bar.set_description_str(f"building: {stage}" + (f" {done}/{steps}" if steps else ""))
        elif not self._quiet and not steps and stage != self._stage:
            print(f"dtfsal: building: {stage}", file=sys.stderr, flush=True)
        self._stage = stage


def main(argv: Sequence[str] | None = None) -> int:
    """The script's entry: the same command through the command line, with its errors and exit codes.

    The command line is found by its entry point, as it finds this command: neither room imports the other.
    """
    (script,) = entry_points(group="console_scripts", name="dtfsal")
    status: int = script.load()(["build", *(sys.argv[1:] if argv is None else argv)])
    return status
