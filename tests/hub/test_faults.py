"""What goes wrong with a repository: one sentence, its kind, and nothing left behind."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from dtfsal import SaliencyPredictor, open_engine
from dtfsal.engines import (
    EngineError,
    EngineMismatchError,
    OutputError,
    UsageError,
    read_bundle,
)
from dtfsal.engines.bundle.hub import Repository, fetch_weights
from dtfsal.runtime.cli import main

pytest.importorskip("huggingface_hub")

NAME, NOBODY = "someone/toy", "http://127.0.0.1:9"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edited(engine: Path, **changes) -> dict[str, bytes]:
    """The files of an engine whose manifest was changed, with its digest."""
    files = content(engine)
    text = json.dumps(json.loads(files["manifest.json"]) | changes).encode()
    digest = f"{hashlib.sha256(text).hexdigest()}  manifest.json\n".encode()
    return files | {"manifest.json": text, "manifest.sha256": digest}


BAD = {
    "pickle": ({"model.bin": b"x", "README.md": b""}, EngineError, "pickled weights (model.bin), which can run code"),
    "weights": ({"model.safetensors": b"x"}, EngineError, "build one with `dtfsal build --weights someone/toy`"),
    "nothing": ({"README.md": b""}, EngineError, "has no engine (no manifest.json)"),
    "digest": ({"manifest.json": b"{}"}, EngineError, "lacks the file manifest.sha256"),
}


@pytest.mark.parametrize("case", BAD)
def test_repositories_without_an_engine(hub, home, case):
    files, kind, words = BAD[case]
    hub.push(NAME, files)
    with pytest.raises(kind) as caught:
        read_bundle(NAME)
    assert words in str(caught.value)
    assert not (home / "cache").exists()


def test_repositories_without_weights(hub):
    for files, words in (
        ({"model.bin": b"x"}, "pickled weights"),
        ({"engine/manifest.json": b"{}"}, "has no weights as safetensors"),
        ({"a.safetensors": b"", "b.safetensors": b""}, "none is weights.safetensors"),
    ):
        hub.push(NAME, files)
        with pytest.raises(EngineError, match=words):
            fetch_weights(Repository(NAME))


def test_engines_that_are_not_what_their_manifest_says(hub, home, toy_engine):
    whole = content(toy_engine)
    record = json.loads(whole["manifest.json"])["files"]
    climbing = {f"../{name}": value for name, value in record.items()}
    cases = [
        (edited(toy_engine, schema_version=99), EngineMismatchError, "schema version 99 .* upgrade dtfsal"),
        (edited(toy_engine, schema_version=0), EngineError, "at least 1, not 0.* ask its maker to build it again"),
        (edited(toy_engine, files=climbing), EngineError, "name must be plain"),
        (whole | {"model.onnx": whole["model.onnx"][:-1]}, EngineError, "its maker must upload the engine again"),
        (whole | {"model.onnx": bytes(len(whole["model.onnx"]))}, EngineError, "another SHA-256"),
        (whole | {"manifest.sha256": b"0" * 64 + b"  manifest.json\n"}, EngineError, "does not match it"),
        (
            {name: value for name, value in whole.items() if name != "model.onnx"},
            EngineError,
            "lacks the file model.onnx",
        ),
    ]
    for files, kind, words in cases:
        hub.push(NAME, files)
        with pytest.raises(kind, match=words):
            read_bundle(NAME)
        assert [path for path in (home / "cache").rglob("*") if ".." in path.name or "partial" in path.name] == []


def test_files_of_impossible_sizes_are_not_downloaded(hub, toy_engine):
    hub.push_engine(toy_engine)
    for file, words in (("engine/manifest.json", "too large"), ("engine/model.onnx", "against its manifest")):
        hub.sizes = {file: 10**13}
        with pytest.raises(EngineError, match=words):
            read_bundle(NAME)
        assert f"GET /{NAME}/resolve/main/{file}" not in hub.requests
        assert not [request for request in hub.requests if request.startswith("GET") and request.endswith("model.onnx")]


def test_missing_repositories_and_revisions(hub, toy_engine, capsys):
    hub.push_engine(toy_engine)
    for name in ("someone/else", "someone/private"):
        assert main(["info", name]) == 4
        assert "no repository of that name, or a private one: check the name, or log in" in capsys.readouterr().err
    assert main(["info", f"{NAME}@v9"]) == 4
    assert "has no revision 'v9'" in capsys.readouterr().err


def test_no_network_and_nothing_in_the_cache(home, capsys):
    assert main(["predict", "clip.mp4", "-e", NAME]) == 5
    error = capsys.readouterr().err
    assert "someone/toy is not in the cache, and the hub cannot be asked" in error
    assert error.count("\n") == 1


def test_a_download_that_breaks_off(hub, home, toy_engine, monkeypatch, capsys):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    hub.push_engine(toy_engine)
    hub.short = {"engine/model.onnx"}
    assert main(["info", NAME]) == 5
    assert "the download of someone/toy broke off" in capsys.readouterr().err.splitlines()[-1]
    assert list((home / "cache" / "dtfsal" / "hub").glob("*/*/*")) == []
    hub.short = set()
    assert main(["info", NAME]) == 0


def test_without_the_library(home, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["info", NAME]) == 5
    assert "run `pip install 'dtfsal[hub]'`" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written(hub, home, toy_engine):
    hub.push_engine(toy_engine)
    (home / "cache").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be kept in the cache"):
        read_bundle(NAME)


def test_a_downloaded_engine_runs_no_code(hub, toy_engine, plant):
    engine, was_run = plant(toy_engine)
    hub.push_engine(engine)
    with pytest.raises(EngineError, match="brings native code"):
        open_engine(NAME)
    assert not was_run.exists()


def test_a_revision_is_of_a_repository(hub, toy_engine):
    for name in ("lite", str(toy_engine), f"{NAME}@main"):
        with pytest.raises(UsageError, match="is no repository"):
            SaliencyPredictor.from_pretrained(name, revision="main")
