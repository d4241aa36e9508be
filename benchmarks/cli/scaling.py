"""`dtfsal benchmark scaling`."""

import argparse

from dtfsal.benchmarks.cli import common

HELP = "how a form's latency grows with clip length, frame size, batch or threads, and the law that fits it"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    parser.add_argument("--preset", default="tiny", metavar="NAME", help="the model (default: tiny)")
    parser.add_argument("--form", default="eager", metavar="NAME", help="the form, as in latency (default: eager)")
    parser.add_argument(
        "--vary", choices=("frames", "size", "batch", "threads"), required=True, help="what grows; sizes are HxW"
    )
    parser.add_argument("--grid", metavar="A,B,...", help="its values, e.g. 8,16,32 (default: some around the preset)")
    parser.add_argument("--runs", type=int, default=10, metavar="N", help="timed runs at each point (default: 10)")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="windows at once (default: 1)")
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.timing.forms import choose_forms
    from dtfsal.benchmarks.timing.scaling import draw, markdown, scaling

    (form,) = choose_forms([args.form])
    return common.measure_and_report(
        args,
        lambda bar: scaling(
            args.preset,
            form,
            args.vary,
            [value.strip() for value in args.grid.split(",")] if args.grid else (),
            runs=args.runs,
            batch_size=args.batch_size,
            threads=args.threads,
            command=common.command_line(args),
            progress=lambda steps, total: bar.step(count=steps, total=total),
        ),
        markdown,
        draw=draw,
        slows="bends the law",
    )
