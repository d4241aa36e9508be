"""`dtfsal benchmark delay`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dtfsal.benchmarks.cli import common
from dtfsal.engines.limits import seed
from dtfsal.runtime.cli.common import add_trust_option

if TYPE_CHECKING:
    from dtfsal.training.synthetic import Sources

NameT = TypeVar("NameT", bound=str)

HELP = "how late the map follows a jump, an onset and a cut, in files and in streams"
EXAMPLES = """\
examples:
  dtfsal build -o lite.engine && dtfsal benchmark delay --engine lite.engine
      the shipped weights of lite, on clips made of the photographs that scikit-image and scikit-learn carry
  dtfsal benchmark delay --engine lite.engine --stills data/osie --output delay.json
      on clips made of OSIE's validation photographs; delay.md has the table, delay.png and delay.svg the curves
  dtfsal benchmark delay --engine lite.engine --engine old-lite.engine --form file --event jump --event cut
      two engines in one table, of files alone

Events: jump (a disc from left to right), appear (a thing that was not there), move (a thing that stood still), cut.
Forms: file; stream (each map waits for all of its window); causal stream (--delay 0 of `dtfsal live`).
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "-e", "--engine", type=Path, action="append", required=True, metavar="DIR", help="an engine; repeat it"
    )
    add_trust_option(parser)
    parser.add_argument(
        "--stills",
        type=Path,
        metavar="DIR",
        help="photographs with fixations (`dtfsal prepare`) to make clips of (default: those of installed packages)",
    )
    parser.add_argument(
        "--split",
        choices=("validation", "train", "all"),
        help="which of OSIE's photographs (default: validation, unseen by the shipped weights)",
    )
    parser.add_argument(
        "--event", action="append", metavar="KIND", help="jump, appear, move or cut; repeat it (default: all)"
    )
    parser.add_argument(
        "--form", action="append", metavar="NAME", help="file, stream or 'causal stream'; repeat it (default: all)"
    )
    parser.add_argument("--items", type=int, default=8, metavar="N", help="clips of each kind (default: 8)")
    parser.add_argument("--fps", type=float, default=25.0, metavar="N", help="frames per second (default: 25)")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of the clips (default: 0)")
    common.add_device_argument(parser)
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.accuracy.delay import FORMS, check, measure
    from dtfsal.benchmarks.accuracy.delay_clips import KINDS
    from dtfsal.benchmarks.accuracy.delay_report import draw, markdown

    kinds, forms = _chosen("event", args.event, KINDS), _chosen("form", args.form, FORMS)
    check(args.engine, items=args.items, frame_rate_hz=args.fps, seed=args.seed)
    return common.measure_and_report(
        args,
        lambda bar: measure(
            args.engine,
            _sources(args),
            kinds=kinds,
            forms=forms,
            items=args.items,
            frame_rate_hz=args.fps,
            seed=args.seed,
            device=args.device,
            threads=args.threads,
            trust=args.trust_engine,
            progress=bar.step,
        ),
        markdown,
        draw=draw,
        steps=len(args.engine) * len(kinds) * len(forms) * args.items,
        unit="clip",
    )


def _chosen(what: str, names: list[str] | None, known: tuple[NameT, ...]) -> list[NameT]:
    """Those of `known` that were named, in its order, or all."""
    from dtfsal.engines.errors import UsageError

    for name in names or ():
        if name not in known:
            raise UsageError(f"there is no {what} {name!r}; choose one of {', '.join(known)}")
    return [name for name in known if not names or name in names]


def _sources(args: argparse.Namespace) -> Sources:
    from dtfsal.engines.errors import UsageError
    from dtfsal.training.data.stills import read_stills, split_stills
    from dtfsal.training.synthetic import Photograph, Sources, all_photographs

    if args.stills is None:
        if args.split is not None:
            raise UsageError("--split is of photographs with fixations; add --stills DIR")
        return Sources(tuple(all_photographs([])))
    stills = read_stills(args.stills)
    if args.split != "all":
        stills = split_stills(stills)[args.split or "validation"]
    return Sources(tuple(Photograph.of(still) for still in stills))
