"""The server under load on this machine: how long answers take for 1 to 64 clients, and that none is lost.

The server is a process of its own, started as a user starts it. Each client is a thread that asks again as soon as it
has its answer; one that is told to come again (429 or 503) waits as long as it is told, and that is counted.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import io
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtfsal.benchmarks.machine.host import OtherCores, machine, measured_on
from dtfsal.benchmarks.tables import markdown_table
from dtfsal.engines.bundle.folder import read_bundle
from dtfsal.engines.errors import DtfsalError, UnavailableError, UsageError

CLIENTS = (1, 2, 4, 8, 16, 32, 64)
MOST_CLIENTS = 256
CLIP_RATE_HZ, CLIP_SIZE = 25, (180, 320)
_START_SECONDS = 120.0
_REFUSED = (429, 503)


def serving(
    engine: str | Path,
    *,
    clients: Sequence[int] = CLIENTS,
    seconds: float = 15.0,
    frames: int = 25,
    jobs: int = 1,
    queue: int = 16,
    threads: int | None = None,
    trust: bool = False,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Measure a server's answers for several numbers of clients.

    Args:
        engine: as `dtfsal serve` takes it.
        clients: how many ask at the same time, one measurement each.
        seconds: how long clients begin requests; those that are under way then are waited for.
        frames: of the clip.
        jobs: of the server.
        queue: of the server.
        threads: of each of its engines; None for its default.
        trust: as `dtfsal serve --trust-engine`.
        progress: called after each measurement.

    Returns:
        A report for `markdown`: for each number of clients the answers, the refusals, what was lost, and the
        percentiles of the answers' milliseconds.

    Raises:
        UsageError: a number can't be.
        UnavailableError: the server does not start.
    """
    if (
        not clients
        or not all(1 <= count <= MOST_CLIENTS for count in clients)
        or not (0 < seconds <= 600 and 1 <= frames <= 1000)
    ):
        raise UsageError(f"clients must be 1 to {MOST_CLIENTS}, seconds up to 600, and frames 1 to 1000")
    manifest = read_bundle(engine).manifest
    content = _clip(frames)
    with _server(engine, jobs, queue, threads, trust) as (process, port):
        others = OtherCores([process.pid])
        rows = []
        _Client(port, content, frames).ask()  # the first answer opens what is opened late
        for count in clients:
            rows.append(_row(port, content, frames, count, seconds))
            progress()
        other_cores = others.mean()
    return {
        "kind": "serving",
        "model": manifest.model_name,
        "precision": manifest.precision,
        "clip": {"frames": frames, "size": list(CLIP_SIZE), "rate_hz": CLIP_RATE_HZ, "bytes": len(content)},
        "jobs": jobs,
        "queue": queue,
        "threads": threads,
        "seconds": seconds,
        "rows": rows,
        "other_cores": other_cores,
        "machine": machine(["dtfsal", "onnxruntime", "numpy", "av", "fastapi", "uvicorn"]),
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as a table with the facts it stands on."""
    headings = ("clients", "answers", "answers/s", "p50", "p95", "p99", "told to come again", "lost")
    rows = []
    for row in report["rows"]:
        times = ["none" if row[name] is None else f"{row[name]:.3g} s" for name in ("p50_s", "p95_s", "p99_s")]
        rate = f"{row['answers_per_second']:.3g}"
        rows.append((str(row["clients"]), str(row["answers"]), rate, *times, str(row["refused"]), str(row["lost"])))
    (height, width), clip = report["clip"]["size"], report["clip"]
    lines = [
        *markdown_table(headings, rows),
        "",
        f"`{report['model']}` ({report['precision']}), a clip of {clip['frames']} frames of {width}x{height} without "
        f"sound; `--jobs {report['jobs']} --queue {report['queue']}`; clients on the same machine, "
        f"{report['seconds']:g} s for each number of them; {measured_on(report)}",
    ]
    return "\n".join(lines) + "\n"


class _Client:
    """One connection."""

    def __init__(self, port: int, content: bytes, frames: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        self._content = content
        self._frames = frames

    def ask(self) -> tuple[int, float]:
        """The status of an answer, and the seconds to wait; status 0 where no whole answer came."""
        try:
            self._connection.request("POST", "/v1/predict", self._content, {"Content-Type": "video/mp4"})
            answer = self._connection.getresponse()
            body = answer.read()
            whole = answer.status != 200 or body.count(b'"index"') == self._frames
            return answer.status if whole else 0, float(answer.getheader("Retry-After", "0"))
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, 0.0


def _row(port: int, content: bytes, frames: int, count: int, seconds: float) -> dict[str, Any]:
    """What so many clients meet."""
    statuses: collections.Counter[int] = collections.Counter()
    times: list[float] = []
    lock = threading.Lock()
    started = time.perf_counter()

    def work() -> None:
        client = _Client(port, content, frames)
        while time.perf_counter() - started < seconds:
            asked = time.perf_counter()
            status, wait = client.ask()
            with lock:
                statuses[status] += 1
                if status == 200:
                    times.append(time.perf_counter() - asked)
            # Nobody waits beyond the measurement only to see that it has ended.
            time.sleep(max(0.0, min(wait, started + seconds - time.perf_counter())))

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    percentiles = [round(float(value), 4) for value in np.percentile(times, (50, 95, 99))] if times else [None] * 3
    refused = sum(statuses[status] for status in _REFUSED)
    return {
        "clients": count,
        "answers": statuses[200],
        "refused": refused,
        "lost": statuses.total() - statuses[200] - refused,
        "answers_per_second": statuses[200] / elapsed,
        "maps_per_second": statuses[200] * frames / elapsed,
        **dict(zip(("p50_s", "p95_s", "p99_s"), percentiles, strict=True)),
        "mean_s": round(statistics.mean(times), 4) if times else None,
    }


@contextlib.contextmanager
def _server(
    engine: str | Path, jobs: int, queue: int, threads: int | None, trust: bool
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server of its own, and its port; it is ended by SIGTERM."""
    command = [sys.executable, "-m", "dtfsal.runtime.cli", "serve", "--engine", str(engine), "--port", "0"]
    command += ["--jobs", str(jobs), "--queue", str(queue), *(["--trust-engine"] if trust else [])]
    command += [] if threads is None else ["--threads", str(threads)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None, "it was asked for"
            line = process.stderr.readline()
            address = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if address is None:
                raise UnavailableError(f"the server does not start: {line.strip() or 'it says nothing'}")
            yield process, int(address[1])
            process.send_signal(signal.SIGTERM)
            if (code := process.wait(_START_SECONDS)) != 0:
                raise DtfsalError(f"the server ended with code {code} instead of 0")
        finally:
            process.kill()


def _clip(frames: int) -> bytes:
    """A short clip: a bright square that crosses a grey picture, H.264 in MP4."""
    import av

    height, width = CLIP_SIZE
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=CLIP_RATE_HZ)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(frames):
            picture = np.full((height, width, 3), 90, np.uint8)
            left = index * (width - 40) // frames
            picture[70:110, left : left + 40] = (250, 220, 60)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()
