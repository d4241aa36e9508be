"""`dtfsal report`: a page of where people would look in a clip, with areas of interest in numbers."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dtfsal.applications.report.cli import options
from dtfsal.runtime.cli import common

HELP = "make a page and tables of where people would look, with areas of interest"

_EPILOG = """\
the folder holds:
  index.html     a page that opens from disk and fetches nothing: the clip, the map over it, a timeline
  frames.csv     a row for each frame: entropy, peak, and each area's share; --parquet writes frames.parquet too
  areas.csv      a row for each area: share, rank, time to the first share above --level, largest share
  report.json    the same for programs, with cuts and settings
  video.mp4      the page's clip, where it is too large to stand in the page

A prediction is not a measurement: nobody's eyes are tracked.

examples:
  dtfsal report clip.mp4 -o report/
  dtfsal report clip.mp4 -o report/ --areas areas.json --level 0.2 --uncertainty
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("video", metavar="VIDEO", help="the video file; any that FFmpeg decodes")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the folder to write")
    options.add_areas_option(parser)
    options.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Predict and write."""
    from dtfsal.applications.report.making import check_report_folder, make_report
    from dtfsal.runtime.media.video import probe

    check_report_folder(args.output, overwrite=args.force)
    frames = probe(args.video, video_stream=args.video_stream).expected_frames
    with options.predictor(args) as predictor, options.progress(args, frames) as on_frame:
        document = make_report(
            predictor, args.video, args.output, areas=args.areas, options=options.wanted(args), on_frame=on_frame
        )
    if args.json:
        common.print_json(document)
    elif not args.quiet:
        common.print_table(_rows(document, args))
        for note in document["notes"]:
            print(f"note: {options.printable(note)}", file=sys.stderr)
    return 0


def _rows(document: dict[str, Any], args: argparse.Namespace) -> list[tuple[str, object]]:
    cuts = document["cuts_seconds"]
    rows: list[tuple[str, object]] = [
        ("frames", document["frames"]),
        ("cuts", "not looked for" if cuts is None else len(cuts)),
    ]
    for area in sorted(document["areas"], key=lambda area: area["rank"]):
        first = area["first_above_seconds"]
        told = f"never above {args.level:g}" if first is None else f"first above {args.level:g} at {first:.2f} s"
        rows.append((f"area {area['rank']}", f"{area['name']}: {100 * area['share']:.1f} % of attention, {told}"))
    rows.append(("wrote", options.page_of(args.output)))
    return rows
