"""How the shipped weights of `lite` are made, from photographs with gaze and a procedural world, on a CPU.

1. Photographs (the training splits of OSIE, Crowd and Scene) as silent clips that stand still, or are cut from one
   photograph to another: all of the model, from ImageNet's encoder.
2. Clips: most of them scenes of the procedural world, each with every of its things heard in turn, the rest photographs
   under a moving camera or at rest, some cut from one to another, with sounds that mean nothing. The frame encoder
   stands still; what mixes times and hears is trained, first on the map of the level that hears ("sound"), then on the
   final map ("clips"), where photographs at rest join them.

The same seed gives the same weights on the same machine and versions.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn

from dtfsal.training.data.camera import random_shot, vary_colour
from dtfsal.training.data.clips import CutClip, Floats, GazeClip, StillClip
from dtfsal.training.data.photograph_sets import SCENE
from dtfsal.training.data.stills import Still
from dtfsal.training.model.network import DTFSal, build_model
from dtfsal.training.model.weights import load_imagenet_weights, load_weights, read_metadata, save_weights
from dtfsal.training.recipe.checkpoint import StageCheckpoint
from dtfsal.training.recipe.clip_stage import ClipStageConfig, Variants, train_on_clips
from dtfsal.training.recipe.optimisation import OptimiserConfig, Report, channels_last, keep_freed_memory
from dtfsal.training.recipe.still_stage import StillStageConfig, train_on_stills
from dtfsal.training.synthetic import Photograph, SceneConfig, Sources, gaze_cutouts, generate_scene, random_sound

RECIPE_KEY = "dtfsal.recipe"
StageName = Literal["sound", "clips"]
CLIP_STAGES: tuple[StageName, ...] = get_args(StageName)
# Of the recipe; the stills do without.
CLIP_FIELDS = {"clip_seconds", "moving_share", "cut_share", "silent_share"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the shipped weights are made by.

    Attributes:
        preset: the model.
        seed: of everything random.
        stills: the first stage.
        sound: the second.
        clips: the third.
        clip_seconds: length of a clip of the second and third stage.
        moving_share: of the photographs, how many the camera moves over.
        cut_share: of the photographs at rest, how many are cut to another one.
        silent_share: of the photographs, how many are silent.
    """

    preset: str = "lite"
    seed: int = 0
    stills: StillStageConfig = dataclasses.field(default_factory=StillStageConfig)
    sound: ClipStageConfig = dataclasses.field(
        default_factory=lambda: ClipStageConfig(
            steps=550,
            deepest_only=True,
            batch_size=16,
            scene_share=0.9,
            kind_shares=(0.55, 0.35, 0.02, 0.04, 0.0, 0.04),
            paired=True,
            optimiser=OptimiserConfig(learning_rate=3e-3, pretrained_learning_rate=1e-3),
        )
    )
    clips: ClipStageConfig = dataclasses.field(
        default_factory=lambda: ClipStageConfig(
            steps=450,
            fresh_stills=3,
            steps_per_clip=2,
            kind_shares=(0.27, 0.2, 0.06, 0.14, 0.08, 0.25),
            optimiser=OptimiserConfig(learning_rate=1e-3, pretrained_learning_rate=5e-4),
        )
    )
    clip_seconds: float = 3.2
    moving_share: float = 0.5
    cut_share: float = 0.3
    silent_share: float = 0.4

    def total_steps(self, photographs: int) -> int:
        """Steps of all stages."""
        return self.stills.epochs * (photographs // self.stills.batch_size) + self.sound.steps + self.clips.steps


def run_recipe(recipe: Recipe, stills: list[Still], encoder_weights: Path, work: Path, report: Report) -> DTFSal:
    """Train from scratch; what the stages before the last give is kept in `work` and taken up again by the same recipe.

    Args:
        recipe: what to do.
        stills: the photographs to train on, of all sets.
        encoder_weights: EfficientNet-Lite0's ImageNet weights.
        work: a folder for what is made between the stages.
        report: told after each step.

    Returns:
        The model, in evaluation mode.
    """
    keep_freed_memory()
    work.mkdir(parents=True, exist_ok=True)

    def first() -> DTFSal:
        torch.manual_seed(recipe.seed)
        model = build_model(recipe.preset)
        load_imagenet_weights(model, encoder_weights)
        channels_last(model.encoder)
        checkpoint = StageCheckpoint(work / "stills.partial.safetensors", _made_by(recipe, ("stills",), stills))
        return train_on_stills(model, stills, recipe.stills, seed=recipe.seed, report=report, checkpoint=checkpoint)

    def second() -> DTFSal:
        return _clip_stage(recipe, "sound", _kept(recipe, ("stills",), stills, work, first), stills, report)

    return _clip_stage(recipe, "clips", _kept(recipe, ("stills", "sound"), stills, work, second), stills, report)


def _kept(
    recipe: Recipe, stages: tuple[str, ...], stills: list[Still], work: Path, train: Callable[[], DTFSal]
) -> DTFSal:
    """The model after these stages: what lies in `work`, if it was made the same way, else trained and left there."""
    file = work / f"{stages[-1]}.safetensors"
    made_by = _made_by(recipe, stages, stills)
    if file.exists() and read_metadata(file).get(RECIPE_KEY) == made_by:
        model = load_weights(file)
        channels_last(model.encoder)
        return model
    model = train()
    save_weights(model, file, metadata={RECIPE_KEY: made_by})
    (work / f"{stages[-1]}.partial.safetensors").unlink(missing_ok=True)
    return model


def _made_by(recipe: Recipe, stages: tuple[str, ...], stills: list[Still]) -> str:
    """What the model after these stages depends on: a part of the recipe, and the photographs."""
    others = {"stills", "sound", "clips"} - set(stages)
    if stages == ("stills",):
        others |= CLIP_FIELDS
    names = "\n".join(still.name for still in stills)
    everything = {**dataclasses.asdict(recipe), "photographs": hashlib.sha256(names.encode()).hexdigest()}
    return json.dumps({name: value for name, value in everything.items() if name not in others}, sort_keys=True)


def _clip_stage(recipe: Recipe, name: StageName, model: DTFSal, stills: list[Still], report: Report) -> DTFSal:
    number = CLIP_STAGES.index(name) + 1
    torch.manual_seed(recipe.seed + number)
    photographs = [Photograph.of(still) for still in stills]
    # What people looked at in streets and rooms is seldom a thing that could walk.
    cutouts = gaze_cutouts([one for one in photographs if not one.name.startswith(SCENE.prefix)])
    if name == "sound":
        forget_sound(model)
    config: ClipStageConfig = getattr(recipe, name)
    clips = training_clips(recipe, config, model, Sources(tuple(photographs), tuple(cutouts)), seed=number)
    at_rest = still_clips(recipe, model, photographs, seed=number)
    return train_on_clips(model, clips, at_rest, config, name=name, seed=recipe.seed + number, report=report)


def forget_sound(model: DTFSal) -> None:
    """Draw anew what hears. Silence teaches it nothing, and the first stage kills most units of the sound encoder.

    After ten epochs of photographs one channel in eight of VGGish answered to anything, and 900 steps on clips brought
    none back: maps with and without sound were equal to three digits.
    """
    fresh = build_model(model.config)
    for name in ("audio", "synchrony"):
        getattr(model, name).load_state_dict(getattr(fresh, name).state_dict())
    for module in model.audio.vggish.modules():
        if isinstance(module, nn.Conv2d):  # with PyTorch's own, six layers without normalisation let little through
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


def training_clips(
    recipe: Recipe, stage: ClipStageConfig, model: DTFSal, sources: Sources, *, seed: int
) -> Iterator[Variants]:
    """The endless stream of clips that the second or third stage takes, another for each seed."""
    rng = np.random.default_rng((recipe.seed, seed))
    config = dataclasses.replace(_scene_config(model, recipe.clip_seconds), kind_shares=stage.kind_shares)
    photographs = list(sources.photographs)
    while True:
        if rng.random() < stage.scene_share:
            scene_seed = int(rng.integers(2**62))
            scene = generate_scene(scene_seed, sources, config)
            voices = range(1, scene.things.shape[1] if scene.sounding.max() >= 0 else 1)
            others = (generate_scene(scene_seed, sources, config, voice=v, drawn=scene.frames) for v in voices)
            yield [scene, *others]
        else:
            photograph = photographs[rng.integers(len(photographs))]
            if rng.random() < recipe.moving_share:
                yield [_photograph_clip(rng, photograph, recipe, config, moving=True)]
            else:
                yield [_clip_at_rest(rng, photograph, photographs, recipe, config)]


def still_clips(recipe: Recipe, model: DTFSal, photographs: list[Photograph], *, seed: int) -> Iterator[GazeClip]:
    """Photographs at rest as clips of a window's length, all of them before any comes again."""
    rng = np.random.default_rng((recipe.seed, seed, 1))
    clip = model.config.clip
    config = _scene_config(model, clip.frames / clip.frame_rate_hz)
    while True:
        for index in rng.permutation(len(photographs)):
            yield _clip_at_rest(rng, photographs[index], photographs, recipe, config)


def _scene_config(model: DTFSal, seconds: float) -> SceneConfig:
    clip, audio = model.config.clip, model.config.audio
    assert audio is not None
    return SceneConfig(
        height=clip.height,
        width=clip.width,
        seconds=seconds,
        frame_rate_hz=clip.frame_rate_hz,
        sample_rate_hz=audio.sample_rate_hz,
    )


def _clip_at_rest(
    rng: np.random.Generator,
    photograph: Photograph,
    photographs: list[Photograph],
    recipe: Recipe,
    config: SceneConfig,
) -> GazeClip:
    """A photograph at rest, or two of them with a cut somewhere between."""
    clip = _photograph_clip(rng, photograph, recipe, config, moving=False)
    if rng.random() >= recipe.cut_share:
        return clip
    other = _photograph_clip(rng, photographs[rng.integers(len(photographs))], recipe, config, moving=False)
    count = len(clip.shot.boxes)
    cut = int(rng.integers(1, count))
    return CutClip((clip.shortened(cut), other.shortened(count - cut)), clip.samples)


def _photograph_clip(
    rng: np.random.Generator, photograph: Photograph, recipe: Recipe, config: SceneConfig, *, moving: bool
) -> StillClip:
    frames = round(config.seconds * config.frame_rate_hz)
    shot = random_shot(rng, photograph.rgb.shape[:2], (config.height, config.width), frames=frames, moving=moving)
    samples: Floats | None = None
    if rng.random() >= recipe.silent_share:
        samples = random_sound(rng, config.seconds, config.sample_rate_hz)
    return StillClip(
        shot,
        vary_colour(rng, photograph.rgb),
        photograph.points,
        config.frame_rate_hz,
        samples,
        photograph.degree_of_height,
    )
