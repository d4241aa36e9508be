"""Outputs, read back with other programs' readers, and what is left when a run fails."""

import csv
import json

import av
import h5py
import numpy as np
import pytest
from PIL import Image

from dtfsal.engines.errors import DtfsalError, OutputError, UnavailableError, UsageError
from dtfsal.runtime import SaliencyPredictor
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import VideoReader
from dtfsal.runtime.predict.maps import resize_map
from dtfsal.runtime.predict.prediction import SaliencyFrame
from dtfsal.runtime.predict.stage_clock import StageClock
from dtfsal.runtime.sinks.base import SinkContext
from dtfsal.runtime.sinks.outputs import KINDS, Output, check_outputs, kind_of, write_outputs
from dtfsal.runtime.sinks.render import overlay

NAMES = {"video": "out.mkv", "png": "out", "npz": "out.npz", "hdf5": "out.h5", "csv": "out.csv", "json": "out.json"}


@pytest.fixture
def predictor(toy_visual_engine):
    with SaliencyPredictor(toy_visual_engine, threads=1) as opened:
        yield opened


@pytest.fixture
def clip(make_toy_clip):
    """Noise, so that maps have a peak somewhere."""
    frames = np.random.default_rng(0).integers(0, 256, (7, 48, 80, 3), dtype=np.uint8)
    return make_toy_clip(frames=frames)


@pytest.fixture
def run(predictor, clip):
    """Write outputs of the clip; keywords go to the context. Returns the prediction."""

    def write(*outputs, on_frame=lambda _frame: None, **options):
        prediction = predictor.predict_file(clip)
        context = SinkContext(
            source=prediction.info, model_name="toy", model_size=(24, 40), clock=prediction.clock, **options
        )
        write_outputs(prediction, outputs, context, on_frame)
        return prediction

    return write


@pytest.fixture
def maps(predictor, clip):
    return [frame.saliency_map for frame in predictor.predict_file(clip)]


def peak_by_loop(saliency_map):
    best = (-1.0, 0, 0)
    for y, row in enumerate(saliency_map):
        for x, value in enumerate(row):
            if value > best[0]:
                best = (float(value), y, x)
    return best


