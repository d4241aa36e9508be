"""The documents say what is so: links lead somewhere, tables are the results', code runs, commands exist."""

import ast
import re
from pathlib import Path

import pytest

from dtfsal.benchmarks.flops import PAPER_ROWS, count
from dtfsal.benchmarks.tables import MARK, with_tables
from dtfsal.runtime.cli import EXIT_CODES, main

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
    table = (ROOT / "docs" / "cli.md").read_text()
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == set(EXIT_CODES)


def test_commands_exist():
    for name in re.findall(r"^\| `(\w+)[ `]", (ROOT / "docs" / "cli.md").read_text(), re.MULTILINE):
        assert main([name, "--help"]) == 0


@pytest.mark.parametrize("preset", PAPER_ROWS)
def test_the_models_figures_are_the_counters(preset):
    report, text = count(preset), (ROOT / "docs" / "model.md").read_text()
    for figure in (report.total.parameters / 1e6, report.size_mib, report.total.macs / 1e9):
        assert f"{figure:.2f}" in text
