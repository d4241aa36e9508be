"""What `dtfsal report` and `dtfsal compare` share."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dtfsal.engines.errors import printable
from dtfsal.runtime.cli import common
from dtfsal.runtime.cli.progress import Progress

if TYPE_CHECKING:
    from dtfsal.applications.report.track import Options
    from dtfsal.runtime.predict.predictor import SaliencyPredictor

__all__ = ["add_areas_option", "add_options", "page_of", "predictor", "printable", "progress", "wanted"]


def add_areas_option(parser: argparse.ArgumentParser) -> None:
    """Add `--areas`."""
    parser.add_argument(
        "--areas",
        metavar="FILE",
        help="areas of interest: JSON (docs/how-to/attention-report.md), or an export of EyeLink Data Viewer (.ias), "
        "Tobii Pro Lab (JSON) or SMI BeGaze (XML)",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what concerns the prediction and the output."""
    parser.add_argument(
        "--level",
        type=_share,
        default=0.1,
        metavar="SHARE",
        help="the share of attention that the time to an area's first share above it asks for (default: %(default)s)",
    )
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="also predict the mirrored picture and without sound, and show the band: 2 to 3 times the time",
    )
    common.add_stride_option(parser)
    parser.add_argument("--parquet", action="store_true", help="write the frames' table as Parquet too")
    common.add_engine_options(parser)
    common.add_stream_options(parser)
    parser.add_argument("--force", action="store_true", help="replace a report that exists")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no summary")
    common.add_json_option(parser)


def _share(text: str) -> float:
    value = common.non_negative_float(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"must be a share from 0 to 1, not {text!r}")
    return value


def wanted(args: argparse.Namespace) -> Options:
    """What the arguments ask a report for."""
    from dtfsal.applications.report.track import Options

    return Options(
        level=args.level,
        uncertainty=args.uncertainty,
        parquet=args.parquet,
        video_stream=args.video_stream,
        audio_stream=args.audio_stream,
    )


def predictor(args: argparse.Namespace) -> SaliencyPredictor:
    """The predictor that the arguments ask for."""
    from dtfsal.runtime.predict.predictor import SaliencyPredictor

    return SaliencyPredictor(
        args.engine, stride=args.stride, device=args.device, threads=args.threads, trust=args.trust_engine
    )


@contextlib.contextmanager
def progress(args: argparse.Namespace, frames: int | None) -> Iterator[Callable[[object], None]]:
    """A progress bar, and the function to call after each frame."""
    with Progress(frames, "frames", wanted=not args.quiet) as bar:
        yield lambda _frame: bar.step()


def page_of(folder: str) -> str:
    """The page that a person opens."""
    return str(Path(folder) / "index.html")
