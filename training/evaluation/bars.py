"""A picture of scores: a bar for each video and predictor."""

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

WIDTH, ROW, GAP, NAME, MARGIN = 900, 16, 8, 240, 16
COLOURS = ((66, 120, 172), (240, 126, 50), (150, 150, 150), (1, 154, 139), (203, 66, 34))
TEXT, LINE = (40, 40, 40), (222, 222, 222)


def draw_bars(title: str, scores: Mapping[str, Mapping[str, float]], predictors: Sequence[str]) -> Image.Image:
    """Bars from 0, of negative scores to the left.

    Args:
        title: above them.
        scores: by item, then by predictor; one that is missing has no bar.
        predictors: in the order of their bars.
    """
    values = [value for row in scores.values() for value in row.values() if value == value]
    low, high = min([0.0, *values]), max([0.0, *values]) or 1.0
    height = MARGIN * 2 + 3 * ROW + len(scores) * (ROW * len(predictors) // 2 + GAP)
    page = Image.new("RGB", (WIDTH, height), "white")
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, MARGIN), title, fill=TEXT)
    x = NAME
    for number, name in enumerate(predictors):
        draw.rectangle((x, MARGIN + ROW + 4, x + 8, MARGIN + ROW + 12), fill=COLOURS[number % len(COLOURS)])
        draw.text((x + 12, MARGIN + ROW), name, fill=TEXT)
        x += 24 + 7 * len(name)

    def place(value: float) -> float:
        return NAME + (value - low) / (high - low) * (WIDTH - NAME - 80)

    y, half = MARGIN + 3 * ROW, ROW // 2
    for item, row in scores.items():
        draw.text((MARGIN, y), item[:34], fill=TEXT)
        for number, name in enumerate(predictors):
            value, top = row.get(name, float("nan")), y + number * half
            if value == value:
                left, right = sorted((place(0), place(value)))
                draw.rectangle((left, top, right, top + half - 2), fill=COLOURS[number % len(COLOURS)])
                if number == 0:
                    draw.text((right + 6, top - 2), f"{value:.3f}", fill=TEXT)
        y += half * len(predictors) + GAP
        draw.line((MARGIN, y - GAP // 2, WIDTH - MARGIN, y - GAP // 2), fill=LINE)
    return page
