"""The arrays that go into and come out of a graph, checked against the manifest in one way for every back end."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from dtfsal.engines.bundle.manifest import DYNAMIC, GraphSpec, TensorSpec
from dtfsal.engines.errors import UsageError

Array: TypeAlias = npt.NDArray[Any]


# DLPack's numbers of memory that the CPU reads: its own, and what CUDA and ROCm pin or manage.
_HOST_DEVICES = (1, 3, 11, 13)


class CudaArray(Protocol):
    """An array in a GPU's memory, as PyTorch, CuPy, Numba and PyCUDA have it (CUDA array interface, version 2 or 3)."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...


class DLPackArray(Protocol):
    """An array that DLPack shares, as those of PyTorch, JAX and most other libraries."""

    def __dlpack__(self, *, stream: int | None = None) -> object: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...


# What an engine takes.
AnyArray: TypeAlias = Array | CudaArray | DLPackArray


@dataclasses.dataclass(frozen=True)
class DeviceArray:
    """What a back end needs to read an array on a GPU in place.

    Attributes:
        pointer: device address of the first element.
        shape: sizes, outermost axis first; C-contiguous.
        dtype: NumPy's element type.
        owner: what keeps the memory.
    """

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: object = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)


def host_array(value: object, what: str) -> Array:
    """An array of any library as NumPy's, in the same memory; lists and the like are copied.

    Args:
        value: a NumPy array, a tensor that DLPack or `__array__` shares, or numbers in lists.
        what: its name for an error.

    Raises:
        UsageError: it lies on a GPU, or its library does not give it away.
    """
    if isinstance(value, np.ndarray):
        return value
    with _sharing(what):
        if not _is_on_device(value):
            return np.from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(value)
    raise UsageError(f"{what} must lie in the host's memory, not on a GPU: copy it first (a PyTorch tensor by .cpu())")


def checked_inputs(spec: GraphSpec, inputs: Mapping[str, AnyArray]) -> dict[str, Array | DeviceArray]:
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
    what = f"input {tensor.name!r}"
    checked: Array | DeviceArray
    with _sharing(what):
        if isinstance(array, np.ndarray):
            checked = array
        elif hasattr(array, "__cuda_array_interface__"):
            checked = _cuda_array(what, array.__cuda_array_interface__, array)
        elif not hasattr(array, "__dlpack__"):
            raise UsageError(f"{what} must be a NumPy array, or one that DLPack shares, not a {type(array).__name__}")
        elif _is_on_device(array):
            checked = _dlpack_on_device(what, array)
        else:
            checked = host_array(array, what)
    if problem := mismatch(tensor, checked):
        raise UsageError(f"{what} {problem}")
    return np.ascontiguousarray(checked) if isinstance(checked, np.ndarray) else checked


@contextlib.contextmanager
def _sharing(what: str) -> Iterator[None]:
    """What another library says where it does not give an array away, as an error of ours."""
    try:
        yield
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
        problem = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{what} cannot be read as an array: {problem}") from error


def _is_on_device(array: object) -> bool:
    """Whether the CPU cannot read an array where it lies."""
    if hasattr(array, "__dlpack_device__"):
        return int(array.__dlpack_device__()[0]) not in _HOST_DEVICES
    return hasattr(array, "__cuda_array_interface__")


def _cuda_array(what: str, interface: Mapping[str, Any], owner: object) -> DeviceArray:
    array = DeviceArray(int(interface["data"][0]), tuple(interface["shape"]), np.dtype(interface["typestr"]), owner)
    return _contiguous(what, array, interface.get("strides"))


def _dlpack_on_device(what: str, tensor: object) -> DeviceArray:
    """What DLPack tells of a tensor on a GPU, read by cuda-core, with which every engine on a GPU comes."""
    try:
        utils = importlib.import_module("cuda.core.utils")  # by name: only cuda-core itself finds where it lies
    except ImportError as error:
        raise UsageError(f"{what} lies on a GPU and the engine runs on the CPU; copy it first") from error
    view = utils.StridedMemoryView.from_dlpack(tensor, stream_ptr=-1)  # no wait: the work that writes it is complete
    if view.dtype is None:
        raise TypeError("NumPy has no such element type")
    array = DeviceArray(int(view.ptr), tuple(view.shape), np.dtype(view.dtype), view)
    return _contiguous(what, array, view.strides and [step * array.dtype.itemsize for step in view.strides])


def _contiguous(what: str, array: DeviceArray, strides: Sequence[int] | None) -> DeviceArray:
    contiguous = [array.dtype.itemsize * int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim)]
    if strides is not None and list(strides) != contiguous:
        raise UsageError(f"{what} on the GPU must be C-contiguous; copy it to a contiguous array first")
    return array
