"""A page that shows a live picture: motion JPEG over HTTP, for any browser.

A camera's picture is private. So who asks must be somebody who was told where: on this machine the page answers to the
machine's own names and addresses alone, since a page elsewhere could have its name lead here (DNS rebinding); beyond
this machine it asks for a token. A client that stalls is dropped, and only so many are served at once.
"""

from __future__ import annotations

import contextlib
import hmac
import http
import http.server
import io
import ipaddress
import json
import secrets
import socket
import socketserver
import sys
import threading
import urllib.parse
from typing import Any

import numpy as np
import numpy.typing as npt

from dtfsal.engines.errors import UnavailableError, UsageError

PATIENCE_SECONDS = 10.0  # for a request, and for each of a client's reads and writes
MOST_CONNECTIONS = 16
_AGAIN_SECONDS = 5.0  # a picture that stays is sent again, so that a client that has gone is noticed
_BOUNDARY = "frame"
_PAGE = b"""<!doctype html><meta charset="utf-8"><title>dtfsal live</title>
<style>body{margin:0;background:#111;color:#ddd;font:15px sans-serif;text-align:center}img{max-width:100%}</style>
<img id="picture" alt="where people would look"><p id="status"></p>
<script>document.getElementById("picture").src="stream.mjpg"+location.search;
setInterval(async()=>{const s=await(await fetch("status.json"+location.search)).json();
const words=Object.entries(s).map(([k,v])=>k.replaceAll("_"," ")+" "+v);
document.getElementById("status").textContent=words.join(", ")},1000)
</script>
"""
# Other pages may not show, read or frame this one, and it gives its address to none.
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class MjpegServer:
    """Serves the newest picture to all who may look: `/`, `/stream.mjpg` and `/status.json`.

    Args:
        host: the address to listen on, such as "127.0.0.1", "::1" or "0.0.0.0".
        port: 0 for any that is free.
        quality: of the JPEGs, 1 to 95.
        token: that who looks must give (`/?token=...`); None for none on this machine's own addresses ("127.0.0.1",
            "::1", "localhost"), and for one that is made up on others.

    Raises:
        UnavailableError: the port cannot be had.
        UsageError: the token is empty.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, quality: int = 80, token: str | None = None) -> None:
        if token == "":
            raise UsageError("a token must not be empty")
        self.token = token if token is not None or is_loopback(host) else secrets.token_urlsafe(16)
        self._host = host
        self._changed = threading.Condition()
        self._picture: bytes | None = None
        self._number = 0
        self._closed = False
        self._status: dict[str, Any] = {}
        self._quality = quality
        try:
            self._server = _Server(host, port, self._handler())
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UnavailableError(
                f"the page cannot be served at {host}:{port} ({reason}); name another port"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="dtfsal-mjpeg", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """The page's URL, with the token if there is one."""
        host, port = self._server.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else host
        query = "" if self.token is None else f"?{urllib.parse.urlencode({'token': self.token})}"
        return f"http://{shown!s}:{port}/{query}"

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
        """The newest picture's number and the picture: a newer one, or after a while the same; None at the end."""
        with self._changed:
            while not self._closed:
                newer = self._changed.wait_for(lambda: self._closed or self._number > after, _AGAIN_SECONDS)
                if not self._closed and (newer or self._picture is not None):
                    return self._number, self._picture
            return self._number, None

    def _may_look(self, host: str | None, query: str) -> bool:
        if self.token is not None:
            given = urllib.parse.parse_qs(query, max_num_fields=16).get("token", [""])[0]
            return hmac.compare_digest(given.encode(), self.token.encode())
        return host is not None and names_this_machine(host, self._host)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        page = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = PATIENCE_SECONDS
            server_version, sys_version = "dtfsal", ""

            def setup(self) -> None:
                super().setup()
                # Each read may take the timeout; all of a request's together may, too.
                self._late = threading.Timer(PATIENCE_SECONDS, self._give_up)
                self._late.daemon = True
                self._late.start()

            def finish(self) -> None:
                self._late.cancel()
                super().finish()

            def _give_up(self) -> None:
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

            def do_GET(self) -> None:
                self._late.cancel()
                try:
                    place = urllib.parse.urlsplit(self.path)
                    allowed = page._may_look(self.headers.get("Host"), place.query)
                except ValueError:
                    self.send_error(http.HTTPStatus.BAD_REQUEST)
                    return
                if not allowed:
                    self.send_error(http.HTTPStatus.FORBIDDEN, "open the page by the address that dtfsal printed")
                elif place.path == "/":
                    self._answer("text/html; charset=utf-8", _PAGE)
                elif place.path == "/status.json":
                    self._answer("application/json", json.dumps(page._status).encode())
                elif place.path == "/stream.mjpg":
                    self._stream()
                else:
                    self.send_error(http.HTTPStatus.NOT_FOUND)

            def do_HEAD(self) -> None:
                self.do_GET()

            def end_headers(self) -> None:
                for name, value in _HEADERS.items():
                    self.send_header(name, value)
                super().end_headers()

            def _answer(self, kind: str, body: bytes) -> None:
                self.send_response(http.HTTPStatus.OK)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def _stream(self) -> None:
                self.send_response(http.HTTPStatus.OK)
                self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
                self.end_headers()
                number = 0
                while self.command != "HEAD":
                    number, picture = page._next(number)
                    if picture is None:
                        return
                    head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                    self.wfile.write(head.encode() + picture + b"\r\n")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing: the terminal belongs to the command."""

        return Handler


class _Server(socketserver.ThreadingTCPServer):
    """Handles each connection in a thread, so many at once. Not an `HTTPServer`, which looks its own name up."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 32

    def __init__(self, host: str, port: int, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._free = threading.Semaphore(MOST_CONNECTIONS)
        super().__init__((host, port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        with contextlib.suppress(OSError):
            request.settimeout(1.0)
            request.sendall(b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that leaves or stalls is no news.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def names_this_machine(header: str, own: str) -> bool:
    """Whether a request's Host is an address, which cannot be rebound, or a name that stands for this machine."""
    name = urllib.parse.urlsplit(f"//{header}").hostname or ""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return name in ("localhost", own)
