"""A request's video brought into a file, never more of it than the server takes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from dtfsal.applications.server.refusals import Refusal

FIELD = "video"
_BLOCK_BYTES = 2**20
_FORM_BYTES = 2**16  # of a form, beside its file
_HEADER_BYTES = 2**13  # of a part of a form
_URL_BYTES = 2**14
_DRAIN_SECONDS = 2.0


async def receive_video(request: Request, path: Path, max_bytes: int) -> int:
    """Write a body, or the file of a form, to a file.

    Args:
        request: whose content type is a video's, `application/octet-stream` or `multipart/form-data`.
        path: the file.
        max_bytes: the most that it may have.

    Returns:
        Bytes of the file.

    Raises:
        Refusal: 400, 413 or 415.
        starlette.requests.ClientDisconnect: the client left.
    """
    kind, options = parse_options_header(request.headers.get("content-type", "application/octet-stream"))
    form = kind == b"multipart/form-data"
    if not (form or kind == b"application/octet-stream" or kind.startswith(b"video/")):
        raise Refusal(
            415,
            "wrong-type",
            f"a body of type {kind.decode('latin-1')[:60]!r} is no video; send the file as video/mp4, or as "
            f"application/octet-stream, or in the field {FIELD!r} of a form",
        )
    most = max_bytes + (_FORM_BYTES if form else 0)
    stated = request.headers.get("content-length", "0")
    if stated.isascii() and stated.isdigit() and int(stated[:20]) > most:
        raise _too_large(max_bytes)
    received = 0
    block = bytearray()

    def keep(data: bytes) -> None:
        nonlocal received
        received += len(data)
        if received > max_bytes:
            raise _too_large(max_bytes)
        block.extend(data)

    feed, finish = _form_reader(options.get(b"boundary"), keep) if form else (keep, lambda: None)
    passed = 0
    with path.open("wb", buffering=0) as file:
        async for chunk in request.stream():
            passed += len(chunk)
            if passed > most:
                raise _too_large(max_bytes)
            feed(chunk)
            if len(block) >= _BLOCK_BYTES:
                await _flush(file, block)
        finish()
        await _flush(file, block)
    if not received:
        raise Refusal(400, "empty", "the request has no video; send the file as its body, or in a form")
    return received


async def receive_url(request: Request) -> str:
    """The URL of a JSON body, {"url": "..."}.

    Raises:
        Refusal: 400, 413.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _URL_BYTES:
            raise Refusal(413, "too-large", f"a request with a URL has at most {_URL_BYTES} bytes")
    url: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(body)
        if isinstance(document, dict) and set(document) == {"url"}:
            url = document["url"]
    if not isinstance(url, str):
        raise Refusal(400, "wrong-request", 'a JSON body must be {"url": "https://..."} and nothing else')
    return url


async def drain(request: Request) -> None:
    """Read on for a moment and forget it: who is still sending would else not read why it was refused."""
    if "expect" in request.headers:
        return
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in _rest(request):
                pass


async def _rest(request: Request) -> AsyncIterator[None]:
    while True:
        message = await request.receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            return
        yield


async def _flush(file: Any, block: bytearray) -> None:
    data = bytes(block)
    block.clear()
    if data:
        await asyncio.to_thread(_write_all, file, data)


def _write_all(file: Any, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _form_reader(boundary: bytes | None, keep: Callable[[bytes], None]) -> tuple[Callable[[bytes], object], Any]:
    """What a form's bytes are fed to, and what is called at its end; the bytes of its one file go to `keep`."""
    if not boundary or len(boundary) > 200:
        raise Refusal(400, "wrong-request", "the form's content type names no boundary; let the client set it")
    headers: dict[bytes, bytes] = {}
    name, value = bytearray(), bytearray()
    state = {"wanted": False, "files": 0, "ended": False}

    def add(target: bytearray) -> Callable[[bytes, int, int], None]:
        def take(data: bytes, start: int, end: int) -> None:
            target.extend(data[start:end])
            if len(target) > _HEADER_BYTES:
                raise Refusal(400, "wrong-request", "a header of the form is too long")

        return take

    def header_end() -> None:
        headers[bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()
        if len(headers) > 16:
            raise Refusal(400, "wrong-request", "a part of the form has too many headers")

    def headers_finished() -> None:
        _, options = parse_options_header(headers.get(b"content-disposition", b""))
        headers.clear()
        state["wanted"] = options.get(b"name") == FIELD.encode()
        state["files"] += state["wanted"]
        if state["files"] > 1:
            raise Refusal(400, "wrong-request", f"the form has several fields {FIELD!r}; send one video at a time")

    def part_data(data: bytes, start: int, end: int) -> None:
        if state["wanted"]:
            keep(data[start:end])

    parser = MultipartParser(
        boundary,
        {
            "on_header_field": add(name),
            "on_header_value": add(value),
            "on_header_end": header_end,
            "on_headers_finished": headers_finished,
            "on_part_data": part_data,
            "on_end": lambda: state.__setitem__("ended", True),
        },
    )

    def feed(data: bytes) -> None:
        try:
            parser.write(data)
        except FormParserError as error:
            raise Refusal(400, "wrong-request", "the form is not one that its boundary divides") from error

    def finish() -> None:
        if not state["ended"]:
            raise Refusal(400, "cut-short", "the form ends before its last boundary; send it again")
        if not state["files"]:
            raise Refusal(400, "empty", f"the form has no field {FIELD!r} with a video")

    return feed, finish


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(
        413, "too-large", f"the video is larger than the {max_bytes // 10**6} MB that this server takes; send a part"
    )
