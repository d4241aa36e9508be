"""`dtfsal native`: the libraries in C++ and CUDA, which the wheel carries or this machine's compilers build."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtfsal.engines.errors import UnavailableError, UsageError
from dtfsal.runtime.cli import common

if TYPE_CHECKING:
    from dtfsal.engines.native.builder import NativeProject

_ACTIONS = ("list", "build", "prefix")
HELP = "list and build the native libraries: the C library, CPU operators, TensorRT plugin, GPU front-end"

_EPILOG = """\
libraries:
  capi         the C library, for C and C++ programs
  cpu-kernels  the custom operators of `dtfsal build --cpu-kernels`
  deform-conv  the TensorRT plugin (needs nvcc and TensorRT's headers)
  frontend     the GPU's front-end, which prepares frames and sound (needs nvcc)

A wheel may carry capi and cpu-kernels. `list` shows where each library is, and what a build needs. `prefix` prints
the folder in the wheel that compilers take: its include/ and lib/, with packages for CMake and pkg-config. `build`
without a name builds those that this machine can build, and says why it skips the others. Libraries go to the user's
cache folder, where dtfsal looks for them first.

examples:
  dtfsal native
  cmake -B build -DCMAKE_PREFIX_PATH="$(dtfsal native prefix)"
  dtfsal native build
  dtfsal native build deform-conv frontend --architecture 89
  dtfsal native build deform-conv --tensorrt-include /opt/tensorrt/include --output lib
  dtfsal native build capi --prefix /usr/local

exit codes: 0 done, 2 wrong usage, 4 the compilation failed, 5 something needed is absent, 6 cannot write
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "action", nargs="?", choices=("list", "build", "prefix"), default="list", help="(default: list)"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="libraries (default: all)")
    building = parser.add_argument_group("of build")
    where = building.add_mutually_exclusive_group()
    where.add_argument("-o", "--output", type=Path, metavar="DIR", help="build into this folder")
    where.add_argument(
        "--prefix", type=Path, metavar="DIR", help="install capi there, with its header and its packages for CMake"
    )
    building.add_argument(
        "--tensorrt-include",
        type=Path,
        metavar="DIR",
        help="the folder of TensorRT's headers; capi then runs TensorRT's engines, too",
    )
    building.add_argument(
        "--architecture",
        action="append",
        default=[],
        metavar="NN",
        help="compile for this compute capability, such as 90; repeatable (default: all that nvcc knows)",
    )
    building.add_argument("-q", "--quiet", action="store_true", help="print the libraries' paths and nothing else")
    building.add_argument("-v", "--verbose", action="store_true", help="show the compilers' output on stderr")
    common.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """List, build, or say where the wheel's are."""
    projects = _chosen(args.names)
    if args.action == "prefix":
        _print_prefix(args)
    elif args.action == "list":
        _list(projects, as_json=args.json)
    else:
        _check_options(args, projects)
        _build(args, projects)
    return 0


def _chosen(names: Sequence[str]) -> list[NativeProject]:
    from dtfsal.engines.native.projects import PROJECTS
    from dtfsal.runtime.capi.build import C_LIBRARY

    known = {project.name: project for project in (C_LIBRARY, *PROJECTS)}
    for name in names:
        if name not in known:
            raise UsageError(f"there is no native library {name!r}; there is {common.join_or(list(known))}")
    return [known[name] for name in dict.fromkeys(names or known)]


def _print_prefix(args: argparse.Namespace) -> None:
    from dtfsal.engines.native.packaged import PREFIX
    from dtfsal.runtime.capi.build import C_LIBRARY

    if args.names:
        raise UsageError("`dtfsal native prefix` takes no names: one folder serves all libraries of the wheel")
    if not PREFIX.is_dir():
        raise UnavailableError(
            "this installation came without built libraries: "
            f"`dtfsal native build {C_LIBRARY.name} --prefix DIR` builds and installs the C library"
        )
    if args.json:
        common.print_json({"prefix": str(PREFIX)})
    else:
        print(PREFIX)


def _list(projects: Sequence[NativeProject], *, as_json: bool) -> None:
    found = [_listed(project) for project in projects]
    if as_json:
        common.print_json({"libraries": found})
        return
    for project, one in zip(projects, found, strict=True):
        rows: list[tuple[str, object]] = [
            (f"{project.name}: {project.title}", None),
            (one["origin"] or "not built", one["library"]),
            ("build needs", ", ".join(project.needs)),
        ]
        if not one["built"]:
            rows += [(key, one[key]) for key in ("refused", "absent") if one[key]]
        common.print_table(rows)


def _listed(project: NativeProject) -> dict[str, Any]:
    """A library's place and state, and what a build needs."""
    refused = None
    try:
        found = project.locate()
    except UnavailableError as error:
        found, refused = None, str(error)
    return {
        "name": project.name,
        "title": project.title,
        "built": found is not None,
        "origin": found and found.origin,
        "library": str(found.path if found else project.place),
        "refused": refused,
        "needs": project.needs,
        "absent": _absent(project) or None,
    }


def _absent(project: NativeProject) -> str:
    """What this machine lacks for a build, and the remedy; or nothing."""
    try:
        project.check_needs()
    except UnavailableError as error:
        return str(error)
    return ""


def _check_options(args: argparse.Namespace, projects: Sequence[NativeProject]) -> None:
    """See that each option concerns a chosen library; --prefix, all of them."""
    names = ", ".join(project.name for project in projects)
    if args.prefix and not all(project.installs for project in projects):
        raise UsageError("--prefix installs capi alone: `dtfsal native build capi --prefix DIR`")
    if args.architecture and not any(project.uses_cuda for project in projects):
        raise UsageError(f"--architecture is for what nvcc compiles, which {names} is not")
    if args.tensorrt_include and all(project.tensorrt == "unused" for project in projects):
        raise UsageError(f"--tensorrt-include is for what uses TensorRT, which {names} does not")


def _build(args: argparse.Namespace, projects: Sequence[NativeProject]) -> None:
    def report(line: str) -> None:
        if args.verbose:
            print(line, file=sys.stderr)

    results = []
    for project in projects:
        include = None if project.tensorrt == "unused" else args.tensorrt_include
        try:
            project.check_needs(include)
        except UnavailableError as error:
            if args.names:
                raise
            results.append({"name": project.name, "library": None, "skipped": str(error)})
        else:
            if args.prefix:
                project.install(args.prefix, tensorrt_include=include, report=report)
                library = args.prefix
            else:
                architectures = args.architecture if project.uses_cuda else ()
                library = project.build(
                    args.output, architectures=architectures, tensorrt_include=include, report=report
                )
            results.append({"name": project.name, "library": str(library), "skipped": None})
        if not args.json:
            _say(results[-1], quiet=args.quiet)
    if args.json:
        common.print_json({"libraries": results})
    if all(result["skipped"] for result in results):
        raise UnavailableError("this machine can build no native library: `dtfsal native` says what each needs")


def _say(result: dict[str, str | None], *, quiet: bool) -> None:
    if result["library"]:
        print(result["library"] if quiet else f"{result['name']:<11}  built    {result['library']}", flush=True)
    elif not quiet:
        print(f"{result['name']:<11}  skipped  {result['skipped']}", flush=True)
