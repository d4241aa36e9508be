"""What regions of interest gain at equal bitrates: attended quality, plain quality, and both as BD-rates.

A clip is brought to a small size without loss, then encoded in two passes at four bitrates: without regions, with
regions at the centre, and with regions where attention is predicted. Quality is measured on luma, in three ways: plain
PSNR, PSNR whose squared errors are weighted by attention, and SSIM weighted so. VMAF is that of the box of the frame's
shape that holds the most attention at half of the frame's sides; it needs the package imageio-ffmpeg.

Attention is a clip's gaze where a table lies beside it (`clip.csv`, as `dtfsal synth` writes it), else the predicted
maps themselves. The latter judges regions by what they were made from: it shows what an encoder can shift, not whether
people look there.
"""

from __future__ import annotations

import csv
import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import numpy.typing as npt

from dtfsal.applications.encode.encoder import EncodeSettings, encode_file
from dtfsal.applications.encode.regions import RegionPlanner, RegionTrack, centre_density
from dtfsal.benchmarks.machine.host import machine
from dtfsal.benchmarks.tables import markdown_table
from dtfsal.engines import Device
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.media.video import VideoReader
from dtfsal.runtime.predict.maps import resize_map, smooth_map
from dtfsal.runtime.predict.predictor import SaliencyPredictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]
BITS_PER_PIXEL = (0.03, 0.06, 0.12, 0.24)
VARIANTS = ("none", "centre", "attention")
METRICS = {"weighted_psnr": "attended PSNR", "weighted_ssim": "attended SSIM", "vmaf": "VMAF of the attended box"}
METRICS |= {"psnr": "plain PSNR"}
_GAZE_SIGMA = 0.04  # of the frame's width: about a degree at a usual distance
_GAZE_SECONDS = 0.1  # to each side of a frame


