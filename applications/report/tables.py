"""A report's tables: a row for each frame, as CSV and Parquet, and a row for each area."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dtfsal.applications.areas.shares import AreaSummary
from dtfsal.applications.report.measures import GENERAL, FrameMeasures
from dtfsal.engines.errors import UnavailableError

_BATCH = 4096  # rows of a Parquet group, so that memory does not grow
WriteFrame = Callable[[FrameMeasures], None]


def frame_columns(areas: Sequence[str], *, banded: bool) -> list[str]:
    """The names of a frame's columns; an area's is `share NAME`, so that no name passes for another column."""
    series = [*GENERAL, *(f"share {name}" for name in areas)]
    bands = [f"{name} {end}" for end in ("low", "high") for name in series] if banded else []
    return ["index", "time_seconds", "peak_x", "peak_y", *series, *bands]


def frame_row(measures: FrameMeasures) -> list[float | None]:
    """A frame's cells: times to the microsecond, positions to a thousandth of a pixel."""
    bands = (*(measures.low or ()), *(measures.high or ()))
    return [
        measures.index,
        round(measures.time_seconds, 6),
        round(measures.peak_x, 3),
        round(measures.peak_y, 3),
        *measures.values,
        *bands,
    ]


@contextlib.contextmanager
def frames_csv(path: Path, areas: Sequence[str], *, banded: bool) -> Iterator[WriteFrame]:
    """A CSV file with a row for each frame; a hidden area's cell is empty."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(frame_columns(areas, banded=banded))
        yield lambda measures: writer.writerow(frame_row(measures))


@contextlib.contextmanager
def frames_parquet(path: Path, areas: Sequence[str], *, banded: bool) -> Iterator[WriteFrame]:
    """A Parquet file with the same columns; a hidden area's cell is null.

    Raises:
        UnavailableError: pyarrow is not installed.
    """
    arrow, parquet = _pyarrow()
    names = frame_columns(areas, banded=banded)
    schema = arrow.schema([(name, arrow.int64() if name == "index" else arrow.float64()) for name in names])
    rows: list[list[float | None]] = []
    with parquet.ParquetWriter(path, schema) as writer:

        def flush() -> None:
            columns = zip(*rows, strict=True) if rows else ([] for _ in names)
            arrays = [arrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
            rows.clear()

        def write(measures: FrameMeasures) -> None:
            rows.append(frame_row(measures))
            if len(rows) == _BATCH:
                flush()

        yield write
        flush()


def require_parquet() -> None:
    """Check, before any work, that Parquet can be written.

    Raises:
        UnavailableError: pyarrow is not installed.
    """
    _pyarrow()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UnavailableError("Parquet needs pyarrow: run `pip install 'dtfsal[report]'`") from error
    return pyarrow, pyarrow.parquet


def write_areas_csv(path: Path, summaries: Sequence[AreaSummary]) -> None:
    """A CSV file with a row for each area, in the order of their ranks; see `AreaSummary`."""
    names = [field.name for field in dataclasses.fields(AreaSummary)]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        for summary in sorted(summaries, key=lambda summary: summary.rank):
            writer.writerow([_plain_cell(getattr(summary, name)) for name in names])


def _plain_cell(value: Any) -> Any:
    """A cell that no spreadsheet runs: text that it would take for a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@" else value
