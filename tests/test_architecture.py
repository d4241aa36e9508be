"""Who may import whom, read from the sources: imports inside functions and type-checking blocks count too.

`make tables` writes the table of rooms into CONTRIBUTING.md.
"""

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- rooms: written by `make tables` -->", "<!-- /rooms -->"


class Room(NamedTuple):
    """A folder at the top, what it is, and what it may import of the other rooms and must not import of packages."""

    holds: str
    may_import: tuple[str, ...]
    without: tuple[str, ...]


_NEVER = ("pickle", "skvideo", "torchaudio")
_LIGHT = (*_NEVER, "onnx", "onnxscript", "safetensors", "scipy", "torch", "torchvision")
ROOMS = {
    "engines": Room("what an engine is: the bundle on disk, one interface, its back ends, native code", (), _LIGHT),
    "runtime": Room("video and sound in, saliency out; the command line", ("engines",), _LIGHT),
    "training": Room(
        "the model in PyTorch, its data, training and evaluation",
        (
            "engines.errors",
            "engines.limits",
            "engines.partial",
            "engines.bundle.specs",
            "runtime.frontend",
            "runtime.media",
            "runtime.cli.progress",
        ),
        (*_NEVER, "torchvision"),
    ),
    "export": Room("weights to ONNX to engine", ("engines", "training.model"), (*_NEVER, "torchvision")),
    "applications": Room(
        "what is built on the predictor: each has an extra of its own",
        ("engines", "runtime"),
        (*_NEVER, "onnx", "onnxscript", "safetensors", "torch", "torchvision"),
    ),
    "benchmarks": Room("FLOPs, speed, accuracy", ("engines", "runtime", "training", "export", "applications"), _NEVER),
    "dtfsal": Room("the public names", ("engines", "runtime", "training"), _LIGHT),
}
# Top-level modules that the rooms, their tests or their tools import; a file of that name beside a script hides them.
THIRD_PARTY = {
    "PIL", "av", "cuda", "cv2", "cycler", "dtfsal", "fastapi", "google", "h5py", "httpx", "huggingface_hub",
    "hypothesis", "imageio_ffmpeg", "lightning_fabric", "matplotlib", "ml_dtypes", "modelopt", "mypy", "numpy", "onnx",
    "onnx_ir", "onnxruntime", "onnxscript", "openvino", "pandas", "polygraphy", "prometheus_client", "pyarrow",
    "pysaliency", "pytest", "python_multipart", "ray", "ruff", "safetensors", "scenedetect", "scipy", "setuptools",
    "skimage", "skvideo", "starlette", "tensorrt", "tensorrt_lean", "tensorrt_rtx", "torch", "torchaudio",
    "torchvision", "tqdm", "triton_python_backend_utils", "tritonclient", "uvicorn", "yaml",
}  # fmt: skip


def sources(room: str) -> list[Path]:
    if room == "dtfsal":
        return [ROOT / "dtfsal" / "__init__.py"]
    return sorted(p for p in (ROOT / room).rglob("*.py") if "__pycache__" not in p.parts)


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts if parts[0] == "dtfsal" else ("dtfsal", *parts))
    return name.removesuffix(".__init__")


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
    """Whether a room may import a dotted name that begins with "dtfsal"."""
    target = name.removeprefix("dtfsal.")
    return any(target == allowed or target.startswith(f"{allowed}.") for allowed in (room, *ROOMS[room].may_import))


def violations(code: str, module: str, room: str, is_package: bool = False) -> list[str]:
    found = []
    names = list(imported(code, module, is_package))
    for line, name in names:
        top = name.split(".")[0]
        # `from dtfsal.runtime import media` gives dtfsal.runtime too; the longer name is the one to judge.
        is_prefix = any(line == other_line and other.startswith(f"{name}.") for other_line, other in names)
        if top == "dtfsal" and not is_prefix and not is_allowed(name, room):
            found.append(f"{module}:{line} imports {name}")
        if top in ROOMS[room].without:
            found.append(f"{module}:{line} imports {top}")
        if top in ROOMS and top != "dtfsal":
            found.append(f"{module}:{line} imports {name} without dtfsal in front")
    return sorted(set(found))


def import_graph(sources: dict[str, tuple[str, bool]]) -> dict[str, set[str]]:
    """Each module's imports of the others; of `from a import b`, a.b where that is a module, else a.

    Args:
        sources: by module, its code and whether it is a package.
    """
    graph: dict[str, set[str]] = {}
    for module, (code, is_package) in sources.items():
        names = list(imported(code, module, is_package))
        longest = [
            name
            for line, name in names
            if not any(line == at and other.startswith(f"{name}.") and other in sources for at, other in names)
        ]
        found = {name if name in sources else name.rpartition(".")[0] for name in longest}
        graph[module] = {name for name in found if name in sources and name != module}
    return graph


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of imports, or nothing."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def folders(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The graph between the rooms' folders; modules that lie loose in a room stand for themselves."""

    def place(module: str) -> str:
        parts = module.split(".")
        in_folder = (ROOT / Path(*parts[1:3])).is_dir() and len(parts) > 2
        return ".".join(parts[:3]) if in_folder else module

    found: dict[str, set[str]] = {}
    for module, targets in graph.items():
        found.setdefault(place(module), set()).update({place(target) for target in targets} - {place(module)})
    return found


def whole_graph() -> dict[str, set[str]]:
    files = [file for room in ROOMS for file in sources(room)]
    return import_graph({module_name(file): (file.read_text(), file.name == "__init__.py") for file in files})