def measure(
    engine: str | Path,
    videos: Sequence[Path],
    *,
    codec: str = "libx264",
    preset: str = "medium",
    strength: float = 6.0,
    width: int = 480,
    seconds: float = 3.0,
    device: Device = "auto",
    trust: bool = False,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Encode each video in each way; see this module."""
    clips = {}
    with (
        tempfile.TemporaryDirectory(prefix="dtfsal-roi-") as name,
        SaliencyPredictor(engine, device=device, trust=trust) as predictor,
    ):
        for video in videos:
            if video.stem in clips:
                raise UsageError(f"two clips are called {video.stem!r}; rename one")
            clip = _prepared(video, Path(name) / f"{video.stem}.mkv", predictor, width, seconds)
            clips[video.stem] = _compared(clip, codec, preset, strength, progress)
    mean = {
        variant: {metric: _mean_bd_rate(clips, variant, metric) for metric in METRICS}
        for variant in VARIANTS
        if variant != "none"
    }
    return {
        "machine": machine(("av", "numpy")),
        "codec": codec,
        "preset": preset,
        "strength_qp": strength,
        "clips": clips,
        "mean_bd_rate": mean,
    }


def bd_rate(
    rates: Sequence[float], quality: Sequence[float], other: Sequence[float], reached: Sequence[float]
) -> float:
    """How much more bitrate the other encoding needs for the same quality, on average, as a share (-0.1: 10 % less).

    Bjontegaard's measure (VCEG-M33) with monotone cubic interpolation (PCHIP): the mean distance of the two curves of
    log rate over the qualities that both reach.

    Args:
        rates: of the reference, increasing.
        quality: of the reference at these.
        other: rates of the other.
        reached: quality of the other.

    Returns:
        NaN where the curves do not overlap, or one does not rise.
    """
    from scipy.interpolate import PchipInterpolator

    if (np.diff(quality) <= 0).any() or (np.diff(reached) <= 0).any():
        return float("nan")
    low, high = max(min(quality), min(reached)), min(max(quality), max(reached))
    if low >= high:
        return float("nan")
    areas = [PchipInterpolator(q, np.log(r)).integrate(low, high) for q, r in ((quality, rates), (reached, other))]
    return float(np.exp((areas[1] - areas[0]) / (high - low)) - 1)


class _Clip:
    """A clip without loss, with the attention on it."""

    def __init__(self, path: Path, maps: list[Array], weights: Array, judge: str, rate: Fraction) -> None:
        self.path, self.maps, self.weights, self.judge, self.rate = path, maps, weights, judge, rate
        self.luma = luma(path)  # (n, h, w) float64

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.luma.shape[2], self.luma.shape[1]


def luma(path: Path) -> Array:
    """(n, h, w) of the Y planes of a video of 8-bit 4:2:0 and even sides."""
    with VideoReader(path) as reader:
        height = reader.info.height
        planes = [picture.to_ndarray(format="yuv420p")[:height] for _, _, picture in reader.decoded()]
    return np.stack(planes).astype(np.float64)


def _prepared(video: Path, path: Path, predictor: SaliencyPredictor, width: int, seconds: float) -> _Clip:
    with VideoReader(video) as reader:
        info = reader.info
    scale = min(1.0, width / info.width)
    size = 2 * round(info.height * scale / 2), 2 * round(info.width * scale / 2)
    rate = Fraction(1 / info.frame_interval_seconds).limit_denominator(1001)
    with VideoReader(video, size=size) as reader, av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        times = []
        for frame in reader:
            if frame.time_seconds >= seconds:
                break
            times.append(frame.time_seconds)
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame.rgb, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    maps = []
    with predictor.predict_file(video) as prediction:
        for found in prediction:
            maps.append(found.saliency_map.astype(np.float64))
            if len(maps) == len(times):
                break
    table = video.with_suffix(".csv")
    if table.exists():
        weights = gaze_maps(table, times, size, (info.height, info.width))
        judge = "gaze"
    else:
        weights = np.stack([resize_map(saliency_map, *size) for saliency_map in maps]).astype(np.float64)
        judge = "predicted maps"
    weights = np.maximum(weights, 0)
    weights /= np.maximum(weights.mean(axis=(1, 2), keepdims=True), 1e-12)
    return _Clip(path, maps, weights, judge, rate)


def gaze_maps(table: Path, times: Sequence[float], size: tuple[int, int], source: tuple[int, int]) -> Array:
    """(n, h, w) of gaze points near each frame's time, blurred.

    Args:
        table: columns time_seconds, x and y, in pixels of the source.
        times: of the frames.
        size: height and width of the maps.
        source: height and width of the source.
    """
    with table.open(newline="") as file:
        points = np.array([[float(row[name]) for name in ("time_seconds", "x", "y")] for row in csv.DictReader(file)])
    maps = np.zeros((len(times), *size))
    for saliency_map, time in zip(maps, times, strict=True):
        near = points[np.abs(points[:, 0] - time) <= _GAZE_SECONDS]
        columns = np.clip(near[:, 1] * size[1] / source[1], 0, size[1] - 1).astype(int)
        rows = np.clip(near[:, 2] * size[0] / source[0], 0, size[0] - 1).astype(int)
        np.add.at(saliency_map, (rows, columns), 1)
        saliency_map[:] = smooth_map(saliency_map, _GAZE_SIGMA * size[1])
    return maps


def _compared(clip: _Clip, codec: str, preset: str, strength: float, progress: Callable[[], object]) -> dict[str, Any]:
    tracks: dict[str, RegionTrack | None] = {"none": None}
    for variant in ("centre", "attention"):
        planner = RegionPlanner(*clip.size, strength)
        for index, saliency_map in enumerate(clip.maps if variant == "attention" else [centre_density()]):
            planner.add(float(index / clip.rate), np.asarray(saliency_map, np.float32))
        tracks[variant] = planner.finish()
    curves: dict[str, dict[str, list[Any]]] = {
        variant: {name: [] for name in ("rate", *METRICS)} for variant in VARIANTS
    }
    pixels = clip.size[0] * clip.size[1]
    for bits in BITS_PER_PIXEL:
        for variant, track in tracks.items():
            asked = max(1000, round(bits * pixels * float(clip.rate)))
            output = clip.path.with_name("encoded.mkv")
            encoded = encode_file(clip.path, output, track, EncodeSettings(codec, asked, preset))
            for name, value in {"rate": encoded.bit_rate, **quality(clip.luma, luma(output), clip.weights)}.items():
                curves[variant][name].append(round(value, 5))
            curves[variant]["vmaf"].append(_vmaf(clip, output))
            output.unlink()
            progress()
    for curve in curves.values():
        if None in curve["vmaf"]:
            curve["vmaf"] = []
    none = curves["none"]
    rates = {
        variant: {
            metric: _finite(bd_rate(none["rate"], none[metric], curves[variant]["rate"], curves[variant][metric]))
            for metric in METRICS
            if none[metric]
        }
        for variant in VARIANTS
        if variant != "none"
    }
    return {
        "frames": len(clip.luma),
        "width": clip.size[0],
        "height": clip.size[1],
        "weights": clip.judge,
        "curves": curves,
        "bd_rate": rates,
    }


def quality(reference: Array, encoded: Array, weights: Array) -> dict[str, float]:
    """Plain PSNR, PSNR weighted by attention, and SSIM weighted so, of luma over all frames.

    Args:
        reference: (n, h, w) in [0, 255].
        encoded: as it.
        weights: as it, of mean 1 in each frame.
    """
    from skimage import metrics

    similarity: Any = metrics.structural_similarity
    squares = (reference - encoded) ** 2
    similar = [
        float((similarity(a, b, data_range=255, full=True)[1] * w).mean())
        for a, b, w in zip(reference, encoded, weights, strict=True)
    ]

    def decibels(error: float) -> float:
        return float(10 * np.log10(255**2 / max(error, 1e-9)))

    return {
        "psnr": decibels(squares.mean()),
        "weighted_psnr": decibels((squares * weights).mean()),
        "weighted_ssim": float(np.mean(similar)),
    }


def _vmaf(clip: _Clip, output: Path) -> float | None:
    """Of the box of half the frame's sides that holds the most attention, by FFmpeg's libvmaf."""
    try:
        import imageio_ffmpeg
    except ImportError:
        return None
    width, height = (2 * (side // 4) for side in clip.size)
    sums = np.pad(clip.weights.mean(axis=0), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    held = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = (2 * (int(place) // 2) for place in np.unravel_index(held.argmax(), held.shape))
    log = clip.path.with_name("vmaf.json")
    crop = f"crop={width}:{height}:{left}:{top}"
    both = (f"[{number}:v]{crop},settb=AVTB,setpts=N[{name}]" for number, name in enumerate("ab"))
    graph = f"{';'.join(both)};[a][b]libvmaf=log_fmt=json:log_path={log.name}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", output.name, "-i", clip.path.name]
    subprocess.run([*command, "-lavfi", graph, "-f", "null", "-"], cwd=log.parent, check=True, capture_output=True)
    return round(float(json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"]), 4)


def _mean_bd_rate(clips: dict[str, Any], variant: str, metric: str) -> float | None:
    found = [clip["bd_rate"][variant].get(metric) for clip in clips.values()]
    kept = [value for value in found if value is not None]
    return float(np.mean(kept)) if kept else None


def _finite(value: float) -> float | None:
    return round(value, 5) if np.isfinite(value) else None


def markdown(report: dict[str, Any]) -> str:
    """The BD-rates as a table: negative is a gain."""

    def cell(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:+.1f} %"

    rows = []
    for name, clip in report["clips"].items():
        for variant, rates in clip["bd_rate"].items():
            rows.append((name, clip["weights"], variant, *(cell(rates.get(metric)) for metric in METRICS)))
    for variant, rates in report["mean_bd_rate"].items():
        rows.append(("**mean**", "", variant, *(cell(rates[metric]) for metric in METRICS)))
    headings = (f"BD-rate, {report['codec']} {report['preset']}", "attention of", "regions", *METRICS.values())
    return "\n".join(markdown_table(headings, rows)) + "\n"


def draw(report: dict[str, Any]) -> Figure:
    """Curves of attended and plain PSNR over the bitrate, clip by clip."""
    from dtfsal.benchmarks.report.figures import new_figure

    clips = report["clips"]
    columns = min(3, len(clips))
    rows = -(-len(clips) // columns)
    with new_figure(width=3.2 * columns, height=2.6 * rows, rows=rows, columns=columns) as (figure, axes):
        for number, (name, clip) in enumerate(clips.items()):
            for colour, variant in enumerate(VARIANTS):
                curve = clip["curves"][variant]
                rate = np.array(curve["rate"]) / 1000
                label = f"{variant}: attended" if number == 0 else None
                axes[number].plot(rate, curve["weighted_psnr"], "o-", color=f"C{colour}", markersize=3, label=label)
                label = f"{variant}: plain" if number == 0 else None
                axes[number].plot(rate, curve["psnr"], "--", color=f"C{colour}", linewidth=0.8, label=label)
            axes[number].set(title=name, xlabel="kbit/s", ylabel="PSNR of luma, dB", xscale="log")
        for spare in axes[len(clips) :]:
            spare.set_axis_off()
        axes[0].legend(fontsize=6)
    return figure
