"""Tables of gaze: what a line may be, and which frame it belongs to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfsal.training.data.gaze_table import gaze_of_frames, read_gaze
from dtfsal.training.data.stills import DataError


def table_of(folder, text):
    path = folder / "gaze.csv"
    path.write_text(text, encoding="utf-8")
    return read_gaze(path)


def test_samples_blinks_fixations_and_columns_in_any_order(tmp_path):
    table = table_of(tmp_path, "\ufeffobserver, y,x,time,duration\na,2,1,0.5,\nb,,,0.6,\nb,4,3,0.75,0.2\n")
    assert (table.observers, table.blinks) == (2, 1)
    np.testing.assert_array_equal(table.times_seconds, [0.5, 0.75])
    np.testing.assert_array_equal(table.durations_seconds, [0, 0.2])
    np.testing.assert_array_equal(table.points, [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,x,y\n0,1,2\n", "lacks observer"),
        ("", "lacks time, x, y, observer"),
        ("time,x,y,observer\n0,1,2\n", "gaze.csv:2: the observer is missing"),
        ("time,x,y,observer\n0,1,2,a\nlate,1,2,a\n", "gaze.csv:3: time must be a number, not 'late'"),
        ("time,x,y,observer\n0,1,,a\n", "y must be a number, not ''"),
        ("time,x,y,observer\n0,nan,1,a\n", "x must be a number, not 'nan'"),
        ("time,x,y,observer,duration\n0,1,1,a,-1\n", "duration must not be negative"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        table_of(tmp_path, text)


def test_what_is_no_table_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_gaze(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"time,x,y,observer\n\xff\xfe\n")
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_gaze(tmp_path / "bytes.csv")


@given(text=st.text(alphabet='time,xyobserv0123.-"\n\r a', max_size=80))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("gaze") / "gaze.csv"
    path.write_text("time,x,y,observer\n" + text, encoding="utf-8", newline="")
    try:
        table = read_gaze(path)
    except DataError:
        return
    assert len(table.times_seconds) == len(table.points) == len(table.durations_seconds)
    assert np.isfinite(table.points).all()


def frames_of(text, tmp_path, times, interval):
    table = table_of(tmp_path, "time,x,y,observer,duration\n" + text)
    gaze = gaze_of_frames(table, np.array(times), interval)
    return [gaze.at(index)[:, 0].tolist() for index in range(len(times))], gaze.outside


def test_a_sample_belongs_to_the_frame_that_is_shown(tmp_path):
    text = "0,1,0,a,\n0.0399,2,0,a,\n0.039,3,0,a,\n0.119,4,0,a,\n0.12,5,0,a,\n-0.1,6,0,a,\n"
    # 0.0399 is 0.04 rounded down; the last frame is shown until 0.12, and nothing after it.
    assert frames_of(text, tmp_path, [0.0, 0.04, 0.08], 0.04) == ([[1], [2, 3], []], 3)
    assert frames_of(text, tmp_path, [0.0, 0.05, 0.1], 0.05) == ([[1, 2, 3], [], [4, 5]], 1)


def test_a_fixation_belongs_to_every_frame_it_lasts_over(tmp_path):
    text = "0.01,1,0,a,0.07\n0.04,2,0,a,0.04\n-0.5,3,0,a,0.51\n0.11,4,0,a,9\n-1,5,0,a,0.5\n"
    frames, outside = frames_of(text, tmp_path, [0.0, 0.04, 0.08], 0.04)
    assert frames == ([[1, 3], [1, 2], [4]])
    assert outside == 1


@given(
    times=st.lists(st.floats(0.01, 0.5), min_size=1, max_size=12),
    samples=st.lists(st.floats(-1, 8), max_size=30),
    interval=st.floats(0.01, 0.5),
)
def test_every_sample_is_of_one_frame_or_outside(tmp_path_factory, times, samples, interval):
    starts = np.concatenate(([0.0], np.cumsum(times)))
    path = tmp_path_factory.mktemp("gaze") / "gaze.csv"
    path.write_text("time,x,y,observer\n" + "".join(f"{time!r},{n},0,a\n" for n, time in enumerate(samples)))
    gaze = gaze_of_frames(read_gaze(path), starts, interval)
    ends = np.append(starts[1:], starts[-1] + interval)
    for frame, (start, end) in enumerate(zip(starts, ends, strict=True)):
        expected = [n for n, time in enumerate(samples) if start <= time + 1e-3 < end]
        assert sorted(gaze.at(frame)[:, 0].tolist()) == expected
    assert gaze.outside + len(gaze.points) == len(samples)
