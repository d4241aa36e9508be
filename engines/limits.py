"""The bounds of everything that comes from outside: one table for each kind of input, used by all that read it.

They are far beyond what any model or machine needs, and small enough that nothing within them takes a machine's memory
or hours. `runtime/capi/source/limits.h` holds those of the manifest again, and a test compares the two.
"""

from __future__ import annotations

import argparse
import reprlib
from collections.abc import Mapping
from typing import Any

from dtfsal.engines.errors import UsageError

# An engine's manifest and a model's configuration. Whole numbers have whole bounds.
CLIP: Mapping[str, tuple[float, float]] = {
    "frames": (1, 4096),
    "height": (1, 16384),
    "width": (1, 16384),
    "frame_rate_hz": (0.001, 10000.0),
}
CLIP_PIXELS = 2**26  # of all frames of a window together
AUDIO: Mapping[str, tuple[float, float]] = {
    "slices": (1, 256),
    "height": (1, 4096),
    "width": (1, 4096),
    "sample_rate_hz": (1, 2**20),
    "window_length": (1, 16384),
    "hop_length": (1, 16384),
    "mel_bands": (1, 512),
    "log_offset": (1e-30, 1e6),
    "slice_frames": (1, 4096),
    "slice_hop_frames": (1, 4096),
}
SLICE_VALUES = 2**22  # samples of all overlapping frames of a slice
WINDOW_SAMPLES = 2**24  # from a window's first slice to its last
TENSOR_AXES = 16
TENSOR_VALUES = 2**31
TEXT_CHARACTERS = 2000
MODEL_NUMBER = 2**16  # any width, depth or other number of a model's configuration
MODEL_LIST = 64
MODEL_VALUES = 4096

EXPERIMENT_BYTES = 2**20
EXPERIMENT_NUMBER = 10**12  # any whole number of an experiment

PICTURE_PIXELS = 2**26  # of a picture or a map of a data set

# Arguments of the predictors, of functions, and of the command line.
ARGUMENTS: Mapping[str, tuple[float, float]] = {
    "threads": (1, 1024),
    "stride": (1, 10**6),
    "smoothing": (0.0, 256.0),  # pixels of the model's map
    "max_ready": (1, 2**20),
    "frame_rate_hz": (1e-3, 1e4),
    "sound_wait_seconds": (0.0, 60.0),
    "delay_seconds": (0.0, 1e9),
    "seed": (0, 2**32 - 1),  # what NumPy's older generators take
    "runs": (1, 10**6),
    "windows": (1, 10**5),
    "batch_size": (1, 4096),
}


def checked(name: str, value: Any, bounds: tuple[float, float]) -> None:
    """Refuse what is not a number within bounds; whole bounds ask for a whole number, an `int`.

    Raises:
        UsageError: it is not one.
    """
    least, most = bounds
    if type(least) is int and type(most) is int:
        if type(value) is int and least <= value <= most:
            return
        what = "a positive integer" if least == 1 else "a whole number"
    else:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most:
            return
        what = "positive" if least > 0 and isinstance(value, (int, float)) else "a number"
    raise UsageError(f"{name} must be {what} from {_plain(least)} to {_plain(most)}, not {shown(value)}")


def _plain(bound: float) -> str:
    return str(bound) if type(bound) is int else f"{bound:g}"


def checked_argument(name: str, value: Any) -> None:
    """`checked` by the table of arguments."""
    checked(name, value, ARGUMENTS[name])


def seed(text: str) -> int:
    """An argparse type: a seed."""
    try:
        checked_argument("seed", value := int(text))
    except (ValueError, UsageError):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {2**32 - 1}, not {text[:60]!r}") from None
    return value


def check_model_values(configuration: Any) -> None:
    """Refuse numbers and lists in a model's configuration that no model has, however deep they lie.

    Raises:
        UsageError: there is one.
    """
    waiting = [("the configuration", configuration)]
    for _ in range(MODEL_VALUES):
        if not waiting:
            return
        name, value = waiting.pop()
        if isinstance(value, (Mapping, list, tuple)):
            if len(value) > MODEL_LIST:
                raise UsageError(f"{name} has {len(value)} values, more than any model has")
            items = value.items() if isinstance(value, Mapping) else ((name, item) for item in value)
            waiting += [(str(key)[:60], item) for key, item in items]
        elif isinstance(value, (int, float)) and not abs(value) <= max(MODEL_NUMBER, AUDIO["sample_rate_hz"][1]):
            raise UsageError(f"{name} is {shown(value)}, which no model has")
    raise UsageError(f"the configuration has more than {MODEL_VALUES} values, more than any model has")


def shown(value: Any) -> str:
    """A value in an error, in few characters however large it is."""
    try:
        text = reprlib.repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."
