"""libdtfsal's predictor for Python programs: the interface of `StreamPredictor`, with no NumPy in the engine's loop."""

from __future__ import annotations

import ctypes
import dataclasses
import os
from collections.abc import Callable, Iterable
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from dtfsal.engines.arrays import DLPackArray, host_array
from dtfsal.engines.bundle.shipped import DEFAULT_ENGINE, engine_folder
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.capi.library import (
    F32,
    MATRICES,
    PIXEL_FORMATS,
    REFUSED,
    S16,
    Audio,
    Counts,
    Description,
    Frame,
    LogFunction,
    Map,
    NativeLibrary,
    Options,
    ProgressFunction,
    onnxruntime_library,
)
from dtfsal.runtime.capi.library import OK as STATUS_OK
from dtfsal.runtime.predict.prediction import SaliencyFrame
from dtfsal.runtime.predict.stream import StreamCounts

PixelFormat = Literal["rgb24", "bgr24", "rgba", "bgra", "gray", "nv12", "yuv420p"]
Matrix = Literal["bt601", "bt709", "bt2020"]
_CHANNELS = {"rgb24": 3, "bgr24": 3, "rgba": 4, "bgra": 4}
_MESSAGE_BYTES = 2048


@dataclasses.dataclass(frozen=True)
class NativeDescription:
    """What an engine is.

    Attributes:
        map_height: of the model's own map.
        map_width: of the model's own map.
        clip_frames: frames in a window.
        clip_rate_hz: the model's own frame rate.
        hears: whether the model has a sound branch.
        sample_rate_hz: that sound is brought to; 0 without sound.
        delay_seconds: of the stream between a frame and its map; the engine's time adds.
        model_name: such as "lite".
        precision: such as "fp32".
        target: such as "onnxruntime".
        weights: such as "lite.safetensors".
        backend: such as "onnxruntime 1.32.0".
    """

    map_height: int
    map_width: int
    clip_frames: int
    clip_rate_hz: float
    hears: bool
    sample_rate_hz: int
    delay_seconds: float
    model_name: str
    precision: str
    target: str
    weights: str
    backend: str


