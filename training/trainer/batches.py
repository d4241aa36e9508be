"""Which windows each process takes at each step: a function of the seed, the epoch and the processes alone."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from dtfsal.engines.errors import UsageError
from dtfsal.training.data.training_clips import TrainingClips


@dataclasses.dataclass(frozen=True)
class Share:
    """A process among others.

    Attributes:
        rank: its number, from 0.
        processes: how many there are.
    """

    rank: int = 0
    processes: int = 1


def epoch_batches(
    count: int, seed: int, epoch: int, *, batch_size: int, accumulate: int, share: Share
) -> list[list[list[int]]]:
    """Steps of an epoch, each of `accumulate` batches of this process.

    Every window comes once at most; those that would not fill a step are left out, others in each epoch. The windows of
    a step are the same for any number of processes whose batches together are as large.

    Args:
        count: windows in an epoch.
        seed: of the order.
        epoch: from 0.
        batch_size: windows of a batch.
        accumulate: batches of a step.
        share: which process.

    Raises:
        UsageError: there are too few windows for a step.
    """
    together = batch_size * share.processes
    steps = count // (together * accumulate)
    if not steps:
        raise UsageError(
            f"an epoch has {count} windows, and a step takes {together * accumulate}; use smaller batches, or more "
            "windows of each video (data.windows_per_video)"
        )
    order = np.random.default_rng((seed, epoch)).permutation(count)[: steps * accumulate * together]
    mine = order.reshape(steps, accumulate, batch_size, share.processes)[..., share.rank]
    return [[batch.tolist() for batch in step] for step in mine]


def loaded(
    clips: TrainingClips, batches: Sequence[Sequence[int]], *, workers: int, pin: bool
) -> Iterator[dict[str, torch.Tensor]]:
    """The batches as tensors, read ahead by worker processes.

    Args:
        clips: in the epoch that the batches are of; workers are started again, since they see it as it is now.
        batches: window numbers of each.
        workers: processes; 0 to read here.
        pin: into memory that a GPU can copy from by itself.
    """
    options: dict[str, Any] = {"prefetch_factor": 2} if workers else {}
    # A generator of its own: PyTorch's would be moved on by each epoch's start, and so by each resumption.
    options["generator"] = torch.Generator().manual_seed(clips.seed)
    loader: DataLoader[Any] = DataLoader(
        clips,  # type: ignore[arg-type]  # a sequence of samples, which is what a map-style dataset is
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=workers,
        pin_memory=pin,
        **options,
    )
    yield from loader
