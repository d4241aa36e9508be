"""An engine between two programs of PyCUDA: its arrays go in and come out without a copy to the host.

    pip install 'dtfsal[tensorrt-rtx]' pycuda
    dtfsal build --preset lite --single-graph --target tensorrt-rtx -o lite-rtx.engine
    python pycuda_arrays.py lite-rtx.engine

PyCUDA and the engine see the same memory because both work in the GPU's primary context: `pycuda.autoprimaryctx`, and
not `pycuda.autoinit`, which makes a context of its own. This example has not run on a GPU; a test runs its logic on a
pretended one.
"""

import sys
from typing import Any

import numpy as np

from dtfsal.engines import Engine, open_engine


def to_gpuarray(output: Any, gpuarray: Any) -> Any:
    """An array that an engine left on the GPU as a GPUArray over the same memory, which it keeps alive."""
    interface = output.__cuda_array_interface__
    address, dtype = interface["data"][0], np.dtype(interface["typestr"])
    return gpuarray.GPUArray(interface["shape"], dtype, base=output, gpudata=address)


def predict(engine: Engine, window: dict[str, np.ndarray], gpuarray: Any) -> Any:
    """The map of a window as a GPUArray (1, 1, H, W).

    Args:
        engine: one for TensorRT, of one graph.
        window: the graph's inputs by name, which your program would have on the GPU already.
        gpuarray: the module `pycuda.gpuarray`.
    """
    inputs = {name: gpuarray.to_gpu(values) for name, values in window.items()}
    return to_gpuarray(engine.run_on_device(inputs)["saliency_map"], gpuarray)


def main(path: str) -> None:
    """Predict a grey window in silence, and show where its map is highest."""
    import pycuda.autoprimaryctx  # noqa: F401
    from pycuda import gpuarray

    with open_engine(path) as engine:
        inputs = engine.manifest.graphs["window"].inputs
        grey = {tensor.name: np.zeros([max(size, 1) for size in tensor.shape], tensor.dtype) for tensor in inputs}
        saliency_map = predict(engine, grey, gpuarray)
        print("shape", saliency_map.shape, "largest value", gpuarray.max(saliency_map).get())


if __name__ == "__main__":
    main(*sys.argv[1:])
