"""`dtfsal live`: a camera, a network stream or a file at its own pace, with the map laid over it as it comes."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from dtfsal.runtime.cli import common
from dtfsal.runtime.cli._interruption import check_interruption

if TYPE_CHECKING:
    from dtfsal.runtime.live.capture import Rgb
    from dtfsal.runtime.predict.prediction import SaliencyFrame

HELP = "predict a camera or a stream live, and show it on a page"

_EPILOG = """\
sources:
  0, /dev/video0               a camera
  rtsp://... http://...        what FFmpeg reads from a network
  clip.mp4                     a file, at the pace of its timestamps

Frames that the engine has no time for get no map; they are counted. Ctrl-C ends it.
The figures begin with the source's frames per second and the stride: with 25 and 2, the
engine predicts 12.5 frames per second, and the maps between are interpolated.

examples:
  dtfsal live 0                               look at the page that it names
  dtfsal live rtsp://camera/stream --delay 0 --serve 0.0.0.0:8080
  dtfsal live clip.mp4 --no-page --json       a line of JSON for each map
"""

# Pictures that wait for their maps are kept at most this wide, and this many.
_VIEW_WIDTH = 640
_VIEW_FRAMES = 128


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("source", metavar="SOURCE", help="a camera's number or device, a URL, or a video file")
    common.add_engine_options(parser)
    parser.add_argument(
        "--delay",
        type=common.non_negative_float,
        metavar="SECONDS",
        help="the longest that a map waits for frames and sound after its own: 0 for maps of the newest frame "
        "(default: as long as the model's window needs)",
    )
    parser.add_argument(
        "--stride",
        type=common.positive_int,
        metavar="N",
        help="predict every N-th frame and interpolate between (default: the step between the model's own frames, so "
        "that windows share them; 2 for lite at 25 or 30 frames per second)",
    )
    common.add_stream_options(parser)
    parser.add_argument("--no-sound", action="store_true", help="do not listen to the source's sound")
    parser.add_argument(
        "--serve",
        default="127.0.0.1:8765",
        metavar="[HOST:]PORT",
        help="where the page is served, such as [::1]:8765; port 0 takes any that is free (default: %(default)s)",
    )
    parser.add_argument(
        "--token",
        metavar="TEXT",
        help="who looks must give it (/?token=TEXT); addresses beyond this machine get one in any case, made up if "
        "none is given",
    )
    parser.add_argument("--no-page", action="store_true", help="serve no page")
    parser.add_argument("--seconds", type=common.non_negative_float, metavar="N", help="stop after N seconds")
    parser.add_argument("-q", "--quiet", action="store_true", help="print no figures and no summary")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each map, and the summary")


def run(args: argparse.Namespace) -> int:
    """Predict until the source ends, the time is over, or Ctrl-C."""
    import contextlib

    from dtfsal.engines import open_engine
    from dtfsal.engines.errors import UsageError
    from dtfsal.runtime.frontend.windows import frames_per_tap
    from dtfsal.runtime.live.capture import LiveSource
    from dtfsal.runtime.live.page import MjpegServer, is_loopback
    from dtfsal.runtime.media.errors import MediaError
    from dtfsal.runtime.predict.stream import StreamPredictor

    host, port = _address(args.serve)
    if args.quiet and args.token is None and not args.no_page and not is_loopback(host):
        raise UsageError(f"{host} is reached from other machines and --quiet hides the token: give one by --token")
    view = _View()
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(
            open_engine(args.engine, device=args.device, threads=args.threads, trust=args.trust_engine)
        )
        source = LiveSource(
            args.source,
            lambda rgb, index, _seconds: None if args.no_page else view.keep(rgb, index, source.pixel_aspect),
            video_stream=args.video_stream,
            audio_stream=args.audio_stream,
        )
        stack.callback(source.stop)
        stride = args.stride or frames_per_tap(engine.manifest.clip, 1 / source.frame_rate_hz)
        stream = stack.enter_context(
            StreamPredictor(
                engine,
                frame_rate_hz=source.frame_rate_hz,
                sound=source.has_sound and not args.no_sound,
                delay_seconds=args.delay,
                max_ready=1,  # what is newest matters most
                stride=stride,
            )
        )
        page = None if args.no_page else stack.enter_context(MjpegServer(host, port, token=args.token))
        if page is not None and not args.quiet:
            print(f"look at {page.address}", file=sys.stderr)
        rate = {"frames_per_second": round(source.frame_rate_hz, 3), "stride": stride}
        meter = _Meter(stream, rate, quiet=args.quiet)
        source.start(stream)
        with contextlib.suppress(KeyboardInterrupt):
            while not stream.finished and not (args.seconds is not None and meter.seconds >= args.seconds):
                frame = stream.poll(timeout_seconds=0.2)
                meter.show(frame)
                if frame is None:
                    continue
                if page is not None and (picture := view.picture(frame)) is not None:
                    page.show(picture, meter.figures())
                if args.json:
                    print(json.dumps(_line(frame)), flush=True)
        meter.clear()
        source.stop()
        if source.error is not None:
            raise source.error
        if not stream.counts.frames and (stream.finished or meter.refused):
            raise MediaError(f"{args.source} gave no frame that could be predicted; is it damaged?")
        summary = {"source": args.source, "sound": source.has_sound and not args.no_sound, **meter.figures()}
        summary["clock_jumps"] = source.clock_jumps
    if args.json:
        print(json.dumps({"summary": summary}))
    elif not args.quiet:
        common.print_table([(name.replace("_", " "), value) for name, value in summary.items()])
    return 0


def _address(text: str) -> tuple[str, int]:
    from dtfsal.engines.errors import UsageError

    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise UsageError(f"--serve takes an IPv6 address in brackets, as [::1]:8765, not {text!r}")
    if not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535:
        raise UsageError(f"--serve takes a port or HOST:PORT, not {text!r}")
    return host or "127.0.0.1", int(port)


def _line(frame: SaliencyFrame) -> dict[str, Any]:
    from dtfsal.runtime.predict.maps import map_statistics

    height, width = frame.saliency_map.shape
    found = map_statistics(frame.saliency_map, height, width)
    # In shares of the picture, since a stream may change its size.
    return {
        "index": frame.index,
        "time_seconds": round(frame.time_seconds, 6),
        "peak_x": round((found.peak_x + 0.5) / width, 4),
        "peak_y": round((found.peak_y + 0.5) / height, 4),
        "peak_value": round(found.peak_value, 5),
        "centre_x": round((found.centre_x + 0.5) / width, 4),
        "centre_y": round((found.centre_y + 0.5) / height, 4),
    }


class _View:
    """The pictures whose maps have not come yet."""

    def __init__(self) -> None:
        self._pictures: deque[tuple[int, Rgb]] = deque(maxlen=_VIEW_FRAMES)

    def keep(self, rgb: Rgb, index: int, pixel_aspect: tuple[int, int]) -> None:
        """Keep a picture, its pixels made square, until its map comes."""
        from dtfsal.runtime.frontend.preprocess import resize_frame

        height, width = rgb.shape[0], rgb.shape[1] * pixel_aspect[0] / pixel_aspect[1]
        scale = min(1.0, _VIEW_WIDTH / width)
        size = max(1, round(height * scale)), max(1, round(width * scale))
        self._pictures.append((index, rgb if size == rgb.shape[:2] else resize_frame(rgb, *size)))

    def picture(self, frame: SaliencyFrame) -> Rgb | None:
        """A frame with its map over it, or None if the frame is no longer there."""
        from dtfsal.runtime.sinks.render import overlay

        while self._pictures and self._pictures[0][0] < frame.index:
            self._pictures.popleft()
        if not self._pictures or self._pictures[0][0] != frame.index:
            return None
        return overlay(self._pictures.popleft()[1], frame.saliency_map)


class _Meter:
    """What a live run tells of itself."""

    def __init__(self, stream: Any, rate: dict[str, Any], *, quiet: bool) -> None:
        self._stream = stream
        self._rate = rate
        self._wanted = not quiet and sys.stderr.isatty()
        self._started = time.monotonic()
        self._said = self._started
        self._recent: deque[float] = deque(maxlen=50)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def refused(self) -> int:
        counts = self._stream.counts
        return int(counts.late_frames + counts.refused_frames)

    def show(self, frame: SaliencyFrame | None) -> None:
        check_interruption()
        now = time.monotonic()
        if frame is not None:
            self._recent.append(now)
        if self._wanted and now - self._said > 1:
            self._said = now
            figures = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.figures().items())
            print(f"\r\x1b[K{figures}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._wanted:
            print("\r\x1b[K", end="", file=sys.stderr)

    def figures(self) -> dict[str, Any]:
        counts = self._stream.counts
        span = self._recent[-1] - self._recent[0] if len(self._recent) > 1 else 0.0
        return {
            **self._rate,  # of the source, and every how many frames one is predicted
            "maps_per_second": round((len(self._recent) - 1) / span, 1) if span > 0 else 0.0,
            "frames": counts.frames,
            "maps": counts.maps,
            "dropped_maps": counts.dropped_maps,
            "refused_frames": self.refused,
            "delay_seconds": round(self._stream.delay_seconds, 2),
        }
