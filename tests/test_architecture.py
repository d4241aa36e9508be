"""Who may import whom, read from the sources: imports inside functions and type-checking blocks count too."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("training", "export", "engines", "runtime", "benchmarks")

# What each room may import of the others: the room's name, or modules of it.
ALLOWED: dict[str, set[str]] = {
    "engines": set(),
    "runtime": {"engines"},
    # Of the runtime the front-end, and the writer of videos for `dtfsal synth`.
    "training": {
        "engines.specs",
        "runtime.media",
        "runtime.preprocess",
        "runtime.windows",
        "runtime.errors",
        "runtime.writer",
    },
    "export": {"training", "engines"},
    "benchmarks": {"training", "export", "engines", "runtime"},
}
# Packages that a room must do without: the light runtime has neither the training nor the export dependencies.
FORBIDDEN_PACKAGES: dict[str, set[str]] = {
    "engines": {"torch", "torchvision", "torchaudio", "onnx", "onnxscript", "safetensors", "scipy"},
    "runtime": {"torch", "torchvision", "torchaudio", "onnx", "onnxscript", "safetensors", "scipy"},
}
EVERYWHERE_FORBIDDEN = {"skvideo", "pickle", "torchvision", "torchaudio"}
# What a benchmark may measure itself against, where it is installed and loads.
MEASURED_AGAINST = {("dtfsal.benchmarks.gpu_kernels", "torchvision")}
# Top-level modules that the rooms, their tests or their tools import; a file of that name beside a script hides them.
THIRD_PARTY = {
    "PIL", "av", "cuda", "cv2", "cycler", "dtfsal", "h5py", "hypothesis", "lightning_fabric", "matplotlib", "ml_dtypes",
    "modelopt", "mypy", "numpy", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "openvino", "pandas", "polygraphy",
    "pytest", "ray", "ruff", "safetensors", "scipy", "setuptools", "skvideo", "tensorrt", "tensorrt_lean",
    "tensorrt_rtx", "torch", "torchaudio", "torchvision", "tqdm", "yaml",
}  # fmt: skip


def sources(room: str) -> list[Path]:
    return sorted(p for p in (ROOT / room).rglob("*.py") if "__pycache__" not in p.parts)


def module_name(file: Path) -> str:
    parts = ("dtfsal", *file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(code: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Every dotted name that the code imports, with its line; `from a import b` gives both a and a.b.

    Imports by string count where the string is a literal: `importlib.import_module("a")`, `__import__("a")`.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, origin
            for alias in node.names:
                yield node.lineno, f"{origin}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def is_allowed(name: str, room: str) -> bool:
    """Whether a room may import a dotted name that begins with "dtfsal."."""
    target = name.removeprefix("dtfsal.")
    if target == "dtfsal" or target.split(".")[0] == room:
        return True
    return any(target == allowed or target.startswith(f"{allowed}.") for allowed in ALLOWED[room])


def violations(code: str, module: str, room: str, is_package: bool = False) -> list[str]:
    found = []
    names = list(imported(code, module, is_package))
    for line, name in names:
        top = name.split(".")[0]
        # `from dtfsal.runtime import windows` gives dtfsal.runtime too; the longer name is the one to judge.
        is_prefix = any(line == other_line and other.startswith(f"{name}.") for other_line, other in names)
        if top == "dtfsal" and not is_prefix and not is_allowed(name, room):
            found.append(f"{module}:{line} imports {name}")
        forbidden = FORBIDDEN_PACKAGES.get(room, set()) | EVERYWHERE_FORBIDDEN
        if top in forbidden and (module, top) not in MEASURED_AGAINST:
            found.append(f"{module}:{line} imports {top}")
        if top in ROOMS:
            found.append(f"{module}:{line} imports {name} without dtfsal in front")
    return sorted(set(found))


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_they_may(room):
    files = sources(room)
    assert files, f"the folder {room} is missing"
    found = [
        violation
        for file in files
        for violation in violations(file.read_text(), module_name(file), room, file.name == "__init__.py")
    ]
    assert found == []


@pytest.mark.parametrize("room", ROOMS)
def test_no_file_hides_a_top_level_module(room):
    """`python export/build_engine.py` puts export/ first on the path, so export/onnx.py would be `import onnx`."""
    taken = THIRD_PARTY | set(sys.stdlib_module_names) | set(ROOMS)
    names = [p for p in (ROOT / room).rglob("*") if p.suffix == ".py" or (p.is_dir() and list(p.glob("*.py")))]
    hiding = [str(p.relative_to(ROOT)) for p in names if p.stem in taken and p.name != "__init__.py"]
    assert hiding == []


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_typed_packages(room):
    assert (ROOT / room / "__init__.py").is_file()
    assert (ROOT / room / "py.typed").is_file()


def test_the_list_of_modules_holds_what_the_rooms_import():
    """A new dependency must be added to THIRD_PARTY, so that the test above knows its name."""
    tops = {
        name.split(".")[0]
        for room in ROOMS
        for file in sources(room)
        for _, name in imported(file.read_text(), module_name(file), file.name == "__init__.py")
    }
    assert sorted(tops - THIRD_PARTY - set(sys.stdlib_module_names)) == []


# The checks themselves, on code that breaks each rule.


@pytest.mark.parametrize(
    ("room", "code"),
    [
        ("engines", "import dtfsal.runtime"),
        ("engines", "from dtfsal import runtime"),
        ("engines", "def f():\n    import torch.nn as nn"),
        ("engines", "from ..runtime import media"),
        ("engines", "import importlib\nimportlib.import_module('torch')"),
        ("engines", "from onnx import helper"),
        ("runtime", "if TYPE_CHECKING:\n    from dtfsal.training import model"),
        ("runtime", "from torch import Tensor"),
        ("training", "from dtfsal.engines import ClipSpec"),
        ("training", "from dtfsal.engines.errors import UsageError"),
        ("training", "from dtfsal.runtime import SaliencyPredictor"),
        ("training", "import dtfsal.runtime"),
        ("training", "from dtfsal.runtime.predictor import SaliencyPredictor"),
        ("training", "from dtfsal.runtime import media, predictor"),
        ("training", "import pickle"),
        ("export", "from dtfsal.runtime.windows import ClipSpec"),
        ("export", "import training.model"),
    ],
)
def test_the_rules_catch(room, code):
    assert violations(code, f"dtfsal.{room}.module", room)


@pytest.mark.parametrize(
    ("room", "code"),
    [
        ("engines", "from dtfsal.engines.errors import EngineError\nimport numpy"),
        ("engines", "from .errors import EngineError"),
        ("runtime", "from dtfsal.engines import open_engine\nfrom . import media"),
        ("training", "from dtfsal.runtime import windows\nfrom dtfsal.runtime.preprocess import log_mel\nimport torch"),
        ("export", "from dtfsal.training import build_model\nimport dtfsal.engines.bundle"),
        ("benchmarks", "import dtfsal.export, dtfsal.runtime"),
    ],
)
def test_the_rules_let_pass(room, code):
    assert violations(code, f"dtfsal.{room}.module", room) == []
