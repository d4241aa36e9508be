"""`dtfsal check` without the command line: all splits and folds of a dataset, each file once."""

import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dtfsal.engines.errors import UsageError
from dtfsal.training.data.check_frame_folders import check_frame_folders
from dtfsal.training.data.check_prepared_videos import check_prepared_videos
from dtfsal.training.data.datasets import Dataset
from dtfsal.training.data.faults import Begin, Fault, SplitReport, no_progress
from dtfsal.training.data.frame_folders import FrameFolders
from dtfsal.training.data.layouts import Split, VideoLists, check_split
from dtfsal.training.data.prepared_videos import read_table
from dtfsal.training.data.stills import DataError


def check_dataset(
    dataset: Dataset,
    root: Path,
    *,
    split: Split | None = None,
    fold: int | None = None,
    quick: bool = False,
    workers: int | None = None,
    begin: Begin = no_progress,
) -> list[SplitReport]:
    """Look at every file of a dataset and name those that are missing, cannot be read, or do not fit the others.

    A file that several folds share is decoded once, and its faults are told once.

    Args:
        dataset: which.
        root: its folder.
        split: only this one; None for all that are there.
        fold: only this one; None for all.
        quick: only see which files are there.
        workers: threads that decode pictures; None for one for each core.
        begin: told of progress.

    Returns:
        A report for each split and fold.

    Raises:
        UsageError: there is no such split or fold.
        DataError: nothing of the dataset is there.
    """
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; give the folder that holds {dataset.title}")
    if split is not None and split not in dataset.splits:
        raise UsageError(f"{dataset.title} has no split {split!r}; it has {', '.join(dataset.splits)}")
    reports: list[SplitReport] = []
    told: set[Fault] = set()
    known: set[str] = set()
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for report in _reports(dataset, root, split, fold, quick, pool, known, begin):
            fresh = tuple(fault for fault in dict.fromkeys(report.faults) if fault not in told)
            told.update(fresh)
            known.update(report.videos)
            reports.append(dataclasses.replace(report, faults=fresh))
    return reports


def _reports(
    dataset: Dataset,
    root: Path,
    split: Split | None,
    fold: int | None,
    quick: bool,
    pool: ThreadPoolExecutor,
    known: set[str],
    begin: Begin,
) -> Iterator[SplitReport]:
    if not isinstance(dataset, FrameFolders):
        if fold is not None:
            raise UsageError(f"{dataset.title} have no folds; leave the fold out")
        table = read_table(root)
        for one in dataset.splits if split is None else (split,):
            items = [dataset.item(root, entry, table) for entry in table.videos if entry.split == one]
            if split is not None or items:
                yield check_prepared_videos(items, one, quick=quick, known=known, begin=begin)
        return
    if fold is not None:
        check_split(dataset.title, dataset.videos, dataset.splits[0], fold)
    absent: list[tuple[Split, int | None, DataError]] = []
    found = False
    for one_fold in (fold,) if fold is not None or not dataset.folds else dataset.folds:
        for one in _distinct_splits(dataset) if split is None else (split,):
            try:
                _check_there(dataset, root)
                report = check_frame_folders(
                    dataset, root, one, one_fold, quick=quick, pool=pool, known=known, begin=begin
                )
            except DataError as error:
                absent.append((one, one_fold, error))
                continue
            found = True
            yield report
    if not found:
        raise absent[0][2]
    for one, one_fold, reason in absent:
        if one in dataset.annotated:  # what has no maps is of use for predictions only, and few have it
            yield SplitReport(one, one_fold, (), 0, 0, (Fault("missing-video", "", root, str(reason)),))


def _distinct_splits(dataset: FrameFolders) -> list[Split]:
    """The splits, without those that are others under another name."""
    source = dataset.videos
    places: dict[str, Split] = {}
    for split in dataset.splits:  # "test" comes after "validation" and takes its place where the two are one
        places[source.names[split] if isinstance(source, VideoLists) else source.folders[split]] = split
    return list(places.values())


def _check_there(dataset: FrameFolders, root: Path) -> None:
    """See that any list of a dataset with lists is there: the six sets share a folder of lists.

    Raises:
        DataError: none is.
    """
    source = dataset.videos
    if isinstance(source, VideoLists):
        folds: tuple[int | None, ...] = source.folds or (None,)
        paths = [source.list_file(root, split, fold) for fold in folds for split in source.splits]
        if not any(path.is_file() for path in paths):
            raise DataError(f"{root} holds no list of {dataset.title}, such as {paths[0]}; see docs/how-to/datasets.md")
