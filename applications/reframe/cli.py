"""`dtfsal reframe`: a video in another shape, cropped where people look."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtfsal.engines.errors import printable
from dtfsal.runtime.cli import common
from dtfsal.runtime.cli.progress import Progress

if TYPE_CHECKING:
    from dtfsal.applications.reframe.planner import CropPath, ReframeSettings
    from dtfsal.runtime.predict.prediction import Prediction

HELP = "crop a video to another shape, where people look"

_EPILOG = """\
The crop follows predicted attention, not measured gaze: look at the result before you publish it.

outputs:
  -o out.mp4 .mkv .mov     the cropped video, with its sound
  --path path.json         a window for each frame, in pixels
  --filter-script crop.txt a filter graph: ffmpeg -i clip.mp4 -/filter:v crop.txt -c:a copy out.mp4

examples:
  dtfsal reframe clip.mp4 --aspect 9:16                        writes clip.9x16.mp4
  dtfsal reframe clip.mp4 --aspect 1:1 --zoom 2 -o square.mp4
  dtfsal reframe clip.mp4 --aspect 9:16 --keep logo.json --letterbox never -o out.mp4
  dtfsal reframe clip.mp4 --aspect 4:5 --path path.json --filter-script crop.txt
"""
_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mkv", ".mov")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("video", metavar="VIDEO", help="the video file; any that FFmpeg decodes")
    parser.add_argument("--aspect", required=True, metavar="W:H", help="shape of the result, e.g. 9:16, 4:5 or 1:1")
    parser.add_argument(
        "-o", "--output", metavar="PATH", help="the video to write (default: beside VIDEO, if no other output is named)"
    )
    parser.add_argument("--path", metavar="JSON", help="also write the crop's path as JSON")
    parser.add_argument("--filter-script", metavar="PATH", help="also write the path as a filter graph for FFmpeg")
    parser.add_argument(
        "--zoom",
        type=common.non_negative_float,
        default=1.0,
        metavar="N",
        help="let the window close in on what matters, up to this factor (default: 1, a window of fixed size)",
    )
    parser.add_argument(
        "--keep", metavar="JSON", help="boxes that must stay in view: [{box: [left, top, right, bottom], start, end}]"
    )
    parser.add_argument(
        "--letterbox",
        choices=("auto", "never"),
        default="auto",
        help="auto shows a shot whole, between bars, where two places matter (default: %(default)s)",
    )
    parser.add_argument(
        "--max-speed",
        type=common.non_negative_float,
        metavar="N",
        help="of the window, in window widths per second (default: 0.8)",
    )
    parser.add_argument(
        "--max-acceleration",
        type=common.non_negative_float,
        metavar="N",
        help="of the window, in window widths per second squared (default: 1.6)",
    )
    parser.add_argument(
        "--dead-zone",
        type=common.non_negative_float,
        metavar="SHARE",
        help="share of the window in which attention may move and the window stays (default: 0.5)",
    )
    common.add_stride_option(parser)
    common.add_engine_options(parser)
    common.add_stream_options(parser)
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no summary")
    common.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Plan and write."""
    from dtfsal.applications.reframe.outputs import write_filter_script, write_path, write_video
    from dtfsal.applications.reframe.reframe import plan_file
    from dtfsal.runtime.media.video import VideoReader
    from dtfsal.runtime.predict.predictor import SaliencyPredictor

    started = time.perf_counter()
    settings = _settings(args)
    outputs = _outputs(args)
    notes: list[str] = []
    held: list[Prediction] = []
    streams = {"video_stream": args.video_stream, "audio_stream": args.audio_stream}
    with contextlib.ExitStack() as stack:
        # Opened now, so that a pipe's temporary file is still there for the second pass.
        reader = stack.enter_context(VideoReader(args.video, **streams))
        progress = stack.enter_context(Progress(reader.info.frame_count, "frames", wanted=not args.quiet))
        predictor = stack.enter_context(
            SaliencyPredictor(
                args.engine, stride=args.stride, device=args.device, threads=args.threads, trust=args.trust_engine
            )
        )
        path = plan_file(predictor, args.video, settings, **streams, on_begin=held.append, on_frame=progress.step)
        planned = time.perf_counter() - started
        if "video" in outputs:
            progress.restart(len(path.times), "frames written")
            notes += write_video(reader, path, outputs["video"], progress.step)
        if "path" in outputs:
            write_path(path, outputs["path"])
        if "filter script" in outputs:
            write_filter_script(path, outputs["filter script"])
    notes += held[0].notes
    summary = _summary(args, path, held[0], outputs, notes)
    summary["seconds"] = {"plan": round(planned, 3), "total": round(time.perf_counter() - started, 3)}
    if args.json:
        common.print_json(summary)
    elif not args.quiet:
        _print_summary(summary)
    return 0


