import subprocess
import sys

import pytest

import dtfsal.engines

HEAVY = ("torch", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "av", "PIL", "scipy", "dtfsal.runtime")


def loaded_after(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "statement", ["import dtfsal.engines", "from dtfsal.engines import *", "import dtfsal.engines.onnx_runtime.engine"]
)
def test_importing_engines_loads_no_back_end(statement):
    modules = loaded_after(statement)
    assert "dtfsal.engines.bundle.folder" in modules
    assert sorted(modules.intersection(HEAVY)) == []


def test_opening_an_engine_loads_its_back_end_and_nothing_else(make_bundle):
    statement = f"from dtfsal.engines import open_engine\nopen_engine({str(make_bundle())!r}, threads=1).close()"
    assert sorted(loaded_after(statement).intersection(HEAVY)) == ["onnxruntime"]


def test_public_names_exist():
    assert sorted(dtfsal.engines.__all__) == sorted(set(dtfsal.engines.__all__))
    for name in dtfsal.engines.__all__:
        assert getattr(dtfsal.engines, name) is not None
