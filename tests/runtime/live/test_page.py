"""Who may look at the live page, and what clients that misbehave come to."""

import contextlib
import http.client
import socket
import time
import urllib.parse

import numpy as np
import pytest

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.live import page as module
from dtfsal.runtime.live.page import MOST_CONNECTIONS, MjpegServer, is_loopback

PICTURE = np.zeros((16, 24, 3), np.uint8)


@pytest.fixture
def page():
    with MjpegServer() as served:
        yield served


def port_of(page):
    return urllib.parse.urlsplit(page.address).port


def asked(page, path="/", method="GET", host="127.0.0.1", **headers):
    """Status and body of a request."""
    place = urllib.parse.urlsplit(page.address)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    for name, value in ({"Host": host} if host is not None else {}).items():
        connection.putheader(name, value)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    with contextlib.closing(connection):
        return answer.status, answer.read()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8765", "localhost:1", "[::1]:8765", "192.0.2.7"])
def test_addresses_may_look(page, host):
    assert asked(page, host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "evil.example:8765", "", "[", None, "127.0.0.1.evil"]
)
@pytest.mark.parametrize("path", ["/", "/status.json", "/stream.mjpg"])
def test_other_names_may_not(page, host, path):
    """A page at evil.example whose name leads to 127.0.0.1 must not read a camera."""
    page.show(PICTURE, {"secret": 1})
    status, body = asked(page, path, host=host)
    assert status in (400, 403)
    assert b"secret" not in body


def test_beyond_this_machine_a_token_is_asked_for():
    with MjpegServer("0.0.0.0") as page:
        assert len(page.token) >= 16
        assert page.address.endswith(f"/?token={page.token}")
        assert asked(page, f"/?token={page.token}", host="any.example")[0] == 200
        for path in ("/", "/?token=", "/?token=wrong", f"/?tokens={page.token}", "/status.json", "/stream.mjpg"):
            assert asked(page, path)[0] == 403
    with MjpegServer(token="mine & yours") as page:
        assert asked(page, "/?token=mine+%26+yours")[0] == 200
        assert asked(page)[0] == 403
    with pytest.raises(UsageError, match="must not be empty"):
        MjpegServer(token="")


def test_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "example.org", "")))


def test_ipv6():
    try:
        page = MjpegServer("::1")
    except Exception:
        pytest.skip("no IPv6 here")
    with page:
        assert page.address.startswith("http://[::1]:")
        assert asked(page, host=f"[::1]:{port_of(page)}")[0] == 200


def test_head_and_queries(page):
    page.show(PICTURE, {"maps": 1})
    for path in ("/", "/?x", "/status.json?x=1", "/stream.mjpg"):
        assert asked(page, path, "HEAD") == (200, b"")
    assert b"picture" in asked(page, "/?x")[1]
    assert asked(page, "/other")[0] == 404
    assert asked(page, "/", "POST")[0] == 501
    assert asked(page, "http://[")[0] == 400


def test_other_pages_may_not_show_it(page):
    connection = http.client.HTTPConnection("127.0.0.1", port_of(page), timeout=20)
    connection.request("GET", "/")
    headers = connection.getresponse().headers
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"
    connection.close()


def test_clients_that_leave_are_no_news(page, capfd):
    page.show(PICTURE, {})
    for request in (b"", b"GET", b"GET / HTTP/1.0\r\n", b"GET /stream.mjpg HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"):
        client = socket.create_connection(("127.0.0.1", port_of(page)))
        client.sendall(request)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closes by a reset
        client.close()
    for _ in range(20):
        page.show(PICTURE, {})
        time.sleep(0.01)
    assert asked(page)[0] == 200
    assert capfd.readouterr() == ("", "")


def test_so_many_connections_and_no_more(page):
    page.show(PICTURE, {})
    clients = []
    for _ in range(MOST_CONNECTIONS):
        client = socket.create_connection(("127.0.0.1", port_of(page)), timeout=20)
        client.sendall(b"GET /stream.mjpg HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        assert client.recv(15) == b"HTTP/1.0 200 OK"
        clients.append(client)
    with contextlib.closing(socket.create_connection(("127.0.0.1", port_of(page)), timeout=20)) as further:
        assert further.recv(100).startswith(b"HTTP/1.0 503")
    for client in clients:
        client.close()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        page.show(PICTURE, {})  # those who have gone are noticed
        with contextlib.suppress(OSError, http.client.HTTPException):
            if asked(page)[0] == 200:
                return
    pytest.fail("places did not become free")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.0\r\n", b"G"])
def test_a_client_that_stalls_is_dropped(sent, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.3)
    with MjpegServer() as page, socket.create_connection(("127.0.0.1", port_of(page)), timeout=30) as client:
        client.sendall(sent)
        with contextlib.suppress(ConnectionError):
            assert client.recv(100) == b""


def test_a_client_that_drips_is_dropped(monkeypatch):
    """Each byte comes in time, and the request never ends."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.5)
    with MjpegServer() as page, socket.create_connection(("127.0.0.1", port_of(page)), timeout=0.05) as client:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                client.sendall(b"x")
                if client.recv(100) == b"":
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
    pytest.fail("it was served for a minute")
