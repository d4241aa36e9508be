"""`dtfsal evaluate`: how well weights predict gaze, on videos, photographs and scenes of the procedural world."""

import argparse
import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtfsal.engines.limits import seed
from dtfsal.runtime.cli.progress import Progress

if TYPE_CHECKING:
    from dtfsal.training.data.stills import Still
    from dtfsal.training.evaluation.evaluate import Evaluation

HELP = "score weights on gaze data"
EXAMPLES = """\
examples:
  dtfsal evaluate runs/avad-1/best.safetensors --dataset avad --data data/audio-visual --fold 1 -o scores/avad-1
      the test videos of a fold, every frame, with their sound and without
  dtfsal evaluate dtfsal-v.safetensors --dataset dhf1k --data data/DHF1K --split validation --every 5 -o scores/dhf1k
  dtfsal evaluate b.safetensors --dataset diem --data data/av --convention mit --beside a/scores.json -o b
      as published tables compute scores, and another model's beside it
  dtfsal evaluate lite.safetensors --stills data/osie -o scores/osie
      the validation photographs of OSIE, in silence and with sounds that mean nothing
  dtfsal evaluate lite.safetensors --stills data/crowd --stills data/scene --split test -o scores/test
      the test photographs of two sets, each a group of its own
  dtfsal evaluate lite.safetensors --synthetic 60 --seed 7 -o scores/synthetic
      60 scenes made of the photographs that installed packages carry
  dtfsal evaluate lite.safetensors --synthetic 60 --stills data/osie -o scores/synthetic-osie
      60 scenes made of the validation photographs, whose own gaze is known, and of what people looked at in them
  dtfsal evaluate lite.safetensors --synthetic 60 --photographs pictures/ --cutouts stamps/ -o scores/mine

The output folder gets scores.json with 95 % intervals (bootstrap over items), its tables as scores.md, scores.csv (a
line for each item and predictor) and examples.png. Photographs and scenes get worst.png, the ten of each set with the
model's lowest CC; videos get cc.png and nss.png, a bar for each video.
docs/reference/metrics.md says how each score is computed. Numbers compare only under one
convention: give --convention mit beside published tables.
"""
OF_VIDEOS = ("shuffled_auc", "information_gain")
BARS = ("cc", "nss")
CONVENTION_NAMES = ("exact", "mit", "pysaliency", "challenge", "crowdsal")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "weights", type=Path, metavar="WEIGHTS", help="a safetensors file; photographs and scenes need weights of lite"
    )
    videos = parser.add_argument_group("videos")
    videos.add_argument(
        "--dataset", metavar="NAME", help="a data set (docs/how-to/datasets.md): dhf1k, avad, videos, ..."
    )
    videos.add_argument("--data", type=Path, metavar="DIR", help="the folder that holds it")
    videos.add_argument("--fold", type=int, metavar="N", help="the fold, if the data set has folds")
    videos.add_argument("--every", type=int, default=1, metavar="N", help="score every N-th frame (default: all)")
    videos.add_argument(
        "--without-fixations", action="store_true", help="score CC, SIM and KL alone where there are no fixations"
    )
    videos.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the model runs (default: cpu)")
    parser.add_argument(
        "--stills",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="photographs with fixations (`dtfsal prepare`): to score on, or with --synthetic what scenes are made of",
    )
    parser.add_argument("--synthetic", type=int, metavar="N", help="score on N scenes of the procedural world")
    parser.add_argument(
        "--split",
        choices=("validation", "train", "test", "all"),
        help="which part (default: of videos test; of photographs validation, unseen by the shipped weights)",
    )
    parser.add_argument(
        "--photographs",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="pictures without gaze that scenes are made of",
    )
    parser.add_argument("--cutouts", type=Path, metavar="DIR", help="things for scenes: pictures with transparency")
    parser.add_argument("--seed", type=seed, default=1, help="seed of the scenes and sounds (default: 1)")
    parser.add_argument(
        "--kind",
        action="append",
        default=[],
        metavar="KIND",
        help="kinds of scenes (default: all; no `still` of photographs without gaze, no `action` without cut-outs)",
    )
    parser.add_argument(
        "--convention",
        choices=CONVENTION_NAMES,
        default="exact",
        help="how scores are computed (docs/reference/metrics.md; default: exact)",
    )
    parser.add_argument(
        "--beside",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="scores.json of another evaluation of the same items, to be shown beside; may be given again",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="where the scores go")
    parser.add_argument("--force", action="store_true", help="replace scores that exist")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")


