"""Which graph makes what, of which frames: the way from a window's frames and slices of sound to its map.

Graphs are joined by their tensors' names. What a graph takes says what it is:

- "frame" takes one frame, "slice" one slice of sound.
- "head" makes a window's map. An input that another graph gives for each time stacks it, over the taps that the
  manifest names or else over all of the window's times.
- A graph that takes what "slice" gives, and nothing else, hears a window: each input stacks all of its slices.
- Any other graph has a time of its own. Each input stacks another graph's output over the taps that the manifest
  names, counted from that time. So a run depends on a few frames alone, and windows that have them share it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from dtfsal.engines.bundle.manifest import GraphSpec, Manifest
from dtfsal.engines.bundle.specs import AudioSpec, ClipSpec
from dtfsal.engines.errors import EngineMismatchError

FRAME, SLICE, HEAD = "frame", "slice", "head"
MOST_TAPS = 64  # of an input of a graph that has a time

Values = Mapping[str, npt.NDArray[np.float32]]
# What a tensor must be: its shape, and its type where that is not free to be float16 or float32.
Wanted = tuple[tuple[int, ...], str | None]


@dataclasses.dataclass(frozen=True)
class Chain:
    """The graphs of an engine whose windows share their work.

    Attributes:
        graphs: by name.
        makers: the graph that gives a tensor, by the tensor's name.
        fields: of graphs that have a time, "frame" the first: the taps of the frames that a run depends on, from its
            time. Each graph comes after those that it takes from.
        runs: of the same graphs, the times in a window at which they run, the first time being 0.
        heard: graphs that hear a window.
        frames: T, times in a window.
        slices: in a window; 0 for a visual model.
    """

    graphs: Mapping[str, GraphSpec]
    makers: Mapping[str, str]
    fields: Mapping[str, tuple[int, ...]]
    runs: Mapping[str, tuple[int, ...]]
    heard: tuple[str, ...]
    frames: int
    slices: int

    def taps(self, graph: str, name: str) -> Sequence[int]:
        """The times that an input stacks, as the manifest counts them."""
        return self.graphs[graph].taps.get(name, range(self.frames))

    def wanted(self, graph: str) -> dict[str, Wanted]:
        """What a graph's inputs must be, by what other graphs give.

        Raises:
            EngineMismatchError: one of these leaves its size open.
        """
        found: dict[str, Wanted] = {}
        for tensor in self.graphs[graph].inputs:
            maker = self.makers[tensor.name]
            (output,) = [output for output in self.graphs[maker].outputs if output.name == tensor.name]
            if -1 in output.shape[1:]:
                raise EngineMismatchError(
                    f"its output {output.name} leaves sizes open, and they must be fixed to be kept"
                )
            count = self.slices if maker == SLICE else len(self.taps(graph, tensor.name))
            shape = output.shape[1:] if maker in self.heard else (count, *output.shape[1:])
            found[tensor.name] = ((1, *shape), output.dtype)
        return found


def chain_of(manifest: Manifest) -> Chain:
    """As `chain_of_graphs`, of an engine."""
    return chain_of_graphs(manifest.graphs, manifest.clip, manifest.audio)


def chain_of_graphs(graphs: Mapping[str, GraphSpec], clip: ClipSpec, audio: AudioSpec | None) -> Chain:
    """The chain of graphs among which are "frame" and "head".

    Args:
        graphs: by name.
        clip: the window.
        audio: its sound.

    Raises:
        EngineMismatchError: graphs do not follow from each other, or reach out of the window.
    """
    frames = clip.frames
    makers: dict[str, str] = {}
    for name, graph in graphs.items():
        for output in graph.outputs:
            if makers.setdefault(output.name, name) != name:
                raise EngineMismatchError(f"its graphs {makers[output.name]!r} and {name!r} both give {output.name}")
    fields: dict[str, tuple[int, ...]] = {FRAME: (0,)}
    heard: list[str] = []
    left = [name for name in graphs if name not in (FRAME, SLICE, HEAD)]
    while left:
        ready = [name for name in left if _follows(graphs[name], makers, [*fields, *heard, SLICE])]
        if not ready:
            raise EngineMismatchError(f"its graph {left[0]!r} takes what no graph before it gives")
        for name in ready:
            left.remove(name)
            if {makers[tensor.name] for tensor in graphs[name].inputs} == {SLICE}:
                heard.append(name)
            else:
                fields[name] = _field(name, graphs[name], makers, fields)
    if not _follows(graphs[HEAD], makers, [*fields, *heard, SLICE]):
        lacking = ", ".join(t.name for t in graphs[HEAD].inputs if makers.get(t.name, HEAD) == HEAD)
        raise EngineMismatchError(f"its graph 'head' takes {lacking}, which no other graph gives")
    runs = _runs(graphs, makers, fields, frames)
    return Chain(graphs, makers, fields, runs, tuple(heard), frames, 0 if audio is None else audio.slices)


def _follows(graph: GraphSpec, makers: Mapping[str, str], known: Sequence[str]) -> bool:
    return all(makers.get(tensor.name) in known for tensor in graph.inputs)


def _field(
    name: str, graph: GraphSpec, makers: Mapping[str, str], fields: Mapping[str, tuple[int, ...]]
) -> tuple[int, ...]:
    found: set[int] = set()
    for tensor in graph.inputs:
        taps = graph.taps.get(tensor.name, ())
        if makers[tensor.name] not in fields or not 1 <= len(taps) <= MOST_TAPS:
            raise EngineMismatchError(f"its graph {name!r} does not say at which times it takes {tensor.name}")
        found |= {tap + offset for tap in taps for offset in fields[makers[tensor.name]]}
    return tuple(sorted(found))


def _runs(
    graphs: Mapping[str, GraphSpec], makers: Mapping[str, str], fields: Mapping[str, tuple[int, ...]], frames: int
) -> dict[str, tuple[int, ...]]:
    times: dict[str, set[int]] = {name: set() for name in fields}
    for tensor in graphs[HEAD].inputs:
        if makers[tensor.name] in fields:
            times[makers[tensor.name]].update(graphs[HEAD].taps.get(tensor.name, range(frames)))
    for name in reversed(list(fields)):
        if any(not 0 <= time + tap < frames for time in times[name] for tap in (fields[name][0], fields[name][-1])):
            raise EngineMismatchError(f"its graph {name!r} is asked for times that are not in a window")
        for tensor in graphs[name].inputs if name != FRAME else ():
            times[makers[tensor.name]] |= {time + tap for time in times[name] for tap in graphs[name].taps[tensor.name]}
    return {name: tuple(sorted(found)) for name, found in times.items()}


def runs_of_window(
    chain: Chain,
    run: Callable[[str, Values], Values],
    frames: Sequence[npt.NDArray[np.float32]],
    mels: Sequence[npt.NDArray[np.float32]],
) -> Iterator[tuple[str, Values]]:
    """All runs that one window's map takes where nothing is kept, in order: the graph and its inputs; the head's last.

    Args:
        chain: the graphs.
        run: computes a graph on inputs by name, and gives its outputs by name; not called for the head.
        frames: T of them, (1, 3, H, W), normalised.
        mels: the window's slices, (1, 1, h, w); none for a visual model.
    """
    whole: dict[str, npt.NDArray[np.float32]] = {}
    if mels:
        slices = []
        for mel in mels:
            inputs = {chain.graphs[SLICE].inputs[0].name: mel}
            yield SLICE, inputs
            slices.append(run(SLICE, inputs))
        whole = {name: np.stack([features[name] for features in slices], 1) for name in slices[0]}
        for graph in chain.heard:
            inputs = {tensor.name: whole[tensor.name] for tensor in chain.graphs[graph].inputs}
            yield graph, inputs
            whole |= run(graph, inputs)
    made: dict[tuple[str, int], npt.NDArray[np.float32]] = {}
    for graph, times in chain.runs.items():
        for time in times:
            if graph == FRAME:
                inputs = {chain.graphs[FRAME].inputs[0].name: frames[time]}
            else:
                inputs = {
                    tensor.name: np.stack([made[tensor.name, time + tap] for tap in chain.taps(graph, tensor.name)], 1)
                    for tensor in chain.graphs[graph].inputs
                }
            yield graph, inputs
            made |= {(name, time): value for name, value in run(graph, inputs).items()}
    yield (
        HEAD,
        {
            tensor.name: whole[tensor.name]
            if tensor.name in whole
            else np.stack([made[tensor.name, time] for time in chain.taps(HEAD, tensor.name)], 1)
            for tensor in chain.graphs[HEAD].inputs
        },
    )
