"""The paper's comparisons on data that anybody has: `tiny` through both stages, on scenes of the procedural world.

The rows are those of the paper's tables and are trained by the same code. Silent scenes, in which motion decides where
people look, stand for DHF1K; scenes in which sound decides stand for ETMD. What the encoder learned from other scenes,
with the gaze of photographs where they are given, stands for its published weights. Each row is trained with several
seeds, and the order of the rows is compared with the paper's.
"""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from dtfsal.engines.errors import UsageError
from dtfsal.training.data.prepare_videos import PrepareOptions, prepare_videos
from dtfsal.training.model.weights import load_weights
from dtfsal.training.synthetic.files import write_scene
from dtfsal.training.synthetic.scene import Kind, SceneConfig, generate_scene
from dtfsal.training.synthetic.sources import Sources
from dtfsal.training.trainer.experiment import Schedule
from dtfsal.training.trainer.loop import BEST, Report
from dtfsal.training.trainer.paper_tables import METRICS, TABLES, PaperRow, PaperTable
from dtfsal.training.trainer.reproduce import Laboratory, reproduce, trained_run

VISUAL, SOUND, OTHER = "visual", "sound", "other"
STANDS_FOR = {"dhf1k": VISUAL, "etmd": SOUND}
TEST_SHARE, VALIDATION_SHARE = 0.3, 0.1
WORLD = SceneConfig(height=96, width=160, seconds=2.4, frame_rate_hz=25.0, cut_share=0.0)
SIZE = {"frames": 8, "height": 64, "width": 96}
WINDOWS = 4  # of each scene in an epoch
NOT_STATED = (None, None, None, None)
# Student's t at 97.5 %, by degrees of freedom.
T = (math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MiniatureOptions:
    """How large it is.

    Attributes:
        scenes: of each of the three kinds of data; three tenths of them are scored.
        epochs: of each run.
        seeds: how often each row is trained, from seed 0 on.
        every: score every so many frames.
    """

    scenes: int = 40
    epochs: int = 5
    seeds: int = 3
    every: int = 6

    def __post_init__(self) -> None:
        if self.scenes < 6:
            raise UsageError(f"a miniature needs at least 6 scenes of each kind, not {self.scenes}")
        if not 2 <= self.seeds <= len(T):
            raise UsageError(f"an interval needs 2 to {len(T)} seeds, not {self.seeds}")


def miniature_tables() -> dict[str, PaperTable]:
    """The tables that are trained, with rows of the paper; the last is our own question."""
    kept = {name: _on_stand_ins(TABLES[name]) for name in ("table1", "table5", "table10", "table11", "table13")}
    rows = (
        PaperRow(label="batch statistics", audio=True, paper={"etmd": NOT_STATED}),
        PaperRow(label="frozen statistics", audio=True, normalisation="frozen", paper={"etmd": NOT_STATED}),
        PaperRow(label="layer", audio=True, changes={"normalisation": "layer"}, paper={"etmd": NOT_STATED}),
    )
    return kept | {"normalisation": PaperTable("Normalisation with batches of one", rows)}


def _on_stand_ins(table: PaperTable) -> PaperTable:
    rows = [
        dataclasses.replace(row, paper={name: scores for name, scores in row.paper.items() if name in STANDS_FOR})
        for row in table.rows
    ]
    return PaperTable(table.title, tuple(row for row in rows if row.paper))


def make_data(
    folder: Path, sources: Sources, options: MiniatureOptions, *, progress: Callable[[], None] = lambda: None
) -> dict[str, Path]:
    """Write the three data sets, or take those that are there; their folders.

    Raises:
        OutputError: the place is not writable.
    """
    looked_at = any(photo.looked_at for photo in sources.photographs)
    other: tuple[Kind, ...] = ("still",) if looked_at else ("onset",)
    kinds: Mapping[str, tuple[Kind, ...]] = {
        OTHER: other,
        VISUAL: ("motion", "onset"),
        SOUND: ("sound_decides", "speakers"),
    }
    places = {}
    for number, (name, of) in enumerate(kinds.items()):
        place = places[name] = folder / f"{name}-{options.scenes}"
        if (place / "dataset.json").is_file():
            continue
        for index in range(options.scenes):
            seed = 1_000_000 * (number + 1) + index
            scene = generate_scene(seed, sources, WORLD, kind=of[index % len(of)])
            stem = f"scene_{index:03d}"
            (place / "videos").mkdir(parents=True, exist_ok=True)
            (place / "fixations").mkdir(exist_ok=True)
            table = place / "fixations" / f"{stem}.csv"
            write_scene(scene, place / "videos" / f"{stem}.mp4", table, WORLD.sample_rate_hz)
            progress()
        prepare_videos(
            place,
            place,
            PrepareOptions(
                pixels_per_degree=WORLD.degree_pixels, validation_share=VALIDATION_SHARE, test_share=TEST_SHARE
            ),
        )
    return places


def reproduce_miniature(
    folder: Path,
    places: Mapping[str, Path],
    tables: Mapping[str, PaperTable],
    options: MiniatureOptions,
    *,
    convention: str,
    report: Callable[[str], Report] = lambda _what: lambda *_: None,
) -> dict[str, Any]:
    """Train and score every row with every seed.

    Args:
        folder: where runs go; those that are there are not repeated.
        places: what `make_data` gave.
        tables: of `miniature_tables`.
        options: how large it is.
        convention: how scores are computed.
        report: of a run's name, what is told of its progress.

    Returns:
        By table: rows with their means and 95 % intervals over the seeds, and the order of each pair of rows.
    """
    found: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in tables}
    for seed in range(options.seeds):
        laboratory = _laboratory(folder, places, options, seed, convention)
        encoder = _pretrained_encoder(folder, places, laboratory, report)
        laboratory = dataclasses.replace(laboratory, encoder=str(encoder))
        for name, table in tables.items():
            found[name].append(reproduce(table, laboratory, report=report))
    return {name: summary(tables[name].title, runs) for name, runs in found.items()}


