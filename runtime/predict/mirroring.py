"""Frames mirrored on their way to the engine, and maps mirrored back."""

import contextlib
import dataclasses
from collections.abc import Generator, Iterable, Iterator

import numpy as np

from dtfsal.runtime.media.video import Frame, PictureFrame
from dtfsal.runtime.predict.prediction import SaliencyFrame


def mirrored_frames(frames: Iterable[Frame], *, pictures: bool) -> Iterator[Frame | PictureFrame]:
    """Each frame mirrored left to right.

    Args:
        frames: of the model's size.
        pictures: give them as pictures, for an engine that prepares frames itself.
    """
    for frame in frames:
        rgb = np.ascontiguousarray(frame.rgb[:, ::-1])
        kind = PictureFrame if pictures else Frame
        yield kind(frame.index, frame.time_seconds, rgb)


def mirrored_maps(
    frames: Generator[tuple[SaliencyFrame, bool], None, None],
) -> Generator[tuple[SaliencyFrame, bool], None, None]:
    """Each map mirrored left to right; closing this closes where they come from."""
    with contextlib.closing(frames):
        for frame, computed in frames:
            saliency_map = np.ascontiguousarray(frame.saliency_map[:, ::-1])
            yield dataclasses.replace(frame, saliency_map=saliency_map), computed
