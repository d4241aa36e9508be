"""What makes a window's map, and what all that do have in common.

A runner holds the state of one video, whose windows it is given in the order of their times.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from dtfsal.engines import Engine, EngineError, EngineMismatchError, TensorSpec
from dtfsal.engines.bundle.chain import Wanted
from dtfsal.runtime.frontend.log_mel import MelSlices, slice_tables
from dtfsal.runtime.frontend.preprocess import normalisation_table
from dtfsal.runtime.frontend.windows import ClipWindow
from dtfsal.runtime.media.video import Frame, PictureFrame
from dtfsal.runtime.predict.maps import SaliencyMap
from dtfsal.runtime.predict.stage_clock import StageClock

Array = npt.NDArray[Any]
Value = TypeVar("Value")


class Kept(Generic[Value]):
    """What has been made of frames or slices, by their numbers, until no later window can ask for it.

    Windows come in the order of their times, so that what lies before the oldest that one asks for is done with.
    """

    def __init__(self) -> None:
        self._values: dict[tuple[int, ...], Value] = {}

    def get(self, indices: tuple[int, ...], make: Callable[[], Value]) -> Value:
        """The value of some numbers in their order, made if this is the first time that it is asked for."""
        if indices not in self._values:
            self._values[indices] = make()
        return self._values[indices]

    def forget(self, oldest: int) -> None:
        """Let go of all that has to do with what lies before a number."""
        for indices in [indices for indices in self._values if min(indices) < oldest]:
            del self._values[indices]

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

    @property
    def looks_ahead(self) -> bool:
        """Whether `run` makes use of a following window; then `ready` may be called by any thread."""
        return False

    def close(self) -> None:  # noqa: B027 - most begin nothing
        """Wait for what was begun of a following window."""

    @classmethod
    @abc.abstractmethod
    def check(cls, engine: Engine) -> None:
        """Hold the engine's graphs to what this runner feeds them.

        Raises:
            EngineMismatchError: a graph, a tensor, a shape or a type is another.
        """

    @abc.abstractmethod
    def run(
        self,
        window: ClipWindow[ReadyFrame],
        slices: MelSlices | None,
        clock: StageClock,
        following: ClipWindow[ReadyFrame] | None = None,
    ) -> SaliencyMap:
        """The map of a window, (H, W) float32, which belongs to the caller.

        Args:
            window: the window, of frames that `ready` gave.
            slices: the video's sound; None for a visual model.
            clock: told of the stages "preprocess", "engine" and, of the following window, "features" and "wait".
            following: the next window as it is so far, if its frames have come: another thread may begin with it.
        """


def finite_map(
    runner: WindowRunner,
    window: ClipWindow[ReadyFrame],
    slices: MelSlices | None,
    clock: StageClock,
    following: ClipWindow[ReadyFrame] | None = None,
) -> SaliencyMap:
    """A runner's map, if it is one; see `WindowRunner.run`.

    Raises:
        EngineError: a value of it is not a number or infinite.
    """
    saliency_map = runner.run(window, slices, clock, following)
    if not np.isfinite(saliency_map).all():
        raise EngineError(
            f"{runner.engine.bundle.path} gave a map that is not finite for the frame at {window.time_seconds:.3f} s: "
            "its weights are damaged, or its precision is too low; build it from sound weights or with --precision fp32"
        )
    return saliency_map


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


def map_of(outputs: Mapping[str, Array]) -> SaliencyMap:
    """The map (H, W) among a graph's outputs."""
    return np.asarray(outputs["saliency_map"][0, 0], np.float32)


def map_wanted(engine: Engine) -> dict[str, Wanted]:
    """What the graph that makes maps must give."""
    return {"saliency_map": ((1, 1, engine.manifest.clip.height, engine.manifest.clip.width), None)}


def check_graph(engine: Engine, name: str, inputs: Mapping[str, Wanted], outputs: Mapping[str, Wanted]) -> None:
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
