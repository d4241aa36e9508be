"""`dtfsal info`: what an engine or a video is."""

from __future__ import annotations

import argparse
import dataclasses
import os
from typing import TYPE_CHECKING, Any

from dtfsal.engines.bundle.specs import FIRST_TEMPORAL_RULE
from dtfsal.runtime.cli import common

if TYPE_CHECKING:
    from dtfsal.engines import Bundle
    from dtfsal.runtime.media.video import VideoInfo

HELP = "show what an engine or a video is"

_EPILOG = """\
The whole engine is checked, including every file's SHA-256. The library that would run it need not be installed.

examples:
  dtfsal info lite
  dtfsal info org/name@v1.0
  dtfsal info clip.mp4 --json
"""

_LATE = ": the first version's, whose decoders do not see the frame that they predict; build the engine again"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("path", metavar="ENGINE|VIDEO", help="an engine (its folder or its name), or a video file")
    common.add_stream_options(parser)
    common.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Describe an engine or a video."""
    from dtfsal.engines.bundle.shipped import engine_folder

    folder = engine_folder(args.path)
    if folder.is_dir():
        from dtfsal.engines import read_bundle

        bundle = read_bundle(folder)
        if args.json:
            common.print_json({"kind": "engine", **bundle.describe()})
        else:
            common.print_table(_engine_rows(bundle))
        return 0
    from dtfsal.runtime.media.video import VideoReader

    with VideoReader(args.path, video_stream=args.video_stream, audio_stream=args.audio_stream) as reader:
        info, jumps = reader.info, reader.count_clock_jumps()
    if args.json:
        common.print_json({"kind": "video", **_plain(dataclasses.asdict(info)), "clock_jumps": jumps})
    else:
        common.print_table(_video_rows(info, jumps or 0))
    return 0


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in fields.items()}


def _engine_rows(bundle: Bundle) -> list[tuple[str, object]]:
    manifest = bundle.manifest
    fields = bundle.describe()
    clip, audio = manifest.clip, manifest.audio
    weights = manifest.weights["source"]
    if manifest.weights["sha256"]:
        weights += f" (SHA-256 {manifest.weights['sha256'][:12]}...)"
    rows: list[tuple[str, object]] = [
        (f"engine {bundle.path}", None),
        *([("downloaded from", bundle.repository)] if bundle.repository else []),
        ("model", manifest.model_name),
        ("weights", weights),
        ("target", manifest.target),
        ("precision", manifest.precision),
        ("deformable conv.", manifest.deform_conv),
        ("GPUs", ", ".join(f"sm_{c.replace('.', '')}" for c in manifest.compute_capabilities) or "any device"),
        ("built by", f"{manifest.builder} {manifest.builder_version}, {manifest.created_by}"),
        ("schema", manifest.schema_version),
        (
            "clip",
            f"{clip.frames} frames of {clip.width}x{clip.height} at {clip.frame_rate_hz:g} Hz "
            f"({fields['clip']['seconds']:.2f} s)",
        ),
        ("map belongs to", f"frame {clip.target_index} of the clip ({clip.target})"),
        ("temporal rule", manifest.temporal_rule + _LATE * (manifest.temporal_rule == FIRST_TEMPORAL_RULE)),
    ]
    if audio is None:
        rows.append(("sound", "not used: a visual model"))
    else:
        slices = f"{audio.slices} log-mel slices of {audio.width}x{audio.height}"
        spacing = f"one every {audio.slice_hop_seconds:.2f} s ({fields['audio']['seconds']:.2f} s in all)"
        rows.append(("sound", f"{slices}, {spacing}, from {audio.sample_rate_hz} Hz mono"))
    for name, graph in manifest.graphs.items():
        rows.append((f"graph {name!r} in {graph.file}", None))
        for direction, tensors in (("in", graph.inputs), ("out", graph.outputs)):
            for tensor in tensors:
                shape = " x ".join("any" if size == -1 else str(size) for size in tensor.shape)
                bounds = ""
                if tensor.minimum is not None and tensor.maximum is not None:
                    bounds = f", in [{tensor.minimum:g}, {tensor.maximum:g}]"
                described = f": {tensor.description}" if tensor.description else ""
                rows.append((f"{direction} {tensor.name}", f"{tensor.dtype} {shape}{bounds}{described}"))
    if manifest.native_libraries:
        needed = ", ".join(f"{name} (version {version})" for name, version in manifest.native_libraries.items())
        rows.append(("needs", f"{needed}, of this installation"))
    if bundle.native_code:
        rows.append(("native code", f"{', '.join(bundle.native_code)}: not run unless --trust-engine says so"))
    rows.append((f"files, {common.format_bytes(manifest.size_bytes)}, as the manifest says", None))
    rows += [(name, common.format_bytes(record.size_bytes)) for name, record in manifest.files.items()]
    return rows


def _video_rows(info: VideoInfo, clock_jumps: int) -> list[tuple[str, object]]:
    size = f"{info.width}x{info.height}"
    if info.rotation_degrees:
        size += f", turned by {info.rotation_degrees} degrees"
    if info.mirrored:
        size += ", mirrored"
    if info.pixel_aspect != (1, 1):
        size += f", pixels of {info.pixel_aspect[0]}:{info.pixel_aspect[1]}"
    rate = 1 / info.frame_interval_seconds
    rows: list[tuple[str, object]] = [
        (f"video {info.path}", None),
        ("container", info.container),
        ("codec", f"{info.codec}, {info.pixel_format}"),
        ("size", size),
        ("colours", _colours(info)),
        ("frame rate", f"{rate:.4g} Hz (a frame every {1000 * info.frame_interval_seconds:.4g} ms)"),
        ("frames", "not stated by the file" if info.frame_count is None else info.frame_count),
        (
            "duration",
            "not stated by the file" if info.duration_seconds is None else f"{info.duration_seconds:.3f} s",
        ),
    ]
    if clock_jumps:
        times = "once" if clock_jumps == 1 else f"{clock_jumps} times"
        rows.append(("clock", f"restarts or jumps {times}; picture and sound go on there without a gap"))
    if info.has_audio:
        channels = {1: "mono", 2: "stereo"}.get(info.audio_channels or 0, f"{info.audio_channels} channels")
        rows.append(("sound", f"{info.audio_codec}, {info.audio_sample_rate_hz} Hz, {channels}"))
    else:
        rows.append(("sound", "none"))
    rows.append(("streams (* is read)", None))
    for stream in info.streams:
        form = ", ".join(filter(None, (stream.codec or "unknown codec", stream.form, stream.language)))
        mark = "*" if stream.chosen else " "
        rows.append((f"{mark} {stream.index} {stream.kind}", form + ", default" * stream.default))
    return rows


def _colours(info: VideoInfo) -> str:
    colours = info.colours
    told = colours.matrix_name + (f", HDR ({colours.hdr})" if colours.hdr else "")
    return f"{told}, {'full' if colours.full_range else 'limited'} range"