def rooms_table() -> str:
    """The table of CONTRIBUTING.md."""
    rows = ["| folder | package | what it holds | may import | never imports |", "|---|---|---|---|---|"]
    for name, room in ROOMS.items():
        package = name if name == "dtfsal" else f"dtfsal.{name}"
        others = ", ".join(f"`{other}`" for other in room.may_import) or "none of the others"
        without = ", ".join(f"`{other}`" for other in sorted(room.without))
        rows.append(f"| `{name}/` | `{package}` | {room.holds} | {others} | {without} |")
    return "\n".join(rows)


def with_rooms_table(text: str) -> str:
    """The text with the table between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"CONTRIBUTING.md has no {BEGIN}"
    assert end, f"CONTRIBUTING.md has no {END}"
    return f"{before}{BEGIN}\n{rooms_table()}\n{END}{after}"


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


def test_modules_import_in_one_direction():
    assert cycle(whole_graph()) == []


def test_folders_import_in_one_direction():
    assert cycle(folders(whole_graph())) == []


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "dtfsal"])
def test_no_file_hides_a_top_level_module(room):
    """`python export/build_engine.py` puts export/ first on the path, so export/onnx.py would be `import onnx`."""
    taken = THIRD_PARTY | set(sys.stdlib_module_names) | set(ROOMS)
    names = [p for p in (ROOT / room).rglob("*") if p.suffix == ".py" or (p.is_dir() and list(p.glob("*.py")))]
    hiding = [str(p.relative_to(ROOT)) for p in names if p.stem in taken and p.name != "__init__.py"]
    assert hiding == []


def test_the_package_is_typed_and_links_to_the_rooms():
    package = ROOT / "dtfsal"
    assert (package / "py.typed").is_file()
    links = {path.name: path.readlink().as_posix() for path in package.iterdir() if path.is_symlink()}
    assert links == {room: f"../{room}" for room in ROOMS if room != "dtfsal"}
    for folder in {file.parent for room in ROOMS for file in sources(room)}:
        assert (folder / "__init__.py").is_file(), f"{folder} is no package"


def test_the_list_of_modules_holds_what_the_rooms_import():
    """A new dependency must be added to THIRD_PARTY, so that the test above knows its name."""
    tops = {
        name.split(".")[0]
        for room in ROOMS
        for file in sources(room)
        for _, name in imported(file.read_text(), module_name(file), file.name == "__init__.py")
    }
    assert sorted(tops - THIRD_PARTY - set(sys.stdlib_module_names)) == []


def test_contributing_shows_the_table():
    text = CONTRIBUTING.read_text()
    assert with_rooms_table(text) == text, "run: make tables"


# The checks themselves, on code that breaks each rule.


@pytest.mark.parametrize(
    ("room", "code"),
    [
        ("engines", "import dtfsal.runtime"),
        ("engines", "from dtfsal import runtime"),
        ("engines", "from dtfsal import open_engine"),
        ("engines", "import dtfsal"),
        ("engines", "def f():\n    import torch.nn as nn"),
        ("engines", "from ..runtime import media"),
        ("engines", "import importlib\nimportlib.import_module('torch')"),
        ("engines", "from onnx import helper"),
        ("runtime", "if TYPE_CHECKING:\n    from dtfsal.training.model import network"),
        ("runtime", "from torch import Tensor"),
        ("training", "from dtfsal.engines import ClipSpec"),
        ("training", "from dtfsal.engines.bundle import manifest"),
        ("training", "from dtfsal.runtime import SaliencyPredictor"),
        ("training", "import dtfsal.runtime"),
        ("training", "from dtfsal.runtime.predict.predictor import SaliencyPredictor"),
        ("training", "from dtfsal.runtime import media, predict"),
        ("training", "from dtfsal.runtime.cli import common"),
        ("training", "import pickle"),
        ("training", "import torchvision"),
        ("export", "from dtfsal.runtime.frontend.windows import tap_times"),
        ("export", "from dtfsal.training.data import clips"),
        ("export", "import training.model"),
        ("runtime", "from dtfsal.applications.areas.model import Area"),
        ("applications", "from dtfsal.training.evaluation import metrics"),
        ("dtfsal", "from dtfsal.export.builder import build_engine"),
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
        ("training", "from dtfsal.engines.errors import UsageError\nfrom dtfsal.engines.bundle.specs import ClipSpec"),
        ("training", "from dtfsal.runtime import frontend\nfrom dtfsal.runtime.media.video import probe\nimport torch"),
        ("export", "from dtfsal.training.model.network import build_model\nimport dtfsal.engines.bundle"),
        ("benchmarks", "import dtfsal.export, dtfsal.runtime, torchvision"),
    ],
)
def test_the_rules_let_pass(room, code):
    assert violations(code, f"dtfsal.{room}.module", room) == []


@pytest.mark.parametrize(
    "code",
    [
        {"a": "import dtfsal.b", "b": "from dtfsal import a"},
        {"a": "from dtfsal.b import f", "b": "def f():\n    from dtfsal.a import g"},
        {"a": "from dtfsal.b import f", "b": "if TYPE_CHECKING:\n    from dtfsal.a import g"},
        {"a": "from . import b", "b": "import dtfsal.c", "c": "from dtfsal.a import g"},
    ],
)
def test_a_circle_is_found(code):
    assert cycle(import_graph({f"dtfsal.{name}": (text, False) for name, text in code.items()}))


def test_a_circle_of_folders_is_found():
    """No two modules import each other here, but their folders do."""
    graph = {"dtfsal.engines.cpu.a": {"dtfsal.engines.gpu.b"}, "dtfsal.engines.gpu.c": {"dtfsal.engines.cpu.d"}}
    assert cycle(graph) == []
    assert cycle(folders(graph))


if __name__ == "__main__":
    CONTRIBUTING.write_text(with_rooms_table(CONTRIBUTING.read_text()))
