"""From a window to its map: by one graph on whole windows, or by features that neighbouring windows share.

A runner holds the state of one video, whose windows it is given in the order of their times.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from dtfsal.engines import Engine, EngineError, EngineMismatchError, TensorSpec
from dtfsal.runtime.frontend.log_mel import MelSlices, slice_tables
from dtfsal.runtime.frontend.preprocess import normalisation_table, normalise_clip
from dtfsal.runtime.frontend.windows import ClipWindow
from dtfsal.runtime.media.video import Frame, PictureFrame
from dtfsal.runtime.predict.feature_track import FeatureTracks
from dtfsal.runtime.predict.maps import SaliencyMap
from dtfsal.runtime.predict.stage_clock import StageClock

Array = npt.NDArray[Any]
# What a tensor must be: its shape, and its type where that is not free to be float16 or float32.
Wanted = tuple[tuple[int, ...], str | None]


Value = TypeVar("Value")


class Kept(Generic[Value]):
    """What has been made of frames or slices, by their numbers, until no later window can ask for it.

    Windows come in the order of their times, so that what lies before the oldest that one asks for is done with.
    """

    def __init__(self) -> None:
        self._values: dict[int, Value] = {}

    def get(self, index: int, make: Callable[[], Value]) -> Value:
        """The value of a number, made if this is the first time that it is asked for."""
        if index not in self._values:
            self._values[index] = make()
        return self._values[index]

    def forget(self, oldest: int) -> None:
        """Let go of all before a number."""
        for index in [index for index in self._values if index < oldest]:
            del self._values[index]

    def __len__(self) -> int:
        return len(self._values)


@dataclasses.dataclass(frozen=True, slots=True)
class ReadyFrame:
    """A frame as a runner holds it.

    Attributes:
        index: from 0.
        time_seconds: from the first frame.
        pixels: (height, width, 3) uint8 of the model's size, or what the engine's preparer made of the picture.
    """

    index: int
    time_seconds: float
    pixels: Any


class WindowRunner(abc.ABC):
    """Makes the maps of one video.

    Args:
        engine: an engine whose graphs `check` accepts.
        use_preparers: prepare frames and sound where the engine works, if it can; `ready` then belongs to the thread
            that runs the engine.
    """

    frame_graph: ClassVar[str]  # whose first input frames are
    slice_input: ClassVar[tuple[str, str]]  # the graph and the input that slices of sound are

    def __init__(self, engine: Engine, *, use_preparers: bool = True) -> None:
        self.engine = engine
        self.clip = engine.manifest.clip
        self.audio = engine.manifest.audio
        self._frame_preparer = None
        self._slice_preparer = None
        if not use_preparers:
            return
        self._frame_preparer = engine.frame_preparer(self.frame_graph, normalisation_table(self.clip))
        if self.audio is not None:
            self._slice_preparer = engine.slice_preparer(*self.slice_input, slice_tables(self.audio))

    @property
    def takes_pictures(self) -> bool:
        """Whether frames are prepared where the engine works, and so may be pictures of any size."""
        return self._frame_preparer is not None

    def ready(self, frame: Frame | PictureFrame) -> ReadyFrame:
        """A frame to put into windows: resized already, or, if the runner takes pictures, as it was decoded."""
        picture = frame.rgb if isinstance(frame, Frame) else frame.picture
        if self._frame_preparer is None:
            return ReadyFrame(frame.index, frame.time_seconds, picture)
        return ReadyFrame(frame.index, frame.time_seconds, self._frame_preparer.prepare(picture))

    @classmethod
    @abc.abstractmethod
    def check(cls, engine: Engine) -> None:
        """Hold the engine's graphs to what this runner feeds them.

        Raises:
            EngineMismatchError: a graph, a tensor, a shape or a type is another.
        """

    @abc.abstractmethod
    def run(self, window: ClipWindow[ReadyFrame], slices: MelSlices | None, clock: StageClock) -> SaliencyMap:
        """The map of a window, (H, W) float32, which belongs to the caller.

        Args:
            window: the window, of frames that `ready` gave.
            slices: the video's sound; None for a visual model.
            clock: told of the stages "preprocess" and "engine".
        """


def runner_type(engine: Engine) -> type[WindowRunner]:
    """The runner for an engine's graphs, which are checked.

    Raises:
        EngineMismatchError: no runner can feed them.
    """
    graphs = set(engine.manifest.graphs)
    parts = {"frame", "head"} if engine.manifest.audio is None else {"frame", "slice", "head"}
    runner: type[WindowRunner]
    if "window" in graphs:
        runner = SharedSound if "slice" in graphs else WholeWindow
    elif parts <= graphs:
        runner = ReusedFeatures
    else:
        raise EngineMismatchError(
            f"{engine.bundle.path} has the graphs {', '.join(engine.manifest.graphs)} and this version of dtfsal runs "
            f"engines with a graph 'window' or with the graphs {', '.join(sorted(parts))}: build the engine again, or "
            "upgrade dtfsal"
        )
    runner.check(engine)
    return runner


def finite_map(
    runner: WindowRunner, window: ClipWindow[ReadyFrame], slices: MelSlices | None, clock: StageClock
) -> SaliencyMap:
    """A runner's map, if it is one; see `WindowRunner.run`.

    Raises:
        EngineError: a value of it is not a number or infinite.
    """
    saliency_map = runner.run(window, slices, clock)
    if not np.isfinite(saliency_map).all():
        raise EngineError(
            f"{runner.engine.bundle.path} gave a map that is not finite for the frame at {window.time_seconds:.3f} s: "
            "its weights are damaged, or its precision is too low; build it from sound weights or with --precision fp32"
        )
    return saliency_map


class WholeWindow(WindowRunner):
    """One graph, "window", computes everything again for each window.

    Frames and slices are normalised once and kept where the engine works: to an engine on a GPU a window that moves on
    by a frame brings that frame, and not all of its frames again.
    """

    frame_graph = "window"
    slice_input = ("window", "audio")
    sound = "audio"  # the input that the window's sound is

    def __init__(self, engine: Engine, *, use_preparers: bool = True) -> None:
        super().__init__(engine, use_preparers=use_preparers)
        self._inputs = {
            tensor.name: engine.empty((1, *tensor.shape[1:]), tensor.dtype)
            for tensor in engine.manifest.graphs["window"].inputs
        }
        self._types = {tensor.name: tensor.dtype for tensor in engine.manifest.graphs["window"].inputs}
        self._frames = Kept[Any]()  # normalised, by the frame's number in the source
        self._slices = Kept[Any]()  # by the slice's number on the grid

    @classmethod
    def check(cls, engine: Engine) -> None:
        """See `WindowRunner.check`."""
        clip, audio = engine.manifest.clip, engine.manifest.audio
        inputs: dict[str, Wanted] = {"video": ((1, 3, clip.frames, clip.height, clip.width), None)}
        if audio is not None:
            inputs["audio"] = ((1, audio.slices, 1, audio.height, audio.width), None)
        _check_graph(engine, "window", inputs, _map_wanted(engine))

    def run(self, window: ClipWindow[ReadyFrame], slices: MelSlices | None, clock: StageClock) -> SaliencyMap:
        """See `WindowRunner.run`."""
        with clock.stage("preprocess"):
            self._frames.forget(window.oldest_index)
            for tap, frame in enumerate(window.frames):
                kept = self._frames.get(frame.index, functools.partial(self._keep_frame, frame))
                self.engine.place(self._inputs["video"], kept, axis=2, index=tap)
            if slices is not None:
                indices = slices.advance(window.centre_seconds)
                self._slices.forget(indices.start)
                for place, index in enumerate(indices):
                    make = functools.partial(self._keep_slice, slices, index, clock)
                    kept = self._slices.get(index, make) if slices.is_complete(index) else make()
                    self.engine.place(self._inputs[self.sound], kept, axis=1, index=place)
        with clock.stage("engine"):
            return _map_of(self.engine.run(self._inputs, graph="window"))

    def _keep_frame(self, frame: ReadyFrame) -> Any:
        """(3, 1, H, W), normalised."""
        if self._frame_preparer is not None:
            return frame.pixels
        pixels = normalise_clip([frame.pixels], dataclasses.replace(self.clip, frames=1))
        return self.engine.keep(pixels.astype(self._types["video"], copy=False))

    def _keep_slice(self, slices: MelSlices, index: int, clock: StageClock) -> Any:
        """(height, width), log-mel."""
        del clock
        if self._slice_preparer is not None and (samples := slices.samples(index)) is not None:
            return self._slice_preparer.prepare(samples)
        return self.engine.keep(slices.slice(index).astype(self._types["audio"], copy=False))


class SliceEncoder:
    """Features of slices of sound from an engine's graph "slice"; silence, which is always the same, is encoded once.

    Args:
        engine: the engine.
        preparer: what makes its log-mel slices where the engine works, or None.
    """

    def __init__(self, engine: Engine, preparer: Any) -> None:
        self._engine, self._preparer = engine, preparer
        self._type = engine.manifest.graphs["slice"].inputs[0].dtype
        self._silence: Any = None

    def encode(self, index: int, slices: MelSlices, clock: StageClock) -> Any:
        """The features of slice `index`, in the memory where the engine works."""
        with clock.stage("preprocess"):
            mel = self._mel_of(index, slices)
        silent = mel is slices.silence
        if silent and self._silence is not None:
            return self._silence
        with clock.stage("engine"):
            if isinstance(mel, np.ndarray):
                mel = mel[None, None].astype(self._type, copy=False)
            features = self._engine.run_kept({"slice": mel}, graph="slice")["slice_features"]
        if silent:
            self._silence = features
        return features

    def _mel_of(self, index: int, slices: MelSlices) -> Any:
        """Slice `index`, (height, width), or what the engine's preparer made of it; the sound's `silence` if it is."""
        if self._preparer is None:
            return slices.slice(index)
        samples = slices.samples(index)
        return slices.silence if samples is None else self._preparer.prepare(samples)


class SharedSound(WholeWindow):
    """Two graphs: "slice" hears each slice of sound once, and "window" sees each window again, whose times it mixes."""

    slice_input = ("slice", "slice")
    sound = "slice_features"

    def __init__(self, engine: Engine, *, use_preparers: bool = True) -> None:
        super().__init__(engine, use_preparers=use_preparers)
        self._encoder = SliceEncoder(engine, self._slice_preparer)

    @classmethod
    def check(cls, engine: Engine) -> None:
        """See `WindowRunner.check`."""
        clip, audio = engine.manifest.clip, engine.manifest.audio
        if audio is None:
            raise EngineMismatchError(
                f"{engine.bundle.path} has a graph for slices of sound and no sound in its manifest: build it again"
            )
        _check_graph(engine, "slice", {"slice": ((1, 1, audio.height, audio.width), None)}, {})
        inputs: dict[str, Wanted] = {"video": ((1, 3, clip.frames, clip.height, clip.width), None)}
        _check_graph(engine, "window", inputs | {cls.sound: _slice_features(engine)}, _map_wanted(engine))

    def _keep_slice(self, slices: MelSlices, index: int, clock: StageClock) -> Any:
        return self._encoder.encode(index, slices, clock)


class ReusedFeatures(WindowRunner):
    """Three graphs: "frame" sees each frame once, "slice" each slice of sound once, "head" makes the windows' maps.

    The features of the frames and slices that a later window may ask for are held, as many as `iter_windows` holds
    frames, so memory does not grow with the video. Silent slices are equal, so silence is encoded once.
    """

    frame_graph = "frame"
    slice_input = ("slice", "slice")

    def __init__(self, engine: Engine, *, use_preparers: bool = True) -> None:
        super().__init__(engine, use_preparers=use_preparers)
        graphs = engine.manifest.graphs
        self._single = dataclasses.replace(self.clip, frames=1)
        self._pixels = np.empty((3, 1, self.clip.height, self.clip.width), np.float32)
        self._frame_type = graphs["frame"].inputs[0].dtype
        self._encoder = None if self.audio is None else SliceEncoder(engine, self._slice_preparer)
        wanted = _head_inputs(engine)
        shapes = {tensor.name: (wanted[tensor.name][0], tensor.dtype) for tensor in graphs["head"].inputs}
        # Slices are small, and placed anew for each window. The frames of lite at full size are 22 MB, which take 2 ms.
        self._heard = {name: engine.empty(*shapes.pop(name)) for name in ["slice_features"] if name in shapes}
        self._tracks = FeatureTracks(engine, shapes)
        self._frames = Kept[dict[str, Any]]()  # features by the frame's number in the source
        self._slices = Kept[Any]()  # features by the slice's number on the grid

    @classmethod
    def check(cls, engine: Engine) -> None:
        """See `WindowRunner.check`."""
        clip, audio = engine.manifest.clip, engine.manifest.audio
        _check_graph(engine, "frame", {"frame": ((1, 3, clip.height, clip.width), None)}, {})
        if audio is not None:
            _check_graph(engine, "slice", {"slice": ((1, 1, audio.height, audio.width), None)}, {})
        _check_graph(engine, "head", _head_inputs(engine), _map_wanted(engine))

    def run(self, window: ClipWindow[ReadyFrame], slices: MelSlices | None, clock: StageClock) -> SaliencyMap:
        """See `WindowRunner.run`."""
        self._frames.forget(window.oldest_index)
        frames = [
            self._frames.get(frame.index, functools.partial(self._encode_frame, frame, clock))
            for frame in window.frames
        ]
        encoded = []
        if slices is not None and self._encoder is not None:
            with clock.stage("preprocess"):
                indices = slices.advance(window.centre_seconds)
            self._slices.forget(indices.start)
            for index in indices:
                make = functools.partial(self._encoder.encode, index, slices, clock)
                encoded.append(self._slices.get(index, make) if slices.is_complete(index) else make())
        with clock.stage("engine"):
            seen = self._tracks.window([frame.index for frame in window.frames], frames)
            for place, features in enumerate(encoded):
                self.engine.place(self._heard["slice_features"], features, axis=1, index=place)
            return _map_of(self.engine.run({**seen, **self._heard}, graph="head"))

    def _encode_frame(self, frame: ReadyFrame, clock: StageClock) -> dict[str, Any]:
        pixels = frame.pixels
        if self._frame_preparer is None:
            with clock.stage("preprocess"):
                normalise_clip([frame.pixels], self._single, out=self._pixels)
                pixels = self._pixels.reshape(1, 3, self.clip.height, self.clip.width)
                pixels = pixels.astype(self._frame_type, copy=False)
        with clock.stage("engine"):
            return self.engine.run_kept({"frame": pixels}, graph="frame")


def _map_of(outputs: Mapping[str, Array]) -> SaliencyMap:
    return np.asarray(outputs["saliency_map"][0, 0], np.float32)


def _map_wanted(engine: Engine) -> dict[str, Wanted]:
    return {"saliency_map": ((1, 1, engine.manifest.clip.height, engine.manifest.clip.width), None)}


def _head_inputs(engine: Engine) -> dict[str, Wanted]:
    """What the head must take: the features of T frames and of the window's slices, each along a new second axis."""
    manifest = engine.manifest
    outputs = manifest.graphs["frame"].outputs
    wanted = {tensor.name: _stacked(engine, tensor, manifest.clip.frames) for tensor in outputs}
    if manifest.audio is not None:
        wanted["slice_features"] = _slice_features(engine)
    return wanted


