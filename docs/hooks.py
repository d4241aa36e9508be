"""What `mkdocs build` does beside its plugins: links that leave docs/, and reference pages made from the code.

Pages link to other files of the repository by relative paths, as a forge shows them. On the site, pictures and
results (JSON) come along as copies. A link to any other file leads to `repo_url`, where mkdocs.yml sets one, and is
the file's path as code where it does not.

A page with a line `<!-- generated: NAME -->` has there what `GENERATED` makes under that name.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import logging
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
COPIED = {".png", ".jpg", ".json"}
COPIES = "repository"
log = logging.getLogger("mkdocs.hooks")  # below mkdocs, so that a warning fails a strict build
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>\.\./[^)#\s]+)(?P<anchor>#[^)]*)?\)")
_MARK = re.compile(r"^<!-- generated: (\S+) -->$", re.MULTILINE)
_COMMENT = re.compile(r"^<!-- .* -->$", re.MULTILINE)


def command_parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command of the command line and its parser, such as ("dtfsal benchmark flops", ...), by name."""
    for entry in sorted(importlib.metadata.entry_points(group="dtfsal.commands"), key=lambda entry: entry.name):
        module = importlib.import_module(entry.value)
        parser = argparse.ArgumentParser(
            prog=f"dtfsal {entry.name}",
            description=module.HELP,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(parser)
        yield from _with_subcommands(parser)


def _with_subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield parser.prog, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _with_subcommands(child)


def _commands() -> str:
    os.environ["COLUMNS"] = "100"
    return "\n\n".join(f"## {name}\n\n```text\n{parser.format_help()}```" for name, parser in command_parsers())


def _header() -> str:
    return f"```c\n{(ROOT / 'runtime' / 'capi' / 'include' / 'dtfsal.h').read_text(encoding='utf-8')}```"


GENERATED: dict[str, Callable[[], str]] = {"commands": _commands, "dtfsal.h": _header}


def outside(page: str, target: str) -> str | None:
    """Where a page's relative link leads, from the repository's root, if that is outside docs/.

    Args:
        page: the page's path below docs/.
        target: the link's.
    """
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return None if path.split("/")[0] == "docs" else path


def linked(page: str, markdown: str, repository: str | None) -> str:
    """A page's Markdown with the links that leave docs/ as the site has them."""

    def link(match: re.Match[str]) -> str:
        path = outside(page, match["target"])
        if path is None:
            return match[0]
        text, anchor = match["text"], match["anchor"] or ""
        if Path(path).suffix in COPIED:
            target = posixpath.relpath(posixpath.join(COPIES, path), posixpath.dirname(page) or ".")
            return f"{match['picture']}[{text}]({target})"
        if repository:
            return f"[{text}]({repository.rstrip('/')}/blob/HEAD/{path}{anchor})"
        return f"`{path}`" if path.endswith(text.strip("`")) else f"{text} (`{path}`)"

    return _LINK.sub(link, markdown)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take along the pictures and results outside docs/ that pages link to."""
    from mkdocs.structure.files import File

    for page in files.documentation_pages():
        for match in _LINK.finditer(page.content_string):
            path = outside(page.src_uri, match["target"])
            if path is not None and not (ROOT / path).exists():
                log.warning("docs/%s links to %s, which is not in the repository", page.src_uri, path)
            elif path is not None and Path(path).suffix in COPIED:
                name = posixpath.join(COPIES, path)
                if files.get_file_from_path(name) is None:
                    files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what is generated and mend links; the comments that mark tables go."""
    del files
    markdown = _MARK.sub(lambda match: GENERATED[match[1]](), markdown)
    return linked(page.file.src_uri, _COMMENT.sub("", markdown), config.repo_url)
