"""What a machine's processor and memory reach: FP32 products and copies, measured with all threads."""

import concurrent.futures

import numpy as np
import torch

from dtfsal.benchmarks.measure.stopwatch import HostStopwatch

COPY_BYTES = 2**28  # of each of two arrays: far more than any cache holds


def matrix_product_rate(threads: int, size: int = 2048, repeats: int = 7) -> float:
    """The machine's FP32 matrix product rate in GFLOP/s: the best of some products in PyTorch."""
    before, stopwatch = torch.get_num_threads(), HostStopwatch()
    torch.set_num_threads(threads)
    try:
        a, b = torch.randn(size, size), torch.randn(size, size)
        best = min(stopwatch(lambda: torch.mm(a, b)) for _ in range(repeats))
    finally:
        torch.set_num_threads(before)
    return 2 * size**3 / best / 1e9


def copy_rate(threads: int, repeats: int = 5) -> float:
    """The memory's rate in GB/s: bytes read and written by copies of arrays that no cache holds, the best of some.

    What a processor reads of the target before it writes there, if it does, is not counted: the rate is that of the
    program, and the memory itself may move half as much again.
    """
    source, target = (np.ones(COPY_BYTES // 4, np.float32) for _ in range(2))
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            list(pool.map(lambda part: np.copyto(part[1], part[0]), parts))

        best = min(HostStopwatch()(copy) for _ in range(repeats))
    return 2 * COPY_BYTES / best / 1e9