def _slice_features(engine: Engine) -> Wanted:
    """What the features of a window's slices must be, along a new second axis, by what the slice graph gives."""
    assert engine.manifest.audio is not None
    outputs = {tensor.name: tensor for tensor in engine.manifest.graphs["slice"].outputs}
    if set(outputs) != {"slice_features"}:
        raise EngineMismatchError(
            f"{engine.bundle.path}: its graph 'slice' gives {', '.join(outputs)} and not slice_features; build the "
            "engine again"
        )
    return _stacked(engine, outputs["slice_features"], engine.manifest.audio.slices)


def _stacked(engine: Engine, tensor: TensorSpec, number: int) -> Wanted:
    if -1 in tensor.shape[1:]:
        raise EngineMismatchError(
            f"{engine.bundle.path}: its output {tensor.name} leaves sizes open, and they must be fixed to be kept; "
            "build the engine again"
        )
    return (1, number, *tensor.shape[1:]), tensor.dtype


def _check_graph(engine: Engine, name: str, inputs: Mapping[str, Wanted], outputs: Mapping[str, Wanted]) -> None:
    """Compare a graph with exactly these inputs and at least these outputs.

    Raises:
        EngineMismatchError: they differ.
    """
    graph = engine.manifest.graphs[name]
    for tensors, wanted, exact in ((graph.inputs, inputs, True), (graph.outputs, outputs, False)):
        found = {tensor.name: tensor for tensor in tensors}
        missing = not set(wanted) <= set(found) or (exact and set(wanted) != set(found))
        if missing or not all(_fits(found[key], *what) for key, what in wanted.items()):
            has = ", ".join(f"{tensor.name} {tensor.shape} {tensor.dtype}" for tensor in tensors)
            asked = ", ".join(f"{key} {shape} {dtype or ''}".rstrip() for key, (shape, dtype) in wanted.items())
            raise EngineMismatchError(
                f"{engine.bundle.path}: its graph {name!r} has the tensors {has} where its manifest and its other "
                f"graphs ask for {asked}; build the engine again"
            )


def _fits(tensor: TensorSpec, shape: tuple[int, ...], dtype: str | None) -> bool:
    return (
        len(tensor.shape) == len(shape)
        and all(size in (-1, wanted) for size, wanted in zip(tensor.shape, shape, strict=True))
        and tensor.dtype in (("float16", "float32") if dtype is None else (dtype,))
    )
