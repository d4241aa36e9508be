"""A client of Triton, which the tests run in another environment: triton_client.py http|grpc URL IN.npz OUT.npz.

Two sequences take turns, three frames a request; the first has sound. Then come requests that must be refused.
"""

import importlib
import json
import sys

import numpy as np
from tritonclient.utils import InferenceServerException

protocol, url, given, taken = sys.argv[1:]
client_module = importlib.import_module(f"tritonclient.{protocol}")
client = client_module.InferenceServerClient(url)
clip = np.load(given)
TYPES = {"uint8": "UINT8", "float64": "FP64", "float32": "FP32", "int32": "INT32"}
OUTPUTS = ("saliency_maps", "map_times_seconds", "map_indices")


def ask(sequence, arrays, start=False, end=False):
    inputs = []
    for name, array in arrays.items():
        tensor = client_module.InferInput(name, list(array.shape), TYPES[array.dtype.name])
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    result = client.infer(str(clip["model"]), inputs, sequence_id=sequence, sequence_start=start, sequence_end=end)
    return [result.as_numpy(name) for name in OUTPUTS]


parts = {1: [], 2: []}
steps = range(0, len(clip["frames"]), 3)
for first in steps:
    for sequence in parts:
        piece = slice(first, first + 3)
        times = clip["times_seconds"][piece]
        arrays = {"frames": clip["frames"][piece], "times_seconds": times}
        if first == 0:
            arrays["frame_rate_hz"] = np.array([25.0])
        if sequence == 1:
            rate = int(clip["sample_rate_hz"])
            arrays["samples"] = clip["samples"][round(times[0] * rate) : round((times[0] + 3 / 25) * rate)]
            arrays["samples_seconds"] = times[:1]
            arrays["sample_rate_hz"] = np.array([rate], np.int32)
        parts[sequence].append(ask(sequence, arrays, start=first == 0, end=first == steps[-1]))

refused = []
frame = {"frames": clip["frames"][:1], "times_seconds": np.array([0.0])}
for arrays, flags in (
    (frame, {}),  # has not begun
    ({**frame, "times_seconds": np.array([0.0, 1.0])}, {"start": True}),
    ({"frames": clip["frames"][:2], "times_seconds": np.array([1.0, 0.0])}, {"start": True, "end": True}),
):
    try:
        ask(77, arrays, **flags)
        refused.append("")
    except InferenceServerException as error:
        refused.append(str(error))
named = {
    f"{name}_{sequence}": np.concatenate([answer[place] for answer in answers])
    for sequence, answers in parts.items()
    for place, name in enumerate(OUTPUTS)
}
np.savez(taken, **named)
told = {"refused": refused, "maps_by_request": [len(answer[1]) for answer in parts[1]]}
sys.stdout.write(json.dumps(told))
