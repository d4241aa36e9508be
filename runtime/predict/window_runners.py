"""The runner for an engine's graphs, and those that see whole windows."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from dtfsal.engines import Engine, EngineMismatchError, TensorSpec
from dtfsal.engines.bundle.chain import Wanted
from dtfsal.runtime.frontend.log_mel import MelSlices
from dtfsal.runtime.frontend.preprocess import normalise_clip
from dtfsal.runtime.frontend.windows import ClipWindow
from dtfsal.runtime.predict.maps import SaliencyMap
from dtfsal.runtime.predict.reused_features import ReusedFeatures
from dtfsal.runtime.predict.stage_clock import StageClock
from dtfsal.runtime.predict.window_runner import (
    Kept,
    ReadyFrame,
    SliceEncoder,
    WindowRunner,
    check_graph,
    map_of,
    map_wanted,
)


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
        check_graph(engine, "window", inputs, map_wanted(engine))

    def run(
        self,
        window: ClipWindow[ReadyFrame],
        slices: MelSlices | None,
        clock: StageClock,
        following: ClipWindow[ReadyFrame] | None = None,
    ) -> SaliencyMap:
        """See `WindowRunner.run`."""
        del following  # all is computed again
        with clock.stage("preprocess"):
            self._frames.forget(window.oldest_index)
            for tap, frame in enumerate(window.frames):
                kept = self._frames.get((frame.index,), functools.partial(self._keep_frame, frame))
                self.engine.place(self._inputs["video"], kept, axis=2, index=tap)
            if slices is not None:
                indices = slices.advance(window.centre_seconds)
                self._slices.forget(indices.start)
                for place, index in enumerate(indices):
                    make = functools.partial(self._keep_slice, slices, index, clock)
                    kept = self._slices.get((index,), make) if slices.is_complete(index) else make()
                    self.engine.place(self._inputs[self.sound], kept, axis=1, index=place)
        with clock.stage("engine"):
            return map_of(self.engine.run(self._inputs, graph="window"))

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
        check_graph(engine, "slice", {"slice": ((1, 1, audio.height, audio.width), None)}, {})
        inputs: dict[str, Wanted] = {"video": ((1, 3, clip.frames, clip.height, clip.width), None)}
        check_graph(engine, "window", inputs | {cls.sound: _slice_features(engine)}, map_wanted(engine))

    def _keep_slice(self, slices: MelSlices, index: int, clock: StageClock) -> Any:
        return self._encoder.encode(index, slices, clock)


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
