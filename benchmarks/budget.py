"""Counts that must not grow unnoticed, held to a committed budget: FLOPs, parameters, nodes, sizes, allocations.

They are the same on any machine: a slow or busy one fails nothing. Growth over a count's slack fails; what shrank is
said, so that the budget can follow (`dtfsal benchmark budget --update`).
"""

import json
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from dtfsal.benchmarks.flops import count
from dtfsal.engines import read_bundle
from dtfsal.engines.errors import UsageError
from dtfsal.engines.manifest import GRAPH_TARGETS
from dtfsal.runtime.predictor import SaliencyPredictor

BUDGET_FILE = Path(__file__).with_name("budgets.json")
PRESETS = ("tiny", "lite", "dtfsal-v", "dtfsal")
# By how much a count of a kind may grow, as a share. Sizes hold names and metadata that vary with versions of the
# exporter; allocations vary with those of Python and NumPy.
SLACK = {"flops": 0.0, "parameters": 0.0, "nodes": 0.0, "bytes": 0.01, "allocations": 0.25}
WARM_UP_MAPS, COUNTED_MAPS = 12, 8


def model_counts(presets: Sequence[str] = PRESETS) -> dict[str, int]:
    """Parameters and operations of models, counted without running them."""
    found = {}
    for preset in presets:
        report = count(preset)
        found[f"{preset}/parameters"] = report.total.parameters
        found[f"{preset}/products/flops"] = report.total.true_flops
        found[f"{preset}/other/flops"] = report.other_operations
    return found


def engine_counts(engine: Path) -> dict[str, int]:
    """Nodes by graph, and bytes by file, of an engine.

    Raises:
        EngineError: it is none.
    """
    bundle = read_bundle(engine)
    manifest = bundle.manifest
    name = f"{manifest.model_name}-{manifest.target}-{manifest.precision}"
    sizes = {file: record.size_bytes for file, record in sorted(manifest.files.items()) if file.startswith("model")}
    found = {f"{name}/{file}/bytes": size for file, size in sizes.items()}
    if manifest.target in GRAPH_TARGETS:
        for graph, spec in manifest.graphs.items():
            nodes = onnx.load(bundle.file(spec.file), load_external_data=False).graph.node
            found[f"{name}/{graph}/nodes"] = len(nodes)
    return found


def allocation_counts(engine: Path) -> dict[str, int]:
    """Python's memory blocks that a map of a steady stream leaves behind or holds at most, with an engine.

    The frames are grey and the sound is silence: what is counted is the way from frames to maps, not the engine.
    """
    with SaliencyPredictor(engine, threads=1) as predictor:
        clip = predictor.clip
        picture = np.full((clip.height, clip.width, 3), 128, np.uint8)
        number = 2 * clip.frames + WARM_UP_MAPS + COUNTED_MAPS
        with predictor.predict_frames((picture for _ in range(number)), frame_rate_hz=clip.frame_rate_hz) as maps:
            for _ in range(WARM_UP_MAPS):
                next(maps)
            tracemalloc.start()
            try:
                before = tracemalloc.take_snapshot()
                for _ in range(COUNTED_MAPS):
                    next(maps)
                after = tracemalloc.take_snapshot()
            finally:
                tracemalloc.stop()
        name = predictor.engine.manifest.model_name
    grown = sum(max(0, line.count_diff) for line in after.compare_to(before, "lineno"))
    return {f"{name}/{COUNTED_MAPS} maps/allocations": grown}


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
        UsageError: the file is none.
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        if not all(type(value) is int and name.rsplit("/", 1)[-1] in SLACK for name, value in values.items()):
            raise ValueError("a count is no whole number, or of no known kind")
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{path} is no budget: {error}") from error
    return values
