"""`dtfsal build` and `python export/build_engine.py`."""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from dtfsal.engines.limits import seed
from dtfsal.export.cli.common import Stages, add_result_arguments, print_engine, weights_file

if TYPE_CHECKING:
    from dtfsal.engines.bundle.manifest import WeightsRecord
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
  dtfsal build --weights dtfsal.safetensors --output dtfsal.engine
      the model in a weights file
  dtfsal build --precision int8 --calibration some.mp4 --calibration other.mp4 --output lite-int8.engine
      8-bit integers in the layers with most of the work, with value ranges from these videos
  dtfsal build --weights dtfsal.safetensors --target tensorrt-rtx --precision fp16 --output dtfsal-rtx.engine
      an engine for RTX cards; the machine that builds it needs none
  dtfsal build --weights dtfsal.safetensors --target tensorrt-rtx --max-batch-size 8 --report --output dtfsal-rtx.engine
      for one to eight windows at once; report.png in the engine shows how it was compiled
  dtfsal build --weights dtfsal.safetensors --target tensorrt --onnx-only --output dtfsal-onnx
      the graphs that TensorRT would build from, on a machine without a GPU

The output is a folder: manifest.json and the model files. Without --weights, the engine gets the preset's trained
weights (lite has some), else random ones; --seed asks for random ones.
Exit codes: 0 built, 1 failed, 2 wrong usage, 4 bad weights, 5 the target cannot be built here, 6 cannot write.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = "Build an engine bundle: PyTorch weights to ONNX to an engine, with its manifest."
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--preset", metavar="NAME", help="dtfsal, dtfsal-v, lite, tiny or tiny-v; needed without --weights"
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="safetensors file that dtfsal saved, or a repository of a hub"
    )
    parser.add_argument("--seed", type=seed, metavar="N", help="use random weights from this seed")
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
        choices=("fp32", "tf32", "fp16", "bf16", "int8"),
        help="default: fp32 for onnxruntime (no bf16) and openvino (no tf32, fp16); fp16 for tensorrt-rtx and tensorrt "
        "(no int8). tf32 is fp32 whose products a GPU may round to TF32",
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
        "cmake and g++); faster, and each machine that runs the engine compiles them too",
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
    add_result_arguments(parser)
    engines = parser.add_argument_group("TensorRT and TensorRT-RTX")
    engines.add_argument(
        "--timing-cache",
        type=Path,
        metavar="FILE",
        help="keep TensorRT's timings in this file (not for tensorrt-rtx, which has none)",
    )
    engines.add_argument("--refittable", action="store_true", help="let `dtfsal refit` give the engine other weights")
    engines.add_argument(
        "--strip-weights",
        action="store_true",
        help="leave the weights out; `dtfsal refit` adds them on the machine that will run the engine",
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
        help="tensorrt-rtx: build for these GPUs, e.g. 8.6,12.0 (default: all from 8.0 on that the library knows)",
    )


def run(args: argparse.Namespace) -> int:
    """Build; errors are for the caller to print."""
    return _export(args) if args.onnx_only else _build(args)


def _build(args: argparse.Namespace) -> int:
    from dtfsal.export.builder import build_engine

    request = _request(args)
    _warn_of_gpu(request, quiet=args.quiet)
    started = time.perf_counter()
    with Stages(quiet=args.quiet) as stages:
        manifest = build_engine(request, progress=stages)
    _warn_of_random(manifest.weights, quiet=args.quiet)
    _warn_of_calibration(request, manifest.weights, quiet=args.quiet)
    return print_engine(args, manifest, started)


def _export(args: argparse.Namespace) -> int:
    from dtfsal.export.onnx_export import export_onnx

    started = time.perf_counter()
    request = _request(args)
    with Stages(quiet=args.quiet, doing="exporting") as stages:
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
        weights=None if args.weights is None else weights_file(args.weights),
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


def _warn_of_gpu(request: "BuildRequest", *, quiet: bool) -> None:
    from dtfsal.export.tensor_rt.flavours import import_tensorrt, tensorrt_target, unknown_gpu

    target = tensorrt_target(request.target)
    if target is not None and not quiet and (problem := unknown_gpu(target, import_tensorrt(target))) is not None:
        print(f"dtfsal: the engine will run on other machines only: {problem}", file=sys.stderr)


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


def main(argv: Sequence[str] | None = None) -> int:
    """The script's entry: the same command through the command line, with its errors and exit codes.

    The command line is found by its entry point, as it finds this command: neither room imports the other.
    """
    (script,) = entry_points(group="console_scripts", name="dtfsal")
    status: int = script.load()(["build", *(sys.argv[1:] if argv is None else argv)])
    return status
