"""What commands are called: groups in the help, examples that the commands take, and old names."""

import argparse
import importlib.metadata
import re
import shlex
import sys
import types

import pytest

from dtfsal.runtime import cli
from dtfsal.runtime.cli import main
from dtfsal.runtime.cli.names import current_words

# What a user is told, in this order.
GROUPS = {
    "use": ["predict", "live", "info"],
    "apply": ["report", "compare", "reframe", "encode", "serve", "triton"],
    "build": ["build", "refit", "parity", "native", "doctor"],
    "train": ["prepare", "check", "synth", "train", "train-lite", "evaluate", "submit", "reproduce"],
    "measure": ["benchmark", "recommend"],
}
COMMANDS = [name for names in GROUPS.values() for name in names]


def help_of(capsys, *words):
    assert main([*words, "--help"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def shown_groups(text):
    """Titles of the help's groups, and the names below each."""
    blocks = re.findall(r"^(\w+):\n((?:^ +.*\n)+)", text, re.MULTILINE)
    return {title: re.findall(r"^  ([\w-]+)  ", lines, re.MULTILINE) for title, lines in blocks}


def test_help_shows_commands_in_groups(capsys):
    shown = shown_groups(help_of(capsys))
    assert {title: names for title, names in shown.items() if title not in ("options", "examples")} == GROUPS
    assert list(shown)[1 : 1 + len(GROUPS)] == list(GROUPS)


def test_a_third_partys_command_stands_under_other(capsys, monkeypatch):
    entries = [
        importlib.metadata.EntryPoint(name, module, "dtfsal.commands")
        for name, module in (("zoom", "third_party"), ("info", "dtfsal.runtime.cli.info"), ("act", "third_party"))
    ]
    monkeypatch.setattr(cli.importlib.metadata, "entry_points", lambda **_: entries)
    monkeypatch.setitem(sys.modules, "third_party", types.SimpleNamespace(HELP="act", configure=None, run=None))
    shown = shown_groups(help_of(capsys))
    assert (shown["use"], shown["other"]) == (["info"], ["act", "zoom"])
    assert "train" not in shown


@pytest.mark.parametrize("name", ["", *COMMANDS, "benchmark delay"])
def test_examples_are_command_lines_that_work(capsys, name):
    """Each example is parsed by the command that it calls, by its name of today, and none measures a random model."""
    text = help_of(capsys, *name.split())
    shown = re.findall(r"^  (?:torchrun .* )?(dtfsal .*)$", text, re.MULTILINE)
    assert shown
    for line in [part for words in shown for part in re.split(r"\s{2,}", words)[0].split(" && ")]:
        words = shlex.split(line)[1:]
        assert current_words(words) == (words, None)
        (entry,) = importlib.metadata.entry_points(group="dtfsal.commands", name=words[0])
        parser = argparse.ArgumentParser()
        entry.load().configure(parser)
        parser.parse_args(words[1:])
        assert not any(word.startswith("tiny") for word in words), line


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("data check avad data --json", "check avad data --json"),
        ("build --refit a.engine --weights w -o b", "refit a.engine --weights w -o b"),
        ("build --weights w -o b --refit=a.engine", "refit --weights w -o b a.engine"),
        ("train --stills data/osie -o w", "train-lite data/osie -o w"),
        ("train -o w --epochs 1 --stills data/osie", "train-lite -o w --epochs 1 data/osie"),
        ("benchmark reproduce --list", "benchmark refresh --list"),
    ],
)
def test_an_old_name_becomes_the_new_one(old, new):
    words, told = current_words(old.split())
    assert words == new.split()
    assert f"is now `dtfsal {new.split(' ')[0]}" in told


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--help",
        "data",
        "train e.yaml -o run",
        "build --refittable -o e",
        "reproduce table7 --plan",
        "benchmark compare reproduce again.json",
        "evaluate w --stills data/osie -o scores",
    ],
)
def test_other_words_stay(words):
    assert current_words(words.split()) == (words.split(), None)


def test_an_old_name_says_the_new_one_once_and_leaves_stdout_alone(capsys):
    assert main(["benchmark", "refresh", "--list"]) == 0
    listed = capsys.readouterr()
    assert listed.err == ""
    assert main(["benchmark", "reproduce", "--list"]) == 0
    assert capsys.readouterr() == (
        listed.out,
        "dtfsal: `dtfsal benchmark reproduce` is now `dtfsal benchmark refresh`; the next release no longer knows the "
        "old name\n",
    )
    assert main(["data", "check", "avad", "nowhere"]) == main(["check", "avad", "nowhere"]) == 3
    assert main(["data", "check", "nothing", "nowhere"]) == main(["check", "nothing", "nowhere"]) == 2
    assert capsys.readouterr().out == ""


def test_help_shows_no_old_name(capsys):
    assert "data" not in [name for names in shown_groups(help_of(capsys)).values() for name in names]
    assert "reproduce" not in help_of(capsys, "benchmark")
    assert "--refit " not in help_of(capsys, "build")
    assert "--stills" not in help_of(capsys, "train")
