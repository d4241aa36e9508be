"""A real server on a free port, with an engine whose maps are known in closed form, and clients that are threads."""

import contextlib
import threading
import time

import pytest


@contextlib.contextmanager
def serving(application):
    """Serve an application in a thread; give its address and the server."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the server did not end"


@contextlib.contextmanager
def client_of(engine, folder, slow=0.0, gate=None, **settings):
    """A client of a server of its own, with what it talks to: `server`, `application`, and `folder` of its videos.

    Each run of a graph takes `slow` seconds more, and waits for `gate`.
    """
    import httpx

    from dtfsal.applications.server.application import make_application, opened_engines
    from dtfsal.applications.server.settings import ServerSettings

    settings = ServerSettings(engine=engine, threads=1, temporary=folder, **settings)
    with opened_engines(settings) as engines:
        for engine in engines:

            def delayed(graph, inputs, compute=engine._run):
                time.sleep(slow)
                assert gate is None or gate.wait(30)
                return compute(graph, inputs)

            engine._run = delayed
        application = make_application(settings, engines)
        with serving(application) as (address, server), httpx.Client(base_url=address, timeout=60) as client:
            client.server, client.folder, client.application = server, folder, application
            yield client


@pytest.fixture
def serve(toy_engine, tmp_path_factory):
    """Start a server; see `client_of`."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            client_of(toy_engine, tmp_path_factory.mktemp("temporary"), **settings)
        )


@pytest.fixture(scope="session")
def small(toy_engine, tmp_path_factory):
    """A server that takes 1 MB, for all that it refuses."""
    with client_of(toy_engine, tmp_path_factory.mktemp("small"), max_megabytes=1) as client:
        yield client


@pytest.fixture
def eventually():
    """Wait until something is so."""

    def wait(condition, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it never came"
            time.sleep(0.01)

    return wait
