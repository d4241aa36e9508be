"""Maps as the public benchmarks take them: a grey video for each video, or a folder of grey pictures."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import av.error
import numpy as np
import torch
from PIL import Image

from dtfsal.engines.errors import OutputError
from dtfsal.runtime.media.writer import atomic_output
from dtfsal.training.data.training_clips import evaluation_windows
from dtfsal.training.data.video_item import Floats, VideoItem
from dtfsal.training.evaluation.evaluate import resized_map
from dtfsal.training.model.network import DTFSal

SubmissionFormat = Literal["videos", "pictures"]
# Ten bits, and nearly no loss, as the published maps are.
ENCODER, PIXELS, ENCODER_OPTIONS = "libx264", "yuv420p10le", {"crf": "0", "preset": "veryfast"}
RATE_DENOMINATOR = 100_000


@torch.no_grad()
def write_submission(
    model: DTFSal,
    items: Sequence[VideoItem],
    output: Path,
    form: SubmissionFormat,
    *,
    device: torch.device | None = None,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Predict every frame of videos and write the maps at the videos' own size, each map from 0 to its largest value.

    Args:
        model: in evaluation mode.
        items: the videos; they need no maps.
        output: a folder. "videos" are NAME.mp4, with as many frames as the video; "pictures" are NAME/0001.png.
        form: which of the two.
        device: where the model is; None for the CPU.
        progress: called after each video.

    Raises:
        OutputError: the place is not writable or full, or this build of FFmpeg can't encode ten bits.
        DataError: a file is missing or damaged.
    """
    for item in items:
        maps = _maps(model, item, device or torch.device("cpu"))
        if form == "videos":
            with atomic_output(output / f"{item.name}.mp4") as partial:
                write_map_video(partial, maps, item.frame_rate_hz, item.size)
        else:
            for number, values in enumerate(maps, 1):
                with atomic_output(output / item.name / f"{number:04d}.png") as partial:
                    Image.fromarray(np.round(values * 255).astype(np.uint8)).save(partial, format="png")
        progress()


def write_map_video(path: Path, maps: Iterator[Floats], frame_rate_hz: float, size: tuple[int, int]) -> None:
    """Write maps (H, W) from 0 to 1 as a grey video of ten bits.

    Raises:
        OutputError: it can't be written or encoded.
    """
    rate = Fraction(frame_rate_hz).limit_denominator(RATE_DENOMINATOR)
    try:
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream(ENCODER, rate=rate, options=ENCODER_OPTIONS)
            stream.height, stream.width = size
            stream.pix_fmt = PIXELS
            for number, values in enumerate(maps):
                grey = av.VideoFrame.from_ndarray(np.round(values * 65535).astype(np.uint16), format="gray16le")
                frame = grey.reformat(format=PIXELS)
                frame.pts, frame.time_base = number, 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except (av.error.FFmpegError, ValueError) as error:
        raise OutputError(f"cannot write {path} as a grey video of ten bits ({error})") from error


def _maps(model: DTFSal, item: VideoItem, device: torch.device) -> Iterator[Floats]:
    config = model.config
    height, width = item.size
    for _, inputs in evaluation_windows(item, config.clip, config.audio):
        given = [torch.from_numpy(value)[None].to(device) for value in inputs.values()]
        values = resized_map(model(*given)[0, 0].float().cpu().numpy(), height, width)
        yield values / max(float(values.max()), 1e-12)
