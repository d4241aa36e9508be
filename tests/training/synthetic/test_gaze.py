import numpy as np
import pytest

from dtfsal.training.synthetic.gaze import GazeTrack

SIZE = (112, 192)


def track(weights, means, sigmas, frames: int = 4) -> GazeTrack:
    repeat = lambda values: np.repeat(np.array(values, np.float32)[None], frames, axis=0)  # noqa: E731
    return GazeTrack(repeat(weights), repeat(means), repeat(sigmas), SIZE)


def test_density_of_one_component_is_its_gaussian():
    density = track([1], [[100, 50]], [[12, 6]]).density(0)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    expected = np.exp(-0.5 * (((x - 100) / 12) ** 2 + ((y - 50) / 6) ** 2)) / (2 * np.pi * 12 * 6)
    assert density.sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(density - expected).max() < 1e-3 * expected.max()  # the tails outside the frame


def test_observers_dwell():
    """With fixed weights a choice lasts at least 0.3 s: at 25 Hz the component rarely changes between frames."""
    world = track([0.5, 0.5], [[20, 50], [170, 50]], [[2, 2], [2, 2]], frames=200)
    side = world.observe(np.random.default_rng(0), 50, 25.0, (0.3, 0.9))[..., 0] > 95
    changes = (side[1:] != side[:-1]).mean()
    assert changes == pytest.approx(0.5 / (0.6 * 25), rel=0.15)  # half of the dwells' ends, each 0.6 s on average
