"""The committed budget holds, and growth over it fails; nothing here asserts a time."""

import json

import pytest

from dtfsal.benchmarks.count.budget import allocation_counts, check, engine_counts, model_counts, read_budget
from dtfsal.engines import ClipSpec
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.cli import main


def test_the_models_are_within_the_committed_budget():
    assert check(model_counts(), read_budget()) == ([], [])


def test_the_engine_is_within_the_committed_budget(lite_engine):
    counts = engine_counts(lite_engine) | allocation_counts(lite_engine)
    wrong, _ = check(counts, read_budget())
    assert not wrong
    assert counts["lite-8x64x96-onnxruntime-fp32/head/all/nodes"] > 100


def test_growth_fails_and_shrinking_is_said():
    budget = {"a/nodes": 10, "b/bytes": 1000, "c/flops": 7}
    assert check({"a/nodes": 10, "b/bytes": 1009, "c/flops": 7}, budget) == ([], [])
    wrong, shrunk = check({"a/nodes": 11, "b/bytes": 1011, "c/flops": 6, "d/nodes": 1}, budget)
    assert wrong == [
        "a/nodes is 11, over its budget of 10 (+10.00%)",
        "b/bytes is 1011, over its budget of 1000 (+1.10%)",
        "d/nodes is 1 and has no budget",
    ]
    assert shrunk == ["c/flops is 6, under its budget of 7"]


def test_the_command(make_toy_engine, tmp_path, capsys):
    engine, budget = (
        make_toy_engine(ClipSpec(frames=4, height=24, width=40, frame_rate_hz=25.0), None),
        tmp_path / "b.json",
    )
    words = ["benchmark", "budget", "--engine", str(engine), "--budget", str(budget)]
    assert main(words) == 2  # there is none yet
    assert main([*words, "--update"]) == 0
    assert main(words) == 0
    values = json.loads(budget.read_text())
    name = next(name for name in values if name.endswith("window/all/nodes"))
    budget.write_text(json.dumps(values | {name: values[name] - 1}))
    capsys.readouterr()
    assert main(words) == 1
    assert f"{name} is {values[name]}, over its budget" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", '{"a/nodes": 1.5}', '{"a/seconds": 1}'])
def test_budgets_that_are_none(text, tmp_path):
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="is not a budget"):
        read_budget(path)
