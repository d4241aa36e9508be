"""What an engine runs, step by step, and which ONNX nodes each step computes.

With a GPU the engine says so itself (`steps_of_inspector`). Without one nothing can read an engine but the eye: the
file of a TensorRT-RTX engine holds the schedule of its compiler in plain text, a line for each step with the kernel's
name and the nodes, and that is what `steps_of_plan` reads. The text is no documented format: what does not look as
expected gives None, and the report says "not known".

    main {
     label bb1234:
      function={ name=_gemm_mha_v2 ... stream=0 ... layers="[ONNX Layer: encoder.blocks.0.attn/Attention.65]" ... }
      corrltn={ name="encoder.conv_proj/Conv.0" ... nbr_groups=1 ... layers="[ONNX Layer: encoder.conv_proj/Conv.0]" }
    }
"""

import dataclasses
import mmap
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

StepKind = Literal[
    "attention", "convolution", "matrix product", "fused product", "pooling", "resize", "plugin", "generated", "other"
]

_SECTION = re.compile(rb"\nmain \{\n(.*?)\n\}", re.DOTALL)
_LINE = re.compile(r"^\s+(\w+)=\{ (.*) \}\s*$")
_NAME = re.compile(r'\bname="?([^"\s]+)')
_LAYERS = re.compile(r'\blayers="([^"]*)"')
_GROUPS = re.compile(r"\bnbr_groups=(\d+)")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_MHA = re.compile(r"mha|flash|attention", re.IGNORECASE)
_BETWEEN_STREAMS = {"signal", "wait"}
_SHAPES = {"shape_call"}  # arithmetic on shapes, on the host
# The compiler's words for steps whose kernel a library gives, and what they are.
_LIBRARY_STEPS: Mapping[str, StepKind] = {
    "corrltn": "convolution",
    "fully_connected": "matrix product",
    "maxpool": "pooling",
    "runtime_fusion": "fused product",
}


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of an engine: one kernel launch, or a library's call.

    Attributes:
        name: the kernel's name, or the node's whose kernel a library gives.
        kind: "attention" is a fused kernel for a whole attention, "fused product" a matrix product or convolution with
            what follows it, "generated" a kernel that the compiler wrote for a chain of other operators.
        nodes: names of the ONNX nodes that it computes, wholly or in part.
        groups: of a convolution, else 1.
        milliseconds: its time where it was measured.
    """

    name: str
    kind: StepKind
    nodes: tuple[str, ...]
    groups: int = 1
    milliseconds: float | None = None


def steps_of_plan(path: Path) -> list[Step] | None:
    """The steps that the file of a TensorRT-RTX engine lists, in order; None if it lists none."""
    steps: list[Step] = []
    if not path.stat().st_size:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as plan:
        for section in _SECTION.finditer(plan):
            found = list(_steps_of_section(section[1].decode("utf-8", "replace")))
            # The bodies of fused products follow, as sections of their own, with nodes that were listed already.
            inner = {node for step in steps if step.kind in ("fused product", "resize") for node in step.nodes}
            if not {node for step in found for node in step.nodes} <= inner:
                steps += found
    return steps or None


def _steps_of_section(text: str) -> Iterator[Step]:
    for line in text.splitlines():
        entry = _LINE.match(line)
        if entry is None or entry[1] in _BETWEEN_STREAMS | _SHAPES:
            continue
        word, fields = entry[1], entry[2]
        name, layers, groups = _NAME.search(fields), _LAYERS.search(fields), _GROUPS.search(fields)
        nodes = tuple(_NODE.findall(layers[1])) if layers else ()
        title = name[1] if name else word
        kind = _LIBRARY_STEPS.get(word) or _kind_of_kernel(title)
        yield Step(title, kind, nodes, int(groups[1]) if groups else 1)


def steps_of_inspector(layers: Sequence[Mapping[str, Any]]) -> list[Step]:
    """The steps that an engine's inspector lists (`trt.LayerInformationFormat.JSON`, detailed), TensorRT 10 and 11."""
    steps = []
    for layer in layers:
        name = str(layer.get("Name", layer.get("name", "")))
        nodes = tuple(_NODE.findall(str(layer.get("Metadata", ""))))
        steps.append(Step(name, _kind_of_layer(str(layer.get("LayerType", "")), name), nodes))
    return steps


def with_times(steps: Sequence[Step], profile: Sequence[Mapping[str, Any]]) -> list[Step]:
    """Steps with their times.

    Args:
        steps: of an engine.
        profile: as `trtexec --exportProfile` writes it: objects with `name` and `averageMs`, and others to skip.
    """
    times = {str(row["name"]): float(row["averageMs"]) for row in profile if "name" in row and "averageMs" in row}
    return [dataclasses.replace(step, milliseconds=times.get(step.name)) for step in steps]


def _kind_of_kernel(name: str) -> StepKind:
    if _MHA.search(name):
        return "attention"
    return "resize" if name.startswith("__myl_Resi") else "generated"


def _kind_of_layer(layer_type: str, name: str) -> StepKind:
    word = layer_type.lower()
    if _MHA.search(name) and "Attention" not in name:  # a kernel's name, not an ONNX node's
        return "attention"
    for part, kind in _LAYER_WORDS.items():
        if part in word:
            return kind
    return "generated" if name.startswith("__myl") else "other"


_LAYER_WORDS: Mapping[str, StepKind] = {
    "plugin": "plugin",
    "conv": "convolution",
    "gemm": "matrix product",
    "matrix": "matrix product",
    "pool": "pooling",
    "resize": "resize",
    "kgen": "generated",
    "pointwise": "generated",
}
