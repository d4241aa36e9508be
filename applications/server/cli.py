"""`dtfsal serve`: a server that predicts videos which programs send by HTTP."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from dtfsal.runtime.cli import common

if TYPE_CHECKING:
    from dtfsal.applications.server.settings import ServerSettings

HELP = "serve predictions to programs, over HTTP"

_EPILOG = """\
addresses:
  POST /v1/predict    a video as the body, in the field `video` of a form, or {"url": "..."} as JSON
                      ?format=json, ndjson (a line for each frame while it predicts), npz, overlay
  GET /healthz /readyz /metrics (Prometheus) /openapi.json

SIGTERM and Ctrl-C end it when what it has taken is answered; Ctrl-C twice ends it now.

examples:
  dtfsal serve
  curl -T clip.mp4 -X POST http://127.0.0.1:8000/v1/predict
  curl -F video=@clip.mp4 'http://127.0.0.1:8000/v1/predict?format=overlay' -o overlay.mp4
  dtfsal serve --host 0.0.0.0 --token-file token.txt --jobs 4 --queue 32
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = _EPILOG
    common.add_engine_options(parser)
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="0 takes any that is free (default: %(default)s)"
    )
    parser.add_argument(
        "--jobs",
        type=common.positive_int,
        default=1,
        metavar="N",
        help="videos at the same time, each with an engine of its own; they share the cores (default: %(default)s)",
    )
    parser.add_argument(
        "--queue",
        type=int,
        default=16,
        metavar="N",
        help="requests that may wait beyond those; more are answered 429 with Retry-After (default: %(default)s)",
    )
    parser.add_argument(
        "--max-megabytes",
        type=common.positive_int,
        default=200,
        metavar="N",
        help="the largest video, in 10^6 bytes (default: %(default)s)",
    )
    parser.add_argument(
        "--max-seconds",
        type=common.non_negative_float,
        default=300.0,
        metavar="N",
        help="the longest video (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=common.non_negative_float,
        default=600.0,
        metavar="SECONDS",
        help="the longest from a request to its last map; then it is answered 504 (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-urls",
        action="append",
        default=[],
        metavar="PATTERN",
        help="fetch videos from URLs such as https://media.example.org/*; repeat it for several (default: fetch none)",
    )
    parser.add_argument(
        "--allow-private-addresses",
        action="store_true",
        help="let those URLs lead to addresses that are not public, such as this machine's network",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="a file with the token that a request must give as `Authorization: Bearer TOKEN`; DTFSAL_TOKEN does the "
        "same",
    )
    parser.add_argument(
        "--no-token",
        action="store_true",
        help="need no token on an address beyond this machine, because something before the server asks who comes",
    )
    parser.add_argument(
        "--temporary",
        metavar="DIR",
        help="the folder for videos and results while they are needed (default: the system's)",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="do not print the address")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    import uvicorn

    from dtfsal.applications.server.application import make_application, opened_engines
    from dtfsal.applications.server.settings import ServerSettings

    settings = ServerSettings(
        engine=args.engine,
        device=args.device,
        threads=args.threads,
        trust=args.trust_engine,
        jobs=args.jobs,
        queue=args.queue,
        max_megabytes=args.max_megabytes,
        max_seconds=args.max_seconds,
        timeout_seconds=args.timeout,
        url_patterns=tuple(args.allow_urls),
        private_addresses=args.allow_private_addresses,
        host=args.host,
        port=args.port,
        token=_token(args.token_file),
        open_to_all=args.no_token,
        temporary=None if args.temporary is None else Path(args.temporary),
    )

    class Server(uvicorn.Server):
        """Refuses what is new from the signal on."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started and not args.quiet:
                print(f"serving {args.engine} at {_address(listening)}", file=sys.stderr, flush=True)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            application.state.jobs.draining = True
            super().handle_exit(sig, frame)

    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(_bound(settings))
        application = make_application(settings, stack.enter_context(opened_engines(settings)))
        config = uvicorn.Config(application, log_level="warning", access_log=False, server_header=False, ws="none")
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal again that it has obeyed
            Server(config).run([listening])
    return 0


def _token(file: str | None) -> str | None:
    from dtfsal.engines.errors import UsageError

    if file is None:
        return os.environ.get("DTFSAL_TOKEN")
    try:
        return Path(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not ASCII text"
        raise UsageError(f"the token cannot be read from {file} ({reason})") from error


def _bound(settings: ServerSettings) -> socket.socket:
    """A socket at the address.

    Raises:
        UnavailableError: the address cannot be had.
    """
    from dtfsal.engines.errors import UnavailableError

    listening = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
    except (OSError, UnicodeError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise UnavailableError(
            f"nothing can be served at {settings.host}:{settings.port} ({reason}); name another --port or --host"
        ) from error
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
