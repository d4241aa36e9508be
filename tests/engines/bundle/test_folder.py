import dataclasses
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from dtfsal.engines import (
    EngineError,
    EngineMismatchError,
    FileRecord,
    GraphSpec,
    OutputError,
    UsageError,
    read_bundle,
    write_bundle,
)
from dtfsal.engines.bundle import shipped
from dtfsal.engines.bundle.manifest import sha256_file

CONTENT = {"model.onnx": b"graph" * 1000, "model.onnx.data": bytes(range(256)) * 64}


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "sources"
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in CONTENT}


@pytest.fixture
def engine(tmp_path, manifest, sources):
    folder = tmp_path / "place" / "tiny.engine"
    write_bundle(folder, manifest, sources)
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rewrite_manifest(engine: Path, document: object) -> None:
    """Edit the manifest and, as a careful forger would, its digest too."""
    text = json.dumps(document).encode()
    (engine / "manifest.json").write_bytes(text)
    (engine / "manifest.sha256").write_text(f"{hashlib.sha256(text).hexdigest()}  manifest.json\n")


def test_written_bundle_reads_back(tmp_path, manifest, sources):
    folder = tmp_path / "deep" / "er" / "tiny.engine"
    written = write_bundle(folder, manifest, sources)
    bundle = read_bundle(str(folder))
    assert bundle.path == folder
    assert bundle.manifest == written == dataclasses.replace(manifest, files=written.files)
    assert written.files == {
        name: FileRecord(hashlib.sha256(content).hexdigest(), len(content)) for name, content in CONTENT.items()
    }
    assert {name: content for name, content in tree(folder).items() if not name.startswith("manifest")} == CONTENT
    assert [p.name for p in folder.parent.iterdir()] == ["tiny.engine"]
    assert bundle.file("model.onnx") == folder / "model.onnx"


def test_sha256sum_checks_the_manifest(engine):
    if not shutil.which("sha256sum"):
        pytest.skip("no sha256sum here")
    subprocess.run(["sha256sum", "--check", "--status", "manifest.sha256"], cwd=engine, check=True)


def test_a_moved_bundle_reads(engine, tmp_path):
    moved = engine.rename(tmp_path / "elsewhere")
    assert read_bundle(moved).path == moved


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "manifest.sha256"])
def test_symbolic_links_are_refused_even_to_the_right_content(engine, tmp_path, name):
    blob = (engine / name).rename(tmp_path / "blob")
    (engine / name).symlink_to(blob)
    with pytest.raises(EngineError, match=f"{name} is not a regular file, and an engine holds no links"):
        read_bundle(engine)


def test_engines_of_a_package_that_was_installed_as_links(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "_FOLDER", tmp_path / "shipped")
    folder = tmp_path / "shipped" / "ours"
    folder.mkdir(parents=True)
    for file in engine.iterdir():
        (folder / file.name).symlink_to(file)
    assert read_bundle("ours").path == folder
    with pytest.raises(EngineError, match="holds no links"):
        read_bundle(shutil.copytree(folder, tmp_path / "copy", symlinks=True))


def test_the_folder_itself_may_be_a_link(engine, tmp_path):
    (tmp_path / "link").symlink_to(engine)
    read_bundle(tmp_path / "link")


def test_describe_is_json_with_the_facts(engine):
    facts = read_bundle(engine).describe()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["size_bytes"] == sum(map(len, CONTENT.values()))
    assert facts["clip"]["seconds"] == pytest.approx(2 / 30, abs=1e-6)  # rounded to the microsecond
    # Nine slices every 0.11 s, the last one 63 hops of 10 ms and a window of 25 ms long.
    assert facts["audio"]["seconds"] == pytest.approx(8 * 0.11 + 63 * 0.01 + 0.025, abs=1e-6)
    assert facts["graphs"]["window"]["inputs"][0]["shape"] == [-1, 3, 2, 4, 6]


def test_unknown_file_is_named(engine):
    with pytest.raises(UsageError, match=r"no file 'model\.engine'; it has model\.onnx, model\.onnx\.data"):
        read_bundle(engine).file("model.engine")


