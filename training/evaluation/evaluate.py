"""How well a model predicts where people look: photographs it has never seen, and scenes whose truth is known.

Each map is scored at the size of the picture it belongs to, against all fixations on a photograph, or against all
observers of a frame. Scores of a clip are means over its scored frames, those of a set means over its items.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

from dtfsal.runtime.frontend.preprocess import resize_frame
from dtfsal.training.data.clips import Floats, GazeClip, clip_windows, mel_slices
from dtfsal.training.data.density import fixation_density
from dtfsal.training.data.stills import Rgb, Still
from dtfsal.training.evaluation.baselines import frame_difference, static_saliency
from dtfsal.training.evaluation.bootstrap import difference_interval, mean_interval
from dtfsal.training.evaluation.conventions import OURS, convention_named, score_by
from dtfsal.training.evaluation.encoded_clip import EncodedClip, encode_clip, predict_windows, window_batch
from dtfsal.training.evaluation.metrics import Scores, mean_scores
from dtfsal.training.model.frames import frame_tensor
from dtfsal.training.model.network import DTFSal

WINDOWS_AT_ONCE = 4
MODEL, MUTED, SWAPPED, ANY_SOUND = "model", "model, muted", "model, swapped sound", "model, any sound"
FRAME_DIFFERENCE, GAZE_PRIOR, TRUTH = "frame difference", "gaze prior", "the density itself"
CENTRE, HALF, MODEL_ON_HALF = "centre", "half of the observers", "model, on the other half"
CENTRE_SPREAD = 0.2  # of the frame's width and height
HALVINGS = 5
WORST = 10  # of a group, shown by themselves


@dataclasses.dataclass(frozen=True)
class Row:
    """The scores of one predictor on one photograph or clip.

    Attributes:
        item: the photograph or clip.
        group: what it belongs to, such as a kind of scene.
        predictor: the model with a certain sound, or a baseline.
        scores: means over the item's frames.
    """

    item: str
    group: str
    predictor: str
    scores: Scores


@dataclasses.dataclass(frozen=True)
class Example:
    """A line of the picture page: a frame (H, W, 3), where people looked, (H, W), and what predictors say, (H, W)."""

    title: str
    frame: Rgb
    density: Floats
    maps: dict[str, Floats]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was scored, and some of it to look at.

    Attributes:
        rows: the scores.
        examples: some items, evenly apart.
        worst: the items on which the model has the lowest CC, the lowest first.
    """

    rows: list[Row]
    examples: list[Example]
    worst: list[Example] = dataclasses.field(default_factory=list)

    def __add__(self, other: "Evaluation") -> "Evaluation":
        """Both, one after the other."""
        return Evaluation(self.rows + other.rows, self.examples + other.examples, self.worst + other.worst)

    def summary(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """Mean scores by group and predictor; the group "all" holds every item."""
        result: dict[str, dict[str, dict[str, float | None]]] = {}
        for group in ["all", *dict.fromkeys(row.group for row in self.rows)]:
            rows = [row for row in self.rows if group in ("all", row.group)]
            result[group] = {
                predictor: dataclasses.asdict(mean_scores([row.scores for row in rows if row.predictor == predictor]))
                for predictor in dict.fromkeys(row.predictor for row in rows)
            }
        return result

    def intervals(self) -> dict[str, dict[str, dict[str, tuple[float, float]]]]:
        """95 % intervals of the means by group, predictor and metric, bootstrapped over items."""
        return {
            group: {
                predictor: {metric: mean_interval(list(values.values())) for metric, values in by_metric.items()}
                for predictor, by_metric in predictors.items()
            }
            for group, predictors in self._by_item().items()
        }

    def gains(self) -> dict[str, dict[str, dict[str, tuple[float, float, float]]]]:
        """By group, other predictor and metric: what the model has more on the same items, with interval."""
        return {
            group: {
                predictor: {
                    metric: difference_interval(predictors[MODEL][metric], values)
                    for metric, values in by_metric.items()
                }
                for predictor, by_metric in predictors.items()
                if predictor != MODEL
            }
            for group, predictors in self._by_item().items()
            if MODEL in predictors
        }

    def _by_item(self) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
        """Scores by group, predictor, metric and item; the group "all" holds every item."""
        result: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
        for row in self.rows:
            for group in ("all", row.group):
                by_metric = result.setdefault(group, {}).setdefault(row.predictor, {})
                for metric, value in dataclasses.asdict(row.scores).items():
                    if value is not None:
                        by_metric.setdefault(metric, {})[f"{row.group}/{row.item}"] = value
        return result


@torch.no_grad()
def evaluate_stills(
    model: DTFSal,
    stills: Sequence[Still],
    *,
    group: str = "photographs",
    prior: Floats | None = None,
    sounds: Sequence[Floats] = (),
    examples: int = 6,
    convention: str = OURS,
    progress: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Score a per-frame model on photographs, each as a clip in which nothing moves.

    Where it is known who made each fixation, half of the observers also predict the other half, as many times over:
    their density is a map, and the others' gaze is the truth. The model is scored on the same halves, so that the two
    can be compared.

    Args:
        model: in evaluation mode.
        stills: photographs that it was not trained on.
        group: what they belong to, such as their set.
        prior: (h, w) mean gaze on other photographs, of any size, scored as "gaze prior".
        sounds: (n,) samples each, played beside the photographs in turn: they mean nothing there.
        examples: how many to keep for looking at.
        convention: how scores are computed; see `dtfsal.training.evaluation.conventions`.
        progress: called after each photograph.
    """
    rows, kept, worst = [], [], _Worst()
    smooth = convention_named(convention).smooth
    computed = static_saliency()
    for number, still in enumerate(stills):
        rgb = still.read()
        height, width = rgb.shape[:2]
        maps = {MODEL: predict_photograph(model, rgb, smooth=smooth)}
        if sounds:
            maps[ANY_SOUND] = predict_photograph(model, rgb, sounds[number % len(sounds)], smooth=smooth)
        maps |= {name: compute(rgb) for name, compute in computed.items()}
        if prior is not None:
            maps[GAZE_PRIOR] = resized_map(prior, height, width, smooth=smooth)
        density = still.density(height, width)
        rows += [
            Row(still.name, group, name, score_by(convention, m, still.fixations, density)) for name, m in maps.items()
        ]
        example = Example(still.name, rgb, density.astype(np.float32), maps)
        worst.offer(rows[-len(maps)].scores, example)
        halves = half_scores(still, maps[MODEL], np.random.default_rng(number), convention)
        rows += [Row(still.name, group, name, scores) for name, scores in halves.items()]
        if _is_example(number, len(stills), examples):
            kept.append(example)
        progress()
    return Evaluation(rows, kept, worst.examples())


def half_scores(
    still: Still, saliency_map: Floats, rng: np.random.Generator, convention: str = OURS
) -> dict[str, Scores]:
    """How well half of the observers, and a map, predict the other half: means over random halves.

    No correction for the number of observers is made, such as Spearman's and Brown's. Nothing where fewer than two
    observers are known.

    Args:
        still: a photograph.
        saliency_map: (H, W) of its size.
        rng: chooses the halves.
        convention: how scores are computed.
    """
    observers = np.unique(still.observers)
    if len(observers) < 2:
        return {}
    height, width = saliency_map.shape
    of_half: list[Scores] = []
    of_map: list[Scores] = []
    for _ in range(HALVINGS):
        chosen = np.isin(still.observers, rng.permutation(observers)[: len(observers) // 2])
        halves = [dataclasses.replace(still, fixations=still.fixations[part]) for part in (chosen, ~chosen)]
        densities = [half.density(height, width) for half in halves]
        for seen, predicted in ((1, 0), (0, 1)):
            of_half.append(score_by(convention, densities[predicted], halves[seen].fixations, densities[seen]))
            of_map.append(score_by(convention, saliency_map, halves[seen].fixations, densities[seen]))
    return {HALF: mean_scores(of_half), MODEL_ON_HALF: mean_scores(of_map)}


@torch.no_grad()
def predict_photograph(model: DTFSal, rgb: Rgb, samples: Floats | None = None, *, smooth: bool = False) -> Floats:
    """The map of a photograph (H, W, 3) shown as a clip, (H, W); `samples` sound meanwhile. See `resized_map`."""
    spec, audio = model.config.clip, model.config.audio
    height, width = rgb.shape[:2]
    frame = resize_frame(rgb, spec.height, spec.width)
    features = [level.expand(spec.frames, -1, -1, -1) for level in model.encode_frames(frame_tensor(frame[None], spec))]
    slices = None
    if audio is not None:
        middle = clip_windows(2 * spec.frames, spec.frame_rate_hz, spec, audio)[spec.frames].slices
        slices = torch.from_numpy(mel_slices(samples, middle, audio))[None]
    return resized_map(predict_windows(model, features, slices)[0, 0].numpy(), height, width, smooth=smooth)


@torch.no_grad()
def evaluate_clips(
    model: DTFSal,
    clips: Sequence[tuple[str, str, GazeClip]],
    *,
    sigma: float,
    every: int = 4,
    prior: Floats | None = None,
    examples: int = 6,
    convention: str = OURS,
    progress: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Score a per-frame model on clips with their own sound, muted, and with another clip's sound.

    The density that the gaze was drawn from is scored, too: no predictor can be expected to do better, since so few
    observers look at a frame.

    Args:
        model: in evaluation mode.
        clips: name, group and clip; clips of a group swap their sounds in a ring.
        sigma: of the gaussian around each observer's position, in pixels of the frame.
        every: score every so many frames.
        prior: (h, w) mean gaze on other clips, scored as "gaze prior".
        examples: how many frames to keep for looking at.
        convention: how scores are computed; see `dtfsal.training.evaluation.conventions`.
        progress: called after each clip.
    """
    rows, kept, worst = [], [], _Worst()
    computed = static_saliency()
    for number, (name, group, clip) in enumerate(clips):
        frames = clip.frames
        encoded = encode_clip(model, clip)
        targets = list(range(every, len(frames), every))
        sounds: dict[str, EncodedClip] = {MODEL: encoded}
        if model.config.audio is not None:
            others = [other for other_name, its_group, other in clips if its_group == group and other_name != name]
            sounds[MUTED] = encoded.with_sound(None, model)
            if others:
                sounds[SWAPPED] = encoded.with_sound(others[number % len(others)].samples, model)
        maps = {predictor: _predict(model, variant, targets) for predictor, variant in sounds.items()}
        maps[FRAME_DIFFERENCE] = [frame_difference(frames[t - 1], frames[t]) for t in targets]
        maps |= {key: [compute(frames[t]) for t in targets] for key, compute in computed.items()}
        maps[CENTRE] = [centre_gaussian(*frames.shape[1:3])] * len(targets)
        if prior is not None:
            maps[GAZE_PRIOR] = [resized_map(prior, *frames.shape[1:3])] * len(targets)
        maps[TRUTH] = [clip.density(t) for t in targets]
        gaze = [clip.fixations(t) for t in targets]
        densities = [fixation_density(points, frames.shape[1], frames.shape[2], sigma) for points in gaze]
        for predictor, predicted in maps.items():
            scores = [score_by(convention, *one) for one in zip(predicted, gaze, densities, strict=True)]
            rows.append(Row(name, group, predictor, mean_scores(scores)))
        middle = len(targets) // 2
        shown = {predictor: predicted[middle] for predictor, predicted in maps.items()}
        density = densities[middle].astype(np.float32)
        example = Example(f"{name} ({group})", frames[targets[middle]], density, shown)
        worst.offer(rows[-len(maps)].scores, example)
        if _is_example(number, len(clips), examples):
            kept.append(example)
        progress()
    return Evaluation(rows, kept, worst.examples())


class _Worst:
    """The examples with the lowest CC of those that were offered; no more than `WORST` are held."""

    def __init__(self) -> None:
        self._held: list[tuple[float, Example]] = []

    def offer(self, scores: Scores, example: Example) -> None:
        if np.isnan(scores.cc):
            return
        titled = dataclasses.replace(example, title=f"{example.title}, CC {scores.cc:.2f}")
        self._held = sorted([*self._held, (scores.cc, titled)], key=lambda held: held[0])[:WORST]

    def examples(self) -> list[Example]:
        return [example for _, example in self._held]


def mean_density(densities: Sequence[npt.NDArray[np.floating]], height: int = 120, width: int = 160) -> Floats:
    """The mean of densities of any size, (height, width): a gaze prior."""
    return np.mean([resized_map(np.asarray(density, np.float32), height, width) for density in densities], axis=0)


def centre_gaussian(height: int, width: int) -> Floats:
    """(height, width), largest in the middle."""
    down, across = (np.arange(size) - (size - 1) / 2 for size in (height, width))
    down, across = down / (CENTRE_SPREAD * height), across / (CENTRE_SPREAD * width)
    return np.exp(-0.5 * (down[:, None] ** 2 + across**2)).astype(np.float32)


def _predict(model: DTFSal, encoded: EncodedClip, targets: Sequence[int]) -> list[Floats]:
    maps: list[Floats] = []
    for start in range(0, len(targets), WINDOWS_AT_ONCE):
        batch = window_batch([(encoded, target) for target in targets[start : start + WINDOWS_AT_ONCE]])
        maps += list(predict_windows(model, *batch)[:, 0].numpy())
    return maps


def _is_example(number: int, count: int, examples: int) -> bool:
    """Whether to keep the item: so many, evenly apart, at an odd distance since kinds of scenes take turns."""
    if examples < 1:
        return False
    apart = max(1, count // examples - (count // examples + 1) % 2)
    return number % apart == 0 and number // apart < examples


def resized_map(values: Floats, height: int, width: int, *, smooth: bool = False) -> Floats:
    """(h, w) -> (height, width), bilinear with half-pixel centres; `smooth`: bicubic, as MATLAB, and cut at 0."""
    if smooth:
        image = Image.fromarray(np.ascontiguousarray(values, np.float32))
        return np.maximum(np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float32), 0)
    tensor = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None]
    resized = F.interpolate(tensor, size=(height, width), mode="bilinear", align_corners=False)
    return np.asarray(resized[0, 0].numpy(), np.float32)