class NativePredictor:
    """Predicts a live stream, or a whole video at once. A context manager that closes itself.

    One thread at a time may push frames, one may push sound and one may poll; they may be three different ones.

    Args:
        engine: the name of an engine that the package carries, or an engine bundle's folder.
        frame_rate_hz: the source's typical frames per second; None for the rate that the model was made for.
        sound: whether sound will be pushed; a map then waits for the sound of its window.
        delay_seconds: see `StreamPredictor`.
        sound_wait_seconds: see `StreamPredictor`.
        max_ready: see `StreamPredictor`.
        repeat_ends: the first and last frame are repeated beyond the ends; otherwise the stream is mirrored.
        stride: predict every stride-th frame and the last; maps between are linear in time.
        threads: CPU threads of the engine; None for the physical cores that this process may use.
        device: a GPU's number, for TensorRT's engines.
        backend_library: the file of the library that runs the engine; None for ONNX Runtime's in its Python package,
            or where the system has it.
        library: of libdtfsal; see `NativeLibrary`.
        log: told what the library has to say, with whether it is a warning.
        trust: run native code that the engine brings; see `dtfsal.engines.open_engine`.

    Attributes:
        description: what the engine is.

    Raises:
        UsageError: an argument has a value that can't work.
        EngineError: the bundle is missing, damaged or not one.
        UnavailableError: libdtfsal or what runs the engine is absent.
    """

    def __init__(
        self,
        engine: str | os.PathLike[str] = DEFAULT_ENGINE,
        *,
        frame_rate_hz: float | None = None,
        sound: bool = True,
        delay_seconds: float | None = None,
        sound_wait_seconds: float = 1.0,
        max_ready: int = 8,
        repeat_ends: bool = False,
        stride: int = 1,
        threads: int | None = None,
        device: int = 0,
        backend_library: str | os.PathLike[str] | None = None,
        library: str | os.PathLike[str] | NativeLibrary | None = None,
        log: Callable[[str, bool], None] | None = None,
        trust: bool = False,
    ) -> None:
        self._handle = ctypes.c_void_p()
        self.library = library if isinstance(library, NativeLibrary) else NativeLibrary(library)
        if frame_rate_hz is not None and not frame_rate_hz > 0:
            raise UsageError(f"frame_rate_hz must be positive, not {frame_rate_hz!r}")
        if delay_seconds is not None and not delay_seconds >= 0:
            raise UsageError(f"delay_seconds must be at least 0, not {delay_seconds!r}")
        found = backend_library or (None if "DTFSAL_ONNXRUNTIME_LIBRARY" in os.environ else onnxruntime_library())
        options = Options(
            threads=0 if threads is None else _int32("threads", threads),
            frame_rate_hz=frame_rate_hz or 0.0,
            use_sound=int(sound),
            stride=_int32("stride", stride),
            delay_seconds=-1.0 if delay_seconds is None else delay_seconds,
            sound_wait_seconds=sound_wait_seconds,
            max_ready=_int32("max_ready", max_ready),
            repeat_ends=int(repeat_ends),
            backend_library=None if found is None else os.fsencode(found),
            device=_int32("device", device),
            trust_engine=int(trust),
        )
        if log is not None:
            # The library keeps the function's address as long as the engine, so it is kept here.
            self._log = LogFunction(lambda _data, level, message: log(message.decode(errors="replace"), bool(level)))
            options.log = self._log
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        status = self.library.open(
            os.fsencode(engine_folder(engine)), ctypes.byref(options), ctypes.byref(self._handle), message, len(message)
        )
        self.library.check(status, message.value.decode(errors="replace"))
        self._read_description()

    def clone(self) -> NativePredictor:
        """Another predictor with the same engine and options, for another stream; the weights are shared."""
        other = object.__new__(NativePredictor)
        other.library = self.library
        other._handle = ctypes.c_void_p()
        if hasattr(self, "_log"):
            other._log = self._log
        self._check(self.library.clone(self._handle, ctypes.byref(other._handle)))
        other._read_description()
        return other

    @property
    def delay_seconds(self) -> float:
        """Seconds of the stream that pass between a frame and its map in the steady state; the engine's time adds."""
        return self.description.delay_seconds

    @property
    def counts(self) -> StreamCounts:
        """What became of what was pushed so far."""
        found = self._counts()
        values = {name: getattr(found, name) for name, *_ in Counts._fields_[1:] if name != "engine_seconds"}
        values["missing_sound_windows"] = values.pop("missing_sound_maps")
        return StreamCounts(**values)

    @property
    def engine_seconds(self) -> float:
        """Seconds that the engine itself took for the maps so far."""
        return float(self._counts().engine_seconds)

    def push_frame(
        self,
        picture: npt.NDArray[np.uint8] | DLPackArray,
        pts_seconds: float,
        *,
        pixel_format: PixelFormat = "rgb24",
        matrix: Matrix = "bt709",
        full_range: bool = False,
    ) -> bool:
        """Add a frame; it is brought to the model's size here, and the array is not kept.

        Args:
            picture: uint8; (H, W, 3) of rgb24 and bgr24, (H, W, 4) of rgba and bgra, (H, W) of gray, and of nv12 and
                yuv420p (H * 3 / 2, W), the planes one below the other, as PyAV's `to_ndarray` gives them.
            pts_seconds: its time on the stream's clock, from any zero on.
            pixel_format: what the array holds.
            matrix: of nv12 and yuv420p.
            full_range: of nv12 and yuv420p: whether levels reach from 0 to 255.

        Returns:
            Whether it was taken. A frame that is not later than the last, or far too many, is refused and counted.

        Raises:
            UsageError: it is not a frame, its time is not finite, or the stream has been finished.
        """
        frame, _alive = _frame_of(picture, pts_seconds, pixel_format, matrix, full_range)
        return self._check(self.library.push_frame(self._handle, ctypes.byref(frame))) != REFUSED

    def push_audio(self, samples: npt.ArrayLike | DLPackArray, pts_seconds: float, sample_rate_hz: int) -> bool:
        """Add sound.

        Args:
            samples: (n,) or (n, channels), float in [-1, 1] or int16.
            pts_seconds: the first sample's time, on the same clock as the frames'.
            sample_rate_hz: samples per second.

        Returns:
            Whether it was taken. Sound that is over 25 s ahead of the newest frame is refused and counted.

        Raises:
            UsageError: an argument doesn't fit, or the stream has been finished.
        """
        audio, _alive = _audio_of(samples, pts_seconds, sample_rate_hz)
        return self._check(self.library.push_audio(self._handle, ctypes.byref(audio))) != REFUSED

    def poll(self, size: tuple[int, int] | None = None) -> SaliencyFrame | None:
        """The next map, computed now, or None if none is ready.

        Args:
            size: (H, W) of the map; None for the model's own.

        Raises:
            EngineError: the engine failed, or its output is not a map.
        """
        height, width = size or self._map_size
        values = np.empty((height, width), np.float32)
        map_ = Map(width=width, height=height, data=values.ctypes.data)
        if self._check(self.library.poll(self._handle, ctypes.byref(map_))) != STATUS_OK:
            return None
        return SaliencyFrame(map_.frame_index, map_.pts_seconds, values)

    def finish(self) -> None:
        """No frame and no sound will come any more: the maps that still wait are ready."""
        self._check(self.library.finish(self._handle))

    def reset(self) -> None:
        """Forget the stream and begin another; the counts begin again."""
        self._check(self.library.reset(self._handle))

    def predict(
        self,
        frames: Iterable[npt.NDArray[np.uint8]],
        times_seconds: Iterable[float],
        *,
        samples: npt.ArrayLike | DLPackArray | None = None,
        sample_rate_hz: int = 0,
        progress: Callable[[int], bool] | None = None,
    ) -> npt.NDArray[np.float32]:
        """A whole video at once; the predictor is reset before.

        Args:
            frames: (H, W, 3) uint8 RGB each.
            times_seconds: as many, growing.
            samples: the sound from time 0 on, as in `push_audio`; None for none.
            sample_rate_hz: its samples per second.
            progress: told how many maps are done; returns whether to go on.

        Returns:
            (N, map height, map width), as many as frames, or as were done when `progress` said no.

        Raises:
            UsageError: an argument doesn't fit, or times do not grow.
            EngineError: the engine failed.
        """
        made = [_frame_of(f, t, "rgb24", "bt709", False) for f, t in zip(frames, times_seconds, strict=True)]
        count = len(made)
        given = (Frame * count)(*(frame for frame, _ in made))
        values = np.empty((count, *self._map_size), np.float32)
        height, width = self._map_size
        maps = (Map * count)(*(Map(width=width, height=height, data=each.ctypes.data) for each in values))
        audio, _alive = (None, None) if samples is None else _audio_of(samples, 0.0, sample_rate_hz)
        done = 0

        def report(_data: Any, number: int) -> int:
            nonlocal done
            done = number
            return int(progress is not None and not progress(number))

        status = self.library.predict(
            self._handle,
            given,
            maps,
            count,
            None if audio is None else ctypes.byref(audio),
            ProgressFunction(report),
            None,
        )
        return values if self._check(status) == STATUS_OK else values[:done]

    def close(self) -> None:
        """Free the predictor; safe to call twice.

        Raises:
            UsageError: a call is under way in another thread.
        """
        if self._handle:
            self._check(self.library.close(self._handle))
            self._handle = ctypes.c_void_p()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _counts(self) -> Counts:
        found = Counts()
        self._check(self.library.get_counts(self._handle, ctypes.byref(found)))
        return found

    def _read_description(self) -> None:
        found = Description()
        self._check(self.library.describe(self._handle, ctypes.byref(found)))
        values = {field.name: getattr(found, field.name) for field in dataclasses.fields(NativeDescription)}
        values = {name: v.decode(errors="replace") if isinstance(v, bytes) else v for name, v in values.items()}
        self.description = NativeDescription(**{**values, "hears": bool(found.hears)})
        self._map_size = (self.description.map_height, self.description.map_width)

    def _check(self, status: int) -> int:
        if status >= 0:
            return status
        if not self._handle:
            raise UsageError("the predictor has been closed")
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        self.library.message(self._handle, message, len(message))
        return self.library.check(status, message.value.decode(errors="replace"))


