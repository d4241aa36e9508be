"""Engines: the bundle on disk, one interface to run it, and the back ends behind it.

    from dtfsal.engines import open_engine

    with open_engine("engines/tiny.engine") as engine:
        outputs = engine.run({"video": video, "audio": audio})
        print(engine.describe()["backend"])

A back end's library (ONNX Runtime, TensorRT) is imported when an engine that needs it is opened, not before.
"""

from dtfsal.engines.arrays import Array, CudaArray
from dtfsal.engines.bundle.folder import Bundle, read_bundle, write_bundle
from dtfsal.engines.bundle.manifest import (
    DYNAMIC,
    SCHEMA_VERSION,
    FileRecord,
    GraphSpec,
    Manifest,
    TensorSpec,
    WeightsRecord,
)
from dtfsal.engines.bundle.specs import AudioSpec, ClipSpec
from dtfsal.engines.engine import Device, Engine
from dtfsal.engines.errors import (
    DtfsalError,
    EngineError,
    EngineMismatchError,
    OutputError,
    UnavailableError,
    UsageError,
)
from dtfsal.engines.opening import open_engine

__all__ = [
    "DYNAMIC",
    "SCHEMA_VERSION",
    "Array",
    "AudioSpec",
    "Bundle",
    "ClipSpec",
    "CudaArray",
    "Device",
    "DtfsalError",
    "Engine",
    "EngineError",
    "EngineMismatchError",
    "FileRecord",
    "GraphSpec",
    "Manifest",
    "OutputError",
    "TensorSpec",
    "UnavailableError",
    "UsageError",
    "WeightsRecord",
    "open_engine",
    "read_bundle",
    "write_bundle",
]
