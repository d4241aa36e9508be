"""BD-rates and weighted quality against other definitions, and one whole run of a tiny clip."""

import numpy as np
import pytest

from dtfsal.benchmarks.accuracy.roi import bd_rate, gaze_maps, quality

pytest.importorskip("skimage")
pytest.importorskip("scipy")

RATES = [100.0, 200.0, 400.0, 800.0]


def test_a_curve_that_needs_a_tenth_less():
    """The same qualities at 0.9 times the rates."""
    found = bd_rate(RATES, [30, 33, 36, 39], [0.9 * rate for rate in RATES], [30, 33, 36, 39])
    assert found == pytest.approx(-0.1, abs=1e-12)
    assert bd_rate(RATES, [30, 33, 36, 39], RATES, [30, 33, 36, 39]) == 0


@pytest.mark.parametrize("reached", [[40, 41, 42, 43], [30, 33, 32, 36]])
def test_curves_that_cannot_be_compared(reached):
    assert np.isnan(bd_rate(RATES, [30, 33, 36, 39], RATES, reached))


@pytest.mark.filterwarnings("ignore:Insufficient curve overlap")
def test_it_agrees_with_the_package():
    """Curves that overlap little may warn there."""
    package = pytest.importorskip("bjontegaard")
    rng = np.random.default_rng(0)
    for _ in range(20):
        curves = [np.sort(rng.uniform(100, 1000, 4)), np.sort(rng.uniform(30, 40, 4))]
        other = [curves[0] * rng.uniform(0.8, 1.2), np.sort(curves[1] + rng.uniform(-1, 1, 4))]
        expected = package.bd_rate(*curves, *other, method="pchip", require_matching_points=False)
        assert 100 * bd_rate(*map(list, (*curves, *other))) == pytest.approx(expected, abs=1e-6)


def test_weights_of_one_give_plain_quality():
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    rng = np.random.default_rng(0)
    reference = rng.uniform(0, 255, (2, 24, 32))
    encoded = np.clip(reference + rng.normal(0, 5, reference.shape), 0, 255)
    found = quality(reference, encoded, np.ones_like(reference))
    assert found["psnr"] == pytest.approx(peak_signal_noise_ratio(reference, encoded, data_range=255))
    assert found["weighted_psnr"] == pytest.approx(found["psnr"])
    # scikit-image's mean leaves a margin of 3 pixels out.
    maps = [structural_similarity(a, b, data_range=255, full=True)[1].mean() for a, b in zip(reference, encoded)]  # noqa: B905
    assert found["weighted_ssim"] == pytest.approx(np.mean(maps))


def test_weights_count_errors_where_they_lie():
    reference = np.zeros((1, 16, 16))
    encoded = reference.copy()
    encoded[:, :, :8] = 10
    weights = np.zeros_like(reference)
    weights[:, :, 8:] = 2
    found = quality(reference, encoded, weights)
    assert found["weighted_psnr"] > 100
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 / 50))


def test_gaze_lands_where_it_was(tmp_path):
    table = tmp_path / "gaze.csv"
    table.write_text("time_seconds,observer,x,y\n0.0,0,40,10\n0.0,1,40,10\n1.0,0,0,0\n")
    first, last = gaze_maps(table, [0.0, 1.0], (20, 40), (40, 80))
    assert np.unravel_index(first.argmax(), first.shape) == (5, 20)
    assert first.sum() == pytest.approx(2, rel=1e-5)
    assert np.unravel_index(last.argmax(), last.shape) == (0, 0)
