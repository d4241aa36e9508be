"""Pictures that are one: the same file, or one photograph scaled, cropped a little, mirrored or recoloured."""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from dtfsal.training.data.stills import DataError, Rgb, Still

SIDE, BLUR = 32, 3  # pixels of a thumbnail, and the radius of what is taken from it
# Two of OSIE's, Crowd's and Scene's 1351 photographs reach 0.65. Copies at another size and quality, with 2 % cut off
# and another brightness, stay above 0.94.
ALIKE = 0.85


def refuse_twins(stills: Iterable[Still]) -> None:
    """See that no picture comes twice, whatever sets and splits they are of: one in two splits is learned by heart.

    Raises:
        DataError: one does, cannot be read, or no fixation on it lies in it.
    """
    twins = Twins()
    for still in stills:
        rgb = still.read()
        if not still.density(*rgb.shape[:2]).any():
            raise DataError(f"no fixation on {still.path} lies in the picture; restore both from the dataset")
        twins.add(str(still.path), rgb)


class Twins:
    """Remembers pictures and refuses one that came before."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._digests: dict[bytes, str] = {}
        self._prints = np.empty((0, SIDE * SIDE), np.float32)

    def add(self, name: str, rgb: Rgb) -> None:
        """Remember a picture, (H, W, 3) uint8.

        Raises:
            DataError: it came before under another name.
        """
        digest = hashlib.sha256(np.array(rgb.shape).tobytes() + np.ascontiguousarray(rgb).tobytes()).digest()
        twin = self._digests.get(digest)
        straight, mirrored = fingerprint(rgb), fingerprint(rgb[:, ::-1])
        if twin is None and self._names:
            likeness = np.maximum(self._prints @ straight, self._prints @ mirrored)
            if likeness.max() >= ALIKE:
                twin = self._names[int(likeness.argmax())]
        if twin is not None:
            raise DataError(f"{name} and {twin} are the same picture; remove one of them from its folder and its table")
        self._digests[digest] = name
        self._names.append(name)
        self._prints = np.concatenate((self._prints, straight[None]))


def fingerprint(rgb: Rgb) -> npt.NDArray[np.float32]:
    """(1024,) of length 1: a grey thumbnail without its coarse light and shade; zeros for a picture of one colour."""
    thumbnail = Image.fromarray(np.ascontiguousarray(rgb)).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    coarse = thumbnail.filter(ImageFilter.BoxBlur(BLUR))
    detail = np.asarray(thumbnail, np.float32) - np.asarray(coarse, np.float32)
    detail -= detail.mean()
    length = float(np.linalg.norm(detail))
    return (detail / length if length > 0 else detail).ravel()
