"""The datasets that models are trained and scored on, by name; docs/how-to/datasets.md says where they come from."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from dtfsal.engines.errors import UsageError
from dtfsal.training.data.frame_folders import FrameFolders
from dtfsal.training.data.layouts import FolderVideos, Layout, NumberedVideos, Split, VideoLists
from dtfsal.training.data.map_videos import MAP_VIDEOS, MapVideos
from dtfsal.training.data.prepared_videos import PreparedVideos
from dtfsal.training.data.stills import DataError
from dtfsal.training.data.video_item import VideoItem

Dataset = FrameFolders | PreparedVideos | MapVideos
ACLNET: Mapping[Split, str] = {"train": "training", "validation": "val", "test": "testing"}


def _beside(folder: str, name: str = "{frame}") -> Layout:
    """Frames, maps and fixation maps in folders beside each other."""
    return Layout(
        frames=f"{folder}/images/{name}",
        maps=(f"{folder}/maps/{name}",),
        fixations=_fixations(folder, name),
    )


def _fixations(folder: str, name: str = "{frame}") -> tuple[str, ...]:
    kinds = ("fixation", "fixations")
    return (
        *(f"{folder}/{kind}/{name}" for kind in kinds),
        *(f"{folder}/{kind}/maps/{name}{suffix}" for kind in kinds for suffix in (".mat", "")),
    )


def _audio_visual(name: str, title: str, folder: str, folds: tuple[int, ...] = (1, 2, 3)) -> FrameFolders:
    """One of the six sets as they are distributed together, with lists of their folds."""
    layout = Layout(
        frames=f"video_frames/{folder}/{{video}}/img_{{frame}}",
        maps=(f"annotations/{folder}/{{video}}/maps/eyeMap_{{frame}}",),
        fixations=(f"annotations/{folder}/{{video}}/fixMap_{{frame}}.mat",),
        sound=f"video_audio/{folder}/{{video}}/{{video}}.wav",
    )
    path = f"fold_lists/{folder}_list_{{split}}" + ("_{fold}" if folds else "") + "_fps.txt"
    # The lists know no validation split; whoever wants one is given the test split, as is the custom.
    names: Mapping[Split, str] = {"train": "train", "validation": "test", "test": "test"}
    return FrameFolders(
        name=name,
        title=title,
        layouts=(layout,),
        videos=VideoLists(path=path, names=names, folds=folds),
        frame_rate_hz=25.0,  # never needed: every line of a list has a rate
    )


DATASETS: Mapping[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        FrameFolders(
            name="dhf1k",
            title="DHF1K",
            layouts=(
                _beside("annotation/{video}"),
                Layout(
                    frames="video/{video}/{frame}",
                    maps=("annotation/{video}/maps/{frame}",),
                    fixations=_fixations("annotation/{video}"),
                ),
                # As DiffSal and SalEMA decode it: frames/1/1.png and maps/1/0001.png.
                Layout(
                    frames="frames/{video}/{frame}",
                    maps=("maps/{video}/{frame}",),
                    fixations=("fixation/{video}/{frame}", "fixations/{video}/{frame}"),
                ),
                _beside("{split}/{video}"),
                dataclasses.replace(_beside("{split}/{video}"), folders=ACLNET),
                _beside("{video}"),
            ),
            videos=NumberedVideos(
                ranges={"train": (1, 600), "validation": (601, 700), "test": (701, 1000)},
                folders={"train": "train", "validation": "val", "test": "test"},
            ),
            frame_rate_hz=30.0,
            annotated=("train", "validation"),
            encoded="video",
        ),
        FrameFolders(
            name="ucf-sports",
            title="UCF-Sports",
            layouts=(_beside("{split}/{video}", "*{frame}"),),
            # There is no validation split; see `_audio_visual`.
            videos=FolderVideos(folders={"train": "training", "validation": "testing", "test": "testing"}),
            # No file states the rate. With any from 20 to 45 Hz windows of a model at 30 Hz hold consecutive frames.
            frame_rate_hz=30.0,
        ),
        _audio_visual("diem", "DIEM", "DIEM", folds=()),
        _audio_visual("avad", "AVAD", "AVAD"),
        _audio_visual("coutrot1", "Coutrot1", "Coutrot_db1"),
        _audio_visual("coutrot2", "Coutrot2", "Coutrot_db2"),
        _audio_visual("summe", "SumMe", "SumMe"),
        _audio_visual("etmd", "ETMD", "ETMD_av"),
        PreparedVideos(),
        *MAP_VIDEOS,
    )
}


def dataset_named(name: str) -> Dataset:
    """A dataset's description.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in DATASETS:
        raise UsageError(f"there is no dataset {name!r}; choose one of {', '.join(DATASETS)}")
    return DATASETS[name]


def open_dataset(name: str, root: Path, split: Split, *, fold: int | None = None) -> Sequence[VideoItem]:
    """The videos of a split, in the dataset's order.

    Args:
        name: one of `DATASETS`.
        root: the folder that holds it.
        split: "train", "validation" or "test".
        fold: of a dataset with folds (`DATASETS[name].folds`), which.

    Raises:
        UsageError: there is no such dataset, split or fold.
        DataError: nothing of it is at `root`, or a video that it names is not.
    """
    dataset = dataset_named(name)
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; give the folder that holds {dataset.title}")
    return dataset.open(root, split, fold)
