"""Files of areas: dtfsal's own JSON, and those that eye trackers' software exports.

    areas = read_areas("areas.json", width=1280, height=720)

docs/how-to/attention-report.md describes the schema. Reading is strict: a surprise is an error that names it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dtfsal.applications.areas.exports import eyelink_areas, smi_areas, tobii_areas
from dtfsal.applications.areas.model import Area, Key, Point, check_areas
from dtfsal.engines.bundle.strict_json import JsonNode, parse_json
from dtfsal.engines.errors import UsageError

FORMAT, VERSION = "dtfsal-areas", 1
MOST_BYTES = 2**24
_KEY_MEMBERS = {"box": "box", "ellipse": "box", "polygon": "points"}


def read_areas(path: str | os.PathLike[str], *, width: int, height: int) -> tuple[Area, ...]:
    """Read a file of areas; what is in it tells its format.

    Args:
        path: a JSON file of this project's schema or of Tobii Pro Lab, an XML file of SMI BeGaze, or an interest area
            set of EyeLink Data Viewer (`.ias`).
        width: of the video's frame, in pixels; for files that count pixels and do not say of which frame.
        height: of the video's frame, in pixels.

    Raises:
        UsageError: the file is missing, is none of these, or has an area that can't work.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"the areas in {path} cannot be read ({error.strerror or error})") from error
    if len(data) > MOST_BYTES:
        raise UsageError(f"{path} is larger than {MOST_BYTES // 2**20} MiB, more than any file of areas")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not text in UTF-8, so it is no file of areas") from None
    name = path.name
    try:
        if text.lstrip()[:1] == "<":
            areas = smi_areas(text, name, width, height)
        elif text.lstrip()[:1] in ("{", "["):
            remedy = "export it again, or see the schema in docs/how-to/attention-report.md"
            root = parse_json(text, name, error=UsageError, remedy=remedy)
            areas = tobii_areas(root) if "Aois" in root.mapping() else _own(root, width, height)
        else:
            areas = eyelink_areas(text, name, width, height)
    except UsageError as error:
        raise error if name in str(error) else UsageError(f"{name}: {error}") from error
    return check_areas(areas, name)


def _own(root: JsonNode, width: int, height: int) -> list[Area]:
    members = root.record(("format", "version", "coordinates", "areas"), ("width", "height"))
    if (members["format"].string(), members["version"].integer()) != (FORMAT, VERSION):
        root.fail(f'must have "format": "{FORMAT}" and "version": {VERSION}')
    unit = members["coordinates"].string()
    if unit not in ("pixels", "fractions"):
        members["coordinates"].fail('must be "pixels" or "fractions"')
    size = (width, height)
    if "width" in members or "height" in members:
        root.record(("format", "version", "coordinates", "areas", "width", "height"))
        if unit == "fractions":
            root.fail("has a width and a height, and fractions need none")
        size = (members["width"].integer(), members["height"].integer())
        if min(size) < 1:
            root.fail("must have a width and a height of at least 1")
    scale = (1.0, 1.0) if unit == "fractions" else (1 / size[0], 1 / size[1])
    return [_own_area(node, scale) for node in members["areas"].array()]


def _own_area(node: JsonNode, scale: Point) -> Area:
    members = node.record(("name", "shape", "keys"), ("outside",))
    shape = members["shape"].string()
    if shape not in _KEY_MEMBERS:
        members["shape"].fail("must be box, ellipse or polygon")
    outside = members["outside"].string() if "outside" in members else None
    if outside not in (None, "hidden", "hold"):
        members["outside"].fail('must be "hidden" or "hold"')
    keys = [_own_key(key, _KEY_MEMBERS[shape], scale) for key in members["keys"].array()]
    return Area(members["name"].string(), shape, tuple(keys), outside)  # type: ignore[arg-type]  # checked above


def _own_key(node: JsonNode, member: str, scale: Point) -> Key:
    members = node.record(("time_seconds", member), ("visible",))
    numbers = [_numbers(point, 2) for point in members[member].array()] if member == "points" else None
    if numbers is None:
        left, top, right, bottom = _numbers(members[member], 4)
        numbers = [[left, top], [right, bottom]]
    visible = members["visible"].boolean() if "visible" in members else True
    points = tuple((x * scale[0], y * scale[1]) for x, y in numbers)
    return Key(members["time_seconds"].number(), points, visible)


def _numbers(node: JsonNode, count: int) -> list[float]:
    items = node.array()
    if len(items) != count:
        node.fail(f"must have {count} numbers, not {len(items)}")
    return [item.number() for item in items]


def areas_document(areas: Sequence[Area]) -> dict[str, Any]:
    """Areas as `read_areas` reads them, in fractions: plain JSON values."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "coordinates": "fractions",
        "areas": [
            {
                "name": area.name,
                "shape": area.shape,
                "outside": area.outside,
                "keys": [
                    {"time_seconds": key.time_seconds, **_written(area, key), "visible": key.visible}
                    for key in area.keys
                ],
            }
            for area in areas
        ],
    }


def _written(area: Area, key: Key) -> dict[str, Any]:
    if area.shape == "polygon":
        return {"points": [list(point) for point in key.points]}
    return {"box": [value for point in key.points for value in point]}
