"""`dtfsal compare`: two edits side by side, and what changes for each area of interest."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dtfsal.applications.report.cli import options
from dtfsal.runtime.cli import common

HELP = "make a page that compares where people would look in two edits"

_EPILOG = """\
the folder holds:
  index.html                    a page with both clips, areas side by side and their difference over time
  a-frames.csv b-frames.csv     as frames.csv of `dtfsal report`, of each clip
  a-areas.csv b-areas.csv       as areas.csv
  differences.csv               a row for each frame of A: B's series less A's
  report.json                   the same for programs

A prediction is not a measurement: nobody's eyes are tracked.

examples:
  dtfsal compare before.mp4 after.mp4 -o compare/ --areas areas.json
  dtfsal compare 25fps.mp4 30fps.mp4 -o compare/ --align frames
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("video_a", metavar="A", help="the first video")
    parser.add_argument("video_b", metavar="B", help="the second video")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the folder to write")
    parser.add_argument(
        "--align",
        choices=("time", "frames"),
        default="time",
        help="what of B stands beside a frame of A: the frame at its time, or the one of its number "
        "(default: %(default)s)",
    )
    options.add_areas_option(parser)
    parser.add_argument("--areas-b", metavar="FILE", help="areas of B, where they lie elsewhere there")
    options.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Predict and write."""
    from dtfsal.applications.report.making import check_report_folder, make_comparison
    from dtfsal.runtime.media.video import probe

    check_report_folder(args.output, overwrite=args.force)
    videos = args.video_a, args.video_b
    frames = [probe(video, video_stream=args.video_stream).expected_frames for video in videos]
    known = [count for count in frames if count is not None]
    with (
        options.predictor(args) as predictor,
        options.progress(args, sum(known) if len(known) == 2 else None) as on_frame,
    ):
        document = make_comparison(
            predictor,
            videos,
            args.output,
            align=args.align,
            areas=(args.areas, args.areas_b or args.areas),
            options=options.wanted(args),
            on_frame=on_frame,
        )
    if args.json:
        common.print_json(document)
    elif not args.quiet:
        common.print_table(_rows(document, args))
        for letter in ("a", "b"):
            for note in document[letter]["notes"]:
                print(f"note: {letter.upper()}: {options.printable(note)}", file=sys.stderr)
    return 0


def _rows(document: dict[str, Any], args: argparse.Namespace) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [("frames", f"{document['a']['frames']} and {document['b']['frames']}")]
    for area in document["differences"]:
        shares = f"{100 * area['share_a']:.1f} % and {100 * area['share_b']:.1f} %"
        rows.append((area["name"], f"{shares} of attention, {100 * area['difference']:+.1f}"))
    rows.append(("wrote", options.page_of(args.output)))
    return rows
