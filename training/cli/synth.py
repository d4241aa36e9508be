"""`dtfsal synth`: sample videos of the procedural world, with where its inhabitants look."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtfsal.engines.limits import seed
from dtfsal.runtime.cli.progress import Progress

if TYPE_CHECKING:
    from dtfsal.training.data.stills import Rgb
    from dtfsal.training.synthetic import Scene

HELP = "write sample videos of the procedural audio-visual world"
EXAMPLES = """\
examples:
  dtfsal synth -o scenes --count 8
      scenes made of the photographs that installed packages carry (scikit-image, scikit-learn)
  dtfsal synth -o scenes --photographs pictures/ --cutouts stamps/ --kind speakers --frame-rate 25
  dtfsal synth -o scenes --plain
      without gaze in the picture, to be predicted

Each scene is a video with its sound (heat: where people look by the model of gaze; green: the observers) and a table
time_seconds, observer, x, y in pixels. docs/explanation/synthetic.md states the model.
"""
GREEN = (0, 255, 80)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="where the videos go")
    parser.add_argument("--count", type=int, default=4, metavar="N", help="how many scenes (default: 4)")
    parser.add_argument(
        "--seed", type=seed, default=0, help="seed of the first scene; each further scene adds 1 (default: 0)"
    )
    parser.add_argument("--kind", metavar="KIND", help="what decides where people look (default: any)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a scene (default: 6)")
    parser.add_argument("--frame-rate", type=float, default=25.0, metavar="HZ", help="frames per second (default: 25)")
    parser.add_argument(
        "--photographs", type=Path, action="append", default=[], metavar="DIR", help="what scenes are made of"
    )
    parser.add_argument("--cutouts", type=Path, metavar="DIR", help="things for scenes: pictures with transparency")
    parser.add_argument("--plain", action="store_true", help="do not draw gaze into the picture")
    parser.add_argument("--force", action="store_true", help="replace scenes that exist")
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")


def run(args: argparse.Namespace) -> int:
    """Make scenes; errors are for the caller to print."""
    from dtfsal.engines.errors import UsageError
    from dtfsal.training.synthetic import (
        SceneConfig,
        Sources,
        all_photographs,
        check_kind,
        cutouts_from_folder,
        generate_scene,
    )
    from dtfsal.training.synthetic.files import write_scene

    if args.count < 1:
        raise UsageError("--count must be at least 1")
    if not (1 <= args.frame_rate <= 120 and 0.2 <= args.seconds <= 600):
        raise UsageError("--frame-rate must lie in 1..120 and --seconds in 0.2..600")
    if args.kind is not None:
        check_kind(args.kind)
    names = [args.output / f"scene_{args.seed + number:04d}.mp4" for number in range(args.count)]
    if not args.force and (standing := next((path for path in names if path.exists()), None)):
        raise UsageError(f"{standing} exists already; choose another folder or seed, or --force")
    cutouts = tuple(cutouts_from_folder(args.cutouts)) if args.cutouts else ()
    sources = Sources(tuple(all_photographs(args.photographs)), cutouts)
    config = SceneConfig(seconds=args.seconds, frame_rate_hz=args.frame_rate)
    args.output.mkdir(parents=True, exist_ok=True)
    made: list[dict[str, Any]] = []
    with Progress(args.count, "scenes") as bar:
        for number, path in enumerate(names):
            scene = generate_scene(args.seed + number, sources, config, kind=args.kind)
            picture = None if args.plain else _with_gaze(scene)
            write_scene(scene, path, path.with_suffix(".csv"), config.sample_rate_hz, picture)
            made.append({"video": str(path), "gaze": str(path.with_suffix(".csv")), "kind": scene.kind})
            bar.step()
    if args.json:
        print(json.dumps(made, indent=1))
    else:
        for item in made:
            print(f"{item['video']}: {item['kind']}")
    return 0


def _with_gaze(scene: "Scene") -> "Callable[[int], Rgb]":
    """A frame under the heat of where people look, with the observers as green dots."""
    import numpy as np

    from dtfsal.training.evaluation.page import heat_overlay

    def picture(index: int) -> "Rgb":
        shown = heat_overlay(scene.frames[index], scene.density(index)).copy()
        for x, y in np.round(scene.fixations(index)).astype(int):
            shown[max(y - 1, 0) : max(y + 2, 0), max(x - 1, 0) : max(x + 2, 0)] = GREEN
        return shown

    return picture
