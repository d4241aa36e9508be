"""The proof on a GPU: kernels, engines, parity, latency and end-to-end rate in one report, part by part.

What the machine lacks is skipped with the reason; what fails or crashes is said, and the other parts go on.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dtfsal.benchmarks.gpu.forms import BASELINE, WAYS, with_ratios
from dtfsal.benchmarks.gpu.own_tests import ROOT
from dtfsal.benchmarks.gpu.phases import Settings, phases
from dtfsal.benchmarks.machine.host import machine, measured_on
from dtfsal.benchmarks.tables import markdown_table

PACKAGES = ("dtfsal", "torch", "torchvision", "triton", "onnx", "onnxruntime-gpu", "onnxruntime", "tensorrt",
            "tensorrt-cu13", "tensorrt-rtx-cu13", "cuda-core", "cuda-bindings", "numpy")  # fmt: skip


def gpu_check(
    settings: Settings,
    *,
    command: Sequence[str] = (),
    progress: Callable[[str, dict[str, Any]], None],
    kept: Mapping[str, Any] | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Run every part in a process of its own.

    Args:
        settings: what to check.
        command: the command line, to be kept with the result.
        progress: called with the name of each part that is over and the report so far.
        kept: the report of an earlier call, whose parts are not run again. One of other settings or of another
            machine counts for nothing.
        seconds: begin no part that may not be over by then, from the call on; None for all parts.

    Returns:
        The report as JSON types: `parts` by name, each with a `status` of "done", "skipped" or "failed" and the
        `seconds` it took; `to_do`, the parts that a later call is to run; `rows`, all latencies in one table;
        `machine`.
    """
    started = time.monotonic()
    report: dict[str, Any] = {
        "settings": {**dataclasses.asdict(settings), "video": settings.video and Path(settings.video).name},
        "machine": machine(PACKAGES),
        "command": list(command),
        "parts": {},
        "to_do": [],
        "rows": [],
    }
    if kept is not None and is_of(kept, report):
        report["parts"] = dict(kept["parts"])
    for name, part in phases(settings).items():
        if name in report["parts"]:
            continue
        if seconds is not None and time.monotonic() - started + part.seconds > seconds:
            report["to_do"].append(name)
            continue
        begun = time.monotonic()
        outcome = in_a_process(name, settings, part.seconds)
        report["parts"][name] = {**outcome, "seconds": round(time.monotonic() - begun, 1)}
        report["rows"] = _rows(report["parts"])
        progress(name, report)
    report["rows"] = _rows(report["parts"])
    return report


def is_of(kept: Mapping[str, Any], report: Mapping[str, Any]) -> bool:
    """Whether an earlier report is of the same settings and the same machine, so that its parts count."""
    same_settings = kept.get("settings") == json.loads(json.dumps(report["settings"]))
    return same_settings and kept.get("machine", {}).get("fingerprint") == report["machine"].get("fingerprint")


def budget(settings: Settings) -> str:
    """What each part may take and all together, as lines of text."""
    parts = phases(settings)
    whole = sum(part.seconds for part in parts.values())
    lines = [f"  {part.seconds:4d} s  {name}" for name, part in parts.items()]
    return "\n".join([*lines, f"  {whole:4d} s  at most, all together"])


def in_a_process(name: str, settings: Settings, seconds: int) -> dict[str, Any]:
    """A part's outcome; a process that dies, or takes longer than it may, is a failure with its last words."""
    with tempfile.TemporaryDirectory() as folder:
        given, output = Path(folder) / "settings.json", Path(folder) / "outcome.json"
        given.write_text(json.dumps(dataclasses.asdict(settings)))
        command = [sys.executable, "-m", "dtfsal.benchmarks.gpu.phases", name, str(given), str(output)]
        # A part's processes end with it: in a session of their own, so that they can be told together.
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))},
            start_new_session=True,
        ) as process:
            try:
                _, said = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return {"status": "failed", "reason": f"it took longer than its {seconds} s"}
        if process.returncode == 0 and output.is_file():
            outcome: dict[str, Any] = json.loads(output.read_text())
            return outcome
        return {"status": "failed", "reason": _last_words(process.returncode, said)}


def _last_words(code: int, stderr: str) -> str:
    said = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "it said nothing")
    end = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"{said} ({end})"


