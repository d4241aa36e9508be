"""The stages after the first: motion and sound. The frame encoder is frozen; what mixes times and hears is trained.

Since a frame's features no longer change, each clip is encoded once and many windows are cut out of it, as the runtime
does. A pool of clips is held; every step takes windows out of it, and every so many steps a new clip replaces the
oldest. Clips come in variants: the same frames with another sound, and so with another truth where sound decides.
"""

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dtfsal.training.data.clips import GazeClip
from dtfsal.training.evaluation.encoded_clip import (
    EncodedClip,
    encode_clip,
    encode_sound,
    predict_windows,
    window_batch,
)
from dtfsal.training.model.losses import saliency_loss
from dtfsal.training.model.network import DTFSal
from dtfsal.training.recipe.optimisation import Optimiser, OptimiserConfig, Report
from dtfsal.training.synthetic import Scene, SceneConfig

Variants = Sequence[GazeClip]  # clips of the same frames
# The parts that decide before times and sound meet, and so what a frame's features are.
FRAME_PARTS = ("encoder.", "top_down.", "enhance.")
# The parts that have learned from photographs already; the last level's decoder is the first to see motion and sound.
DECODER_PARTS = ("decoders.", "final.")
DEEPEST_DECODER = "decoders.3."
EVENT_SECONDS = 0.4  # a target near an event lies at most so long before or after it


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipStageConfig:
    """How long, how fast, and on what.

    Attributes:
        steps: how many.
        deepest_only: train on the map of level 4's decoder, which alone sees motion and sound, and leave the others
            as they are; a step costs a fraction of one on the final map.
        batch_size: windows in a step, each of another clip.
        fresh_stills: how many of them show a photograph that no step has shown so. At rest it costs one frame, and a
            pool of clips holds too few photographs: on those alone, maps of others got worse.
        clips_held: size of the pool; at first it holds as many as a step takes.
        steps_per_clip: steps between new clips.
        scene_share: of the clips, how many are scenes of the procedural world; the rest are photographs.
        kind_shares: of the scenes, how many are of each kind, in the order of `dtfsal.training.synthetic.KINDS`.
        paired: whether windows come in pairs: the same frames with two of their sounds, where a clip has several. What
            the pictures say is the same in both, so what is left to learn is what the sound says.
        muted_share: how many of the windows are shown without their sound.
        eventful_share: how many of the windows of scenes have a target near a moment when gaze goes elsewhere. Such
            moments are rare, and what begins to move has to be learned from them.
        optimiser: rates and decays.
    """

    steps: int
    deepest_only: bool = False
    batch_size: int = 8
    fresh_stills: int = 0
    clips_held: int = 64
    steps_per_clip: int = 1
    scene_share: float = 0.65
    kind_shares: tuple[float, ...] = SceneConfig().kind_shares
    paired: bool = False
    muted_share: float = 0.1
    eventful_share: float = 0.4
    optimiser: OptimiserConfig = dataclasses.field(default_factory=OptimiserConfig)


