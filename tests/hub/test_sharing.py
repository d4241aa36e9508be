"""Engines to a folder and to a hub, and their model cards."""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from dtfsal import SaliencyPredictor, StreamPredictor
from dtfsal.engines import (
    OutputError,
    UnavailableError,
    UsageError,
    read_bundle,
    write_bundle,
)
from dtfsal.runtime.cli import main

pytest.importorskip("huggingface_hub")

NAME, NOBODY = "someone/toy", "http://127.0.0.1:9"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_is_saved_and_read(home, toy_engine, capsys):
    with SaliencyPredictor(toy_engine) as predictor:
        folder = predictor.save_pretrained("mine")
        with pytest.raises(UsageError, match="exists already"):
            predictor.save_pretrained("mine")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "engine"]
    assert content(folder / "engine") == content(toy_engine)
    with SaliencyPredictor.from_pretrained("mine") as again:
        assert again.engine.bundle.path == Path("mine/engine")
    assert main(["info", "mine"]) == 0


def test_the_weights_go_along_if_they_are_the_engines(home, toy_engine):
    weights, other = Path("mine.safetensors"), Path("other.safetensors")
    weights.write_bytes(b"these")
    other.write_bytes(b"those")
    digest = hashlib.sha256(b"these").hexdigest()
    bundle = read_bundle(toy_engine)
    made_of_them = dataclasses.replace(bundle.manifest, weights={"source": weights.name, "sha256": digest})
    write_bundle("mine.engine", made_of_them, {name: bundle.file(name) for name in bundle.manifest.files})
    with SaliencyPredictor("mine.engine") as predictor:
        folder = predictor.save_pretrained("mine", weights=weights, licence="CC-BY-4.0")
        assert (folder / "weights.safetensors").read_bytes() == b"these"
        card = (folder / "README.md").read_text()
        assert digest in card
        assert "license: cc-by-4.0\n" in card
        for wrong, words in ((other, "was not made of"), (Path("no.safetensors"), "no weights file")):
            with pytest.raises(UsageError, match=words):
                predictor.save_pretrained("again", weights=wrong)
        with pytest.raises(UsageError, match="SPDX"):
            predictor.save_pretrained("again", licence="mine: all rights\n- reserved")
    assert sorted(path.name for path in Path().iterdir()) == ["mine", "mine.engine", weights.name, other.name]


def test_the_card_says_what_the_engine_is(home):
    yaml = pytest.importorskip("yaml")
    with SaliencyPredictor() as predictor:
        card = (predictor.save_pretrained("mine") / "README.md").read_text()
        manifest = predictor.engine.manifest
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "apache-2.0",  # the package's own weights
        "library_name": "dtfsal",
        "tags": ["saliency", "eye-tracking", "video"],
    }
    for fact in (manifest.weights["sha256"], "384x224", manifest.builder_version, "no measurement", "apache-2.0"):
        assert fact in text


def test_a_manifest_cannot_write_into_the_card(home, make_toy_engine):
    engine = make_toy_engine(weights="<script>|[x](y)`")
    with SaliencyPredictor(engine) as predictor:
        card = (predictor.save_pretrained("mine") / "README.md").read_text()
    assert r"\<script\>\|\[x\](y)\`" in card
    assert "license" not in card.split("---")[1]


def test_there_and_back(hub, toy_engine, toy_visual_engine):
    with SaliencyPredictor(toy_engine) as predictor:
        first = predictor.push_to_hub(NAME, licence="mit")
    assert first == f"{NAME}@{hub.commits[NAME][-1][0]}"
    assert content(read_bundle(first).path) == content(toy_engine)
    assert f"dtfsal predict clip.mp4 -e {NAME}" in hub.commits[NAME][-1][1]["README.md"].decode()
    hub.commits[NAME][-1][1]["engine/old.onnx"] = b"of an engine that was there before"
    with StreamPredictor(toy_visual_engine) as predictor:
        second = predictor.push_to_hub(NAME)
    assert "engine/old.onnx" not in hub.commits[NAME][-1][1]
    assert content(read_bundle(NAME).path) == content(toy_visual_engine)
    assert (read_bundle(first).manifest.audio is None, read_bundle(second).manifest.audio is None) == (False, True)


def test_what_cannot_be_pushed(hub, home, toy_engine, use_hub):
    with SaliencyPredictor(toy_engine) as predictor:
        for name in ("toy", "a/b/c", f"{NAME}@main", "../toy"):
            with pytest.raises(UsageError, match="ORG/NAME"):
                predictor.push_to_hub(name)
        hub.refuses_writers = True
        with pytest.raises(OutputError, match="log in with `hf auth login`"):
            predictor.push_to_hub(NAME)
        use_hub(NOBODY)
        with pytest.raises(UnavailableError, match="cannot be uploaded"):
            predictor.push_to_hub(NAME)
