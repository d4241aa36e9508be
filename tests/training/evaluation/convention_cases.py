"""Maps that conventions are compared on, and pysaliency's scores of them.

To make golden_conventions.json again, in an environment with Python 3.11 and pysaliency 0.2.22, torch, numpy<2.4,
setuptools<81:

    python tests/training/evaluation/convention_cases.py > tests/training/evaluation/golden_conventions.json

The tests need `cases` only, and no pysaliency. `RandomState` draws the same numbers in every version of NumPy.
"""

import numpy as np

RANDOM = 200


def cases():
    """(name, map (H, W), fixations (n, 2) of whole pixels, density (H, W)): 200 random ones and 20 degenerate."""
    return [*random_cases(), *degenerate_cases()]


def blobs(rng, height, width):
    rows, columns = np.indices((height, width))
    density = np.zeros((height, width))
    for _ in range(rng.randint(1, 4)):
        y, x, size = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(1, 5)
        density += np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * size**2))
    return density


def random_cases():
    rng = np.random.RandomState(19)
    for number in range(RANDOM):
        height, width = rng.randint(8, 25), rng.randint(8, 33)
        values = 0.6 * blobs(rng, height, width) + rng.uniform(0, 0.4, (height, width)) + rng.choice([0, 0.3])
        levels = [None, 2, 5, 255][number % 4]  # few levels have many ties, as maps of 8 bits
        if levels is not None:
            values = np.round(values / values.max() * levels)
        count = rng.randint(1, 30)
        points = np.stack([rng.randint(0, width, count), rng.randint(0, height, count)], axis=1)
        if number % 3 == 0:
            points = np.concatenate([points, points[: count // 2]])  # pixels that several people looked at
        yield f"random {number}", values, points, blobs(rng, height, width)


def degenerate_cases():
    rng = np.random.RandomState(91)
    height, width = 9, 12
    density, noise = blobs(rng, height, width), rng.uniform(0.1, 1, (height, width))
    spot = np.zeros((height, width))
    spot[4, 5] = 1.0
    points = np.stack([rng.randint(0, width, 7), rng.randint(0, height, 7)], axis=1)
    on_spot, off_spot = np.array([(5, 4)]), np.array([(0, 0)])
    everywhere = np.array([(x, y) for y in range(height) for x in range(width)])
    yield "constant map", np.full((height, width), 0.5), points, density
    yield "zero map", np.zeros((height, width)), points, density
    yield "constant density", noise, points, np.full((height, width), 0.5)
    yield "constant map and density", np.ones((height, width)), points, np.ones((height, width))
    yield "one pixel, looked at", spot, on_spot, density
    yield "one pixel, not looked at", spot, off_spot, density
    yield "one pixel in both", spot, on_spot, spot
    yield "all but one pixel", 1 - spot, points, density
    yield "one fixation on the least", noise, np.array([np.unravel_index(noise.argmin(), noise.shape)[::-1]]), density
    yield "one fixation on the largest", noise, np.array([np.unravel_index(noise.argmax(), noise.shape)[::-1]]), density
    yield "one pixel many times", noise, np.repeat(points[:1], 9, axis=0), density
    yield "every pixel but one", noise, everywhere[1:], density
    yield "map is the density", density, points, density
    yield "map is its opposite", density.max() - density, points, density
    yield "huge", noise * 1e6, points, density
    yield "minute", noise * 1e-6, points, density
    yield "a high floor", noise + 100, points, density
    yield "two values", (noise > 0.5).astype(float), points, density
    yield "one row", noise[:1], np.array([(3, 0), (7, 0), (7, 0)]), density[:1]
    yield "two pixels", np.array([[1.0, 2.0]]), np.array([(1, 0)]), np.array([[0.0, 1.0]])


def main():
    import json
    import sys

    import pysaliency
    from pysaliency import metrics

    class MapModel(pysaliency.SaliencyMapModel):
        def __init__(self, values):
            super().__init__()
            self.values = values

        def _saliency_map(self, _stimulus):
            return self.values

    golden = {}
    for name, values, points, density in cases():
        stimuli = pysaliency.Stimuli([np.zeros((*values.shape, 3), dtype=np.uint8)])
        fixations = pysaliency.FixationTrains.from_fixation_trains(
            [[x] for x, _ in points],
            [[y] for _, y in points],
            [[0.0]] * len(points),
            [0] * len(points),
            [0] * len(points),
        )
        scores = (
            metrics.CC(values, density),
            metrics.NSS(values, points[:, 0], points[:, 1]).mean(),
            metrics.SIM(values, density),
            metrics.MIT_KLDiv(values, density),
            MapModel(values).AUC_Judd(stimuli, fixations, jitter=False),
        )
        golden[name] = [None if np.isnan(score) else float(score) for score in scores]
    sys.stdout.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in golden.items()) + "\n}\n")


if __name__ == "__main__":
    main()