# What may be wrong with a folder that is read.


def test_missing_folder(tmp_path):
    with pytest.raises(EngineError, match=r"nowhere does not exist; .*dtfsal build"):
        read_bundle(tmp_path / "nowhere")


def test_a_file_instead_of_a_folder(sources):
    with pytest.raises(EngineError, match="is a file and an engine is a folder"):
        read_bundle(sources["model.onnx"])


def test_empty_and_foreign_folders(tmp_path):
    with pytest.raises(EngineError, match=r"is not an engine, since it has no manifest\.json"):
        read_bundle(tmp_path)
    (tmp_path / "manifest.json").write_text('{"name": "web app", "icons": []}')
    with pytest.raises(EngineError, match="not an engine's manifest"):
        read_bundle(tmp_path)
    (tmp_path / "manifest.json").write_bytes(os.urandom(64))
    with pytest.raises(EngineError, match="not valid JSON"):
        read_bundle(tmp_path)
    with (tmp_path / "manifest.json").open("wb") as stream:
        stream.truncate(10 * 2**20)
    with pytest.raises(EngineError, match="too large"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "manifest.sha256", "manifest.json"])
def test_missing_file(engine, name):
    (engine / name).unlink()
    with pytest.raises(EngineError, match=name):
        read_bundle(engine)


@pytest.mark.parametrize("name", ["notes.txt", ".DS_Store", "model.onnx~"])
def test_extra_file(engine, name):
    (engine / name).write_text("x")
    with pytest.raises(EngineError, match="does not list"):
        read_bundle(engine)


def test_extra_folder(engine):
    (engine / "cache").mkdir()
    with pytest.raises(EngineError, match="holds 'cache'"):
        read_bundle(engine)


def test_folder_or_pipe_in_the_place_of_a_file(engine):
    (engine / "model.onnx").unlink()
    (engine / "model.onnx").mkdir()
    with pytest.raises(EngineError, match="not a regular file"):
        read_bundle(engine)
    (engine / "model.onnx").rmdir()
    os.mkfifo(engine / "model.onnx")  # opening it would wait for ever
    with pytest.raises(EngineError, match="not a regular file"):
        read_bundle(engine)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", CONTENT)
def test_truncated_file(engine, name, verify):
    (engine / name).write_bytes(CONTENT[name][:-1])
    with pytest.raises(EngineError, match=rf"{name} has {len(CONTENT[name]) - 1} bytes and the manifest says"):
        read_bundle(engine, verify=verify)


@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize("position", [0, -1])
def test_one_edited_bit(engine, name, position):
    content = bytearray(CONTENT[name])
    content[position] ^= 1
    (engine / name).write_bytes(content)
    with pytest.raises(EngineError, match=rf"{name} has another SHA-256"):
        read_bundle(engine)
    read_bundle(engine, verify=False)