def _int32(name: str, value: int) -> int:
    """The value as it fits the header's types, which ctypes would cut."""
    if not (float(value).is_integer() and abs(value) < 2**31):
        raise UsageError(f"{name} must be a whole number below 2^31, not {value!r}")
    return int(value)


def _frame_of(
    given: object, pts_seconds: float, pixel_format: str, matrix: str, full_range: bool
) -> tuple[Frame, object]:
    """The struct, and what must live as long as it."""
    if pixel_format not in PIXEL_FORMATS:
        raise UsageError(f"pixel_format must be one of {', '.join(PIXEL_FORMATS)}, not {pixel_format!r}")
    if matrix not in MATRICES:
        raise UsageError(f"matrix must be one of {', '.join(MATRICES)}, not {matrix!r}")
    channels = _CHANNELS.get(pixel_format)
    wanted = "(H, W)" if channels is None else f"(H, W, {channels})"
    picture = host_array(given, "a frame")
    if picture.dtype != np.uint8:
        raise UsageError(f"a frame must be {wanted} uint8, not {picture.dtype}")
    if picture.ndim != (2 if channels is None else 3) or (channels is not None and picture.shape[2] != channels):
        raise UsageError(f"a frame must be {wanted} {pixel_format}, not {picture.shape}")
    rows, width = picture.shape[:2]
    if picture.strides[0] < picture[:1].nbytes or not picture[:1].flags.c_contiguous:
        picture = np.ascontiguousarray(picture)
    pitch = picture.strides[0] if rows > 1 else picture.nbytes
    frame = Frame(format=PIXEL_FORMATS[pixel_format], width=width, height=rows, matrix=MATRICES[matrix])
    frame.full_range, frame.pts_seconds = int(full_range), pts_seconds
    frame.planes[0], frame.pitches[0] = picture.ctypes.data, pitch
    if pixel_format in ("nv12", "yuv420p"):
        height = rows * 2 // 3
        if rows * 2 % 3 or height % 2 or width % 2:
            raise UsageError(f"a frame of {pixel_format} must be (H * 3 / 2, W) of even H and W, not {picture.shape}")
        picture = np.ascontiguousarray(picture)
        frame.height = height
        chroma = picture.ctypes.data + height * width
        frame.planes[0], frame.pitches[0] = picture.ctypes.data, width
        if pixel_format == "nv12":
            frame.planes[1], frame.pitches[1] = chroma, width
        else:
            frame.planes[1], frame.pitches[1] = chroma, width // 2
            frame.planes[2], frame.pitches[2] = chroma + height * width // 4, width // 2
    return frame, picture


def _audio_of(samples: object, pts_seconds: float, sample_rate_hz: int) -> tuple[Audio, object]:
    values = host_array(samples, "samples")
    values = np.ascontiguousarray(values, np.int16 if values.dtype == np.int16 else np.float32)
    if values.ndim not in (1, 2):
        raise UsageError(f"samples must be (n,) or (n, channels), not {values.shape}")
    audio = Audio(
        format=S16 if values.dtype == np.int16 else F32,
        channels=1 if values.ndim == 1 else values.shape[1],
        sample_rate_hz=_int32("sample_rate_hz", sample_rate_hz),
        samples=values.ctypes.data,
        count=len(values),
        pts_seconds=pts_seconds,
    )
    return audio, values
