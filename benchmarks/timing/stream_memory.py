"""Does a stream's memory grow? Frames are pushed as fast as they are taken, far faster than the engine makes maps.

Each predictor has a process of its own. One thread pushes frames and sound, another polls; what the engine has no time
for is dropped. The process's resident memory is read a few hundred times on the way.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtfsal.benchmarks.machine.host import machine, measured_on
from dtfsal.benchmarks.measure.own_process import in_own_process
from dtfsal.benchmarks.report.figures import new_figure
from dtfsal.benchmarks.tables import markdown_table
from dtfsal.benchmarks.timing.stream import PACKAGES, SOUND_RATE_HZ, read_clip
from dtfsal.engines import read_bundle
from dtfsal.runtime.capi import NativePredictor
from dtfsal.runtime.capi.library import NativeLibrary
from dtfsal.runtime.predict.stream import StreamPredictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

READINGS = 400
SETTLED = 0.1  # of the frames: by then all buffers have their sizes
HELD = ("settled_bytes", "most_bytes", "last_bytes")
FORMS: dict[str, Callable[..., StreamPredictor | NativePredictor]] = {"Python": StreamPredictor, "C": NativePredictor}


def resident_bytes() -> int:
    """This process's memory that is in use now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run_once(
    engine: Path, form: str, video: Path, frames: int, library: str | None, trust: bool = False
) -> dict[str, Any]:
    """Push `frames` frames in this process.

    Raises:
        DtfsalError: the engine, the video or the library cannot be used.
    """
    clip = read_clip(video, 25)
    options = {} if form == "Python" else {"library": library}
    readings, problems = [], []
    with FORMS[form](engine, frame_rate_hz=clip.rate_hz, max_ready=1, trust=trust, **options) as stream:
        pushing = threading.Event()

        def poll() -> None:
            try:
                while not pushing.is_set():
                    if stream.poll() is None:
                        time.sleep(0.001)
            except Exception as error:
                problems.append(error)

        poller = threading.Thread(target=poll)
        poller.start()
        begun = time.perf_counter()
        for index in range(frames):
            stream.push_audio(clip.sound_of(index), index / clip.rate_hz, SOUND_RATE_HZ)
            stream.push_frame(clip.frames[index % len(clip.frames)], index / clip.rate_hz)
            if index % max(1, frames // READINGS) == 0:
                readings.append([index, resident_bytes()])
        seconds = time.perf_counter() - begun
        pushing.set()
        poller.join()
        readings.append([frames, resident_bytes()])
        counts = stream.counts
    if problems:
        raise problems[0]
    settled = [held for index, held in readings if index >= SETTLED * frames]
    return {
        "form": form,
        "seconds": seconds,
        "maps": counts.maps,
        "dropped_maps": counts.dropped_maps,
        "settled_bytes": settled[0],
        "most_bytes": max(settled),
        "last_bytes": settled[-1],
        "readings": readings,
    }


def memory(
    engine: Path,
    video: Path,
    *,
    frames: int = 100_000,
    library: str | None = None,
    trust: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure the stream in Python and in C, one after the other.

    Args:
        engine: the engine's folder, for the CPU.
        video: a clip.
        frames: to push.
        library: of libdtfsal; see `NativeLibrary`.
        trust: run native code that an engine brings.
        progress: called after each form.

    Returns:
        The report as JSON types.

    Raises:
        DtfsalError: the engine, the video or the library cannot be used.
    """
    manifest = read_bundle(engine).manifest
    NativeLibrary(library)  # before minutes of Python's run, not after them
    rows = []
    for form in FORMS:
        rows.append(in_own_process(run_once, engine, form, video, frames, library, trust))
        progress()
    return {
        "model": manifest.model_name,
        "precision": manifest.precision,
        "video": video.name,
        "frames": frames,
        "rows": rows,
        "machine": machine(PACKAGES),
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as a table with the facts it stands on."""
    headings = (f"{report['frames']} frames", f"memory after {SETTLED:.0%}", "most after that", "at the end", "maps")
    rows = [
        (row["form"], *(f"{row[name] / 2**20:.1f} MiB" for name in HELD), str(row["maps"])) for row in report["rows"]
    ]
    lines = [
        *markdown_table(headings, rows),
        "",
        f"Resident memory of a process that pushes frames of {report['video']} and their sound to "
        f"{report['model']}, {report['precision']}, as fast as they are taken, while a second thread polls; what the "
        f"engine has no time for is dropped. {measured_on(report)}",
    ]
    return "\n".join(lines) + "\n"


def draw(report: dict[str, Any]) -> Figure:
    """Memory over frames, a line for each form, from 0."""
    with new_figure(width=9, height=3.6) as (figure, (axes,)):
        for row in report["rows"]:
            index, held = zip(*row["readings"], strict=True)
            axes.plot(index, [size / 2**20 for size in held], label=f"{row['form']}: {row['maps']} maps")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("frames")
        axes.set_ylabel("resident memory, MiB")
        axes.legend(loc="lower right")
    return figure
