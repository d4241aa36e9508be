"""Does the map follow the voice? Two takes of a real face side by side, and a voice that goes with one of the mouths.

The first half of a clip of a talking face stands on the left, the second half, mirrored, on the right. The motion of
each mouth gives an envelope, and a synthetic voice under that envelope is the sound. The pictures are the same each
time, so what differs between the maps comes from the voice alone. The measure is the share of a map that lies on the
left face, with its voice and with the other's: a model that does not hear has the same share with either.
"""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dtfsal.benchmarks.machine.host import machine
from dtfsal.benchmarks.tables import markdown_table
from dtfsal.engines import Device
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.media.video import VideoReader
from dtfsal.runtime.predict.predictor import SaliencyPredictor
from dtfsal.training.synthetic.sounds import ENVELOPE_RATE_HZ, voice

Rgb = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")
PACKAGES = ("dtfsal", "onnxruntime", "numpy")
# Where the mouth moves in a picture of head and shoulders: top and bottom as shares of the height, then left and right
# as shares of the width.
MOUTH = (0.55, 0.8, 0.35, 0.65)
QUIET, LOUD = 20, 95  # percentiles of the mouth's motion: silence below, full loudness above
FEWEST_FRAMES, MOST_FRAMES = 32, 600  # of the clip: shorter says little, longer is not read


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two takes side by side.

    Attributes:
        frames: (N, H, 2*W, 3) uint8.
        envelopes: the loudness of each mouth, (N,) in [0, 1].
    """

    frames: Rgb
    envelopes: dict[Side, Floats]


def pair(frames: Rgb) -> Pair:
    """The first half of a clip beside the second, which is mirrored.

    Args:
        frames: (2*N, H, W, 3) of one talking face, the mouth about two thirds down; an odd last frame is left out.

    Raises:
        UsageError: there are too few frames, or no mouth moves.
    """
    if len(frames) < FEWEST_FRAMES:
        raise UsageError(f"the clip has {len(frames)} frames: give one of a talking face with {FEWEST_FRAMES} or more")
    count = len(frames) // 2
    loudness = mouth_loudness(frames)
    return Pair(
        np.concatenate([frames[:count], frames[count : 2 * count, :, ::-1]], axis=2),
        {"left": loudness[:count], "right": loudness[count : 2 * count]},
    )


def mouth_loudness(frames: Rgb) -> Floats:
    """How much the lower middle of each frame (N, H, W, 3) changes, from 0 (a quiet mouth) to 1; (N,).

    Raises:
        UsageError: nothing moves there.
    """
    height, width = frames.shape[1:3]
    top, bottom, left, right = (
        round(share * size) for share, size in zip(MOUTH, (height, height, width, width), strict=True)
    )
    green = frames[:, top:bottom, left:right, 1].astype(np.float64)
    change = np.abs(np.diff(green, axis=0, prepend=green[:1])).mean((1, 2))
    change[0] = change[1]
    smooth = np.convolve(np.pad(change, 1, mode="edge"), (0.25, 0.5, 0.25), "valid")
    quiet, loud = np.percentile(smooth, (QUIET, LOUD))
    if loud <= quiet:
        raise UsageError("nothing moves where a mouth would be: give a clip of a talking face")
    return np.clip((smooth - quiet) / (loud - quiet), 0, 1)


def spoken(loudness: Floats, frame_rate_hz: float, sample_rate_hz: int, seed: int) -> npt.NDArray[np.float32]:
    """A synthetic voice as loud as a mouth moves, (n,) in [-1, 1]."""
    seconds = len(loudness) / frame_rate_hz
    moments = np.arange(round(seconds * ENVELOPE_RATE_HZ)) / ENVELOPE_RATE_HZ
    envelope = np.interp(moments, (np.arange(len(loudness)) + 0.5) / frame_rate_hz, loudness)
    return voice(np.random.default_rng(seed), envelope.astype(np.float32), sample_rate_hz)


def left_shares(predictor: SaliencyPredictor, shown: Pair, rate_hz: float, samples: Any, sample_rate_hz: int) -> Floats:
    """The share of each map that lies on the left half, (N,)."""
    maps = predictor.predict_arrays(shown.frames, rate_hz, samples, None if samples is None else sample_rate_hz)
    left = maps[:, :, : maps.shape[2] // 2].sum((1, 2), dtype=np.float64)
    return left / maps.sum((1, 2), dtype=np.float64)


def measure(
    engine: Path,
    video: Path,
    *,
    voices: int = 5,
    seed: int = 0,
    device: Device = "auto",
    trust: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """How far a voice draws the map to the face that speaks.

    Args:
        engine: an audio-visual engine.
        video: a talking face.
        voices: how many synthetic voices speak, one after another.
        seed: of the voices.
        device: where the engine runs.
        trust: run engines that nobody trusted yet.
        progress: called after each run.

    Raises:
        UsageError: the engine does not hear, or the video shows no talking face.
        MediaError: the video cannot be read.
    """
    with VideoReader(video) as reader:
        frames = np.stack([frame.rgb for frame in itertools.islice(reader, MOST_FRAMES)])
        rate_hz = 1 / reader.info.frame_interval_seconds
    shown = pair(frames)
    with SaliencyPredictor(engine, device=device, trust=trust) as predictor:
        audio = predictor.engine.manifest.audio
        if audio is None:
            raise UsageError(f"{engine} does not hear: give an audio-visual engine")
        rate = audio.sample_rate_hz
        muted = left_shares(predictor, shown, rate_hz, None, rate)
        progress()
        shares: dict[Side, list[Floats]] = {side: [] for side in SIDES}
        for number in range(voices):
            for side in SIDES:
                samples = spoken(shown.envelopes[side], rate_hz, rate, seed + number)
                shares[side].append(left_shares(predictor, shown, rate_hz, samples, rate))
                progress()
        manifest = predictor.engine.manifest
    left, right = (np.stack(shares[side]) for side in SIDES)
    gains = (left - right).mean(1)
    return {
        "model": manifest.model_name,
        "weights": manifest.weights["source"],
        "video": video.name,
        "frames": len(muted),
        "voices": voices,
        "share_of_left": {
            name: float(of.mean()) for name, of in (("left speaks", left), ("muted", muted), ("right speaks", right))
        },
        "gain": {"mean": float(gains.mean()), "least": float(gains.min()), "most": float(gains.max())},
        "frames_that_follow": float((left > right).mean()),
        "machine": machine(PACKAGES),
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as a table, and how to read it."""
    shares, gain = report["share_of_left"], report["gain"]
    cells = (
        f"{report['model']}, {report['weights']}",
        *(f"{shares[name]:.1%}" for name in ("left speaks", "muted", "right speaks")),
        f"{gain['mean']:.1%} ({gain['least']:.1%} to {gain['most']:.1%})",
        f"{report['frames_that_follow']:.0%}",
    )
    headings = (
        "share of the map on the left face",
        "left speaks",
        "muted",
        "right speaks",
        "gain",
        "frames that follow",
    )
    note = (
        f"{report['video']}, {report['frames']} frames, {report['voices']} voices; in brackets the voices with the "
        f"least and the largest gain; `{' '.join(report['command'])}`"
    )
    return "\n".join([*markdown_table(headings, [cells]), "", note]) + "\n"
