"""The library of the CPU's operators, and sessions of one operator each."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dtfsal.engines.native.cpu_kernels import DOMAIN, register_cpu_kernels


@dataclasses.dataclass(frozen=True)
class Operator:
    """A model of one operator; `run` gives its output."""

    model: onnx.ModelProto
    library: Path

    def run(self, x, threads=2):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        register_cpu_kernels(options, self.library)
        session = onnxruntime.InferenceSession(self.model.SerializeToString(), options, ["CPUExecutionProvider"])
        (y,) = session.run(None, {"x": x})
        return y

    def run_with(self, instruction_set, x, folder):
        """In a process of its own, which asks for an instruction set; the library's choice of it, and the output."""
        onnx.save(self.model, folder / "model.onnx")
        np.save(folder / "x.npy", x)
        code = (
            "import ctypes, sys, numpy as np, onnxruntime as ort\n"
            "model, x, y, library = sys.argv[1:]\n"
            "options = ort.SessionOptions(); options.log_severity_level = 4\n"
            "options.register_custom_ops_library(library)\n"
            "session = ort.InferenceSession(model, options, ['CPUExecutionProvider'])\n"
            "np.save(y, session.run(None, {'x': np.load(x)})[0])\n"
            "name = ctypes.CDLL(library).dtfsal_cpu_kernels_name; name.restype = ctypes.c_char_p\n"
            "print(name().decode())\n"
        )
        words = [folder / "model.onnx", folder / "x.npy", folder / "y.npy", self.library]
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, words)],
            env={**os.environ, "DTFSAL_CPU_KERNELS": instruction_set},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip(), np.load(folder / "y.npy")


@pytest.fixture
def operator(kernel_library) -> Callable[..., Operator]:
    """Make a model of an operator: its name, the first input's shape, the constants after it, the output's rank."""

    def make(name, shape, constants, rank, **attributes):
        names = [f"constant_{index}" for index in range(len(constants))]
        node = helper.make_node(name, ["x", *names], ["y"], domain=DOMAIN, **attributes)
        graph = helper.make_graph(
            [node],
            "one",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
            [numpy_helper.from_array(np.ascontiguousarray(c), n) for c, n in zip(constants, names, strict=True)],
        )
        opsets = [helper.make_opsetid("", 23), helper.make_opsetid(DOMAIN, 1)]
        return Operator(helper.make_model(graph, opset_imports=opsets, ir_version=10), kernel_library)

    return make
