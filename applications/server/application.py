"""What the server answers: `/v1/predict`, `/healthz`, `/readyz`, `/metrics`, and `/openapi.json` about them."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from dtfsal.applications.server import metrics as prometheus
from dtfsal.applications.server.jobs import Jobs
from dtfsal.applications.server.metrics import Metrics
from dtfsal.applications.server.predictions import MEDIA_TYPES, Predictions
from dtfsal.applications.server.receiving import FIELD
from dtfsal.applications.server.refusals import Refusal, body_of
from dtfsal.applications.server.settings import ServerSettings
from dtfsal.applications.server.work import Format, Question
from dtfsal.engines import Engine, open_engine
from dtfsal.runtime.live.page import is_loopback, names_this_machine
from dtfsal.runtime.predict.maps import Normalisation

_ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["status", "kind", "message"],
            "properties": {
                "status": {"type": "integer"},
                "kind": {"type": "string"},
                "message": {"type": "string"},
            },
        }
    },
}
_REFUSALS = {
    400: "The request is not one that can be answered",
    401: "A token is needed",
    403: "The URL, or who asks, is not allowed",
    406: "No accepted type can be given",
    413: "The video is too large or too long",
    415: "The body is no video",
    422: "The video cannot be predicted",
    429: "All places are taken; Retry-After says when to ask again",
    500: "The engine or the server failed",
    502: "The URL's server does not give the video",
    503: "The server is being stopped, or lacks something; Retry-After says when to ask again",
    504: "It took too long",
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODIES: dict[str, Any] = {
    "application/octet-stream": _BINARY,
    "video/*": _BINARY,
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": [FIELD],
            "properties": {FIELD: {"type": "string", "format": "binary"}},
        }
    },
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["url"],
            "additionalProperties": False,
            "properties": {"url": {"type": "string", "format": "uri"}},
        }
    },
}
_OTHER_NAMES = {"application/zip": "npz", "application/octet-stream": "npz", "application/*": "json", "*/*": "json"}


@contextlib.contextmanager
def opened_engines(settings: ServerSettings) -> Iterator[list[Engine]]:
    """An engine for each job, opened and warmed up.

    Raises:
        DtfsalError: as `open_engine` raises.
    """
    with contextlib.ExitStack() as stack:
        engines = []
        for _ in range(settings.jobs):
            engine = stack.enter_context(
                open_engine(
                    settings.engine, device=settings.device, threads=settings.threads_of_each, trust=settings.trust
                )
            )
            engine.warm_up()
            engines.append(engine)
        yield engines


def make_application(settings: ServerSettings, engines: list[Engine]) -> FastAPI:
    """The ASGI application.

    Args:
        settings: limits, and who may come.
        engines: from `opened_engines`; they stay open.

    Returns:
        An application whose `state.jobs` has the places; set `draining` there to refuse what is new.
    """
    metrics = Metrics()
    jobs = Jobs(engines, settings.queue, metrics)
    predictions = Predictions(settings, jobs, metrics)
    limits = {
        "jobs": settings.jobs,
        "queue": settings.queue,
        "max_bytes": settings.max_bytes,
        "max_seconds": settings.max_seconds,
        "timeout_seconds": settings.timeout_seconds,
    }
    metrics.describe(engines[0].describe(), limits)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        jobs.draining = True
        await predictions.close()
        await asyncio.to_thread(jobs.close)

    # No pages of documents: theirs fetch scripts from another server.
    application = FastAPI(
        title="dtfsal",
        description="Where people look in a video with sound.",
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    application.state.jobs = jobs
    _add_errors(application)

    def admitted(request: Request) -> None:
        """Let in who may come: with the token, or on this machine's own address by one of its own names."""
        if settings.token is not None:
            given = request.headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, b"Bearer " + settings.token.encode()):
                raise Refusal(401, "no-token", "the request needs the header `Authorization: Bearer TOKEN`")
        elif is_loopback(settings.host) and not names_this_machine(request.headers.get("host", ""), settings.host):
            raise Refusal(403, "foreign-host", "this server answers to this machine's own names and addresses only")

    @application.post(
        "/v1/predict",
        summary="Predict a video",
        dependencies=[Depends(admitted)],
        response_class=Response,
        responses={
            200: {
                "description": "Maps, in the format that was asked for",
                "content": {media_type: {} for media_type in MEDIA_TYPES.values()},
            },
            **{
                status: {"description": text, "content": {"application/json": {"schema": _ERROR_SCHEMA}}}
                for status, text in _REFUSALS.items()
            },
        },
        openapi_extra={"requestBody": {"required": True, "content": _BODIES}},
    )
    async def predict(
        request: Request,
        format: Annotated[  # noqa: A002 - the name in the URL
            Format | None, Query(description="Of the answer; without it the Accept header decides")
        ] = None,
        stride: Annotated[int, Query(ge=1, le=1000, description="Predict every so many frames")] = 1,
        normalisation: Annotated[Normalisation, Query(description="Scale of the maps")] = "none",
    ) -> Response:
        chosen = format or accepted_format(request.headers.get("accept", "*/*"))
        question = Question(format=chosen, stride=stride, normalisation=normalisation, max_seconds=settings.max_seconds)
        return await predictions.answer(request, question)

    @application.get("/healthz", summary="Whether the server lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @application.get(
        "/readyz", summary="Whether the server takes requests", responses={503: {"description": "It is being stopped"}}
    )
    async def readyz() -> JSONResponse:
        word = "stopping" if jobs.draining else "ready"
        return JSONResponse({"status": word, "places_taken": jobs.taken}, 503 if jobs.draining else 200)

    @application.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def metrics_text() -> Response:
        return Response(metrics.text(), media_type=prometheus.CONTENT_TYPE)

    return application


