"""What NVIDIA's Polygraphy needs to hold any of its runners to the PyTorch model, by the measures of saliency.

`docs/how-to/building.md` shows the call of `polygraphy run`.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from dtfsal.benchmarks.accuracy.parity import Bars, compare, worst
from dtfsal.benchmarks.measure.engine_runs import Inputs
from dtfsal.engines.bundle.places import require_outside_engines
from dtfsal.engines.errors import OutputError, UnavailableError
from dtfsal.engines.partial import partial_folder, replace_folder
from dtfsal.training.model.network import DTFSal

_SCRIPT = '''"""Written by `dtfsal parity --polygraphy`: do two runs give the same maps, by the bars of {precision}?"""

from dtfsal.benchmarks.accuracy.parity import Bars
from dtfsal.benchmarks.accuracy.polygraphy_files import comparison

compare_outputs = comparison({bars!r})
'''


def write_polygraphy_files(folder: Path, model: DTFSal, windows: list[Inputs], bars: Bars, precision: str) -> None:
    """Write windows.json, pytorch.json (their maps) and compare.py.

    Args:
        folder: a new one.
        model: the reference.
        windows: inputs of batch size 1 by name.
        bars: what the maps must meet.
        precision: whose bars they are, for the reader.

    Raises:
        UnavailableError: Polygraphy is not installed.
        OutputError: the folder exists.
    """
    try:
        from polygraphy.comparator import IterationResult, RunResults
        from polygraphy.json import save_json
        from polygraphy.logger import G_LOGGER
    except ImportError as error:
        raise UnavailableError("--polygraphy needs Polygraphy: pip install 'dtfsal[polygraphy]'") from error
    require_outside_engines(folder)
    if folder.exists():
        raise OutputError(f"{folder} exists; name a new folder")
    maps = []
    for inputs in windows:
        with torch.no_grad():
            tensors = [torch.from_numpy(inputs[name]) for name in ("video", "audio") if name in inputs]
            made = {"saliency_map": model(*tensors).numpy()}
        maps.append(IterationResult(outputs=made, runner_name="pytorch"))
    with partial_folder(folder) as partial, G_LOGGER.verbosity(G_LOGGER.ERROR):
        save_json(windows, str(partial / "windows.json"))
        RunResults([("pytorch", maps)]).save(str(partial / "pytorch.json"))
        (partial / "compare.py").write_text(_SCRIPT.format(bars=bars, precision=precision))
        replace_folder(partial, folder)


def comparison(bars: Bars) -> Callable[[Mapping[str, Any], Mapping[str, Any]], OrderedDict[str, bool]]:
    """What Polygraphy's `--compare-func-script` takes: CC, KL, SIM and the peak's shift of two runs' maps."""

    def compare_outputs(first: Any, second: Any) -> OrderedDict[str, bool]:
        found = OrderedDict()
        for name in first:
            result = worst([compare(a[0], b[0]) for a, b in zip(first[name], second[name], strict=True)])
            misses = bars.misses(result)
            print(  # noqa: T201 - Polygraphy shows what a comparison prints
                f"{name}: CC {result.cc:.6f}, KL {result.kl:.3g}, SIM {result.sim:.6f}, "
                f"peak shift {result.peak_shift_pixels:.2f} px, max abs error {result.max_abs_error:.3g}"
                + (f"; {'; '.join(misses)}" if misses else "")
            )
            found[name] = not misses
        return found

    return compare_outputs
