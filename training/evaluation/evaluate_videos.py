"""How well a model predicts gaze on videos: each frame's map as the runtime makes it, against the data set's own.

A map is brought to the size of the frame's ground-truth map, and scored there, with fixations in its pixels. The scores
of a video are the means over its scored frames, those of a set the means over its videos. What other videos' gaze says
is scored beside the model ("gaze prior"), is what information is gained over, and gives shuffled AUC its negatives.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from dtfsal.engines.errors import UsageError
from dtfsal.training.data.stills import DataError, Points
from dtfsal.training.data.training_clips import evaluation_windows
from dtfsal.training.data.video_item import Floats, VideoItem
from dtfsal.training.evaluation.conventions import OURS, convention_named, score_by
from dtfsal.training.evaluation.evaluate import (
    GAZE_PRIOR,
    MODEL,
    MUTED,
    Evaluation,
    Example,
    Row,
    mean_density,
    resized_map,
)
from dtfsal.training.evaluation.metrics import Scores, mean_scores
from dtfsal.training.model.network import DTFSal

PRIOR_FRAMES = 16  # of each video, for what other videos say
NEGATIVES = 2000  # other videos' fixations that a frame is compared with, at most
UNIFORM_SHARE = 0.01  # of the prior, so that no place has no chance


@dataclasses.dataclass(frozen=True)
class _Gaze:
    """What a video tells others: a mean map, and fixations as shares of the frame."""

    density: Floats | None
    places: npt.NDArray[np.float64]  # (n, 2), x and y in 0..1


def check_fixations(items: Sequence[VideoItem]) -> None:
    """See that videos with maps have fixations, too, which NSS and AUC need; a few frames of each are looked at.

    Raises:
        DataError: they have not.
    """
    without = []
    for item in items:
        numbers = {0, item.frame_count // 2, item.frame_count - 1}
        mapped = [n for n in numbers if (density := item.density(n)) is not None and density.any()]
        if mapped and all(item.fixations(number) is None for number in mapped):
            without.append(item.name)
    if without:
        others = f", nor have {len(without) - 1} others" if len(without) > 1 else ""
        raise DataError(
            f"{items[0].dataset}'s {without[0]} has maps and no fixations, which NSS and AUC need{others}; restore "
            "them, or score without (--without-fixations)"
        )


@torch.no_grad()
def evaluate_videos(
    model: DTFSal,
    items: Sequence[VideoItem],
    *,
    every: int = 1,
    seed: int = 0,
    examples: int = 6,
    convention: str = OURS,
    device: torch.device | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Score a model on videos, with their sound and without.

    Args:
        model: in evaluation mode.
        items: videos that it was not trained on.
        every: score every so many frames, and the last; those without a map are not scored.
        seed: of the fixations that shuffled AUC takes.
        examples: how many frames to keep for looking at.
        convention: how scores are computed; see `dtfsal.training.evaluation.conventions`.
        device: where the model is; None for the CPU.
        progress: called after each video.

    Raises:
        UsageError: `every` is not positive, or there is no such convention.
        DataError: a file is missing or damaged.
    """
    if every < 1:
        raise UsageError(f"every must be at least 1, not {every}")
    smooth = convention_named(convention).smooth
    rng = np.random.default_rng(seed)
    gaze = [_gaze_of(item) for item in items]
    rows: list[Row] = []
    kept: list[Example] = []
    shown_every = max(1, -(-len(items) // max(examples, 1)))
    for number, item in enumerate(items):
        others = [other for index, other in enumerate(gaze) if index != number]
        prior = _prior(others)
        places = np.concatenate([other.places for other in others]) if others else np.empty((0, 2))
        scores: dict[str, list[Scores]] = {}
        frames = _predicted(model, item, every, device or torch.device("cpu"))
        middle = item.frame_count // 2
        shown: Example | None = None
        shown_inputs: list[torch.Tensor] = []
        for index, inputs, maps in frames:
            density = item.density(index)
            if density is None or not density.any():
                continue
            height, width = density.shape
            scaled = {name: resized_map(one, height, width, smooth=smooth) for name, one in maps.items()}
            baseline = None
            if prior is not None:
                baseline = resized_map(prior, height, width)
                scaled[GAZE_PRIOR] = baseline
            points = _scaled(item.fixations(index), item.size, (height, width))
            negatives = None
            if len(places):
                chosen = places[rng.choice(len(places), min(NEGATIVES, len(places)), replace=False)]
                negatives = np.floor(chosen * (width, height))
            for name, saliency_map in scaled.items():
                one = score_by(
                    convention, saliency_map, points, density, other_fixations=negatives, baseline_density=baseline
                )
                scores.setdefault(name, []).append(one)
            if examples and number % shown_every == 0 and (shown is None or index <= middle):
                shown = Example(f"{item.name}, frame {index}", item.frame(index), density, scaled)
                shown_inputs = inputs
        rows += [Row(item.name, item.dataset, name, mean_scores(found)) for name, found in scores.items()]
        if shown is not None:
            kept.append(_of_one_size(dataclasses.replace(shown, maps=shown.maps | _side_maps(model, shown_inputs))))
        progress()
    return Evaluation(rows, kept[:examples])


def _predicted(
    model: DTFSal, item: VideoItem, every: int, device: torch.device
) -> Iterator[tuple[int, list[torch.Tensor], dict[str, Floats]]]:
    """Scored frames' numbers, inputs, and maps at the model's size: with the sound and, if there is some, muted."""
    config = model.config
    for index, inputs in evaluation_windows(item, config.clip, config.audio, stride=every):
        video = torch.from_numpy(inputs["video"])[None].to(device)
        audio = None if config.audio is None else torch.from_numpy(inputs["audio"])[None].to(device)
        given = [video] if audio is None else [video, audio]
        maps = {MODEL: model(*given)}
        if audio is not None and item.has_sound:
            maps[MUTED] = model(video, None)
        yield index, given, {name: one[0, 0].float().cpu().numpy() for name, one in maps.items()}


def _side_maps(model: DTFSal, inputs: list[torch.Tensor]) -> dict[str, Floats]:
    """What each decoder alone says (eq. 15), as the paper's Figure 7 shows it; nothing of a model with one decoder."""
    if model.config.decoder != "multi":
        return {}
    _, side_maps = model(*inputs, return_side_maps=True)
    return {f"decoder {level}": one.float().cpu().numpy() for level, one in enumerate(side_maps[0], 1)}


def _gaze_of(item: VideoItem) -> _Gaze:
    numbers = np.unique(np.linspace(0, item.frame_count - 1, PRIOR_FRAMES).round().astype(int)).tolist()
    densities = [density for n in numbers if (density := item.density(n)) is not None and density.any()]
    found = [points for n in numbers if (points := item.fixations(n)) is not None and len(points)]
    height, width = item.size
    places = (np.concatenate(found).astype(np.float64) + 0.5) / (width, height) if found else np.empty((0, 2))
    return _Gaze(mean_density([d / d.sum() for d in densities]) if densities else None, places)


def _prior(others: Sequence[_Gaze]) -> Floats | None:
    """The mean of other videos' maps, and a little everywhere, so that every place has some chance."""
    densities = [other.density for other in others if other.density is not None]
    if not densities:
        return None
    mean = np.mean(densities, axis=0)
    return np.asarray((1 - UNIFORM_SHARE) * mean / mean.sum() + UNIFORM_SHARE / mean.size, np.float32)


def _scaled(points: Points | None, size: tuple[int, int], target: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Positions in pixels of a frame as positions in pixels of its map, (n, 2)."""
    if points is None or not len(points):
        return np.empty((0, 2))
    return (points.astype(np.float64) + 0.5) * (target[1] / size[1], target[0] / size[0]) - 0.5


def _of_one_size(example: Example) -> Example:
    """The maps at the frame's size, as a page shows them."""
    height, width = example.frame.shape[:2]
    return dataclasses.replace(
        example,
        density=resized_map(example.density, height, width),
        maps={name: resized_map(saliency_map, height, width) for name, saliency_map in example.maps.items()},
    )