def run(args: argparse.Namespace) -> int:
    """Evaluate; errors are for the caller to print."""
    from dtfsal.engines.errors import UsageError
    from dtfsal.training.data.prepare_videos import sha256_of
    from dtfsal.training.evaluation.page import draw_page
    from dtfsal.training.evaluation.report import SHOWN, markdown_tables, plain, put_beside, read_scores, text_table
    from dtfsal.training.recipe.optimisation import keep_freed_memory
    from dtfsal.training.synthetic import check_kind

    if (args.output / "scores.json").exists() and not args.force:
        raise UsageError(f"{args.output} holds scores already; choose another folder, or --force")
    if (args.dataset is None) != (args.data is None):
        raise UsageError("a data set needs both --dataset NAME and --data DIR")
    if args.dataset is not None and (args.stills or args.synthetic is not None):
        raise UsageError("--dataset is scored by itself; leave --stills and --synthetic out")
    if args.dataset is None and not args.stills and args.synthetic is None:
        raise UsageError(
            "say what to score on: --dataset NAME --data DIR, --stills DIR, --synthetic N, or the last two together "
            "for scenes made of the stills"
        )
    args.split = args.split or ("validation" if args.dataset is None else "test")
    if args.dataset is not None and args.split == "all":
        raise UsageError(f"there is no split 'all' of {args.dataset}; choose another")
    if args.dataset is None and args.synthetic is None and (args.photographs or args.cutouts or args.kind):
        raise UsageError("--photographs, --cutouts and --kind are for scenes; add --synthetic N")
    if args.stills and args.photographs:
        raise UsageError("scenes are made of --stills or of --photographs; leave one of them out")
    if args.synthetic is not None and args.synthetic < 1:
        raise UsageError(f"--synthetic must be at least 1, not {args.synthetic}")
    for kind in args.kind:
        check_kind(kind)
    others = [read_scores(path, args.convention, _asked(args)) for path in args.beside]
    keep_freed_memory()
    if args.dataset is not None:
        evaluation, what = _videos(args)
    else:
        evaluation, what = _stills(args) if args.synthetic is None else _synthetic(args)
    shown = (*SHOWN, *OF_VIDEOS) if args.dataset is not None else SHOWN
    report = {
        "command": _command(args),
        "convention": args.convention,
        **what,
        "weights": {"file": args.weights.name, "sha256": sha256_of(args.weights)},
        "scores": plain(evaluation.summary()),
        "intervals": plain(evaluation.intervals()),
        "gains": plain(evaluation.gains()),
    }
    put_beside(report, others)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "scores.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    (args.output / "scores.md").write_text(markdown_tables(report))
    with (args.output / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("item", "group", "predictor", "convention", *shown))
        for row in evaluation.rows:
            cells = (_cell(getattr(row.scores, metric)) for metric in shown)
            rows.writerow((row.item, row.group, row.predictor, args.convention, *cells))
    if args.dataset is not None:
        _draw_bars(evaluation, args)
    draw_page(evaluation.examples).save(args.output / "examples.png")
    if evaluation.worst:
        draw_page(evaluation.worst).save(args.output / "worst.png")
    if args.json:
        print(json.dumps(report, indent=1, allow_nan=False))
    else:
        print(text_table(report["scores"]))
        print(f"{args.output}: scores.json, scores.csv, examples.png")
    return 0


