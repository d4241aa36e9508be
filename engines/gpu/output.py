"""An array in a GPU's memory that a back end has made."""

import dataclasses
import importlib
from typing import Any

import numpy as np

from dtfsal.engines.gpu.device import DeviceBuffer


@dataclasses.dataclass(frozen=True)
class DeviceOutput:
    """An array in the GPU's memory, which other libraries take without a copy.

    By CUDA's array interface: PyTorch (`torch.as_tensor`), CuPy, Numba, PyCUDA. By DLPack: PyTorch
    (`torch.from_dlpack`), CuPy, JAX and others.

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

    def __dlpack__(self, **options: Any) -> object:
        """DLPack's capsule, through cuda-core. The work that writes the array is complete."""
        return self._view().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        """The kind of device, CUDA's, and its number."""
        kind, number = self._view().__dlpack_device__()
        return int(kind), int(number)

    def _view(self) -> Any:
        utils = importlib.import_module("cuda.core.utils")  # by name: only cuda-core itself finds where it lies
        return utils.StridedMemoryView.from_buffer(self.buffer.handle, self.shape, dtype=self.dtype)
