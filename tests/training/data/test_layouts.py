"""Path patterns and lists of videos: what they match, and what of a list is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfsal.engines.errors import UsageError
from dtfsal.training.data.layouts import (
    FolderVideos,
    Layout,
    NumberedVideos,
    VideoLists,
    check_split,
    numbered_files,
    read_list,
    video_folders,
)
from dtfsal.training.data.stills import DataError


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize(
    ("pattern", "names", "numbers"),
    [
        ("{video}/images/{frame}", ["0002.png", "0001.jpg", "0010.JPEG", "x0003.png", "0004.txt", "a.png"], [1, 2, 10]),
        ("{video}/maps/eyeMap_{frame}", ["eyeMap_00003.jpg", "eyeMap_3.txt", "fixMap_00004.jpg"], [3]),
        ("{video}/fixMap_{frame}.mat", ["fixMap_00012.mat", "fixMap_00013.png", "xfixMap_00014.mat"], [12]),
        # The whole number at the end, not its last digit.
        (
            "{split}/{video}/*{frame}",
            ["Dive-Side_001_012.png", "Dive-Side_001_013.png", "_7.png", "9.png"],
            [7, 9, 12, 13],
        ),
    ],
)
def test_patterns_match_files_by_number(tmp_path, pattern, names, numbers):
    folder = (tmp_path / pattern.format(video="a.b (1)", split="training", frame="0")).parent
    touch(folder, *names)
    found = numbered_files(tmp_path, pattern, "a.b (1)", "training")
    assert [number for number, _ in found] == numbers
    assert all(path.is_file() and path.parent == folder for _, path in found)


@given(st.sets(st.integers(0, 10**7), max_size=30), st.integers(1, 9))
def test_files_come_in_order_of_numbers_whatever_their_digits(tmp_path_factory, numbers, digits):
    folder = tmp_path_factory.mktemp("numbers") / "v"
    touch(folder, *(f"img_{number:0{digits}d}.png" for number in numbers))
    assert [number for number, _ in numbered_files(folder.parent, "{video}/img_{frame}", "v")] == sorted(numbers)


def test_no_folder_has_no_files(tmp_path):
    assert numbered_files(tmp_path, "{video}/{frame}", "v") == []


def test_videos_are_folders_with_the_frames_folder_in_them(tmp_path):
    layout = Layout(frames="{split}/{video}/images/{frame}", maps=(), fixations=())
    for name in ("b", "a"):
        touch(tmp_path / "training" / name / "images")
    touch(tmp_path / "training" / "c")  # no frames' folder
    touch(tmp_path / "training", "d")
    assert video_folders(tmp_path, layout, "training") == ["a", "b"]
    source = FolderVideos(folders={"train": "training", "test": "testing"})
    assert [video.name for video in source.videos(tmp_path, layout, "train", None)] == ["a", "b"]
    assert source.videos(tmp_path, layout, "test", None) == []


def test_numbered_videos_go_by_value_and_name_those_missing(tmp_path):
    layout = Layout(frames="annotation/{video}/images/{frame}", maps=(), fixations=())
    for name in ("0002", "10", "003", "notes", "0011"):
        touch(tmp_path / "annotation" / name / "images")
    source = NumberedVideos(ranges={"train": (1, 10), "test": (11, 12)})
    assert [video.name for video in source.videos(tmp_path, layout, "train", None)] == ["0002", "003", "10"]
    assert source.missing(tmp_path, layout, "train") == [1, 4, 5, 6, 7, 8, 9]
    assert source.missing(tmp_path, layout, "test") == [12]


def test_a_list_has_names_counts_and_rates(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("V1_Speech1 126 25\n\n  clip-2\t90   29.97\r\nV3 1000.0 30.000030\n")
    videos = read_list(path)
    assert [(v.name, v.frame_count, v.frame_rate_hz) for v in videos] == [
        ("V1_Speech1", 126, 25.0),
        ("clip-2", 90, 29.97),
        ("V3", 1000, 30.00003),
    ]


@pytest.mark.parametrize(
    "line",
    ["V1 12", "V1 12 25 x", "V1 twelve 25", "V1 0 25", "V1 -3 25", "V1 12 0", "V1 12 nan", "V1 inf 25", "a/b 12 25"],
)
def test_a_wrong_line_is_named(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text(f"V0 12 25\n{line}\n")
    with pytest.raises(DataError, match=rf"list\.txt:2: a line must be .* not {re.escape(repr(line))}"):
        read_list(path)


def test_a_list_that_is_no_text_empty_or_absent_is_an_error(tmp_path):
    path = tmp_path / "list.txt"
    for content, message in ((b"\xff\xfe\x00", "cannot be read"), (b" \n", "is empty")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_list(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_list(tmp_path / "none.txt")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        videos = read_list(path)
    except DataError:
        return
    assert all(video.frame_count >= 1 and 0 < video.frame_rate_hz <= 1000 for video in videos)


def test_splits_and_folds_are_held_to_what_there_is():
    lists = VideoLists(path="{split}_{fold}", names={"train": "train", "test": "test"}, folds=(1, 2, 3))
    check_split("AVAD", lists, "train", 3)
    with pytest.raises(UsageError, match="AVAD has the folds 1, 2, 3; give one of them, not None"):
        check_split("AVAD", lists, "train", None)
    with pytest.raises(UsageError, match="not 4"):
        check_split("AVAD", lists, "train", 4)
    with pytest.raises(UsageError, match="has no split 'validation'; it has train, test"):
        check_split("AVAD", lists, "validation", 1)
    with pytest.raises(UsageError, match="has no folds"):
        check_split("UCF", FolderVideos(folders={"train": "training"}), "train", 1)
