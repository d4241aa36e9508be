"""The arrays that go into and come out of a graph, checked against the manifest in one way for every back end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from dtfsal.engines.bundle.manifest import DYNAMIC, GraphSpec, TensorSpec
from dtfsal.engines.errors import UsageError

Array: TypeAlias = npt.NDArray[Any]


class CudaArray(Protocol):
    """An array in a GPU's memory, as PyTorch, CuPy and Numba have it (CUDA array interface, version 2 or 3)."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...


@dataclasses.dataclass(frozen=True)
class DeviceArray:
    """What a back end needs to read a `CudaArray` in place.

    Attributes:
        pointer: device address of the first element.
        shape: sizes, outermost axis first; C-contiguous.
        dtype: NumPy's element type.
    """

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)


def checked_inputs(spec: GraphSpec, inputs: Mapping[str, Array | CudaArray]) -> dict[str, Array | DeviceArray]:
    """Check a graph's inputs and make them contiguous; a contiguous array passes without a copy.

    Raises:
        UsageError: a name, type or shape doesn't fit, or dynamic first axes (the batch) disagree.
    """
    names = [tensor.name for tensor in spec.inputs]
    if set(inputs) != set(names):
        raise UsageError(f"the graph takes the inputs {', '.join(names)}, not {', '.join(map(str, inputs)) or 'none'}")
    arrays = {tensor.name: _checked(tensor, inputs[tensor.name]) for tensor in spec.inputs}
    batches = {t.name: arrays[t.name].shape[0] for t in spec.inputs if t.shape and t.shape[0] == DYNAMIC}
    if len(set(batches.values())) > 1:
        sizes = ", ".join(f"{name} {size}" for name, size in batches.items())
        raise UsageError(f"the inputs' first axes (the batch) must agree, not {sizes}")
    return arrays


def mismatch(tensor: TensorSpec, array: Array | DeviceArray) -> str | None:
    """What differs between an array and its specification, as the end of a sentence, or None."""
    if array.dtype != np.dtype(tensor.dtype):
        return f"must be {tensor.dtype}, not {array.dtype}"
    fits = array.ndim == len(tensor.shape) and all(
        size == wanted or (wanted == DYNAMIC and size >= 1)
        for size, wanted in zip(array.shape, tensor.shape, strict=True)
    )
    return None if fits else f"must have shape {show_shape(tensor.shape)}, not {show_shape(array.shape)}"


def output_shape(spec: GraphSpec, tensor: TensorSpec, arrays: Mapping[str, Array | DeviceArray]) -> list[int] | None:
    """The shape that an output will have, or None if it cannot be told from the manifest and the batch."""
    batches = [arrays[t.name].shape[0] for t in spec.inputs if t.shape and t.shape[0] == DYNAMIC]
    shape = list(tensor.shape)
    if shape and shape[0] == DYNAMIC and batches:
        shape[0] = batches[0]
    return None if DYNAMIC in shape else shape


def zeros(tensor: TensorSpec) -> Array:
    """Zeros, or the declared bound nearest to zero, in the tensor's shape with 1 for dynamic sizes."""
    value = 0.0
    if tensor.minimum is not None:
        value = max(value, tensor.minimum)
    if tensor.maximum is not None:
        value = min(value, tensor.maximum)
    return np.full([1 if size == DYNAMIC else size for size in tensor.shape], value, dtype=tensor.dtype)


def show_shape(shape: tuple[int, ...]) -> str:
    """A shape as text, with "any" for dynamic sizes."""
    return "(" + ", ".join("any" if size == DYNAMIC else str(size) for size in shape) + ")"


def _checked(tensor: TensorSpec, array: object) -> Array | DeviceArray:
    checked: Array | DeviceArray
    if isinstance(array, np.ndarray):
        checked = array
    elif hasattr(array, "__cuda_array_interface__"):
        checked = _device_array(tensor.name, array.__cuda_array_interface__)
    else:
        raise UsageError(
            f"input {tensor.name!r} must be a NumPy array or an array on the GPU, not a {type(array).__name__}"
        )
    if problem := mismatch(tensor, checked):
        raise UsageError(f"input {tensor.name!r} {problem}")
    return np.ascontiguousarray(checked) if isinstance(checked, np.ndarray) else checked


def _device_array(name: str, interface: Mapping[str, Any]) -> DeviceArray:
    shape = tuple(interface["shape"])
    dtype = np.dtype(interface["typestr"])
    strides = interface.get("strides")
    contiguous = tuple(dtype.itemsize * int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
    if strides is not None and tuple(strides) != contiguous:
        raise UsageError(f"input {name!r} on the GPU must be C-contiguous; copy it to a contiguous array first")
    return DeviceArray(int(interface["data"][0]), shape, dtype)
