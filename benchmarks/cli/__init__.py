"""`dtfsal benchmark KIND`: one module of this package for each kind, with HELP, configure(parser) and run(args).

`parity.py` and `recommend.py` are commands of their own: `dtfsal parity` and `dtfsal recommend`.
"""

import argparse
import importlib
from types import ModuleType

from dtfsal.benchmarks.cli import common

HELP = "measure FLOPs, latency, layers, live speed, accuracy against speed, and all of it on a GPU"
# In the order of the help; importing a kind's module must be quick.
KINDS = (
    "flops",
    "latency",
    "layers",
    "scaling",
    "stages",
    "live",
    "stream",
    "stream-memory",
    "stability",
    "delay",
    "gpu",
    "pareto",
    "compare",
    "budget",
    "refresh",
)
EXAMPLES = """\
examples:
  dtfsal benchmark flops --preset dtfsal
  dtfsal benchmark flops --preset dtfsal --engine dtfsal.engine --roofline --output flops.json
  dtfsal benchmark latency --preset lite --runs 20
  dtfsal benchmark latency --preset dtfsal --runs 5 --output benchmarks/results/latency-dtfsal-cpu.json
  dtfsal benchmark latency --preset lite --form "eager plain" --form "ONNX Runtime fp32" --batch-size 4 --threads 2
  dtfsal benchmark layers --engine lite.engine --output layers.json
  dtfsal benchmark scaling --preset lite --form eager --vary size --output size.json
  dtfsal benchmark stages --engine lite.engine --video clip.mp4 --stride 1 --stride 4
  dtfsal benchmark live --engine lite.engine --video clip.mp4
  dtfsal benchmark live --engine lite.engine --without-reuse lite-window.engine --video clip.mp4 --runs 3
  dtfsal benchmark stream --engine lite.engine --video clip.mp4
  dtfsal benchmark stream-memory --engine lite.engine --video clip.mp4 --frames 100000 --output memory.json
  dtfsal benchmark stability --engine lite.engine --video a.mp4 --video b.mp4
  dtfsal benchmark delay --engine lite.engine --stills data/osie --output delay.json
  dtfsal benchmark pareto --engine lite.engine --engine lite-int8.engine --video clip.mp4 --output pareto.json
  dtfsal benchmark compare before.json after.json
  dtfsal benchmark budget --engine lite.engine
  dtfsal benchmark gpu --output benchmarks/results/gpu-rtx4090.json
  dtfsal benchmark gpu --preset dtfsal --batch-size 1 --runs 5 --engine "TensorRT-RTX fp16"
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kinds and their arguments."""
    parser.description = "Measure a model."
    parser.epilog = EXAMPLES
    kinds = parser.add_subparsers(dest="kind", required=True, metavar=f"{{{','.join(KINDS)}}}")
    for name in KINDS:
        module = _module(name)
        kind = kinds.add_parser(name, help=module.HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
        kind.description = module.HELP[0].upper() + module.HELP[1:] + "."
        kind.set_defaults(parser=kind)
        module.configure(kind)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    common.check_counts(args)
    return int(_module(args.kind).run(args))


def _module(kind: str) -> ModuleType:
    return importlib.import_module(f"dtfsal.benchmarks.cli.{kind.replace('-', '_')}")
