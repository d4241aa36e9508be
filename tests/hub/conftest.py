"""A server on this machine that answers as a hub does. Nothing leaves the machine.

It keeps repositories in memory, and notes what it was asked and by whom.
"""

import base64
import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

NAME, NOBODY = "someone/toy", "http://127.0.0.1:9"


class Hub:
    """Repositories of files by commit; `main` is at the newest one. `short` files break off halfway."""

    def __init__(self):
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.requests: list[str] = []
        self.agents: set[str] = set()
        self.short: set[str] = set()
        self.sizes: dict[str, int] = {}
        self.refuses_writers = False
        self.is_down = False

    def push(self, name: str, files: dict[str, bytes]) -> str:
        """Add a commit; give its name."""
        history = self.commits.setdefault(name, [])
        text = json.dumps([len(history), sorted((k, hashlib.sha256(v).hexdigest()) for k, v in files.items())])
        history.append((hashlib.sha1(text.encode()).hexdigest(), dict(files)))
        return history[-1][0]

    def push_engine(self, engine: Path, name: str = NAME, prefix: str = "engine/", **more: bytes) -> str:
        files = {prefix + path.name: path.read_bytes() for path in engine.iterdir()}
        return self.push(name, files | {"README.md": b"# Toy\n", ".gitattributes": b""} | more)

    def files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        history = self.commits[name]
        return history[-1] if revision == "main" else next((c for c in history if c[0] == revision), None)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def answer(self, status=200, body=b"", **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, value, status=200):
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def found(self, name, revision):
        """The commit and its files; or the answers that a hub gives without them."""
        if name not in self.hub.commits:  # private ones are answered as those that are not there
            self.answer(401) if name == "someone/private" else self.answer(404, X_Error_Code="RepoNotFound")
        elif self.hub.is_down:
            self.answer(503)
        elif (commit := self.hub.files(name, revision)) is not None:
            return commit
        else:
            self.answer(404, X_Error_Code="RevisionNotFound")
        return None

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        self.hub.agents.add(self.headers["User-Agent"])
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name, (kind, revision) = "/".join(parts[2:4]), (parts[4:6] or ("revision", "main"))
            if (found := self.found(name, revision)) is None:
                return
            sizes = {file: self.hub.sizes.get(file, len(content)) for file, content in found[1].items()}
            if kind == "tree":
                self.answer_json([{"type": "file", "path": f, "size": n, "oid": "0" * 40} for f, n in sizes.items()])
            else:
                siblings = [{"rfilename": file, "size": size} for file, size in sizes.items()]
                self.answer_json({"id": name, "sha": found[0], "siblings": siblings})
            return
        name, revision, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        if (found := self.found(name, revision)) is None:
            return
        if file not in found[1]:
            self.answer(404, X_Error_Code="EntryNotFound")
            return
        content = found[1][file]
        if file in self.hub.short and self.command == "GET":
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if "Range" not in self.headers:
                self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        self.answer(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=found[0])

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self):
        path = urlsplit(self.path).path
        self.hub.requests.append(f"POST {path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name = "/".join(path.split("/")[3:5])
        if path == "/api/validate-yaml":
            self.answer_json({})
        elif self.hub.refuses_writers or "Authorization" not in self.headers:
            self.answer_json({"error": "no"}, 403)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            known = name in self.hub.commits
            self.hub.commits.setdefault(name, [("0" * 40, {".gitattributes": b""})])
            self.answer_json({"url": f"http://{self.headers['Host']}/{name}"}, 409 if known else 200)
        elif path.endswith("/preupload/main"):
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self.answer_json({"files": files})
        else:
            files = dict(self.hub.files(name, "main")[1])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del files[line["value"]["path"]]
            commit = self.hub.push(name, files)
            self.answer_json(
                {"commitUrl": f"http://{self.headers['Host']}/{name}/commit/{commit}", "commitOid": commit}
            )


@contextlib.contextmanager
def serving(hub: Hub):
    handler = type("Handler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def use_hub(monkeypatch):
    """Let huggingface_hub ask the server at a URL."""
    from huggingface_hub import constants

    def use(url: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")

    return use


@pytest.fixture
def home(tmp_path, monkeypatch, use_hub):
    """Empty caches and an empty working folder; a hub that nobody serves."""
    from huggingface_hub import constants

    use_hub(NOBODY)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def hub(home, use_hub):
    """A hub on this machine, and huggingface_hub that asks it."""
    found = Hub()
    with serving(found) as url:
        use_hub(url)
        yield found
