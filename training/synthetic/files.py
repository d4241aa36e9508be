"""A scene as files: a video with its sound, and a table of gaze as `dtfsal prepare videos` reads it."""

import csv
import tempfile
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dtfsal.runtime.media.writer import VideoWriter, atomic_output
from dtfsal.training.data.stills import Rgb
from dtfsal.training.synthetic.scene import Scene


def write_scene(
    scene: Scene, video: Path, table: Path, sample_rate_hz: int, picture: Callable[[int], Rgb] | None = None
) -> None:
    """Write a scene.

    Args:
        scene: which.
        video: its file; the suffix names the container.
        table: time_seconds, observer, x, y in pixels.
        sample_rate_hz: of its sound.
        picture: what is shown in a frame, (H, W, 3); None for the scene's own frames.

    Raises:
        OutputError: a place is not writable, or the disk is full.
    """
    height, width = scene.frames.shape[1:3]
    with tempfile.TemporaryDirectory(prefix="dtfsal-") as folder:
        sound = Path(folder) / "sound.wav"
        with wave.open(str(sound), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sample_rate_hz)
            file.writeframes(np.round(scene.samples * 32767).astype("<i2").tobytes())
        with VideoWriter(video, width=width, height=height, sound_from=sound) as writer:
            for index, frame in enumerate(scene.frames):
                shown = frame if picture is None else picture(index)
                writer.write(shown, index / scene.frame_rate_hz)
    with atomic_output(table) as partial, partial.open("w", newline="", encoding="utf-8") as text:
        rows = csv.writer(text)
        rows.writerow(("time_seconds", "observer", "x", "y"))
        for index, positions in enumerate(scene.gaze):
            for observer, (x, y) in enumerate(positions):
                rows.writerow((f"{index / scene.frame_rate_hz:.4f}", observer, f"{x:.1f}", f"{y:.1f}"))
