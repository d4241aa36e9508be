"""Every figure has a step that makes it, and a step builds what it needs, runs its command and says what fails."""

import argparse
import importlib.metadata
import json
import re
from pathlib import Path

import pytest

from dtfsal.benchmarks.editions import FILES as EDITION_FILES
from dtfsal.benchmarks.report.refresh import ENGINES, STEPS, STILLS, VIDEO, Places, chosen, refresh
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.cli import main

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def places_in(folder):
    return Places(
        results=folder / "results", engines=folder / "engines", video=folder / "clip.mp4", stills=folder / "osie"
    )


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
        assert refresh(steps, places_in(tmp_path), run=run, say=said.append) == []
    built = [words[words.index("--output") + 1] for words in ran if words[0] == "build"]
    names = ["dtfsal.engine", "dtfsal-own.engine", "lite.engine", "lite-window.engine"]
    assert built == [str(tmp_path / "engines" / name) for name in names]
    live = ran[-1]
    assert live[:2] == ["benchmark", "live"]
    assert live[live.index("--video") + 1] == str(tmp_path / "clip.mp4")
    assert live[-2:] == ["--output", str(tmp_path / "results" / "live-lite-cpu.json")]


def test_what_fails_is_said_and_the_rest_goes_on(tmp_path):
    def run(words):
        return 1 if "--engine" in words and str(tmp_path / "engines" / "dtfsal.engine") in words else 0

    steps = chosen(["layers-dtfsal", "layers-dtfsal-own"])
    wrong = refresh(steps, places_in(tmp_path), run=run, say=lambda _: None)
    assert wrong == ["layers-dtfsal.json could not be measured"]


def test_an_unknown_result():
    with pytest.raises(UsageError, match="no result 'speed'; there are: flops-dtfsal"):
        chosen(["speed"])


def test_what_is_not_there_is_said(tmp_path, monkeypatch):
    wrong = refresh(chosen(["lite-osie"]), places_in(tmp_path), run=lambda _: 0, say=lambda _: None)
    told = "give OSIE's folder with --stills, the others beside it"
    assert wrong == [f"lite-osie needs the photographs osie (`dtfsal prepare`): {told}"]
    (tmp_path / "osie").mkdir()
    wrong = refresh(chosen(["lite-osie", "lite-crowd"]), places_in(tmp_path), run=lambda _: 0, say=lambda _: None)
    assert wrong == [f"lite-crowd needs the photographs crowd (`dtfsal prepare`): {told}"]
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    wrong = refresh(chosen(["pareto-lite"]), places_in(tmp_path), run=lambda _: 0, say=lambda _: None)
    assert wrong == ["pareto-lite.json needs openvino, which is not installed"]


def test_a_report_of_a_build_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: True)

    def run(words):
        folder = Path(words[words.index("--output") + 1])
        folder.mkdir(parents=True)
        for name in ("report.json", "report.png"):
            (folder / name).write_text(name)
        return 0

    assert refresh(chosen(["layers-dtfsal-rtx"]), places_in(tmp_path), run=run, say=lambda _: None) == []
    kept = tmp_path / "results" / "layers-dtfsal-rtx"
    assert sorted((path.name, path.read_text()) for path in kept.iterdir()) == [
        ("report.json", "report.json"),
        ("report.png", "report.png"),
    ]


def test_steps_are_commands_that_the_command_line_takes(tmp_path, capsys):
    """Each step's words are parsed by the command line's own parsers, with engines and clips as paths."""
    for step in STEPS:
        words = places_in(tmp_path).command(step)
        (command,) = importlib.metadata.entry_points(group="dtfsal.commands", name=words[0])
        parser = argparse.ArgumentParser()
        command.load().configure(parser)
        args = parser.parse_args(words[1:])
        assert Path(args.output) == places_in(tmp_path).output(step)
        assert set(step.engines) <= set(ENGINES)
        assert not {word for word in words if word.isupper()}, "a place was not filled in"
    assert main(["benchmark", "refresh", "--list", "--only", "flops-dtfsal"]) == 0
    assert capsys.readouterr().out.startswith("flops-dtfsal.json: dtfsal benchmark flops --preset dtfsal")
    assert VIDEO in chosen(["live-lite-cpu"])[0].words
    assert STILLS in chosen(["lite-osie"])[0].words


def test_each_figure_of_the_documents_has_its_json():
    """A table or picture of a result stands beside the JSON that it was made from; every step's result is shown."""
    shown = set()
    for document in DOCUMENTS:
        text = document.read_text()
        shown |= {ROOT / path for path in re.findall(r"<!-- table: (\S+) -->", text)}
        shown |= {
            (document.parent / path).resolve() for path in re.findall(r"\]\((\S*benchmarks/results/\S+?)\)", text)
        }
    made = {step.name for step in STEPS}
    assert made <= {path.relative_to(RESULTS).parts[0].partition(".")[0] for path in shown}, (
        "no document shows a result"
    )
    for path in shown:
        assert path.is_file(), path
        result = path.relative_to(RESULTS).parts[0]
        name = result.partition(".")[0].partition("@")[0]  # after it another machine's fingerprint
        if name in ("lite-editions", "lite-summary"):  # `make tables` makes them of both editions' JSON
            assert all((RESULTS / edition / file).is_file() for edition in ("", "lite-first") for file in EDITION_FILES)
            continue
        assert name in made or name == "soak", f"no step makes {path}"  # `make soak` takes over an hour
        if path.suffix in (".md", ".png", ".svg"):
            report = json.loads(path.with_suffix(".json").read_text())
            assert report, path
