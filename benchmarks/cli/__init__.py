"""`dtfsal benchmark KIND`.

`parity.py` and `recommend.py` are commands of their own: `dtfsal parity` and `dtfsal recommend`.
"""

import argparse
from collections.abc import Mapping

from dtfsal.benchmarks.cli import budget, common, compare, crops_and_regions, delay, gpu, kinds, refresh, serving
from dtfsal.benchmarks.cli.kinds import Kind

HELP = "measure FLOPs, latency, layers, live speed, accuracy against speed, and all of it on a GPU"
# In the order of the help.
KINDS: Mapping[str, Kind] = {
    "flops": kinds.FLOPS,
    "latency": kinds.LATENCY,
    "layers": kinds.LAYERS,
    "scaling": kinds.SCALING,
    "stages": kinds.STAGES,
    "live": kinds.LIVE,
    "stream": kinds.STREAM,
    "stream-memory": kinds.STREAM_MEMORY,
    "stability": kinds.STABILITY,
    "voices": kinds.VOICES,
    "delay": Kind(delay.HELP, delay.configure, delay.run),
    "reframe": crops_and_regions.REFRAME,
    "roi": crops_and_regions.ROI,
    "serving": Kind(serving.HELP, serving.configure, serving.run),
    "gpu": Kind(gpu.HELP, gpu.configure, gpu.run),
    "pareto": kinds.PARETO,
    "compare": Kind(compare.HELP, compare.configure, compare.run),
    "budget": Kind(budget.HELP, budget.configure, budget.run),
    "refresh": Kind(refresh.HELP, refresh.configure, refresh.run),
}
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
  dtfsal benchmark voices --engine lite.engine --video face.mp4
  dtfsal benchmark delay --engine lite.engine --stills data/osie --output delay.json
  dtfsal benchmark reframe --engine lite --video a.mp4 --video b.mp4 --output reframe.json
  dtfsal benchmark roi --engine lite --video a.mp4 --video b.mp4 --codec libx264 --output roi.json
  dtfsal benchmark serving --clients 1 --clients 8 --jobs 2
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
    subparsers = parser.add_subparsers(dest="kind", required=True, metavar=f"{{{','.join(KINDS)}}}")
    for name, kind in KINDS.items():
        described = f"{kind.help[0].upper()}{kind.help[1:]}."
        own = subparsers.add_parser(
            name, help=kind.help, description=described, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        own.set_defaults(parser=own)
        kind.configure(own)


def run(args: argparse.Namespace) -> int:
    """Measure; errors are for the caller to print."""
    common.check_counts(args)
    return KINDS[args.kind].run(args)
