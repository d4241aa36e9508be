"""Side-car files, read back by readers that were written from the encoders' own words."""

import numpy as np
import pytest

from dtfsal.applications.encode.regions import RegionTrack
from dtfsal.applications.encode.roi_maps import write_roi_map

# 150x100 pixels: 3x2 blocks of 64. Left half finer, then the right half from 0.5 s on.
TRACK = RegionTrack(
    150,
    100,
    np.array([0.0, 0.5]),
    np.array([2, 2], np.int16),
    np.array([[0, 0, 75, 100, -24], [0, 0, 150, 100, 10], [75, 0, 150, 100, -8], [0, 0, 150, 100, 0]], np.int16),
)
TIMES = [0.0, 0.25, 0.49, 0.52, 0.75]
FIRST = [[-6, 2.5, 2.5], [-6, 2.5, 2.5]]
SECOND = [[0, -2, -2], [0, -2, -2]]


def test_svtav1_has_a_line_for_each_change(tmp_path):
    """Split by lines and blanks, as the encoder's parser does: a number, then one offset for each block."""
    write_roi_map(tmp_path / "roi.txt", TRACK, TIMES, "svtav1")
    events = [[int(word) for word in line.split()] for line in (tmp_path / "roi.txt").read_text().splitlines()]
    assert [event[0] for event in events] == [0, 3]
    for event, grid in zip(events, (FIRST, SECOND), strict=True):
        np.testing.assert_allclose(event[1:], 5 * np.array(grid).ravel(), atol=0.5)
        assert len(set(event[1:])) <= 8
        assert all(-255 <= offset <= 255 for offset in event[1:])


def read_kvazaar_text(text):
    words = iter(text.split())
    while (width := next(words, None)) is not None:
        height = int(next(words))
        yield np.array([int(next(words)) for _ in range(int(width) * height)]).reshape(height, int(width))


def read_kvazaar_binary(data):
    while data:
        width, height = np.frombuffer(data[:8], "<i4")
        size = int(width * height)
        yield np.frombuffer(data[8 : 8 + size], np.int8).reshape(height, width)
        data = data[8 + size :]


@pytest.mark.parametrize("name", ["roi.txt", "roi.bin"])
def test_kvazaar_has_a_map_for_each_frame(tmp_path, name):
    write_roi_map(tmp_path / name, TRACK, TIMES, "kvazaar")
    data = (tmp_path / name).read_bytes()
    maps = list(read_kvazaar_text(data.decode()) if name.endswith("txt") else read_kvazaar_binary(data))
    assert len(maps) == 5
    for found, grid in zip(maps, [FIRST] * 3 + [SECOND] * 2, strict=True):
        np.testing.assert_allclose(found, grid, atol=0.5)
