"""Two results compared: made runs, Holm's correction by hand, and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfsal.benchmarks.report.compare import compare, holm, other_machine
from dtfsal.runtime.cli import main

HOST = {"cpu": "C", "cores": 2, "fingerprint": "abc"}


def report(host=HOST, **rows):
    return {"rows": [{"form": form, "seconds": list(seconds)} for form, seconds in rows.items()], "machine": host}


def runs(median, seed):
    return median * np.random.default_rng(seed).normal(1, 0.01, 12)


def test_verdicts():
    before = report(same=runs(1, 0), better=runs(1, 1), worse=runs(1, 2), little=runs(1, 3), gone=[1, 1], few=[1, 1])
    after = report(same=runs(1, 4), better=runs(0.8, 5), worse=runs(1.2, 6), little=runs(1.015, 7), few=[2, 2], new=[1])
    rows = {row["form"]: row for row in compare(before, after)}
    assert list(rows) == ["same", "better", "worse", "little", "few"]
    verdicts = [row["verdict"] for row in rows.values()]
    assert verdicts == ["no difference shown", "faster", "slower", "no difference shown", "no difference shown"]
    low, high = rows["better"]["ratio_interval"]
    assert low < rows["better"]["ratio"] < high < 0.85


def test_holm_by_hand():
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_between_the_p_values_and_bonferronis(values):
    for value, corrected in zip(values, holm(values), strict=True):
        assert value <= corrected <= min(1, value * len(values)) + 1e-12


def test_machines():
    assert other_machine(report(), report()) is None
    assert "different machines" in other_machine(report(), report({**HOST, "fingerprint": "xyz"}))
    old = {"cpu": "C", "cores": 2}  # from before there were fingerprints
    assert other_machine(report(old), report()) is None
    assert other_machine(report(old), report({**HOST, "cores": 4})) is not None


def test_the_command(tmp_path, capsys):
    for name, result in {
        "a": report(x=runs(1, 0)),
        "b": report(x=runs(2, 1)),
        "c": report({**HOST, "fingerprint": "xyz"}, x=runs(1, 2)),
        "d": report(y=runs(1, 3)),
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    (tmp_path / "e.json").write_text('{"rows": [{"form": "x", "seconds": []}]}')
    a, b, c, d, e = (str(tmp_path / f"{name}.json") for name in "abcde")
    assert main(["benchmark", "compare", a, b]) == 0
    assert "slower" in capsys.readouterr().out
    assert main(["benchmark", "compare", a, b, "--fail-if-slower"]) == 1
    assert main(["benchmark", "compare", b, a, "--fail-if-slower", "--json"]) == 0
    assert main(["benchmark", "compare", a, c]) == 2
    assert main(["benchmark", "compare", a, c, "--across-machines"]) == 0
    for wrong in (d, e, str(tmp_path / "none.json")):
        assert main(["benchmark", "compare", a, wrong]) == 2