def _laboratory(
    folder: Path, places: Mapping[str, Path], options: MiniatureOptions, seed: int, convention: str
) -> Laboratory:
    return Laboratory(
        roots={name: places[stand_in] for name, stand_in in STANDS_FOR.items()},
        datasets=dict.fromkeys(STANDS_FOR, "videos"),
        runs=folder / "runs",
        presets=("tiny-v", "tiny"),
        size=SIZE,
        schedule=Schedule(epochs=options.epochs, learning_rate=1e-3, decay=0.3, decay_every=2),
        data={"workers": 0, "window_every": None, "window_span": None, "windows_per_video": WINDOWS}
        | {"validation_every": options.every},
        every=options.every,
        accelerator="cpu",
        seed=seed,
        convention=convention,
    )


def _pretrained_encoder(
    folder: Path, places: Mapping[str, Path], laboratory: Laboratory, report: Callable[[str], Report]
) -> Path:
    """The encoder of a visual model that was trained on other scenes, as a file of its own."""
    other = dataclasses.replace(laboratory, roots={"dhf1k": places[OTHER]})
    row = PaperRow(label="the encoder's other data", paper={"dhf1k": NOT_STATED}, pretrained=False)
    run = trained_run(row, "dhf1k", other, report)
    path = folder / f"encoder-{run.name}.safetensors"
    state = load_weights(run / BEST).encoder.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def summary(title: str, runs: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """The rows' means and intervals over the seeds, and how each pair of rows compares, by CC.

    Args:
        title: of the table.
        runs: for each seed what `reproduce` gave.
    """
    rows = []
    for lines in zip(*runs, strict=True):
        scores = {}
        for metric in METRICS:
            values = [line["ours"][metric] for line in lines]
            scores[metric] = None if None in values else interval(values)
        first = lines[0]
        rows.append({key: first[key] for key in ("row", "dataset", "paper", "convention")} | {"scores": scores})
    pairs = []
    for (i, a), (j, b) in itertools.combinations(enumerate(rows), 2):
        theirs = None
        if a["paper"]["cc"] is not None and b["paper"]["cc"] is not None:
            theirs = b["paper"]["cc"] - a["paper"]["cc"]
        # The same seed gives the same data and order to both rows, so differences are taken seed by seed.
        mean, half = interval([lines[j]["ours"]["cc"] - lines[i]["ours"]["cc"] for lines in runs])
        pairs.append(
            {
                "rows": [a["row"], b["row"]],
                "paper": theirs,
                "ours": mean,
                "half_width": half,
                "clear": abs(mean) > half,
                "as_paper": None if not theirs else (mean > 0) == (theirs > 0),
            }
        )
    return {"title": title, "seeds": len(runs), "rows": rows, "pairs": pairs}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t."""
    half = T[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), half


def markdown(result: Mapping[str, Any]) -> str:
    """The tables for people."""
    text: list[str] = []
    for name, table in result.items():
        text += [f"| {name}: {table['title']} | CC | NSS | AUC-J | SIM | the paper's CC |", "|---|---|---|---|---|---|"]
        for row in table["rows"]:
            cells = [_with_interval(row["scores"][metric]) for metric in METRICS]
            stated = row["paper"]["cc"]
            text.append(f"| {row['row']} | {' | '.join(cells)} | {'-' if stated is None else f'{stated:.3f}'} |")
        text.append("")
        for pair in table["pairs"]:
            first, second = pair["rows"]
            order = {None: "the paper does not say", True: "as in the paper", False: "not as in the paper"}
            clear = "" if pair["clear"] else ", and the interval holds 0"
            difference = f"{pair['ours']:+.3f} ± {pair['half_width']:.3f}"
            text.append(f"- {second} less {first}: CC {difference}, {order[pair['as_paper']]}{clear}")
        text.append("")
    first = next(iter(result.values()))
    text.append(f"{first['seeds']} seeds, means ± 95 % intervals; convention `{first['rows'][0]['convention']}`")
    return "\n".join(text) + "\n"


def _with_interval(value: tuple[float, float] | None) -> str:
    return "-" if value is None else f"{value[0]:.3f} ± {value[1]:.3f}"
