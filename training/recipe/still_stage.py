"""The first stage: where people look in photographs, as silent clips that stand still or are cut to another."""

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dtfsal.training.data.camera import random_shot, vary_colour
from dtfsal.training.data.stills import Rgb, Still
from dtfsal.training.model.frames import frame_tensor
from dtfsal.training.model.losses import saliency_loss
from dtfsal.training.model.network import DTFSal
from dtfsal.training.recipe.checkpoint import StageCheckpoint
from dtfsal.training.recipe.optimisation import Optimiser, OptimiserConfig, Report


@dataclasses.dataclass(frozen=True, kw_only=True)
class StillStageConfig:
    """How long and how fast.

    Attributes:
        epochs: passes over the photographs, each time cropped, flipped and coloured again.
        batch_size: photographs in a step.
        cut_share: in how many of the steps clips are cut from one photograph to another, before or after the target
            frame. On clips that only stand still every time of a window says the same, and a map could belong to any
            of them. A step without cuts costs two thirds.
        optimiser: rates and decays.
    """

    epochs: int = 10
    batch_size: int = 8
    cut_share: float = 0.5
    optimiser: OptimiserConfig = dataclasses.field(
        default_factory=lambda: OptimiserConfig(learning_rate=2e-3, pretrained_learning_rate=4e-4)
    )


def train_on_stills(
    model: DTFSal,
    stills: list[Still],
    config: StillStageConfig,
    *,
    seed: int,
    report: Report,
    checkpoint: StageCheckpoint | None = None,
) -> DTFSal:
    """Train all of a per-frame model, its encoder included, on photographs.

    Batch normalisation of the encoder stays as ImageNet has it: batches are small.

    Args:
        model: with a pretrained encoder; changed.
        stills: photographs and their fixations.
        config: how long and how fast.
        seed: of order and augmentation.
        report: told after each step.
        checkpoint: where the state is kept after each epoch, and taken up again.

    Returns:
        The averaged model, in evaluation mode.
    """
    rng = np.random.default_rng(seed)
    photographs = [still.read() for still in stills]
    steps = config.epochs * (len(stills) // config.batch_size)
    encoder = list(model.encoder.parameters())
    rest = [parameter for name, parameter in model.named_parameters() if not name.startswith("encoder.")]
    optimiser = Optimiser(model, rest, encoder, config.optimiser, steps)
    model.train()
    model.encoder.eval()
    first = 0 if checkpoint is None else checkpoint.restore(optimiser, rng)
    done = first * (len(stills) // config.batch_size)
    for epoch in range(first, config.epochs):
        order = rng.permutation(len(stills))
        for start in range(0, len(order) - config.batch_size + 1, config.batch_size):
            batch = [_sample(rng, photographs[i], stills[i], model) for i in order[start : start + config.batch_size]]
            frames = frame_tensor(np.stack([frame for frame, _ in batch]), model.config.clip)
            density = torch.from_numpy(np.stack([density for _, density in batch]))
            shown = None
            if rng.random() < config.cut_share:
                shown = random_cuts(rng, len(batch), model.config.times, model.config.target_time)
            loss = saliency_loss(predict_stills(model, frames, shown), density[:, None])
            optimiser.step(loss)
            done += 1
            report("stills", done, steps, loss.item())
        if checkpoint is not None:
            checkpoint.save(epoch + 1, optimiser, rng)
    return optimiser.averaged


def random_cuts(rng: np.random.Generator, count: int, times: int, target: int) -> npt.NDArray[np.intp]:
    """Which photograph each clip shows at each time, (count, times): its own, and beyond a cut another one.

    Args:
        rng: where the choice comes from.
        count: clips, and photographs.
        times: of a window.
        target: the time that shows the clip's own photograph.
    """
    shown = np.repeat(np.arange(count)[:, None], times, axis=1)
    if count == 1 or times == 1:
        return shown
    for clip in range(count):
        cut = int(rng.integers(1, times))  # the first time after the cut
        beyond = slice(cut, None) if cut > target else slice(cut)
        shown[clip, beyond] = (clip + rng.integers(1, count)) % count
    return shown


def predict_stills(model: DTFSal, frames: Tensor, shown: npt.NDArray[np.intp] | None = None) -> Tensor:
    """The maps of silent clips that repeat a frame or are cut, for per-frame models at a fraction of the cost.

    Level 4 is mixed and fused at one time instead of T', and repeated: equal but for the mixing across a cut and its
    padding, and for silent slices, which the whole model tells apart by their place in the window.

    Args:
        model: a model with a per-frame encoder.
        frames: (B, 3, H, W), normalised.
        shown: (B, T') which frame each clip shows at each time; None for its own, which costs least.

    Returns:
        (B, 1, H, W) in [0, 1].
    """
    audio, times = model.config.audio, model.config.times
    features = model.encode_frames(frames)
    sound = None
    if audio is not None:
        silence = frames.new_full((1, 1, audio.height, audio.width), audio.silence)
        sound = model.audio.encode_slices(silence)[None].expand(len(frames), audio.slices, -1, -1, -1)
    fused = [*features[:3], model.fuse(features[1], features[3], sound, 1)]
    if shown is None:
        return model.decode(fused, times, at_rest=True)[0]
    order = torch.from_numpy(shown.reshape(-1))
    return model.decode([level[order] for level in fused], times)[0]


def _sample(rng: np.random.Generator, rgb: Rgb, still: Still, model: DTFSal) -> tuple[Rgb, npt.NDArray[np.float32]]:
    """A frame (height, width, 3) uint8 and its density (height, width)."""
    clip = model.config.clip
    shot = random_shot(rng, rgb.shape[:2], (clip.height, clip.width), unsquashed=True)
    frame = shot.frame(rgb, 0)
    if rng.random() < 0.8:
        frame = vary_colour(rng, frame)
    return frame, shot.density(still.fixations, 0, still.degree_of_height * rgb.shape[0])
