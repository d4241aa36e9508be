"""`dtfsal predict`: a video in, pictures, maps and tables of where people would look out."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtfsal.engines.errors import printable
from dtfsal.runtime.cli import common, predict_many
from dtfsal.runtime.cli.progress import Progress

if TYPE_CHECKING:
    from dtfsal.engines import Manifest
    from dtfsal.runtime.predict.prediction import Prediction
    from dtfsal.runtime.sinks.outputs import Output

HELP = "predict where people look in a video"

_EPILOG = """\
outputs, by suffix (or --format):
  out.mp4 .mkv .mov   the video with the map laid over it, and its sound; --view saliency for the grey map alone
  out/                a folder of PNG frames: grey maps; --view overlay for overlays
  out.npz .h5         raw maps, float32, at the model's resolution; --map-size source for the video's
  out.csv .json       per frame its time, the map's peak and its centre of mass, in pixels of the video
                      (pixel centres: 0, 0 is the centre of the top left pixel)
  -                   the same table on standard output, as CSV, or as JSON with --format json

several videos: with --output-dir, VIDEO may be repeated, or be a folder, a list (.txt, a path in each line) or -, a
list on standard input; --format names the outputs of each

examples:
  dtfsal predict clip.mp4                                      writes clip.saliency.mp4
  dtfsal predict clip.mp4 -o out.mp4 -o maps.npz -o gaze.csv --contact-sheet sheet.png
  dtfsal predict clip.mp4 -o maps/ --stride 4
  dtfsal predict clip.mp4 -o - --format json
  dtfsal predict clip.mp4 -o grey.mp4 --view saliency --smoothing 3 --json
  dtfsal predict videos/ --output-dir results/ --format npz --format csv --resume
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="the video file; any that FFmpeg decodes")
    common.add_engine_options(parser)
    parser.add_argument(
        "-o",
        "--output",
        action="append",
        default=[],
        metavar="PATH",
        help="where to write; the suffix sets the format. Repeat it for several outputs in one pass (default: overlays "
        "in VIDEO.saliency.mp4 beside VIDEO)",
    )
    parser.add_argument(
        "--format",
        action="append",
        choices=("video", "png", "npz", "hdf5", "csv", "json"),
        help="the format, where the suffix does not set it; for a single output. With --output-dir, what to write for "
        "each video; may be repeated (default: video)",
    )
    predict_many.add_options(parser)
    parser.add_argument(
        "--contact-sheet", metavar="PNG", help="also draw a few frames with their overlays and maps into one picture"
    )
    parser.add_argument(
        "--contact-sheet-columns",
        type=common.positive_int,
        default=6,
        metavar="N",
        help="frames on it (default: %(default)s)",
    )
    parser.add_argument(
        "--view",
        choices=("overlay", "saliency"),
        help="what pictures show (default: overlay for a video, saliency for PNG frames)",
    )
    common.add_stride_option(parser)
    parser.add_argument(
        "--padding",
        choices=("reverse", "repeat"),
        default="reverse",
        help="what replaces frames before the start and after the end: the video mirrored, or its first or last "
        "frame (default: %(default)s)",
    )
    parser.add_argument(
        "--smoothing",
        type=common.non_negative_float,
        default=0.0,
        metavar="SIGMA",
        help="blur each map by a gaussian of this many pixels of the model's map (default: 0, none)",
    )
    parser.add_argument(
        "--normalisation",
        choices=("none", "max", "sum", "range"),
        help="scale of each map: the model's own values, largest value 1, sum 1, or 0 to 1 (default: none for raw maps "
        "and tables, max for pictures)",
    )
    parser.add_argument(
        "--map-size",
        choices=("model", "source"),
        default="model",
        help="resolution of raw maps (default: %(default)s)",
    )
    common.add_stream_options(parser)
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no summary")
    common.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Predict and write."""
    return predict_many.run(args) if predict_many.wanted(args) else _run_one(args)


def _run_one(args: argparse.Namespace) -> int:
    from dtfsal.engines.errors import UsageError
    from dtfsal.runtime.predict.predictor import SaliencyPredictor
    from dtfsal.runtime.sinks.base import SinkContext
    from dtfsal.runtime.sinks.outputs import check_outputs, write_outputs
    from dtfsal.runtime.sinks.tables import STANDARD_OUTPUT

    started = time.perf_counter()
    (args.video,) = args.videos
    outputs = _outputs(args)
    if any(output.path == STANDARD_OUTPUT for output in outputs):
        if args.json:
            raise UsageError("-o - and --json both want standard output; name a file for the table")
        args.quiet = True
    check_outputs(outputs, args.video, overwrite=args.force)
    with SaliencyPredictor(
        args.engine,
        padding=args.padding,
        stride=args.stride,
        smoothing_sigma=args.smoothing,
        normalisation=args.normalisation or "none",
        device=args.device,
        threads=args.threads,
        trust=args.trust_engine,
    ) as predictor:
        opened = time.perf_counter() - started
        prediction = predictor.predict_file(args.video, video_stream=args.video_stream, audio_stream=args.audio_stream)
        info = prediction.info
        assert info is not None
        context = SinkContext(
            source=info,
            model_name=predictor.engine.manifest.model_name,
            model_size=(predictor.clip.height, predictor.clip.width),
            clock=prediction.clock,
            view=args.view,
            # A map that sums to 1 is too dark to see.
            picture_normalisation={None: "max", "sum": "max"}.get(args.normalisation, args.normalisation),
            map_normalisation=args.normalisation or "none",
            map_size=args.map_size,
        )
        with Progress(info.expected_frames, "frames", wanted=not args.quiet) as progress:
            write_outputs(prediction, outputs, context, on_frame=lambda _frame: progress.step())
        total = time.perf_counter() - started
        summary = _summary(args, prediction, predictor.engine.manifest, outputs, opened, total)
        summary["notes"] += context.notes
        summary["engine"]["repository"] = predictor.engine.bundle.repository
        summary["engine"]["backend"] = predictor.engine.describe()["backend"]
    if args.json:
        common.print_json(summary)
    elif not args.quiet:
        _print_summary(summary)
    return 0


def _beside(video: str) -> str:
    """Where overlays go if nothing is said: clip.mp4 -> clip.saliency.mp4.

    Raises:
        UsageError: the video is a pipe or a device, beside which nobody would look.
    """
    from dtfsal.engines.errors import UsageError

    path = Path(video)
    if path.exists() and not path.is_file():
        raise UsageError(f"{video!r} is not a file to write beside: name an output, e.g. -o out.mp4")
    return str(path.with_name(f"{path.stem}.saliency.mp4"))


def _outputs(args: argparse.Namespace) -> list[Output]:
    from dtfsal.engines.errors import UsageError
    from dtfsal.runtime.sinks.outputs import Output
    from dtfsal.runtime.sinks.tables import STANDARD_OUTPUT

    names = args.output
    if not names and args.contact_sheet is None:
        names = [_beside(args.video)]
    if args.format and (len(args.output) != 1 or len(args.format) != 1):
        raise UsageError("--format is for a single output; with several, let each suffix set the format")
    kind = args.format[0] if args.format else None
    outputs = []
    for text in names:
        if not text or not Path(text).name:
            raise UsageError(f"{text!r} cannot be an output; name a file or a new folder")
        if text == "-":
            outputs.append(Output(STANDARD_OUTPUT, kind or "csv"))
            continue
        folder = text.endswith(("/", os.sep))
        path = Path.cwd() / "-" if Path(text) == STANDARD_OUTPUT else Path(text)
        outputs.append(Output(path, kind or ("png" if folder else None)))
    if args.contact_sheet is not None:
        if Path(args.contact_sheet).suffix.lower() != ".png":
            raise UsageError(f"the contact sheet is a PNG file; {args.contact_sheet} should end in .png")
        outputs.append(Output(Path(args.contact_sheet), "contact-sheet", args.contact_sheet_columns))
    return outputs


_SOUND = {
    "used": "used",
    "silence": "silence, because the video has no audio track",
    "unused": "not used, because the engine is visual only",
}


def _summary(
    args: argparse.Namespace,
    prediction: Prediction,
    manifest: Manifest,
    outputs: list[Output],
    opened_seconds: float,
    total_seconds: float,
) -> dict[str, Any]:
    assert prediction.info is not None, "a file was predicted"
    return {
        "video": args.video,
        "frames": prediction.frames,
        # More than were read if the file is cut short; also if the container hides some of them from view.
        "stated_frames": prediction.info.frame_count,
        "predicted_frames": prediction.predicted_frames,
        "interpolated_frames": prediction.frames - prediction.predicted_frames,
        "concealed_frames": prediction.concealed_frames,
        "skipped_frames": prediction.skipped_frames,
        "hidden_frames": prediction.hidden_frames,
        "clock_jumps": prediction.clock_jumps,
        "concealed_sound_seconds": round(prediction.concealed_sound_seconds, 3),
        "sound": prediction.sound,
        "sound_note": _SOUND[prediction.sound],
        "notes": list(prediction.notes),
        "engine": {
            "path": args.engine,
            "model": manifest.model_name,
            "precision": manifest.precision,
            "weights": manifest.weights["source"],
        },
        "outputs": [{"path": str(output.path), "kind": output.kind} for output in outputs],
        "seconds": {
            **{name: round(seconds, 4) for name, seconds in sorted(prediction.clock.seconds.items())},
            "open_engine": round(opened_seconds, 4),
            "total": round(total_seconds, 4),
        },
        "frames_per_second": round(prediction.frames / max(total_seconds - opened_seconds, 1e-9), 3),
        "peak_memory_bytes": common.peak_memory_bytes(),
    }


def _print_summary(summary: dict[str, Any]) -> None:
    seconds = dict(summary["seconds"])
    total = seconds.pop("total")
    stages = ", ".join(f"{name.replace('_', ' ')} {common.format_seconds(value)}" for name, value in seconds.items())
    frames = str(summary["frames"])
    if summary["hidden_frames"]:
        frames += f"; the file stores {summary['hidden_frames']} more and says not to show them (an edit list)"
    elif (summary["stated_frames"] or 0) > summary["frames"] + summary["skipped_frames"]:
        frames += f" of the {summary['stated_frames']} that the file states"
    if summary["interpolated_frames"]:
        frames += f", {summary['interpolated_frames']} of them interpolated"
    rows: list[tuple[str, object]] = [("frames", frames)]
    if summary["concealed_frames"] or summary["skipped_frames"]:
        rows.append(("damaged", f"{summary['concealed_frames']} concealed, {summary['skipped_frames']} skipped"))
    sound = summary["sound_note"]
    if summary["concealed_sound_seconds"]:
        sound += f"; {common.format_seconds(summary['concealed_sound_seconds'])} of it damaged, heard as silence"
    rows += [
        ("sound", sound),
        ("time", f"{common.format_seconds(total)} ({stages})"),
        ("speed", f"{summary['frames_per_second']:.2f} frames/s"),
    ]
    if summary["peak_memory_bytes"] is not None:
        rows.append(("peak memory", common.format_bytes(summary["peak_memory_bytes"])))
    rows += [("wrote", output["path"]) for output in summary["outputs"]]
    common.print_table(rows)
    for note in summary["notes"]:
        print(f"note: {printable(note)}", file=sys.stderr)
    weights = summary["engine"]["weights"]
    if weights.lower().startswith("random"):
        print(
            f"note: this engine's weights are not trained ({printable(weights)}); its maps mean nothing",
            file=sys.stderr,
        )
