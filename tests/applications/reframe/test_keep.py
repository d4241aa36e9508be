"""Lists of boxes, right and wrong."""

import json

import numpy as np
import pytest

from dtfsal.applications.reframe.keep import KeepBox, kept_ranges, read_keep_boxes
from dtfsal.engines.errors import UsageError


def test_boxes_are_read_and_united(tmp_path):
    path = tmp_path / "keep.json"
    path.write_text(json.dumps([{"box": [10, 20, 30, 40], "end": 2}, {"box": [5, 30, 20, 60], "start": 1}]))
    boxes = read_keep_boxes(path)
    assert boxes == (KeepBox((10, 20, 30, 40), 0.0, 2.0), KeepBox((5, 30, 20, 60), 1.0))
    found = kept_ranges(boxes, np.array([0.5, 1.5, 9.0]))
    np.testing.assert_array_equal(found, [[10, 20, 30, 40], [5, 20, 30, 60], [5, 30, 20, 60]])
    assert np.isnan(kept_ranges(boxes[:1], np.array([3.0]))).all()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        '["ab"]',
        '[{"box": [1, 2, 3]}]',
        '[{"box": [1, 2, 3, "a"]}]',
        '[{"box": [1, 2, 3, NaN]}]',
        '[{"box": [1, 2, 3, 4], "start": 3, "end": 1}]',
        '[{"box": [1, 2, 3, 4], "from": 3}]',
        '[{"start": 1}]',
        "\udcff".encode("utf-8", "surrogateescape"),
        "[" * 100_000,
    ],
)
def test_what_is_no_list_of_boxes_is_one_sentence(tmp_path, text):
    path = tmp_path / "keep.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=r"keep\.json"):
        read_keep_boxes(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_keep_boxes(tmp_path / "none.json")


@pytest.mark.parametrize("box", [(-1, 0, 10, 10), (0, 0, 101, 10), (10, 0, 5, 10), (0, 0, 10, 51)])
def test_a_box_outside_the_frame_is_refused(box):
    with pytest.raises(UsageError, match="100x50"):
        KeepBox(box).check(100, 50, None)


def test_a_box_after_the_end_is_refused():
    KeepBox((0, 0, 10, 10), 4.0).check(100, 50, 5.0)
    with pytest.raises(UsageError, match="ends at 5"):
        KeepBox((0, 0, 10, 10), 6.0).check(100, 50, 5.0)
