"""What the server answers: the same maps as the predictor, in each format, and a status and a sentence for the rest."""

import io
import json
import threading

import av
import numpy as np
import pytest

from dtfsal.engines.errors import EngineError
from dtfsal.runtime import SaliencyPredictor
from dtfsal.runtime.sinks.tables import table_row

pytest.importorskip("fastapi")
VIDEO = {"content-type": "video/x-matroska"}
FORM = {"content-type": "multipart/form-data; boundary=b"}
JSON = {"content-type": "application/json"}


def part(name):
    return f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\nab'.encode()


@pytest.fixture
def clip(make_toy_clip):
    return make_toy_clip(count=12, sound_seconds=0.5)


@pytest.fixture
def expected(toy_engine, clip):
    with SaliencyPredictor(toy_engine) as predictor:
        return list(predictor.predict_file(clip))


def post(client, clip, query="", headers=VIDEO):
    return client.post(f"/v1/predict{query}", content=clip.read_bytes(), headers=headers)


def rows(frames):
    return [table_row(frame, 48, 80) for frame in frames]


def test_a_body_gives_the_predictors_table(serve, clip, expected):
    answer = post(serve(), clip)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["frames"] == rows(expected)
    assert answer.json()["source"] == {"name": "video", "width": 80, "height": 48}


def test_a_form_gives_the_same(serve, clip, expected):
    answer = serve().post("/v1/predict", files={"video": ("clip.mkv", clip.read_bytes())}, data={"other": "words"})
    assert answer.json()["frames"] == rows(expected)


def test_raw_maps_are_the_predictors_bit_for_bit(serve, clip, expected):
    answer = post(serve(), clip, headers=VIDEO | {"accept": "text/html, application/x-npz;q=0.9, */*;q=0.1"})
    arrays = np.load(io.BytesIO(answer.content))
    assert answer.headers["content-type"] == "application/x-npz"
    assert np.array_equal(arrays["saliency_maps"], np.stack([frame.saliency_map for frame in expected]))


def test_an_overlay_is_a_video_of_as_many_frames(serve, clip, expected):
    answer = post(serve(), clip, "?format=overlay")
    with av.open(io.BytesIO(answer.content)) as container:
        assert len(list(container.decode(video=0))) == len(expected)
    assert answer.headers["content-type"] == "video/mp4"


def test_lines_come_while_it_predicts(serve, clip, expected):
    gate = threading.Event()
    gate.set()
    client = serve(gate=gate)
    gate.clear()
    with client.stream("POST", "/v1/predict?format=ndjson", content=clip.read_bytes(), headers=VIDEO) as answer:
        lines = answer.iter_lines()
        head = json.loads(next(lines))  # is here before the first map may be computed
        gate.set()
        rest = [json.loads(line) for line in lines]
    assert head["model"] == "toy"
    assert rest[:-1] == rows(expected)
    assert rest[-1]["summary"]["frames"] == len(expected)


def test_stride_and_normalisation_are_the_predictors(serve, clip, toy_engine):
    answer = post(serve(), clip, "?stride=5&normalisation=max")
    with SaliencyPredictor(toy_engine, stride=5, normalisation="max") as predictor:
        assert answer.json()["frames"] == rows(predictor.predict_file(clip))


