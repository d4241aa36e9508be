"""Windows that share their work: what a frame, a few frames, or a slice of sound decide is computed once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from dtfsal.engines import Engine, EngineMismatchError
from dtfsal.engines.bundle.chain import FRAME, HEAD, SLICE, chain_of
from dtfsal.runtime.frontend.log_mel import MelSlices
from dtfsal.runtime.frontend.preprocess import normalise_clip
from dtfsal.runtime.frontend.windows import ClipWindow
from dtfsal.runtime.predict.maps import SaliencyMap
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

Frames = Sequence[ReadyFrame]


class ReusedFeatures(WindowRunner):
    """Runs a chain of graphs, from "frame" and "slice" to "head"; see `dtfsal.engines.bundle.chain`.

    What a graph gives is kept by the numbers of the frames that it depends on, as long as a later window may ask for
    it. `WindowQueue` holds as many frames, so memory does not grow with the video. Silent slices are equal, so silence
    is encoded once, and what a window hears is computed again where one of its slices is another.
    """

    frame_graph = FRAME
    slice_input = (SLICE, "slice")

    def __init__(self, engine: Engine, *, use_preparers: bool = True) -> None:
        super().__init__(engine, use_preparers=use_preparers)
        graphs = engine.manifest.graphs
        self._chain = chain_of(engine.manifest)
        self._single = dataclasses.replace(self.clip, frames=1)
        self._pixels = np.empty((3, 1, self.clip.height, self.clip.width), np.float32)
        self._frame_type = graphs[FRAME].inputs[0].dtype
        self._encoder = None if self.audio is None else SliceEncoder(engine, self._slice_preparer)
        self._kept = {graph: Kept[dict[str, Any]]() for graph in self._chain.fields}
        self._slices = Kept[Any]()  # features by the slice's number on the grid
        # The inputs that stack what other graphs give, each with the graph that gives it.
        self._stacks: dict[str, dict[str, Any]] = {}
        for graph in [*list(self._chain.fields)[1:], *self._chain.heard, HEAD]:
            shapes = self._chain.wanted(graph)
            types = {tensor.name: tensor.dtype for tensor in graphs[graph].inputs}
            stacked = [name for name in shapes if self._chain.makers[name] not in self._chain.heard]
            self._stacks[graph] = {name: engine.empty(shapes[name][0], types[name]) for name in stacked}
        self._heard: tuple[list[Any], dict[str, Any]] = ([], {})  # slices, and what was made of them
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: Future[None] | None = None

    @classmethod
    def check(cls, engine: Engine) -> None:
        """See `WindowRunner.check`."""
        clip, audio = engine.manifest.clip, engine.manifest.audio
        check_graph(engine, FRAME, {"frame": ((1, 3, clip.height, clip.width), None)}, {})
        if audio is not None:
            check_graph(engine, SLICE, {"slice": ((1, 1, audio.height, audio.width), None)}, {})
            names = [tensor.name for tensor in engine.manifest.graphs[SLICE].outputs]
            if names != ["slice_features"]:
                raise EngineMismatchError(
                    f"{engine.bundle.path}: its graph 'slice' gives {', '.join(names)} and not slice_features; build "
                    "the engine again"
                )
        elif SLICE in engine.manifest.graphs:
            raise EngineMismatchError(
                f"{engine.bundle.path} has a graph for slices of sound and no sound in its manifest; build the engine "
                "again"
            )
        try:
            chain = chain_of(engine.manifest)
            wanted = {graph: chain.wanted(graph) for graph in [*list(chain.fields)[1:], *chain.heard, HEAD]}
        except EngineMismatchError as error:
            raise EngineMismatchError(f"{engine.bundle.path}: {error}; build the engine again") from None
        for graph, inputs in wanted.items():
            check_graph(engine, graph, inputs, map_wanted(engine) if graph == HEAD else {})

    @property
    def looks_ahead(self) -> bool:
        """See `WindowRunner.looks_ahead`."""
        return self.engine.runs_graphs_side_by_side

    def close(self) -> None:
        """See `WindowRunner.close`."""
        if self._pool is not None:
            self._pool.shutdown()

    def run(
        self,
        window: ClipWindow[ReadyFrame],
        slices: MelSlices | None,
        clock: StageClock,
        following: ClipWindow[ReadyFrame] | None = None,
    ) -> SaliencyMap:
        """See `WindowRunner.run`."""
        self._settle(clock)
        for kept in self._kept.values():
            kept.forget(window.oldest_index)
        self._encode(window.frames, clock, "preprocess", "engine")
        with clock.stage("engine"):
            seen = self._inputs(HEAD, window.frames, 0)
        if following is not None and self.looks_ahead:
            self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="dtfsal-features")
            self._ahead = self._pool.submit(self._encode, following.frames, clock, "features", "features")
        heard = {} if slices is None else self._hear(window, slices, clock)
        with clock.stage("engine"):
            return map_of(self.engine.run({**seen, **heard}, graph=HEAD))

    def _settle(self, clock: StageClock) -> None:
        """Wait for what another thread began. An error of it comes again where its window does."""
        if self._ahead is not None:
            with clock.stage("wait"):
                wait([self._ahead])
            self._ahead = None

    def _encode(self, frames: Frames, clock: StageClock, normalising: str, encoding: str) -> None:
        """Make all that a window takes of its frames; two names of stages."""
        for graph, times in self._chain.runs.items():
            for time in times:
                key = self._key(graph, frames, time)
                if graph == FRAME:
                    make = functools.partial(self._encode_frame, frames[time], clock, normalising, encoding)
                else:
                    make = functools.partial(self._run_at, graph, frames, time, clock, encoding)
                self._kept[graph].get(key, make)

    def _encode_frame(self, frame: ReadyFrame, clock: StageClock, normalising: str, encoding: str) -> dict[str, Any]:
        pixels = frame.pixels
        if self._frame_preparer is None:
            with clock.stage(normalising):
                normalise_clip([frame.pixels], self._single, out=self._pixels)
                pixels = self._pixels.reshape(1, 3, self.clip.height, self.clip.width)
                pixels = pixels.astype(self._frame_type, copy=False)
        with clock.stage(encoding):
            return self.engine.run_kept({"frame": pixels}, graph=FRAME)

    def _run_at(self, graph: str, frames: Frames, time: int, clock: StageClock, stage: str) -> dict[str, Any]:
        with clock.stage(stage):
            return self.engine.run_kept(self._inputs(graph, frames, time), graph=graph)

    def _inputs(self, graph: str, frames: Frames, time: int) -> dict[str, Any]:
        """What a graph takes of other graphs' results for times."""
        stacks = {name: stack for name, stack in self._stacks[graph].items() if self._chain.makers[name] in self._kept}
        for name, stack in stacks.items():
            maker = self._chain.makers[name]
            for place, tap in enumerate(self._chain.taps(graph, name)):
                made = self._kept[maker].get(self._key(maker, frames, time + tap), _never)
                self.engine.place(stack, made[name], axis=1, index=place)
        return stacks

    def _key(self, graph: str, frames: Frames, time: int) -> tuple[int, ...]:
        """The numbers of the frames that a graph's run at a time of a window depends on."""
        return tuple(frames[time + tap].index for tap in self._chain.fields[graph])

    def _hear(self, window: ClipWindow[ReadyFrame], slices: MelSlices, clock: StageClock) -> dict[str, Any]:
        """What the head takes of a window's sound."""
        assert self._encoder is not None
        encoded = []
        with clock.stage("preprocess"):
            indices = slices.advance(window.centre_seconds)
        self._slices.forget(indices.start)
        for index in indices:
            make = functools.partial(self._encoder.encode, index, slices, clock)
            encoded.append(self._slices.get((index,), make) if slices.is_complete(index) else make())
        before, heard = self._heard
        if len(before) != len(encoded) or any(one is not other for one, other in zip(before, encoded, strict=True)):
            with clock.stage("engine"):
                heard = self._heard_of(encoded)
            self._heard = encoded, heard
        return heard

    def _heard_of(self, encoded: list[Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for graph in [*self._chain.heard, HEAD]:
            stacks = {n: stack for n, stack in self._stacks[graph].items() if self._chain.makers[n] == SLICE}
            for stack in stacks.values():
                for place, features in enumerate(encoded):
                    self.engine.place(stack, features, axis=1, index=place)
            found |= stacks if graph == HEAD else self.engine.run_kept(stacks, graph=graph)
        taken = {tensor.name for tensor in self._chain.graphs[HEAD].inputs}
        return {name: value for name, value in found.items() if name in taken}


def _never() -> dict[str, Any]:
    raise AssertionError("a graph runs after those that it takes from")