def accepted_format(header: str) -> Format:
    """The format that an Accept header asks for: of the highest quality, and of equal ones the first.

    Raises:
        Refusal: 406, none that can be given.
    """
    known: dict[str, Any] = {media_type: name for name, media_type in MEDIA_TYPES.items()} | _OTHER_NAMES
    best: tuple[float, Format | None] = (0.0, None)
    for item in header.split(","):
        media_type, *options = (part.strip().lower() for part in item.split(";"))
        quality = 1.0
        for option in options:
            name, _, value = option.partition("=")
            if name.strip() == "q":
                with contextlib.suppress(ValueError):
                    quality = float(value)
        if media_type in known and quality > best[0]:
            best = quality, known[media_type]
    if best[1] is None:
        raise Refusal(406, "not-acceptable", f"this server gives {', '.join(MEDIA_TYPES.values())}; accept one of them")
    return best[1]


def _add_errors(application: FastAPI) -> None:
    """Every error in the same form."""

    def told(error: Refusal) -> JSONResponse:
        headers = {"cache-control": "no-store"}
        if error.retry_seconds is not None:
            headers["retry-after"] = str(error.retry_seconds)
        if error.status == 401:
            headers["www-authenticate"] = "Bearer"
        return JSONResponse(body_of(error), error.status, headers)

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refusal)
        return told(error)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
        return told(Refusal(400, "wrong-request", f"{where}: {first['msg']}"))

    async def of_http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        answer = told(Refusal(error.status_code, "wrong-request", str(error.detail)))
        answer.headers.update(error.headers or {})
        return answer

    async def failed(_: Request, error: Exception) -> JSONResponse:
        del error  # uvicorn logs it
        return told(Refusal(500, "failed", "the server failed; its log says why"))

    application.add_exception_handler(Refusal, refused)
    application.add_exception_handler(RequestValidationError, invalid)
    application.add_exception_handler(HTTPException, of_http)
    application.add_exception_handler(Exception, failed)
