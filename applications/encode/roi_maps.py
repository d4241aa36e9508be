"""Regions as side-car files for encoders that read them.

**SVT-AV1** (`SvtAv1EncApp --roi-map-file FILE`; `parse_roi_map_file` in Source/App/EncApp/EbAppConfig.c): text, a
line for each frame from which a new map holds. It has the frame's number, then an offset for each block of 64x64
pixels in raster order, from -255 to 255, in steps of AV1's quantiser index. A map has at most 8 different offsets.

**kvazaar** (`kvazaar --roi FILE`; its help, src/cli.c, version 2): for each frame the width and height of a map, then
an offset in QP for each of its cells in raster order. The map is scaled to the picture. Text, or, if the name ends in
.bin, 32-bit integers for the two sides and signed bytes for the offsets.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from dtfsal.applications.encode.regions import Regions, RegionTrack, offset_grid
from dtfsal.runtime.media.writer import atomic_output

RoiFormat = Literal["svtav1", "kvazaar"]
FORMATS: tuple[RoiFormat, ...] = ("svtav1", "kvazaar")
BLOCK = 64  # pixels of a side, of both
# AV1's index runs to 255 where the QP of H.264 runs to 51.
INDEX_PER_QP = 5


def write_roi_map(
    path: str | os.PathLike[str], track: RegionTrack, times: Sequence[float], roi_format: RoiFormat
) -> None:
    """Write the regions of a video.

    Args:
        path: of the file.
        track: the regions.
        times: of the video's frames, in seconds.
        roi_format: whose file it is.

    Raises:
        OutputError: it cannot be written.
    """
    columns, rows = -(-track.width // BLOCK), -(-track.height // BLOCK)
    with atomic_output(path) as partial, partial.open("wb") as file:
        for index, regions, is_new in _by_frame(track, times):
            grid = offset_grid(regions, columns, rows, BLOCK)
            if roi_format == "svtav1":
                if is_new:
                    offsets = np.rint(grid * INDEX_PER_QP).astype(int).ravel().tolist()
                    file.write(f"{index} {' '.join(map(str, offsets))}\n".encode())
            elif Path(path).suffix.lower() == ".bin":
                file.write(np.array([columns, rows], "<i4").tobytes() + np.rint(grid).astype(np.int8).tobytes())
            else:
                lines = (" ".join(map(str, row)) for row in np.rint(grid).astype(int).tolist())
                file.write(f"{columns} {rows}\n{chr(10).join(lines)}\n".encode())


def _by_frame(track: RegionTrack, times: Sequence[float]) -> Iterator[tuple[int, Regions, bool]]:
    """Each frame's number and regions, and whether they begin to hold there."""
    sets = iter(track)
    following: tuple[float, Regions] | None = next(sets)
    regions: Regions = ()
    for index, time in enumerate(times):
        is_new = False
        while following is not None and following[0] <= time:
            regions, is_new = following[1], True
            following = next(sets, None)
        yield index, regions, is_new
