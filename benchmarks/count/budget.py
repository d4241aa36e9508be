"""Counts that must not grow unnoticed, against a committed budget: FLOPs, parameters, nodes, sizes, allocations.

They are the same on any machine: a slow or busy one fails nothing. Growth over a count's slack fails; what shrank is
said, so that the budget can follow (`dtfsal benchmark budget --update`).
"""

import json
import tracemalloc
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from dtfsal.benchmarks.count.flops import count
from dtfsal.engines import Manifest, read_bundle
from dtfsal.engines.bundle.manifest import GRAPH_TARGETS
from dtfsal.engines.errors import MALFORMED, UsageError
from dtfsal.runtime.predict.predictor import SaliencyPredictor

BUDGET_FILE = Path(__file__).with_name("budgets.json")
PRESETS = ("tiny", "lite", "dtfsal-v", "dtfsal")
# By how much a count of a kind may grow, as a share. Sizes hold names and metadata that vary with versions of the
# exporter, what Python holds varies with those of Python and NumPy, instructions with that of the C library.
SLACK = {
    "flops": 0.0,
    "parameters": 0.0,
    "nodes": 0.0,
    "bytes": 0.01,
    "allocations": 2.0,  # few, and mostly of Python's own caches: a block that a map leaves behind makes it many
    "held": 0.5,
    "instructions": 0.02,
}
WARM_UP_MAPS, COUNTED_MAPS = 12, 8


def model_counts(presets: Sequence[str] = PRESETS) -> dict[str, int]:
    """Parameters and operations of models, part by part, counted without running them."""
    found = {}
    for preset in presets:
        report = count(preset)
        for name, cost in {**report.parts, "all": report.total}.items():
            found[f"{preset}/{name}/parameters"] = cost.parameters
            found[f"{preset}/{name}/products/flops"] = cost.true_flops
            found[f"{preset}/{name}/other/flops"] = cost.other_operations
        found[f"{preset}/all/other/flops"] = report.other_operations
    return found


def engine_counts(engine: Path) -> dict[str, int]:
    """Nodes by graph and operator, and bytes by file, of an engine.

    Raises:
        EngineError: it is not an engine.
    """
    bundle = read_bundle(engine)
    manifest = bundle.manifest
    name = f"{_model(manifest)}-{manifest.target}-{manifest.precision}"
    sizes = {file: record.size_bytes for file, record in sorted(manifest.files.items()) if file.startswith("model")}
    found = {f"{name}/{file}/bytes": size for file, size in sizes.items()}
    if manifest.target in GRAPH_TARGETS:
        for graph, spec in manifest.graphs.items():
            model = onnx.load(bundle.file(spec.file), load_external_data=False)
            operators = Counter(node.op_type for node in model.graph.node)
            found |= {f"{name}/{graph}/{operator}/nodes": number for operator, number in operators.items()}
            found[f"{name}/{graph}/all/nodes"] = operators.total()
    return found


def allocation_counts(engine: Path, *, trust: bool = False) -> dict[str, int]:
    """Python's memory on the way from frames to maps in a steady stream with an engine, over `COUNTED_MAPS` maps.

    The frames are grey and the sound is silence: what the engine's back end holds itself is not counted.

    Returns:
        Blocks more than before, summed over the lines of code that hold more; and bytes held at most beyond those held
        before.
    """
    with SaliencyPredictor(engine, threads=1, trust=trust) as predictor:
        clip = predictor.clip
        picture = np.full((clip.height, clip.width, 3), 128, np.uint8)
        number = 2 * clip.frames + WARM_UP_MAPS + COUNTED_MAPS
        with predictor.predict_frames((picture for _ in range(number)), frame_rate_hz=clip.frame_rate_hz) as maps:
            tracemalloc.start()
            try:
                for _ in range(WARM_UP_MAPS):
                    next(maps)
                before = tracemalloc.take_snapshot()
                tracemalloc.reset_peak()
                held, _ = tracemalloc.get_traced_memory()
                for _ in range(COUNTED_MAPS):
                    next(maps)
                _, most = tracemalloc.get_traced_memory()
                after = tracemalloc.take_snapshot()
            finally:
                tracemalloc.stop()
        name = f"{_model(predictor.engine.manifest)}/{COUNTED_MAPS} maps"
    grown = sum(max(0, line.count_diff) for line in after.compare_to(before, "lineno"))
    return {f"{name}/allocations": grown, f"{name}/held": most - held}


def _model(manifest: Manifest) -> str:
    """A model with the size of its window: counts of another size are others."""
    return f"{manifest.model_name}-{manifest.clip.frames}x{manifest.clip.height}x{manifest.clip.width}"


def check(counts: Mapping[str, int], budget: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Hold counts to a budget.

    Returns:
        What is wrong (grown, or not in the budget), and what has shrunk, a sentence each.
    """
    wrong, shrunk = [], []
    for name, value in counts.items():
        if name not in budget:
            wrong.append(f"{name} is {value} and has no budget")
            continue
        allowed = budget[name] * (1 + SLACK[name.rsplit("/", 1)[-1]])
        if value > allowed:
            wrong.append(
                f"{name} is {value}, over its budget of {budget[name]} ({value / max(budget[name], 1) - 1:+.2%})"
            )
        elif value < budget[name]:
            shrunk.append(f"{name} is {value}, under its budget of {budget[name]}")
    return wrong, shrunk


def read_budget(path: Path = BUDGET_FILE) -> dict[str, int]:
    """The budget.

    Raises:
        UsageError: the file is not a budget.
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        if not all(type(value) is int and name.rsplit("/", 1)[-1] in SLACK for name, value in values.items()):
            raise ValueError("a count is not a whole number, or its kind is unknown")
    except (OSError, *MALFORMED) as error:
        raise UsageError(f"{path} is not a budget: {error}") from error
    return values
