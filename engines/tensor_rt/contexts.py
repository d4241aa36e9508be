"""Execution contexts of a graph, and what TensorRT-RTX compiled for this GPU when it made the first of them.

TensorRT-RTX compiles an engine's kernels on the machine that runs it. Two things follow.

- For open sizes it compiles while it runs, on other threads, and takes slower kernels until it is done (LAZY). A CUDA
  graph would hold those for ever, so contexts here wait for the right kernels (EAGER).
- A process that begins compiles anew, unless it is given what another compiled: the runtime cache. It lies in the
  user's cache folder. The library itself refuses one of another GPU, driver or version.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from dtfsal.engines.cache import cache_folder
from dtfsal.engines.errors import DtfsalError
from dtfsal.engines.native.trust import own_folder, require_own
from dtfsal.engines.partial import partial_file


class Contexts:
    """Makes the execution contexts of one graph.

    Args:
        trt: the library.
        engine: the library's, which the contexts share.
        sha256: of the engine's file.
        gpu: the GPU's name.
    """

    def __init__(self, trt: Any, engine: Any, sha256: str, gpu: str) -> None:
        self._engine = engine
        self._config: Any = None
        self._cache: Any = None
        self._known = b""
        strategies = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is None:
            return  # TensorRT compiles when an engine is built
        self._config = engine.create_runtime_config()
        self._config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        key = hashlib.sha256(f"{sha256} {gpu} {trt.__version__}".encode()).hexdigest()
        self._path = cache_folder() / "tensorrt-rtx" / f"{key[:32]}.cache"
        self._cache = self._config.create_runtime_cache()
        if self._cache is not None:
            self._known = _content(self._path)
            if self._known and not self._cache.deserialize(self._known):
                self._known = b""
            self._config.set_runtime_cache(self._cache)

    def create(self) -> Any:
        """A new context, or None if the library cannot make one."""
        if self._config is None:
            return self._engine.create_execution_context()
        return self._engine.create_execution_context(self._config)

    def save(self) -> None:
        """Keep what was compiled for the processes to come. Where it cannot be kept, they compile it again."""
        if self._cache is None or (serialized := self._cache.serialize()) is None:
            return
        compiled = bytes(memoryview(serialized))
        if not compiled or compiled == self._known:
            return
        with contextlib.suppress(OSError, DtfsalError):
            own_folder(self._path.parent)
            with partial_file(self._path) as partial:
                partial.write_bytes(compiled)
                partial.chmod(0o600)
            self._known = compiled


def _content(path: Path) -> bytes:
    """A cache's bytes; none where there is no cache, or where another user could have written it: it is code."""
    try:
        require_own(path)
        return path.read_bytes()
    except (OSError, DtfsalError):
        return b""
