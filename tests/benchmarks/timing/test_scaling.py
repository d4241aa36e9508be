"""Grids by hand, the report of made points, and one run of the command; nothing here asserts a time."""

import json
import statistics

import pytest

from dtfsal.benchmarks.count.flops import count
from dtfsal.benchmarks.timing.forms import choose_forms
from dtfsal.benchmarks.timing.scaling import grid, law_of, scaling
from dtfsal.benchmarks.timing.scaling_report import draw, markdown
from dtfsal.engines.errors import UnavailableError, UsageError
from dtfsal.runtime.cli import main
from dtfsal.training.model.config import PRESETS

TINY = PRESETS["tiny"]  # 16 frames of 96x160


def labels(vary, values=(), config=TINY, **changes):
    return [point.label for point in grid(config, vary, values, **{"batch_size": 1, "threads": 2, **changes})]


def test_default_grids_by_hand():
    assert labels("frames") == ["8", "16", "24", "32"]
    assert labels("frames", config=PRESETS["dtfsal"]) == ["16", "32", "48", "64"]
    assert labels("size") == ["64x96", "96x160", "128x224", "160x256", "192x320"]
    assert labels("batch") == ["1", "2", "3", "4"]
    assert labels("threads") == ["1", "2"]
    assert labels("threads", threads=18) == ["1", "2", "3", "4", "8", "12", "16", "18"]


def test_what_a_point_is():
    small, large = grid(TINY, "size", ["128x192", "64x96"], batch_size=3, threads=2)
    assert (small.label, small.x, small.batch_size, small.threads) == ("64x96", 64 * 96, 3, 2)
    assert (large.config.clip.height, large.config.audio.width, large.config.clip.frames) == (128, 96, 16)
    one, four = grid(TINY, "batch", ["4", "1", "4"], batch_size=3, threads=2)  # in order, each once
    assert [(point.x, point.batch_size, point.config) for point in (one, four)] == [(1, 1, TINY), (4, 4, TINY)]
    threads = grid(TINY, "threads", ["1", "3"], batch_size=2, threads=9)
    assert [(point.threads, point.batch_size) for point in threads] == [(1, 2), (3, 2)]


@pytest.mark.parametrize(
    ("vary", "values", "message"),
    [
        ("size", ["96"], "'96' is not a value of size: give HxW"),
        ("frames", ["8.5", "16"], "'8.5' is not a value of frames: give a number"),
        ("frames", ["16", "16"], "two values or more"),
        ("threads", ["1"], "on a machine of two cores or more"),
        ("size", ["96x160", "100x160"], "multiples of 32"),
        ("batch", ["0", "1"], "'0' is not a value of batch"),
    ],
)
def test_grids_that_cannot_be(vary, values, message):
    with pytest.raises(UsageError, match=message):
        labels(vary, values)


def made_rows():
    def row(x, seconds, gflop):
        return {
            "label": str(x),
            "x": x,
            "seconds": seconds,
            "median_seconds": statistics.median(seconds),
            "median_interval_seconds": (min(seconds), max(seconds)),
            "true_gflop": gflop,
            "true_gflop_per_second": gflop / statistics.median(seconds),
            "cold": {"peak_memory_bytes": x * 2**20},
        }

    return [row(1, [1.0, 1.0], 3.0), row(2, [2.0, 2.0], 12.0), row(4, [4.0, 4.0], 48.0)]


def made_report(vary="batch"):
    rows = made_rows()
    host = {"cpu": "C", "cores": 2, "system": "S", "python": "3", "versions": {}, "date": "D", "fingerprint": "abc"}
    return {
        "preset": "tiny",
        "form": "eager",
        "vary": vary,
        "fixed": {"frames": 16},
        "runs": 2,
        "confidence": 0.95,
        "interval_coverage": 0.5,
        "law": law_of(vary, rows),
        "other_cores": None,
        "rows": rows,
        "machine": host,
        "command": ["dtfsal", "--form", "eager plain"],
    }


def test_laws_of_made_points():
    power = law_of("batch", made_rows())
    assert power["name"] == "power"
    assert power["exponent"] == pytest.approx(1)
    assert power["flops_exponent"] == pytest.approx(2)
    serial = law_of("threads", [{**row, "seconds": [5.0]} for row in made_rows()])
    assert serial["name"] == "amdahl"
    assert serial["serial_share"] == pytest.approx(1)


def test_the_table_of_made_points():
    table = markdown(made_report())
    assert "| batch | median | 95 % interval |" in table
    assert "| 4 | 4 s | 4-4 s | 4.00x | 48 | 12 | 4 MiB |" in table
    assert "windows at once to the power 1.00 (1.00 to 1.00), operations to the power 2.00" in table
    assert "intervals cover the true median with 50 %" in table
    assert "`dtfsal --form 'eager plain'`" in table
    report = made_report()
    two = markdown({**report, "rows": report["rows"][:2]})
    assert "any such law goes through two points" in two
    assert "-300 % of the work is serial" not in table
    assert "of the work is serial" in markdown(made_report("threads"))


@pytest.mark.parametrize("vary", ["batch", "threads"])
def test_the_picture_has_the_law_and_every_run(vary):
    times, operations = draw(made_report(vary)).axes
    drawn = {tuple(line.get_ydata()) for line in times.lines}
    assert {(1.0, 1.0), (2.0, 2.0), (4.0, 4.0)} <= drawn
    (law,) = (line for line in times.lines if line.get_linestyle() == "--")
    assert list(law.get_xdata())[::50] == pytest.approx([1, 4])
    assert list(operations.lines[0].get_ydata()) == [3, 12, 48]


def test_the_command(tmp_path, capsys):
    output = tmp_path / "frames.json"
    arguments = ["--preset", "tiny-v", "--form", "eager", "--vary", "frames", "--grid", "16,8", "--runs", "2"]
    assert main(["benchmark", "scaling", *arguments, "--threads", "1", "--output", str(output)]) == 0
    report = json.loads(output.read_text())
    # Without --form eager, which is the default.
    given = ["--preset", "tiny-v", "--vary", "frames", "--grid", "16,8", "--runs", "2", "--threads", "1"]
    assert report["command"] == ["dtfsal", "benchmark", "scaling", *given]
    assert report["fixed"] == {"size": "96x160", "batch": 1, "threads": 1}
    assert [(row["form"], row["x"], len(row["seconds"])) for row in report["rows"]] == [
        ("eager, frames 8", 8, 2),
        ("eager, frames 16", 16, 2),
    ]
    for row in report["rows"]:
        operations = count(PRESETS["tiny-v"].resized(frames=row["x"])).total.true_flops
        assert row["true_gflop"] == pytest.approx(operations / 1e9)
    assert str(tmp_path) not in output.read_text()
    assert output.with_suffix(".md").read_text() == markdown(report) == capsys.readouterr().out
    assert output.with_suffix(".png").stat().st_size > 0


def test_a_form_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("dtfsal.benchmarks.timing.scaling.seeded_weights", lambda _, folder: folder / "none")
    (form,) = choose_forms(["torch.compile"])
    with pytest.raises(UnavailableError, match=r"torch.compile cannot run here: at 1, .* g\+\+; at 2, "):
        scaling("tiny-v", form, "batch", ["1", "2"], runs=1)


@pytest.mark.parametrize("arguments", [("--vary", "frames", "--grid", "8"), ("--vary", "batch", "--form", "slow")])
def test_wrong_arguments(arguments):
    assert main(["benchmark", "scaling", *arguments]) == 2
