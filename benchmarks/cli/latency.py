"""`dtfsal benchmark latency`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dtfsal.benchmarks.cli import common

if TYPE_CHECKING:
    from dtfsal.training.model.config import ModelConfig

HELP = "latency of every form that runs here, interleaved: steady state with intervals, cold start, memory, energy"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    parser.add_argument("--preset", metavar="NAME", help="the model (default: that of the first --engine, else tiny)")
    parser.add_argument("--runs", type=int, default=10, metavar="N", help="timed runs of each form (default: 10)")
    parser.add_argument(
        "--form", action="append", default=[], metavar="NAME", help="a form, e.g. eager; can be repeated (default: all)"
    )
    parser.add_argument(
        "-e", "--engine", action="append", default=[], type=Path, metavar="DIR", help="an engine; can be repeated"
    )
    parser.add_argument("--baseline", metavar="NAME", help="the baseline of the ratios (default: eager plain)")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="windows at once (default: 1)")
    parser.add_argument("--frames", type=int, metavar="N", help="a window's frames (default: the preset's)")
    parser.add_argument("--size", metavar="HxW", help="the frames' size, e.g. 96x160 (default: the preset's)")
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.timing.forms import choose_forms
    from dtfsal.benchmarks.timing.latency import draw, latency, markdown

    config, forms = _config(args), choose_forms(args.form, args.engine)
    return common.measure_and_report(
        args,
        lambda bar: latency(
            config,
            forms,
            runs=args.runs,
            batch_size=args.batch_size,
            threads=args.threads,
            baseline=args.baseline,
            command=common.command_line(args),
            progress=lambda steps: bar.step(count=steps),
        ),
        markdown,
        draw=draw,
        steps=len(forms) * (args.runs + 1),
        slows="slows PyTorch far more than ONNX Runtime",
    )


def _config(args: argparse.Namespace) -> "ModelConfig":
    from dtfsal.engines import read_bundle
    from dtfsal.export.request import parse_size
    from dtfsal.training.model.config import ModelConfig, resolve_config

    if args.preset is None and args.engine:
        config = ModelConfig.from_dict(read_bundle(args.engine[0], verify=False).manifest.model_config)
    else:
        config = resolve_config(args.preset or "tiny")
    height, width = parse_size(args.size) if args.size is not None else (None, None)
    return config.resized(frames=args.frames, height=height, width=width)
