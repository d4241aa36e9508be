"""What a run's arguments name, and where each video's results go."""

import io
import os
import sys
from pathlib import PurePosixPath
from types import SimpleNamespace

import pytest

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.batch.sources import find_sources, parse_shard, take_shard
from dtfsal.runtime.media.errors import MediaError


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/clip.mp4", "a/deep/clip.MOV", "b/clip.mp4", "a/notes.md", "a/.hidden.mp4", "a/out/.dtfsal-run/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a/out/clip.mp4.saliency.mp4").write_bytes(b"x")
    return tmp_path


def places(*names):
    return [str(source.place) for source in find_sources(names)]


def test_a_folder_is_mirrored_without_hidden_files_and_results_of_runs(tree):
    assert places("a") == ["clip.mp4", "deep/clip.MOV"]
    assert places(str(tree)) == ["a/clip.mp4", "a/deep/clip.MOV", "b/clip.mp4"]


def test_a_list_is_mirrored_below_the_folder_that_holds_all(tree, monkeypatch):
    lines = f"# two of equal names\n\n  b/clip.mp4 \r\n{tree}/a/clip.mp4\nb/clip.mp4\nmissing.mp4\n"
    (tree / "list.txt").write_text("\ufeff" + lines, encoding="utf-8")
    wanted = ["a/clip.mp4", "b/clip.mp4", "missing.mp4"]
    assert places("list.txt") == wanted
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(lines.encode())))
    assert places("-") == wanted


def test_equal_names_are_refused_and_the_same_file_twice_is_not(tree):
    assert places("a/clip.mp4", str(tree / "a/clip.mp4")) == ["clip.mp4"]
    with pytest.raises(UsageError, match=r"a/clip.mp4 and b/clip.mp4 would both .* at clip.mp4: give their common"):
        find_sources(["a/clip.mp4", "b/clip.mp4"])


@pytest.mark.parametrize(
    ("name", "content", "error", "match"),
    [
        ("binary.txt", b"clip\0.mp4", UsageError, "holds binary data"),
        ("blank.txt", b"\n# nothing\n", UsageError, "there is no video"),
        ("empty.txt", b"", MediaError, "is empty"),
        ("absent.txt", None, MediaError, "there is no file"),
    ],
)
def test_bad_lists_are_refused(tree, name, content, error, match):
    if content is not None:
        (tree / name).write_bytes(content)
    with pytest.raises(error, match=match):
        find_sources([name])


def test_names_of_any_bytes_are_listed(tree):
    odd = os.fsdecode(b"a/\xff.mp4")
    (tree / odd).write_bytes(b"x")
    (tree / "list.txt").write_bytes(b"a/\xff.mp4\n")
    (source,) = find_sources(["list.txt"])
    assert os.fspath(source.path) == odd
    take_shard([source], (1, 2))


def test_shards_part_the_videos_and_do_not_depend_on_the_list(tree):
    for number in range(40):
        (tree / "b" / f"{number}.mkv").write_bytes(b"x")
    sources = find_sources(["b"])
    shards = [take_shard(sources, (number, 3)) for number in (1, 2, 3)]
    assert sorted((s for shard in shards for s in shard), key=lambda s: s.place) == sources
    assert min(map(len, shards)) > 5
    fewer = find_sources(["b/clip.mp4", "b/7.mkv"])
    assert set(take_shard(fewer, (2, 3))) == {
        source for source in fewer if source.place in {one.place for one in shards[1]}
    }
    assert fewer[0].place == PurePosixPath("7.mkv")


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "-1/2", "1/0", "1/2/3", "a/b", "1/ 2", "١/2"])
def test_bad_shards_are_refused(text):
    with pytest.raises(UsageError, match="a shard is I/N"):
        parse_shard(text)
    assert parse_shard("2/8") == (2, 8)
