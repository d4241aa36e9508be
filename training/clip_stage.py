"""The second stage: motion and sound. The frame encoder stands still; what mixes times and hears is trained.

Since a frame's features no longer change, each clip is encoded once and many windows are cut out of it, as the runtime
does. A few clips are held at a time; every step takes one window of each, and every so many steps the oldest clip gives
way to a new one.
"""

import dataclasses
from collections import deque
from collections.abc import Iterator

import numpy as np
import torch

from dtfsal.training.data.clips import GazeClip
from dtfsal.training.encoded_clip import EncodedClip, encode_clip, predict_windows, window_batch
from dtfsal.training.losses import saliency_loss
from dtfsal.training.model import DTFSal
from dtfsal.training.optimisation import Optimiser, OptimiserConfig, Report

# The parts that decide before times and sound meet, and so what a frame's features are.
FRAME_PARTS = ("encoder.", "top_down.", "enhance.")
# The parts that have learned from photographs already.
DECODER_PARTS = ("decoders.", "final.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipStageConfig:
    """How long and how fast.

    Attributes:
        steps: how many.
        steps_per_clip: steps after which the oldest clip gives way to a new one.
        clips_held: windows in a step, each of another clip.
        optimiser: rates and decays.
    """

    steps: int = 700
    steps_per_clip: int = 2
    clips_held: int = 8
    optimiser: OptimiserConfig = dataclasses.field(default_factory=OptimiserConfig)


def train_on_clips(
    model: DTFSal, clips: Iterator[GazeClip], config: ClipStageConfig, *, seed: int, report: Report
) -> DTFSal:
    """Train the window's half of a per-frame model on clips.

    Args:
        model: trained on stills; its head is changed.
        clips: an endless stream.
        config: how long and how fast.
        seed: of the choice of windows.
        report: told after each step.

    Returns:
        The averaged model, in evaluation mode.
    """
    rng = np.random.default_rng(seed)
    model.requires_grad_(True)
    named = list(model.named_parameters())
    frozen = [parameter for name, parameter in named if name.startswith(FRAME_PARTS)]
    decoders = [parameter for name, parameter in named if name.startswith(DECODER_PARTS)]
    fresh = [parameter for name, parameter in named if not name.startswith(FRAME_PARTS + DECODER_PARTS)]
    for parameter in frozen:
        parameter.requires_grad_(False)
    optimiser = Optimiser(model, fresh, decoders, config.optimiser, config.steps)
    model.train()
    model.encoder.eval()
    held: deque[EncodedClip] = deque(
        (encode_clip(model, next(clips)) for _ in range(config.clips_held)), maxlen=config.clips_held
    )
    for step in range(1, config.steps + 1):
        picks = [(clip, int(rng.integers(len(clip.windows)))) for clip in held]
        features, slices = window_batch(picks)
        density = torch.from_numpy(np.stack([clip.clip.density(target) for clip, target in picks]))
        loss = saliency_loss(predict_windows(model, features, slices), density[:, None])
        optimiser.step(loss)
        report("clips", step, config.steps, loss.item())
        if step % config.steps_per_clip == 0:
            held.append(encode_clip(model, next(clips)))
    for parameter in frozen:
        parameter.requires_grad_(True)
    return optimiser.averaged
