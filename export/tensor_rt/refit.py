"""New weights for a TensorRT or TensorRT-RTX engine, without a build.

The engine must have been built refittable, or stripped of the weights that it is given back. Its graph with the new
weights is read by the library's own ONNX reader, which knows which of the engine's weights each of the graph's became.
"""

from pathlib import Path

import onnx

from dtfsal.engines.errors import DtfsalError, UnavailableError
from dtfsal.engines.tensor_rt.log import make_logger
from dtfsal.export.tensor_rt.flavours import FLAVOURS, TensorRtTarget, driver_present, import_tensorrt


class RefitError(DtfsalError):
    """The engine did not take the weights. Exit code 1."""


def check_refit(target: TensorRtTarget) -> None:
    """Find out, before any work is done, whether engines can be refitted on this machine.

    Raises:
        UnavailableError: the library or the GPU is missing.
    """
    trt = import_tensorrt(target)
    if not driver_present():  # reading an engine without one ends the process
        raise UnavailableError(
            f"{FLAVOURS[target].module} {trt.__version__} refits engines where there is an NVIDIA GPU with its driver, "
            "and there is none: refit where the engine will run"
        )


def refit_tensorrt(
    plan: Path,
    model: onnx.ModelProto,
    target: TensorRtTarget,
    folder: Path,
    *,
    stem: str = "model",
    plugin_library: Path | None = None,
    keep_refittable: bool = True,
) -> Path:
    """Write an engine with other weights.

    Args:
        plan: the engine, refittable or stripped.
        model: its graph with the weights; used up, they move to a file.
        target: the library that built the engine.
        folder: where the result goes, and the graph for the library to read.
        stem: what both are called before their suffix.
        plugin_library: the library with the engine's plugins, to load before the engine is read.
        keep_refittable: whether the result can be refitted, too.

    Returns:
        The engine's file.

    Raises:
        RefitError: the engine does not take the weights, or some of its weights are not in the graph.
        UnavailableError: the library or its GPU is missing.
    """
    check_refit(target)
    trt = import_tensorrt(target)
    if plugin_library is not None:
        from dtfsal.engines.native.deform_conv import load_plugin_library

        load_plugin_library(trt, plugin_library)
    log = make_logger(trt)
    name = f"{FLAVOURS[target].module} {trt.__version__}"
    engine = trt.Runtime(log).deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        raise RefitError(f"{name} cannot read {plan.name} on this GPU: {log.last_error}")
    refitter = trt.Refitter(engine, log)
    reader = trt.OnnxParserRefitter(refitter, log)
    source = folder / f"{stem}.refit.onnx"
    onnx.save(model, source, save_as_external_data=True, location=f"{source.name}.data")
    if not reader.refit_from_file(str(source)):
        errors = "; ".join(str(reader.get_error(i).desc()) for i in range(reader.num_errors)) or log.last_error
        raise RefitError(f"{name} does not take the weights for {plan.name}: {errors}")
    if missing := refitter.get_missing_weights():
        raise RefitError(f"{plan.name} needs {len(missing)} weights that its graph lacks, e.g. {missing[0]!r}")
    if not refitter.refit_cuda_engine():
        raise RefitError(f"{name} could not refit {plan.name}: {log.last_error}")
    config = engine.create_serialization_config()
    config.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)
    # From TensorRT 10.14 an engine that was stripped stays refittable only if told so.
    if keep_refittable and hasattr(trt.SerializationFlag, "INCLUDE_REFIT"):
        config.set_flag(trt.SerializationFlag.INCLUDE_REFIT)
    serialized = engine.serialize_with_config(config)
    if serialized is None:
        raise RefitError(f"{name} could not write the refitted engine: {log.last_error}")
    path = folder / f"{stem}.engine"
    with path.open("wb") as file:
        file.write(memoryview(serialized))
    return path
