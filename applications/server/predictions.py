"""From a request to its answer: a place, the video in a file, an engine's work, and what is sent.

A place and the video's folder are held until the answer has been sent and the engine's thread has let go of them,
whichever comes last. So what is counted as taken is taken, and nothing is removed under a thread's hands.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message

from dtfsal.applications.server.answers import Answer, pieces_of_file
from dtfsal.applications.server.fetching import UrlPattern, fetch
from dtfsal.applications.server.jobs import Control, Jobs
from dtfsal.applications.server.metrics import Metrics
from dtfsal.applications.server.receiving import drain, receive_url, receive_video
from dtfsal.applications.server.refusals import RETRY_SECONDS, Refusal, body_of, refusal
from dtfsal.applications.server.settings import ServerSettings
from dtfsal.applications.server.work import FILES, Format, Question, as_line, write_lines, write_result
from dtfsal.engines import Engine
from dtfsal.engines.errors import DtfsalError

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "npz": "application/x-npz",
    "overlay": "video/mp4",
}
CLIENT_LEFT = 499  # as nginx counts it; nobody receives it
_LINES_AHEAD = 64  # of a client that reads slowly
_FETCHERS = 4


class _Left(Exception):  # noqa: N818 - no error of ours
    """The client has gone."""


class Predictions:
    """What answers `/v1/predict`.

    Args:
        settings: limits.
        jobs: places and engines.
        metrics: what is counted.
    """

    def __init__(self, settings: ServerSettings, jobs: Jobs, metrics: Metrics) -> None:
        self.settings = settings
        self.jobs = jobs
        self.metrics = metrics
        self.patterns = [UrlPattern.parse(text) for text in settings.url_patterns]
        self.fetchers = ThreadPoolExecutor(_FETCHERS, thread_name_prefix="dtfsal-fetch")
        self.working: set[asyncio.Task[None]] = set()

    async def answer(self, request: Request, question: Question) -> Response:
        """Predict a request's video.

        Raises:
            Refusal: it cannot be answered with maps.
        """
        call = _Call(self, request, question)
        try:
            return await call.begin()
        except (ClientDisconnect, _Left):
            call.end(CLIENT_LEFT)
            return Response(status_code=CLIENT_LEFT)
        except DtfsalError as error:
            failed = refusal(error, hide=str(call.video))
            call.end(failed.status)
            await call.drain()
            raise failed from error
        except BaseException:
            call.end(500)
            raise

    async def close(self) -> None:
        """Wait for the threads that are still at work."""
        for task in list(self.working):
            with contextlib.suppress(BaseException):
                await task
        self.fetchers.shutdown()


class _Call:
    """One request, and all that it holds."""

    def __init__(self, server: Predictions, request: Request, question: Question) -> None:
        self._server = server
        self._request = Request(request.scope, self._message)
        self._messages = request.receive
        self._body_ended = False
        self._question = question
        self._loop = asyncio.get_running_loop()
        self._started = time.monotonic()
        self._deadline = self._started + server.settings.timeout_seconds
        self._control = Control()
        self._resources = contextlib.ExitStack()
        self._job: asyncio.Task[None] | None = None
        self._gone: asyncio.Task[None] | None = None
        self.video = Path("video")

    async def begin(self) -> Response:
        """Receive the video, and start the answer."""
        server = self._server
        self._resources.enter_context(server.jobs.place())
        try:
            folder = tempfile.TemporaryDirectory(
                prefix="dtfsal-serve-", dir=server.settings.temporary, ignore_cleanup_errors=True
            )
            self.video = Path(self._resources.enter_context(folder), "video")
            server.metrics.received_bytes.inc(await self._receive())
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise Refusal(
                503, "no-space", "the server's disk is full; try again later", retry_seconds=RETRY_SECONDS
            ) from error
        self._gone = self._loop.create_task(self._until_gone())
        if self._question.format == "ndjson":
            return await self._begin_lines()
        return await self._result()

    def end(self, status: int) -> None:
        """Count the answer, and let go of everything as soon as the job has."""
        if self._gone is not None:
            self._gone.cancel()
        self._control.stop()
        metrics = self._server.metrics
        metrics.requests.labels(self._question.format, str(status)).inc()
        metrics.seconds.observe(time.monotonic() - self._started)
        if self._job is None:
            self._resources.close()
        elif self._job.done():
            self._let_go(self._job)
        else:
            if not self._control.started:
                self._job.cancel()
            self._job.add_done_callback(self._let_go)

    def _let_go(self, job: asyncio.Task[None]) -> None:
        if not job.cancelled():
            job.exception()  # it was told, or nobody waits for it
        self._resources.close()

    async def drain(self) -> None:
        """Read what is left of the body, for a moment."""
        if not self._body_ended:
            await drain(self._request)

    async def _message(self) -> Message:
        message = await self._messages()
        self._body_ended |= message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def _receive(self) -> int:
        settings, request = self._server.settings, self._request
        try:
            async with asyncio.timeout(settings.timeout_seconds):
                if not request.headers.get("content-type", "").lower().startswith("application/json"):
                    return await receive_video(request, self.video, settings.max_bytes)
                url = await receive_url(request)
                if not self._server.patterns:
                    raise Refusal(403, "url-not-allowed", "this server fetches no URLs; send the video itself")
                fetching = functools.partial(
                    fetch,
                    url,
                    self.video,
                    patterns=self._server.patterns,
                    max_bytes=settings.max_bytes,
                    private_addresses=settings.private_addresses,
                    deadline=self._deadline,
                    check=self._control.check,
                )
                return await self._loop.run_in_executor(self._server.fetchers, fetching)
        except TimeoutError as error:
            raise self._too_slow("to arrive") from error

    async def _result(self) -> Response:
        """A result that is sent when it is whole."""
        assert self._question.format != "ndjson", "it has no file"
        result = self.video.with_name(FILES[self._question.format][1])

        def work(engine: Engine, control: Control) -> None:
            write_result(engine, control, self.video, result, self._question, self._server.metrics.frames.inc)

        job = self._start(work)
        await self._wait(job)
        job.result()
        return Answer(
            pieces_of_file(result),
            media_type=MEDIA_TYPES[self._question.format],
            size_bytes=result.stat().st_size,
            file_name=result.name,
            patience_seconds=self._server.settings.timeout_seconds,
            ended=lambda: self.end(200),
        )

    async def _begin_lines(self) -> Response:
        """Lines that are sent as they come; what fails before the first still has a status of its own."""
        lines: asyncio.Queue[bytes] = asyncio.Queue(_LINES_AHEAD)

        def emit(value: dict[str, Any], control: Control) -> None:
            if "index" in value:
                self._server.metrics.frames.inc()
            put = asyncio.run_coroutine_threadsafe(lines.put(as_line(value)), self._loop)
            while True:
                try:
                    return put.result(0.2)
                except TimeoutError:
                    if put.done():
                        raise
                try:
                    control.check()
                except BaseException:
                    put.cancel()
                    raise

        def work(engine: Engine, control: Control) -> None:
            write_lines(engine, control, self.video, self._question, lambda value: emit(value, control))

        job = self._start(work)
        coming = self._lines(lines, job)
        first = await anext(coming)

        async def pieces() -> AsyncIterator[bytes]:
            yield first
            try:
                async for line in coming:
                    yield line
            except _Left:
                pass
            except DtfsalError as error:
                yield as_line(body_of(refusal(error, hide=str(self.video))))

        return Answer(
            pieces(),
            media_type=MEDIA_TYPES["ndjson"],
            patience_seconds=self._server.settings.timeout_seconds + 1,
            ended=lambda: self.end(200),
        )

    async def _lines(self, lines: asyncio.Queue[bytes], job: asyncio.Task[None]) -> AsyncIterator[bytes]:
        while True:
            getting = self._loop.create_task(lines.get())
            try:
                await self._wait(job, getting)
                if getting.done():
                    yield getting.result()
                    continue
            finally:
                getting.cancel()
            while not lines.empty():
                yield lines.get_nowait()
            job.result()
            return

    def _start(self, work: Any) -> asyncio.Task[None]:
        self._job = self._loop.create_task(self._server.jobs.run(work, self._control))
        self._server.working.add(self._job)
        self._job.add_done_callback(self._server.working.discard)
        return self._job

    async def _wait(self, *tasks: asyncio.Task[Any]) -> None:
        """Wait until one of the tasks is done.

        Raises:
            _Left: the client has gone.
            Refusal: 504, it takes too long.
        """
        assert self._gone is not None
        left = self._deadline - time.monotonic()
        await asyncio.wait([*tasks, self._gone], timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if any(task.done() for task in tasks):
            return
        if self._gone.done():
            raise _Left
        raise self._too_slow("to predict")

    async def _until_gone(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    def _too_slow(self, what: str) -> Refusal:
        return Refusal(
            504,
            "too-slow",
            f"the video took longer {what} than {self._server.settings.timeout_seconds:g} s; send a shorter one, or "
            "ask for a larger stride",
        )
