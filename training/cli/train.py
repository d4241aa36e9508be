"""`dtfsal train`: an experiment of a YAML file."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtfsal.runtime.cli.progress import Progress

if TYPE_CHECKING:
    from dtfsal.training.trainer.loop import Report

HELP = "train a model as an experiment's YAML file says"
EXAMPLES = """\
examples:
  dtfsal train experiments/dhf1k.yaml --output runs/dhf1k
      train as the file says (docs/how-to/training.md); then `dtfsal build --weights` takes best.safetensors
  dtfsal train experiments/dhf1k.yaml --output runs/dhf1k --resume
      continue a run that was stopped or killed, to exactly the same weights
  dtfsal train experiments/avad.yaml --output runs/avad-2 --set data.fold=2 --set schedule.epochs=5
      the same file with changed settings
  torchrun --nproc-per-node 4 --no-python dtfsal train experiments/dhf1k.yaml --output runs/dhf1k
      on four GPUs (or processes); every step takes four times as many windows

`dtfsal train-lite` trains the shipped weights of lite.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="a YAML file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the run's folder")
    parser.add_argument("--resume", action="store_true", help="continue the run in the output")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting that differs from the file's"
    )
    parser.add_argument(
        "--select",
        choices=("best", "last"),
        help="the epoch whose weights are kept: the best on validation videos, or the last (schedule.select)",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="the device to train on (default: a GPU if there is one)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Train; errors are for the caller to print."""
    from dtfsal.training.trainer import read_experiment, train

    changes = [*args.set, *([f"schedule.select={args.select}"] if args.select else [])]
    experiment = read_experiment(args.experiment, changes=changes)
    with Progress() as bar:
        result = train(experiment, args.output, resume=args.resume, accelerator=args.device, report=stage_report(bar))
    if int(os.environ.get("RANK", 0)):
        return 0  # the first process speaks for all
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        _print(args.output, result)
    return 0


def stage_report(bar: Progress, prefix: str = "") -> "Report":
    """What a trainer tells of its steps, as a bar for each stage."""

    def report(what: str, done: int, of: int, loss: float | None) -> None:
        if bar.unit != prefix + what:
            bar.restart(of, prefix + what, done - 1)
        bar.step("" if loss is None else f"loss {loss:.3f}")

    return report


def _print(run_folder: Path, result: dict[str, Any]) -> None:
    for epoch, scores in enumerate(result["validations"], 1):
        print(f"epoch {epoch}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    print(f"{run_folder / 'best.safetensors'}: {result['steps']} steps, best validation loss {result['best_loss']:.4f}")
