"""Windows as a model takes them, of real videos and of made-up scenes: to compare engines on, and to calibrate them."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from dtfsal.runtime.frontend.log_mel import MelSlices
from dtfsal.runtime.frontend.preprocess import normalise_clip
from dtfsal.runtime.frontend.windows import iter_windows
from dtfsal.runtime.media.audio_reader import AudioReader
from dtfsal.runtime.media.video import VideoReader
from dtfsal.training.model.config import ModelConfig
from dtfsal.training.model.seeded import synthetic_window

Inputs = dict[str, npt.NDArray[np.float32]]


def synthetic_windows(config: ModelConfig, number: int, *, seed: int = 1) -> Iterator[Inputs]:
    """Windows of moving spots and noise-like sound, the same for the same seed."""
    for index in range(number):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + index)
            video, audio = synthetic_window(config)
        yield {"video": video.numpy()} | ({} if audio is None else {"audio": audio.numpy()})


def video_windows(path: Path, config: ModelConfig, number: int) -> Iterator[Inputs]:
    """Windows of a real video, evenly spread over it, as the runtime makes them.

    Raises:
        MediaError: the file is not a video.
    """
    clip, audio = config.clip, config.audio
    with VideoReader(path, size=(clip.height, clip.width)) as reader:
        info = reader.info
        sound = AudioReader(path, start_seconds=info.start_seconds) if audio and info.has_audio else ()
        slices = MelSlices(audio, iter(sound)) if audio else None
        stride = max(1, (info.frame_count or number) // number)
        windows = iter_windows(reader, clip, source_interval_seconds=info.frame_interval_seconds, stride=stride)
        for window in itertools.islice(windows, number):
            video = normalise_clip([frame.rgb for frame in window.frames], clip)[None]
            inputs = {"video": video}
            if slices is not None:
                inputs["audio"] = slices.window(window.centre_seconds)[None]
            yield inputs
