"""Arrays of other libraries: their memory is read in place, and what cannot be read is one sentence."""

import ctypes
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from dtfsal.engines import open_engine
from dtfsal.engines.arrays import host_array
from dtfsal.engines.errors import UsageError
from dtfsal.engines.gpu.device import DeviceBuffer
from dtfsal.engines.gpu.output import DeviceOutput
from dtfsal.engines.tensor_rt.engine import TensorRtEngine

CUDA = 2  # DLPack's number


class DLTensor(ctypes.Structure):
    """The head of what a DLPack capsule holds."""

    _fields_ = (("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32))


def capsule_tensor(capsule):
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return DLTensor.from_address(pointer_of(capsule, b"dltensor"))


class DLPackOnly:
    """A foreign array that offers DLPack and nothing else, said to lie on a device, at an address if one is given."""

    def __init__(self, array, device=1, address=None):
        self.array, self.device, self.address = array, device, address

    def __dlpack_device__(self):
        return self.device, 0

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        assert self.device == 1 or stream == -1  # nobody waits: the caller says that the work is complete
        capsule = self.array.__dlpack__()
        tensor = capsule_tensor(capsule)
        tensor.device_type = self.device
        tensor.data = self.address or tensor.data
        return capsule


def test_a_tensors_memory_is_read_in_place():
    tensor = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    array = host_array(tensor, "samples")
    assert array.ctypes.data == tensor.data_ptr()
    tensor[1, 2] = 77
    assert array[1, 2] == 77
    turned = host_array(tensor.T, "samples")
    assert (turned.ctypes.data, turned.shape) == (tensor.data_ptr(), (4, 3))


def test_other_arrays_are_read_in_place():
    array = np.arange(6.0)
    assert host_array(array, "x") is array
    assert host_array(DLPackOnly(array), "x").ctypes.data == array.ctypes.data
    interface = types.SimpleNamespace(__array_interface__=array.__array_interface__)
    assert host_array(interface, "x").ctypes.data == array.ctypes.data
    np.testing.assert_array_equal(host_array([[1, 2], [3, 4]], "x"), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (DLPackOnly(np.zeros(3), CUDA), r"samples must lie in the host's memory, .* by \.cpu\(\)"),
        (types.SimpleNamespace(__cuda_array_interface__={}), "samples must lie in the host's memory"),
        (torch.zeros(3, requires_grad=True), "samples cannot be read as an array: .*grad"),
        (torch.zeros(3, dtype=torch.bfloat16), "samples cannot be read as an array"),
        (torch.zeros(3, device="meta"), "samples cannot be read as an array"),
        ([[1, 2], [3]], "samples cannot be read as an array"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(value, message):
    with pytest.raises(UsageError, match=message) as caught:
        host_array(value, "samples")
    assert "\n" not in str(caught.value)


def test_an_engine_on_the_cpu_takes_tensors(make_bundle, inputs):
    with open_engine(make_bundle(), device="cpu", threads=1) as engine:
        expected = engine.run(inputs)["saliency_map"]
        for kind in (torch.from_numpy, DLPackOnly):
            made = engine.run({name: kind(array) for name, array in inputs.items()})["saliency_map"]
            np.testing.assert_array_equal(made, expected)
        assert torch.from_dlpack(expected).data_ptr() == expected.ctypes.data  # a map goes out without a copy
        with pytest.raises(UsageError, match="'video' must be float32, not float64"):
            engine.run({**inputs, "video": torch.from_numpy(inputs["video"].astype(np.float64))})
        with pytest.raises(UsageError, match="lies on a GPU and the engine runs on the CPU"):
            engine.run({**inputs, "video": DLPackOnly(inputs["video"], CUDA)})


def test_without_cuda_core_a_tensor_on_the_gpu_is_refused(make_bundle, inputs, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.core.utils", None)
    there = DLPackOnly(inputs["video"], CUDA)
    message = "lies on a GPU and the engine runs on the CPU"
    with open_engine(make_bundle(), device="cpu", threads=1) as engine, pytest.raises(UsageError, match=message):
        engine.run({**inputs, "video": there})


def test_an_engine_on_the_gpu_reads_dlpack_in_place(make_trt_bundle, gpu, trt, inputs):
    pytest.importorskip("cuda.core.utils")
    with TensorRtEngine(make_trt_bundle(), device=gpu, module=trt) as engine:
        expected = engine.run(inputs)["saliency_map"]
        buffer = gpu.allocate(inputs["video"].nbytes)
        gpu.memory[buffer.address][...] = inputs["video"].reshape(-1).view(np.uint8)
        uploads = len(gpu.uploaded)
        there = DLPackOnly(inputs["video"], CUDA, buffer.address)
        np.testing.assert_array_equal(engine.run({**inputs, "video": there})["saliency_map"], expected)
        assert len(gpu.uploaded) == uploads + 1  # the sound
        with pytest.raises(UsageError, match="'video' on the GPU must be C-contiguous"):
            engine.run({**inputs, "video": DLPackOnly(inputs["video"].swapaxes(3, 4), CUDA, buffer.address)})
        with pytest.raises(UsageError, match="'video' must be float32, not float64"):
            engine.run({**inputs, "video": DLPackOnly(inputs["video"].astype(np.float64), CUDA, buffer.address)})


def test_an_output_on_the_gpu_goes_out_by_cuda_core(monkeypatch):
    """cuda-core makes views of its own buffers only where a driver is: here of the host's memory."""
    utils = pytest.importorskip("cuda.core.utils")
    values = np.arange(6, dtype=np.float32)

    class OfTheHost:
        @staticmethod
        def from_buffer(buffer, shape, *, dtype):
            assert buffer is handle
            return utils.StridedMemoryView.from_dlpack(values.view(dtype).reshape(shape), stream_ptr=-1)

    handle = object()
    output = DeviceOutput((2, 3), np.dtype(np.float32), DeviceBuffer(4096, values.nbytes, handle))
    monkeypatch.setitem(sys.modules, "cuda.core.utils", types.SimpleNamespace(StridedMemoryView=OfTheHost))
    taken = np.from_dlpack(output)
    np.testing.assert_array_equal(taken, values.reshape(2, 3))
    assert taken.ctypes.data == values.ctypes.data


class GpuArrays:
    """What stands for `pycuda.gpuarray`, in the memory of the pretended GPU."""

    def __init__(self, gpu):
        self.gpu = gpu

    def to_gpu(self, values):
        buffer = self.gpu.allocate(values.nbytes)
        self.gpu.memory[buffer.address][...] = values.reshape(-1).view(np.uint8)
        return self.GPUArray(values.shape, values.dtype, gpudata=buffer.address)

    class GPUArray:
        def __init__(self, shape, dtype, base=None, gpudata=None):
            self.shape, self.dtype, self.base, self.gpudata = shape, dtype, base, gpudata

        @property
        def __cuda_array_interface__(self):
            return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.gpudata, False), "version": 3}


def test_the_example_for_pycuda(make_trt_bundle, gpu, trt, inputs):
    """On a pretended GPU, with what stands for PyCUDA, which imports only where a GPU is."""
    path = Path(__file__).parents[2] / "examples" / "python" / "pycuda_arrays.py"
    example = types.ModuleType("pycuda_arrays")
    exec(compile(path.read_text(), path, "exec"), example.__dict__)
    with TensorRtEngine(make_trt_bundle(), device=gpu, module=trt) as engine:
        expected = engine.run(inputs)["saliency_map"]
        uploads = len(gpu.uploaded)
        made = example.predict(engine, inputs, GpuArrays(gpu))
        assert len(gpu.uploaded) == uploads
        values = gpu.memory[made.gpudata].view(made.dtype).reshape(made.shape)
        np.testing.assert_array_equal(values, expected)
        assert made.base.buffer.address == made.gpudata  # the GPUArray keeps the memory
