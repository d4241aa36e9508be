"""What commands are called: their groups in `dtfsal --help`, and old names that still work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# In the order of the help: what a user needs first comes first. Any other command stands under `OTHER`.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "use": ("predict", "live", "info"),
    "apply": ("report", "compare", "reframe", "encode", "serve", "triton"),
    "build": ("build", "refit", "parity", "native", "doctor"),
    "train": ("prepare", "check", "synth", "train", "train-lite", "evaluate", "submit", "reproduce"),
    "measure": ("benchmark", "recommend"),
}
OTHER = "other"

# Old words and new ones, for one release: a command and its second word, or a command and an option anywhere behind it.
OLD_NAMES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("build", "--refit"): ("refit",),
    ("train", "--stills"): ("train-lite",),
    ("data", "check"): ("check",),
    ("benchmark", "reproduce"): ("benchmark", "refresh"),
}


def grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """The commands that are there, by group, both in the help's order; no group is empty."""
    left = set(names)
    groups = {title: [name for name in members if name in left] for title, members in GROUPS.items()}
    groups[OTHER] = sorted(left.difference(*GROUPS.values()))
    return {title: members for title, members in groups.items() if members}


def current_words(words: list[str]) -> tuple[list[str], str | None]:
    """A command line with the new name for an old one.

    Args:
        words: what follows `dtfsal`.

    Returns:
        The words to run, and a sentence about the new name; the words as they are and None where no name is old.
    """
    for (command, second), new in OLD_NAMES.items():
        for place, word in enumerate(words[1:] if words[:1] == [command] else (), 1):
            name, equals, value = word.partition("=")
            if name == second and (place == 1 or second.startswith("--")):
                rest = [*words[1:place], *([value] if equals else []), *words[place + 1 :]]
                old, now = f"dtfsal {command} {second}", f"dtfsal {' '.join(new)}"
                return [*new, *rest], f"`{old}` is now `{now}`; the next release no longer knows the old name"
    return words, None
