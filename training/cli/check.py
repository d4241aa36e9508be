"""`dtfsal check`: what is wrong with a dataset's files, before hours are spent on them."""

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtfsal.runtime.cli.progress import Progress

if TYPE_CHECKING:
    from dtfsal.training.data.faults import Fault, SplitReport

HELP = "check a dataset's files"
EXAMPLES = """\
examples:
  dtfsal check dhf1k data/DHF1K
      every picture is decoded: every missing, unreadable or inconsistent file is named
  dtfsal check avad data/audio-visual --fold 1 --quick
      only whether the files exist
  dtfsal check diem data/audio-visual --allow empty-map --json

datasets: dhf1k, ucf-sports, diem, avad, coutrot1, coutrot2, summe, etmd, and what `dtfsal prepare` made: videos,
crowdsal, aim2024, ntire2026. docs/how-to/datasets.md says where to get them and how their folders are laid out.

exit codes: 0 no faults, 1 there are faults, 2 wrong usage, 3 the dataset is not there.
"""
DATASET_NAMES = (
    *("dhf1k", "ucf-sports", "diem", "avad", "coutrot1", "coutrot2", "summe", "etmd"),
    *("videos", "crowdsal", "aim2024", "ntire2026"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument("dataset", choices=DATASET_NAMES, metavar="NAME", help="which dataset")
    parser.add_argument("path", type=Path, metavar="PATH", help="the folder that holds it")
    parser.add_argument("--split", choices=("train", "validation", "test"), help="only this split (default: all)")
    parser.add_argument("--fold", type=int, metavar="N", help="only this fold (default: all)")
    parser.add_argument("--quick", action="store_true", help="only check whether the files exist; decode none")
    parser.add_argument("--workers", type=int, metavar="N", help="threads that decode (default: one for each core)")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="KIND",
        help="a kind of fault that is known and does not count, such as empty-map; may be given again",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Check; errors are for the caller to print."""
    from dtfsal.engines.errors import UsageError
    from dtfsal.training.data.check import check_dataset
    from dtfsal.training.data.datasets import dataset_named
    from dtfsal.training.data.faults import KINDS

    for kind in args.allow:
        if kind not in KINDS:
            raise UsageError(f"there is no kind of fault {kind!r}; the kinds are {', '.join(KINDS)}")
    if args.workers is not None and args.workers < 1:
        raise UsageError(f"--workers must be at least 1, not {args.workers}")
    with Progress() as bar:

        def begin(videos: int) -> Callable[[], None]:
            bar.restart(videos, "videos")
            return bar.step

        reports = check_dataset(
            dataset_named(args.dataset),
            args.path,
            split=args.split,
            fold=args.fold,
            quick=args.quick,
            workers=args.workers,
            begin=begin,
        )
    counted = [fault for report in reports for fault in report.faults if fault.kind not in args.allow]
    if args.json:
        print(json.dumps(_as_json(args, reports, counted), indent=1))
    else:
        _print(args, reports, counted)
    return 1 if counted else 0


def _as_json(args: argparse.Namespace, reports: "list[SplitReport]", counted: "list[Fault]") -> dict[str, Any]:
    return {
        "dataset": args.dataset,
        "path": str(args.path),
        "quick": args.quick,
        "ok": not counted,
        "allowed": sorted(set(args.allow)),
        "splits": [
            {
                "split": report.split,
                "fold": report.fold,
                "videos": len(report.videos),
                "frames": report.frames,
                "files_read": report.files_read,
                "faults": [{**dataclasses.asdict(fault), "path": str(fault.path)} for fault in report.faults],
            }
            for report in reports
        ],
    }


def _print(args: argparse.Namespace, reports: "list[SplitReport]", counted: "list[Fault]") -> None:
    for report in reports:
        where = f"{args.dataset} {report.split}" + (f", fold {report.fold}" if report.fold is not None else "")
        read = "none decoded" if args.quick else f"{report.files_read} files decoded"
        print(f"{where}: {len(report.videos)} videos, {report.frames} frames, {read}")
        for fault in report.faults:
            known = " (allowed)" if fault.kind in args.allow else ""
            print(f"  {fault.kind}: {fault.path}: {fault.message}{known}")
    kinds = {kind: sum(fault.kind == kind for fault in counted) for kind in dict.fromkeys(f.kind for f in counted)}
    if counted:
        names = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        print(f"{len(counted)} fault{'s' if len(counted) > 1 else ''}: {names}")
    else:
        print("no fault")
