"""The load test counts every request once, and the server ends well after it."""

import pytest

from dtfsal.benchmarks.timing.serving import markdown, serving
from dtfsal.engines.errors import UnavailableError, UsageError


def test_a_short_measurement_loses_nothing(toy_engine):
    pytest.importorskip("uvicorn")
    report = serving(toy_engine, clients=(1, 6), seconds=0.5, frames=5, jobs=1, queue=1)
    for row in report["rows"]:
        assert row["lost"] == 0
        assert row["answers"] > 0
        assert 0 < row["p50_s"] <= row["p95_s"] <= row["p99_s"]
        assert row["maps_per_second"] == pytest.approx(5 * row["answers_per_second"])
    alone, crowd = report["rows"]
    assert alone["refused"] == 0
    assert crowd["refused"] > 0  # six ask, and two places are there
    assert markdown(report | {"command": ["dtfsal"]}).count("\n| ") >= 2


def test_a_server_that_does_not_start_is_told(tmp_path, toy_engine):
    pytest.importorskip("uvicorn")
    with pytest.raises(UnavailableError, match="does not start"):
        serving(toy_engine, clients=(1,), jobs=1, queue=-1)
    with pytest.raises(UsageError, match="clients"):
        serving(toy_engine, clients=(0,))
