"""Live prediction for hours: does its memory grow, and do its descriptors? `make soak` runs it; pytest does not.

    python tests/soak.py --seconds 3600 --frames 100000 -o benchmarks/results/soak.json

First `dtfsal live` reads a stream whose clock restarts every few seconds, while clients of its page come, stall, send
rubbish and go. Then a `StreamPredictor` is given frames as fast as it takes them. The result is JSON and a picture, and
the exit code is 1 where memory or descriptors grew.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

from dtfsal import StreamPredictor
from dtfsal.benchmarks.machine.host import machine
from dtfsal.benchmarks.report.figures import save

CLIENTS = 12
RATE_HZ, SIZE, SOUND_HZ = 25, (180, 320), 48000
MOST_GROWTH_MIB, MOST_NEW_DESCRIPTORS = 32.0, 8
Sample = dict[str, float]


def picture(index: int) -> np.ndarray:
    """(H, W, 3) uint8: a bright spot on its way."""
    rgb = np.full((*SIZE, 3), 60, np.uint8)
    row, column = index * 3 % (SIZE[0] - 20), index * 7 % (SIZE[1] - 20)
    rgb[row : row + 20, column : column + 20] = 250
    return rgb


def write_clip(path: Path, seconds: int = 4) -> None:
    """A transport stream with sound."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE_HZ)
        video.height, video.width, video.pix_fmt = *SIZE, "yuv420p"
        audio = container.add_stream("aac", rate=SOUND_HZ, layout="mono")
        for index in range(seconds * RATE_HZ):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(index))))
        times = np.arange(seconds * SOUND_HZ) / SOUND_HZ
        sound = av.AudioFrame.from_ndarray(np.float32(0.2 * np.sin(2764 * times))[None], format="fltp", layout="mono")
        sound.sample_rate = SOUND_HZ
        container.mux(audio.encode(sound))
        for stream in (video, audio):
            container.mux(stream.encode(None))


def sample(process: int, started: float) -> Sample:
    """What a process holds."""
    folder = Path(f"/proc/{process}")
    pages = int((folder / "statm").read_text().split()[1])
    return {
        "seconds": round(time.monotonic() - started, 1),
        "resident_mib": round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
        "descriptors": len(list((folder / "fd").iterdir())),
        "threads": len(list((folder / "task").iterdir())),
    }


def ask(place: str, host: str = "127.0.0.1", method: str = "GET") -> bytes:
    """A request."""
    return f"{method} /{place} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def look(client: socket.socket, chance: random.Random) -> None:
    client.sendall(ask("stream.mjpg"))
    for _ in range(chance.randint(1, 200)):
        if not client.recv(1 << chance.randint(4, 16)):
            return


def stall(client: socket.socket, chance: random.Random) -> None:
    client.sendall(ask("stream.mjpg"))
    time.sleep(chance.uniform(1, 15))


def say_nothing(_client: socket.socket, chance: random.Random) -> None:
    time.sleep(chance.uniform(1, 15))


def drip(client: socket.socket, chance: random.Random) -> None:
    for byte in ask("status.json"):
        client.sendall(bytes([byte]))
        time.sleep(chance.uniform(0, 0.5))


def reset(client: socket.socket, _chance: random.Random) -> None:
    client.sendall(ask("stream.mjpg"))
    client.recv(100)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def ask_and_go(client: socket.socket, chance: random.Random) -> None:
    place = chance.choice(["", "status.json", "nothing", "?x", "../../etc/passwd"])
    client.sendall(ask(place, chance.choice(["127.0.0.1", "evil.example"]), chance.choice(["GET", "HEAD", "POST"])))
    client.recv(1 << 16)


def send_rubbish(client: socket.socket, chance: random.Random) -> None:
    client.sendall(chance.randbytes(chance.randint(1, 70_000)))
    client.recv(1 << 16)


VISITS: tuple[Callable[[socket.socket, random.Random], None], ...] = (
    look, look, look, stall, say_nothing, drip, reset, ask_and_go, ask_and_go, send_rubbish,
)  # fmt: skip


def visit(port: int, seed: int, over: threading.Event, visits: Counter[str]) -> None:
    """A client that comes again and again."""
    chance = random.Random(seed)
    while not over.wait(chance.uniform(0, 1)):
        kind = chance.choice(VISITS)
        visits[kind.__name__] += 1
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            kind(client, chance)


