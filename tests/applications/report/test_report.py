"""A report's files on clips whose maps are known in closed form: the toy engine's."""

import base64
import csv
import html.parser
import json
import os
import re
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from dtfsal.applications.report import packing, preview
from dtfsal.applications.report.making import make_comparison, make_report
from dtfsal.applications.report.track import Options
from dtfsal.engines.errors import DtfsalError, OutputError, UnavailableError, UsageError
from dtfsal.runtime.cli import main
from dtfsal.runtime.predict.predictor import SaliencyPredictor

HOSTILE = "</script><script>alert(1)</script>"
AREAS = {
    "format": "dtfsal-areas",
    "version": 1,
    "coordinates": "fractions",
    "areas": [
        {"name": HOSTILE, "shape": "box", "keys": [{"time_seconds": 0, "box": [0, 0, 0.5, 1]}]},
        {"name": "=late", "shape": "box", "outside": "hidden", "keys": [
            {"time_seconds": 0.8, "box": [0.25, 0, 0.75, 1]}, {"time_seconds": 9, "box": [0.25, 0, 0.75, 1]},
        ]},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def predictor(toy_visual_engine):
    with SaliencyPredictor(toy_visual_engine, device="cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def areas(tmp_path_factory):
    path = tmp_path_factory.mktemp("areas") / "areas.json"
    path.write_text(json.dumps(AREAS))
    return path


@pytest.fixture(scope="module")
def report(predictor, spot_clip, areas, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "out"
    make_report(predictor, spot_clip, folder, areas=areas)
    return folder


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


class Page(html.parser.HTMLParser):
    """What stands in a page: elements with their attributes, and the text of each script by its id."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.scripts, self._script = [], {}, None
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._script = dict(attributes).get("id", "") if tag == "script" else None

    def handle_endtag(self, _tag):
        self._script = None

    def handle_data(self, data):
        if self._script is not None:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def numbers(self, name, kind):
        return np.frombuffer(base64.b64decode(self.scripts[name]), kind)


def test_the_shares_are_those_of_the_maps(report, predictor, spot_clip):
    """Map = 0.25 + grey / 2: where the whole window is white on the left, 0.75 and 0.25, so 3/4 of it lies there."""
    rows = rows_of(report / "frames.csv")
    with predictor.predict_file(spot_clip) as prediction:
        maps = [frame.saliency_map.astype(np.float64) for frame in prediction]
    assert len(rows) == len(maps) == 25
    for row, values in zip(rows, maps, strict=True):
        left = values[:, :20].sum() / values.sum()
        assert float(row[f"share {HOSTILE}"]) == pytest.approx(left, abs=1e-9)
        middle = values[:, 10:30].sum() / values.sum()
        late = row["share =late"]
        assert (float(late) == pytest.approx(middle, abs=1e-9)) if float(row["time_seconds"]) >= 0.8 else late == ""
    assert float(rows[20][f"share {HOSTILE}"]) == pytest.approx(0.75, abs=1e-6)
    assert float(rows[0]["entropy_bits"]) == pytest.approx(np.log2(24 * 40), abs=1e-5)


def test_the_summary_is_the_mean_of_the_rows(report):
    document = json.loads((report / "report.json").read_text())
    rows = rows_of(report / "frames.csv")
    first, late = document["areas"]
    shares = [float(row[f"share {HOSTILE}"]) for row in rows]
    assert first["share"] == pytest.approx(np.mean(shares), abs=1e-9)  # each frame is shown as long
    assert (first["rank"], late["rank"], first["peak_share"]) == (1, 2, max(shares))
    assert late["visible_seconds"] == pytest.approx(5 * 0.04)
    assert (document["frames"], document["seconds"], document["sound"]) == (25, pytest.approx(1), "unused")
    assert "not a measurement" in document["caveat"]
    table = rows_of(report / "areas.csv")
    assert [row["name"] for row in table] == [HOSTILE, "'=late"]  # no spreadsheet runs it
    assert float(table[0]["share"]) == first["share"]


def test_the_page_asks_for_nothing(report):
    """It has no address but those of its own parts, its policy forbids all, and nothing hostile is an element."""
    page = Page(report / "index.html")
    text = (report / "index.html").read_text("utf-8")
    assert not re.findall(r"https?://|//[a-z]+\.[a-z]", text)
    assert not [attributes for _, attributes in page.elements if {"src", "href"} & set(attributes)]
    (policy,) = (a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert not [tag for tag, _ in page.elements if tag in ("img", "iframe", "link", "object", "embed")]
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    assert "alert(1)</script>" not in text
    assert len([a for tag, a in page.elements if tag == "script" and "type" not in a]) == 1


def test_the_page_holds_what_the_tables_hold(report):
    page = Page(report / "index.html")
    (track,) = json.loads(page.scripts["page-data"])["tracks"]
    rows = rows_of(report / "frames.csv")
    assert [area["name"] for area in track["areas"]] == [HOSTILE, "=late"]
    assert page.numbers("times-0", "<f8").tolist() == [float(row["time_seconds"]) for row in rows]
    series = page.numbers("series-0", "<f4").reshape(4, 25)
    np.testing.assert_allclose(series[2], [float(row[f"share {HOSTILE}"]) for row in rows], rtol=1e-6)
    assert np.isnan(series[3][:20]).all()
    assert not np.isnan(series[3][20:]).any()
    maps = np.frombuffer(zlib.decompress(base64.b64decode(page.scripts["maps-0"])), np.uint8).reshape(25, 24, 40)
    assert (maps[20, :, :20] == 255).all()
    assert (maps[20, :, 20:] == 85).all()  # a third
    clip = base64.b64decode(page.scripts["video-0"])
    assert clip[4:8] == b"ftyp"
    assert not (report / "video.mp4").exists()


def test_a_name_that_is_not_unicode(predictor, spot_clip, tmp_path):
    clip = tmp_path / os.fsdecode(b"\xff.mkv")
    clip.symlink_to(spot_clip)
    document = make_report(predictor, clip, tmp_path / "out")
    assert document["video"] == "?.mkv"
    assert "Attention in ?.mkv" in (tmp_path / "out" / "index.html").read_text("utf-8")


def test_one_frame_makes_a_report(predictor, write_frames, tmp_path):
    """A frame on end, of odd sides, in a clip of its own."""
    clip = write_frames(tmp_path / "a.mkv", np.full((1, 50, 31, 3), 90, np.uint8))
    document = make_report(predictor, clip, tmp_path / "out")
    assert (document["frames"], document["seconds"]) == (1, pytest.approx(0.04))
    page = Page(tmp_path / "out" / "index.html")
    assert json.loads(page.scripts["page-data"])["tracks"][0]["size"] == [50, 32]


def test_a_large_clip_lies_beside_the_page(predictor, spot_clip, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "MOST_EMBEDDED_BYTES", 100)
    make_report(predictor, spot_clip, tmp_path / "out")
    page = Page(tmp_path / "out" / "index.html")
    assert json.loads(page.scripts["page-data"])["tracks"][0]["video"] == "video.mp4"
    assert (tmp_path / "out" / "video.mp4").stat().st_size > 100
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "frames.csv", "index.html", "report.json", "video.mp4",
    ]  # fmt: skip


def test_uncertainty_spans_the_mirrored_picture_and_the_muted_sound(toy_engine, write_frames, tmp_path):
    """The toy engine's map is the picture's own, so mirroring changes nothing, and sound raises it everywhere."""
    frames = np.zeros((6, 48, 80, 3), np.uint8)
    frames[:, :, :30] = 200
    clip = write_frames(tmp_path / "a.mkv", frames, tone=True)
    area = {"name": "left", "shape": "box", "keys": [{"time_seconds": 0, "box": [0, 0, 0.25, 1]}]}
    (tmp_path / "areas.json").write_text(json.dumps(AREAS | {"areas": [area]}))
    with SaliencyPredictor(toy_engine, device="cpu") as predictor:
        make_report(predictor, clip, tmp_path / "out", areas=tmp_path / "areas.json", options=Options(uncertainty=True))
        with predictor.predict_file(clip) as prediction:
            heard = [frame.saliency_map.astype(np.float64) for frame in prediction]
        with predictor.predict_file(clip, muted=True) as prediction:
            muted = [frame.saliency_map.astype(np.float64) for frame in prediction]
            assert prediction.sound == "silence"
        with predictor.predict_file(clip, mirrored=True) as prediction:
            mirrored = [frame.saliency_map for frame in prediction]
    np.testing.assert_allclose(mirrored, heard, atol=1e-6)
    for row, loud, silent in zip(rows_of(tmp_path / "out" / "frames.csv"), heard, muted, strict=True):
        shares = [values[:, :10].sum() / values.sum() for values in (loud, silent)]
        assert shares[0] != pytest.approx(shares[1], abs=1e-4)
        found = [float(row[name]) for name in ("share left", "share left low", "share left high")]
        assert found == pytest.approx([shares[0], min(shares), max(shares)], abs=1e-6)
    page = Page(tmp_path / "out" / "index.html")
    assert (page.numbers("low-0", "<f4") <= page.numbers("high-0", "<f4")).all()
    assert "not a confidence interval" in json.loads(page.scripts["page-data"])["band_note"]


def test_two_edits_by_time_and_by_frames(predictor, write_frames, tmp_path):
    """B has the same frames at half the rate: alike frame by frame, and not at the same times."""
    frames = np.zeros((12, 48, 80, 3), np.uint8)
    frames[6:, :, :40] = 255
    a = write_frames(tmp_path / "a.mkv", frames)
    b = write_frames(tmp_path / "b.mkv", np.repeat(frames, 2, axis=0))
    (tmp_path / "areas.json").write_text(json.dumps(AREAS | {"areas": AREAS["areas"][:1]}))
    both = {"areas": (tmp_path / "areas.json", tmp_path / "areas.json")}
    document = make_comparison(predictor, (a, b), tmp_path / "time", **both)
    (difference,) = document["differences"]
    assert difference["difference"] == pytest.approx(
        document["b"]["areas"][0]["share"] - document["a"]["areas"][0]["share"]
    )
    make_comparison(predictor, (a, b), tmp_path / "frames", align="frames", **both)
    for align, count in (("time", 12), ("frames", 12)):
        rows = rows_of(tmp_path / align / "differences.csv")
        of_a, of_b = (rows_of(tmp_path / align / f"{letter}-frames.csv") for letter in "ab")
        assert [(row["index_a"], row["index_b"]) for row in rows] == [(str(i), str(i)) for i in range(count)]
        for row in rows:
            change = float(of_b[int(row["index_b"])]["peak_share"]) - float(of_a[int(row["index_a"])]["peak_share"])
            assert float(row["peak_share"]) == pytest.approx(change, abs=1e-12)
    page = Page(tmp_path / "frames" / "index.html")
    assert json.loads(page.scripts["page-data"])["align"] == "frames"
    assert len(json.loads(page.scripts["page-data"])["tracks"]) == 2


def test_rates_that_differ_are_aligned_by_time(predictor, write_frames, tmp_path):
    """At 25 and 10 frames/s: beside each frame of A stands the last one of B that began before it."""
    clips = [
        write_frames(tmp_path / f"{fps}.mkv", np.zeros((count, 48, 80, 3), np.uint8), fps)
        for fps, count in ((25, 20), (10, 6))
    ]
    make_comparison(predictor, tuple(clips), tmp_path / "out")
    rows = rows_of(tmp_path / "out" / "differences.csv")
    assert [int(row["index_b"]) for row in rows] == [index * 10 // 25 for index in range(15)]  # B ends at 0.6 s


def test_cuts_are_found(predictor, write_frames, tmp_path):
    pytest.importorskip("scenedetect")
    rng = np.random.default_rng(0)
    shots = [np.repeat(rng.integers(0, 255, (1, 48, 80, 3), np.uint8), 20, axis=0) for _ in range(3)]
    shots = [
        np.clip(shot // 3 + offset, 0, 255).astype(np.uint8) for shot, offset in zip(shots, (0, 160, 60), strict=True)
    ]
    clip = write_frames(tmp_path / "a.mkv", np.concatenate(shots))
    document = make_report(predictor, clip, tmp_path / "out")
    assert document["cuts_seconds"] == pytest.approx([0.8, 1.6])


def test_without_pyscenedetect_a_report_says_so(predictor, spot_clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    document = make_report(predictor, spot_clip, tmp_path / "out")
    assert document["cuts_seconds"] is None
    assert "cuts were not looked for" in " ".join(document["notes"])


def test_parquet_holds_the_same_table(predictor, spot_clip, areas, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    make_report(predictor, spot_clip, tmp_path / "out", areas=areas, options=Options(parquet=True))
    table = parquet.read_table(tmp_path / "out" / "frames.parquet").to_pylist()
    rows = rows_of(tmp_path / "out" / "frames.csv")
    assert [list(row) for row in table[:1]] == [list(rows[0])]
    for found, row in zip(table, rows, strict=True):
        assert found == {name: float(text) if text else None for name, text in row.items()}


def test_parquet_without_pyarrow_is_refused_before_any_work(predictor, spot_clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UnavailableError, match=r"dtfsal\[report\]"):
        make_report(predictor, spot_clip, tmp_path / "out", options=Options(parquet=True))
    assert list(tmp_path.iterdir()) == []


def test_a_report_of_a_report_s_folder(predictor, spot_clip, report, areas, tmp_path):
    """An older report is replaced; anything else stays, and is told of."""
    make_report(predictor, spot_clip, tmp_path / "out", areas=areas)
    make_report(predictor, spot_clip, tmp_path / "out")
    assert not (tmp_path / "out" / "areas.csv").exists()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        make_report(predictor, spot_clip, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([{"time_seconds": 30, "box": [0, 0, 1, 1]}, {"time_seconds": 31, "box": [0, 0, 1, 1]}], "ends at 1.00 s"),
        ([{"time_seconds": 0, "box": [1.5, 0, 2, 1]}], "lies outside the frame"),
    ],
)
def test_areas_that_do_not_fit_the_clip_are_refused(predictor, spot_clip, tmp_path, keys, said):
    areas = tmp_path / "areas.json"
    areas.write_text(json.dumps(AREAS | {"areas": [{"name": "it", "shape": "box", "keys": keys}]}))
    with pytest.raises(UsageError, match=said):
        make_report(predictor, spot_clip, tmp_path / "out", areas=areas)
    assert [path.name for path in tmp_path.iterdir()] == ["areas.json"]


def test_a_clip_that_changes_meanwhile_leaves_nothing(predictor, spot_clip, tmp_path, monkeypatch):
    class Short(preview.VideoReader):
        def __iter__(self):
            return (frame for frame in super().__iter__() if frame.index < 20)

    monkeypatch.setattr(preview, "VideoReader", Short)
    with pytest.raises(DtfsalError, match="it has changed"):
        make_report(predictor, spot_clip, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_command(toy_visual_engine, spot_clip, areas, tmp_path, capsys):
    out = str(tmp_path / "out")
    words = ["report", str(spot_clip), "-o", out, "-e", str(toy_visual_engine), "--areas", str(areas)]
    assert main(words) == 0
    told = capsys.readouterr()
    assert "% of attention" in told.out
    assert main(words) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*words, "--force", "--json", "--level", "0.5"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "out" / "report.json").read_text())
    assert main([*words[:4], "--level", "2"]) == 2


def test_the_comparing_command(toy_visual_engine, spot_clip, areas, tmp_path, capsys):
    words = ["compare", str(spot_clip), str(spot_clip), "-o", str(tmp_path / "out"), "-e", str(toy_visual_engine)]
    assert main([*words, "--areas", str(areas)]) == 0
    assert "+0.0" in capsys.readouterr().out
    assert main([*words, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differences"] == []


def test_a_kill_in_the_middle_leaves_nothing(toy_visual_engine, write_frames, tmp_path):
    """At a signal the folder goes; after a kill it is still a hidden one, which the next run takes over."""
    clip = write_frames(tmp_path / "a.mkv", np.zeros((400, 48, 80, 3), np.uint8))
    words = ["report", str(clip), "-o", str(tmp_path / "out"), "-e", str(toy_visual_engine), "-q"]
    command = [sys.executable, "-c", f"import sys; from dtfsal.runtime.cli import main; sys.exit(main({words!r}))"]
    partial = tmp_path / ".out.dtfsal-partial"
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        while not (partial / "frames.csv").exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode != 0, "the clip is too short to be stopped in the middle"
        assert not (tmp_path / "out").exists()
        assert partial.exists() == (number == signal.SIGKILL)
    assert main(words) == 0
    assert not partial.exists()
    assert len(rows_of(tmp_path / "out" / "frames.csv")) == 400
    assert Path(tmp_path / "out" / "index.html").exists()
