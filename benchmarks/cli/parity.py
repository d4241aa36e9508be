"""`dtfsal parity`: hold an engine to the PyTorch model it was built from."""

import argparse
import dataclasses
import json
import math
from pathlib import Path

from dtfsal.runtime.cli.common import add_trust_option
from dtfsal.runtime.cli.progress import Progress

HELP = "compare an engine with the PyTorch model it was built from"
EXAMPLES = """\
examples:
  dtfsal parity lite.engine                                   the engine of the shipped weights
  dtfsal parity dtfsal.engine --weights dtfsal.safetensors    an engine of weights of your own
  dtfsal parity lite.engine --video clip.mp4 --windows 8      on a real clip
  dtfsal parity lite.engine --polygraphy check                and files for `polygraphy run`

Exit codes: 0 every bar is met, 1 one is missed, 4 bad engine or weights, 5 the engine cannot run here.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Run the same windows through an engine and through PyTorch, and compare the maps. "
        "A bar that you give replaces the precision's own; the others stay."
    )
    parser.epilog = EXAMPLES
    parser.add_argument("engine", type=Path, metavar="ENGINE", help="the engine's folder")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="the weights file that the engine was built from")
    parser.add_argument(
        "--video", type=Path, metavar="FILE", help="take windows from a video (default: synthetic ones)"
    )
    parser.add_argument("--windows", type=int, default=3, metavar="N", help="windows to compare (default: 3)")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--max-error", type=float, metavar="X", help="bar for the largest error (fp32: 1e-4)")
    parser.add_argument("--min-cc", type=float, metavar="X", help="bar for the correlation coefficient (fp16: 0.999)")
    parser.add_argument("--max-shift", type=float, metavar="X", help="bar for the peak's shift in pixels (fp16: 1)")
    parser.add_argument(
        "--polygraphy",
        type=Path,
        metavar="FOLDER",
        help="also write the windows, PyTorch's maps and a comparison for NVIDIA's Polygraphy into a new folder",
    )
    add_trust_option(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Compare; errors are for the caller to print."""
    from dtfsal.benchmarks.accuracy.parity import BARS, compare_engine, model_of, worst
    from dtfsal.benchmarks.accuracy.polygraphy_files import write_polygraphy_files
    from dtfsal.engines import open_engine
    from dtfsal.engines.errors import UsageError
    from dtfsal.engines.limits import checked_argument
    from dtfsal.training.model.inputs import synthetic_windows, video_windows

    checked_argument("windows", args.windows)
    options = {"max_abs_error": args.max_error, "cc": args.min_cc, "peak_shift_pixels": args.max_shift}
    given = {name: bar for name, bar in options.items() if bar is not None}
    if not all(map(math.isfinite, given.values())):
        raise UsageError("--max-error, --min-cc and --max-shift must be finite numbers")
    with open_engine(args.engine, device=args.device, trust=args.trust_engine) as engine:
        model = model_of(engine.manifest, weights=args.weights)
        if args.video:
            windows = video_windows(args.video, model.config, args.windows)
        else:
            windows = synthetic_windows(model.config, args.windows)
        precision, target = engine.manifest.precision, engine.manifest.target
        bars = dataclasses.replace(BARS[precision], **given)
        if args.polygraphy is not None:
            windows = iter(kept := list(windows))
            write_polygraphy_files(args.polygraphy, model, kept, bars, precision)
        results = []
        with Progress(args.windows, "windows") as bar:
            for result in compare_engine(model, engine, windows):
                results.append(result)
                bar.step()
    summary = worst(results)
    misses = bars.misses(summary)
    if args.json:
        report = {
            "engine": str(args.engine),
            "target": target,
            "precision": precision,
            "windows": [dataclasses.asdict(result) for result in results],
            "worst": dataclasses.asdict(summary),
            "bars": dataclasses.asdict(bars),
            "passed": not misses,
        }
        print(json.dumps(report, indent=2))
    else:
        names = [field.name for field in dataclasses.fields(summary)]
        print("  ".join(f"{name:>17}" for name in ("window", *names)))
        for label, result in [*enumerate(results, 1), ("worst", summary)]:
            print("  ".join([f"{label:>17}", *(f"{getattr(result, name):>17.6g}" for name in names)]))
        print("parity holds" if not misses else f"parity is missed: {'; '.join(misses)}")
    return 1 if misses else 0