def live(seconds: float, folder: Path) -> dict[str, Any]:
    """`dtfsal live` with clients; what it held, once a second, and how it ended."""
    write_clip(folder / "clip.ts")
    fifo, content, over = folder / "fifo", (folder / "clip.ts").read_bytes(), threading.Event()
    os.mkfifo(fifo)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dtfsal.runtime.cli", "live", fifo.name, "--serve", str(port), "--threads", "1"]
    log = folder / "stderr"
    with log.open("w") as errors, (folder / "stdout").open("w") as output:
        process = subprocess.Popen([*command, "--json"], stdout=output, stderr=errors, cwd=folder)

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), fifo.open("wb", buffering=0) as pipe:
            while not over.is_set():
                pipe.write(content)

    visits: Counter[str] = Counter()
    threads = [threading.Thread(target=write, daemon=True)]
    threads += [threading.Thread(target=visit, args=(port, seed, over, visits), daemon=True) for seed in range(CLIENTS)]
    for thread in threads:
        thread.start()
    samples, started = [], time.monotonic()
    while time.monotonic() - started < seconds and process.poll() is None:
        time.sleep(min(1.0, seconds))
        with contextlib.suppress(OSError):
            samples.append(sample(process.pid, started))
    process.send_signal(signal.SIGTERM)  # a background job ignores SIGINT
    code = process.wait(60)
    over.set()
    *_, last = (folder / "stdout").read_text().splitlines() or ["{}"]
    said = [line for line in log.read_text().splitlines() if not line.startswith("look at")]
    summary = json.loads(last).get("summary", {})
    return {"exit_code": code, "said": said, "summary": summary, "visits": dict(visits), "samples": samples}


def stream(frames: int) -> dict[str, Any]:
    """A `StreamPredictor` that gets frames and sound as fast as it takes them, in this process."""
    samples, started, maps = [], time.monotonic(), 0
    sound = np.zeros(SOUND_HZ // RATE_HZ, np.float32)
    with StreamPredictor("lite", frame_rate_hz=RATE_HZ, max_ready=1, threads=1, stride=2) as predictor:
        for index in range(frames):
            predictor.push_frame(picture(index), index / RATE_HZ)
            predictor.push_audio(sound, index / RATE_HZ, SOUND_HZ)
            maps += predictor.poll() is not None
            if index % max(1, frames // 1000) == 0:
                samples.append({"frames": index, **sample(os.getpid(), started)})
    return {"frames": frames, "maps": maps, "samples": samples}


def growth(samples: list[Sample], name: str) -> float:
    """From the second tenth of a run, when all is warm, to its last: the difference of the medians."""
    tenth = max(1, len(samples) // 10)
    early, late = samples[tenth : 2 * tenth] or samples, samples[-tenth:]
    return statistics.median(row[name] for row in late) - statistics.median(row[name] for row in early)


def draw(report: dict[str, Any]) -> Any:
    """Memory and descriptors over each run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    for column, (name, axis) in enumerate((("live", "seconds"), ("stream", "frames"))):
        rows = report[name]["samples"]
        for row, kind in enumerate(("resident_mib", "descriptors")):
            axes = figure.add_subplot(2, 2, 1 + column + 2 * row)
            axes.plot([one[axis] for one in rows], [one[kind] for one in rows], linewidth=0.8)
            axes.set_ylim(0, None)
            axes.set_ylabel("resident memory, MiB" if row == 0 else "open descriptors")
            axes.set_xlabel(axis)
            if row == 0:
                axes.set_title(
                    "`dtfsal live` with clients" if name == "live" else "StreamPredictor, as fast as it goes"
                )
    return figure


def main() -> int:
    """Run both, write the result, and say whether anything grew."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="of `dtfsal live`")
    parser.add_argument("--frames", type=int, default=100_000, help="for the StreamPredictor")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report: dict[str, Any] = {"live": live(args.seconds, Path(folder)), "stream": stream(args.frames)}
    report["machine"] = machine(("dtfsal", "onnxruntime", "numpy", "av"))
    faults = [f"live ended with {report['live']['exit_code']}"] if report["live"]["exit_code"] else []
    faults += report["live"]["said"]
    for name in ("live", "stream"):
        for kind, most in (("resident_mib", MOST_GROWTH_MIB), ("descriptors", MOST_NEW_DESCRIPTORS)):
            report[name][f"{kind}_growth"] = grown = round(growth(report[name]["samples"], kind), 1)
            if grown > most:
                faults.append(f"{name}: {kind} grew by {grown}")
    args.output.write_text(json.dumps(report) + "\n")
    save(draw(report), args.output.with_suffix(".png"), source=args.output.name)
    for name in ("live", "stream"):
        told = {key: value for key, value in report[name].items() if key != "samples"}
        sys.stdout.write(f"{name}: {json.dumps(told)}\n")
    sys.stdout.write("".join(f"fault: {fault}\n" for fault in faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
