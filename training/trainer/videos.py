"""The videos that an experiment trains on, and those that choose its checkpoint: never those that are reported on."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from dtfsal.engines.errors import UsageError
from dtfsal.training.data.datasets import dataset_named, open_dataset
from dtfsal.training.data.video_item import VideoItem
from dtfsal.training.trainer.experiment import DataChoice

HELD_OUT = 0.1


def experiment_videos(data: DataChoice) -> tuple[Sequence[VideoItem], Sequence[VideoItem]]:
    """The training videos, and those for the validation after each epoch.

    DHF1K's validation split is the one that papers report on, since its test maps are not public; the audio-visual sets
    and UCF-Sports have none but their test split. There a part of the training split is held out.

    Raises:
        UsageError: there is no such data set, split or fold, or too few videos to hold one out.
        DataError: nothing of the data set is there, or a video that it names is not.
    """
    root = Path(data.root)
    items = open_dataset(data.dataset, root, "train", fold=data.fold)
    share = data.held_out
    if share is None:
        share = 0.0 if dataset_named(data.dataset).own_validation else HELD_OUT
    if not share:
        own = open_dataset(data.dataset, root, "validation", fold=data.fold)
        return items, own[: data.validation_videos]
    names = held_out_names([item.name for item in items], share)
    held = [item for item in items if item.name in names]
    return [item for item in items if item.name not in names], held[: data.validation_videos]


def held_out_names(names: Sequence[str], share: float) -> set[str]:
    """Which of the names are held out: one at least, by a hash, the same on every machine and in any order.

    Raises:
        UsageError: nothing would be left to train on.
    """
    count = max(1, round(share * len(names)))
    if count >= len(names):
        raise UsageError(
            f"of {len(names)} training videos none is left when {count} choose the checkpoint; set data.held_out to 0 "
            "to choose it on the data set's own validation split"
        )
    return set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])
