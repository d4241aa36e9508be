"""Sound that comes as an array: mixed to mono and brought to the model's sample rate."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from dtfsal.engines.arrays import host_array
from dtfsal.engines.errors import UsageError

FloatArray = npt.NDArray[np.float32]


def mono_samples(samples: object) -> FloatArray:
    """Samples mixed to one channel.

    Args:
        samples: (n,) or (n, channels); floating point in [-1, 1], or signed integers, whose full range becomes
            [-1, 1]. Of any library: what `dtfsal.engines.arrays.host_array` takes is read where it lies.

    Returns:
        (n,) float32, the mean of the channels.

    Raises:
        UsageError: another shape or type, or a value that isn't finite.
    """
    array = host_array(samples, "samples")
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 1 <= array.shape[1] <= 64):
        turned = "; turn (channels, n), as torchaudio has it, by .T" if array.ndim == 2 and len(array) <= 64 else ""
        raise UsageError(f"samples must be (n,) or (n, channels), not {array.shape}{turned}")
    if array.dtype.kind == "i":
        scale = 1.0 / -float(np.iinfo(array.dtype).min)
    elif array.dtype.kind == "f":
        scale = 1.0
    else:
        raise UsageError(f"samples must be floating point or signed integers, not {array.dtype}")
    mixed = array.astype(np.float64) if array.ndim == 1 else array.mean(axis=1, dtype=np.float64)
    mono = (mixed * scale).astype(np.float32)
    if not np.isfinite(mono).all():
        raise UsageError("samples must be finite, and one of them is not a number or infinite")
    return mono


def resampled_chunks(samples: FloatArray, sample_rate_hz: float, wanted_rate_hz: int) -> Iterator[FloatArray]:
    """Mono samples at another rate (FFmpeg's resampler), in chunks of about a second.

    Args:
        samples: (n,) float32 mono.
        sample_rate_hz: their rate, a whole number.
        wanted_rate_hz: the rate to bring them to.

    Raises:
        UsageError: the rate is not a positive whole number.
    """
    if not (float(sample_rate_hz).is_integer() and 1 <= sample_rate_hz <= 2**22):
        raise UsageError(f"sample_rate_hz must be a positive whole number, not {sample_rate_hz!r}")
    rate = int(sample_rate_hz)
    if rate == wanted_rate_hz:
        return iter([samples] if samples.size else [])
    return _resample(samples, rate, wanted_rate_hz)


def _resample(samples: FloatArray, rate: int, wanted_rate_hz: int) -> Iterator[FloatArray]:
    import av

    resampler: Any = av.AudioResampler(format="flt", layout="mono", rate=wanted_rate_hz)
    for first in range(0, len(samples), rate):
        chunk = np.ascontiguousarray(samples[first : first + rate])[None]  # (1, n)
        frame = av.AudioFrame.from_ndarray(chunk, format="flt", layout="mono")
        frame.sample_rate = rate
        frame.pts = first
        for converted in resampler.resample(frame):
            yield converted.to_ndarray()[0]
    for converted in resampler.resample(None):
        yield converted.to_ndarray()[0]
