"""The model of a Triton repository that predicts streams: it runs in Triton's Python back end, one sequence a stream.

A request brings frames with their times, and sound where the engine hears; its answer has the maps that are ready,
perhaps none. The request that ends the sequence brings all that are left. For the same frames and the same sound the
maps are those of `StreamPredictor`, and so of a file.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dtfsal.applications.model_repository.configuration import IDLE_SECONDS, MOST_SEQUENCES
from dtfsal.engines import Engine, open_engine
from dtfsal.engines.errors import DtfsalError, UsageError
from dtfsal.runtime import StreamPredictor
from dtfsal.runtime.predict.prediction import SaliencyFrame

MOST_FRAMES = 1024  # of a request
_FORGET_SECONDS = 2 * IDLE_SECONDS  # Triton forgets a silent sequence first, and does not tell


@dataclasses.dataclass
class _Sequence:
    """A stream, and when it was last heard of."""

    stream: StreamPredictor
    heard: float


class Sequences:
    """The streams of one engine, by correlation id.

    Args:
        engine: that predicts all of them; it stays open.
        most: streams at the same time.
    """

    def __init__(self, engine: Engine, most: int = MOST_SEQUENCES) -> None:
        self.engine = engine
        self._most = most
        self._sequences: dict[int, _Sequence] = {}

    def __len__(self) -> int:
        """Streams that are held."""
        return len(self._sequences)

    def feed(
        self, number: int, arrays: dict[str, npt.NDArray[Any]], *, start: bool, end: bool
    ) -> dict[str, npt.NDArray[Any]]:
        """Take a request's frames and sound; give the maps that are ready.

        Args:
            number: the sequence's.
            arrays: `frames` (N, H, W, 3) uint8 and `times_seconds` (N,), increasing; `frame_rate_hz` (1,) with the
                first; `samples` (n,) float32 mono, `samples_seconds` (1,), the time of the first of them, and
                `sample_rate_hz` (1,). A stream with sound brings sound with its first request.
            start: whether the sequence begins; one that was there is forgotten.
            end: whether it ends.

        Returns:
            `saliency_maps` (M, height, width) float32, `map_times_seconds` (M,) and `map_indices` (M,).

        Raises:
            DtfsalError: something doesn't fit; the sequence is forgotten.
        """
        self._forget_silent()
        if start:
            self._sequences.pop(number, None)
        found = self._sequences.pop(number, None)
        if found is None:
            found = _Sequence(self._begun(number, arrays, start), 0.0)
        maps = _fed(found.stream, arrays, end)
        if not end:
            found.heard = time.monotonic()
            self._sequences[number] = found
        clip = self.engine.manifest.clip
        return {
            "saliency_maps": np.array([frame.saliency_map for frame in maps], np.float32).reshape(
                -1, clip.height, clip.width
            ),
            "map_times_seconds": np.array([frame.time_seconds for frame in maps], np.float64),
            "map_indices": np.array([frame.index for frame in maps], np.int64),
        }

    def _begun(self, number: int, arrays: dict[str, npt.NDArray[Any]], start: bool) -> StreamPredictor:
        if not start:
            raise UsageError(f"there is no sequence {number}: it has not begun, has ended, or was silent for too long")
        if len(self._sequences) >= self._most:
            raise UsageError(f"{self._most} sequences are held already; end one first")
        rate = arrays.get("frame_rate_hz")
        return StreamPredictor(
            self.engine,
            frame_rate_hz=None if rate is None else float(_one("frame_rate_hz", rate)),
            sound="samples" in arrays,
        )

    def _forget_silent(self) -> None:
        earliest = time.monotonic() - _FORGET_SECONDS
        for number in [number for number, one in self._sequences.items() if one.heard < earliest]:
            del self._sequences[number]


def _fed(stream: StreamPredictor, arrays: dict[str, npt.NDArray[Any]], end: bool) -> list[SaliencyFrame]:
    frames, times = arrays["frames"], arrays["times_seconds"]
    if frames.ndim != 4 or len(frames) != times.size or len(frames) > MOST_FRAMES:
        raise UsageError(
            f"frames must be (N, H, W, 3) with N times, N up to {MOST_FRAMES}, not {frames.shape} with {times.size}"
        )
    if (samples := arrays.get("samples")) is not None:
        missing = [name for name in ("samples_seconds", "sample_rate_hz") if name not in arrays]
        if missing:
            raise UsageError(f"samples come with {missing[0]}")
        first = float(_one("samples_seconds", arrays["samples_seconds"]))
        stream.push_audio(samples.reshape(-1), first, int(_one("sample_rate_hz", arrays["sample_rate_hz"])))
    ready: list[SaliencyFrame] = []
    for frame, seconds in zip(frames, times.reshape(-1).tolist(), strict=True):
        if not stream.push_frame(frame, seconds):
            raise UsageError(f"the frame at {seconds} s does not come after the one before it")
        _take(stream, ready)
    if end:
        stream.finish()
        _take(stream, ready)
    return ready


def _take(stream: StreamPredictor, ready: list[SaliencyFrame]) -> None:
    while (frame := stream.poll()) is not None:
        ready.append(frame)


def _one(name: str, array: npt.NDArray[Any]) -> Any:
    if array.size != 1:
        raise UsageError(f"{name} is one number, not {array.size}")
    return array.reshape(-1)[0]


class TritonPythonModel:
    """What Triton's Python back end calls: https://github.com/triton-inference-server/python_backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the engine that lies beside `model.py`; CPU threads are shared among the instances."""
        from dtfsal.engines.cpu.threads import default_threads

        configuration = json.loads(args["model_config"])
        instances = sum(int(group.get("count", 1)) for group in configuration.get("instance_group", [])) or 1
        folder = Path(args["model_repository"], args["model_version"], "engine")
        self._engine = open_engine(folder, threads=max(1, default_threads() // instances))
        self._engine.warm_up()
        self._sequences = Sequences(self._engine)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests, one each."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Close the engine."""
        self._engine.close()

    def _answer(self, request: Any) -> Any:
        import triton_python_backend_utils as triton

        def array(name: str) -> npt.NDArray[Any] | None:
            tensor = triton.get_input_tensor_by_name(request, name)
            return None if tensor is None else np.asarray(tensor.as_numpy())

        def control(name: str) -> int:
            value = array(name)
            return 0 if value is None else int(value.reshape(-1)[0])

        names = ("frames", "times_seconds", "frame_rate_hz", "samples", "samples_seconds", "sample_rate_hz")
        arrays = {name: value for name in names if (value := array(name)) is not None}
        try:
            outputs = self._sequences.feed(
                control("CORRID"), arrays, start=bool(control("START")), end=bool(control("END"))
            )
        except DtfsalError as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error)))
        return triton.InferenceResponse([triton.Tensor(name, value) for name, value in outputs.items()])
