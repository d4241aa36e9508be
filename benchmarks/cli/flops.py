"""`dtfsal benchmark flops`."""

import argparse
import json

HELP = "parameters and operations, part by part, beside the paper's"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    parser.add_argument("--preset", default="dtfsal", metavar="NAME", help="the model (default: dtfsal)")
    parser.add_argument(
        "--form",
        choices=("deployed", "written"),
        default="deployed",
        help="what an engine runs, or the definitional form (default: deployed)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.flops import count

    report = count(args.preset, form=args.form)
    if args.json:
        print(json.dumps(report.to_dict(), indent=2))
        return 0
    print(f"{report.model}, one window, {report.form} form")
    print(f"{'part':<12}{'parameters, M':>15}{'GMAC, as the paper':>20}{'attention GMAC':>16}{'true GFLOP':>12}")
    for name, cost in {**report.parts, "total": report.total}.items():
        attention = (cost.attention_macs + cost.position_macs) / 1e9
        print(
            f"{name:<12}{cost.parameters / 1e6:>15.3f}{cost.macs / 1e9:>20.2f}{attention:>16.2f}"
            f"{cost.true_flops / 1e9:>12.2f}"
        )
    if rows := report.beside_paper():
        print("beside the paper (Tables 1, 2 and 5), whose GFLOPs fit the deployed form:")
        for name, ours, theirs in rows:
            print(f"  {name:<24}{ours:>10.2f}  paper {theirs:>8.2f}  {100 * (ours / theirs - 1):+.2f} %")
    return 0
