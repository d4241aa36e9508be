"""Tables as Markdown, and in the documents: `python -m dtfsal.benchmarks.tables README.md docs/*/*.md`.

A document marks a table by `<!-- table: PATH -->` and `<!-- /table -->`; PATH is the Markdown that a benchmark wrote
beside its JSON, relative to the project's root, which is where the command runs.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

MARK = re.compile(r"(<!-- table: (?P<path>\S+) -->\n)(?P<table>.*?)(<!-- /table -->)", re.DOTALL)


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table, whose rows have a cell for each heading."""
    return [
        f"| {' | '.join(headings)} |",
        f"|{'---|' * len(headings)}",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]


def with_tables(text: str, root: Path) -> str:
    """The text with each marked table as its result file has it.

    Raises:
        OSError: a result is missing.
    """

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}{(root / match['path']).read_text()}{match[4]}"

    return MARK.sub(table, text)


def main(documents: Sequence[str]) -> int:
    """Rewrite documents in place."""
    for name in documents:
        document = Path(name)
        document.write_text(with_tables(document.read_text(), Path.cwd()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
