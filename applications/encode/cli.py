"""`dtfsal encode`: a video at a bitrate, with its bits where people look."""

from __future__ import annotations

import argparse
import array
import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtfsal.engines.errors import printable
from dtfsal.runtime.cli import common
from dtfsal.runtime.cli.progress import Progress

if TYPE_CHECKING:
    from dtfsal.applications.encode.encoder import Encoded, EncodeSettings
    from dtfsal.applications.encode.regions import RegionTrack
    from dtfsal.runtime.media.video import VideoInfo

HELP = "encode a video with its bits where people look"

_EPILOG = """\
Regions follow predicted attention, not measured gaze. What lies outside them becomes coarser: look at the result.

examples:
  dtfsal encode clip.mp4 --codec libx264 --bitrate 800k -o out.mp4
  dtfsal encode clip.mp4 --codec libx265 --bitrate 400k --strength 4 -o out.mkv
  dtfsal encode clip.mp4 --roi-map clip.roi --roi-format svtav1      for SvtAv1EncApp --roi-map-file clip.roi
  dtfsal encode clip.mp4 --roi-map clip.txt --roi-format kvazaar     for kvazaar --roi clip.txt
"""
_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mkv", ".mov")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("video", metavar="VIDEO", help="the video file; any that FFmpeg decodes")
    parser.add_argument("-o", "--output", metavar="PATH", help="the video to write: .mp4, .mkv or .mov")
    parser.add_argument("--codec", default="libx264", metavar="NAME", help="libx264 or libx265 (default: %(default)s)")
    parser.add_argument("--bitrate", metavar="RATE", help="of the picture: 800k, 2.5M; for -o")
    parser.add_argument("--preset", default="medium", metavar="NAME", help="of the encoder (default: %(default)s)")
    parser.add_argument("--roi-map", metavar="FILE", help="write the regions for an encoder of its own")
    parser.add_argument("--roi-format", choices=("svtav1", "kvazaar"), help="whose file that is")
    parser.add_argument(
        "--strength",
        type=common.non_negative_float,
        default=6.0,
        metavar="QP",
        help="how much finer and coarser regions may become, in QP (default: 6, half and double the step)",
    )
    parser.add_argument(
        "--regions",
        choices=("attention", "centre", "none"),
        default="attention",
        help="where regions come from: predicted attention, the frame's centre, or nowhere, to compare "
        "(default: %(default)s)",
    )
    common.add_stride_option(parser)
    common.add_engine_options(parser)
    common.add_stream_options(parser)
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no summary")
    common.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Predict, and encode or write the regions."""
    from dtfsal.applications.encode.encoder import encode_file
    from dtfsal.applications.encode.roi_maps import write_roi_map
    from dtfsal.runtime.media.video import VideoReader

    started = time.perf_counter()
    settings = _settings(args)
    streams = {"video_stream": args.video_stream, "audio_stream": args.audio_stream}
    times = array.array("d")
    encoded: Encoded | None = None
    with contextlib.ExitStack() as stack:
        # Held open, so that a pipe's temporary file is still there for the passes.
        info = stack.enter_context(VideoReader(args.video, **streams)).info
        progress = stack.enter_context(Progress(info.frame_count, "frames", wanted=not args.quiet))
        track, notes = _track(args, info, times, progress)
        predicted = time.perf_counter() - started
        if settings is not None:
            progress.restart(2 * info.frame_count if info.frame_count else None, "frames encoded, in two passes")
            given = track if args.regions != "none" else None
            encoded = encode_file(args.video, Path(args.output), given, settings, **streams, on_frame=progress.step)
        if args.roi_map is not None:
            write_roi_map(args.roi_map, track, times, args.roi_format)
    summary: dict[str, Any] = {
        "video": args.video,
        "frames": len(times) or (encoded.frames if encoded else 0),
        "region_sets": len(track.times),
        "most_regions": int(track.counts.max(initial=0)),
        "outputs": [str(path) for path in (args.output, args.roi_map) if path is not None],
        "notes": notes,
        "seconds": {"predict": round(predicted, 3), "total": round(time.perf_counter() - started, 3)},
        "peak_memory_bytes": common.peak_memory_bytes(),
    }
    if encoded is not None and settings is not None:
        summary["bit_rate"] = {"asked": settings.bit_rate, "reached": round(encoded.bit_rate)}
        notes += encoded.notes
    if args.json:
        common.print_json(summary)
    elif not args.quiet:
        _print_summary(summary)
    return 0


def _settings(args: argparse.Namespace) -> EncodeSettings | None:
    """How to encode, or None where only regions are wanted; the outputs are checked."""
    from dtfsal.applications.encode.encoder import EncodeSettings, check_codec, parse_bit_rate
    from dtfsal.engines.errors import UsageError
    from dtfsal.runtime.sinks.outputs import Output, check_outputs

    if args.output is None and args.roi_map is None:
        raise UsageError("name an output: -o out.mp4 with --bitrate, or --roi-map FILE with --roi-format")
    if (args.roi_map is None) != (args.roi_format is None):
        raise UsageError("--roi-map FILE and --roi-format svtav1 or kvazaar belong together")
    if (args.output is None) != (args.bitrate is None):
        raise UsageError("-o out.mp4 and --bitrate 800k belong together")
    kinds = []
    if args.output is not None:
        check_codec(args.codec)
        if Path(args.output).suffix.lower() not in _VIDEO_SUFFIXES:
            raise UsageError(f"{args.output} should end in one of {', '.join(_VIDEO_SUFFIXES)}")
        kinds.append(Output(Path(args.output), "video"))
    if args.roi_map is not None:
        kinds.append(Output(Path(args.roi_map), "json"))
    check_outputs(kinds, args.video, overwrite=args.force)
    if args.output is None:
        return None
    return EncodeSettings(args.codec, parse_bit_rate(args.bitrate), args.preset)


def _track(
    args: argparse.Namespace, info: VideoInfo, times: array.array[float], progress: Progress
) -> tuple[RegionTrack, list[str]]:
    """The regions, and the times of the frames where those are wanted."""
    from dtfsal.applications.encode.regions import RegionPlanner, centre_density
    from dtfsal.runtime.media.video import VideoReader
    from dtfsal.runtime.predict.predictor import SaliencyPredictor

    streams = {"video_stream": args.video_stream, "audio_stream": args.audio_stream}
    planner = RegionPlanner(info.width, info.height, 0.0 if args.regions == "none" else args.strength)
    if args.regions != "attention":
        planner.add(0.0, centre_density())
        if args.roi_map is not None:
            with VideoReader(args.video, **streams) as reader:
                times.extend(seconds for _, seconds, _ in reader.decoded())
        return planner.finish(), []
    with (
        SaliencyPredictor(
            args.engine, stride=args.stride, device=args.device, threads=args.threads, trust=args.trust_engine
        ) as predictor,
        predictor.predict_file(args.video, **streams) as prediction,
    ):
        for frame in prediction:
            planner.add(frame.time_seconds, frame.saliency_map)
            times.append(frame.time_seconds)
            progress.step()
        return planner.finish(), list(prediction.notes)


def _print_summary(summary: dict[str, Any]) -> None:
    rows: list[tuple[str, object]] = [
        ("frames", summary["frames"]),
        ("regions", f"up to {summary['most_regions']} at once, {summary['region_sets']} sets"),
    ]
    if "bit_rate" in summary:
        rates = (f"{summary['bit_rate'][name] / 1000:.0f} kbit/s" for name in ("reached", "asked"))
        rows.append(("bitrate", "{} of {} asked".format(*rates)))
    rows.append(("time", common.format_seconds(summary["seconds"]["total"])))
    common.print_table([*rows, *(("wrote", path) for path in summary["outputs"])])
    for note in summary["notes"]:
        print(f"note: {printable(note)}", file=sys.stderr)
