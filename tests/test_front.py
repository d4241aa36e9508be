"""The public names of `dtfsal` itself: they are there, and asking for the package loads nothing else."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import dtfsal


def loaded_after(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_the_import_loads_nothing_else():
    modules = loaded_after("import dtfsal")
    assert sorted(modules & {"numpy", "torch", "onnxruntime", "av"}) == []
    assert sorted(name for name in modules if name.startswith("dtfsal.")) == []


@pytest.mark.parametrize("name", ["SaliencyPredictor", "StreamPredictor", "open_engine"])
def test_the_runtimes_names_load_no_torch(name):
    assert "torch" not in loaded_after(f"from dtfsal import {name}")


def test_the_model_loads_no_gpus_module():
    modules = loaded_after("from dtfsal import build_model")
    assert "torch" in modules
    assert sorted(name for name in modules if name.startswith(("dtfsal.engines.gpu", "dtfsal.engines.native"))) == []


def test_names_are_those_of_the_rooms():
    from dtfsal.engines import open_engine
    from dtfsal.runtime import SaliencyPredictor, StreamPredictor
    from dtfsal.training import build_model

    assert dtfsal.SaliencyPredictor is SaliencyPredictor
    assert dtfsal.StreamPredictor is StreamPredictor
    assert dtfsal.open_engine is open_engine
    assert dtfsal.build_model is build_model
    assert dtfsal.__version__ == version("dtfsal")


def test_names_are_listed():
    assert set(dtfsal.__all__) <= set(dir(dtfsal))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = dtfsal.nothing


def test_a_room_has_one_name(tmp_path):
    """The checkout is not on the path, or `import training` would load a module a second time."""
    done = subprocess.run([sys.executable, "-E", "-c", "import training"], cwd=tmp_path, capture_output=True, text=True)
    assert "No module named 'training'" in done.stderr