@pytest.mark.parametrize(
    ("content", "headers", "query", "status", "says"),
    [
        (b"no video at all" * 100, VIDEO, "", 422, "what was sent is not a video"),
        (b"", VIDEO, "", 400, "has no video"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", VIDEO, "", 422, "what was sent"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", VIDEO, "", 422, "what was sent"),
        (b"x=1", {"content-type": "application/x-www-form-urlencoded"}, "", 415, "is no video"),
        (b"x", {"content-type": "multipart/form-data"}, "", 400, "boundary"),
        (b"x", FORM, "", 400, "boundary"),
        (part("video"), FORM, "", 400, "last boundary"),
        (part("video") + b"\r\n" + part("video") + b"\r\n--b--\r\n", FORM, "", 400, "one video at a time"),
        (part("video").replace(b": ", b": " + bytes(9000)), FORM, "", 400, "boundary"),
        (part("other") + b"\r\n--b--\r\n", FORM, "", 400, "no field"),
        (b'{"url": "https://example.org/a.mp4"}', JSON, "", 403, "fetches no URLs"),
        (b'{"url": 3}', JSON, "", 400, "JSON body"),
        (b"[" * 9000, JSON, "", 400, "JSON body"),
        (b" " * 20000, JSON, "", 413, "at most"),
        (b"x", VIDEO, "?format=gif", 400, "format"),
        (b"x", VIDEO, "?stride=0", 400, "stride"),
        (b"x", VIDEO | {"accept": "image/png"}, "", 406, "video/mp4"),
        (b"x", VIDEO | {"host": "evil.example.org"}, "", 403, "own names"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_a_status_and_a_sentence(small, content, headers, query, status, says):
    client = small
    answer = client.post(f"/v1/predict{query}", content=content, headers=headers)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["status"] == status
    assert says in error["message"]
    assert str(client.folder) not in answer.text
    assert list(client.folder.iterdir()) == []
    assert client.get("/readyz").json()["places_taken"] == 0


def test_an_unknown_address_and_method_have_the_same_form(serve):
    client = serve()
    assert client.get("/v2/none").json()["error"]["status"] == 404
    refused = client.get("/v1/predict")
    assert refused.json()["error"]["status"] == 405
    assert refused.headers["allow"] == "POST"


@pytest.mark.parametrize("states_its_length", [True, False])
@pytest.mark.parametrize("form", [True, False])
def test_too_large_is_refused_while_it_is_read(small, states_its_length, form):
    client = small
    head = b'--b\r\ncontent-disposition: form-data; name="video"; filename="v"\r\n\r\n' if form else b""
    content = head + bytes(1_200_000)
    headers = {"content-type": "multipart/form-data; boundary=b" if form else "video/mp4"}
    pieces = content if states_its_length else iter([content[:600_000], content[600_000:]])
    answer = client.post("/v1/predict", content=pieces, headers=headers)
    assert answer.status_code == 413
    assert "1 MB" in answer.json()["error"]["message"]
    assert list(client.folder.iterdir()) == []


def test_too_long_is_refused(serve, clip):
    client = serve(max_seconds=0.3)
    answer = post(client, clip)
    assert answer.status_code == 413
    assert answer.json()["error"]["kind"] == "too-long"


def test_too_long_without_saying_so_is_refused_too(serve, clip, tmp_path):
    raw = tmp_path / "raw.ts"
    with av.open(str(clip)) as source, av.open(str(raw), "w", format="h264") as target:  # knows no duration
        stream = target.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        for frame in source.decode(video=0):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")))
        target.mux(stream.encode(None))
    client = serve(max_seconds=0.3)
    assert post(client, raw).json()["error"]["kind"] == "too-long"
    last = post(client, raw, "?format=ndjson").text.splitlines()[-1]
    assert json.loads(last)["error"]["kind"] == "too-long"


def test_a_token_is_asked_for(serve, clip):
    client = serve(token="secret-1")
    assert post(client, clip).status_code == 401
    assert post(client, clip, headers=VIDEO | {"authorization": "Bearer secret-2"}).status_code == 401
    good = VIDEO | {"authorization": "Bearer secret-1", "host": "any.example.org"}
    assert post(client, clip, headers=good).status_code == 200
    assert client.get("/healthz").json() == {"status": "ok"}


def test_an_engine_that_fails_is_a_500_and_the_server_goes_on(serve, clip, monkeypatch):
    client = serve()
    engine = client.application.state.jobs._engines._queue[0]
    right = engine._run

    def wrong(graph, inputs):
        raise EngineError("the back end failed")

    engine._run = wrong
    assert post(client, clip).json()["error"] == {
        "status": 500,
        "kind": "engine-failed",
        "message": "the back end failed",
    }
    engine._run = right
    assert post(client, clip).status_code == 200


def test_the_description_names_every_format_and_status(serve):
    described = serve().get("/openapi.json").json()["paths"]["/v1/predict"]["post"]
    assert set(described["responses"]) >= {"200", "400", "413", "415", "422", "429", "503", "504"}
    assert "multipart/form-data" in described["requestBody"]["content"]
