"""The documents say what is so: links lead somewhere, tables are the results', code runs, commands exist."""

import ast
import collections
import importlib
import importlib.util
import itertools
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from dtfsal.benchmarks.count.flops import PAPER_ROWS, count_forms, macs_of_one_token_map
from dtfsal.benchmarks.tables import MARK, with_tables
from dtfsal.runtime.cli import EXIT_CODES, main
from dtfsal.training import PRESETS
from dtfsal.training.model.blocks import TemporalConv

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def load_hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    return hooks


@pytest.fixture(scope="module")
def parsers():
    """The parser of each command, by its name: "dtfsal build", "dtfsal benchmark flops"."""
    return dict(load_hooks().command_parsers())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in LINK.findall(document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_the_results(document):
    text = document.read_text()
    assert with_tables(text, ROOT) == text, "run: make tables"


def test_a_table_stands_in_one_place():
    places = collections.Counter(
        match["path"] for document in DOCUMENTS for match in MARK.finditer(document.read_text())
    )
    assert [path for path, count in places.items() if count > 1] == []


@pytest.mark.parametrize("start", ["README.md", "docs/index.md"])
def test_every_page_is_named(start):
    """And so a reader finds it; that the site's navigation names it is mkdocs' own check."""
    targets = {(ROOT / start).parent / target for target in LINK.findall((ROOT / start).read_text())}
    named = {target.resolve() for target in targets}
    by_another = {ROOT / "docs/index.md", ROOT / "docs/reference/commands.md"}
    assert [page for page in PAGES if page not in named | by_another] == []


def test_code_names_pages_that_exist():
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not files:
        pytest.skip("not a checkout")
    kinds = {".py", ".h", ".cpp", ".cu", ".cuh", ".inl", ".cmake", ".toml", ".yaml", ".yml", ""}
    paths = (ROOT / name for name in files.split("\0") if name)
    texts = {path: path.read_text() for path in paths if path.suffix in kinds and path.is_file()}
    named = {(path, name) for path, text in texts.items() for name in re.findall(r"\bdocs/[\w/-]+\.md\b", text)}
    assert named
    assert [(str(path.relative_to(ROOT)), name) for path, name in named if not (ROOT / name).is_file()] == []


def test_the_readme_has_a_measured_table():
    assert any(match["table"].startswith("|") for match in MARK.finditer((ROOT / "README.md").read_text()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_compiles_and_imports_what_exists(document):
    for code in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                module = __import__(node.module, fromlist=[alias.name for alias in node.names])
                assert all(hasattr(module, alias.name) for alias in node.names)


def test_exit_codes_are_documented():
    table = (ROOT / "docs" / "reference" / "cli.md").read_text()
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == set(EXIT_CODES)


def test_commands_exist():
    for name in re.findall(r"^\| `([\w-]+)[ `]", (ROOT / "docs" / "reference" / "cli.md").read_text(), re.MULTILINE):
        assert main([name, "--help"]) == 0


def command_lines(text):
    """The words of every shown call of `dtfsal`, without what a shell makes of the rest of the line."""
    for language, block in FENCED.findall(text):
        lines = block.replace("\\\n", " ").splitlines() if language in ("", "sh", "console") else []
        for line in lines:
            for call in re.split(r"&&|\|\||[|<>](?= )", line.removeprefix("$ ")):
                words = shlex.split(call, comments=True) if "dtfsal " in call else []
                if words[:1] == ["dtfsal"]:
                    yield words


def parser_of(words, parsers):
    """The parser of a call and the words that are its arguments."""
    name = max((" ".join(words[:n]) for n in (2, 3) if " ".join(words[:n]) in parsers), key=len, default=None)
    assert name is not None, f"no such command: {words}"
    return parsers[name], words[len(name.split()) :]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_shown_commands_parse(document, parsers):
    for words in command_lines(document.read_text()):
        parser, arguments = parser_of(words, parsers)
        if arguments != ["--help"]:
            try:
                parser.parse_args(arguments)
            except SystemExit:
                pytest.fail(f"{document}: {shlex.join(words)}")


@pytest.mark.parametrize("document", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_named_commands_and_options_exist(document, parsers):
    """In running text, where arguments are placeholders."""
    for call in re.findall(r"`dtfsal ([a-z][^`]*)`", document.read_text()):
        parser, arguments = parser_of(["dtfsal", *call.split("&&")[0].split()], parsers)
        unknown = {word for word in arguments if word.startswith("--")} - set(parser._option_string_actions)
        assert not unknown, call


def test_the_tutorial_shows_commands():
    """So `command_lines` finds them: a shell's prompt or a pipe hides none."""
    shown = [words[1] for page in PAGES if page.parent.name == "tutorial" for words in command_lines(page.read_text())]
    assert {"build", "predict", "info", "synth", "prepare", "train", "evaluate"} <= set(shown)


def test_the_commands_page_is_what_help_prints(parsers, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    for words in (["predict"], ["benchmark", "flops"]):
        main([*words, "--help"])
        assert parsers[" ".join(["dtfsal", *words])].format_help() == capsys.readouterr().out


def test_the_python_page_names_what_exists():
    names = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "reference" / "python.md").read_text(), re.MULTILINE)
    assert len(names) > 20
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute) or importlib.util.find_spec(name), name


@pytest.mark.parametrize(
    ("repository", "link"),
    [(None, "`export/cli.py`"), ("https://forge/x/", "[the command](https://forge/x/blob/HEAD/export/cli.py)")],
)
def test_the_sites_links_that_leave_the_documents(repository, link):
    hooks = load_hooks()
    text = "[the command](../../export/cli.py), ![p](../../benchmarks/results/a.png), [b](../how-to/b.md#c)"
    expected = link if repository else f"the command ({link})"
    copied = "../repository/benchmarks/results/a.png"
    linked = hooks.linked("explanation/speed.md", text, repository)
    assert linked == f"{expected}, ![p]({copied}), [b](../how-to/b.md#c)"
    assert hooks.outside("index.md", "../CHANGELOG.md") == "CHANGELOG.md"
    assert hooks.outside("how-to/a.md", "../images/a.jpg") is None


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
