"""`dtfsal reproduce`: a table of the paper, trained and scored, beside the paper's numbers."""

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtfsal.runtime.cli.progress import Progress
from dtfsal.training.cli.evaluate import CONVENTION_NAMES
from dtfsal.training.cli.train import stage_report

if TYPE_CHECKING:
    from dtfsal.training.trainer.miniature import MiniatureOptions

HELP = "train and score a table of the paper"
EXAMPLES = """\
examples:
  dtfsal reproduce table7 --data data --output reproduced --encoder-weights mvit_v2_s.pth
      every row's runs, kept in reproduced/runs; then reproduced/table7.md and .json
  dtfsal reproduce table4 --data data --output reproduced --encoder-weights mvit_v2_s.pth --sound-weights vggish.pth
  dtfsal reproduce table5 --plan
      what would be trained, and the parameters beside the paper's; no data is needed
  dtfsal reproduce --miniature --output miniature
      small tables 1, 5, 10, 11 and 13 on data that dtfsal makes itself, with seeds and intervals

The data sets lie below --data as dhf1k, ucf-sports and audio-visual (the six sets as distributed together), or as links
of these names. The same command continues where it was stopped. docs/explanation/ablations.md says what each
row is and how long it takes.
"""
TABLE_NAMES = tuple(f"table{number}" for number in (1, 3, 4, 5, 7, 9, 10, 11, 12, 13, 14))
AUDIO_VISUAL = ("diem", "avad", "coutrot1", "coutrot2", "summe", "etmd")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    names = (*TABLE_NAMES, "normalisation")
    parser.add_argument("table", nargs="?", choices=names, metavar="TABLE", help=", ".join(TABLE_NAMES))
    parser.add_argument("--data", type=Path, metavar="DIR", help="the folder that holds the data sets")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="where runs and tables go")
    parser.add_argument("--encoder-weights", metavar="FILE", help="torchvision's MViTv2-S, of Kinetics-400")
    parser.add_argument("--sound-weights", metavar="FILE", help="VGGish's, of AudioSet")
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), default="fp32", help="default: fp32")
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="epochs of each run at most (default: 10; of a miniature 5)"
    )
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
    miniature = parser.add_argument_group("miniature", argument_default=argparse.SUPPRESS)
    miniature.add_argument(
        "--miniature",
        action="store_true",
        help="train the tiny presets on scenes of the procedural world, with several seeds (all of its tables, or one)",
    )
    miniature.add_argument("--seeds", type=int, metavar="N", help="how often each row is trained (default: 3)")
    miniature.add_argument("--scenes", type=int, metavar="N", help="scenes of each kind of data (default: 40)")
    miniature.add_argument(
        "--stills", type=Path, metavar="DIR", help="photographs with fixations that scenes are made of (OSIE)"
    )
    parser.add_argument("--tiny", action="store_true", help="use the tiny presets, to try all steps quickly")
    parser.add_argument("--plan", action="store_true", help="only say what would be trained")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Reproduce; errors are for the caller to print."""
    from dtfsal.engines.errors import UsageError
    from dtfsal.training.trainer.experiment import Schedule
    from dtfsal.training.trainer.paper_tables import TABLES
    from dtfsal.training.trainer.reproduce import Laboratory, markdown, reproduce, row_parameters

    if hasattr(args, "miniature"):
        return _miniature(args)
    if given := [name for name in ("seeds", "scenes", "stills") if hasattr(args, name)]:
        raise UsageError(f"--{given[0]} is for --miniature; leave it out")
    if args.table not in TABLES:
        raise UsageError(f"say which table: {', '.join(TABLE_NAMES)}; or --miniature")
    table = TABLES[args.table]
    if not args.plan and (args.data is None or args.output is None):
        raise UsageError("say where the data sets are and where the runs go: --data DIR --output DIR; or --plan")
    laboratory = Laboratory(
        roots={} if args.data is None else _roots(args.data),
        runs=Path("runs") if args.output is None else args.output / "runs",
        encoder=args.encoder_weights,
        sound_encoder=args.sound_weights,
        presets=("tiny-v", "tiny") if args.tiny else ("dtfsal-v", "dtfsal"),
        schedule=Schedule(epochs=10 if args.epochs is None else args.epochs, select=args.select),
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


def _miniature(args: argparse.Namespace) -> int:
    from dtfsal.engines.errors import UsageError
    from dtfsal.engines.partial import held
    from dtfsal.training.data.stills import read_stills, split_stills
    from dtfsal.training.synthetic import Photograph, Sources, all_photographs
    from dtfsal.training.trainer.miniature import (
        MiniatureOptions,
        make_data,
        markdown,
        miniature_tables,
        reproduce_miniature,
    )

    tables = miniature_tables()
    if args.table is not None and args.table not in tables:
        raise UsageError(f"the miniature has the tables {', '.join(tables)}, not {args.table}")
    if args.output is None or args.plan:
        raise UsageError("say where the miniature goes: --output DIR")
    chosen = {name: getattr(args, name) for name in ("seeds", "scenes") if hasattr(args, name)}
    options = MiniatureOptions(**chosen, **({} if args.epochs is None else {"epochs": args.epochs}))
    tables = tables if args.table is None else {args.table: tables[args.table]}
    if hasattr(args, "stills"):
        stills = split_stills(read_stills(args.stills))["train"]
        photographs = [Photograph(still.name, still.read(), still.fixations) for still in stills]
    else:
        photographs = all_photographs([])
    started = time.perf_counter()
    args.output.mkdir(parents=True, exist_ok=True)
    with held(args.output / "miniature.json"), Progress(3 * options.scenes, "scenes") as bar:
        places = make_data(args.output / "data", Sources(tuple(photographs)), options, progress=bar.step)
        result = reproduce_miniature(
            args.output,
            places,
            tables,
            options,
            convention=args.convention,
            report=lambda name: stage_report(bar, f"{name}: "),
        )
    minutes = round((time.perf_counter() - started) / 60, 1)
    whole = {"command": _miniature_command(args, options), "minutes": minutes, "tables": result}
    text = markdown(result) + f"\n`{whole['command']}`: {minutes} minutes\n"
    (args.output / "miniature.md").write_text(text)
    (args.output / "miniature.json").write_text(json.dumps(whole, indent=1) + "\n")
    print(json.dumps(whole, indent=1) if args.json else text, end="\n" if args.json else "")
    return 0


def _miniature_command(args: argparse.Namespace, options: "MiniatureOptions") -> str:
    words = ["dtfsal", "reproduce", *([] if args.table is None else [args.table]), "--miniature"]
    words += ["--scenes", str(options.scenes), "--epochs", str(options.epochs), "--seeds", str(options.seeds)]
    words += ["--stills", args.stills.name] if hasattr(args, "stills") else []
    return " ".join(words)


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
