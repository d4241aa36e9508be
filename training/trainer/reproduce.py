"""`dtfsal reproduce TABLE`: train every row of a table of the paper, score it, and set it beside the paper's numbers.

What a row needs is trained once: rows that share a first stage share its run, and a run that is there is not repeated.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dtfsal.engines.errors import MALFORMED, UsageError
from dtfsal.training.data.datasets import DATASETS, open_dataset
from dtfsal.training.data.video_item import VideoItem
from dtfsal.training.evaluation.conventions import PAPERS
from dtfsal.training.evaluation.evaluate import MODEL
from dtfsal.training.evaluation.evaluate_videos import check_fixations, evaluate_videos
from dtfsal.training.evaluation.metrics import Scores, mean_scores
from dtfsal.training.model.network import build_model
from dtfsal.training.model.weights import load_weights
from dtfsal.training.trainer.checkpoint import FILE
from dtfsal.training.trainer.experiment import DataChoice, Experiment, ModelChoice, Precision, Schedule, Start
from dtfsal.training.trainer.loop import BEST, Report, train
from dtfsal.training.trainer.paper_tables import METRICS, PaperRow, PaperTable

VISUAL_STAGE = "dhf1k"
VISUAL_SETS = ("dhf1k", "ucf-sports")
# Windows of an epoch, as the loaders that the paper cites count them; see `EveryFrames`.
VISUAL_WINDOWS: Mapping[str, Any] = {"window_every": 16}
AUDIO_VISUAL_WINDOWS: Mapping[str, Any] = {"window_every": 74, "window_span": 1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Laboratory:
    """With what the rows are trained.

    Attributes:
        roots: the folder of each data set.
        datasets: what the data sets are on the disk, where something stands for them; see `miniature`.
        runs: the folder that runs are kept in.
        encoder: published weights of MViTv2-S; None for none.
        sound_encoder: published weights of VGGish; None for none.
        presets: the visual and the audio-visual model.
        size: other frames, height and width than the presets'; for tries.
        schedule: how long and how fast; the rows set the weights of the losses.
        data: settings of `DataChoice` for all, such as {"workers": 8}.
        precision: of the arithmetic.
        every: score every so many frames.
        accelerator: "auto", "cpu" or "cuda".
        seed: of everything random.
        convention: how scores are computed; the paper's predecessors publish numbers of "mit".
        target: the frame of a window that its map belongs to, in both stages: "centre" as in DiffSal's loaders, or
            "last" as in ViNet's and TASED-Net's.
    """

    roots: Mapping[str, Path]
    runs: Path
    encoder: str | None = None
    sound_encoder: str | None = None
    presets: tuple[str, str] = ("dtfsal-v", "dtfsal")
    size: Mapping[str, int] = dataclasses.field(default_factory=dict)
    schedule: Schedule = dataclasses.field(default_factory=Schedule)
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    precision: Precision = "fp32"
    every: int = 1
    accelerator: str = "auto"
    seed: int = 0
    convention: str = PAPERS
    target: str = "centre"
    datasets: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def dataset(self, name: str) -> str:
        """What a data set is on the disk."""
        return self.datasets.get(name, name)

    def folds(self, name: str) -> tuple[int | None, ...]:
        """Its folds, or a single None."""
        return DATASETS[self.dataset(name)].folds or (None,)

    def scored(self, name: str, fold: int | None) -> Sequence[VideoItem]:
        """The videos of it that are scored."""
        hidden = self.dataset(name) == VISUAL_STAGE  # DHF1K's test maps are not public
        return open_dataset(self.dataset(name), self.roots[name], "validation" if hidden else "test", fold=fold)


def row_model(row: PaperRow, laboratory: Laboratory, *, audio: bool) -> ModelChoice:
    """A row's model, or with `audio=False` that of its first stage."""
    size = dict(laboratory.size)
    if row.frames is not None:
        size["frames"] = row.frames
    changes = {name: value for name, value in row.changes.items() if audio or name != "fusion"}
    return ModelChoice(preset=laboratory.presets[audio], changes=changes, target=laboratory.target, **size)


def row_parameters(row: PaperRow, laboratory: Laboratory) -> float:
    """Millions of parameters of what the row's `counted` names; of an encoder as published, with its classifier."""
    with torch.device("meta"):
        model = build_model(row_model(row, laboratory, audio=row.audio).config())
    if row.counted == "decoder":
        part: torch.nn.Module = model.decoders if model.config.decoder == "multi" else model.joint_decoder
    else:
        part = model.encoder if row.counted == "encoder" else model
    count = sum(parameter.numel() for parameter in part.parameters())
    if row.counted == "encoder":
        count += 400 * model.encoder.channels[-1] + 400  # of Kinetics' classes
    return count / 1e6


def reproduce(
    table: PaperTable,
    laboratory: Laboratory,
    *,
    report: Callable[[str], Report] = lambda _what: lambda *_: None,
) -> list[dict[str, Any]]:
    """Train and score every row.

    Args:
        table: of the paper.
        laboratory: with what.
        report: of a run's name, what is told of its progress.

    Returns:
        A line for each row and data set: label, dataset, the paper's scores, ours and their convention, and parameters.

    Raises:
        UsageError: the folder of a data set is not given.
        DataError: a data set is not whole.
    """
    needed = {name for row in table.rows for name in row.paper}
    if any(row.visual_stage for row in table.rows):
        needed.add(VISUAL_STAGE)
    missing = sorted(needed - set(laboratory.roots))
    if missing:
        raise UsageError(
            f"this table needs {', '.join(missing)}; put them below --data (docs/explanation/ablations.md)"
        )
    for name in sorted({name for row in table.rows for name in row.paper}):
        for fold in laboratory.folds(name):
            check_fixations(laboratory.scored(name, fold))
    lines = []
    for row in table.rows:
        for name, paper in row.paper.items():
            scores = _scores_of(row, name, laboratory, report)
            lines.append(
                {
                    "row": row.label,
                    "dataset": name,
                    "paper": dict(zip(METRICS, paper, strict=True)),
                    "ours": scores,
                    "convention": laboratory.convention,
                    "parameters_paper": row.parameters,
                    "parameters": round(row_parameters(row, laboratory), 3),
                    "counted": row.counted,
                }
            )
    return lines