def _rows(parts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    results = [part["result"] for part in parts.values() if part["status"] == "done"]
    rates: dict[str, float] = next((result["rates"] for result in results if "rates" in result), {})
    rows: list[dict[str, Any]] = []
    for result in results:
        rows += result.get("rows", [])
        for batch in result.get("batches", []):
            rows += [{**row, "parity": batch["parity"], "misses": batch["misses"]} for row in batch["rows"]]
    return with_ratios(rows, rates, BASELINE)


def markdown(report: Mapping[str, Any]) -> str:
    """The report as tables, with what was left out and why."""
    parts = report["parts"]
    sections = [_machine_line(report), _latency_table(report["rows"])]
    if (kernels := parts.get("kernels", {})).get("status") == "done":
        sections.append(_kernel_table(kernels["result"]))
    sections += [_front_end_table(parts), _video_table(parts)]
    sections.append(_test_lines(parts))
    sections.append(_left_out(parts, report.get("to_do", ())))
    sections.append(measured_on(report))
    return "\n\n".join(section for section in sections if section) + "\n"


def _machine_line(report: Mapping[str, Any]) -> str:
    part = report["parts"].get("rates", {})
    if part.get("status") != "done":
        return ""
    gpu, rates = part["result"]["gpu"], part["result"]["rates"]
    facts = [gpu["name"]]
    if "driver" in gpu:
        facts.append(f"driver {gpu['driver']}")
    if "cuda" in gpu:
        facts.append(f"CUDA {gpu['cuda']}")
    measured = ", ".join(f"{name.removesuffix('_tflops')} {rates[name]:.3g}" for name in rates if "tflops" in name)
    facts.append(f"matrix products reach {measured} TFLOP/s, copies {rates['copy_gb_per_second']:.0f} GB/s")
    return "; ".join(facts)


def _latency_table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    headings = ("form", "batch", *(f"{way}: {what}" for way in WAYS for what in ("median", "speed-up", "windows/s")),
                "of the matrix rate", "memory", "CC", "peak shift")  # fmt: skip
    table = []
    for row in sorted(rows, key=lambda row: row["batch_size"]):
        share, memory = row["share_of_matrix_rate"], row.get("peak_memory_bytes")
        cells = (
            row["form"],
            str(row["batch_size"]),
            *(cell for way in WAYS for cell in _timing_cells(row[way], row["ratio_to_baseline"][way])),
            "-" if share is None else f"{100 * share:.0f} %",
            "-" if memory is None else f"{memory / 2**20:.0f} MiB",
            f"{row['parity']['cc']:.6f}",
            f"{row['parity']['peak_shift_pixels']:.1f} px",
        )
        table.append(cells)
    legend = "host: from arrays in the host's memory to maps there; device: from the GPU's memory to the GPU's memory."
    return "\n".join([legend, "", *markdown_table(headings, table)])


def _timing_cells(timing: Mapping[str, Any] | None, ratio: float | None) -> tuple[str, str, str]:
    if timing is None:
        return "-", "-", "-"
    low, high = timing["quartiles_ms"]
    return (
        f"{timing['median_ms']:.3g} ms ({low:.3g}-{high:.3g})",
        "-" if ratio is None else f"{ratio:.2f}x",
        f"{timing['windows_per_second']:.3g}",
    )


def _kernel_table(result: Mapping[str, Any]) -> str:
    headings = ("deformable convolution", "type", "kernel", "time", "ratio to ours", "largest error against float64")
    table = []
    for row in result["rows"]:
        error, ratio = row["max_error"], row["ratio_to_ours"]
        cells = (
            row["shape"],
            row["precision"],
            row["kernel"],
            f"{row['median_us']:.3g} us",
            "-" if ratio is None else f"{ratio:.2f}x",
            "-" if error is None else f"{error:.2g}",
        )
        table.append(cells)
    left_out = [f"| {name} | | | left out: {reason} | | |" for name, reason in result["left_out"].items()]
    return "\n".join([*markdown_table(headings, table), *left_out])


def _video_table(parts: Mapping[str, Mapping[str, Any]]) -> str:
    reports = [
        report
        for name, part in parts.items()
        if name.startswith("video ") and part["status"] == "done"
        for report in part["result"]["reports"]
    ]
    if not reports:
        return ""
    headings = ("1080p file to maps", "maps/s", "ms per map", "engine, ms", "end-to-end of the engine-only rate")
    table = []
    for report in reports:
        (row,) = report["rows"]
        engine = row["stages_ms"]["engine"]
        backend = report["backend"]
        name = f"{report['model']} {report['precision']}, {backend['name']} on {backend['device']}"
        if "front_end" in backend:
            name += f", frames prepared on the {backend['front_end']}"
        share = f"{100 * engine / row['mean_ms']:.0f} %"
        table.append((name, f"{row['maps_per_second']:.3g}", f"{row['mean_ms']:.3g}", f"{engine:.3g}", share))
    return "\n".join(markdown_table(headings, table))


def _front_end_table(parts: Mapping[str, Mapping[str, Any]]) -> str:
    part = parts.get("front-end")
    if part is None or part["status"] != "done":
        return ""
    height, width = part["result"]["size"]
    rows = [
        (row["what"], f"{row['gpu_us']:.3g} us", f"{row['cpu_us']:.3g} us", f"{row['difference']:.2g}")
        for row in part["result"]["rows"]
    ]
    return "\n".join(markdown_table((f"prepared from {width}x{height}", "GPU", "CPU", "difference"), rows))


def _test_lines(parts: Mapping[str, Mapping[str, Any]]) -> str:
    passed = [(name, part["result"]["passed"]) for name, part in parts.items() if "passed" in part.get("result", {})]
    return "\n".join(f"- {name}: {count} passed" for name, count in passed)


def _left_out(parts: Mapping[str, Mapping[str, Any]], to_do: Sequence[str]) -> str:
    lines = [
        f"- {name}: {part['status']}: {part['reason']}" for name, part in parts.items() if part["status"] != "done"
    ]
    for name, part in parts.items():
        if part["status"] == "done":
            lines += [f"- {name}: {what}: {why}" for what, why in part["result"].get("left_out", {}).items()]
    lines += [f"- {name}: not run yet" for name in to_do]
    return "Not measured:\n\n" + "\n".join(lines) if lines else ""
