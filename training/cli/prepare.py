"""`dtfsal prepare`: a public dataset, or videos with gaze, to the folder layout that training and evaluation read."""

import argparse
import json
from pathlib import Path
from typing import Any

from dtfsal.runtime.cli.progress import Progress

HELP = "convert a dataset for training and evaluation"
EXAMPLES = """\
examples:
  dtfsal prepare osie --source predicting-human-gaze-beyond-pixels --output data/osie
  dtfsal prepare crowd --source saliency-in-crowd --output data/crowd
  dtfsal prepare scene --source Scene --output data/scene
  dtfsal prepare dhf1k --source data/dhf1k
  dtfsal prepare videos --source data/mine --pixels-per-degree 38

osie: 700 photographs, 15 observers (Xu et al. 2014), https://github.com/NUS-VIP/predicting-human-gaze-beyond-pixels
crowd: 500 photographs, 16 observers (Jiang et al. 2014), https://github.com/NUS-VIP/saliency-in-crowd
scene: 500 photographs, 12 observers (Liang et al.), SUN2012's pictures
Their folders stimuli/ and their fixations.mat are read. The output has images/*.jpg (at most 640x480) and
fixations.csv. A part of a set that has this form already is checked and copied.

dhf1k: the folder as it is downloaded, with video/001.AVI and annotation/0001/{maps,fixation}. Frames are counted
against maps first, which takes minutes; then each video is decoded to video/0001/0001.png and so on, which takes hours
and a few hundred GB (--jpeg: a third). The same command continues where it was stopped.

crowdsal, aim2024, ntire2026: the folder as it is published. Counts of frames, maps and fixations are compared first,
then every video is decoded once for an index. The same command continues where it was stopped.

videos: videos/NAME.mp4 and fixations/NAME.csv with the columns time, x, y, observer (seconds, and pixels of the video).
Without --output the index goes beside them; with it they are copied. docs/how-to/datasets.md has the details.
"""
# The options of `videos` alone, with their defaults; argparse is given none, so that it can be told whether they stand.
VIDEO_OPTIONS: dict[str, Any] = {
    "pixels_per_degree": None,
    "validation_share": 0.1,
    "test_share": 0.1,
    "frames": False,
}
PHOTOGRAPHS = ("osie", "crowd", "scene")
MAP_VIDEOS = ("crowdsal", "aim2024", "ntire2026")
OPTIONS = {"videos": tuple(VIDEO_OPTIONS), "dhf1k": ("jpeg", "allow_counts")}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    choices = (*PHOTOGRAPHS, "dhf1k", "videos", *MAP_VIDEOS)
    parser.add_argument("dataset", choices=choices, help="which dataset")
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help="the original dataset")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="the new folder (videos: the source itself by default)"
    )
    videos = parser.add_argument_group("videos", argument_default=argparse.SUPPRESS)
    videos.add_argument(
        "--pixels-per-degree",
        type=float,
        metavar="N",
        help="pixels of the videos to a degree of visual angle (default: 19/640 of their width)",
    )
    videos.add_argument(
        "--validation-share", type=float, metavar="SHARE", help="share of the videos for validation (default: 0.1)"
    )
    videos.add_argument(
        "--test-share", type=float, metavar="SHARE", help="share of the videos for testing (default: 0.1)"
    )
    videos.add_argument("--frames", action="store_true", help="also write every frame as a picture")
    dhf1k = parser.add_argument_group("dhf1k", argument_default=argparse.SUPPRESS)
    dhf1k.add_argument("--jpeg", action="store_true", help="write JPEG files in place of PNG")
    dhf1k.add_argument(
        "--allow-counts", action="store_true", help="decode also where frames and maps do not fit together"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Convert; errors are for the caller to print."""
    from dtfsal.engines.errors import UsageError

    for dataset, names in OPTIONS.items():
        if dataset != args.dataset and (given := [name for name in names if hasattr(args, name)]):
            raise UsageError(f"--{given[0].replace('_', '-')} is for {dataset}; leave it out")
    if args.dataset in MAP_VIDEOS:
        return _prepare_map_videos(args)
    if args.dataset in PHOTOGRAPHS:
        return _prepare_photographs(args)
    return {"dhf1k": _prepare_dhf1k, "videos": _prepare_videos}[args.dataset](args)


def _prepare_photographs(args: argparse.Namespace) -> int:
    from dtfsal.engines.errors import UsageError
    from dtfsal.training.data.photograph_sets import SETS
    from dtfsal.training.data.prepare_photographs import prepare_photographs

    if args.output is None:
        raise UsageError("say where the dataset goes: --output DIR")
    with Progress(0, "pictures") as bar:
        pictures = prepare_photographs(
            SETS[args.dataset], args.source, args.output, progress=lambda _done, _all: bar.step()
        )
    if args.json:
        print(json.dumps({"dataset": args.dataset, "output": str(args.output), "pictures": pictures}))
    else:
        print(f"{args.output}: {pictures} pictures with fixations")
    return 0


def _prepare_dhf1k(args: argparse.Namespace) -> int:
    from dtfsal.engines.errors import UsageError
    from dtfsal.training.data.prepare_dhf1k import downloaded_videos, prepare_dhf1k

    if args.output is not None:
        raise UsageError("dhf1k is decoded beside its videos; leave --output out")
    count = len(downloaded_videos(args.source))
    with Progress() as bar:

        def progress(what: str) -> None:
            if bar.unit != what:
                bar.restart(count, what)
            bar.step()

        decoded, frames = prepare_dhf1k(
            args.source, jpeg=hasattr(args, "jpeg"), allow_counts=hasattr(args, "allow_counts"), progress=progress
        )
    if args.json:
        print(json.dumps({"dataset": "dhf1k", "videos": count, "decoded": decoded, "frames": frames}))
    else:
        print(f"{args.source / 'video'}: {decoded} of {count} videos decoded now, {frames} frames")
    return 0


def _prepare_map_videos(args: argparse.Namespace) -> int:
    from dtfsal.engines.errors import UsageError
    from dtfsal.training.data.datasets import dataset_named
    from dtfsal.training.data.map_videos import MapVideos
    from dtfsal.training.data.prepare_map_videos import prepare_map_videos

    if args.output is not None:
        raise UsageError(f"{args.dataset} is indexed beside its videos; leave --output out")
    dataset = dataset_named(args.dataset)
    assert isinstance(dataset, MapVideos)
    count = len(dataset.published(args.source))
    with Progress() as bar:

        def progress(what: str) -> None:
            if bar.unit != what:
                bar.restart(count, what)
            bar.step()

        table = prepare_map_videos(dataset, args.source, progress=progress)
    splits = {split: sum(video.split == split for video in table.videos) for split in dataset.splits}
    frames = sum(video.frame_count for video in table.videos)
    if args.json:
        print(json.dumps({"dataset": args.dataset, "videos": len(table.videos), "frames": frames, "splits": splits}))
    else:
        parts = ", ".join(f"{number} {split}" for split, number in splits.items())
        print(f"{args.source}: {len(table.videos)} videos with {frames} frames ({parts})")
    return 0


def _prepare_videos(args: argparse.Namespace) -> int:
    from dtfsal.training.data.prepare_videos import PrepareOptions, prepare_videos, source_files

    chosen = {name: getattr(args, name, default) for name, default in VIDEO_OPTIONS.items()}
    options = PrepareOptions(pictures=chosen.pop("frames"), **chosen)
    output = args.output or args.source
    with Progress(len(source_files(args.source)), "videos") as bar:
        table = prepare_videos(args.source, output, options, progress=bar.step)
    splits = {split: sum(video.split == split for video in table.videos) for split in ("train", "validation", "test")}
    frames = sum(video.frame_count for video in table.videos)
    if args.json:
        result = {"dataset": args.dataset, "output": str(output), "videos": len(table.videos), "frames": frames}
        print(json.dumps({**result, "splits": splits}))
    else:
        parts = ", ".join(f"{count} {split}" for split, count in splits.items())
        print(f"{output}: {len(table.videos)} videos with {frames} frames ({parts})")
    return 0