def test_truncated_manifest(engine):
    text = (engine / "manifest.json").read_bytes()
    for length in (0, 1, len(text) // 2, len(text) - 3):
        (engine / "manifest.json").write_bytes(text[:length])
        with pytest.raises(EngineError, match="not valid JSON"):
            read_bundle(engine)


@pytest.mark.parametrize("verify", [True, False])
def test_edited_manifest(engine, verify):
    text = (engine / "manifest.json").read_text()
    (engine / "manifest.json").write_text(text.replace("0.225", "0.226", 1))
    with pytest.raises(EngineError, match="was edited after the engine was built"):
        read_bundle(engine, verify=verify)


def test_manifest_that_leads_out_of_the_folder(engine, tmp_path):
    (tmp_path / "place" / "secret.onnx").write_bytes(CONTENT["model.onnx"])
    document = json.loads((engine / "manifest.json").read_text())
    document["files"]["../secret.onnx"] = document["files"].pop("model.onnx")
    document["graphs"]["window"]["file"] = "../secret.onnx"
    rewrite_manifest(engine, document)
    with pytest.raises(EngineError, match="must be plain"):
        read_bundle(engine)


def test_newer_schema(engine):
    document = json.loads((engine / "manifest.json").read_text())
    rewrite_manifest(engine, {**document, "schema_version": 5, "new": True})
    with pytest.raises(EngineMismatchError, match="upgrade dtfsal"):
        read_bundle(engine)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(engine):
    (engine / "model.onnx").chmod(0)
    with pytest.raises(EngineError, match="cannot be read as an engine: Permission denied"):
        read_bundle(engine)


# Writing: whole or not at all.


def test_existing_engine_needs_overwrite(engine, manifest, sources):
    before = tree(engine)
    with pytest.raises(UsageError, match="already holds an engine"):
        write_bundle(engine, manifest, sources)
    assert tree(engine) == before
    sources["model.onnx"].write_bytes(b"new")
    write_bundle(engine, manifest, sources, overwrite=True)
    assert tree(engine)["model.onnx"] == b"new"
    read_bundle(engine)
    assert [p.name for p in engine.parent.iterdir()] == [engine.name]


def test_damaged_engine_can_be_overwritten(engine, manifest, sources):
    (engine / "model.onnx").unlink()
    (engine / "model.onnx.data").write_bytes(b"")
    write_bundle(engine, manifest, sources, overwrite=True)
    read_bundle(engine)


def test_empty_folder_is_filled(tmp_path, manifest, sources):
    (tmp_path / "empty").mkdir()
    write_bundle(tmp_path / "empty", manifest, sources)
    read_bundle(tmp_path / "empty")


def test_link_to_an_engine_is_followed(engine, tmp_path, manifest, sources):
    link = tmp_path / "link"
    link.symlink_to(engine)
    write_bundle(link, manifest, sources, overwrite=True)
    assert link.is_symlink()
    read_bundle(link)


@pytest.mark.parametrize(
    "foreign", [{"thesis.txt": "x"}, {"manifest.json": "{}"}, {"manifest.json": '{"name": "app"}'}]
)
def test_foreign_folder_is_never_overwritten(tmp_path, manifest, sources, foreign):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, content in foreign.items():
        (folder / name).write_text(content)
    with pytest.raises(UsageError, match="is not an engine"):
        write_bundle(folder, manifest, sources, overwrite=True)
    assert {name: content.decode() for name, content in tree(folder).items()} == foreign


def test_engine_with_something_foreign_in_it_is_not_overwritten(engine, manifest, sources):
    (engine / "notes.txt").write_text("my notes")
    with pytest.raises(UsageError, match=r"holds 'notes\.txt'"):
        write_bundle(engine, manifest, sources, overwrite=True)
    assert (engine / "notes.txt").read_text() == "my notes"


def test_file_in_the_place_of_the_folder(tmp_path, manifest, sources):
    (tmp_path / "out").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        write_bundle(tmp_path / "out", manifest, sources, overwrite=True)
    with pytest.raises(OutputError, match="cannot be written: "):
        write_bundle(tmp_path / "out" / "engine", manifest, sources)
    with pytest.raises(UsageError, match="name a new one"):
        write_bundle("/", manifest, sources)


def test_missing_source_leaves_nothing(tmp_path, manifest, sources):
    sources["model.onnx.data"] = tmp_path / "gone"
    with pytest.raises(OutputError, match="No such file"):
        write_bundle(tmp_path / "place" / "engine", manifest, sources)
    assert list((tmp_path / "place").iterdir()) == []


@pytest.mark.parametrize("name", ["../model.onnx", "manifest.json", ""])
def test_bad_names_leave_nothing(tmp_path, manifest, sources, name):
    with pytest.raises(EngineError, match="name"):
        write_bundle(tmp_path / "place" / "engine", manifest, {name: sources["model.onnx"]})
    assert not (tmp_path / "place").exists()


def test_graph_without_its_file_leaves_nothing(tmp_path, manifest, sources):
    graphs = {"window": GraphSpec("other.onnx", manifest.graphs["window"].inputs, manifest.graphs["window"].outputs)}
    with pytest.raises(EngineError, match=r"other\.onnx' is not among the bundle's files"):
        write_bundle(tmp_path / "place" / "engine", dataclasses.replace(manifest, graphs=graphs), sources)
    with pytest.raises(EngineError, match="without files"):
        write_bundle(tmp_path / "place" / "engine", manifest, {})
    assert not (tmp_path / "place").exists() or not list((tmp_path / "place").iterdir())


FAULTS = [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), MemoryError()]


