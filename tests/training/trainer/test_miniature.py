"""The miniature of the paper's tables: its statistics against a closed form, and a very small one from end to end."""

import json
import math

import pytest

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.cli import main
from dtfsal.training.trainer.miniature import MiniatureOptions, interval, markdown, miniature_tables, summary

METRICS = ("cc", "nss", "auc_judd", "sim")


def line(row, cc, paper):
    return {
        "row": row,
        "dataset": "dhf1k",
        "paper": dict.fromkeys(METRICS) | {"cc": paper},
        "ours": dict.fromkeys(METRICS, cc),
        "convention": "mit",
    }


def test_the_interval_is_students():
    """Of -1, 0 and 1 the deviation is 1, and t of two degrees of freedom 4.303."""
    mean, half = interval([4.0, 5.0, 6.0])
    assert mean == 5
    assert half == pytest.approx(4.303 / math.sqrt(3))


def test_rows_are_compared_seed_by_seed():
    """Seeds that lift both rows alike say nothing about which is better."""
    runs = [[line("a", 0.1, 0.4), line("b", 0.2, 0.5)], [line("a", 0.5, 0.4), line("b", 0.61, 0.5)]]
    table = summary("t", runs)
    (pair,) = table["pairs"]
    assert pair["ours"] == pytest.approx(0.105)
    assert pair["half_width"] == pytest.approx(12.706 * 0.01 / math.sqrt(2) / math.sqrt(2))
    assert (pair["clear"], pair["as_paper"]) == (True, True)
    assert table["rows"][0]["scores"]["cc"][1] > 1  # though each row's own interval is wide
    reverse = summary("t", [[b, a] for a, b in runs])["pairs"][0]
    assert (reverse["ours"], reverse["as_paper"]) == (pytest.approx(-0.105), True)
    silent = summary("t", [[line("a", 0.1, None), line("b", 0.2, 0.5)]] * 2)["pairs"][0]
    assert (silent["paper"], silent["as_paper"]) == (None, None)
    text = markdown({"table5": table})
    assert "- b less a: CC +0.105 ± 0.064, as in the paper" in text
    assert "2 seeds" in text


def test_its_tables_are_the_papers_rows():
    tables = miniature_tables()
    assert list(tables) == ["table1", "table5", "table10", "table11", "table13", "normalisation"]
    assert [row.label for row in tables["table5"].rows] == ["one decoder", "U-Net", "multi-decoder"]
    assert {name for table in tables.values() for row in table.rows for name in row.paper} == {"dhf1k", "etmd"}
    for bad in ({"scenes": 3}, {"seeds": 1}, {"seeds": 99}):
        with pytest.raises(UsageError, match="needs"):
            MiniatureOptions(**bad)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["table7", "--miniature"], "the miniature has the tables table1"),
        (["--miniature"], "say where the miniature goes"),
        (["table5", "--plan", "--seeds", "3"], "--seeds is for --miniature"),
        (["--plan"], "say which table"),
    ],
)
def test_what_cannot_be_is_one_sentence(capsys, extra, message):
    assert main(["reproduce", *extra]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_very_small_one_runs_from_end_to_end_and_is_not_repeated(tmp_path, capsys):
    command = ["reproduce", "table11", "--miniature", "-o", str(tmp_path), "--scenes", "6", "--epochs", "1"]
    assert main([*command, "--seeds", "2", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    rows = whole["tables"]["table11"]["rows"]
    assert [row["row"] for row in rows] == ["without DHF1K", "only the fusion", "all of it"]
    assert all(-1 <= row["scores"]["cc"][0] <= 1 for row in rows)
    runs = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/last.safetensors")}
    assert main([*command, "--seeds", "2"]) == 0
    assert {path: path.stat().st_mtime_ns for path in runs} == runs
    assert "2 seeds" in (tmp_path / "miniature.md").read_text()
