"""Under load nobody is forgotten: all who are let in are answered, the others are told to come again."""

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
parser = pytest.importorskip("prometheus_client.parser")

VIDEO = {"content-type": "video/x-matroska"}


@pytest.fixture
def content(make_toy_clip):
    return make_toy_clip(count=6).read_bytes()


def samples(client):
    text = client.get("/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_overload_is_told_and_all_who_are_let_in_are_answered(serve, content, eventually):
    gate = threading.Event()
    gate.set()
    client = serve(gate=gate, jobs=2, queue=3)
    gate.clear()

    def ask(_):
        return client.post("/v1/predict", content=content, headers=VIDEO)

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(ask, number) for number in range(12)]
        eventually(lambda: sum(one.done() for one in asked) == 12 - 5)
        assert client.get("/healthz").status_code == 200  # the loop is awake
        assert client.get("/readyz").json()["places_taken"] == 5
        gate.set()
        answers = [one.result() for one in asked]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 7
    assert all(1 <= int(answer.headers["retry-after"]) <= 300 for answer in refused)
    assert all(len(answer.json()["frames"]) == 6 for answer in answers if answer.status_code == 200)
    eventually(lambda: client.get("/readyz").json()["places_taken"] == 0)
    counted = samples(client)
    assert counted["dtfsal_requests_total", "json", "200"] == 5
    assert counted["dtfsal_requests_total", "json", "429"] == 7
    assert counted["dtfsal_frames_total",] == 5 * 6
    assert counted["dtfsal_received_bytes_total",] == 5 * len(content)
    assert counted["dtfsal_waiting_seconds_count",] == 5


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_a_client_that_leaves_frees_its_place(serve, content, eventually, form):
    gate = threading.Event()
    gate.set()
    client = serve(gate=gate, queue=0)
    gate.clear()
    host, port = client.base_url.host, client.base_url.port
    head = f"POST /v1/predict?format={form} HTTP/1.1\r\nHost: {host}\r\nContent-Type: video/mp4\r\n"
    with socket.create_connection((host, port)) as one:
        one.sendall(head.encode() + f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
        eventually(lambda: samples(client)["dtfsal_jobs_running",] == 1)
        assert client.post("/v1/predict", content=content, headers=VIDEO).status_code == 429
    gate.set()
    eventually(lambda: client.get("/readyz").json()["places_taken"] == 0)
    assert client.post("/v1/predict", content=content, headers=VIDEO).status_code == 200
    eventually(lambda: list(client.folder.iterdir()) == [])


def test_a_client_that_leaves_in_the_middle_of_its_video_frees_its_place(serve, content, eventually):
    client = serve(queue=0)
    host, port = client.base_url.host, client.base_url.port
    with socket.create_connection((host, port)) as one:
        one.sendall(f"POST /v1/predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5000\r\n\r\nabc".encode())
        eventually(lambda: client.get("/readyz").json()["places_taken"] == 1)
    eventually(lambda: client.get("/readyz").json()["places_taken"] == 0)
    assert list(client.folder.iterdir()) == []
    assert samples(client)["dtfsal_requests_total", "json", "499"] == 1


def test_a_video_that_never_comes_is_given_up(serve, eventually):
    client = serve(timeout_seconds=0.3)
    with socket.create_connection((client.base_url.host, client.base_url.port)) as one:
        one.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\nabc")
        assert b" 504 " in one.recv(200)
    assert client.get("/readyz").json()["places_taken"] == 0


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_what_takes_too_long_is_given_up_and_its_engine_is_free_again(serve, content, eventually, form):
    client = serve(slow=0.2, timeout_seconds=0.5)
    answer = client.post(f"/v1/predict?format={form}", content=content, headers=VIDEO)
    if form == "json":
        assert answer.status_code == 504
        assert answer.json()["error"]["kind"] == "too-slow"
    else:
        assert json.loads(answer.text.splitlines()[-1])["error"]["status"] == 504
    eventually(lambda: client.get("/readyz").json()["places_taken"] == 0)
    assert samples(client)["dtfsal_jobs_running",] == 0
    assert list(client.folder.iterdir()) == []


def test_who_waits_too_long_gets_an_answer_and_the_engine_goes_to_the_next(serve, content, eventually):
    gate = threading.Event()
    gate.set()
    client = serve(gate=gate, timeout_seconds=0.5)
    gate.clear()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        statuses = list(
            pool.map(lambda _: client.post("/v1/predict", content=content, headers=VIDEO).status_code, range(2))
        )
    assert statuses == [504, 504]
    gate.set()
    eventually(lambda: client.get("/readyz").json()["places_taken"] == 0)
    assert client.post("/v1/predict", content=content, headers=VIDEO).status_code == 200


def test_a_full_disk_is_told(serve, content, monkeypatch):
    from dtfsal.applications.server import receiving  # needs the extra

    def full(file, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(receiving, "_write_all", full)
    client = serve()
    answer = client.post("/v1/predict", content=content, headers=VIDEO)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert "disk is full" in answer.json()["error"]["message"]


def test_while_it_stops_new_requests_are_refused_with_an_answer(serve, content):
    client = serve()
    client.application.state.jobs.draining = True
    answer = client.post("/v1/predict", content=content, headers=VIDEO)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200


def test_sigterm_finishes_what_runs_and_waits_and_leaves_nothing(make_toy_clip, tmp_path):
    content = make_toy_clip(count=20).read_bytes()
    folder = tmp_path / "temporary"
    folder.mkdir()
    command = [sys.executable, "-m", "dtfsal.runtime.cli", "serve", "--port", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--temporary", folder], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            address = re.search(r"http://\S+", process.stderr.readline()).group()
            with concurrent.futures.ThreadPoolExecutor(3) as pool:
                asked = [
                    pool.submit(httpx.post, f"{address}/v1/predict", content=content, headers=VIDEO, timeout=60)
                    for _ in range(3)
                ]
                received = f"dtfsal_received_bytes_total {float(3 * len(content))}"
                while received not in httpx.get(f"{address}/metrics").text:
                    time.sleep(0.01)
                process.send_signal(signal.SIGTERM)
                answers = [one.result() for one in asked]
            assert [answer.status_code for answer in answers] == [200] * 3
            assert all(len(answer.json()["frames"]) == 20 for answer in answers)
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{address}/healthz")
            assert process.wait(30) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()
    assert list(folder.iterdir()) == []
