"""`dtfsal benchmark flops`."""

import argparse
from pathlib import Path

from dtfsal.benchmarks.cli import common

HELP = "parameters and operations, part by part, and in both forms beside the paper's"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--preset", default="dtfsal", metavar="NAME", help="the model (default: dtfsal)")
    model.add_argument(
        "--paper", action="store_true", help="only the paper's two models, in both forms, beside the paper's figures"
    )
    parser.add_argument(
        "--form",
        choices=("deployed", "written"),
        default="deployed",
        help="the form whose parts are shown: what an engine runs, or the definitional form (default: deployed)",
    )
    parser.add_argument("-e", "--engine", type=Path, metavar="DIR", help="also count an engine's graphs, part by part")
    parser.add_argument(
        "--roofline",
        action="store_true",
        help="measure this machine's peak and bandwidth and set the engine's parts beside them; needs --engine",
    )
    common.add_threads_argument(parser)
    common.add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Count; errors are for the caller to print."""
    from dtfsal.benchmarks.count.flops_report import draw, flops_report, markdown, paper_markdown, paper_report
    from dtfsal.engines.errors import UsageError

    if args.paper:
        if args.engine is not None or args.roofline or args.form != "deployed":
            raise UsageError("--paper shows the paper's models in both forms: give no --form, --engine or --roofline")
        return common.measure_and_report(
            args, lambda _: paper_report(command=common.command_line(args)), paper_markdown, unit=""
        )
    if args.roofline and args.engine is None:
        raise UsageError("--roofline sets an engine's parts beside the machine: give one with --engine")
    return common.measure_and_report(
        args,
        lambda _: flops_report(
            args.preset,
            form=args.form,
            engine=args.engine,
            roofline=args.roofline,
            threads=args.threads,
            command=common.command_line(args),
        ),
        markdown,
        draw=draw if args.roofline else None,
        unit="",
        slows="lowers the machine's rates",
    )
