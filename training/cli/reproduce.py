"""`dtfsal reproduce`: a table of the paper, trained and scored, beside the paper's numbers."""

import argparse
import json
from pathlib import Path
from typing import Any

from dtfsal.runtime.cli.progress import Progress
from dtfsal.training.cli.evaluate import CONVENTION_NAMES
from dtfsal.training.cli.train import stage_report

HELP = "train and score a table of the paper"
EXAMPLES = """\
examples:
  dtfsal reproduce table7 --data data --output reproduced --encoder-weights mvit_v2_s.pth
      every row's runs, kept in reproduced/runs; then reproduced/table7.md and .json
  dtfsal reproduce table4 --data data --output reproduced --encoder-weights mvit_v2_s.pth --sound-weights vggish.pth
  dtfsal reproduce table5 --plan
      what would be trained, and the parameters beside the paper's; no data is needed

The data sets lie below --data as dhf1k, ucf-sports and audio-visual (the six sets as distributed together), or as links
of these names. The same command continues where it was stopped. docs/explanation/ablations.md says what each
row is and how long it takes.
"""
TABLE_NAMES = tuple(f"table{number}" for number in (1, 3, 4, 5, 7, 9, 10, 11, 12, 13, 14))
AUDIO_VISUAL = ("diem", "avad", "coutrot1", "coutrot2", "summe", "etmd")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument("table", choices=TABLE_NAMES, metavar="TABLE", help=", ".join(TABLE_NAMES))
    parser.add_argument("--data", type=Path, metavar="DIR", help="the folder that holds the data sets")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="where runs and tables go")
    parser.add_argument("--encoder-weights", metavar="FILE", help="torchvision's MViTv2-S, of Kinetics-400")
    parser.add_argument("--sound-weights", metavar="FILE", help="VGGish's, of AudioSet")
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), default="fp32", help="default: fp32")
    parser.add_argument("--epochs", type=int, default=10, metavar="N", help="epochs of each run at most (default: 10)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="score every N-th frame (default: all)")
    parser.add_argument(
        "--target",
        choices=("centre", "last"),
        default="centre",
        help="the frame of a window that its map belongs to, in both stages (default: centre)",
    )
    parser.add_argument(
        "--select",
        choices=("best", "last"),
        default="best",
        help="the epoch that is scored: the best on held-out training videos, or the last (default: best)",
    )
    parser.add_argument(
        "--convention",
        choices=CONVENTION_NAMES,
        default="mit",
        help="how scores are computed (docs/reference/metrics.md; default: mit, as published tables)",
    )
    parser.add_argument("--workers", type=int, default=4, metavar="N", help="processes that read data (default: 4)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="what trains")
    parser.add_argument("--tiny", action="store_true", help="use the tiny presets, to try all steps quickly")
    parser.add_argument("--plan", action="store_true", help="only say what would be trained")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Reproduce; errors are for the caller to print."""
    from dtfsal.engines.errors import UsageError
    from dtfsal.training.trainer.experiment import Schedule
    from dtfsal.training.trainer.paper_tables import TABLES
    from dtfsal.training.trainer.reproduce import Laboratory, markdown, reproduce, row_parameters

    table = TABLES[args.table]
    if not args.plan and (args.data is None or args.output is None):
        raise UsageError("say where the data sets are and where the runs go: --data DIR --output DIR; or --plan")
    laboratory = Laboratory(
        roots={} if args.data is None else _roots(args.data),
        runs=Path("runs") if args.output is None else args.output / "runs",
        encoder=args.encoder_weights,
        sound_encoder=args.sound_weights,
        presets=("tiny-v", "tiny") if args.tiny else ("dtfsal-v", "dtfsal"),
        schedule=Schedule(epochs=args.epochs, select=args.select),
        data={"workers": args.workers},
        precision=args.precision,
        every=args.every,
        accelerator=args.device,
        convention=args.convention,
        target=args.target,
    )
    if args.plan:
        plan: list[dict[str, Any]] = [
            {
                "row": row.label,
                "datasets": list(row.paper),
                "counted": row.counted,
                "parameters": round(row_parameters(row, laboratory), 3),
                "parameters_paper": row.parameters,
            }
            for row in table.rows
        ]
        print(json.dumps(plan, indent=1) if args.json else _plan_text(table.title, plan))
        return 0
    with Progress() as bar:
        lines = reproduce(table, laboratory, report=lambda name: stage_report(bar, f"{name}: "))
    text = markdown(f"{args.table}: {table.title}", lines)
    (args.output / f"{args.table}.md").write_text(text)
    (args.output / f"{args.table}.json").write_text(json.dumps(lines, indent=1) + "\n")
    print(json.dumps(lines, indent=1) if args.json else text, end="\n" if args.json else "")
    return 0


def _roots(data: Path) -> dict[str, Path]:
    """The data sets that are below a folder."""
    places = {"dhf1k": data / "dhf1k", "ucf-sports": data / "ucf-sports"}
    places |= dict.fromkeys(AUDIO_VISUAL, data / "audio-visual")
    return {name: place for name, place in places.items() if place.is_dir()}


def _plan_text(title: str, plan: list[dict[str, Any]]) -> str:
    lines = [title]
    for row in plan:
        stated = row["parameters_paper"]
        beside = "" if stated is None else f" (the paper: {stated} M)"
        names = ", ".join(row["datasets"])
        lines.append(f"  {row['row']}: {names}; {row['counted']} {row['parameters']} M{beside}")
    return "\n".join(lines)