def _videos(args: argparse.Namespace) -> tuple["Evaluation", dict[str, Any]]:
    import torch

    from dtfsal.engines.errors import UnavailableError
    from dtfsal.training.data.datasets import open_dataset
    from dtfsal.training.data.stills import DataError
    from dtfsal.training.evaluation.evaluate_videos import check_fixations, evaluate_videos
    from dtfsal.training.model.weights import load_weights

    if args.device == "cuda" and not torch.cuda.is_available():
        raise UnavailableError("there is no GPU that PyTorch can use; leave --device out")
    items = open_dataset(args.dataset, args.data, args.split, fold=args.fold)
    if not args.without_fixations:
        check_fixations(items)
    device = torch.device(args.device)
    model = load_weights(args.weights).to(device)
    with Progress(len(items), "videos") as bar:
        evaluation = evaluate_videos(
            model,
            items,
            every=args.every,
            seed=args.seed,
            convention=args.convention,
            device=device,
            progress=bar.step,
        )
    if not evaluation.rows:
        raise DataError(f"no frame of {args.dataset}'s split {args.split!r} has a map; `dtfsal check` says more")
    return evaluation, {**_asked(args), "items": len(items)}


def _asked(args: argparse.Namespace) -> dict[str, Any]:
    """What is known of a data set's items before they are scored; nothing of photographs and scenes."""
    if args.dataset is None:
        return {}
    return {"set": args.dataset, "split": args.split, "fold": args.fold, "every": args.every, "seed": args.seed}


def _draw_bars(evaluation: "Evaluation", args: argparse.Namespace) -> None:
    from dtfsal.training.evaluation.bars import draw_bars

    predictors = list(dict.fromkeys(row.predictor for row in evaluation.rows))
    for metric in BARS:
        scores: dict[str, dict[str, float]] = {}
        for row in evaluation.rows:
            scores.setdefault(row.item, {})[row.predictor] = getattr(row.scores, metric)
        title = f"{metric.upper()} on {args.dataset}, {args.split}"
        draw_bars(title, scores, predictors).save(args.output / f"{metric}.png")


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"


def _stills(args: argparse.Namespace) -> tuple["Evaluation", dict[str, Any]]:
    import numpy as np

    from dtfsal.training.data.photograph_sets import set_of
    from dtfsal.training.data.stills import read_stills
    from dtfsal.training.evaluation.evaluate import Evaluation, evaluate_stills, mean_density
    from dtfsal.training.model.weights import load_weights
    from dtfsal.training.synthetic import random_sound

    model = load_weights(args.weights)
    rng = np.random.default_rng(args.seed)
    audio = model.config.audio
    sounds = [] if audio is None else [random_sound(rng, 4.0, audio.sample_rate_hz) for _ in range(16)]
    folders = [(folder, read_stills(folder)) for folder in args.stills]
    chosen = [_part(folder, stills, args.split) for folder, stills in folders]
    result = Evaluation([], [])
    with Progress(sum(map(len, chosen)), "photographs") as bar:
        for (folder, everything), stills in zip(folders, chosen, strict=True):
            prior = None
            if args.split != "all":
                others = _part(folder, everything, "train")
                prior = mean_density([still.density(*still.size()) for still in others])
            group = "photographs" if len(folders) == 1 else set_of(still.name for still in stills).name
            found = evaluate_stills(
                model,
                stills,
                group=group,
                prior=prior,
                sounds=sounds,
                convention=args.convention,
                progress=bar.step,
            )
            result += found
    items = sum(map(len, chosen))
    return result, {"set": "photographs", "split": args.split, "items": items, "seed": args.seed}


