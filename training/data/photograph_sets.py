"""The sets of photographs with gaze that `lite` learns from and is scored on: their scale, and their fixed splits.

- OSIE: Xu, Jiang, Wang, Kankanhalli & Zhao, "Predicting human gaze beyond pixels", Journal of Vision 14(1):28, 2014.
- Crowd: Jiang, Xu & Zhao, "Saliency in crowd", ECCV 2014.
- Scene: Liang, Jiang, Liang & Zhao, "Saliency prediction with scene structural guidance".

A folder's set is told by its pictures' names: those of Crowd and Scene begin with `crowd_` and `scene_`.
"""

import dataclasses
import importlib.resources
import json
from collections.abc import Iterable, Mapping
from pathlib import PurePath


@dataclasses.dataclass(frozen=True)
class PhotographSet:
    """A set of photographs with gaze.

    Attributes:
        name: on the command line.
        title: for people.
        prefix: what the names of its pictures begin with.
        degree_of_height: one degree of visual angle as a share of a picture's height.
    """

    name: str
    title: str
    prefix: str
    degree_of_height: float

    def split_names(self) -> dict[str, list[str]]:
        """The names in each split, without suffix, as `NAME_split.json` fixes them."""
        file = importlib.resources.files("dtfsal.training.data").joinpath(f"{self.name}_split.json")
        return {
            split: [PurePath(name).stem for name in names]
            for split, names in json.loads(file.read_text()).items()
            if split in SPLITS
        }


SPLITS = ("train", "validation", "test")
OSIE = PhotographSet("osie", "OSIE", "", 19 / 480)
CROWD = PhotographSet("crowd", "Crowd", "crowd_", 26 / 768)
# Scene's authors show each picture as large as the screen allows, as OSIE's did, and state no distance: OSIE's degree.
SCENE = PhotographSet("scene", "Scene", "scene_", OSIE.degree_of_height)
SETS: Mapping[str, PhotographSet] = {one.name: one for one in (OSIE, CROWD, SCENE)}


def set_of(names: Iterable[str]) -> PhotographSet:
    """The set that pictures of these names belong to; OSIE where nothing tells."""
    names = list(names)
    for one in (CROWD, SCENE):
        if names and all(name.startswith(one.prefix) for name in names):
            return one
    return OSIE
