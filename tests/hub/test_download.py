"""Engines and weights from a hub: names, the cache, without a network, and who learns what."""

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dtfsal import SaliencyPredictor, StreamPredictor
from dtfsal.engines import (
    EngineError,
    read_bundle,
)
from dtfsal.engines.bundle.hub import Repository, fetch_weights, parse_repository
from dtfsal.export.cli.common import weights_file
from dtfsal.runtime.cli import main

pytest.importorskip("huggingface_hub")

NAME, NOBODY = "someone/toy", "http://127.0.0.1:9"

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 24, 40, 3), np.uint8)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# What is a repository's name.


@pytest.mark.parametrize(
    ("text", "repository"),
    [
        ("org/name", Repository("org/name")),
        ("Org-1/na.me_2@v1.0", Repository("Org-1/na.me_2", "v1.0")),
        ("org/name@refs/pr/1", Repository("org/name", "refs/pr/1")),
        ("org/name@" + "a" * 40, Repository("org/name", "a" * 40)),
    ],
)
def test_names_of_repositories(text, repository):
    assert parse_repository(text) == repository
    assert str(repository) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "lite",
            "a/b/c",
            "/org/name",
            "./name",
            "../name",
            "org/",
            "~/name",
            "org/../name",
            "org/na--me",
            "org/-name",
        ),
        *("org/name@", "org/name@-x", "org/name@a..b", "org/name\n", "orgé/name", "https://hub/name", "o/" + "n" * 95),
        *("out/lite.engine", "videos/clip.mp4", "runs/best.safetensors"),
    ],
)
def test_what_is_no_name_is_a_path(text):
    assert parse_repository(text) is None


def test_a_path_through_a_folder_that_is_there_is_no_repository(home):
    """A mistyped path is not told to anybody."""
    Path("org").mkdir()
    assert parse_repository("org/name") is None
    assert parse_repository("org/name@main") == Repository("org/name", "main")


def test_the_hub_is_asked_for_nothing_but_repositories(hub, toy_engine):
    Path("org").mkdir()
    for name in ("lite", toy_engine, "nothing", "org/nothing", "./some/where", "out/lite.engine"):
        with contextlib.suppress(EngineError):
            read_bundle(name)
    assert hub.requests == []


# From a hub.


@pytest.mark.parametrize("prefix", ["engine/", ""])
def test_a_predictor_from_a_repository(hub, toy_engine, prefix):
    commit = hub.push_engine(toy_engine, prefix=prefix, **{"other.onnx": b"not listed", "run.py": b"raise SystemExit"})
    with SaliencyPredictor(toy_engine) as local, SaliencyPredictor.from_pretrained(NAME, stride=2) as shared:
        expected = local.predict_arrays(FRAMES, 25)
        assert shared.stride == 2
        assert np.array_equal(shared.predict_arrays(FRAMES, 25)[::2], expected[::2])
        folder = shared.engine.bundle.path
        assert shared.engine.describe()["repository"] == f"{NAME}@{commit}"
    assert content(folder) == content(toy_engine)
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert not [request for request in hub.requests if "other.onnx" in request or "run.py" in request]
    with StreamPredictor.from_pretrained(NAME, frame_rate_hz=25) as stream:
        assert stream.engine.bundle.path == folder


def test_the_commit_is_told_and_a_pinned_one_keeps(hub, toy_engine, toy_visual_engine, caplog):
    first = hub.push_engine(toy_engine)
    assert read_bundle(NAME).manifest.audio is not None
    assert caplog.messages == [f"{NAME} is at commit {first}; `{NAME}@{first}` keeps to it"]
    caplog.clear()
    second = hub.push_engine(toy_visual_engine)
    assert read_bundle(NAME).manifest.audio is None
    assert second in caplog.text
    caplog.clear()
    hub.requests.clear()
    for pinned in (
        read_bundle(f"{NAME}@{first}"),
        SaliencyPredictor.from_pretrained(NAME, revision=first).engine.bundle,
    ):
        assert pinned.manifest.audio is not None
        assert pinned.repository == f"{NAME}@{first}"
    assert (caplog.messages, hub.requests) == ([], [])


