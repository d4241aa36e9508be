"""What a model wants to be fed: the clip and the sound slices; part of its configuration and of the manifest."""

import dataclasses
import math
from typing import Literal

from dtfsal.engines import limits
from dtfsal.engines.errors import UsageError

Target = Literal["last", "centre"]
# How a model's decoders bring a window's times to one, as its configuration says (docs/explanation/model.md). The first
# version had strides of 4, so that its decoders did not read their target; its configurations name no rule. Engines of
# both run.
TEMPORAL_RULE = "stride-2"
FIRST_TEMPORAL_RULE = "stride-4"
TEMPORAL_RULES = (TEMPORAL_RULE, FIRST_TEMPORAL_RULE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """A video clip of `frames` RGB frames, normalised as (x / 255 - mean) / std.

    Attributes:
        frames: T, the frames in a window.
        height: H in pixels.
        width: W in pixels.
        frame_rate_hz: the nominal rate of the window's taps. Sources of a multiple of it are thinned to it; see
            `dtfsal.runtime.frontend.windows`.
        target: which frame of the window the saliency map belongs to: its last, or the one at index T // 2.
        mean: per channel (R, G, B), in units of the full range. Default: Kinetics-400 MViTv2 weights.
        std: per channel, as mean.
    """

    frames: int
    height: int
    width: int
    frame_rate_hz: float = 30.0
    target: Target = "centre"
    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)

    def __post_init__(self) -> None:
        for name, bounds in limits.CLIP.items():
            limits.checked(f"clip.{name}", getattr(self, name), bounds)
        if (pixels := self.frames * self.height * self.width) > limits.CLIP_PIXELS:
            raise UsageError(f"clip has {pixels} pixels in a window, and at most {limits.CLIP_PIXELS} can be")
        if self.target not in ("last", "centre"):
            raise UsageError(f"clip.target must be 'last' or 'centre', not {self.target!r}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != 3 or not all(math.isfinite(v) for v in values):
                raise UsageError(f"clip.{name} must be three finite numbers, not {values!r}")
        if min(self.std) <= 0:
            raise UsageError(f"clip.std must be positive, not {self.std!r}")

    @property
    def target_index(self) -> int:
        """Index in [0, frames) of the frame that the saliency map belongs to."""
        return self.frames - 1 if self.target == "last" else self.frames // 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioSpec:
    """Log-mel slices: `slices` examples of `slice_frames` x `mel_bands`, resized to height x width.

    The defaults are VGGish's front-end with the paper's slicing: 16 kHz mono, 25 ms periodic Hann window, 10 ms hop,
    64 bands in 125-7500 Hz, log(mel + 0.01), examples of 64 frames (0.64 s) every 11 frames (0.11 s).

    Attributes:
        slices: examples in a window (9 in the paper).
        height: height of a resized slice (its time axis).
        width: width of a resized slice (its mel axis).
    """

    slices: int
    height: int
    width: int
    sample_rate_hz: int = 16000
    window_length: int = 400
    hop_length: int = 160
    mel_bands: int = 64
    min_hz: float = 125.0
    max_hz: float = 7500.0
    log_offset: float = 0.01
    slice_frames: int = 64
    slice_hop_frames: int = 11

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in limits.AUDIO:
                limits.checked(f"audio.{field.name}", value, limits.AUDIO[field.name])
        if not 0 <= self.min_hz < self.max_hz <= self.sample_rate_hz / 2:
            raise UsageError(f"audio bands must satisfy 0 <= min_hz < max_hz <= sample_rate_hz / 2, not {self!r}")
        between = (self.slices - 1) * self.slice_hop_frames * self.hop_length
        if (
            self.slice_frames * self.window_length > limits.SLICE_VALUES
            or between + self.slice_samples > limits.WINDOW_SAMPLES
        ):
            raise UsageError(f"audio has slices of a length that no model takes: {self!r}")

    @property
    def silence(self) -> float:
        """The log-mel value of digital silence: log(log_offset)."""
        return math.log(self.log_offset)

    @property
    def slice_samples(self) -> int:
        """Samples that one slice is computed from."""
        return (self.slice_frames - 1) * self.hop_length + self.window_length

    @property
    def slice_hop_seconds(self) -> float:
        """Spacing of the global slice grid (0.11 s)."""
        return self.slice_hop_frames * self.hop_length / self.sample_rate_hz
