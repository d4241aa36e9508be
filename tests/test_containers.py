"""The container files fit the project: commands parse, files exist, ports agree. No image is built here."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from dtfsal.runtime.cli import main

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
FILES = [DOCKER / "Dockerfile", DOCKER / "Dockerfile.cuda"]


def instructions(file):
    """Each instruction's word and the rest, comments gone and lines joined."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def last(file, word):
    return next(rest for name, rest in reversed(instructions(file)) if name == word)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_image_serves_as_nobody_and_looks_after_itself(file):
    assert json.loads(last(file, "ENTRYPOINT")) == ["dtfsal"]
    assert last(file, "USER") == "10001"
    assert last(file, "STOPSIGNAL") == "SIGTERM"
    port = last(file, "EXPOSE")
    assert f"http://127.0.0.1:{port}/healthz" in last(file, "HEALTHCHECK")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_image_without_a_token_does_not_serve(file, monkeypatch, capsys):
    pytest.importorskip("uvicorn")
    monkeypatch.delenv("DTFSAL_TOKEN", raising=False)
    assert main(json.loads(last(file, "CMD"))) == 2
    assert "give a token" in capsys.readouterr().err


def test_an_image_is_made_of_files_that_exist():
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert [name for name in kept if not (ROOT / name[1:]).exists()] == []
    links = {f"/{path.name}" for path in (ROOT / "dtfsal").iterdir() if path.is_symlink()}
    assert links <= set(kept)
    for file in FILES:
        assert all(rest == ". ." for word, rest in instructions(file) if word == "COPY")


def test_compose_fits_the_images(monkeypatch, capsys):
    pytest.importorskip("uvicorn")
    compose = yaml.safe_load((DOCKER / "compose.yml").read_text())
    server, prometheus = compose["services"]["server"], compose["services"]["prometheus"]
    assert (DOCKER / server["build"]["context"] / server["build"]["dockerfile"]).is_file()
    monkeypatch.delenv("DTFSAL_TOKEN", raising=False)
    assert main(server["command"]) == 2  # its words parse, and it asks for the token that compose gives
    assert "give a token" in capsys.readouterr().err
    assert "DTFSAL_TOKEN" in server["environment"]
    for volume in prometheus["volumes"]:
        assert (DOCKER / volume.split(":")[0]).is_file()
    scraped = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["scrape_configs"][0]["static_configs"][0]
    assert scraped["targets"] == [f"server:{last(FILES[0], 'EXPOSE')}"]
    assert all(port.startswith("127.0.0.1:") for service in compose["services"].values() for port in service["ports"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(file):
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint is not installed")
    assert subprocess.run(["hadolint", file], capture_output=True, text=True, check=False).stdout == ""
