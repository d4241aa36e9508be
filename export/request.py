"""What may be built: a request, checked, and the operator forms of each target."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from dtfsal.engines.bundle.manifest import DYNAMIC, EngineTarget, Precision
from dtfsal.engines.errors import UsageError
from dtfsal.engines.limits import MODEL_NUMBER, checked_argument, shown
from dtfsal.export.graph.lowering import Forms, PoolingForm
from dtfsal.export.graph.parts import Graphs
from dtfsal.export.precision.calibration import NO_CALIBRATION, Calibration
from dtfsal.export.tensor_rt.builder import BatchProfile, EngineOptions
from dtfsal.export.tensor_rt.flavours import (
    HardwareCompatibility,
    Version,
    check_devices,
    reads_attention,
    tensorrt_target,
)
from dtfsal.training.model.config import ModelConfig

FORMS: Mapping[EngineTarget, Mapping[Precision, Forms]] = {
    # No BF16: ONNX Runtime has no such kernel for a convolution.
    "onnxruntime": {
        "fp32": Forms(deform_conv="native", attention="chunked", one_channel="product"),
        "tf32": Forms(deform_conv="native", attention="chunked", one_channel="product"),
        "fp16": Forms(deform_conv="native", attention="chunked", one_channel="product"),
        "int8": Forms(deform_conv="native", attention="chunked", one_channel="product"),
    },
    # OpenVINO reads no DeformConv, and its attention takes all queries at once. It rounds to BF16 itself: graphs of
    # either precision are in FP32.
    "openvino": {
        "fp32": Forms(deform_conv="gather", attention="whole"),
        "bf16": Forms(deform_conv="gather", attention="whole"),
        "int8": Forms(deform_conv="gather", attention="whole"),
    },
    # TensorRT-RTX takes no plugins, has no DeformConv, and no FP32 kernel for Attention.
    "tensorrt-rtx": {
        "fp32": Forms(deform_conv="gather", attention="decomposed"),
        "tf32": Forms(deform_conv="gather", attention="decomposed"),
        "fp16": Forms(deform_conv="gather", attention="padded"),
        "bf16": Forms(deform_conv="gather", attention="padded"),
    },
    "tensorrt": {
        "fp32": Forms(deform_conv="plugin", attention="decomposed"),
        "tf32": Forms(deform_conv="plugin", attention="decomposed"),
        "fp16": Forms(deform_conv="plugin", attention="padded"),
        "bf16": Forms(deform_conv="plugin", attention="padded"),
    },
}


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "target": tuple(FORMS),
    "precision": get_args(Precision),
    "graphs": get_args(Graphs),
    "pooling": get_args(PoolingForm),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What to build.

    Attributes:
        preset: the model where there are no weights; with weights, the model they must hold, or None for any.
        weights: a safetensors file that dtfsal saved; None for those that the package carries for the preset, or where
            it has none, random ones.
        seed: of random weights, and a wish for them; None for those of seed 0 where there are no others.
        frames: of a window; None for those of the weights or the preset, as the two below. Another clip length or size
            than the weights were trained with costs accuracy, and less or more time.
        height: of a frame as the engine takes it, in pixels; a video's frames are resized to it.
        width: likewise.
        target: the back end that is to run the engine.
        precision: of weights and arithmetic; inputs and outputs stay float32.
        output: the bundle's folder.
        batch_size: windows per run, fixed in the engine; 1 where it has several graphs. With `max_batch_size` the
            number that the engine is tuned for. None is 1, and with `max_batch_size` that.
        max_batch_size: has the engine take any number of windows from 1 to this; None for a fixed number.
        graphs: "reuse" for several graphs where windows can share work (see `dtfsal.export.graph.parts`), "window" for
            one.
        pooling: the form of MViTv2's pooling; see `Forms`.
        overwrite: replace a bundle that exists at `output`.
        timing_cache: where TensorRT's builder keeps tactic timings (TensorRT-RTX has none); None for no cache.
        refittable: other weights can be put into the engine later (TensorRT targets; others can be refitted anyway).
        strip_weights: leave the weights out of the engine, for a refit to put in (TensorRT targets).
        hardware_compatibility: which GPUs a TensorRT engine is for, beside the machine's own.
        compute_capabilities: which GPUs a TensorRT-RTX engine is for, e.g. ("8.6", "12.0"); empty for its own choice.
        report: write the layer report and its picture into the bundle.
        cpu_kernels: use the custom CPU operators (the target onnxruntime in fp32), which are compiled into
            the user's cache; see `dtfsal.engines.native.cpu_kernels`.
        half_weights: store weights in half precision where that changes none of them (the target onnxruntime); see
            `dtfsal.export.graph.compact`.
        calibration: what the ranges of an int8 engine are taken from; see `dtfsal.export.precision.calibration`.
    """

    output: Path
    target: EngineTarget
    precision: Precision
    preset: str | ModelConfig | None = None
    weights: Path | None = None
    seed: int | None = None
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    batch_size: int | None = None
    max_batch_size: int | None = None
    graphs: Graphs = "reuse"
    pooling: PoolingForm = "conv3d"
    overwrite: bool = False
    timing_cache: Path | None = None
    refittable: bool = False
    strip_weights: bool = False
    hardware_compatibility: HardwareCompatibility = "none"
    compute_capabilities: tuple[str, ...] = ()
    report: bool = False
    cpu_kernels: bool = False
    half_weights: bool = False
    calibration: Calibration = NO_CALIBRATION

    def __post_init__(self) -> None:
        if self.preset is None and self.weights is None:
            raise UsageError("say which model to build: give a preset, weights, or both")
        if self.weights is not None and self.seed is not None:
            raise UsageError("a seed is for random weights; give weights or a seed, not both")
        if self.seed is not None:
            checked_argument("seed", self.seed)
        for name in ("batch_size", "max_batch_size", "frames", "height", "width"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not 1 <= value <= MODEL_NUMBER):
                raise UsageError(f"{name} must be a positive integer up to {MODEL_NUMBER}, not {shown(value)}")
        if self.max_batch_size is not None and self.tuned_batch > self.max_batch_size:
            raise UsageError(f"batch_size {self.batch_size} must not exceed max_batch_size {self.max_batch_size}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        if self.precision not in FORMS[self.target]:
            others = ", ".join(target for target, forms in FORMS.items() if self.precision in forms)
            raise UsageError(
                f"the target {self.target!r} has no kernels for {self.precision}: build with --precision "
                f"{' or '.join(FORMS[self.target])}, or for the target {others}"
            )
        self._check_engine_options()

    def _check_engine_options(self) -> None:
        if self.calibration != NO_CALIBRATION and self.precision != "int8":
            raise UsageError("--calibration and --calibration-windows are for --precision int8: leave them out")
        if self.cpu_kernels and (self.target, self.precision) != ("onnxruntime", "fp32"):
            raise UsageError("--cpu-kernels is for the target onnxruntime and --precision fp32: leave it out")
        if self.half_weights and self.target != "onnxruntime":
            raise UsageError("--half-weights is for the target onnxruntime: leave it out")
        if self.timing_cache is not None and self.target != "tensorrt":
            raise UsageError(f"the target {self.target!r} has no timing cache; leave it out")
        if (tensorrt := tensorrt_target(self.target)) is None:
            if self.refittable or self.strip_weights:
                raise UsageError(
                    f"engines for {self.target} keep their weights beside the graph and can always be refitted: leave "
                    "--refittable and --strip-weights out"
                )
            if self.hardware_compatibility != "none" or self.compute_capabilities:
                raise UsageError(f"engines for {self.target} are not built for a GPU: leave the choice of GPUs out")
            return
        check_devices(tensorrt, self.hardware_compatibility, self.compute_capabilities)

    @property
    def tuned_batch(self) -> int:
        """Windows per run, or those that an engine for any batch is tuned for."""
        return self.batch_size or self.max_batch_size or 1

    @property
    def graph_batch(self) -> int:
        """The batch of the graph: a number, or `DYNAMIC`."""
        return self.tuned_batch if self.max_batch_size is None else DYNAMIC

    def engine_options(self, plugin_library: Path | None = None) -> EngineOptions:
        """What the engine's builder is to be told."""
        batch = None
        if self.max_batch_size is not None:
            batch = BatchProfile(tuned=self.tuned_batch, largest=self.max_batch_size)
        return EngineOptions(
            batch=batch,
            timing_cache=self.timing_cache,
            refittable=self.refittable,
            strip_weights=self.strip_weights,
            hardware_compatibility=self.hardware_compatibility,
            compute_capabilities=self.compute_capabilities,
            plugin_library=plugin_library,
            tf32=self.precision == "tf32",
        )


def graph_forms(
    target: EngineTarget,
    precision: Precision,
    *,
    pooling: PoolingForm = "conv3d",
    version: Version | None = None,
    cpu_kernels: bool = False,
) -> Forms:
    """The operator forms of a target's graph.

    Args:
        target: the back end.
        precision: one of the target's.
        pooling: see `Forms`.
        version: of the library that is to read the graph; None for one that reads all that we write.
        cpu_kernels: use the custom CPU operators.
    """
    forms = dataclasses.replace(FORMS[target][precision], pooling=pooling)
    if cpu_kernels:
        return dataclasses.replace(forms, attention="pooled", products="own")
    tensorrt = tensorrt_target(target)
    if tensorrt is None or version is None or reads_attention(tensorrt, version):
        return forms
    return dataclasses.replace(forms, attention="decomposed")


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of "HxW".

    Raises:
        UsageError: the text is not of this form.
    """
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise UsageError(f"--size must be HxW, e.g. 96x160, not {text!r}")
    return int(height), int(width)