def test_info_and_predict_on_the_command_line(hub, toy_engine, make_toy_clip, capsys):
    commit = hub.push_engine(toy_engine)
    assert main(["info", NAME]) == 0
    assert f"downloaded from   {NAME}@{commit}" in capsys.readouterr().out
    assert main(["info", f"{NAME}@{commit}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["repository"] == f"{NAME}@{commit}"
    assert main(["predict", str(make_toy_clip()), "-e", NAME, "-o", "maps.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"]["repository"] == f"{NAME}@{commit}"
    assert np.load("maps.npz")["saliency_maps"].shape == (12, 24, 40)


def test_offline_what_was_used_before_is_there(hub, home, toy_engine, use_hub, monkeypatch, caplog):
    from huggingface_hub import constants

    commit, url = hub.push_engine(toy_engine), constants.ENDPOINT
    read_bundle(NAME)
    caplog.clear()
    for offline in (True, False):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        use_hub(NOBODY)
        for name in (NAME, f"{NAME}@{commit}"):
            assert content(read_bundle(name).path) == content(toy_engine)
        assert f"{NAME} is at commit {commit} in the cache, since the hub cannot be asked" in caplog.messages[-1]
        assert ("HF_HUB_OFFLINE is set" in caplog.messages[-1]) == offline
    use_hub(url)
    hub.is_down = True
    shutil.rmtree(home / "cache")  # as after `hf download`: the hub's cache alone
    assert content(read_bundle(NAME).path) == content(toy_engine)
    assert "it answers with HTTP 503" in caplog.messages[-1]


def test_a_folder_is_taken_before_a_repository_and_that_is_told(hub, toy_engine, toy_visual_engine, caplog):
    hub.push_engine(toy_engine)
    shutil.copytree(toy_visual_engine, NAME)
    assert read_bundle(NAME).manifest.audio is None
    assert (hub.requests, caplog.messages) == ([], [])
    assert read_bundle(f"{NAME}@main").manifest.audio is not None
    caplog.clear()
    assert read_bundle(NAME).manifest.audio is None
    assert caplog.messages == [f"{NAME} is the folder here, and not the repository of a hub, which is `{NAME}@main`"]


def test_a_damaged_download_is_mended(hub, home, toy_engine):
    """Files of the hub's cache were cut, as by a full disk."""
    commit = hub.push_engine(toy_engine)
    read_bundle(NAME)
    shutil.rmtree(home / "cache")
    for name in ("model.onnx", "manifest.json", "manifest.sha256"):
        blob = (home / "hf" / "models--someone--toy" / "snapshots" / commit / "engine" / name).resolve()
        blob.write_bytes(blob.read_bytes()[:-10])
    assert content(read_bundle(NAME).path) == content(toy_engine)


def test_weights_of_a_repository(hub, use_hub):
    hub.push(NAME, {"weights.safetensors": b"these", "other.safetensors": b"those", "model.bin": b"pickle"})
    assert fetch_weights(Repository(NAME)).read_bytes() == b"these"
    hub.push(NAME, {"model.safetensors": b"the only ones"})
    assert fetch_weights(Repository(NAME)).read_bytes() == b"the only ones"
    use_hub(NOBODY)
    assert fetch_weights(Repository(NAME)).read_bytes() == b"the only ones"


def test_build_takes_weights_of_a_repository(hub, home, capsys):
    hub.push(NAME, {"weights.safetensors": b"these"})
    assert weights_file(Path(NAME)).read_bytes() == b"these"
    assert weights_file(Path("mine.safetensors")) == Path("mine.safetensors")
    assert main(["build", "--weights", NAME, "-o", "new.engine", "--quiet"]) == 4
    assert "weights.safetensors is not a safetensors file" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


# Who learns what.

PROGRAM = "import sys, time; from dtfsal.runtime.cli import main; code = main(); time.sleep(1); sys.exit(code)"


def test_a_download_asks_the_hub_alone_and_tells_nothing(hub, home, toy_engine, watched, monkeypatch):
    from huggingface_hub import constants

    commit = hub.push_engine(toy_engine)
    hub.agents.clear()
    environment = {"HF_ENDPOINT": constants.ENDPOINT, "HF_HUB_DISABLE_XET": "1"}
    network, files = watched(sys.executable, "-c", PROGRAM, "info", NAME, **environment)
    assert {line.split()[-1] for line in network} <= {"127.0.0.1", "localhost"}
    cache = {path.relative_to(home / "home") for path in files if path.is_relative_to(home / "home")}
    assert {path.parts[:2] for path in cache} == {(".cache", "dtfsal"), (".cache", "huggingface")}
    assert {path for path in files if not path.is_relative_to(home / "home")} == set()
    expected = {f"/api/models/{NAME}", *(f"/{NAME}/resolve/{commit}/engine/{name}" for name in content(toy_engine))}
    expected |= {f"/{NAME}/resolve/main/engine/manifest.json"}
    assert {request.split()[1] for request in hub.requests} <= expected
    assert all("torch" not in agent and "agent/" not in agent for agent in hub.agents)


def test_nothing_is_imported_for_other_engines(toy_engine):
    code = f"import sys, dtfsal; dtfsal.open_engine({str(toy_engine)!r}); sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
