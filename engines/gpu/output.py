"""An array in a GPU's memory that a back end has made."""

import dataclasses
from typing import Any

import numpy as np

from dtfsal.engines.gpu.device import DeviceBuffer


@dataclasses.dataclass(frozen=True)
class DeviceOutput:
    """An array in the GPU's memory, which PyTorch (`torch.as_tensor`), CuPy and Numba take without a copy.

    Attributes:
        shape: sizes, outermost axis first; C-contiguous.
        dtype: NumPy's element type.
        buffer: the memory; it lives as long as this object.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    buffer: DeviceBuffer

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """CUDA array interface, version 3. The work that writes the array is complete."""
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.buffer.address, False), "version": 3}
