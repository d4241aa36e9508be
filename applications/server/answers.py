"""Answers that are sent piece by piece, and that let go of what they hold however they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_BLOCK_BYTES = 2**18


class Answer(Response):
    """An answer whose body comes from an iterator.

    Args:
        pieces: of the body.
        media_type: of the body.
        size_bytes: of the body, where it is known.
        file_name: what a browser calls it; None for none.
        patience_seconds: the longest that the client may take to receive it; then the connection is closed, and the
            client sees that the body is cut short.
        ended: called once when it has been sent, or could not be.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        *,
        media_type: str,
        patience_seconds: float,
        ended: Callable[[], None],
        size_bytes: int | None = None,
        file_name: str | None = None,
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self._pieces = pieces
        self._patience_seconds = patience_seconds
        self._ended = ended
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        if size_bytes is not None:
            headers["content-length"] = str(size_bytes)
        if file_name is not None:
            headers["content-disposition"] = f'attachment; filename="{file_name}"'
        self.init_headers(headers)

    def init_headers(self, headers: object = None) -> None:
        """Headers of a body that is not there yet: no length is made up for it."""
        given = dict(headers) if isinstance(headers, dict) else {}
        given["content-type"] = str(self.media_type)
        self.raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        del scope, receive
        try:
            async with asyncio.timeout(self._patience_seconds):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async for piece in self._pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            pass  # an unfinished body tells the client, and uvicorn closes the connection
        finally:
            self._ended()


async def pieces_of_file(path: Path) -> AsyncIterator[bytes]:
    """A file's bytes, read in another thread."""
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, _BLOCK_BYTES):
            yield piece
