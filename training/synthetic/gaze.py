"""Where the world's inhabitants look: a stated model, since nobody can be asked.

At each moment gaze is a mixture: a gaussian on every thing, the places that draw the eye in the background, and a wide
gaussian at the frame's centre. The weights say how strongly each attracts (`GazeModel`); the positions are those of
`lag_seconds` ago, since eyes follow late. An observer keeps a component for a dwell time and scatters around it; as
weights change, observers change their mind. At every frame their positions are independent samples of the density.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from dtfsal.training.data.density import fixation_density

Floats = npt.NDArray[np.float32]
Rng = np.random.Generator


@dataclasses.dataclass(frozen=True, kw_only=True)
class GazeModel:
    """How strongly what attracts, as shares of all gaze before they are scaled to sum to 1.

    Attributes:
        chosen: what sounds, moves alone or has just begun to move.
        other: any other thing.
        background: places of the photograph.
        centre: the middle of the frame.
        lag_seconds: how late gaze follows.
        pursuit_lag_seconds: how late it is behind the path of something that it pursues.
        memory_seconds: how long a sound that has stopped still counts; the weight halves in that time.
        dwell_seconds: shortest and longest time that an observer keeps a choice.
        scatter_of_thing: standard deviation around a thing, in shares of its height.
        centre_spread: standard deviations of the centre's gaussian, in shares of the frame's size.
    """

    chosen: float = 0.62
    other: float = 0.07
    background: float = 0.14
    centre: float = 0.05
    lag_seconds: float = 0.2
    pursuit_lag_seconds: float = 0.08
    memory_seconds: float = 1.0
    dwell_seconds: tuple[float, float] = (0.3, 0.9)
    scatter_of_thing: float = 0.22
    centre_spread: float = 0.2


@dataclasses.dataclass(frozen=True)
class GazeTrack:
    """The mixture at every frame.

    Attributes:
        weights: (N, K) summing to 1 in each frame.
        means: (N, K, 2) x and y in pixels.
        sigmas: (N, K, 2) standard deviations across and down, in pixels.
        size: (H, W) of the frame.
    """

    weights: Floats
    means: Floats
    sigmas: Floats
    size: tuple[int, int]

    def density(self, index: int) -> Floats:
        """The density at a frame, (H, W), summing to 1 over the frame."""
        height, width = self.size
        total = np.zeros(self.size)
        for weight, mean, sigma in zip(self.weights[index], self.means[index], self.sigmas[index], strict=True):
            if weight > 0:
                part = fixation_density(mean[None], height, width, (float(sigma[1]), float(sigma[0])))
                total += weight * part
        return (total / total.sum()).astype(np.float32)

    def observe(self, rng: Rng, observers: int, frame_rate_hz: float, dwell_seconds: tuple[float, float]) -> Floats:
        """Where observers look, (N, observers, 2) x and y in pixels."""
        frames = len(self.weights)
        result = np.empty((frames, observers, 2), np.float32)
        cumulative = np.cumsum(self.weights, axis=1)
        for observer in range(observers):
            start = -rng.uniform(0, dwell_seconds[1])  # not all begin a dwell at the first frame
            while start * frame_rate_hz < frames:
                stop = start + rng.uniform(*dwell_seconds)
                first, last = (
                    max(0, int(np.ceil(start * frame_rate_hz))),
                    min(frames, int(np.ceil(stop * frame_rate_hz))),
                )
                if last > first:
                    span = np.arange(first, last)
                    component = (cumulative[span] < rng.random() * cumulative[span, -1:]).sum(axis=1)
                    offset = rng.standard_normal(2)
                    result[span, observer] = self.means[span, component] + offset * self.sigmas[span, component]
                start = stop
        return result


def lagged(values: npt.NDArray[np.floating], frames: int) -> npt.NDArray[np.floating]:
    """Values (N, ...) of so many frames ago, the first held."""
    return values[np.maximum(np.arange(len(values)) - frames, 0)]


def remembered(activity: Floats, frame_rate_hz: float, half_life_seconds: float) -> Floats:
    """The largest activity so far (N, ...), each moment's halving in `half_life_seconds`."""
    decay = 0.5 ** (1 / (frame_rate_hz * half_life_seconds))
    result = activity.copy()
    for index in range(1, len(result)):
        result[index] = np.maximum(activity[index], decay * result[index - 1])
    return result
