"""Every figure has a step that makes it, and a step builds what it needs, runs its command and says what fails."""

import json
import re
from pathlib import Path

import pytest

from dtfsal.benchmarks.reproduce import ENGINES, STEPS, VIDEO, chosen, reproduce
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.cli import main

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_engines_are_built_once_and_results_go_to_their_folder(tmp_path):
    ran, said = [], []

    def run(words):
        ran.append(words)
        if words[0] == "build":
            folder = Path(words[words.index("--output") + 1])
            folder.mkdir(parents=True)
            (folder / "manifest.json").touch()
        return 0

    steps = chosen(["layers-dtfsal", "layers-dtfsal-own.json", "live-lite-cpu"])
    for _ in range(2):
        folders = {"results": tmp_path / "results", "engines": tmp_path / "engines"}
        assert reproduce(steps, **folders, video=tmp_path / "clip.mp4", run=run, say=said.append) == []
    built = [words[words.index("--output") + 1] for words in ran if words[0] == "build"]
    names = ["dtfsal.engine", "dtfsal-own.engine", "lite.engine", "lite-window.engine"]
    assert built == [str(tmp_path / "engines" / name) for name in names]
    live = ran[-1]
    assert live[:2] == ["benchmark", "live"]
    assert live[live.index("--video") + 1] == str(tmp_path / "clip.mp4")
    assert live[-2:] == ["--output", str(tmp_path / "results" / "live-lite-cpu.json")]


def test_what_fails_is_said_and_the_rest_goes_on(tmp_path):
    def run(words):
        return 1 if "--engine" in words and str(tmp_path / "dtfsal.engine") in words else 0

    steps = chosen(["layers-dtfsal", "layers-dtfsal-own"])
    wrong = reproduce(steps, results=tmp_path, engines=tmp_path, video=tmp_path, run=run, say=lambda _: None)
    assert wrong == ["layers-dtfsal.json could not be measured"]


def test_an_unknown_result():
    with pytest.raises(UsageError, match="no result 'speed'; there are: flops-dtfsal"):
        chosen(["speed"])


def test_steps_are_commands_that_the_command_line_takes(capsys):
    """Each step's words are parsed by its own kind's parser, with engines and the clip as names."""
    import argparse

    from dtfsal.benchmarks.cli import configure

    for step in STEPS:
        parser = argparse.ArgumentParser()
        configure(parser)
        args = parser.parse_args([*step.words, "--output", step.result])
        assert args.kind == step.words[0]
        assert args.output.name == step.result
        assert set(step.engines) <= set(ENGINES)
    assert main(["benchmark", "reproduce", "--list", "--only", "flops-dtfsal"]) == 0
    assert capsys.readouterr().out.startswith("flops-dtfsal.json: dtfsal benchmark flops --preset dtfsal")
    assert VIDEO in STEPS[-1].words


def test_each_figure_of_the_documents_has_its_json():
    """A table or picture of a result stands beside the JSON that it was made from, whose kind is told."""
    shown = set()
    for document in DOCUMENTS:
        text = document.read_text()
        shown |= {ROOT / path for path in re.findall(r"<!-- table: (\S+) -->", text)}
        shown |= {
            (document.parent / path).resolve() for path in re.findall(r"\]\((\S*benchmarks/results/\S+?)\)", text)
        }
    assert shown
    for path in shown:
        assert path.is_file(), path
        if path.suffix in (".md", ".png", ".svg"):
            report = json.loads(path.with_suffix(".json").read_text())
            assert report, path
