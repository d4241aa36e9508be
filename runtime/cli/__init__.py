"""The command line: `dtfsal COMMAND`, with commands that each room registers as entry points.

A command is a module with `HELP` (one line), `configure(parser)` and `run(args) -> exit code`; it is imported when it
is called, or for `dtfsal --help`, and importing it must be quick. `names` has the groups of the help, and old names.
Errors are one line on stderr, and an exit code that tells their kind: see `dtfsal.engines.errors` and `EXIT_CODES`.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import importlib.metadata
import itertools
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from dtfsal.engines.errors import DtfsalError, OutputError, UnavailableError, UsageError, printable
from dtfsal.engines.limits import shown
from dtfsal.runtime.cli._interruption import Interruption
from dtfsal.runtime.cli.names import current_words, grouped
from dtfsal.runtime.media.errors import shortage

EXIT_CODES = {
    0: "done",
    1: "failed",
    2: "wrong usage",
    3: "bad media",
    4: "bad engine or weights",
    5: "something needed is absent",
    6: "output cannot be written",
    7: "some of several videos failed",
    130: "interrupted",
}
_GROUP = "dtfsal.commands"
# Distribution extras by the package that a command misses.
_EXTRAS = {
    "torch": "export",
    "onnx": "export",
    "onnxscript": "export",
    "onnx_ir": "export",
    "safetensors": "export",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
    "h5py": "hdf5",
    "matplotlib": "benchmarks",
    "openvino": "openvino",
    "scenedetect": "reframe",
    "fastapi": "server",
    "prometheus_client": "server",
    "python_multipart": "server",
    "starlette": "server",
    "uvicorn": "server",
    "scipy": "benchmarks",
    "skimage": "evaluate",
}
_EPILOG = """\
examples:
  dtfsal predict clip.mp4         watch where people would look, in clip.saliency.mp4
  dtfsal predict videos/ --output-dir maps/ --format npz --resume
  dtfsal live 0                   the same for a camera, on a page
  dtfsal info lite                what an engine or a video is
  dtfsal build -o lite.engine     build an engine, here of the weights that the package carries
  dtfsal doctor                   what works on this machine, and what does not

exit codes:
"""


class _Parser(argparse.ArgumentParser):
    """Wrong usage is an error like any other: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments without the program's name; None for the process's own.

    Returns:
        The exit code; see `EXIT_CODES`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    interruption = Interruption()
    with interruption.handled(process_ends=argv is None):
        try:
            code = _dispatch(arguments)
            if sys.stdout is not None:  # None where the process was started without one
                sys.stdout.flush()
            return code
        except SystemExit as stop:  # argparse's --help and --version
            return stop.code if isinstance(stop.code, int) else 0
        except BrokenPipeError:
            # The reader of our output has gone, as in `dtfsal info x | head -1`; what is buffered goes nowhere.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except BaseException as error:
            if os.environ.get("DTFSAL_TRACEBACK") == "1":
                traceback.print_exc()
            # A library that was interrupted may have made an error of its own of it.
            message, code = _explain(KeyboardInterrupt() if interruption.requested else error)
            with contextlib.suppress(OSError):
                print(f"dtfsal: error: {printable(' '.join(message.split()))}", file=sys.stderr)
            return code


def _dispatch(arguments: list[str]) -> int:
    arguments, told = current_words(arguments)
    if told is not None:
        print(f"dtfsal: {told}", file=sys.stderr)
    commands = {entry.name: entry for entry in importlib.metadata.entry_points(group=_GROUP)}
    name = arguments[0] if arguments else None
    if name is None or name.startswith("-"):
        parser = _main_parser(commands)
        parser.parse_args(arguments)
        parser.print_help()
        return 2
    if name not in commands:
        known = ", ".join(itertools.chain.from_iterable(grouped(commands).values()))
        raise UsageError(f"there is no command {name!r}; the commands are {known}")
    module = _load(commands[name])
    parser = _Parser(
        prog=f"dtfsal {name}", description=module.HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.configure(parser)
    args = parser.parse_args(arguments[1:])
    try:
        return int(module.run(args))
    except ImportError as error:
        raise _missing(name, error) from error


def _main_parser(commands: dict[str, Any]) -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code:3}  {meaning}" for code, meaning in EXIT_CODES.items())
    parser = _Parser(
        prog="dtfsal",
        usage="dtfsal [-h] [--version] COMMAND ...",
        description="Where people look in a video with sound. `dtfsal COMMAND --help` explains a command.",
        epilog=_EPILOG + codes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dtfsal {importlib.metadata.version('dtfsal')}")
    for title, names in grouped(commands).items():
        group = parser.add_argument_group(title)
        for name in names:
            try:
                text = _load(commands[name]).HELP
            except DtfsalError:
                text = "(not usable in this installation; call it to see why)"
            group.add_argument(name, nargs="?", help=text.replace("%", "%%"))  # to be shown; it takes no command
    return parser


def _load(entry: Any) -> Any:
    try:
        return importlib.import_module(entry.value)
    except ImportError as error:
        raise _missing(entry.name, error) from error


def _missing(command: str, error: ImportError) -> DtfsalError:
    top = (error.name or "").split(".")[0]
    if top in _EXTRAS:
        extras = importlib.metadata.metadata("dtfsal").get_all("Provides-Extra") or []
        extra = command if command in extras else _EXTRAS[top]  # a command's own, where it has one
        return UnavailableError(
            f"`dtfsal {command}` needs {top}, which is not installed: run `pip install 'dtfsal[{extra}]'`"
        )
    return UnavailableError(
        f"`dtfsal {command}` cannot be loaded ({error}): the installation is incomplete, run `pip install --upgrade "
        "--force-reinstall dtfsal`"
    )


def _explain(error: BaseException) -> tuple[str, int]:
    """An error's text, and its exit code."""
    if isinstance(error, DtfsalError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; no unfinished output is left", 130
    if isinstance(error, MemoryError):
        return "out of memory; give the process more, or use a smaller engine or fewer outputs", 1
    if isinstance(error, OSError):
        if error.errno == errno.ENAMETOOLONG:
            return f"the name {shown(str(error.filename))} is too long; name a shorter one", UsageError.exit_code
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", OutputError.exit_code if full else 1
    if isinstance(error, RuntimeError) and (lack := shortage(error)) is not None:  # no thread can be started
        return str(lack), lack.exit_code
    hint = "this is a bug in dtfsal; DTFSAL_TRACEBACK=1 shows where"
    return f"{type(error).__name__}: {error} ({hint})", 1