class Faulty:
    """Stands for a function and raises a fault at its n-th call."""

    def __init__(self, real, fault, strike_at):
        self.real, self.fault, self.strike_at, self.calls = real, fault, strike_at, 0

    def __call__(self, *args):
        self.calls += 1
        if self.calls == self.strike_at:
            raise self.fault
        return self.real(*args)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("existing", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize(
    ("where", "call", "steps"),
    # Flushed are the two files, the manifest and its digest (two folders follow, where a fault no longer matters);
    # renamed is the new folder and, before it, the old one.
    [(os, "fsync", 4), (os, "rename", None)],
    ids=["fsync", "rename"],
)
def test_interrupted_at_any_step_leaves_all_as_it_was(
    tmp_path, manifest, sources, monkeypatch, fault, existing, where, call, steps
):
    place = tmp_path / "place"
    if existing:
        write_bundle(place / "engine", manifest, sources)
        sources["model.onnx"].write_bytes(b"new")
    before = tree(place) if existing else {}
    steps = steps or (2 if existing else 1)
    for strike_at in range(1, steps + 1):
        faulty = Faulty(getattr(where, call), fault, strike_at)
        monkeypatch.setattr(where, call, faulty)
        with pytest.raises((KeyboardInterrupt, MemoryError, OutputError)):
            write_bundle(place / "engine", manifest, sources, overwrite=existing)
        monkeypatch.setattr(where, call, faulty.real)
        assert faulty.calls >= strike_at
        assert [p.name for p in place.iterdir()] == (["engine"] if existing else [])
        assert tree(place) == before
    write_bundle(place / "engine", manifest, sources, overwrite=existing)
    read_bundle(place / "engine")


def test_a_folder_that_cannot_be_flushed_does_not_spoil_the_engine(tmp_path, manifest, sources, monkeypatch):
    # Some network file systems refuse to flush folders; the files themselves are flushed by then.
    faulty = Faulty(os.fsync, OSError(errno.EINVAL, os.strerror(errno.EINVAL)), 6)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", faulty)
        write_bundle(tmp_path / "engine", manifest, sources)
    assert faulty.calls == 6
    read_bundle(tmp_path / "engine")


def test_a_full_disk_is_one_sentence(tmp_path, manifest):
    """The kernel itself refuses the write: the file size limit stands for the full disk."""
    pytest.importorskip("resource")
    source = tmp_path / "model.onnx"
    source.write_bytes(bytes(1 << 16))
    (tmp_path / "manifest.json").write_text(
        dataclasses.replace(manifest, files={"model.onnx": FileRecord("0" * 64, 1)}).to_json()
    )
    script = f"""
import pathlib, resource, signal
from dtfsal.engines import Manifest, OutputError, write_bundle
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, 1 << 15))
root = pathlib.Path({str(tmp_path)!r})
manifest = Manifest.from_json((root / "manifest.json").read_text())
try:
    write_bundle(root / "place" / "engine", manifest, {{"model.onnx": root / "model.onnx"}})
except OutputError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.count("\n") == 1
    assert "cannot be written: File too large" in result.stdout
    assert list((tmp_path / "place").iterdir()) == []


def test_hashing_and_copying_stream(tmp_path, manifest):
    source = tmp_path / "model.onnx"
    with source.open("wb") as stream:
        stream.truncate(48 * 2**20)
    tracemalloc.start()
    try:
        write_bundle(tmp_path / "engine", manifest, {"model.onnx": source})
        read_bundle(tmp_path / "engine")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20  # two chunks of 1 MiB and small change, far from the file's 48 MiB


def test_sha256_file_is_sha256(tmp_path):
    content = os.urandom(3 * 2**20 + 7)
    (tmp_path / "x").write_bytes(content)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(content).hexdigest()
