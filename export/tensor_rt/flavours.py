"""What differs between TensorRT 10, TensorRT 11 and TensorRT-RTX: everything that differs, in one place.

One code path builds for all of them (`dtfsal.export.tensor_rt.builder`). It asks here what a library is called, what it
is able to do, and by which of its names.

| | TensorRT 10.13+ | TensorRT 11 | TensorRT-RTX |
|---|---|---|---|
| typing | strong if a flag says so | strong | strong; the flag is taken |
| ONNX Attention | from 10.14; before, products and softmax | yes | yes, not in FP32 |
| plugins | yes | yes | none |
| builds on | the GPU that runs it | the GPU that runs it | any machine; with a driver if weights are to change |
| runs on | that GPU; others of a hardware compatibility level | the same | those it knows from 8.0 on, or those named |
| timing cache | yes | yes | none |
"""

import dataclasses
import importlib
import re
from collections.abc import Mapping
from typing import Any, Literal

from dtfsal.engines.bundle.manifest import EngineTarget
from dtfsal.engines.errors import UnavailableError, UsageError
from dtfsal.engines.gpu.driver import find_gpu_driver

TensorRtTarget = Literal["tensorrt-rtx", "tensorrt"]


def tensorrt_target(target: EngineTarget) -> TensorRtTarget | None:
    """The target, if TensorRT's builder makes its engines; else the ONNX graph is the engine's file."""
    return target if target == "tensorrt-rtx" or target == "tensorrt" else None


HardwareCompatibility = Literal["none", "ampere+", "same-capability"]
Version = tuple[int, int]

