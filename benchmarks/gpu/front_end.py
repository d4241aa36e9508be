"""Frames and slices prepared on the GPU: whether they are the CPU's, and how long each takes on either."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dtfsal.engines.gpu.device import CudaCoreDevice
from dtfsal.engines.native.frontend.library import FrontEndLibrary
from dtfsal.engines.native.frontend.prepare import FrontEnd
from dtfsal.engines.native.projects import FRONT_END
from dtfsal.runtime.frontend.log_mel import log_mel_slice, resize_slice, slice_tables
from dtfsal.runtime.frontend.preprocess import normalisation_table, normalise_clip, resize_frame
from dtfsal.runtime.media.video import VideoReader
from dtfsal.training.model.config import PRESETS

REPEATS = 20  # in one timing: launches are queued, so a single one would be mostly waiting


def front_end(video: Path, preset: str, architecture: str, *, runs: int) -> dict[str, Any]:
    """Compare and time a video's first frame, as YUV and as RGB, and a slice of noise.

    Args:
        video: a video of the size to be measured.
        preset: the model that the inputs are for.
        architecture: of the GPU, such as "90".
        runs: timings of `REPEATS` preparations each.

    Returns:
        `rows`: what, the largest difference to the CPU's (levels of 255, or log-mel), and the medians in microseconds.

    Raises:
        UnavailableError: a compiler or cuda-core is missing.
        EngineError: the GPU failed.
    """
    config = PRESETS[preset]
    clip, audio = config.clip, config.audio
    assert audio is not None
    with tempfile.TemporaryDirectory() as folder, VideoReader(video) as reader, VideoReader(video) as other:
        library = FrontEndLibrary(FRONT_END.build(Path(folder), architectures=(architecture,)))
        device = CudaCoreDevice(0)
        upload, compute = device.stream(), device.stream()
        parts = FrontEnd(device, library, upload, compute)
        yuv, rgb = next(reader.pictures()).picture, next(iter(other)).rgb
        samples = np.random.default_rng(0).uniform(-1, 1, audio.slice_samples).astype(np.float32)
        levels = parts.frames(clip.height, clip.width, "float32", np.arange(256, dtype=np.float32)[None].repeat(3, 0))
        frames = parts.frames(clip.height, clip.width, "float32", normalisation_table(clip))
        slices = parts.slices("float32", slice_tables(audio))

        def wait() -> None:
            device.synchronise(device.record(compute))

        def fetched(output: Any) -> np.ndarray[Any, Any]:
            pinned = device.pin(output.buffer.size)
            device.download(pinned, output.buffer, compute)
            wait()
            return pinned.bytes.view(output.dtype).reshape(output.shape).copy()

        small = resize_frame(rgb, clip.height, clip.width).transpose(2, 0, 1).astype(int)
        mel = resize_slice(log_mel_slice(samples, audio), audio)
        single = type(clip)(frames=1, height=clip.height, width=clip.width)

        def on_cpu() -> None:
            normalise_clip([resize_frame(rgb, clip.height, clip.width)], single)

        rows = []
        for name, difference, on_gpu, cpu in (
            ("frame, YUV", np.abs(fetched(levels.prepare(yuv))[0] - small).max(), lambda: frames.prepare(yuv), on_cpu),
            ("frame, RGB", np.abs(fetched(levels.prepare(rgb))[0] - small).max(), lambda: frames.prepare(rgb), on_cpu),
            (
                "slice of sound",
                np.abs(fetched(slices.prepare(samples))[0, 0] - mel).max(),
                lambda: slices.prepare(samples),
                lambda: resize_slice(log_mel_slice(samples, audio), audio),
            ),
        ):
            row = {"what": name, "difference": float(difference), "gpu_us": _median_us(on_gpu, wait, runs)}
            rows.append({**row, "cpu_us": _median_us(cpu, lambda: None, runs)})
        parts.close()
    return {"size": [rgb.shape[0], rgb.shape[1]], "rows": rows}


def _median_us(work: Callable[[], object], wait: Callable[[], None], runs: int) -> float:
    """Of one piece of work, the host's part and the wait for the GPU included."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        for _ in range(REPEATS):
            work()
        wait()
        times.append((time.perf_counter() - started) / REPEATS)
    return 1e6 * float(np.median(times[1:]))