def _scores_of(
    row: PaperRow, name: str, laboratory: Laboratory, report: Callable[[str], Report]
) -> dict[str, float | None]:
    """The means over a data set's test videos, those of all folds together."""
    start = Start()
    if name != VISUAL_STAGE and row.visual_stage:
        first = _trained(row, VISUAL_STAGE, None, _published(row, laboratory, audio=False), laboratory, report)
        sound = laboratory.sound_encoder if row.audio and row.pretrained else None
        start = Start(weights=str(first / BEST), sound_encoder=sound)
    else:
        start = _published(row, laboratory, audio=row.audio and name != VISUAL_STAGE)
    found: list[Scores] = []
    for fold in laboratory.folds(name):
        run = _trained(row, name, fold, start, laboratory, report)
        items = laboratory.scored(name, fold)
        cuda = laboratory.accelerator != "cpu" and torch.cuda.is_available()
        device = torch.device("cuda" if cuda else "cpu")
        evaluation = evaluate_videos(
            load_weights(run / BEST).to(device),
            items,
            every=laboratory.every,
            examples=0,
            convention=laboratory.convention,
            device=device,
        )
        found += [one.scores for one in evaluation.rows if one.predictor == MODEL]
    means = mean_scores(found)
    return {metric: None if math.isnan(value := getattr(means, metric)) else value for metric in METRICS}


def trained_run(row: PaperRow, name: str, laboratory: Laboratory, report: Callable[[str], Report]) -> Path:
    """The folder of a row's run on a data set without folds, from published weights or none; trained if need be."""
    start = _published(row, laboratory, audio=row.audio and name != VISUAL_STAGE)
    return _trained(row, name, None, start, laboratory, report)


def _published(row: PaperRow, laboratory: Laboratory, *, audio: bool) -> Start:
    if not row.pretrained:
        return Start()
    # Weights are given for the paper's encoder; another's would be of another shape.
    encoder = None if "encoder" in row.changes else laboratory.encoder
    return Start(encoder=encoder, sound_encoder=laboratory.sound_encoder if audio else None)


def _trained(
    row: PaperRow,
    name: str,
    fold: int | None,
    start: Start,
    laboratory: Laboratory,
    report: Callable[[str], Report],
) -> Path:
    """The run's folder; trained now, resumed, or complete already."""
    audio = row.audio and name != VISUAL_STAGE
    kl_weight, cc_weight = row.losses
    windows = VISUAL_WINDOWS if name in VISUAL_SETS else AUDIO_VISUAL_WINDOWS
    choices = {**windows, **laboratory.data}
    experiment = Experiment(
        name=f"{name}{'' if fold is None else f' fold {fold}'}, {row.label}",
        model=row_model(row, laboratory, audio=audio),
        data=DataChoice(dataset=laboratory.dataset(name), root=str(laboratory.roots[name]), fold=fold, **choices),
        start=start,
        schedule=dataclasses.replace(laboratory.schedule, kl_weight=kl_weight, cc_weight=cc_weight),
        seed=laboratory.seed,
        precision=laboratory.precision,
        trained=row.trained if audio else "all",  # type: ignore[arg-type]
        normalisation=row.normalisation if audio else "cross-process",  # type: ignore[arg-type]
    )
    described = {key: value for key, value in experiment.to_dict().items() if key != "name"}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:10]
    run = laboratory.runs / f"{name}{'' if fold is None else f'-{fold}'}-{digest}"
    done = run / "done.json"
    if done.is_file() and (run / BEST).is_file():
        return run
    if (run / FILE).is_file():
        experiment = dataclasses.replace(experiment, name=_name_of(run, experiment.name))
    result = train(
        experiment,
        run,
        resume=(run / FILE).is_file(),
        accelerator=laboratory.accelerator,
        report=report(experiment.name),
    )
    done.write_text(json.dumps({"epochs": result["epochs"], "best_loss": result["best_loss"]}) + "\n")
    return run


def _name_of(run: Path, default: str) -> str:
    """The name that a run was begun under: rows may share one."""
    try:
        return str(json.loads((run / "run.json").read_text())["experiment"]["name"])
    except (OSError, *MALFORMED):
        return default


def markdown(title: str, lines: list[dict[str, Any]]) -> str:
    """A table for people: ours, and the paper's in brackets."""
    text = [f"| {title} | data set | CC | NSS | AUC-J | SIM | parameters |", "|---|---|---|---|---|---|---|"]
    for line in lines:
        cells = []
        for metric in METRICS:
            ours, paper = line["ours"][metric], line["paper"][metric]
            cells.append(f"{'-' if ours is None else f'{ours:.3f}'} ({'-' if paper is None else f'{paper:g}'})")
        stated = line["parameters_paper"]
        millions = f"{line['parameters']:.2f} M" + ("" if stated is None else f" ({stated:g} M, {line['counted']})")
        text.append(f"| {line['row']} | {line['dataset']} | {' | '.join(cells)} | {millions} |")
    text += ["", *(f"convention: `{name}`" for name in dict.fromkeys(line["convention"] for line in lines))]
    return "\n".join(text) + "\n"
