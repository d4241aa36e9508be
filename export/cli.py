"""`dtfsal build` and `python export/build_engine.py`."""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtfsal.engines.bundle.manifest import Manifest, WeightsRecord
    from dtfsal.export.graph.parts import Graphs
    from dtfsal.export.request import BuildRequest

DEFAULT_PRESET = "lite"
HELP = "build an engine from weights"
EXAMPLES = """\
examples:
  dtfsal build --output lite.engine
      the lite preset with the trained weights that the package carries
  dtfsal build --size 160x256 --frames 8 --output small.engine
      the same on smaller frames and fewer of them: faster, and less accurate
  dtfsal build --preset tiny --output tiny.engine
      random weights, for a first look, run by ONNX Runtime on the CPU
  dtfsal build --weights dtfsal.safetensors --output dtfsal.engine
      the model in a weights file
  dtfsal build --precision int8 --calibration some.mp4 --calibration other.mp4 --output lite-int8.engine
      8-bit integers in the layers with most of the work, with value ranges from these videos
  dtfsal build --preset dtfsal --target tensorrt-rtx --precision fp16 --output dtfsal-rtx.engine
      an engine for RTX cards; the machine that builds it needs none
  dtfsal build --preset dtfsal --target tensorrt-rtx --max-batch-size 8 --report --output dtfsal-rtx.engine
      for one to eight windows at once; report.png in the engine shows how it was compiled
  dtfsal build --preset dtfsal --target tensorrt --onnx-only --output dtfsal-onnx
      the graphs that TensorRT would build from, on a machine without a GPU
  dtfsal build --refit dtfsal.engine --weights new.safetensors --output new.engine
      the same engine with other weights, without a build

The output is a folder: manifest.json and the model files. Without --weights, the engine gets the preset's trained
weights (lite has some), else random ones; --seed asks for random ones.
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
    parser.add_argument("--seed", type=int, metavar="N", help="use random weights from this seed")
    parser.add_argument(
        "--frames", type=int, metavar="N", help="a window's frames (default: those that the weights are for)"
    )
    parser.add_argument(
        "--size",
        metavar="HxW",
        help="what frames are resized to, in multiples of 32, e.g. 160x256: smaller is faster and less accurate "
        "(default: that of the weights)",
    )
    parser.add_argument(
        "--target",
        choices=("onnxruntime", "openvino", "tensorrt-rtx", "tensorrt"),
        help="the library that will run the engine (default: onnxruntime)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16", "int8"),
        help="default: fp32 for onnxruntime (no bf16) and openvino (no fp16); fp16 for tensorrt-rtx and tensorrt "
        "(no int8)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="the engine's folder (needed except with --inspect)"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="windows per run (default: 1); with --max-batch-size the number to tune for (default: the greatest)",
    )
    parser.add_argument(
        "--max-batch-size", type=int, metavar="N", help="take any number of windows from 1 to N instead of a fixed one"
    )
    parser.add_argument(
        "--single-graph",
        action="store_true",
        help="one graph for whole windows also where neighbouring windows could share their frames' features",
    )
    parser.add_argument(
        "--pooling",
        choices=("conv3d", "conv2d"),
        default="conv3d",
        help="compute the transformer's pooling as a 3-D convolution (default), or as equal 2-D ones",
    )
    parser.add_argument(
        "--reuse-sound",
        action="store_true",
        help="models that mix times, such as dtfsal: encode slices of sound, which neighbouring windows share, in a "
        "separate graph (Python runtime only)",
    )
    parser.add_argument(
        "--cpu-kernels",
        action="store_true",
        help="onnxruntime, fp32: compile custom operators for attention, linear layers and 3x3 convolutions (needs "
        "cmake and g++) into the engine; faster, but for this kind of system only",
    )
    parser.add_argument(
        "--half-weights",
        action="store_true",
        help="onnxruntime: store weights in half precision where that changes none of them, as it does for the shipped "
        "weights; the same maps from a file of half the size",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        action="append",
        default=[],
        metavar="VIDEO",
        help="int8: take the value ranges from this video, which should be like those that the engine will see; "
        "repeatable (default: synthetic scenes, good enough for random weights)",
    )
    parser.add_argument(
        "--calibration-windows", type=int, metavar="N", help="int8: windows of each calibration video (default: 8)"
    )
    parser.add_argument("--force", action="store_true", help="replace an engine that exists at the output")
    parser.add_argument(
        "--inspect",
        action="store_true",
        help="list the layers: of the graph, and of the engine where a GPU can read it",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="put report.json and report.png into the engine: what each layer costs, and which became one kernel",
    )
    parser.add_argument(
        "--onnx-only",
        action="store_true",
        help="write only export.json and the graphs to build from; the target's library need not be installed",
    )
    parser.add_argument(
        "--refit", type=Path, metavar="ENGINE", help="write this engine with the --weights given, without a build"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    engines = parser.add_argument_group("TensorRT and TensorRT-RTX")
    engines.add_argument(
        "--timing-cache",
        type=Path,
        metavar="FILE",
        help="keep TensorRT's timings in this file (not for tensorrt-rtx, which has none)",
    )
    engines.add_argument("--refittable", action="store_true", help="let --refit give the engine other weights")
    engines.add_argument(
        "--strip-weights",
        action="store_true",
        help="leave the weights out; --refit adds them on the machine that will run the engine",
    )
    engines.add_argument(
        "--hardware-compatibility",
        choices=("none", "ampere+", "same-capability"),
        default="none",
        help="tensorrt: build for more GPUs than this machine's (default: none)",
    )
    engines.add_argument(
        "--compute-capability",
        metavar="LIST",
        help="tensorrt-rtx: build for these GPUs, e.g. 8.6,12.0 (default: 8.0, 8.6, 8.9, 12.0 and later)",
    )


def run(args: argparse.Namespace) -> int:
    """Build; errors are for the caller to print."""
    from dtfsal.engines.errors import UsageError

    if args.output is None:
        raise UsageError("say where to put the engine: --output DIR")
    if args.refit is not None:
        return _refit(args)
    return _export(args) if args.onnx_only else _build(args)


def _build(args: argparse.Namespace) -> int:
    from dtfsal.export.builder import build_engine

    request = _request(args)
    started = time.perf_counter()
    with _Stages(quiet=args.quiet) as stages:
        manifest = build_engine(request, progress=stages)
    _warn_of_random(manifest.weights, quiet=args.quiet)
    _warn_of_calibration(request, manifest.weights, quiet=args.quiet)
    layers = _layers(args.output, manifest) if args.inspect else None
    return _print_engine(args, manifest, time.perf_counter() - started, layers)


def _refit(args: argparse.Namespace) -> int:
    from dtfsal.engines.errors import UsageError
    from dtfsal.export.refit import RefitRequest, refit_engine

    # Everything else is the engine's: it would be ignored.
    chosen = [name for name, default in _NOT_WITH_REFIT.items() if getattr(args, name) != default]
    if chosen:
        raise UsageError(f"--refit keeps the engine as it was built: leave --{chosen[0].replace('_', '-')} out")
    if args.weights is None:
        raise UsageError("--refit needs the new weights: --weights FILE")
    request = RefitRequest(engine=args.refit, weights=args.weights, output=args.output, overwrite=args.force)
    started = time.perf_counter()
    with _Stages(quiet=args.quiet, doing="refitting") as stages:
        manifest = refit_engine(request, progress=stages)
    layers = _layers(args.output, manifest) if args.inspect else None
    return _print_engine(args, manifest, time.perf_counter() - started, layers)


# Options that --refit does not take, and their defaults.
_NOT_WITH_REFIT: Mapping[str, object] = {
    "preset": None,
    "seed": None,
    "frames": None,
    "size": None,
    "target": None,
    "precision": None,
    "batch_size": None,
    "max_batch_size": None,
    "single_graph": False,
    "reuse_sound": False,
    "cpu_kernels": False,
    "half_weights": False,
    "pooling": "conv3d",
    "calibration": [],
    "calibration_windows": None,
    "report": False,
    "onnx_only": False,
    "timing_cache": None,
    "refittable": False,
    "strip_weights": False,
    "hardware_compatibility": "none",
    "compute_capability": None,
}


def _export(args: argparse.Namespace) -> int:
    from dtfsal.export.onnx_export import export_onnx

    started = time.perf_counter()
    request = _request(args)
    with _Stages(quiet=args.quiet, doing="exporting") as stages:
        summary = export_onnx(request, progress=stages)
    seconds = time.perf_counter() - started
    _warn_of_random(summary["weights"], quiet=args.quiet)
    _warn_of_calibration(request, summary["weights"], quiet=args.quiet)
    if args.json:
        print(json.dumps({"folder": str(args.output), "seconds": seconds, "export": summary}, indent=2))
        return 0
    graphs = summary["graphs"].values()
    size = sum(file["size_bytes"] for graph in graphs for file in graph["files"].values())
    plugins = sorted({f"{node['domain']}::{node['operator']}" for graph in graphs for node in graph["plugin_nodes"]})
    what = f"{summary['model_name']}, {summary['precision']}, ONNX for {summary['target']}"
    needs = f", with {', '.join(plugins)}" if plugins else ""
    print(f"{args.output}: {what}{needs}, {size / 2**20:.1f} MiB, {seconds:.0f} s")
    return 0


def _request(args: argparse.Namespace) -> "BuildRequest":
    from dtfsal.engines.bundle.manifest import GRAPH_TARGETS, EngineTarget, Precision
    from dtfsal.export.precision.calibration import Calibration
    from dtfsal.export.request import BuildRequest, parse_size

    calibration = Calibration(videos=tuple(args.calibration))
    if args.calibration_windows is not None:
        calibration = dataclasses.replace(calibration, windows=args.calibration_windows)
    target: EngineTarget = args.target or "onnxruntime"
    precision: Precision = args.precision or ("fp32" if target in GRAPH_TARGETS else "fp16")
    capabilities = args.compute_capability
    height, width = parse_size(args.size) if args.size is not None else (None, None)
    return BuildRequest(
        preset=args.preset or (None if args.weights else DEFAULT_PRESET),
        weights=args.weights,
        seed=args.seed,
        frames=args.frames,
        height=height,
        width=width,
        target=target,
        precision=precision,
        output=args.output,
        batch_size=args.batch_size,
        max_batch_size=args.max_batch_size,
        graphs=_graphs(args),
        pooling=args.pooling,
        overwrite=args.force,
        timing_cache=args.timing_cache,
        refittable=args.refittable,
        strip_weights=args.strip_weights,
        hardware_compatibility=args.hardware_compatibility,
        compute_capabilities=() if capabilities is None else tuple(part.strip() for part in capabilities.split(",")),
        report=args.report,
        cpu_kernels=args.cpu_kernels,
        half_weights=args.half_weights,
        calibration=calibration,
    )


def _graphs(args: argparse.Namespace) -> "Graphs":
    from dtfsal.engines.errors import UsageError

    if args.single_graph and args.reuse_sound:
        raise UsageError("--single-graph and --reuse-sound contradict each other: leave one out")
    return "window" if args.single_graph else "sound" if args.reuse_sound else "reuse"


def _warn_of_random(weights: "WeightsRecord", *, quiet: bool) -> None:
    if weights["sha256"] is None and not quiet:
        print(f"dtfsal: the weights are not trained ({weights['source']}); the maps mean nothing", file=sys.stderr)


def _warn_of_calibration(request: "BuildRequest", weights: "WeightsRecord", *, quiet: bool) -> None:
    trained = weights["sha256"] is not None
    if request.precision == "int8" and not request.calibration.videos and trained and not quiet:
        print(
            "dtfsal: calibrated on synthetic scenes; give videos like those that it will see with --calibration",
            file=sys.stderr,
        )


def _print_engine(
    args: argparse.Namespace, manifest: "Manifest", seconds: float, layers: list[dict[str, Any]] | None
) -> int:
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

    def __init__(self, *, quiet: bool, doing: str = "building") -> None:
        self._quiet, self._doing = quiet, doing
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
            self._bar.set_description_str(f"{self._doing}: {stage}" + (f" {done}/{steps}" if steps else ""))
        elif not self._quiet and not steps and stage != self._stage:
            print(f"dtfsal: {self._doing}: {stage}", file=sys.stderr, flush=True)
        self._stage = stage


def main(argv: Sequence[str] | None = None) -> int:
    """The script's entry: the same command through the command line, with its errors and exit codes.

    The command line is found by its entry point, as it finds this command: neither room imports the other.
    """
    (script,) = entry_points(group="console_scripts", name="dtfsal")
    status: int = script.load()(["build", *(sys.argv[1:] if argv is None else argv)])
    return status
