"""The kinds of `dtfsal benchmark` that measure what is built on the predictor: their arguments and runs."""

import argparse
from pathlib import Path

from dtfsal.benchmarks.cli import common
from dtfsal.benchmarks.cli.kinds import Kind, Parser
from dtfsal.runtime.cli.common import add_trust_option, non_negative_float, positive_int


def _shared_arguments(parser: Parser) -> None:
    parser.add_argument(
        "-e", "--engine", default="lite", metavar="ENGINE", help="an engine's name or folder (default: %(default)s)"
    )
    add_trust_option(parser)
    parser.add_argument("--video", type=Path, action="append", required=True, metavar="FILE", help="a clip; repeatable")
    common.add_device_argument(parser)
    common.add_result_arguments(parser)


def _reframe_arguments(parser: Parser) -> None:
    _shared_arguments(parser)
    parser.add_argument("--aspect", default="9:16", metavar="W:H", help="of the crop (default: %(default)s)")
    parser.add_argument(
        "--every", type=positive_int, default=1, metavar="N", help="predict every N-th frame (default: %(default)s)"
    )


def _reframe(args: argparse.Namespace) -> int:
    from dtfsal.benchmarks.accuracy.cropping import markdown, measure

    return common.measure_and_report(
        args,
        lambda bar: measure(
            args.engine,
            args.video,
            aspect=args.aspect,
            stride=args.every,
            device=args.device,
            trust=args.trust_engine,
            progress=bar.step,
        ),
        markdown,
        steps=len(args.video),
        unit="clip",
    )


def _roi_arguments(parser: Parser) -> None:
    _shared_arguments(parser)
    parser.add_argument("--codec", default="libx264", metavar="NAME", help="libx264 or libx265 (default: %(default)s)")
    parser.add_argument("--preset", default="medium", metavar="NAME", help="of the encoder (default: %(default)s)")
    parser.add_argument(
        "--strength", type=non_negative_float, default=6.0, metavar="QP", help="the largest offset (default: 6)"
    )
    parser.add_argument(
        "--width", type=positive_int, default=480, metavar="N", help="clips are shrunk to it (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=non_negative_float, default=3.0, metavar="S", help="of each clip (default: %(default)s)"
    )


def _roi(args: argparse.Namespace) -> int:
    from dtfsal.benchmarks.accuracy.roi import BITS_PER_PIXEL, VARIANTS, draw, markdown, measure

    return common.measure_and_report(
        args,
        lambda bar: measure(
            args.engine,
            args.video,
            codec=args.codec,
            preset=args.preset,
            strength=args.strength,
            width=args.width,
            seconds=args.seconds,
            device=args.device,
            trust=args.trust_engine,
            progress=bar.step,
        ),
        markdown,
        draw=draw,
        steps=len(args.video) * len(VARIANTS) * len(BITS_PER_PIXEL),
        unit="encoding",
    )


REFRAME = Kind("what a crop keeps of the attention, and how smoothly it moves", _reframe_arguments, _reframe)
ROI = Kind("what regions of interest gain and cost at equal bitrates", _roi_arguments, _roi)