class ClipPool:
    """Encoded clips, the oldest first.

    Args:
        model: encodes them.
        clips: an endless stream.
        rng: chooses windows.
        size: how many are held at most.
        eventful_share: see `ClipStageConfig`.
    """

    def __init__(
        self,
        model: DTFSal,
        clips: Iterator[Variants],
        rng: np.random.Generator,
        size: int,
        eventful_share: float = 0.0,
    ) -> None:
        self._model, self._clips, self._rng, self._eventful = model, clips, rng, eventful_share
        self._held: deque[list[EncodedClip]] = deque(maxlen=size)

    def __len__(self) -> int:
        return len(self._held)

    def add(self) -> None:
        """Encode the next clip; the oldest leaves if the pool is full."""
        first, *others = next(self._clips)
        encoded = encode_clip(self._model, first)
        variants = [dataclasses.replace(encoded.with_sound(other.samples, self._model), clip=other) for other in others]
        self._held.append([encoded, *variants])

    def sample(self, count: int, *, paired: bool = False) -> list[tuple[EncodedClip, int]]:
        """So many windows: a variant and a target frame of a clip each, or two variants of half as many clips."""
        picks = []
        for index in self._rng.choice(len(self._held), count // 2 if paired else count, replace=False):
            variants = self._held[index]
            if paired:
                first, second = self._rng.choice(len(variants), 2, replace=len(variants) < 2)
                target = self._target(variants[first].clip, len(variants[first].windows))
                picks += [(variants[first], target), (variants[second], target)]
                continue
            encoded = variants[self._rng.integers(len(variants))]
            picks.append((encoded, self._target(encoded.clip, len(encoded.windows))))
        return picks

    def _target(self, clip: GazeClip, count: int) -> int:
        if isinstance(clip, Scene) and self._rng.random() < self._eventful:
            change = clip.gaze_change().astype(np.float64)
            if change.any():
                event = int(self._rng.choice(count, p=change / change.sum()))
                near = round(EVENT_SECONDS * clip.frame_rate_hz)
                return int(np.clip(event + self._rng.integers(-near, near + 1), 0, count - 1))
        return int(self._rng.integers(count))


def train_on_clips(
    model: DTFSal,
    clips: Iterator[Variants],
    stills: Iterator[GazeClip],
    config: ClipStageConfig,
    *,
    name: str,
    seed: int,
    report: Report,
) -> DTFSal:
    """Train the window's half of a per-frame model on clips.

    Args:
        model: trained on stills; its head is changed.
        clips: an endless stream.
        stills: an endless stream of photographs at rest.
        config: how long, how fast, and on what.
        name: of the stage, for the report.
        seed: of the choice of windows.
        report: told after each step.

    Returns:
        The averaged model, in evaluation mode.
    """
    rng = np.random.default_rng(seed)
    decoders = DEEPEST_DECODER if config.deepest_only else DECODER_PARTS
    named = [(key, value) for key, value in model.named_parameters() if not key.startswith(FRAME_PARTS)]
    pretrained = [value for key, value in named if key.startswith(decoders)]
    fresh = [value for key, value in named if not key.startswith(DECODER_PARTS)]
    model.requires_grad_(False)
    for parameter in (*pretrained, *fresh):
        parameter.requires_grad_(True)
    optimiser = Optimiser(model, fresh, pretrained, config.optimiser, config.steps)
    model.train()
    model.encoder.eval()
    pool = ClipPool(model, clips, rng, config.clips_held, config.eventful_share)
    pooled = config.batch_size - config.fresh_stills
    for _ in range(pooled):
        pool.add()
    for step in range(1, config.steps + 1):
        fresh_clips = [encode_clip(model, next(stills)) for _ in range(config.fresh_stills)]
        picks = [
            *pool.sample(pooled, paired=config.paired),
            *((encoded, len(encoded.windows) // 2) for encoded in fresh_clips),
        ]
        density = torch.from_numpy(np.stack([encoded.clip.density(target) for encoded, target in picks]))[:, None]
        predict = _predict_deepest if config.deepest_only else _predict_final
        muted = [share < config.muted_share for share in rng.random(config.batch_size).tolist()]
        loss = saliency_loss(predict(model, picks, muted), density)
        optimiser.step(loss)
        report(name, step, config.steps, loss.item())
        if step % config.steps_per_clip == 0:
            pool.add()
    model.requires_grad_(True)
    return optimiser.averaged


def _predict_final(model: DTFSal, picks: Sequence[tuple[EncodedClip, int]], muted: Sequence[bool]) -> Tensor:
    """The maps of windows, (B, 1, H, W)."""
    features, slices = window_batch(picks)
    return predict_windows(model, features, _muted(model, slices, muted))


def _predict_deepest(model: DTFSal, picks: Sequence[tuple[EncodedClip, int]], muted: Sequence[bool]) -> Tensor:
    """The maps of level 4's decoder alone, (B, 1, H, W)."""
    clip, times = model.config.clip, model.config.times
    (finer, deepest), slices = window_batch(picks, levels=(1, 3))
    fused = model.fuse(finer, deepest, encode_sound(model, _muted(model, slices, muted)), times)
    return model.decoders[3](fused, times, (clip.height, clip.width)).sigmoid()


def _muted(model: DTFSal, slices: Tensor | None, muted: Sequence[bool]) -> Tensor | None:
    if slices is None:
        return None
    assert model.config.audio is not None
    return slices.masked_fill(torch.as_tensor(muted)[:, None, None, None, None], model.config.audio.silence)
