"""`dtfsal prepare`: a public dataset to the folder layout that training and evaluation read."""

import argparse
import json
from pathlib import Path

from dtfsal.training.cli.progress import Bar

HELP = "convert a public dataset for training and evaluation"
EXAMPLES = """\
examples:
  dtfsal prepare osie --source predicting-human-gaze-beyond-pixels --output data/osie

osie: 700 photographs with the fixations of 15 observers (Xu et al. 2014), https://github.com/NUS-VIP/predicting-human-gaze-beyond-pixels;
its folders data/stimuli and data/eye/fixations.mat are read. The output has images/*.jpg (640x480) and fixations.csv.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("dataset", choices=("osie",), help="which dataset")
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help="the dataset as its authors give it")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the new folder")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Convert; errors are for the caller to print."""
    from dtfsal.training.data.osie import prepare_osie

    with Bar(0, "pictures") as bar:
        pictures = prepare_osie(args.source, args.output, progress=lambda _done, _all: bar.step())
    if args.json:
        print(json.dumps({"dataset": args.dataset, "output": str(args.output), "pictures": pictures}))
    else:
        print(f"{args.output}: {pictures} pictures with fixations")
    return 0
