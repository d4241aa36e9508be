"""Where each map points, as a table: CSV, or JSON.

Columns: `index` and `time_seconds` of the frame; `peak_x`, `peak_y` and `peak_value` of the map's largest value;
`centre_x` and `centre_y`, its centre of mass. Positions are in pixels of the source and count pixel centres: (0, 0) is
the centre of the top left pixel. Values are the engine's, in the predictor's normalisation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from dtfsal.engines.errors import OutputError
from dtfsal.runtime.frontend.preprocess import Rgb
from dtfsal.runtime.media.writer import atomic_output
from dtfsal.runtime.predict.maps import map_statistics
from dtfsal.runtime.predict.prediction import SaliencyFrame
from dtfsal.runtime.sinks.base import SinkContext, Write

STANDARD_OUTPUT = Path("-")
COLUMNS = ("index", "time_seconds", "peak_x", "peak_y", "peak_value", "centre_x", "centre_y")


def table_row(frame: SaliencyFrame, height: int, width: int) -> dict[str, float]:
    """One frame's row: times to the microsecond, positions to a thousandth of a pixel, seven digits of the value."""
    statistics = dataclasses.asdict(map_statistics(frame.saliency_map, height, width))
    row: dict[str, float] = {"index": frame.index, "time_seconds": round(frame.time_seconds, 6)}
    for name, value in statistics.items():
        row[name] = float(f"{value:.7g}") if name == "peak_value" else round(value, 3)
    return {name: row[name] for name in COLUMNS}


@contextlib.contextmanager
def _table(path: Path) -> Iterator[TextIO]:
    """The text file of a table, or standard output."""
    if path != STANDARD_OUTPUT:
        with atomic_output(path) as partial, partial.open("w", encoding="ascii", newline="") as stream:
            yield stream
        return
    if sys.stdout is None:
        raise OutputError("there is no standard output to write to; name a file")
    yield sys.stdout
    sys.stdout.flush()


@contextlib.contextmanager
def csv_sink(path: Path, context: SinkContext) -> Iterator[Write]:
    """A table with a header line, comma-separated, a line feed after each line."""
    with _table(path) as stream:
        stream.write(",".join(COLUMNS) + "\n")

        def write(frame: SaliencyFrame, _rgb: Rgb | None) -> None:
            row = table_row(frame, context.source.height, context.source.width)
            stream.write(",".join(str(value) for value in row.values()) + "\n")

        yield write


@contextlib.contextmanager
def json_sink(path: Path, context: SinkContext) -> Iterator[Write]:
    """An object with `model`, `normalisation`, `source` (name, width, height) and `frames`, a list of rows."""
    head = {
        "model": context.model_name,
        "normalisation": context.map_normalisation,
        "source": {
            "name": Path(context.source.path).name,
            "width": context.source.width,
            "height": context.source.height,
        },
    }
    with _table(path) as stream:
        stream.write(json.dumps(head)[:-1] + ', "frames": [')
        separator = "\n"

        def write(frame: SaliencyFrame, _rgb: Rgb | None) -> None:
            nonlocal separator
            row = table_row(frame, context.source.height, context.source.width)
            stream.write(separator + json.dumps(row))
            separator = ",\n"

        yield write
        stream.write("\n]}\n")
