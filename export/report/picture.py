"""A layer report as a picture: where the operations are, and what became one kernel."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from dtfsal.export.graph.costs import KINDS
from dtfsal.export.report.layers import EVIDENCE, UNKNOWN, Compiled, LayerReport

Colour = tuple[int, int, int]

WIDTH = 1500
MARGIN = 36
LABEL_WIDTH = 190
CELL_HEIGHT = 50
GAP = 4
BACKGROUND: Colour = (255, 255, 255)
INK: Colour = (32, 36, 44)
PALE_INK: Colour = (104, 112, 124)
# Told apart by people who do not tell red from green, too.
KIND_COLOURS: dict[str, Colour] = {
    "matrix product": (68, 119, 170),
    "attention": (238, 119, 51),
    "convolution": (0, 153, 136),
    "depthwise convolution": (204, 51, 17),
    "deformable convolution": (170, 51, 119),
    "other": (187, 187, 187),
}
STEP_COLOURS: dict[str, Colour] = {
    "matrix product": (68, 119, 170),
    "fused product": (119, 170, 221),
    "attention": (238, 119, 51),
    "convolution": (0, 153, 136),
    "generated": (221, 204, 119),
    "resize": (153, 153, 51),
    "pooling": (136, 34, 85),
    "plugin": (170, 51, 119),
    "other": (187, 187, 187),
}
FUSED: Colour = (204, 232, 224)
NOT_FUSED: Colour = (253, 219, 187)
NOT_KNOWN: Colour = (226, 228, 232)


def draw_report(report: LayerReport) -> Image.Image:
    """A report as an RGB picture, 1500 pixels wide."""
    canvas = _Canvas()
    _title(canvas, report)
    _operations(canvas, report)
    _attentions(canvas, report)
    _poolings(canvas, report)
    _decoders(canvas, report)
    _steps(canvas, report)
    _footer(canvas, report)
    return canvas.finish()


class _Canvas:
    """A page that grows downwards: what is drawn is kept until the height is known."""

    def __init__(self) -> None:
        self.y = MARGIN
        self._strokes: list[Callable[[ImageDraw.ImageDraw], None]] = []
        self._ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def text(self, x: float, y: float, text: str, size: int = 15, colour: Colour = INK, anchor: str = "la") -> None:
        font = ImageFont.load_default(size)
        self._strokes.append(lambda draw: draw.text((x, y), text, fill=colour, font=font, anchor=anchor))

    def box(self, x: float, y: float, width: float, height: float, colour: Colour, radius: int = 0) -> None:
        if width < 0.5:
            return
        area = (x, y, x + max(width - 1, 0), y + height - 1)
        self._strokes.append(lambda draw: draw.rounded_rectangle(area, radius, fill=colour))

    def width_of(self, text: str, size: int = 15) -> float:
        return self._ruler.textlength(text, font=ImageFont.load_default(size))

    def heading(self, text: str, note: str = "") -> None:
        self.y += 18
        self.text(MARGIN, self.y, text, 19)
        self.text(MARGIN + self.width_of(text, 19) + 14, self.y + 4, note, 14, PALE_INK)
        self.y += 34

    def finish(self) -> Image.Image:
        picture = Image.new("RGB", (WIDTH, round(self.y + MARGIN)), BACKGROUND)
        draw = ImageDraw.Draw(picture)
        for stroke in self._strokes:
            stroke(draw)
        return picture


def _title(canvas: _Canvas, report: LayerReport) -> None:
    canvas.text(MARGIN, canvas.y, f"{report.model}, {report.target}, {report.precision}", 26)
    total = sum(sum(row.values()) for row in report.flops.values())
    windows = "a window" if report.windows == 1 else f"{report.windows} windows"
    steps = "" if report.steps is None else f", {len(report.steps)} steps"
    line = f"{report.builder}: {_count(total, 'FLOP')} for {windows}{steps}. Known from {EVIDENCE[report.evidence]}."
    canvas.text(MARGIN, canvas.y + 38, line, 15, PALE_INK)
    canvas.y += 62


def _operations(canvas: _Canvas, report: LayerReport) -> None:
    canvas.heading("Operations", "two for each multiply-accumulate, padding of attention heads included")
    total = sum(sum(row.values()) for row in report.flops.values())
    shown = [kind for kind in KINDS if any(row.get(kind) for row in report.flops.values())]
    _legend(canvas, [(kind, KIND_COLOURS[kind]) for kind in shown])
    greatest = max((sum(row.values()) for row in report.flops.values()), default=1)
    room = WIDTH - 2 * MARGIN - LABEL_WIDTH - 190
    for part, row in report.flops.items():
        canvas.text(MARGIN + LABEL_WIDTH - 12, canvas.y + 11, part, 15, anchor="rm")
        x: float = MARGIN + LABEL_WIDTH
        for kind in shown:
            width = room * row.get(kind, 0) / greatest
            canvas.box(x, canvas.y, width, 22, KIND_COLOURS[kind])
            x += width
        flops = sum(row.values())
        share = 100 * flops / max(total, 1)
        percent = f"{share:.1f} %" if share >= 0.05 else "< 0.1 %"
        canvas.text(x + 10, canvas.y + 11, f"{_count(flops, 'FLOP')}, {percent}", 14, PALE_INK, "lm")
        canvas.y += 28


def _attentions(canvas: _Canvas, report: LayerReport) -> None:
    if not report.attentions:
        return
    canvas.heading("Attention", _verdict(report.attentions) + "; queries x keys, heads x head dimension, operations")
    _fusion_legend(canvas, report.attentions)
    cells = []
    for row in report.attentions:
        shape = row.shape
        sizes = f"{_short(shape['queries'])} x {_short(shape['keys'])}"
        heads = f"{shape['heads']} x {shape['head_dim']}, {_count(row.flops, '')}"
        cells.append((_place(row.place), [sizes, heads], row.fused))
    _grid(canvas, "", cells, columns=9)


def _poolings(canvas: _Canvas, report: LayerReport) -> None:
    if not report.poolings:
        return
    note = "; height x width and stride, operations for each byte, steps"
    canvas.heading("Depthwise convolutions", _verdict(report.poolings) + note)
    _fusion_legend(canvas, report.poolings)
    rows: dict[str, list[Compiled]] = {}
    for row in report.poolings:
        found = re.search(r"\.pool_([qkv])\.", row.place)
        rows.setdefault({"q": "queries", "k": "keys", "v": "values"}[found[1]] if found else "others", []).append(row)
    for label, group in rows.items():
        cells = []
        for row in group:
            kernels = "" if row.kernels is None else f", {len(row.kernels)} steps"
            sizes = f"{row.shape['height']} x {row.shape['width']} /{row.shape['stride']}"
            cells.append((_place(row.place), [sizes, f"{row.intensity:.1f} per byte{kernels}"], row.fused))
        _grid(canvas, label, cells, columns=8)


def _decoders(canvas: _Canvas, report: LayerReport) -> None:
    if not report.decoders:
        return
    canvas.heading("Decoders", _verdict(report.decoders) + "; channels, height x width, operations")
    _fusion_legend(canvas, report.decoders)
    rows: dict[str, list[Compiled]] = {}
    for row in report.decoders:
        rows.setdefault(".".join(row.place.split(".")[:2]), []).append(row)
    for label, group in rows.items():
        cells = []
        for row in group:
            shape = row.shape
            kind = row.node.split("/")[1].split(".")[0] if "/" in row.node else row.node
            flops = f"{_count(row.flops, '')}" if row.flops else "no products"
            cells.append((kind, [f"{shape['channels']}, {shape['height']} x {shape['width']}", flops], row.fused))
        _grid(canvas, label.replace("decoders.", "decoder "), cells, columns=9)


def _steps(canvas: _Canvas, report: LayerReport) -> None:
    if not report.steps:
        return
    timed = [step for step in report.steps if step.milliseconds is not None]
    weights: dict[str, float] = {}
    for step in timed or report.steps:
        weights[step.kind] = weights.get(step.kind, 0.0) + (step.milliseconds or 0.0 if timed else 1.0)
    unit = "milliseconds" if timed else "number"
    note = f"by kind, {unit}; generated: a kernel that was written for a chain of other operators"
    canvas.heading("Steps of the engine", note)
    ordered = sorted(weights.items(), key=lambda item: -item[1])
    shown = "{}: {:.2f} ms" if timed else "{}: {:.0f}"
    _legend(canvas, [(shown.format(kind, value), STEP_COLOURS[kind]) for kind, value in ordered])
    x, room, total = float(MARGIN), WIDTH - 2 * MARGIN, sum(weights.values()) or 1.0
    for kind, value in ordered:
        width = room * value / total
        canvas.box(x, canvas.y, width, 26, STEP_COLOURS[kind])
        x += width
    canvas.y += 30


def _footer(canvas: _Canvas, report: LayerReport) -> None:
    if report.evidence == "inspector":
        return
    canvas.y += 16
    what = "; ".join(UNKNOWN) if report.steps else "how any of it was compiled"
    canvas.text(MARGIN, canvas.y, f"Not known without a GPU: {what}.", 15, PALE_INK)
    canvas.y += 20


def _legend(canvas: _Canvas, entries: Sequence[tuple[str, Colour]]) -> None:
    x = float(MARGIN)
    for label, colour in entries:
        canvas.box(x, canvas.y + 2, 14, 14, colour, 3)
        canvas.text(x + 20, canvas.y + 9, label, 14, anchor="lm")
        x += 20 + canvas.width_of(label, 14) + 24
    canvas.y += 28


def _fusion_legend(canvas: _Canvas, rows: Sequence[Compiled]) -> None:
    names = {True: ("one kernel", FUSED), False: ("several kernels", NOT_FUSED), None: ("not known", NOT_KNOWN)}
    _legend(canvas, [names[state] for state in (True, False, None) if any(row.fused is state for row in rows)])


def _grid(canvas: _Canvas, label: str, cells: Sequence[tuple[str, list[str], bool | None]], *, columns: int) -> None:
    """Cells of a title and two lines, their colour telling whether they are one kernel."""
    left = MARGIN + (90 if label else 0)
    width = (WIDTH - MARGIN - left + GAP) / columns - GAP
    if label:
        canvas.text(MARGIN, canvas.y + 4, label, 15)
    for number, (title, lines, fused) in enumerate(cells):
        if number and number % columns == 0:
            canvas.y += CELL_HEIGHT + GAP
        x = left + (number % columns) * (width + GAP)
        colour = NOT_KNOWN if fused is None else FUSED if fused else NOT_FUSED
        canvas.box(x, canvas.y, width, CELL_HEIGHT, colour, 4)
        canvas.text(x + 7, canvas.y + 4, title, 13)
        for line, text in enumerate(lines):
            canvas.text(x + 7, canvas.y + 19 + 14 * line, text, 12, PALE_INK)
    canvas.y += CELL_HEIGHT + 2 * GAP


def _verdict(rows: Sequence[Compiled]) -> str:
    if all(row.fused is None for row in rows):
        return f"{len(rows)}, not known how they were compiled"
    return f"{sum(row.fused is True for row in rows)} of {len(rows)} in one kernel each"


def _place(place: str) -> str:
    found = re.match(r"encoder\.blocks\.(\d+)\.", place)
    if found:
        return f"block {found[1]}"
    return "sound" if place.startswith("audio") else ".".join(place.split(".")[-2:])


def _short(number: int) -> str:
    return f"{number / 1000:.1f}k" if number >= 10_000 else str(number)


def _count(value: float, unit: str) -> str:
    for power, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= power:
            number: Any = value / power
            return f"{number:.0f} {prefix}{unit}" if number >= 100 else f"{number:.1f} {prefix}{unit}"
    return f"{value:.0f} {unit}".rstrip()