def _part(folder: Path, stills: "list[Still]", split: str) -> "list[Still]":
    """The photographs of a folder that belong to a split."""
    from dtfsal.engines.errors import UsageError
    from dtfsal.training.data.stills import split_stills

    if split == "all":
        return stills
    splits = split_stills(stills)
    if split not in splits:
        raise UsageError(f"the photographs of {folder} have no split {split!r}; choose one of {', '.join(splits)}")
    return splits[split]


def _synthetic(args: argparse.Namespace) -> tuple["Evaluation", dict[str, Any]]:
    import numpy as np

    from dtfsal.training.data.photograph_sets import SCENE
    from dtfsal.training.data.stills import read_stills
    from dtfsal.training.evaluation.evaluate import evaluate_clips, mean_density
    from dtfsal.training.model.weights import load_weights
    from dtfsal.training.synthetic import (
        KINDS,
        Photograph,
        SceneConfig,
        Sources,
        all_photographs,
        cutouts_from_folder,
        gaze_cutouts,
        generate_scene,
    )

    model = load_weights(args.weights)
    clip = model.config.clip
    config = SceneConfig(height=clip.height, width=clip.width, frame_rate_hz=clip.frame_rate_hz)
    cutouts = cutouts_from_folder(args.cutouts) if args.cutouts else []
    if args.stills:
        stills = [still for folder in args.stills for still in _part(folder, read_stills(folder), args.split)]
        photographs = [Photograph.of(still) for still in stills]
        cutouts += gaze_cutouts([one for one in photographs if not one.name.startswith(SCENE.prefix)])
    else:
        photographs = all_photographs(args.photographs)
    sources = Sources(tuple(photographs), tuple(cutouts))
    # Where people look in a photograph that nobody looked at is not known, and `still` scenes ask for nothing else.
    # Scenes of action need actors.
    there = {"still": all(photo.looked_at for photo in photographs), "action": bool(cutouts)}
    answerable = [kind for kind in KINDS if there.get(kind, True)]
    kinds = args.kind or answerable
    seeds = np.random.default_rng(args.seed).integers(2**62, size=args.synthetic + 20)
    prior_scenes = [
        generate_scene(int(seed), sources, config, kind=kinds[number % len(kinds)])
        for number, seed in enumerate(seeds[args.synthetic :])
    ]
    prior = mean_density([s.density(i) for s in prior_scenes for i in range(0, len(s.frames), 16)])
    clips = []
    for number in range(args.synthetic):
        kind = kinds[number % len(kinds)]
        clips.append((f"scene {number:03d}", kind, generate_scene(int(seeds[number]), sources, config, kind=kind)))
    with Progress(len(clips), "scenes") as bar:
        evaluation = evaluate_clips(
            model, clips, sigma=config.degree_pixels, prior=prior, convention=args.convention, progress=bar.step
        )
    what = {"set": "synthetic", "items": len(clips), "seed": args.seed, "kinds": list(kinds)}
    return evaluation, {**what, "photographs": len(photographs), "cutouts": len(cutouts)}


def _command(args: argparse.Namespace) -> str:
    """What was asked, with names instead of paths."""
    words = ["dtfsal", "evaluate", args.weights.name]
    if args.dataset is not None:
        words += ["--dataset", args.dataset, "--data", args.data.name, "--split", args.split]
        words += [] if args.fold is None else ["--fold", str(args.fold)]
        words += ["--without-fixations"] if args.without_fixations else []
        words += [] if args.every == 1 else ["--every", str(args.every)]
    if args.stills:
        words += [word for folder in args.stills for word in ("--stills", folder.name)]
        words += ["--split", args.split]
    if args.synthetic is not None:
        words += ["--synthetic", str(args.synthetic)]
        words += [word for folder in args.photographs for word in ("--photographs", folder.name)]
        words += ["--cutouts", args.cutouts.name] if args.cutouts else []
        words += [word for kind in args.kind for word in ("--kind", kind)]
    words += [] if args.convention == "exact" else ["--convention", args.convention]
    return " ".join([*words, "--seed", str(args.seed)])