def _settings(args: argparse.Namespace) -> ReframeSettings:
    from dtfsal.applications.reframe.geometry import parse_aspect
    from dtfsal.applications.reframe.keep import read_keep_boxes
    from dtfsal.applications.reframe.path import Motion
    from dtfsal.applications.reframe.planner import ReframeSettings

    asked = {"speed": args.max_speed, "acceleration": args.max_acceleration, "dead_zone": args.dead_zone}
    return ReframeSettings(
        aspect=parse_aspect(args.aspect),
        zoom=args.zoom,
        letterbox=args.letterbox,
        motion=Motion(**{name: value for name, value in asked.items() if value is not None}),
        keep=() if args.keep is None else read_keep_boxes(args.keep),
    )


def _outputs(args: argparse.Namespace) -> dict[str, Path]:
    """What to write, by kind; checked."""
    from dtfsal.engines.errors import UsageError
    from dtfsal.runtime.sinks.outputs import Output, check_outputs

    named = {"video": args.output, "path": args.path, "filter script": args.filter_script}
    outputs = {kind: Path(text) for kind, text in named.items() if text is not None}
    if not outputs:
        source = Path(args.video)
        if source.exists() and not source.is_file():
            raise UsageError(f"{args.video!r} is not a file to write beside: name an output, e.g. -o out.mp4")
        outputs["video"] = source.with_name(f"{source.stem}.{args.aspect.replace(':', 'x')}.mp4")
    if "video" in outputs and outputs["video"].suffix.lower() not in _VIDEO_SUFFIXES:
        raise UsageError(f"{outputs['video']} should end in one of {', '.join(_VIDEO_SUFFIXES)}")
    kinds = [Output(path, "video" if kind == "video" else "json") for kind, path in outputs.items()]
    check_outputs(kinds, args.video, overwrite=args.force)
    return outputs


def _summary(
    args: argparse.Namespace, path: CropPath, prediction: Prediction, outputs: dict[str, Path], notes: list[str]
) -> dict[str, Any]:
    framing = path.framing
    return {
        "video": args.video,
        "frames": len(path.times),
        "source": [framing.source_width, framing.source_height],
        "output_size": [framing.width, framing.height],
        "shots": len(path.shots),
        "letterboxed_shots": sum(shot.letterboxed for shot in path.shots),
        "kept_share": round(float(path.kept.mean()), 4),
        "sound": prediction.sound,
        "notes": notes,
        "outputs": [{"path": str(output), "kind": kind} for kind, output in outputs.items()],
        "peak_memory_bytes": common.peak_memory_bytes(),
    }


def _print_summary(summary: dict[str, Any]) -> None:
    (width, height), (wide, high) = summary["output_size"], summary["source"]
    shots = f"{summary['shots']}"
    if summary["letterboxed_shots"]:
        shots += f", {summary['letterboxed_shots']} of them whole between bars"
    common.print_table(
        [
            ("frames", summary["frames"]),
            ("crop", f"{width}x{height} of {wide}x{high}"),
            ("shots", shots),
            ("kept", f"{summary['kept_share']:.0%} of the predicted attention"),
            ("time", common.format_seconds(summary["seconds"]["total"])),
            *(("wrote", output["path"]) for output in summary["outputs"]),
        ]
    )
    for note in summary["notes"]:
        print(f"note: {printable(note)}", file=sys.stderr)
