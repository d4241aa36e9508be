"""What `dtfsal build` and `dtfsal refit` share: the arguments of a result, progress, the end of a report."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtfsal.engines.bundle.manifest import Manifest


def add_result_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --output, --force, --inspect, --json and --quiet."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder of the new engine")
    parser.add_argument("--force", action="store_true", help="replace an engine that exists at the output")
    parser.add_argument(
        "--inspect",
        action="store_true",
        help="list the layers: of the graph, and of the engine where a GPU can read it",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def weights_file(weights: Path) -> Path:
    """The file of --weights, downloaded where it names a repository of a hub and no file here.

    Raises:
        DtfsalError: the repository's weights cannot be had; see `fetch_weights`.
    """
    from dtfsal.engines.bundle.hub import fetch_weights, parse_repository

    if weights.exists() or (repository := parse_repository(str(weights))) is None:
        return weights
    return fetch_weights(repository)


def print_engine(args: argparse.Namespace, manifest: "Manifest", started: float) -> int:
    """Print what was written, with its layers for --inspect. Returns 0.

    Args:
        args: with those of `add_result_arguments`.
        manifest: the engine's.
        started: when the work began, by `time.perf_counter`.
    """
    layers = _layers(args.output, manifest) if args.inspect else None
    seconds = time.perf_counter() - started
    if args.json:
        result = {"engine": str(args.output), "seconds": seconds, "manifest": json.loads(manifest.to_json())}
        print(json.dumps(result | ({"layers": layers} if layers is not None else {}), indent=2))
    else:
        for layer in layers or []:
            print("  ".join(str(value) for value in layer.values()))
        what = f"{manifest.model_name}, {manifest.precision}, {manifest.target}"
        print(f"{args.output}: {what}, {manifest.size_bytes / 2**20:.1f} MiB, {seconds:.0f} s")
    return 0


def _layers(output: Path, manifest: "Manifest") -> list[dict[str, Any]]:
    """The layers of what was built, graph by graph: the builder's report, or the graph's nodes."""
    import onnx

    from dtfsal.export.builder import beside_graph

    layers: list[dict[str, Any]] = []
    for graph in manifest.graphs.values():
        report = output / f"{beside_graph(Path(graph.file).stem, 'layers')}.json"
        if report.name in manifest.files:
            layers += json.loads(report.read_text())
        else:
            nodes = onnx.load(output / graph.file, load_external_data=False).graph.node
            layers += [{"name": node.name, "type": node.op_type} for node in nodes]
    return layers


class Stages:
    """Progress on stderr: a bar for the builder's steps on a terminal, a line per stage elsewhere.

    Args:
        quiet: for neither.
        doing: what is being done, in a word.
    """

    def __init__(self, *, quiet: bool, doing: str = "building") -> None:
        self._quiet, self._doing = quiet, doing
        self._terminal = sys.stderr.isatty()
        self._stage = ""
        self._bar = None

    def __enter__(self) -> "Stages":
        from tqdm import tqdm

        if not self._quiet and self._terminal:
            self._bar = tqdm(total=0, bar_format="{desc} [{elapsed}]", leave=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, stage: str, done: int, steps: int) -> None:
        """Show a stage, and how many of its steps are done if it has any."""
        if self._bar is not None:
            self._bar.set_description_str(f"{self._doing}: {stage}" + (f" {done}/{steps}" if steps else ""))
        elif not self._quiet and not steps and stage != self._stage:
            print(f"dtfsal: {self._doing}: {stage}", file=sys.stderr, flush=True)
        self._stage = stage
