"""`dtfsal check`: a whole dataset passes, and each planted fault is found and named."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.cli import main
from dtfsal.training.data.check import check_dataset
from dtfsal.training.data.datasets import DATASETS
from dtfsal.training.data.faults import KINDS, ranges
from dtfsal.training.data.stills import DataError

AUDIO_VISUAL = ("diem", "avad", "coutrot1", "coutrot2", "summe", "etmd")


def faults_of(name, root, **arguments):
    """Kind, video and file name of each fault, without duplicates."""
    reports = check_dataset(DATASETS[name], root, **arguments)
    return {(fault.kind, fault.video, fault.path.name) for report in reports for fault in report.faults}


@pytest.mark.parametrize("name", ["ucf-sports", *AUDIO_VISUAL, "videos"])
def test_a_whole_miniature_has_no_fault(make_miniature, name):
    root = make_miniature(name, count=3)
    assert faults_of(name, root) == set()
    assert faults_of(name, root, quick=True) == set()


def test_dhf1k_misses_the_videos_of_a_miniature_and_no_more(make_miniature):
    root = make_miniature("dhf1k", count=3)
    reports = check_dataset(DATASETS["dhf1k"], root)
    assert [(report.split, report.videos) for report in reports] == [
        ("train", ("0001", "0002")),
        ("validation", ("0601",)),
        ("test", ("0701",)),
    ]
    messages = [fault.message for report in reports for fault in report.faults]
    assert messages == [
        "598 videos (3-600) are not there",
        "99 videos (602-700) are not there",
        "299 videos (702-1000) are not there",
    ]


AVAD = "annotations/AVAD/V2_Band"


def _short_wav(root):
    path = root / "video_audio" / "AVAD" / "V2_Band" / "V2_Band.wav"
    path.write_bytes(path.read_bytes()[: 44 + 4 * 480])


def _silent_wav(root):
    path = root / "video_audio" / "AVAD" / "V2_Band" / "V2_Band.wav"
    data = path.read_bytes()
    path.write_bytes(data[:44] + bytes(len(data) - 44))


def _grey(path, size=(64, 36), level=0):
    Image.new("L", size, level).save(path)


def _edit_list(root, old, new):
    for path in (root / "fold_lists").glob("AVAD_list_*"):
        path.write_text(path.read_text().replace(old, new))


PLANTED = {
    "missing-list": (
        lambda root: (root / "fold_lists/AVAD_list_test_2_fps.txt").unlink(),
        "",
        "AVAD_list_test_2_fps.txt",
    ),
    "bad-list": (
        lambda root: (root / "fold_lists/AVAD_list_test_2_fps.txt").write_text("V2_Band 12\n"),
        "",
        "AVAD_list_test_2_fps.txt",
    ),
    "missing-video": (lambda root: shutil.rmtree(root / "video_frames/AVAD/V2_Band"), "V2_Band", "V2_Band"),
    "frame-gap": (lambda root: (root / "video_frames/AVAD/V2_Band/img_00005.jpg").unlink(), "V2_Band", "V2_Band"),
    "duplicate": (
        lambda root: shutil.copy(
            root / "video_frames/AVAD/V2_Band/img_00005.jpg", root / "video_frames/AVAD/V2_Band/img_5.jpg"
        ),
        "V2_Band",
        None,
    ),
    "list-longer": (lambda root: _edit_list(root, "V2_Band 12", "V2_Band 13"), "V2_Band", "V2_Band"),
    "list-shorter": (lambda root: _edit_list(root, "V2_Band 12", "V2_Band 11"), "V2_Band", "V2_Band"),
    "no-map": (lambda root: (root / AVAD / "maps/eyeMap_00003.jpg").unlink(), "V2_Band", "maps"),
    "extra-map": (lambda root: _grey(root / AVAD / "maps/eyeMap_00099.jpg"), "V2_Band", "maps"),
    "empty-map": (lambda root: _grey(root / AVAD / "maps/eyeMap_00003.jpg"), "V2_Band", "maps"),
    "no-fixations": (lambda root: (root / AVAD / "fixMap_00003.mat").unlink(), "V2_Band", "V2_Band"),
    "extra-fixations": (
        lambda root: shutil.copy(root / AVAD / "fixMap_00003.mat", root / AVAD / "fixMap_00098.mat"),
        "V2_Band",
        "V2_Band",
    ),
    "unreadable": (
        lambda root: (root / "video_frames/AVAD/V2_Band/img_00004.jpg").write_bytes(b"\xff\xd8\xff"),
        "V2_Band",
        "img_00004.jpg",
    ),
    "size": (lambda root: _grey(root / AVAD / "maps/eyeMap_00003.jpg", (32, 36), 9), "V2_Band", "eyeMap_00003.jpg"),
    "no-sound": (
        lambda root: (root / "video_audio/AVAD/V2_Band/V2_Band.wav").unlink(),
        "V2_Band",
        "V2_Band.wav",
    ),
    "short-sound": (_short_wav, "V2_Band", "V2_Band.wav"),
    "silent-sound": (_silent_wav, "V2_Band", "V2_Band.wav"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_fault_is_found(make_miniature, kind):
    root = make_miniature("avad", count=12)
    plant, video, file = PLANTED[kind]
    plant(root)
    found = faults_of("avad", root)
    mine = {(video, name) for found_kind, video, name in found if found_kind == kind}
    assert (video, file) in mine or (file is None and mine), found
    assert all(of in ("", video) for _, of, _ in found), found  # no other video is blamed


def test_each_kind_of_fault_is_planted():
    assert set(PLANTED) | {"stale"} == set(KINDS)


def test_prepared_videos_that_changed_are_stale(make_miniature):
    root = make_miniature("videos", count=6, videos=("a", "b"))
    table = root / "fixations" / "a.csv"
    table.write_text(table.read_text() + "0.0,3,3,late\n")
    assert faults_of("videos", root) == {("stale", "a", "a.csv")}
    (root / "index" / "b.npz").unlink()
    assert ("stale", "b", "b.npz") in faults_of("videos", root, quick=True)
    path = root / "videos" / "b.mp4"
    path.write_bytes(path.read_bytes() + b"more")
    assert ("stale", "b", "b.mp4") in faults_of("videos", root, quick=True)
    path.unlink()
    assert ("missing-video", "b", "b.mp4") in faults_of("videos", root, quick=True)


def test_a_damaged_video_is_found(make_miniature):
    root = make_miniature("videos", count=24, videos=("a",))
    path = root / "videos" / "a.mp4"
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 600
    data[start : start + 400] = bytes(400)
    path.write_bytes(data)
    assert {kind for kind, _, _ in faults_of("videos", root)} & {"unreadable", "stale"}


def test_gaze_outside_every_frame_is_an_empty_map(make_miniature):
    root = make_miniature("videos", count=3, videos=("a",), prepared=False)
    (root / "fixations" / "a.csv").write_text("time,x,y,observer\n0,5,5,p\n0.04,500,5,p\n")
    from dtfsal.training.data.prepare_videos import PrepareOptions, prepare_videos

    prepare_videos(root, root, PrepareOptions(test_share=0, validation_share=0))
    (report,) = check_dataset(DATASETS["videos"], root)
    (fault,) = report.faults
    assert (fault.kind, fault.message) == ("empty-map", "2 frames (2-3): no position lies in the frame") or (
        fault.kind == "empty-map" and "1-2" in fault.message
    )


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        check_dataset(DATASETS["avad"], tmp_path / "none")
    with pytest.raises(DataError, match="holds no video of DHF1K"):
        check_dataset(DATASETS["dhf1k"], tmp_path)
    with pytest.raises(UsageError, match="have no folds"):
        check_dataset(DATASETS["videos"], tmp_path, fold=1)


def test_ranges_are_for_people():
    assert ranges([7, 1, 2, 3, 12, 9, 10, 11]) == "1-3, 7, 9-12"
    assert ranges([]) == ""


# The commands.


def test_the_command_tells_and_its_exit_code_too(make_miniature, capsys):
    root = make_miniature("avad", count=4)
    assert main(["check", "avad", str(root)]) == 0
    assert "no fault" in capsys.readouterr().out
    _grey(root / AVAD / "maps/eyeMap_00003.jpg")
    assert main(["check", "avad", str(root), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert not result["ok"]
    (fault,) = [fault for split in result["splits"] for fault in split["faults"]]
    assert fault["kind"] == "empty-map"
    assert fault["video"] == "V2_Band"
    assert main(["data", "check", "avad", str(root), "--json"]) == 1  # the old name
    captured = capsys.readouterr()
    assert json.loads(captured.out) == result
    assert captured.err.startswith("dtfsal: `dtfsal data check` is now `dtfsal check`; ")
    assert captured.err.count("\n") == 1
    assert main(["check", "avad", str(root), "--allow", "empty-map"]) == 0
    assert "(allowed)" in capsys.readouterr().out
    assert main(["check", "avad", str(root), "--allow", "nothing"]) == 2
    assert main(["check", "avad", str(root / "none")]) != 0
    assert "there is no folder" in capsys.readouterr().err


def test_prepare_videos_then_check(make_miniature, tmp_path, capsys):
    root = make_miniature("videos", count=4, videos=("a", "b", "c"), prepared=False)
    out = tmp_path / "out"
    assert main(["prepare", "videos", "--source", str(root), "-o", str(out), "--pixels-per-degree", "3", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["videos"], result["frames"]) == (3, 12)
    assert main(["check", "videos", str(out)]) == 0
    assert main(["prepare", "osie", "--source", str(root), "-o", str(out / "x"), "--frames"]) == 2
    np.testing.assert_equal((out / "x").exists(), False)


def test_the_kinds_are_documented():
    from pathlib import Path

    text = (Path(__file__).parents[3] / "docs" / "how-to" / "datasets.md").read_text()
    assert all(f"| `{kind}` | {meaning} |" in text for kind, meaning in KINDS.items())