# Our names of hardware compatibility and the library's. The last came with TensorRT 10.9.
HARDWARE_LEVELS: Mapping[HardwareCompatibility, str] = {
    "none": "NONE",
    "ampere+": "AMPERE_PLUS",
    "same-capability": "SAME_COMPUTE_CAPABILITY",
}
# What AMPERE_PLUS stands for: GPUs of compute capability 8.0 and later that the libraries know.
AMPERE_AND_LATER = ("8.0", "8.6", "8.7", "8.8", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1")
CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")


@dataclasses.dataclass(frozen=True)
class Flavour:
    """A library that builds engines.

    Attributes:
        module: its Python module.
        extra: our extra that installs it.
        oldest: the first version that can build our graphs.
        attention_from: the first version whose parser reads ONNX Attention.
        plugins: whether it takes plugins.
        needs_gpu: whether it builds for, and on, the GPU of the machine.
        refit_needs_gpu: whether engines whose weights can change are built with a driver only. TensorRT-RTX 1.7
            compiles what re-arranges weights, even of a single convolution, and ends with a CUDA error without one.
        timing_cache: whether timings can be kept.
        named_gpus: whether it has names for the GPUs that it builds for. Unless told otherwise, its engines run on all
            of them from compute capability 8.0 on. Without names they run on the machine's own.
    """

    module: str
    extra: str
    oldest: Version
    attention_from: Version
    plugins: bool
    needs_gpu: bool
    refit_needs_gpu: bool
    timing_cache: bool
    named_gpus: bool


FLAVOURS: Mapping[TensorRtTarget, Flavour] = {
    "tensorrt-rtx": Flavour(
        module="tensorrt_rtx",
        extra="tensorrt-rtx",
        oldest=(1, 3),
        attention_from=(1, 3),
        plugins=False,
        needs_gpu=False,
        refit_needs_gpu=True,
        timing_cache=False,
        named_gpus=True,
    ),
    "tensorrt": Flavour(
        module="tensorrt",
        extra="tensorrt",
        oldest=(10, 13),
        attention_from=(10, 14),
        plugins=True,
        needs_gpu=True,
        refit_needs_gpu=True,
        timing_cache=True,
        named_gpus=False,
    ),
}


def import_tensorrt(target: TensorRtTarget) -> Any:
    """The library of a target.

    Raises:
        UnavailableError: it is not installed, does not load, or is too old.
    """
    flavour = FLAVOURS[target]
    where = "" if target == "tensorrt-rtx" else " with NVIDIA's package index configured in pip"
    try:
        trt = importlib.import_module(flavour.module)
    except (ImportError, OSError, RuntimeError) as error:
        raise UnavailableError(
            f"the target {target!r} needs the library {flavour.module}, which is not installed: "
            f"pip install 'dtfsal[{flavour.extra}]'{where}"
        ) from error
    if version_of(trt) < flavour.oldest:
        raise UnavailableError(
            f"{flavour.module} {trt.__version__} is too old: the target {target!r} needs "
            f"{'.'.join(map(str, flavour.oldest))} or later; pip install --upgrade 'dtfsal[{flavour.extra}]'{where}"
        )
    return trt


def version_of(trt: Any) -> Version:
    """Major and minor version of a library."""
    major, minor = str(trt.__version__).split(".")[:2]
    return int(major), int(re.match(r"\d+", minor)[0])  # type: ignore[index]


def reads_attention(target: TensorRtTarget, version: Version) -> bool:
    """Whether a version's parser reads ONNX Attention; the graph has products and softmax for it otherwise."""
    return version >= FLAVOURS[target].attention_from


def check_machine(target: TensorRtTarget, *, refittable: bool = False) -> Any:
    """Find out, before any work is done, whether engines for a target can be built on this machine.

    Args:
        target: the target.
        refittable: whether the engine's weights are to be left out or to change.

    Returns:
        The library.

    Raises:
        UnavailableError: the library or the GPU is missing.
    """
    trt, flavour = import_tensorrt(target), FLAVOURS[target]
    if flavour.needs_gpu and not driver_present():
        raise UnavailableError(
            f"the target {target!r} builds for the GPU of this machine, and there is none: build on the machine that "
            "will run the engine, export its graph alone with --onnx-only, or build for 'tensorrt-rtx', which needs no "
            "GPU"
        )
    if refittable and flavour.refit_needs_gpu and not driver_present():
        raise UnavailableError(
            f"{flavour.module} {trt.__version__} builds refittable and weight-stripped engines only where there is an "
            "NVIDIA GPU with its driver, and there is none: leave --refittable and --strip-weights out, or build there"
        )
    if refittable and (problem := unknown_gpu(target, trt)) is not None:
        raise UnavailableError(f"refittable and weight-stripped engines need a GPU that can run them, and {problem}")
    return trt


def network_flags(trt: Any) -> int:
    """Flags of a strongly typed network: TensorRT 10 must be told, later ones have no other kind."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def set_tf32(trt: Any, config: Any, *, allowed: bool) -> None:
    """Say whether products of float32 factors may round them to TF32, which both libraries do unless told otherwise.

    A graph in FP16 or BF16 has float32 islands, which are not to be rounded either.
    """
    (config.set_flag if allowed else config.clear_flag)(trt.BuilderFlag.TF32)


def set_weights_flags(trt: Any, config: Any, *, refittable: bool, strip_weights: bool) -> None:
    """Have the engine take other weights later (REFIT), or leave its weights out (STRIP_PLAN).

    Stripped alone, it is to be given the weights that it was built from and may be optimised for them
    (REFIT_IDENTICAL, which STRIP_PLAN implies).
    """
    if refittable:
        config.set_flag(trt.BuilderFlag.REFIT)
    if strip_weights:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)


def set_devices(
    trt: Any,
    target: TensorRtTarget,
    config: Any,
    *,
    hardware_compatibility: HardwareCompatibility = "none",
    compute_capabilities: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Tell the builder which GPUs the engine is for.

    Args:
        trt: the library.
        target: its target.
        config: the builder's configuration.
        hardware_compatibility: TensorRT's level; "none" is the GPU of the machine alone.
        compute_capabilities: TensorRT-RTX's GPUs, e.g. ("8.6", "12.0"); empty for its own choice.

    Returns:
        The compute capabilities that the engine runs on.

    Raises:
        UsageError: the target does not take the option, or the library does not know a value.
    """
    check_devices(target, hardware_compatibility, compute_capabilities)
    flavour = FLAVOURS[target]
    if compute_capabilities:
        known = known_capabilities(trt)
        unknown = [capability for capability in compute_capabilities if capability not in known]
        if unknown:
            raise UsageError(
                f"{flavour.module} {trt.__version__} knows no compute capability {unknown[0]}: it builds for "
                f"{', '.join(known)}"
            )
        config.num_compute_capabilities = len(compute_capabilities)
        for index, capability in enumerate(compute_capabilities):
            config.set_compute_capability(known[capability], index)
        return compute_capabilities
    if hardware_compatibility != "none":
        levels = trt.HardwareCompatibilityLevel
        name = HARDWARE_LEVELS[hardware_compatibility]
        if not hasattr(levels, name):
            raise UsageError(
                f"{flavour.module} {trt.__version__} has no hardware compatibility {hardware_compatibility!r}: upgrade "
                "it, or choose another level"
            )
        config.hardware_compatibility_level = getattr(levels, name)
        if hardware_compatibility == "ampere+":
            return AMPERE_AND_LATER
    if flavour.named_gpus:
        return tuple(capability for capability in known_capabilities(trt) if _sort_key(capability) >= (8, 0))
    return current_capability()


def check_devices(
    target: TensorRtTarget, hardware_compatibility: HardwareCompatibility, compute_capabilities: tuple[str, ...]
) -> None:
    """Refuse options that the target has no notion of.

    Raises:
        UsageError: see above.
    """
    if hardware_compatibility not in HARDWARE_LEVELS:
        raise UsageError(
            f"hardware compatibility must be one of {', '.join(HARDWARE_LEVELS)}, not {hardware_compatibility!r}"
        )
    if hardware_compatibility != "none" and target != "tensorrt":
        raise UsageError(
            f"the target {target!r} has no hardware compatibility levels; name its GPUs with --compute-capability"
        )
    if compute_capabilities and target != "tensorrt-rtx":
        raise UsageError(
            f"the target {target!r} builds for the GPU of the machine and takes no compute capabilities; "
            "choose --hardware-compatibility instead"
        )
    for capability in compute_capabilities:
        if not CAPABILITY.fullmatch(capability):
            raise UsageError(f"a compute capability looks like 8.6, not {capability!r}")
    if len(set(compute_capabilities)) < len(compute_capabilities):
        raise UsageError(f"each compute capability may occur only once, not as in {','.join(compute_capabilities)}")


def capability_of(member: str) -> str:
    """The compute capability that a member of the library's enumeration means: "8.6" of "SM86"; "" of others."""
    found = re.fullmatch(r"SM(\d+)(\d)", member)
    return f"{found[1]}.{found[2]}" if found else ""


def known_capabilities(trt: Any) -> dict[str, Any]:
    """The compute capabilities that a library has names for, the oldest first, and those names."""
    members = {capability_of(name): value for name, value in trt.ComputeCapability.__members__.items()}
    return {capability: members[capability] for capability in sorted(filter(None, members), key=_sort_key)}


def unknown_gpu(target: TensorRtTarget, trt: Any) -> str | None:
    """Why the first GPU of this machine can run no engine of a library, in a sentence; None if it can, or is absent.

    Such an engine may be built here all the same, for other machines.
    """
    gpus = find_gpu_driver().gpus
    if not gpus or not FLAVOURS[target].named_gpus or gpus[0][1] in (known := known_capabilities(trt)):
        return None
    return (
        f"{FLAVOURS[target].module} {trt.__version__} does not run on this machine's GPU, {gpus[0][0]} (compute "
        f"capability {gpus[0][1]}): it knows {', '.join(known)}; build for the target tensorrt or onnxruntime here"
    )


def allow_decomposed_attention(trt: Any, network: Any) -> int:
    """Let attentions become several layers each; returns how many there are.

    The layer that begins an attention is of a class whose Python name is not derived from its type, so that the
    object must be told its class.
    """
    found = 0
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == getattr(trt.LayerType, "ATTENTION_INPUT", None):
            layer.__class__ = trt.IAttentionInputLayer
            layer.attention.decomposable = True
            found += 1
    return found


def driver_present() -> bool:
    """Whether an NVIDIA driver with a GPU answers."""
    return bool(find_gpu_driver().gpus)


def current_capability() -> tuple[str, ...]:
    """The compute capability of the first GPU, alone."""
    return find_gpu_driver().gpus[0][1:]


def _sort_key(capability: str) -> tuple[int, ...]:
    return tuple(map(int, capability.split(".")))
