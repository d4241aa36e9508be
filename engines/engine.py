"""One interface for every back end: load a bundle, run a graph on named arrays, describe, close.

    with open_engine("engines/tiny.engine") as engine:
        maps = engine.run({"video": video})["saliency_map"]  # (B, 1, H, W)

A back end is a subclass of `Engine` that fills in `_load`, `_run`, `_close` and `_describe_backend`; what every one
must check the same way (names, shapes, types, order of calls) is done here, once.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from dtfsal.engines.arrays import AnyArray, Array, DeviceArray, checked_inputs, mismatch, zeros
from dtfsal.engines.bundle.folder import Bundle
from dtfsal.engines.bundle.manifest import GraphSpec, Manifest
from dtfsal.engines.errors import EngineMismatchError, UsageError
from dtfsal.engines.raw_inputs import SliceTables

# "auto", "cpu", "cuda" (the first GPU), or "cuda:N" (GPU N, counted from 0).
Device: TypeAlias = str


class Preparer(Protocol):
    """Makes inputs where the engine works; see `Engine.frame_preparer` and `Engine.slice_preparer`."""

    def prepare(self, value: Any, /) -> Any:
        """A source for `Engine.place`, and an input for `Engine.run_kept`."""


class Engine(abc.ABC):
    """A loaded engine. Made by `open_engine`; a context manager that closes itself.

    Buffers: `run` reads the input arrays during the call and keeps no reference to them; every output is a new array
    that belongs to the caller and that no later call touches. One thread at a time may use an engine, or one of its
    graphs where `runs_graphs_side_by_side` says so.

    Args:
        bundle: what `read_bundle` gave.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._open = False
        try:
            self._load()
        except BaseException:
            self._close()
            raise
        self._open = True

    @property
    def runs_graphs_side_by_side(self) -> bool:
        """Whether two threads may run two of the graphs at once."""
        return False

    @property
    def manifest(self) -> Manifest:
        """The manifest of the bundle."""
        return self.bundle.manifest

    def run(self, inputs: Mapping[str, AnyArray], *, graph: str = "window") -> dict[str, Array]:
        """Compute a graph.

        Args:
            inputs: one C-contiguous array for each input in the manifest, of exactly its type and shape; sizes given
                as -1 are free, but dynamic first axes (the batch) must agree. An array is NumPy's, or of a library that
                shares its memory by DLPack. One that is not contiguous is copied first. Nothing is converted: a
                float64 array is an error, not a slow path. An engine on the GPU also takes arrays in its memory
                (DLPack or `__cuda_array_interface__`) and reads them in place; work that still writes them must be
                complete.
            graph: which of the manifest's graphs.

        Returns:
            A new array for each output in the manifest, by name.

        Raises:
            UsageError: the engine is closed, or a name, shape or type doesn't fit.
            EngineError: the back end failed, or gave something other than the manifest says.
        """
        spec = self._graph(graph)
        arrays = checked_inputs(spec, inputs)
        outputs = self._run(graph, arrays)
        for tensor in spec.outputs:
            if problem := mismatch(tensor, outputs[tensor.name]):
                raise EngineMismatchError(
                    f"{self.bundle.path}: output {tensor.name!r} {problem}, so the model file and the manifest do not "
                    "belong together; build the engine again"
                )
        return outputs

    def run_kept(self, inputs: Mapping[str, AnyArray], *, graph: str = "window") -> dict[str, Any]:
        """As `run`, with outputs left in the memory where the engine works: for what later runs are fed.

        Returns:
            Tensors that `place` takes as sources and `run` as inputs; NumPy arrays of an engine on the CPU.
        """
        return dict(self.run(inputs, graph=graph))

    def keep(self, array: Array) -> Any:
        """A copy of an array in the memory where the engine works."""
        return np.array(array, order="C")

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """An uninitialised tensor in the memory where the engine works, for `place` and `run`."""
        return np.empty(shape, dtype)

    def place(self, target: Any, source: Any, *, axis: int, index: int) -> None:
        """target[..., index, ...] = source along an axis, in the order of the engine's work.

        Args:
            target: a tensor from `empty`.
            source: one from `keep`, `empty` or `run_kept`, of the target's type and as many values as fit there.
            axis: of the target.
            index: the place along it.
        """
        part = target[(slice(None),) * axis + (index,)]
        part[...] = source.reshape(part.shape)

    def frame_preparer(self, graph: str, levels: npt.NDArray[np.float32]) -> Preparer | None:
        """What makes a graph's frames of decoded pictures where the engine works, or None: then the caller does it.

        Its `prepare` takes a `dtfsal.engines.raw_inputs.Picture` of any size and gives a source for `place`, and an
        input (1, 3, height, width).

        Args:
            graph: whose first input frames are for; its last two sizes are theirs.
            levels: (3, 256) float32, what stands for each level of each channel.
        """
        del graph, levels
        return None

    def slice_preparer(self, graph: str, name: str, tables: SliceTables) -> Preparer | None:
        """What makes a graph's log-mel slices of samples where the engine works, or None: then the caller does it.

        Its `prepare` takes (n,) float32 mono samples and gives a source for `place`, and an input (1, 1, h, w).

        Args:
            graph: which.
            name: of its input.
            tables: the front-end's parameters.
        """
        del graph, name, tables
        return None

    def warm_up(self, runs: int = 1) -> None:
        """Run every graph on zeros (within the declared range; dynamic sizes are 1), so that first-run work is done.

        Raises:
            UsageError: the engine is closed, or runs is negative.
            EngineError: the back end failed.
        """
        if runs < 0:
            raise UsageError(f"runs must not be negative, not {runs}")
        for name, graph in self.manifest.graphs.items():
            inputs = {tensor.name: zeros(tensor) for tensor in graph.inputs}
            for _ in range(runs):
                self.run(inputs, graph=name)

    def describe(self) -> dict[str, Any]:
        """What is loaded and what runs it, as plain JSON values.

        Keys: those of `Bundle.describe`, and `backend`: `name`, `version`, `device` ("cpu" or "cuda"), `providers`
        really in use, `threads`, and what else the back end adds. Works on a closed engine too.
        """
        return {**self.bundle.describe(), "backend": self._describe_backend()}

    def close(self) -> None:
        """Free the model's memory. Closing twice is fine; running after it is a `UsageError`."""
        if self._open:
            self._open = False
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _graph(self, name: str) -> GraphSpec:
        if not self._open:
            raise UsageError(f"the engine {self.bundle.path} is closed; open it again with open_engine")
        if name not in self.manifest.graphs:
            raise UsageError(f"{self.bundle.path} has no graph {name!r}; it has {', '.join(self.manifest.graphs)}")
        return self.manifest.graphs[name]

    @abc.abstractmethod
    def _load(self) -> None:
        """Load every graph of `self.bundle` and check its tensors against the manifest."""

    @abc.abstractmethod
    def _run(self, graph: str, inputs: dict[str, Array | DeviceArray]) -> dict[str, Array]:
        """Compute a graph on checked, contiguous inputs; return new arrays for all its outputs."""

    @abc.abstractmethod
    def _close(self) -> None:
        """Free everything; also called when `_load` failed halfway."""

    @abc.abstractmethod
    def _describe_backend(self) -> dict[str, Any]:
        """The `backend` entry of `describe`."""


def parse_device(device: Device) -> tuple[str, int]:
    """A device's kind ("auto", "cpu" or "cuda") and its number.

    Raises:
        UsageError: it is not a device.
    """
    match = re.fullmatch(r"(auto|cpu|cuda)|cuda:(\d{1,3})", device) if isinstance(device, str) else None
    if match is None:
        raise UsageError(f"device must be auto, cpu, cuda or cuda:N, not {device!r}")
    return match[1] or "cuda", int(match[2] or 0)
