"""`dtfsal submit`: maps of a benchmark's videos, as the benchmark takes them."""

import argparse
import json
from pathlib import Path

from dtfsal.runtime.cli.progress import Progress

HELP = "write maps for a public benchmark"
EXAMPLES = """\
examples:
  dtfsal submit runs/crowdsal/best.safetensors --dataset crowdsal --data data/crowdsal -o submission
      submission/3001.mp4 and so on: grey videos for CrowdSAL's bench.py
  dtfsal submit weights.safetensors --dataset ntire2026 --data data/ntire2026 --split test --device cuda -o submission
  dtfsal submit runs/dhf1k/best.safetensors --dataset dhf1k --data data/dhf1k -o submission
      submission/0701/0001.png and so on: grey pictures of the 300 videos without public maps

docs/how-to/datasets.md says what each benchmark asks for, and what of it is not certain.
"""
SUBMISSIONS = ("crowdsal", "aim2024", "ntire2026", "dhf1k")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="a safetensors file")
    parser.add_argument("--dataset", choices=SUBMISSIONS, required=True, metavar="NAME", help=", ".join(SUBMISSIONS))
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder that holds it")
    parser.add_argument(
        "--split", choices=("test", "validation"), default="test", help="which part (default: test; see the guide)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the model runs (default: cpu)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="a new folder for the maps")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Write; errors are for the caller to print."""
    import torch

    from dtfsal.engines.errors import UnavailableError, UsageError
    from dtfsal.engines.partial import held
    from dtfsal.training.data.datasets import open_dataset
    from dtfsal.training.evaluation.submission import SubmissionFormat, write_submission
    from dtfsal.training.model.weights import load_weights

    if args.output.exists() and (not args.output.is_dir() or any(args.output.iterdir())):
        raise UsageError(f"{args.output} is there already; choose a new folder")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UnavailableError("there is no GPU that PyTorch can use; leave --device out")
    items = open_dataset(args.dataset, args.data, args.split)
    device = torch.device(args.device)
    model = load_weights(args.weights).to(device)
    form: SubmissionFormat = "pictures" if args.dataset == "dhf1k" else "videos"
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with held(args.output), Progress(len(items), "videos") as bar:
        write_submission(model, items, args.output, form, device=device, progress=bar.step)
    frames = sum(item.frame_count for item in items)
    if args.json:
        print(json.dumps({"output": str(args.output), "form": form, "videos": len(items), "frames": frames}))
    else:
        print(f"{args.output}: {len(items)} videos with {frames} maps")
    return 0
