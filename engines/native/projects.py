"""The native libraries of this room. `dtfsal native` builds them and the C library, which `runtime.capi` declares."""

from pathlib import Path

from dtfsal.engines.native.builder import NativeProject

_HERE = Path(__file__).parent

CPU_KERNELS = NativeProject(
    name="cpu-kernels",
    title="the custom operators for ONNX Runtime on the CPU",
    sources=_HERE / "cpu_kernels" / "source",
    library="libdtfsal_cpu_kernels.so",
    variable="DTFSAL_CPU_KERNELS_LIBRARY",
    kept_by_sources=True,
)
DEFORM_CONV = NativeProject(
    name="deform-conv",
    title="the TensorRT plugin",
    sources=_HERE / "deform_conv" / "source",
    library="libdtfsal_plugins.so",
    variable="DTFSAL_PLUGIN_LIBRARY",
    uses_cuda=True,
    tensorrt="needed",
)
FRONT_END = NativeProject(
    name="frontend",
    title="the GPU's front-end",
    sources=_HERE / "frontend" / "source",
    library="libdtfsal_frontend.so",
    variable="DTFSAL_FRONT_END_LIBRARY",
    uses_cuda=True,
)
PROJECTS = (CPU_KERNELS, DEFORM_CONV, FRONT_END)
