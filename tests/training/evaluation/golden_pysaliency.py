"""The maps and fixations of the golden scores, and how pysaliency, a library independent of ours, made the scores.

To make them again, in an environment with Python 3.11 and pysaliency 0.2.22, torch, numpy<2.4, setuptools<81:

    python tests/training/evaluation/golden_pysaliency.py

prints what stands in test_metrics.py as GOLDEN. The tests need this file's `cases` only, and no pysaliency.
"""

import numpy as np

HEIGHT, WIDTH = 20, 32


def cases():
    """Name -> (saliency map, fixations (x, y), density, other fixations, baseline density); from arithmetic alone."""
    rows, columns = np.indices((HEIGHT, WIDTH))
    distinct = ((rows * 37 + columns * 101 + rows * columns * 13) % 1009 * 1024 + rows * WIDTH + columns) / 2**20
    tied = (rows * 7 + columns * 3) % 5 / 5.0
    peaked = 1 / (1 + (rows - 8.25) ** 2 + (columns - 20.5) ** 2)
    holes = np.where(peaked > 0.01, peaked, 0.0)  # a prediction of exactly zero where the density is not
    density = 1 / (4 + (rows - 7) ** 2 + (columns - 19) ** 2) ** 2 + 0.3 / (9 + (rows - 15) ** 2 + (columns - 5) ** 2)
    centre = 1 / (100 + (rows - 9.5) ** 2 + (columns - 15.5) ** 2)
    step = np.arange(17)
    fixations = np.stack(
        [(19 + step * step % 7 - 3) % WIDTH, (7 + step * 3 % 5 - 2) % HEIGHT], axis=1
    )  # some pixels twice
    others = np.stack([(step * 11 + 4) % WIDTH, (step * 7 + 2) % HEIGHT], axis=1)
    maps = {"distinct": distinct + 0.01, "tied": tied + 0.2, "peaked": peaked, "holes": holes}
    return {name: (saliency_map, fixations, density, others, centre) for name, saliency_map in maps.items()}


def main():
    import json
    import sys

    import pysaliency
    from pysaliency import metrics

    stimuli = pysaliency.Stimuli([np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)])

    def as_fixations(points):
        return pysaliency.FixationTrains.from_fixation_trains(
            [[x] for x, _ in points],
            [[y] for _, y in points],
            [[0.0]] * len(points),
            [0] * len(points),
            [0] * len(points),
        )

    class MapModel(pysaliency.SaliencyMapModel):
        def __init__(self, values):
            super().__init__()
            self.values = values

        def _saliency_map(self, _stimulus):
            return self.values

    class DensityModel(pysaliency.Model):
        def __init__(self, values):
            super().__init__()
            self.values = np.log(values / values.sum())

        def _log_density(self, _stimulus):
            return self.values

    golden = {}
    for name, (saliency_map, points, density, others, baseline) in cases().items():
        model, fixations = MapModel(saliency_map), as_fixations(points)
        golden[name] = {
            "cc": metrics.CC(saliency_map, density),
            "nss": metrics.NSS(saliency_map, points[:, 0], points[:, 1]).mean(),
            "sim": metrics.SIM(saliency_map, density),
            "kl": metrics.MIT_KLDiv(saliency_map, density),
            "auc_judd": model.AUC(stimuli, fixations, nonfixations="unfixated", thresholds="all"),
            "auc_judd_thresholds_at_fixations": model.AUC_Judd(stimuli, fixations, jitter=False),
            "shuffled_auc": model.AUC(stimuli, fixations, nonfixations=as_fixations(others)),
        }
        if saliency_map.all():  # pysaliency's information gain has no ε
            gain = DensityModel(saliency_map).information_gain(stimuli, fixations, DensityModel(baseline))
            golden[name]["information_gain"] = gain
    json.dump(golden, sys.stdout, indent=4, default=float)


if __name__ == "__main__":
    main()
