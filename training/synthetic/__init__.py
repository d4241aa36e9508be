"""A procedural world of moving, sounding things, whose inhabitants look where a stated model says.

sources = Sources(tuple(all_photographs([])))
scene = generate_scene(0, sources)
scene.frames, scene.samples, scene.density(8), scene.fixations(8)
"""

from dtfsal.training.synthetic.cutouts import gaze_cutouts
from dtfsal.training.synthetic.gaze import GazeModel
from dtfsal.training.synthetic.scene import KINDS, Kind, Scene, SceneConfig, check_kind, generate_scene
from dtfsal.training.synthetic.sounds import random_sound
from dtfsal.training.synthetic.sources import (
    Cutout,
    Photograph,
    Sources,
    all_photographs,
    cutouts_from_folder,
    photograph,
)

__all__ = [
    "KINDS",
    "Cutout",
    "GazeModel",
    "Kind",
    "Photograph",
    "Scene",
    "SceneConfig",
    "Sources",
    "all_photographs",
    "check_kind",
    "cutouts_from_folder",
    "gaze_cutouts",
    "generate_scene",
    "photograph",
    "random_sound",
]
