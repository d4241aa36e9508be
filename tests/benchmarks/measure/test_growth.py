"""Laws of growth through made times: exact ones come back, noisy ones lie in their intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress

from dtfsal.benchmarks.measure.growth import AmdahlLaw, PowerLaw, exponent, fit_amdahl, fit_power_law


@given(st.floats(1e-6, 1e3), st.floats(-1, 3))
def test_an_exact_power_comes_back(coefficient, power):
    x = [8, 16, 24, 32]
    law = fit_power_law(x, [[coefficient * value**power] * 3 for value in x])
    assert law.coefficient == pytest.approx(coefficient, rel=1e-6)
    assert law.exponent == pytest.approx(power, abs=1e-9)
    assert law.exponent_interval == pytest.approx((power, power), abs=1e-9)
    assert law.largest_deviation == pytest.approx(0, abs=1e-9)
    assert law.at(100) == pytest.approx(coefficient * 100**power, rel=1e-6)


def test_the_fit_is_scipys_line_through_logarithms():
    x, seconds = [1.0, 2.0, 4.0, 8.0], [1.1, 1.9, 4.5, 7.2]
    line = linregress(np.log(x), np.log(seconds))
    law = fit_power_law(x, [[value] for value in seconds])
    assert law.exponent == pytest.approx(line.slope)
    assert np.log(law.coefficient) == pytest.approx(line.intercept)
    assert exponent(x, seconds) == pytest.approx(line.slope)


def test_the_largest_deviation_by_hand():
    # Through (1, 1), (2, 4), (4, 4): the line through the logarithms (0, 0), (1, 2), (2, 2) is y = x + 1/3.
    law = fit_power_law([1, 2, 4], [[1.0], [4.0], [4.0]])
    assert law.exponent == pytest.approx(1)
    assert law.coefficient == pytest.approx(2 ** (1 / 3))
    assert law.largest_deviation == pytest.approx(2 ** (2 / 3) - 1)


@given(st.floats(1e-3, 1e2), st.floats(0, 1))
def test_amdahls_law_comes_back(one_thread, share):
    threads = [1, 2, 4, 8]
    made = AmdahlLaw(
        one_thread=one_thread, serial_share=share, serial_share_interval=(share, share), largest_deviation=0.0
    )
    law = fit_amdahl(threads, [[made.at(number)] * 2 for number in threads])
    assert law.one_thread == pytest.approx(one_thread)
    assert law.serial_share == pytest.approx(share, abs=1e-9)
    assert law.serial_share_interval == pytest.approx((share, share), abs=1e-9)


def test_amdahls_law_by_hand():
    law = AmdahlLaw(one_thread=10.0, serial_share=0.2, serial_share_interval=(0.0, 1.0), largest_deviation=0.0)
    assert [law.at(threads) for threads in (1, 2, 4)] == pytest.approx([10, 6, 4])
    assert fit_amdahl([1, 2], [[10.0], [5.0]]).serial_share == pytest.approx(0)
    assert fit_amdahl([1, 2], [[10.0], [10.0]]).serial_share == pytest.approx(1)
    assert fit_amdahl([1, 2], [[10.0], [12.0]]).serial_share > 1  # threads that are in each other's way


def test_the_intervals_cover_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    threads, x = [1, 2, 4], [1, 2, 4]
    shares, powers = [], []
    for _ in range(120):
        noise = generator.lognormal(sigma=0.1, size=(3, 15))
        law = fit_amdahl(threads, [row * (0.3 + 0.7 / p) for row, p in zip(noise, threads, strict=True)])
        shares.append(law.serial_share_interval[0] <= 0.3 <= law.serial_share_interval[1])
        power = fit_power_law(x, [row * value**1.5 for row, value in zip(noise, x, strict=True)])
        powers.append(power.exponent_interval[0] <= 1.5 <= power.exponent_interval[1])
    for covered in (shares, powers):
        assert 0.88 <= np.mean(covered) <= 1


def test_a_fit_is_the_same_again():
    generator = np.random.default_rng(1)
    seconds = generator.lognormal(size=(3, 9)).tolist()
    assert fit_power_law([1, 2, 3], seconds) == fit_power_law([1, 2, 3], seconds)
    assert isinstance(fit_power_law([1, 2, 3], seconds), PowerLaw)
