"""The documents say what is so: links lead somewhere, tables are the results', code runs, commands exist."""

import ast
import itertools
import re
from pathlib import Path

import pytest

from dtfsal.benchmarks.count.flops import PAPER_ROWS, count_forms, macs_of_one_token_map
from dtfsal.benchmarks.tables import MARK, with_tables
from dtfsal.runtime.cli import EXIT_CODES, main
from dtfsal.training import PRESETS
from dtfsal.training.model.blocks import TemporalConv

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in LINK.findall(document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_the_results(document):
    text = document.read_text()
    assert with_tables(text, ROOT) == text, "run: make tables"


def test_the_readme_has_a_measured_table():
    assert any(match["table"].startswith("|") for match in MARK.finditer((ROOT / "README.md").read_text()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_compiles_and_imports_what_exists(document):
    for code in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                module = __import__(node.module, fromlist=[alias.name for alias in node.names])
                assert all(hasattr(module, alias.name) for alias in node.names)


def test_the_readmes_python_runs(toy_engine, make_toy_clip, tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    make_toy_clip(tmp_path / "clip.mp4")
    exec(code.replace("lite.engine", str(toy_engine)), {})
    assert capsys.readouterr().out.count("\n") > 1


def test_exit_codes_are_documented():
    table = (ROOT / "docs" / "reference" / "cli.md").read_text()
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == set(EXIT_CODES)


def test_commands_exist():
    for name in re.findall(r"^\| `([\w-]+)[ `]", (ROOT / "docs" / "reference" / "cli.md").read_text(), re.MULTILINE):
        assert main([name, "--help"]) == 0


@pytest.mark.parametrize("preset", PAPER_ROWS)
def test_the_models_figures_are_the_counters(preset):
    """What the text says of the table's figures; that the table is the counter's is a test of that."""
    text = " ".join((ROOT / "docs" / "explanation" / "model.md").read_text().split())
    forms, paper = count_forms(preset), PAPER_ROWS[preset].gflops
    more = {form: report.total.macs / 1e9 / paper - 1 for form, report in forms.items()}
    (written,) = re.findall(r"as written cost (\d+) % \(DTFSal\(V\)\) and (\d+) % \(DTFSal\) more", text)
    (computed,) = re.findall(r"computed form costs (\S+) % more and (\S+) % less", text)
    (once,) = re.findall(r"cost about (\d+) G \(\+(\d) %\) and (\d+) G \(\+(\d) %\)", text)
    place = list(PAPER_ROWS).index(preset)
    assert float(written[place]) == round(100 * more["written"])
    assert float(computed[place]) == round(100 * abs(more["deployed"]), 1)
    one = macs_of_one_token_map(forms, PRESETS[preset].times) / 1e9
    assert [float(figure) for figure in once[2 * place : 2 * place + 2]] == [round(one), round(100 * (one / paper - 1))]


def test_the_times_that_decoders_leave_are_the_models():
    text = (ROOT / "docs" / "explanation" / "model.md").read_text()
    rows = re.findall(r"^\| (\d+), (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    numbers = [[int(cell) for cell in row] for row in rows]
    assert [times for row in numbers for times in row[:2]] == list(range(1, 25))
    for odd, even, read, *left in numbers:
        for times in (odd, even):
            assert times - TemporalConv.first_time(times) == read
            found = itertools.accumulate(range(4), lambda n, _: TemporalConv.output_times(n), initial=times)
            assert list(found)[1:] == left
