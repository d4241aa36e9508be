"""The predictor as models of pysaliency, so that its evaluation runs dtfsal: photographs, and videos frame by frame.

    from dtfsal import SaliencyPredictor
    from dtfsal.runtime.predict.pysaliency_models import StillMaps

    with SaliencyPredictor() as predictor:
        model = StillMaps(predictor)
        print(model.AUC(stimuli, fixations, nonfixations="unfixated", average="image"))

pysaliency counts pixels' edges from 0 and dtfsal their centres: add 0.5 to dtfsal's fixations for pysaliency. See
docs/how-to/pysaliency.md. Nothing else imports this module, so the runtime does without pysaliency.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UnavailableError, UsageError
from dtfsal.runtime.frontend.preprocess import Rgb
from dtfsal.runtime.predict.maps import resize_map
from dtfsal.runtime.predict.predictor import SaliencyPredictor

try:
    import pysaliency
except ImportError as error:
    raise UnavailableError(
        f"models for pysaliency need that package and what it imports ({error}): run `pip install 'dtfsal[pysaliency]'`"
    ) from error

Floats = npt.NDArray[np.float64]
# As in `dtfsal.training.evaluation.metrics`: what a pixel without any density has in place of none.
EPSILON = float(np.finfo(np.float64).eps)


class StillMaps(pysaliency.SaliencyMapModel):  # type: ignore[misc]
    """A photograph's map: that of a clip in which nothing moves and nothing sounds, as `dtfsal evaluate` shows it.

    Maps are (H, W) float64 of the photograph's size, in the predictor's normalisation.

    Args:
        predictor: whose engine computes the maps; it must stay open.
        options: of pysaliency's cache.
    """

    def __init__(self, predictor: SaliencyPredictor, **options: Any) -> None:
        super().__init__(**options)
        self._predictor = predictor

    def _saliency_map(self, stimulus: Any) -> Floats:
        rgb = _rgb(stimulus)
        maps = self._predictor.predict_arrays(rgb[None], self._predictor.clip.frame_rate_hz)
        return np.asarray(maps[0], np.float64)


class VideoMaps(pysaliency.SaliencyMapModel):  # type: ignore[misc]
    """The maps of a video's frames, each predicted from its window of frames and sound.

    All maps are computed at once, and kept at the model's size. Frames that look the same have maps of their own: a
    stimulus of `frames` is told by its number, any other by its content.

    Args:
        predictor: whose engine computes the maps.
        frames: the video's frames in order.
        frame_rate_hz: of them.
        samples: the sound, as for `SaliencyPredictor.predict_frames`; None for silence.
        sample_rate_hz: of it.

    Raises:
        UsageError: a frame is no picture, or an argument does not fit.
    """

    def __init__(
        self,
        predictor: SaliencyPredictor,
        frames: pysaliency.Stimuli,
        frame_rate_hz: float,
        samples: npt.ArrayLike | None = None,
        sample_rate_hz: float | None = None,
    ) -> None:
        super().__init__(caching=False)
        pictures = (_rgb(frames[index].stimulus_data) for index in range(len(frames)))
        with predictor.predict_frames(
            pictures, frame_rate_hz=frame_rate_hz, samples=samples, sample_rate_hz=sample_rate_hz
        ) as prediction:
            self._maps = [frame.saliency_map for frame in prediction]
        self._frames = frames

    def saliency_map(self, stimulus: Any) -> Floats:
        """The map of one of the frames, (H, W) float64 of its size.

        Raises:
            UsageError: it is no frame of this video, or several frames that look like it are.
        """
        if getattr(stimulus, "stimuli", None) is self._frames:
            index = stimulus.index
        else:
            index = self._number_of(pysaliency.datasets.as_stimulus(stimulus).stimulus_id)
        height, width = self._frames.sizes[index]
        return np.asarray(resize_map(self._maps[index], height, width), np.float64)

    def _saliency_map(self, stimulus: Any) -> Floats:
        return self.saliency_map(stimulus)

    def _number_of(self, stimulus_id: str) -> int:
        found = [index for index, known in enumerate(self._frames.stimulus_ids) if known == stimulus_id]
        if len(found) != 1:
            how_many = "no frame" if not found else f"{len(found)} frames"
            raise UsageError(f"{how_many} of the video look like this stimulus: take it from the model's own stimuli")
        return found[0]


class Densities(pysaliency.Model):  # type: ignore[misc]
    """Maps read as a density of fixations: divided by their sum, plus ε = 2.2e-16 where the logarithm is taken.

    So the log-likelihoods and information gains are those of `dtfsal evaluate`, in pysaliency's units. A map of zeros
    is uniform.

    Args:
        maps: `StillMaps` or `VideoMaps`.
    """

    def __init__(self, maps: StillMaps | VideoMaps) -> None:
        super().__init__(caching=False)
        self._maps = maps

    def log_density(self, stimulus: Any) -> Floats:
        """The natural logarithm of the density, (H, W) float64."""
        values = np.asarray(self._maps.saliency_map(stimulus), np.float64)
        total = values.sum()
        density = values / total if total > 0 else np.full_like(values, 1 / values.size)
        return np.asarray(np.log(EPSILON + density), np.float64)

    def _log_density(self, stimulus: Any) -> Floats:
        return self.log_density(stimulus)


def _rgb(stimulus: Any) -> Rgb:
    """A stimulus of pysaliency, grey (H, W) or RGB (H, W, 3), as RGB."""
    picture = np.asarray(stimulus)
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise UsageError(f"a stimulus must be (H, W) or (H, W, 3) uint8, not {picture.shape} {picture.dtype}")
    return picture
