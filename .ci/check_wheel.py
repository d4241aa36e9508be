"""Try an installed wheel as a user has it: `python .ci/check_wheel.py [--without-libraries]`, in its environment.

It makes a clip, predicts it with the command, and runs the C library and the CPU's operators that the wheel carries. No
compiler is on PATH, and the checkout is not on Python's path.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np

FRAMES, RATE_HZ = 20, 25
WITHOUT_LIBRARIES = "--without-libraries" in sys.argv[1:] or sys.platform == "win32"


def write_clip(path: Path) -> None:
    """A square that moves over grey, without sound."""
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE_HZ)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        for number in range(FRAMES):
            picture = np.full((192, 320, 3), 90, np.uint8)
            picture[80:112, 10 * number : 10 * number + 32] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def run(*words: object, **environment: str) -> str:
    """What a command of dtfsal prints."""
    script = Path(sys.executable).with_name("dtfsal.exe" if sys.platform == "win32" else "dtfsal")
    done = subprocess.run(
        [script, *map(str, words)],
        env={**os.environ, "PATH": str(script.parent), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"`dtfsal {' '.join(map(str, words))}` ended with {done.returncode}: {done.stderr}")
    return done.stdout


def main() -> None:
    """Check all of it; the exit code says whether it holds."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_clip(Path("clip.mp4"))
        run("predict", "clip.mp4", "-o", "gaze.csv")
        rows = Path("gaze.csv").read_text().splitlines()
        assert len(rows) == 1 + FRAMES, rows

        libraries = {one["name"]: one for one in json.loads(run("native", "list", "--json"))["libraries"]}
        found = {name: libraries[name]["origin"] for name in ("capi", "cpu-kernels")}
        if WITHOUT_LIBRARIES:
            assert set(found.values()) == {None}, found
        else:
            assert set(found.values()) == {"packaged"}, found
            check_libraries()
    sys.stdout.write(f"dtfsal works in {sys.prefix}\n")


def check_libraries() -> None:
    """The C library gives a map, and ONNX Runtime takes the operators."""
    import onnxruntime

    from dtfsal.engines.native.cpu_kernels import register_cpu_kernels
    from dtfsal.engines.native.projects import CPU_KERNELS
    from dtfsal.runtime.capi import NativePredictor

    with NativePredictor(frame_rate_hz=RATE_HZ, sound=False) as predictor:
        for number in range(FRAMES):
            predictor.push_frame(np.full((192, 320, 3), 90, np.uint8), number / RATE_HZ)
        predictor.finish()
        frame = predictor.poll()
        assert frame is not None
        assert np.isfinite(frame.saliency_map).all()
    register_cpu_kernels(onnxruntime.SessionOptions(), CPU_KERNELS.find())


if __name__ == "__main__":
    main()
