"""Pictures of results: one look for all of them, PNG and SVG, each naming the JSON that it was drawn from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtfsal.engines.errors import UnavailableError
from dtfsal.runtime.media.writer import atomic_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which people who do not see all colours can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_STYLE = {
    "axes.grid": True,
    "axes.prop_cycle": None,  # filled in below: cycler comes with matplotlib
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "dtfsal",  # the same result gives the same file
}


@contextmanager
def new_figure(
    *, width: float = 7.0, height: float = 4.0, rows: int = 1, columns: int = 1
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure in the project's look and its axes, row by row; draw within the context.

    Args:
        width: inches.
        height: inches.
        rows: of axes.
        columns: of axes.

    Raises:
        UnavailableError: matplotlib is absent.
    """
    try:
        import matplotlib
        from cycler import cycler
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnavailableError(f"pictures need matplotlib ({error}): run `pip install 'dtfsal[benchmarks]'`") from error
    with matplotlib.rc_context({**_STYLE, "axes.prop_cycle": cycler(color=COLOURS)}):
        figure = Figure(figsize=(width, height))  # no pyplot: no window, no global state
        axes = figure.subplots(rows, columns, squeeze=False)
        yield figure, list(axes.flat)


def save(figure: Figure, path: Path, *, source: str) -> None:
    """Write a picture, whole or not at all; its suffix says PNG or SVG.

    Args:
        figure: from `new_figure`.
        path: of the picture.
        source: the JSON it was drawn from, written small below it and into the file's metadata.

    Raises:
        OutputError: the file cannot be written.
    """
    kind = path.suffix.removeprefix(".")
    figure.supxlabel(f"drawn from {source}", fontsize=6, color="#666666", x=0.99, ha="right")
    # No date: the same result gives the same file.
    metadata: dict[str, Any] = {"Title": source, "Date": None} if kind == "svg" else {"Title": source, "Software": None}
    import matplotlib

    with atomic_output(path) as file, matplotlib.rc_context({k: v for k, v in _STYLE.items() if v is not None}):
        figure.savefig(file, format=kind, dpi=150, metadata=metadata)
