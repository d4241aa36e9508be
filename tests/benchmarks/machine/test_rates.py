"""Rates by hand: what is done is counted, what it took is given, and the best counts."""

import numpy as np
import pytest
import torch

from dtfsal.benchmarks.machine import rates as machine_rates


@pytest.fixture
def given_seconds(monkeypatch):
    """Every timed work is done, and takes the next of these seconds."""

    def give(seconds):
        taken = iter(seconds)

        def timed(work):
            work()
            return next(taken)

        monkeypatch.setattr(machine_rates, "HostStopwatch", lambda: timed)
        return taken

    return give


def test_copies_read_and_write_each_byte(monkeypatch, given_seconds):
    copied = []

    def copyto(target, source):
        copied.append(source.nbytes)
        assert target.shape == source.shape
        assert not np.shares_memory(target, source)

    monkeypatch.setattr(machine_rates, "COPY_BYTES", 4 * 1001)
    monkeypatch.setattr(machine_rates.np, "copyto", copyto)
    given_seconds([3.0, 0.5, 2.0])
    assert machine_rates.copy_rate(3, repeats=3) == pytest.approx(2 * 4004 / 0.5 / 1e9)
    assert len(copied) == 3 * 3  # each repeat in as many parts as there are threads
    assert sum(copied) == 3 * 4004


def test_a_products_rate_counts_two_for_each_multiply_accumulate(given_seconds):
    left = given_seconds([0.25, 1.0])
    before = torch.get_num_threads()
    assert machine_rates.matrix_product_rate(before, size=8, repeats=2) == pytest.approx(2 * 8**3 / 0.25 / 1e9)
    assert next(left, None) is None
    assert torch.get_num_threads() == before
