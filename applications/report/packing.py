"""The page: figures, maps and clips packed into one HTML file that opens from disk and asks for nothing else.

The page's own files lie in `page/`. Its policy lets it run the one script in it, and fetch nothing. All that
comes from outside, such as names of files and of areas, travels as JSON and is shown as text.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from dtfsal.applications.areas.files import areas_document
from dtfsal.applications.report.measures import GENERAL
from dtfsal.applications.report.track import Track

MOST_EMBEDDED_BYTES = 24 * 2**20  # of a clip in the page; a larger one lies beside it
_FILES = Path(__file__).parent / "page"
_SCRIPTS = ("colours.js", "data.js", "areas.js", "player.js", "timeline.js", "drawing.js", "main.js")
_CHUNK = 3 * 2**18  # bytes, a multiple of 3: base64 of pieces is the whole's
_LABELS = {"entropy_bits": ("entropy", "Entropy"), "peak_share": ("peak", "Peak share")}
CUTS = ("Triangles on the timeline", "Cuts, found by PySceneDetect.")
TERMS = (
    ("Map", "Where people would probably look, frame by frame. Each map is scaled so that its largest value is full."),
    ("Entropy", "How spread out a map is, in bits. Low: one place. High: no place stands out."),
    (
        "Peak share",
        "The share of a map's attention within a circle around its largest value, as wide as a fifth of the frame's "
        "height.",
    ),
    (
        "Share of an area",
        "The sum of the map inside the area, divided by the sum of the whole map. A large area has a large share "
        "whatever it shows: compare it with its share of the picture.",
    ),
    CUTS,
)
BAND_NOTE = (
    "The band spans the prediction, that of the mirrored picture, and that without sound. It shows how the model's own "
    "answer moves. It is not a confidence interval, and not the spread between people."
)


def write_page(path: Path, tracks: Sequence[Track], facts: dict[str, Any]) -> None:
    """Write a page of one clip, or of two to compare.

    Args:
        path: of the page. A clip whose preview fits goes into it, and its file is removed; a larger one stays beside.
        tracks: the clips.
        facts: what the page says of the run: `title`, `facts`, `level`, `align` and `banded`.

    Raises:
        OSError: it cannot be written.
    """
    style = (_FILES / "style.css").read_text("utf-8")
    script = (
        '"use strict";\n(() => {\n' + "\n".join((_FILES / name).read_text("utf-8") for name in _SCRIPTS) + "})();\n"
    )
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src blob: data:; "
        "media-src blob: file:; base-uri 'none'; form-action 'none'"
    )
    parts = {"policy": policy, "title": html.escape(facts["title"]), "style": style, "script": script}
    embedded = [track.preview.stat().st_size <= MOST_EMBEDDED_BYTES for track in tracks]
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for text, name in _pieces((_FILES / "page.html").read_text("utf-8")):
            stream.write(text)
            if name == "data":
                _write_data(stream, tracks, facts, embedded)
            elif name is not None:
                stream.write(parts[name])
    for track, within in zip(tracks, embedded, strict=True):
        if within:
            track.preview.unlink()


def _pieces(template: str) -> Iterator[tuple[str, str | None]]:
    """Text and the name of what follows it."""
    found = re.split(r"\{\{(\w+)\}\}", template)
    yield from zip(found[0::2], [*found[1::2], None], strict=True)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _write_data(stream: TextIO, tracks: Sequence[Track], facts: dict[str, Any], embedded: Sequence[bool]) -> None:
    page = {
        "facts": facts["facts"],
        "level": facts["level"],
        "align": facts["align"],
        "band_note": BAND_NOTE if facts["banded"] else "",
        "terms": [term for term in TERMS if term[0] != CUTS[0] or any(track.cuts is not None for track in tracks)],
        "tracks": [_description(track, within) for track, within in zip(tracks, embedded, strict=True)],
    }
    # `<` cannot end the element that it stands in, as no byte of base64 can.
    stream.write(_element("page-data", "application/json", json.dumps(page, allow_nan=False).replace("<", "\\u003c")))
    for number, (track, within) in enumerate(zip(tracks, embedded, strict=True)):
        samples, count = track.samples, len(track.series)
        arrays: dict[str, npt.NDArray[Any]] = {
            "times": samples.times.astype("<f8"),
            "indices": samples.indices.astype("<i4"),
            "series": np.stack([samples.series(i) for i in range(count)]).astype("<f4"),
        }
        bands = [samples.band(i) for i in range(count)]
        if bands[0] is not None:
            arrays["low"], arrays["high"] = (
                np.stack([band[end] for band in bands if band is not None]).astype("<f4") for end in (0, 1)
            )
        for name, array in arrays.items():
            stream.write(_element(f"{name}-{number}", "text/plain", _base64(array.tobytes())))
        stream.write(_element(f"maps-{number}", "text/plain", _base64(zlib.compress(samples.maps.tobytes(), 6))))
        if within:
            _write_clip(stream, f"video-{number}", track.preview)


def _description(track: Track, embedded: bool) -> dict[str, Any]:
    areas = areas_document(track.areas)["areas"]
    return {
        "name": track.name,
        "frames": track.frames,
        "seconds": track.seconds,
        "step": track.samples.step,
        "cuts": track.cuts,
        "notes": list(track.notes),
        "size": list(track.preview_size),
        "rows": track.samples.maps.shape[1],
        "columns": track.samples.maps.shape[2],
        "banded": track.samples.band(0) is not None,
        "series": [
            dict(zip(("kind", "label"), _LABELS[name], strict=True), name=name) for name in track.series[: len(GENERAL)]
        ]
        + [{"kind": "area", "label": area.name, "name": area.name} for area in track.areas],
        "areas": areas,
        "summaries": track.document()["areas"],
        "video": None if embedded else track.preview.name,
    }


def _element(identity: str, kind: str, text: str) -> str:
    return f'<script type="{kind}" id="{identity}">{text}</script>\n'


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _write_clip(stream: TextIO, identity: str, clip: Path) -> None:
    begin, end = _element(identity, "text/plain", "|").split("|")
    stream.write(begin)
    with clip.open("rb") as source:
        while chunk := source.read(_CHUNK):
            stream.write(_base64(chunk))
    stream.write(end)
