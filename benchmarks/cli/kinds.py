"""The kinds of `dtfsal benchmark` that measure a model or an engine and write a report: their arguments and runs.

What is measured is imported when a kind runs: telling the arguments must be quick.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dtfsal.benchmarks.cli import common
from dtfsal.engines.limits import seed
from dtfsal.runtime.cli.common import add_trust_option

if TYPE_CHECKING:
    from dtfsal.training.model.config import ModelConfig

Parser = argparse.ArgumentParser
SLOWS_ALL = "slows everything"


class Kind(NamedTuple):
    """A kind: its help, what adds its arguments to a parser, and what runs it and gives the exit code."""

    help: str
    configure: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], int]


def _flops_arguments(parser: Parser) -> None:
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--preset", default="dtfsal", metavar="NAME", help="the model (default: dtfsal)")
    model.add_argument(
        "--paper", action="store_true", help="only the paper's two models, in both forms, beside the paper's figures"
    )
    parser.add_argument(
        "--form",
        choices=("deployed", "written"),
        default="deployed",
        help="the form whose parts are shown: what an engine runs, or the definitional form (default: deployed)",
    )
    parser.add_argument("-e", "--engine", type=Path, metavar="DIR", help="also count an engine's graphs, part by part")
    parser.add_argument(
        "--roofline",
        action="store_true",
        help="measure this machine's peak and bandwidth and set the engine's parts beside them; needs --engine",
    )
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def _flops(args: argparse.Namespace) -> int:
    from dtfsal.benchmarks.count.flops_report import draw, flops_report, markdown, paper_markdown, paper_report
    from dtfsal.engines.errors import UsageError

    if args.paper:
        if args.engine is not None or args.roofline or args.form != "deployed":
            raise UsageError("--paper shows the paper's models in both forms: give no --form, --engine or --roofline")
        return common.measure_and_report(args, lambda _: paper_report(), paper_markdown, unit="")
    if args.roofline and args.engine is None:
        raise UsageError("--roofline sets an engine's parts beside the machine: give one with --engine")
    return common.measure_and_report(
        args,
        lambda _: flops_report(
            args.preset, form=args.form, engine=args.engine, roofline=args.roofline, threads=args.threads
        ),
        markdown,
        draw=draw if args.roofline else None,
        unit="",
        slows="lowers the machine's rates",
    )


def _latency_arguments(parser: Parser) -> None:
    parser.add_argument("--preset", metavar="NAME", help="the model (default: that of the first --engine, else tiny)")
    common.add_runs_argument(parser, 10, "timed runs of each form")
    parser.add_argument(
        "--form", action="append", default=[], metavar="NAME", help="a form, e.g. eager; can be repeated (default: all)"
    )
    parser.add_argument(
        "-e", "--engine", action="append", default=[], type=Path, metavar="DIR", help="an engine; can be repeated"
    )
    add_trust_option(parser)
    parser.add_argument("--baseline", metavar="NAME", help="the baseline of the ratios (default: eager plain)")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="windows at once (default: 1)")
    parser.add_argument("--frames", type=int, metavar="N", help="a window's frames (default: the preset's)")
    parser.add_argument("--size", metavar="HxW", help="the frames' size, e.g. 96x160 (default: the preset's)")
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def _latency(args: argparse.Namespace) -> int:
    from dtfsal.benchmarks.timing.forms import choose_forms
    from dtfsal.benchmarks.timing.latency import latency
    from dtfsal.benchmarks.timing.latency_report import draw, markdown

    config, forms = _latency_config(args), choose_forms(args.form, args.engine, trust=args.trust_engine)
    return common.measure_and_report(
        args,
        lambda bar: latency(
            config,
            forms,
            runs=args.runs,
            batch_size=args.batch_size,
            threads=args.threads,
            baseline=args.baseline,
            progress=lambda steps: bar.step(count=steps),
        ),
        markdown,
        draw=draw,
        steps=len(forms) * (args.runs + 1),
        slows="slows PyTorch far more than ONNX Runtime",
    )


def _latency_config(args: argparse.Namespace) -> "ModelConfig":
    from dtfsal.engines import read_bundle
    from dtfsal.export.request import parse_size
    from dtfsal.training.model.config import ModelConfig, resolve_config

    if args.preset is None and args.engine:
        config = ModelConfig.from_dict(read_bundle(args.engine[0], verify=False).manifest.model_config)
    else:
        config = resolve_config(args.preset or "tiny")
    height, width = parse_size(args.size) if args.size is not None else (None, None)
    return config.resized(frames=args.frames, height=height, width=width)


def _layers_arguments(parser: Parser) -> None:
    common.add_engine_argument(parser)
    common.add_runs_argument(parser, 3, "profiled runs of each graph")
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def _layers(args: argparse.Namespace) -> int:
    from dtfsal.benchmarks.timing.layers import draw, layers, markdown

    return common.measure_and_report(
        args,
        lambda bar: layers(
            args.engine, runs=args.runs, threads=args.threads, trust=args.trust_engine, progress=bar.step
        ),
        markdown,
        draw=draw,
        slows=SLOWS_ALL,
    )


def _scaling_arguments(parser: Parser) -> None:
    parser.add_argument("--preset", default="tiny", metavar="NAME", help="the model (default: tiny)")
    parser.add_argument("--form", default="eager", metavar="NAME", help="the form, as in latency (default: eager)")
    parser.add_argument(
        "--vary", choices=("frames", "size", "batch", "threads"), required=True, help="what grows; sizes are HxW"
    )
    parser.add_argument("--grid", metavar="A,B,...", help="its values, e.g. 8,16,32 (default: some around the preset)")
    common.add_runs_argument(parser, 10, "timed runs at each point")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="windows at once (default: 1)")
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def _scaling(args: argparse.Namespace) -> int:
    from dtfsal.benchmarks.timing.forms import choose_forms
    from dtfsal.benchmarks.timing.scaling import scaling
    from dtfsal.benchmarks.timing.scaling_report import draw, markdown

    (form,) = choose_forms([args.form])
    return common.measure_and_report(
        args,
        lambda bar: scaling(
            args.preset,
            form,
            args.vary,
            [value.strip() for value in args.grid.split(",")] if args.grid else (),
            runs=args.runs,
            batch_size=args.batch_size,
            threads=args.threads,
            progress=lambda steps, total: bar.step(count=steps, total=total),
        ),
        markdown,
        draw=draw,
        slows="bends the law",
    )


def _stages_arguments(parser: Parser) -> None:
    common.add_engine_argument(parser)
    common.add_video_argument(parser, "a video")
    common.add_stride_argument(parser, "1")
    common.add_runs_argument(parser, 3, "runs with each stride")
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def _stages(args: argparse.Namespace) -> int:
    from dtfsal.benchmarks.timing.stages import draw, markdown, stages

    strides = tuple(dict.fromkeys(args.stride or (1,)))
    return common.measure_and_report(
        args,
        lambda bar: stages(
            args.engine,
            args.video,
            strides=strides,
            runs=args.runs,
            threads=args.threads,
            trust=args.trust_engine,
            progress=bar.step,
        ),
        markdown,
        draw=draw,
        steps=args.runs * len(strides),
        slows=SLOWS_ALL,
    )


def _live_arguments(parser: Parser) -> None:
    common.add_engine_argument(parser)
    common.add_video_argument(parser, "a clip of several windows' length")
    parser.add_argument(
        "--without-reuse",
        type=Path,
        metavar="DIR",
        help="also measure an engine of the same weights with a single graph",
    )
    parser.add_argument("--native", action="store_true", help="also measure the C library with the engine")
    common.add_runs_argument(parser, 3, "runs over the clip with each engine")
    common.add_device_argument(parser)
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def _live(args: argparse.Namespace) -> int:
    from dtfsal.benchmarks.timing.live import live, markdown

    return common.measure_and_report(
        args,
        lambda bar: live(
            args.engine,
            args.video,
            without_reuse=args.without_reuse,
            native=args.native,
            runs=args.runs,
            device=args.device,
            threads=args.threads,
            trust=args.trust_engine,
            progress=bar.step,
        ),
        markdown,
        steps=args.runs * (1 + (args.without_reuse is not None) + args.native),
        slows=SLOWS_ALL,
    )


def _stream_arguments(parser: Parser) -> None:
    parser.add_argument("--frames", type=int, default=100, metavar="N", help="frames in each run (default: 100)")
    common.add_runs_argument(parser, 3, "runs of each form")
    common.add_native_arguments(parser)
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def _stream(args: argparse.Namespace) -> int:
    from dtfsal.benchmarks.timing.stream import markdown, stream
    from dtfsal.runtime.capi.library import NativeLibrary

    return common.measure_and_report(
        args,
        lambda bar: stream(
            args.engine,
            args.video,
            frames=args.frames,
            runs=args.runs,
            threads=args.threads,
            library=NativeLibrary(args.library),
            trust=args.trust_engine,
            progress=bar.step,
        ),
        markdown,
        steps=4 * args.runs,
        slows=SLOWS_ALL,
    )


def _stream_memory_arguments(parser: Parser) -> None:
    parser.add_argument("--frames", type=int, default=100_000, metavar="N", help="frames to push (default: 100000)")
    common.add_native_arguments(parser)
    common.add_result_arguments(parser)


def _stream_memory(args: argparse.Namespace) -> int:
    from dtfsal.benchmarks.timing.stream_memory import FORMS, draw, markdown, memory

    library = None if args.library is None else str(args.library)
    return common.measure_and_report(
        args,
        lambda bar: memory(
            args.engine,
            args.video,
            frames=args.frames,
            library=library,
            trust=args.trust_engine,
            progress=bar.step,
        ),
        markdown,
        draw=draw,
        steps=len(FORMS),
        unit="form",
    )


def _stability_arguments(parser: Parser) -> None:
    common.add_engine_argument(parser)
    parser.add_argument(
        "--video", type=Path, action="append", required=True, metavar="FILE", help="a video; repeatable"
    )
    common.add_device_argument(parser)
    common.add_result_arguments(parser)


def _stability(args: argparse.Namespace) -> int:
    from dtfsal.benchmarks.accuracy.stability import markdown, measure

    return common.measure_and_report(
        args,
        lambda bar: measure(args.engine, args.video, device=args.device, trust=args.trust_engine, progress=bar.step),
        markdown,
        steps=len(args.video),
        unit="video",
    )


def _voices_arguments(parser: Parser) -> None:
    common.add_engine_argument(parser)
    parser.add_argument("--video", type=Path, required=True, metavar="FILE", help="a talking face, in the middle")
    parser.add_argument("--voices", type=int, default=5, metavar="N", help="synthetic voices that speak (default: 5)")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the voices (default: 0)")
    common.add_device_argument(parser)
    common.add_result_arguments(parser)


def _voices(args: argparse.Namespace) -> int:
    from dtfsal.benchmarks.accuracy.voices import SIDES, markdown, measure

    return common.measure_and_report(
        args,
        lambda bar: measure(
            args.engine,
            args.video,
            voices=args.voices,
            seed=args.seed,
            device=args.device,
            trust=args.trust_engine,
            progress=bar.step,
        ),
        markdown,
        steps=1 + len(SIDES) * args.voices,
    )


def _pareto_arguments(parser: Parser) -> None:
    parser.add_argument(
        "-e", "--engine", type=Path, action="append", required=True, metavar="DIR", help="an engine; repeatable"
    )
    add_trust_option(parser)
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        help="the fp32 engine whose maps are the reference (default: the first)",
    )
    common.add_video_argument(parser, "a clip")
    common.add_stride_argument(parser, "1 2 4")
    common.add_runs_argument(parser, 3, "runs of each choice")
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def _pareto(args: argparse.Namespace) -> int:
    from dtfsal.benchmarks.accuracy.pareto import draw, markdown, pareto

    strides = tuple(dict.fromkeys(args.stride or (1, 2, 4)))
    return common.measure_and_report(
        args,
        lambda bar: pareto(
            args.engine,
            args.video,
            reference=args.reference or args.engine[0],
            strides=strides,
            runs=args.runs,
            threads=args.threads,
            trust=args.trust_engine,
            progress=bar.step,
        ),
        markdown,
        draw=draw,
        steps=1 + args.runs * len(strides) * len(args.engine),
        slows=SLOWS_ALL,
    )


FLOPS = Kind("parameters and operations, part by part, and in both forms beside the paper's", _flops_arguments, _flops)
LATENCY = Kind(
    "latency of every form that runs here, interleaved: steady state with intervals, cold start, memory, energy",
    _latency_arguments,
    _latency,
)
LAYERS = Kind(
    "where an ONNX Runtime engine's time goes, layer by layer: share, GFLOP/s, share of the machine's peak",
    _layers_arguments,
    _layers,
)
SCALING = Kind(
    "how a form's latency grows with clip length, frame size, batch or threads, and the law that fits it",
    _scaling_arguments,
    _scaling,
)
STAGES = Kind(
    "from a video file to a video of overlays, stage by stage, beside the engine's own rate", _stages_arguments, _stages
)
LIVE = Kind("speed from a video file to its maps, stage by stage, in the steady state", _live_arguments, _live)
STREAM = Kind("what live prediction costs beside the engine, in Python and in C", _stream_arguments, _stream)
STREAM_MEMORY = Kind("whether a stream's memory grows, in Python and in C", _stream_memory_arguments, _stream_memory)
STABILITY = Kind("whether maps follow a video smoothly or flicker", _stability_arguments, _stability)
VOICES = Kind("whether the map follows the voice between two real faces", _voices_arguments, _voices)
PARETO = Kind(
    "accuracy against speed: engines and strides beside the full-rate maps of an fp32 engine",
    _pareto_arguments,
    _pareto,
)
