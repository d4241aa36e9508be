"""How the shipped weights of `lite` are made, from photographs with gaze and a procedural world, on a CPU.

1. Photographs (OSIE's training split) as silent clips that stand still: all of the model, from ImageNet's encoder.
2. Clips: half of them scenes of the procedural world, half photographs under a moving camera or at rest, with sounds
   that mean nothing. The frame encoder stands still; what mixes times and hears is trained.

The same seed gives the same weights on the same machine and versions.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from dtfsal.training.clip_stage import ClipStageConfig, train_on_clips
from dtfsal.training.data.camera import random_shot, vary_colour
from dtfsal.training.data.clips import Floats, GazeClip, StillClip
from dtfsal.training.data.stills import Still
from dtfsal.training.model import DTFSal, build_model
from dtfsal.training.optimisation import OptimiserConfig, Report, keep_freed_memory
from dtfsal.training.still_stage import StillStageConfig, train_on_stills
from dtfsal.training.synthetic import Photograph, SceneConfig, Sources, generate_scene, random_sound
from dtfsal.training.weights import load_imagenet_weights, load_weights, read_metadata, save_weights

STILLS_FILE = "stills.safetensors"
RECIPE_KEY = "dtfsal.recipe"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the shipped weights are made by.

    Attributes:
        preset: the model.
        seed: of everything random.
        stills: the first stage.
        clips: the second.
        clip_seconds: length of a clip of the second stage.
        scene_share: of the clips, how many are scenes of the procedural world.
        moving_share: of the photographs, how many the camera moves over.
        silent_share: of the photographs, how many are silent.
    """

    preset: str = "lite"
    seed: int = 0
    stills: StillStageConfig = dataclasses.field(default_factory=StillStageConfig)
    clips: ClipStageConfig = dataclasses.field(
        default_factory=lambda: ClipStageConfig(
            optimiser=OptimiserConfig(learning_rate=2e-3, pretrained_learning_rate=5e-4)
        )
    )
    clip_seconds: float = 3.2
    scene_share: float = 0.65
    moving_share: float = 0.5
    silent_share: float = 0.4

    def total_steps(self, photographs: int) -> int:
        """Steps of both stages."""
        return self.stills.epochs * (photographs // self.stills.batch_size) + self.clips.steps


def run_recipe(recipe: Recipe, stills: list[Still], encoder_weights: Path, work: Path, report: Report) -> DTFSal:
    """Train from scratch; the first stage's result is kept in `work` and taken up again by the same recipe.

    Args:
        recipe: what to do.
        stills: the photographs to train on.
        encoder_weights: EfficientNet-Lite0's ImageNet weights.
        work: a folder for what is made between the stages.
        report: told after each step.

    Returns:
        The model, in evaluation mode.
    """
    keep_freed_memory()
    work.mkdir(parents=True, exist_ok=True)
    kept = work / STILLS_FILE
    made_by = json.dumps(
        {"preset": recipe.preset, "seed": recipe.seed, "stills": dataclasses.asdict(recipe.stills)}, sort_keys=True
    )
    if kept.exists() and read_metadata(kept).get(RECIPE_KEY) == made_by:
        model = load_weights(kept)
        model.encoder.to(memory_format=torch.channels_last)
    else:
        torch.manual_seed(recipe.seed)
        model = build_model(recipe.preset)
        load_imagenet_weights(model, encoder_weights)
        model.encoder.to(memory_format=torch.channels_last)
        model = train_on_stills(model, stills, recipe.stills, seed=recipe.seed, report=report)
        save_weights(model, kept, metadata={RECIPE_KEY: made_by})
    torch.manual_seed(recipe.seed + 1)
    return train_on_clips(model, training_clips(recipe, model, stills), recipe.clips, seed=recipe.seed, report=report)


def training_clips(recipe: Recipe, model: DTFSal, stills: list[Still]) -> Iterator[GazeClip]:
    """The endless stream of clips that the second stage takes."""
    rng = np.random.default_rng((recipe.seed, 2))
    photographs = [Photograph(still.name, still.read(), still.fixations) for still in stills]
    clip = model.config.clip
    assert model.config.audio is not None
    config = SceneConfig(
        height=clip.height,
        width=clip.width,
        seconds=recipe.clip_seconds,
        frame_rate_hz=clip.frame_rate_hz,
        sample_rate_hz=model.config.audio.sample_rate_hz,
    )
    sources = Sources(tuple(photographs))
    while True:
        if rng.random() < recipe.scene_share:
            yield generate_scene(int(rng.integers(2**62)), sources, config)
        else:
            yield _photograph_clip(rng, photographs[rng.integers(len(photographs))], recipe, config)


def _photograph_clip(rng: np.random.Generator, photograph: Photograph, recipe: Recipe, config: SceneConfig) -> GazeClip:
    frames = round(config.seconds * config.frame_rate_hz)
    moving = bool(rng.random() < recipe.moving_share)
    shot = random_shot(rng, photograph.rgb.shape[:2], (config.height, config.width), frames=frames, moving=moving)
    samples: Floats | None = None
    if rng.random() >= recipe.silent_share:
        samples = random_sound(rng, config.seconds, config.sample_rate_hz)
    return StillClip(shot, vary_colour(rng, photograph.rgb), photograph.points, config.frame_rate_hz, samples)