def test_csv_and_json_tell_peaks_and_centres_in_source_pixels(run, maps, tmp_path):
    run(Output(tmp_path / "out.csv"), Output(tmp_path / "out.json"))
    with (tmp_path / "out.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["model"] == "toy"
    assert document["source"] == {"name": "clip.mkv", "width": 80, "height": 48}
    assert len(rows) == len(document["frames"]) == 7
    for index, (row, record, saliency_map) in enumerate(zip(rows, document["frames"], maps, strict=True)):
        assert {name: float(text) for name, text in row.items()} == record
        value, y, x = peak_by_loop(saliency_map)
        assert record["index"] == index
        assert record["time_seconds"] == pytest.approx(index / 25, abs=1e-3)  # Matroska counts milliseconds
        # The clip is twice the model's size: cell x covers pixels 2 x and 2 x + 1, whose middle is 2 x + 0.5.
        assert (record["peak_x"], record["peak_y"]) == (2 * x + 0.5, 2 * y + 0.5)
        assert record["peak_value"] == pytest.approx(value, rel=1e-6)
        weights = saliency_map.astype(np.float64) / saliency_map.sum(dtype=np.float64)
        assert record["centre_x"] == pytest.approx(2 * (weights.sum(0) @ np.arange(40)) + 0.5, abs=6e-4)  # rounded
        assert record["centre_y"] == pytest.approx(2 * (weights.sum(1) @ np.arange(24)) + 0.5, abs=6e-4)


def test_npz_and_hdf5_hold_the_raw_maps(run, maps, tmp_path):
    run(Output(tmp_path / "out.npz"), Output(tmp_path / "out.h5"))
    with np.load(tmp_path / "out.npz", allow_pickle=False) as archive, h5py.File(tmp_path / "out.h5") as file:
        for one in (archive, file):
            assert sorted(one) == ["indices", "saliency_maps", "source_size", "times_seconds"]
            np.testing.assert_array_equal(one["saliency_maps"][...], np.stack(maps))
            assert one["saliency_maps"].dtype == np.float32
            np.testing.assert_allclose(one["times_seconds"][...], np.arange(7) / 25, atol=1e-3)
            assert one["indices"][...].tolist() == list(range(7))
            assert one["source_size"][...].tolist() == [48, 80]
        assert file.attrs["model"] == "toy"


def test_raw_maps_at_the_sources_resolution(run, maps, tmp_path):
    run(Output(tmp_path / "out.npz"), Output(tmp_path / "out.h5"), map_size="source")
    expected = np.stack([resize_map(one, 48, 80) for one in maps])
    with np.load(tmp_path / "out.npz") as archive, h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_array_equal(archive["saliency_maps"], expected)
        np.testing.assert_array_equal(file["saliency_maps"][...], expected)


def test_hdf5_without_h5py_names_the_extra(run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(UnavailableError, match=r"dtfsal\[hdf5\]"):
        run(Output(tmp_path / "out.h5"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mkv"]


def test_png_frames_are_grey_maps_at_source_size(run, maps, tmp_path):
    run(Output(tmp_path / "out"))
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == [f"{index:06d}.png" for index in range(7)]
    for file, saliency_map in zip(files, maps, strict=True):
        with Image.open(file) as image:
            assert image.mode == "L"
            assert image.size == (80, 48)
            expected = 255 * resize_map(saliency_map / saliency_map.max(), 48, 80)
            # Levels are rounded before enlarging and after each of its two passes.
            assert np.abs(np.asarray(image) - expected).max() <= 1.5


def test_png_frames_can_be_overlays(run, maps, clip, tmp_path):
    run(Output(tmp_path / "out"), view="overlay")
    with VideoReader(clip) as reader:
        for frame in reader:
            with Image.open(tmp_path / "out" / f"{frame.index:06d}.png") as image:
                np.testing.assert_array_equal(np.asarray(image), overlay(frame.rgb, maps[frame.index]))


def decoded(path):
    with av.open(str(path)) as container:
        return [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


@pytest.mark.parametrize("view", [None, "saliency"])
def test_video_has_every_frame_at_its_time(run, maps, clip, tmp_path, view):
    prediction = run(Output(tmp_path / "out.mkv"), view=view)
    assert {"render", "encode", "decode", "engine", "preprocess"} <= set(prediction.clock.seconds)
    written, source = decoded(tmp_path / "out.mkv"), decoded(clip)
    assert [time for time, _ in written] == pytest.approx([time for time, _ in source], abs=2e-3)
    for (_, picture), (_, rgb), saliency_map in zip(written, source, maps, strict=True):
        assert picture.shape == (48, 80, 3)
        grey = 255 * resize_map(saliency_map / saliency_map.max(), 48, 80)
        expected = overlay(rgb, saliency_map).mean(axis=2) if view is None else grey
        # Lossy coding of noise: brightness stays on average.
        assert abs(picture.mean() - expected.mean()) < 6


def test_contact_sheet_is_drawn(run, tmp_path):
    run(Output(tmp_path / "sheet.png", "contact-sheet", columns=3))
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width == 76 + 8 + 3 * 328


@pytest.mark.parametrize("kind", [*KINDS, "contact-sheet"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_run_that_fails_leaves_what_was_there(run, tmp_path, kind, error):
    path = tmp_path / NAMES.get(kind, "sheet.png")
    if kind == "png":
        path.mkdir()
        (path / "000000.png").write_bytes(b"old")
    else:
        path.write_bytes(b"old")

    def stop(frame):
        if frame.index == 4:
            raise error

    with pytest.raises(error):
        run(Output(path, kind), on_frame=stop)
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(["clip.mkv", path.name])
    assert ((path / "000000.png") if kind == "png" else path).read_bytes() == b"old"


@pytest.mark.parametrize("kind", [*KINDS, "contact-sheet"])
def test_a_run_that_ends_well_replaces_what_was_there(run, tmp_path, kind):
    path = tmp_path / NAMES.get(kind, "sheet.png")
    if kind == "png":
        path.mkdir()
        (path / "000099.png").write_bytes(b"old")
    else:
        path.write_bytes(b"old")
    run(Output(path, kind))
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(["clip.mkv", path.name])
    if kind == "png":
        assert len(list(path.iterdir())) == 7
    else:
        assert path.stat().st_size > 100


def test_a_failure_in_one_output_leaves_none_of_the_others(run, tmp_path, monkeypatch):
    from dtfsal.runtime.sinks import contact_sheet

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(contact_sheet.ContactSheet, "add", full)
    with pytest.raises(OutputError, match="no space") as caught:
        run(Output(tmp_path / "out.csv"), Output(tmp_path / "out.mkv"), Output(tmp_path / "s.png", "contact-sheet"))
    assert "s.png" in str(caught.value)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["clip.mkv"]


def test_a_place_that_cannot_be_written_is_told(run, tmp_path):
    (tmp_path / "file").write_text("")
    for kind, name in NAMES.items():
        with pytest.raises(OutputError, match="cannot write"):
            run(Output(tmp_path / "file" / name, kind))


def test_a_source_that_changes_meanwhile_is_told(run, make_toy_clip, monkeypatch, tmp_path):
    """The second reader sees a shorter video than the first."""
    shorter = make_toy_clip("shorter.mkv", count=3)
    monkeypatch.setattr("dtfsal.runtime.sinks.outputs.VideoReader", lambda _path, **_: VideoReader(shorter))
    with pytest.raises(MediaError, match="on the second read"):
        run(Output(tmp_path / "out.mkv"))
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.mp4", "video"), ("a.MKV", "video"), ("a.mov", "video"), ("a.npz", "npz"), ("a.h5", "hdf5"),
        ("a.hdf5", "hdf5"), ("a.csv", "csv"), ("a.json", "json"), ("frames", "png"), ("frames/", "png"),
        ("frames.d/", "png"),
    ],
)  # fmt: skip
def test_the_suffix_tells_the_kind(path, kind):
    assert kind_of(path) == kind


@pytest.mark.parametrize("path", ["a.png", "a.txt", "a.mp3"])
def test_an_unknown_suffix_is_refused(path):
    with pytest.raises(UsageError, match="--format"):
        kind_of(path)


def check(*paths, source="in.mp4", overwrite=False, tmp_path):
    check_outputs([Output(tmp_path / path) for path in paths], tmp_path / source, overwrite=overwrite)


def test_outputs_are_checked_before_any_work(tmp_path):
    for name in ("in.mp4", "old.mp4"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "in.mp4")
    (tmp_path / "frames").mkdir()
    check("new.mp4", "frames", "new.csv", tmp_path=tmp_path)
    with pytest.raises(UsageError, match="--force"):
        check("old.mp4", tmp_path=tmp_path)
    check("old.mp4", overwrite=True, tmp_path=tmp_path)
    for same in ("in.mp4", "link.mp4", "frames/../in.mp4"):
        with pytest.raises(UsageError, match="is the video"):
            check(same, overwrite=True, tmp_path=tmp_path)
    with pytest.raises(UsageError, match="twice"):
        check("a.csv", "frames/../a.csv", tmp_path=tmp_path)
    (tmp_path / "frames" / "000001.png").write_bytes(b"x")
    with pytest.raises(UsageError, match="--force"):
        check("frames", tmp_path=tmp_path)
    check("frames", overwrite=True, tmp_path=tmp_path)
    (tmp_path / "frames" / "notes.txt").write_bytes(b"x")
    with pytest.raises(OutputError, match=r"notes\.txt"):
        check("frames", overwrite=True, tmp_path=tmp_path)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        check("folder.csv", overwrite=True, tmp_path=tmp_path)


def test_an_empty_prediction_writes_nothing(tmp_path, clip):
    """A reader refuses such files; a prediction that still has no frame must not leave empty outputs."""
    import contextlib

    from dtfsal.runtime.predict.prediction import Prediction

    with VideoReader(clip) as reader:
        info = reader.info
    empty = Prediction(iter(()), contextlib.ExitStack(), StageClock(), "unused")
    context = SinkContext(source=info, model_name="toy", model_size=(24, 40))
    with pytest.raises(MediaError, match="no frame"):
        write_outputs(empty, [Output(tmp_path / "out.csv")], context)
    assert not (tmp_path / "out.csv").exists()


def test_errors_of_the_project_pass_unchanged(run, tmp_path):
    def stop(frame: SaliencyFrame):
        raise UsageError("as it is")

    with pytest.raises(DtfsalError, match=r"^as it is$"):
        run(Output(tmp_path / "out.npz"), on_frame=stop)
