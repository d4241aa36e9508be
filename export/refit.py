"""An engine with new weights, without a build: the same graphs, checked to be the same, the same engine.

The weights are exported to the engine's graphs (batch normalisation is folded, token maps are made constants, as in a
build), each graph is compared with what the engine was built from, and takes its place: the file itself for ONNX
Runtime, through the library's refitter for TensorRT.
"""

import dataclasses
from pathlib import Path

from dtfsal.engines.bundle.folder import Bundle, bundle_place, read_bundle, write_bundle
from dtfsal.engines.bundle.manifest import GraphSpec, Manifest, sha256_file
from dtfsal.engines.errors import EngineMismatchError, UsageError
from dtfsal.engines.native.projects import CPU_KERNELS, DEFORM_CONV
from dtfsal.engines.native.trust import KnownLibrary, engine_libraries, libraries_of
from dtfsal.export.build_record import RECORD_FILE, BuildRecord, graph_signature
from dtfsal.export.builder import (
    Progress,
    created_by,
    export_graph,
    no_progress,
    save_onnx,
    scratch_folder,
)
from dtfsal.export.graph.parts import GraphPart, Graphs, graph_parts
from dtfsal.export.tensor_rt.flavours import tensorrt_target
from dtfsal.export.tensor_rt.refit import check_refit, refit_tensorrt
from dtfsal.training.model.config import ModelConfig
from dtfsal.training.model.network import DTFSal
from dtfsal.training.model.weights import load_weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefitRequest:
    """Which engine gets which weights.

    Attributes:
        engine: the bundle; it stays as it is.
        weights: a safetensors file of the same model.
        output: the new bundle's folder.
        overwrite: replace a bundle that exists there.
    """

    engine: Path
    weights: Path
    output: Path
    overwrite: bool = False


def refit_engine(request: RefitRequest, *, progress: Progress | None = None) -> Manifest:
    """Write an engine bundle with other weights, whole or not at all.

    Args:
        request: what to do.
        progress: told when a stage begins.

    Returns:
        The manifest of the new bundle.

    Raises:
        EngineError: the bundle is damaged, or of a version that does not say how it was built.
        EngineMismatchError: the weights are of another model, or export to another graph.
        UsageError: the engine was built to keep its weights, or the output exists and may not be replaced.
        WeightsError: the weights file cannot be used.
        UnavailableError: a TensorRT engine, and the library or its GPU is missing.
        RefitError: the engine does not take the weights.
        OutputError: the result cannot be written.
    """
    report = progress or no_progress
    bundle_place(request.output, overwrite=request.overwrite)
    bundle = read_bundle(request.engine)
    manifest, record = bundle.manifest, BuildRecord.of_bundle(bundle)
    if (tensorrt := tensorrt_target(manifest.target)) is not None:
        if not (record.refittable or record.strip_weights):
            raise UsageError(f"{request.engine} was built to keep its weights: build it again with --refittable")
        check_refit(tensorrt)
    if manifest.precision == "int8":
        raise UsageError(
            f"{request.engine} is calibrated for its weights: build a new engine of the others, with --precision int8"
        )
    libraries = engine_libraries(bundle, _known_library(manifest), trust=False)
    with scratch_folder(request.output) as folder:
        report("weights", 0, 0)
        model = _model(request, manifest)
        digest = sha256_file(request.weights)
        if record.strip_weights and not record.refittable and digest != manifest.weights["sha256"]:
            raise EngineMismatchError(
                f"{request.engine} takes back the weights that it was built from ({manifest.weights['source']}) and no "
                f"others, not {request.weights}: build it with --strip-weights --refittable for that"
            )
        files: dict[str, Path] = {}
        graphs: dict[str, GraphSpec] = {}
        for part in graph_parts(model, _graphs(manifest), batch_size=_batch(manifest)):
            suffix = "" if part.name == "window" else f", graph {part.name!r}"
            report(f"ONNX{suffix}", 0, 0)
            made = _refit_part(model, part, bundle, record, folder, libraries)
            files |= {file.name: file for file in made}
            graphs[part.name] = part.spec(made[0].name)
        # What does not depend on the weights stays: lists of layers, reports.
        graph_files = {Path(spec.file).name for spec in manifest.graphs.values()}
        files |= {
            name: bundle.file(name)
            for name in manifest.files
            if name not in files
            and name not in (RECORD_FILE, *bundle.native_code)
            and name.removesuffix(".data") not in graph_files
        }
        new_record = dataclasses.replace(record, strip_weights=False)
        (folder / RECORD_FILE).write_text(new_record.to_json())
        files[RECORD_FILE] = folder / RECORD_FILE
        report("bundle", 0, 0)
        refitted = dataclasses.replace(
            manifest,
            weights={"source": request.weights.name, "sha256": digest},
            graphs=graphs,
            created_by=created_by(),
            files={},
            native_libraries=libraries_of(_known_library(manifest)) if libraries else {},
        )
        return write_bundle(request.output, refitted, files, overwrite=request.overwrite)


def _model(request: RefitRequest, manifest: Manifest) -> DTFSal:
    clip = manifest.clip
    model = load_weights(request.weights, frames=clip.frames, height=clip.height, width=clip.width)
    if model.config != ModelConfig.from_dict(manifest.model_config):
        raise EngineMismatchError(
            f"{request.weights} holds the model {model.config.name!r} in another configuration than that of "
            f"{request.engine} ({manifest.model_name!r}): build a new engine of it"
        )
    return model


def _graphs(manifest: Manifest) -> Graphs:
    graphs = set(manifest.graphs)
    return "window" if graphs == {"window"} else "sound" if "window" in graphs else "reuse"


def _batch(manifest: Manifest) -> int:
    graph = next(iter(manifest.graphs.values()))
    return graph.inputs[0].shape[0]


def _known_library(manifest: Manifest) -> KnownLibrary:
    return CPU_KERNELS if manifest.target == "onnxruntime" else DEFORM_CONV


def _refit_part(
    model: DTFSal, part: GraphPart, bundle: Bundle, record: BuildRecord, folder: Path, libraries: list[Path]
) -> tuple[Path, ...]:
    manifest = bundle.manifest
    graph = export_graph(model, manifest.target, manifest.precision, part, record.forms)
    if graph_signature(graph) != record.signatures.get(part.name):
        raise EngineMismatchError(
            f"the weights export to another graph {part.name!r} than that of {bundle.path}, which another version of "
            "dtfsal or PyTorch made: build a new engine"
        )
    if (tensorrt := tensorrt_target(manifest.target)) is None:
        return save_onnx(graph, folder, part.stem)
    return (
        refit_tensorrt(
            bundle.file(manifest.graphs[part.name].file),
            graph,
            tensorrt,
            folder,
            stem=part.stem,
            plugin_library=next(iter(libraries), None),
            keep_refittable=record.refittable,
        ),
    )
