"""A page that shows a live picture: motion JPEG over HTTP, for any browser."""

from __future__ import annotations

import http.server
import io
import json
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UnavailableError

_BOUNDARY = "frame"
_PAGE = """<!doctype html><meta charset="utf-8"><title>dtfsal live</title>
<style>body{margin:0;background:#111;color:#ddd;font:15px sans-serif;text-align:center}img{max-width:100%}</style>
<img src="stream.mjpg" alt="where people would look"><p id="status"></p>
<script>setInterval(async()=>{const s=await(await fetch("status.json")).json();
const words=Object.entries(s).map(([k,v])=>k.replaceAll("_"," ")+" "+v);
document.getElementById("status").textContent=words.join(", ")},1000)
</script>
"""


class MjpegServer:
    """Serves the newest picture to all who look: `/`, `/stream.mjpg` and `/status.json`.

    Args:
        host: the address to listen on; anyone who reaches it can look.
        port: 0 for any that is free.
        quality: of the JPEGs, 1 to 95.

    Raises:
        UnavailableError: the port cannot be had.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, quality: int = 80) -> None:
        self._changed = threading.Condition()
        self._picture: bytes | None = None
        self._number = 0
        self._closed = False
        self._status: dict[str, Any] = {}
        self._quality = quality
        try:
            self._server = http.server.ThreadingHTTPServer((host, port), self._handler())
        except OSError as error:
            raise UnavailableError(
                f"the page cannot be served at {host}:{port} ({error.strerror or error}); name another port"
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="dtfsal-mjpeg", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """The page's URL."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/"

    def show(self, rgb: npt.NDArray[np.uint8], status: dict[str, Any]) -> None:
        """Show a picture.

        Args:
            rgb: (H, W, 3) uint8.
            status: plain values that the page lists.
        """
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(rgb).save(buffer, "JPEG", quality=self._quality)
        with self._changed:
            self._picture, self._status = buffer.getvalue(), status
            self._number += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Stop serving."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> MjpegServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self, after: int) -> tuple[int, bytes | None]:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._number > after)
            return self._number, None if self._closed else self._picture

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        page = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/":
                    self._answer("text/html; charset=utf-8", _PAGE.encode())
                elif self.path == "/status.json":
                    self._answer("application/json", json.dumps(page._status).encode())
                elif self.path == "/stream.mjpg":
                    self._stream()
                else:
                    self.send_error(404)

            def _answer(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(body)

            def _stream(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                number = 0
                try:
                    while True:
                        number, picture = page._next(number)
                        if picture is None:
                            return
                        head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                        self.wfile.write(head.encode() + picture + b"\r\n")
                except OSError:
                    return  # nobody looks any more

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing: the terminal belongs to the command."""

        return Handler
