"""The folder of models that Triton reads: one for each graph of an engine, and one that predicts streams.

    DIR/lite/config.pbtxt  DIR/lite/1/model.py  DIR/lite/1/engine/       the streams' model, with the whole engine
    DIR/lite-frame/config.pbtxt  DIR/lite-frame/1/model_frame.onnx ...   a graph

Triton runs the graphs by itself. The streams' model runs in Triton's Python, where dtfsal must be installed; it holds
the windows, so a client sends frames and gets maps.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

from dtfsal.applications.model_repository.configuration import BACKENDS, graph_configuration, stream_configuration
from dtfsal.engines import Bundle, read_bundle
from dtfsal.engines.bundle.manifest import DIGEST_FILE, MANIFEST_FILE
from dtfsal.engines.bundle.places import require_outside_engines
from dtfsal.engines.errors import OutputError, UsageError
from dtfsal.engines.limits import checked
from dtfsal.engines.partial import partial_folder, replace_folder

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_MODEL = '''"""Predicts streams; Triton's Python needs dtfsal: `pip install dtfsal`."""

from dtfsal.applications.model_repository.stream_model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


@dataclasses.dataclass(frozen=True)
class Repository:
    """What was written.

    Attributes:
        path: the folder.
        models: names of its models, the streams' first.
        notes: what Triton cannot do with the engine, a sentence each.
    """

    path: Path
    models: tuple[str, ...]
    notes: tuple[str, ...] = ()


def write_repository(
    engine: str | Path, path: Path, *, name: str | None = None, max_batch_size: int = 8, instances: int = 1
) -> Repository:
    """Write a model repository, whole or not at all.

    Args:
        engine: as `read_bundle` takes it.
        path: a new folder.
        name: of the streams' model, and before the graphs'; None for the engine's folder's.
        max_batch_size: the largest batch of graphs whose batch is open.
        instances: processes of the streams' model.

    Raises:
        UsageError: the folder exists, or an argument can't be.
        EngineError: the engine is missing or damaged.
        OutputError: the folder cannot be written.
    """
    checked("max_batch_size", max_batch_size, (1, 4096))
    checked("instances", instances, (1, 256))
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UsageError(f"{path} exists; name a new folder for the repository")
    require_outside_engines(path)
    bundle = read_bundle(engine)
    name = name or re.sub(r"[^A-Za-z0-9_-]", "-", bundle.path.name.removesuffix(".engine"))
    if not _NAME.fullmatch(name):
        raise UsageError(f"a model's name has letters, digits, ., _ and - only, not {name!r}; give another by --name")
    reason = _why_no_graphs(bundle)
    models = [name, *(() if reason else (f"{name}-{graph}" for graph in bundle.manifest.graphs))]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(path) as partial:
            _write_stream_model(bundle, partial / name, instances)
            for model, (_, graph) in zip(models[1:], bundle.manifest.graphs.items(), strict=not reason):
                files = _files_of(bundle, graph.file)
                text = graph_configuration(model, bundle.manifest, graph, max_batch_size)
                _write_model(partial / model, text, {file: bundle.file(file) for file in files})
            replace_folder(partial, path)
    except OSError as error:
        raise OutputError(f"the repository {path} cannot be written: {error.strerror or error}") from error
    return Repository(path, tuple(models), () if reason is None else (reason,))


def _why_no_graphs(bundle: Bundle) -> str | None:
    manifest = bundle.manifest
    if manifest.target not in BACKENDS:
        return (
            f"Triton has no back end for graphs of the target {manifest.target}: the streams' model runs them alone; "
            "build with `--target onnxruntime` or `--target tensorrt` for graphs too"
        )
    if libraries := sorted({*manifest.native_libraries, *bundle.native_code}):
        return (
            f"the graphs need {', '.join(libraries)}, which Triton's back end does not load: the streams' model runs "
            "them alone"
        )
    return None


def _write_stream_model(bundle: Bundle, folder: Path, instances: int) -> None:
    _write_model(folder, stream_configuration(folder.name, bundle.manifest, instances), {})
    (folder / "1" / "model.py").write_text(_MODEL, encoding="ascii")
    engine = folder / "1" / "engine"
    engine.mkdir()
    for file in (MANIFEST_FILE, DIGEST_FILE, *bundle.manifest.files):
        shutil.copyfile(bundle.path / file, engine / file)


def _write_model(folder: Path, configuration: str, files: dict[str, Path]) -> None:
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(configuration, encoding="ascii")
    for name, source in files.items():
        shutil.copyfile(source, folder / "1" / name)


def _files_of(bundle: Bundle, graph: str) -> list[str]:
    """A graph's file, and the file of its weights where they lie beside it."""
    return [file for file in bundle.manifest.files if file == graph or file.startswith(f"{graph}.")]
