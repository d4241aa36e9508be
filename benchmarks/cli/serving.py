"""`dtfsal benchmark serving`."""

from __future__ import annotations

import argparse

from dtfsal.benchmarks.cli import common
from dtfsal.engines.bundle.shipped import DEFAULT_ENGINE
from dtfsal.runtime.cli.common import add_trust_option, positive_int

HELP = "how long the server's answers take for 1 to 64 clients on this machine, and that none is lost"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    parser.add_argument("-e", "--engine", default=DEFAULT_ENGINE, metavar="ENGINE", help="the server's (default: lite)")
    parser.add_argument(
        "--clients",
        type=positive_int,
        action="append",
        metavar="N",
        help="clients at the same time; repeat it (default: 1, 2, 4, ... 64)",
    )
    parser.add_argument(
        "--seconds", type=float, default=15.0, metavar="N", help="for each number of clients (default: 15)"
    )
    parser.add_argument("--frames", type=int, default=25, metavar="N", help="of the clip (default: 25)")
    parser.add_argument("--jobs", type=positive_int, default=1, metavar="N", help="of the server (default: 1)")
    parser.add_argument("--queue", type=int, default=16, metavar="N", help="of the server (default: 16)")
    common.add_threads_argument(parser)
    add_trust_option(parser)
    common.add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.timing.serving import CLIENTS, markdown, serving

    clients = args.clients or CLIENTS
    return common.measure_and_report(
        args,
        lambda bar: serving(
            args.engine,
            clients=clients,
            seconds=args.seconds,
            frames=args.frames,
            jobs=args.jobs,
            queue=args.queue,
            threads=args.threads,
            trust=args.trust_engine,
            progress=bar.step,
        ),
        markdown,
        steps=len(clients),
        slows="slows everything",
    )
