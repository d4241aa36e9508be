"""What a path becomes: a video with its sound, JSON, and a filter graph for FFmpeg."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dtfsal.applications.reframe.planner import CropPath
from dtfsal.runtime.frontend.preprocess import Rgb
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import VideoReader
from dtfsal.runtime.media.writer import VideoWriter, atomic_output

JSON_FORMAT = "dtfsal.crop-path/1"


def write_video(reader: VideoReader, path: CropPath, output: Path, on_frame: Callable[[], object]) -> list[str]:
    """The cropped video, with the source's sound.

    Args:
        reader: of the source, not yet read.
        path: a window for each of its frames.
        output: where to write.
        on_frame: called after each frame.

    Returns:
        What could not be done, a sentence each.

    Raises:
        MediaError: the source gives other frames than before.
        OutputError: the video cannot be written.
    """
    size = path.framing.width, path.framing.height
    source = reader.info
    writer = VideoWriter(output, width=size[0], height=size[1], source=source, sound_from=Path(source.path))
    count = -1
    with writer:
        for count, frame in enumerate(reader):
            if count >= len(path.windows):
                break
            writer.write(cropped(frame.rgb, path.windows[count], size), frame.time_seconds)
            on_frame()
        if count + 1 != len(path.windows):
            raise MediaError(
                f"{source.path} gave other frames on the second read, so it has changed; run again when the file is "
                "complete"
            )
    return writer.notes


def cropped(rgb: Rgb, window: Any, size: tuple[int, int]) -> Rgb:
    """A window of a frame, brought to a size; between black bars where its shape is another.

    Args:
        rgb: (H, W, 3) uint8.
        window: left, top, width and height, in pixels.
        size: width and height of the result.
    """
    left, top, width, height = (float(value) for value in window)
    if (width, height) == size:
        return np.ascontiguousarray(rgb[int(top) : int(top) + size[1], int(left) : int(left) + size[0]])
    from PIL import Image

    shrink = min(size[0] / width, size[1] / height)
    inner = min(size[0], round(width * shrink)), min(size[1], round(height * shrink))
    box = (left, top, left + width, top + height)
    picture = Image.fromarray(rgb).resize(inner, Image.Resampling.BICUBIC, box=box)
    result = np.zeros((size[1], size[0], 3), np.uint8)
    at = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    result[at[1] : at[1] + inner[1], at[0] : at[0] + inner[0]] = picture
    return result


def write_path(path: CropPath, output: Path) -> None:
    """The path as JSON: times in seconds, windows in pixels of the displayed frame, and the shots.

    Raises:
        OutputError: it cannot be written.
    """
    framing = path.framing
    document = {
        "format": JSON_FORMAT,
        "source": {"width": framing.source_width, "height": framing.source_height},
        "output": {"width": framing.width, "height": framing.height},
        "shots": [{"first_frame": shot.first, "letterboxed": shot.letterboxed} for shot in path.shots],
        "time_seconds": [round(float(value), 6) for value in path.times],
        "windows": [[round(float(value), 3) for value in window] for window in path.windows],
        "kept_share": [round(float(value), 4) for value in path.kept],
    }
    with atomic_output(output) as partial:
        partial.write_text(json.dumps(document, allow_nan=False) + "\n", "utf-8")


def filter_script(path: CropPath) -> str:
    """The path as a filter graph of FFmpeg.

    Run it with `ffmpeg -i VIDEO -/filter:v SCRIPT -c:a copy OUT`; before FFmpeg 7 the option is `-filter_script:v`.

    `sendcmd` moves `crop`. Windows lie on whole pixels of the displayed frame, and cropping in RGB keeps odd places.
    A command falls midway between two frames, so that rounded times cannot shift it to the next. Where the window
    changes its size, `scale` and `pad` bring it to the size of the result.
    """
    framing = path.framing
    windows = np.rint(path.windows).astype(int)
    commands, last = [], None
    for index, window in enumerate(windows.tolist()):
        if window != last:
            time = 0.0 if index == 0 else (path.times[index - 1] + path.times[index]) / 2
            left, top, width, height = window
            size = f"crop w {width}, crop h {height}, " if last is None or window[2:] != last[2:] else ""
            commands.append(f"{time:.6f} {size}crop x {left}, crop y {top}")
            last = window
    left, top, width, height = windows[0].tolist()
    chain = [
        "setpts=PTS-STARTPTS",
        "format=rgb24",
        f"sendcmd=c='{'; '.join(commands)}'",
        f"crop=w={width}:h={height}:x={left}:y={top}:exact=1",
    ]
    if (windows[:, 2:] != (framing.width, framing.height)).any():
        size = f"w={framing.width}:h={framing.height}"
        chain.append(f"scale={size}:force_original_aspect_ratio=decrease:eval=frame")
        chain.append(f"pad={size}:x=-1:y=-1:eval=frame")
    return ",\n".join([*chain, "format=yuv420p"]) + "\n"


def write_filter_script(path: CropPath, output: Path) -> None:
    """`filter_script` in a file.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_output(output) as partial:
        partial.write_text(filter_script(path), "utf-8")
