"""URLs: only what a pattern allows, only at public addresses, only as much as fits, and never a step aside."""

import http.server
import socket
import threading
import time

import pytest

pytest.importorskip("fastapi")

from dtfsal.applications.server import fetching
from dtfsal.applications.server.fetching import Place, UrlPattern, fetch, is_public
from dtfsal.applications.server.refusals import Refusal
from dtfsal.engines.errors import UsageError


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        step = self.path.partition("?")[0].rpartition("/")[2]
        if step.startswith("to-"):
            self.send_response(302)
            target = {
                "to-video": "/videos/good",
                "to-other": self.server.other,
                "to-secret": "/secret/x",
                "to-to": "to-to",
            }
            self.send_header("Location", target[step])
            self.end_headers()
        elif step == "missing":
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", "4000000" if step == "large" else "5")
            self.end_headers()
            if step == "endless":
                time.sleep(0.5)
            self.wfile.write(b"vid" if step == "short" else b"video")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def origin():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.address = f"http://127.0.0.1:{server.server_port}"
        server.other = f"http://localhost:{server.server_port}/videos/good"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def take(url, path, pattern, private=True, seconds=20.0):
    return fetch(
        url,
        path,
        patterns=[UrlPattern.parse(pattern)],
        max_bytes=10**6,
        private_addresses=private,
        deadline=time.monotonic() + seconds,
    )


@pytest.mark.parametrize("step", ["good", "good?a=1", "to-video"])
def test_an_allowed_url_is_fetched(origin, tmp_path, step):
    path = tmp_path / "video"
    assert take(f"{origin.address}/videos/{step}", path, f"{origin.address}/videos/*") == 5
    assert path.read_bytes() == b"video"


@pytest.mark.parametrize(
    ("step", "status", "kind"),
    [
        ("large", 413, "too-large"),
        ("missing", 502, "not-given"),
        ("short", 502, "not-given"),
        ("to-other", 403, "url-not-allowed"),
        ("to-secret", 403, "url-not-allowed"),
        ("to-to", 502, "not-given"),
    ],
)
def test_what_goes_wrong_there_is_told(origin, tmp_path, step, status, kind):
    with pytest.raises(Refusal) as refused:
        take(f"{origin.address}/videos/{step}", tmp_path / "video", f"{origin.address}/videos/*")
    assert (refused.value.status, refused.value.kind) == (status, kind)


def test_a_slow_server_is_given_up(origin, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "_PATIENCE_SECONDS", 0.1)
    with pytest.raises(Refusal) as refused:
        take(f"{origin.address}/videos/endless", tmp_path / "video", f"{origin.address}/videos/*")
    assert refused.value.status == 504


def test_an_address_that_is_not_public_is_not_asked(origin, tmp_path):
    with pytest.raises(Refusal, match="not public"):
        take(f"{origin.address}/videos/good", tmp_path / "video", f"{origin.address}/*", private=False)
    assert not (tmp_path / "video").exists()


def test_the_address_that_was_checked_is_the_one_that_is_asked(tmp_path, monkeypatch):
    """A name that stands for a public address once, and for this machine the next time."""
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])
    asked = []

    def lookup(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(answers)]

    def connect(address, _timeout):
        asked.append(address)
        raise OSError("nothing is asked in a test")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(Refusal, match="cannot be reached"):
        take("https://media.example.org/a", tmp_path / "video", "https://media.example.org/*", private=False)
    assert asked == [("93.184.216.34", 443)]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
     "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
     "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:c0a8:1::1"],
)  # fmt: skip
def test_these_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_these_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("https://media.example.org/*", "https://media.example.org/a/b.mp4?t=1"),
        ("https://*.example.org/videos/*", "https://a.b.example.org/videos/x"),
        ("http://host:8080/*.mp4", "http://HOST:8080/a.mp4"),
        ("https://example.org/*", "https://example.org:443/x"),
    ],
)
def test_a_pattern_allows(pattern, url):
    assert UrlPattern.parse(pattern).matches(Place.parse(url))


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("https://media.example.org/*", "http://media.example.org/a"),
        ("https://media.example.org/*", "https://media.example.org:8443/a"),
        ("https://media.example.org/*", "https://media.example.org.evil.com/a"),
        ("https://media.example.org*", "https://media.example.org.evil.com/media.example.org"),
        ("https://*.example.org/*", "https://evil.com/.example.org/a"),
        ("https://*.example.org/*", "https://evil.com?.example.org/a"),
        ("https://example.org/videos/*", "https://example.org/secret"),
        ("https://example.org/videos/*", "https://example.org/VIDEOS/x"),
    ],
)
def test_a_pattern_does_not_allow(pattern, url):
    try:
        allowed = [UrlPattern.parse(pattern)]
    except UsageError:
        return
    assert not allowed[0].matches(Place.parse(url))


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://example.org/a", "//example.org/a", "example.org/a", "", "https://", "https:///a",
     "https://user@example.org/a", "https://example.org@evil.com/a", "https://example.org\\@evil.com/a",
     "https://example.org/videos/../secret", "https://example.org/videos/%2e%2E/secret", "https://example.org/a b",
     "https://example.org/a\r\nHost: evil.com", "https://exämple.org/a", "https://example.org:99999/a",
     "https://[::1/a", "https://example.org/" + 3000 * "a", "https://example.org:0x50/", "concat:https://example.org/a"],
)  # fmt: skip
def test_a_url_that_plays_tricks_is_refused(url):
    with pytest.raises(Refusal) as refused:
        Place.parse(url)
    assert refused.value.status == 400


@pytest.mark.parametrize("pattern", ["*", "example.org/*", "file:///*", "https://user@example.org/*", "https://a:x/*"])
def test_a_pattern_that_is_none_is_wrong_usage(pattern):
    with pytest.raises(UsageError, match="looks like"):
        UrlPattern.parse(pattern)


def test_the_server_fetches_and_predicts(serve, make_toy_clip, tmp_path):
    clip = make_toy_clip(count=6)

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=clip.parent)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as origin:
        threading.Thread(target=origin.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{origin.server_port}"
        client = serve(url_patterns=(f"{address}/*.mkv",), private_addresses=True)
        answer = client.post("/v1/predict", json={"url": f"{address}/{clip.name}"})
        assert len(answer.json()["frames"]) == 6
        assert client.post("/v1/predict", json={"url": f"{address}/other.mp4"}).status_code == 403
        assert client.post("/v1/predict", json={"url": f"{address}/none.mkv"}).status_code == 502
        origin.shutdown()
