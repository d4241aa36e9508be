"""Areas as the software of eye trackers exports them.

- EyeLink Data Viewer's interest area sets (`.ias`), by its manual: a line for each area, `RECTANGLE id left top right
  bottom label`, `ELLIPSE ...` or `FREEHAND id x,y x,y ... label`; a dynamic one begins with its times, in milliseconds
  and with a minus sign.
- Tobii Pro Lab's JSON: `Media` with the frame's size, and `Aois` with `KeyFrames` of `Seconds`, `IsActive`, `Vertices`.
- SMI BeGaze's XML: `DynamicAOI` with `KeyFrame`s of `Timestamp` (microseconds), `Visible` and `Points`.

The last two are read as public programs read and write them; their makers publish no description.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from dtfsal.applications.areas.model import LATEST_SECONDS, MOST_AREAS, MOST_KEYS, Area, Key, Point, Shape
from dtfsal.engines.errors import UsageError
from dtfsal.engines.limits import shown

if TYPE_CHECKING:
    from dtfsal.engines.bundle.strict_json import JsonNode

_MILLISECOND = 1e-3
_INSTANT = 1e-4  # in which an area leaps to where its next line has it
_EYELINK: dict[str, Shape] = {"RECTANGLE": "box", "ELLIPSE": "ellipse", "FREEHAND": "polygon"}
_SMI: dict[str, Shape] = {"Rectangle": "box", "Ellipse": "ellipse", "Polygon": "polygon"}


def eyelink_areas(text: str, source: str, width: int, height: int) -> list[Area]:
    """An EyeLink interest area set; lines with one id are one area, each of them still while it lasts.

    Args:
        text: the file.
        source: what it is called in an error.
        width: of the frame that its pixels count in.
        height: of that frame.

    Raises:
        UsageError: a line is not one of an interest area set.
    """
    areas: dict[str, tuple[str, Shape, list[Key]]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            times, (kind, identity, *rest) = _eyelink_times(words)
            shape = _EYELINK[kind]
            points, label = _eyelink_points(shape, rest, width, height)
        except (ValueError, KeyError):
            raise UsageError(
                f"{source}, line {number} is not a line of an interest area set, such as RECTANGLE 1 10 10 90 90 name"
            ) from None
        name, known, keys = areas.setdefault(identity, (label or f"area {identity}", shape, []))
        if known != shape or (keys and times is None):
            raise UsageError(f"{source}, line {number} gives the area {name!r} another shape or no time of its own")
        if times is None:
            keys.append(Key(0.0, points))
        else:
            start, end = times
            keys += [Key(start, points), Key(end - _INSTANT, points), Key(end, points, visible=False)]
    return [
        Area(name, shape, tuple(_in_order(keys)), None if len(keys) == 1 else "hidden")
        for name, shape, keys in _named_once(areas)
    ]


def _eyelink_times(words: list[str]) -> tuple[tuple[float, float] | None, list[str]]:
    """The times in seconds, the last millisecond included; and what follows them."""
    if words[0] in _EYELINK:
        return None, words
    start, end = (-_MILLISECOND * float(word) for word in words[:2])
    if not 0 <= start <= end <= LATEST_SECONDS:
        raise ValueError(words)
    return (start, end + _MILLISECOND), words[2:]


def _eyelink_points(shape: Shape, words: list[str], width: int, height: int) -> tuple[tuple[Point, ...], str]:
    if shape == "polygon":
        corners = [word for word in words if re.fullmatch(r"[-+.\d]+,[-+.\d]+", word)]
        pairs = [tuple(float(value) for value in corner.split(",")) for corner in corners]
        label = " ".join(words[len(corners) :])
    else:
        left, top, right, bottom = (float(word) for word in words[:4])
        pairs, label = [(left, top), (right, bottom)], " ".join(words[4:])
    return tuple((x / width, y / height) for x, y in pairs), label


def _named_once(areas: dict[str, tuple[str, Shape, list[Key]]]) -> Iterable[tuple[str, Shape, list[Key]]]:
    """Labels may repeat in an interest area set, and its ids do not: a repeated label gets its id."""
    labels = [name for name, _, _ in areas.values()]
    for identity, (name, shape, keys) in areas.items():
        yield (name if labels.count(name) == 1 else f"{name} ({identity})"), shape, keys


def _in_order(keys: list[Key]) -> list[Key]:
    """Keys by time; where a line begins when another ends, the end is not a key."""
    by_time: dict[float, Key] = {}
    for key in sorted(keys, key=lambda key: (key.time_seconds, key.visible)):
        by_time[round(key.time_seconds, 6)] = key
    return list(by_time.values())


def tobii_areas(root: JsonNode) -> list[Area]:
    """Tobii Pro Lab's export; vertices are pixels of the medium whose size it gives.

    Raises:
        UsageError: something is missing or of another kind.
    """
    members = root.mapping()
    for name in ("Media", "Aois"):
        if name not in members:
            root.fail(f"lacks the key {name!r} of an export of Tobii Pro Lab")
    media = members["Media"].mapping()
    if not {"Width", "Height"} <= set(media):
        members["Media"].fail("lacks the medium's Width and Height")
    width, height = media["Width"].number(), media["Height"].number()
    if min(width, height) <= 0:
        members["Media"].fail("must have a Width and a Height above 0")
    areas = []
    for node in _few(members["Aois"].array(), MOST_AREAS, "areas"):
        area = node.mapping()
        if not {"Name", "KeyFrames"} <= set(area):
            node.fail("lacks its Name or its KeyFrames")
        keys = [_tobii_key(key, width, height) for key in _few(area["KeyFrames"].array(), MOST_KEYS, "key frames")]
        areas.append(Area(area["Name"].string(), "polygon", tuple(_from_first(keys)), "hold"))
    return areas


def _tobii_key(node: JsonNode, width: float, height: float) -> Key:
    members = node.mapping()
    if not {"Seconds", "IsActive", "Vertices"} <= set(members):
        node.fail("lacks its Seconds, IsActive or Vertices")
    points = []
    for vertex in members["Vertices"].array():
        place = vertex.mapping()
        if not {"X", "Y"} <= set(place):
            vertex.fail("lacks its X or Y")
        points.append((place["X"].number() / width, place["Y"].number() / height))
    return Key(members["Seconds"].number(), tuple(points), members["IsActive"].boolean())


def smi_areas(text: str, source: str, width: int, height: int) -> list[Area]:
    """SMI BeGaze's export.

    Args:
        text: the file.
        source: what it is called in an error.
        width: of the frame that its pixels count in.
        height: of that frame.

    Raises:
        UsageError: it is not such a file, or has an area that is turned.
    """
    if "<!" in text.replace("<!--", ""):
        raise UsageError(f"{source} declares a document type or entities, which no export of SMI BeGaze does")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  # it declares no entity
    except (ElementTree.ParseError, ValueError) as error:
        raise UsageError(f"{source} is not valid XML ({error}); export it again") from error
    if root.tag != "ArrayOfDynamicAOI":
        raise UsageError(f"{source} is XML and not an export of SMI BeGaze, which begins with ArrayOfDynamicAOI")
    return [_smi_area(node, source, width, height) for node in root.findall("DynamicAOI")]


def _smi_area(node: ElementTree.Element, source: str, width: int, height: int) -> Area:
    name = (node.findtext("Name") or "").strip()
    shape = _SMI.get((node.findtext("Type") or "").strip())
    if shape is None:
        raise UsageError(f"{source}: the area {name!r} is none of {', '.join(_SMI)}")
    keys = [_smi_key(key, name, source, width, height) for key in node.findall("KeyFrames/KeyFrame")]
    if not keys:
        keys = [_smi_key(node, name, source, width, height)]
    if shape != "polygon":
        keys = [Key(key.time_seconds, _around(key.points, name, source), key.visible) for key in keys]
    return Area(name, shape, tuple(_from_first(keys)), "hold")


def _smi_key(node: ElementTree.Element, name: str, source: str, width: int, height: int) -> Key:
    def number(place: ElementTree.Element, tag: str) -> float:
        try:
            value = float(place.findtext(tag) or "0")
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(f"{source}: the area {name!r} has the {tag} {shown(place.findtext(tag))}, no number")
        return value

    if number(node, "Angle") != 0:
        raise UsageError(f"{source}: the area {name!r} is turned; draw it as a polygon, which can be read")
    points = tuple((number(point, "X") / width, number(point, "Y") / height) for point in node.findall("Points/Point"))
    visible = (node.findtext("Visible") or "true").strip().lower() == "true"
    return Key(1e-6 * number(node, "Timestamp"), points, visible)


def _around(points: tuple[Point, ...], name: str, source: str) -> tuple[Point, ...]:
    if len(points) < 2:
        raise UsageError(f"{source}: the area {name!r} has {len(points)} corners; a rectangle and an ellipse have two")
    columns, rows = [x for x, _ in points], [y for _, y in points]
    return (min(columns), min(rows)), (max(columns), max(rows))


def _from_first(keys: list[Key]) -> list[Key]:
    """Keys in order of time. The area is hidden before the first; a hidden key without points keeps those before it."""
    ordered = sorted(keys, key=lambda key: key.time_seconds)
    points = next((key.points for key in ordered if key.points), ())
    kept = [Key(ordered[0].time_seconds - 1, points, visible=False)] if ordered else []
    for key in ordered:
        points = key.points or points
        kept.append(Key(key.time_seconds, points, key.visible))
    return kept


def _few(nodes: list[JsonNode], most: int, what: str) -> list[JsonNode]:
    if len(nodes) > most:
        nodes[0].fail(f"is the first of {len(nodes)} {what}, and {most} can be used")
    return nodes
