"""`dtfsal doctor`: what is installed, what works on this machine, and what to do about the rest."""

from __future__ import annotations

import argparse
import dataclasses

from dtfsal.runtime.cli import common

HELP = "check what works on this machine, and why the rest does not"

_EPILOG = """\
marks:
  ok      works
  absent  not installed or not present; only some things need it
  error   broken: predicting on the CPU does not work until it is fixed

exit codes: 0 if nothing is broken, 5 otherwise

examples:
  dtfsal doctor
  dtfsal doctor --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = _EPILOG
    common.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Check, and print what was found."""
    from dtfsal.runtime.environment import check_environment

    report = check_environment()
    code = 5 if any(check.status == "error" for check in report.checks) else 0
    if args.json:
        common.print_json({"healthy": code == 0, **dataclasses.asdict(report)})
        return code
    section = ""
    for check in report.checks:
        if check.section != section:
            section = check.section
            print(section)
        print(f"  {check.status:<7} {check.name:<24} {check.detail}")
        if check.remedy:
            print(f"  {'':<7} {'':<24} -> {check.remedy}")
    print("targets")
    for target in report.targets:
        print(f"  {target.name}")
        for verb, able, why in (
            ("build", target.can_build, target.build_detail),
            ("run", target.can_run, target.run_detail),
        ):
            print(f"    {verb:<6}{'yes' if able else 'no':<5}{why}")
    print(f"advice\n  {report.advice}")
    return code
