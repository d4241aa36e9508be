"""A clip as a per-frame model sees it: every frame and slice encoded or kept once, windows cut out of them."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dtfsal.training.data.clips import Floats, GazeClip, WindowIndices, clip_windows, mel_slices
from dtfsal.training.model.frames import frame_tensor
from dtfsal.training.model.network import DTFSal

FRAMES_AT_ONCE = 8


@dataclasses.dataclass(frozen=True)
class EncodedClip:
    """What windows are cut out of.

    Attributes:
        clip: the clip; it knows the gaze.
        features: per level (N, C*, h_i, w_i), what `DTFSal.encode_frames` gave; of a still clip only one frame's.
        windows: of all frames.
        slices: (M, 1, h, w) log-mel, or None for a visual model.
        first_slice: number of slices[0] on the sound's grid.
    """

    clip: GazeClip
    features: list[Tensor]
    windows: list[WindowIndices]
    slices: Tensor | None
    first_slice: int

    def with_sound(self, samples: Floats | None, model: DTFSal) -> "EncodedClip":
        """The same pictures with another sound, or silence for None."""
        slices, first = _slices(samples, self.windows, model)
        return dataclasses.replace(self, slices=slices, first_slice=first)


@torch.no_grad()
def encode_clip(model: DTFSal, clip: GazeClip) -> EncodedClip:
    """Encode each frame of a clip once; frames equal to the one before are not encoded again."""
    frames = clip.frames
    spec = model.config.clip
    fresh = [0] + [i for i in range(1, len(frames)) if not np.array_equal(frames[i], frames[i - 1])]
    chunks = [fresh[start : start + FRAMES_AT_ONCE] for start in range(0, len(fresh), FRAMES_AT_ONCE)]
    encoded = [model.encode_frames(frame_tensor(frames[chunk], spec)) for chunk in chunks]
    levels = [torch.cat(level) for level in zip(*encoded, strict=True)]
    windows = clip_windows(len(frames), clip.frame_rate_hz, spec, model.config.audio)
    of_frame = np.searchsorted(fresh, np.arange(len(frames)), side="right") - 1
    windows = [dataclasses.replace(window, frames=of_frame[window.frames]) for window in windows]
    slices, first = _slices(clip.samples, windows, model)
    return EncodedClip(clip, levels, windows, slices, first)


def window_batch(
    picks: Sequence[tuple[EncodedClip, int]], levels: Sequence[int] = range(4)
) -> tuple[list[Tensor], Tensor | None]:
    """Windows of clips and target frames, ready for `predict_windows`.

    Args:
        picks: clips and target frames.
        levels: which of the features, from 0.

    Returns:
        Per level (B*T, C*, h_i, w_i), and the slices (B, S, 1, h, w) or None.
    """
    windows = [(encoded, encoded.windows[target]) for encoded, target in picks]
    features = [torch.cat([encoded.features[i][window.frames] for encoded, window in windows]) for i in levels]
    if picks[0][0].slices is None:
        return features, None
    slices = []
    for encoded, window in windows:
        assert encoded.slices is not None
        start = window.slices.start - encoded.first_slice
        slices.append(encoded.slices[start : start + len(window.slices)])
    return features, torch.stack(slices)


def predict_windows(model: DTFSal, features: list[Tensor], slices: Tensor | None) -> Tensor:
    """The maps (B, 1, H, W) of windows from `window_batch`."""
    return model.predict(features, encode_sound(model, slices), model.config.times)[0]


def encode_sound(model: DTFSal, slices: Tensor | None) -> Tensor | None:
    """What `AudioBranch.encode_slices` gives for the slices (B, S, 1, h, w) of windows, (B, S, C, h', w')."""
    return None if slices is None else model.audio.encode_slices(slices.flatten(0, 1)).unflatten(0, slices.shape[:2])


def _slices(samples: Floats | None, windows: list[WindowIndices], model: DTFSal) -> tuple[Tensor | None, int]:
    audio = model.config.audio
    if audio is None:
        return None, 0
    first, last = min(w.slices.start for w in windows), max(w.slices.stop for w in windows)
    return torch.from_numpy(mel_slices(samples, range(first, last), audio)), first
