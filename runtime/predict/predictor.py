"""From a video with sound, in any form, to one saliency map per frame.

    with SaliencyPredictor("engines/dtfsal") as predictor:
        for frame in predictor.predict_file("clip.mp4"):
            print(frame.time_seconds, frame.saliency_map.max())

Memory does not grow with the video: frames are brought to the model's size as they are decoded, and only those that a
later window needs are held. A file's next frames are decoded while the engine works.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Generator, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from dtfsal.engines import Device, Engine, open_engine
from dtfsal.engines.arrays import DLPackArray, host_array
from dtfsal.engines.bundle.shipped import DEFAULT_ENGINE
from dtfsal.engines.errors import UsageError
from dtfsal.runtime.frontend.log_mel import MelSlices
from dtfsal.runtime.frontend.preprocess import Color, Rgb, resize_frame, rgb_frame
from dtfsal.runtime.frontend.samples import mono_samples, resampled_chunks
from dtfsal.runtime.frontend.windows import ClipWindow, Padding, check_padding, check_stride, iter_windows
from dtfsal.runtime.media.audio_reader import AudioReader
from dtfsal.runtime.media.video import Frame, PictureFrame, VideoReader
from dtfsal.runtime.predict.frame_maps import FrameMaps
from dtfsal.runtime.predict.maps import (
    Normalisation,
    SaliencyMap,
    check_normalisation,
    check_sigma,
    normalise_map,
    resize_map,
    smooth_map,
)
from dtfsal.runtime.predict.mirroring import mirrored_frames, mirrored_maps
from dtfsal.runtime.predict.pipeline import read_ahead, read_pairs
from dtfsal.runtime.predict.prediction import Prediction, SaliencyFrame, Sound
from dtfsal.runtime.predict.pretrained import Pretrained
from dtfsal.runtime.predict.segments import Segment, iter_segments
from dtfsal.runtime.predict.stage_clock import StageClock
from dtfsal.runtime.predict.window_runner import ReadyFrame, WindowRunner, finite_map
from dtfsal.runtime.predict.window_runners import runner_type


class SaliencyPredictor(Pretrained):
    """Predicts where people look, one map for every input frame. A context manager that closes its engine.

    Args:
        engine: the name of an engine that the package carries, an engine bundle's folder, a repository of a hub (see
            `from_pretrained`), or an engine that is already open; the latter stays open on `close`.
        padding: what replaces frames before the video's start and after its end: "reverse" mirrors the video,
            "repeat" holds its first or last frame.
        stride: predict every stride-th frame and the last; maps between are linear in time.
        smoothing_sigma: gaussian blur of the maps, standard deviation in pixels of the model's map; 0 for none.
        normalisation: scale of each map: "none" for the model's own values in [0, 1], "max" for a largest value of 1,
            "sum" for a sum of 1, "range" for 0 to 1.
        device: "cpu", "cuda", or "auto"; see `dtfsal.engines.open_engine`.
        threads: CPU threads of the engine; None for the physical cores that this process may use.
        trust: run native code that the engine brings; see `dtfsal.engines.open_engine`.

    Raises:
        UsageError: an argument has a value that can't work.
        EngineError: the bundle is missing, damaged or not one.
        EngineMismatchError: its graphs are not ones that this predictor can feed.
        UnavailableError: what runs the engine is absent.
    """

    def __init__(
        self,
        engine: str | os.PathLike[str] | Engine = DEFAULT_ENGINE,
        *,
        padding: Padding = "reverse",
        stride: int = 1,
        smoothing_sigma: float = 0.0,
        normalisation: Normalisation = "none",
        device: Device = "auto",
        threads: int | None = None,
        trust: bool = False,
    ) -> None:
        check_padding(padding)
        check_stride(stride)
        check_sigma(smoothing_sigma)
        check_normalisation(normalisation)
        self.padding = padding
        self.stride = stride
        self.smoothing_sigma = smoothing_sigma
        self.normalisation = normalisation
        self._owns_engine = not isinstance(engine, Engine)
        self.engine = (
            engine if isinstance(engine, Engine) else open_engine(engine, device=device, threads=threads, trust=trust)
        )
        try:
            self._runner_type = runner_type(self.engine)
        except BaseException:
            self.close()
            raise
        self.clip = self.engine.manifest.clip
        self.audio = self.engine.manifest.audio

    def predict_file(
        self,
        path: str | os.PathLike[str],
        *,
        video_stream: int | None = None,
        audio_stream: int | None = None,
        mirrored: bool = False,
        muted: bool = False,
    ) -> Prediction:
        """Predict a video file.

        The file is opened now, so a bad one fails here. An audio-visual engine hears silence where the file has no
        sound, and `Prediction.sound` says so. A pipe is read to its end first, into a temporary file.

        Args:
            path: the video.
            video_stream: the number of the video stream to read; None for the main one.
            audio_stream: the number of the sound stream to hear; None for the default one.
            mirrored: show each frame to the engine mirrored left to right, and mirror its map back. How far the map
                then differs tells something of how sure the engine is.
            muted: hear silence instead of the sound.

        Raises:
            MediaError: the file is missing, damaged or holds no video; also raised later, while iterating.
            UsageError: there is no such stream.
        """
        return self._predict_file(path, video_stream, audio_stream, mirrored=mirrored, muted=muted)

    def segments(
        self,
        path: str | os.PathLike[str],
        frames_per_segment: int,
        *,
        video_stream: int | None = None,
        audio_stream: int | None = None,
    ) -> Iterator[Segment]:
        """Cut a video file into segments, in order, to be predicted apart, as by several machines.

        The maps that `predict_segment` gives for all of them, one after the other, are those of `predict_file`: bit for
        bit on one kind of CPU with the same number of threads. Memory holds the sound of one segment.

        Args:
            path: the video.
            frames_per_segment: frames of each; the last may have fewer.
            video_stream: as for `predict_file`.
            audio_stream: see there.

        Raises:
            SegmentError: the video cannot be read in parts: predict it as a whole.
            MediaError: it cannot be read.
            UsageError: the number of frames is not positive, or there is no such stream.
        """
        return iter_segments(
            path,
            frames_per_segment,
            clip=self.clip,
            audio=self.audio,
            stride=self.stride,
            video_stream=video_stream,
            audio_stream=audio_stream,
        )

    def predict_segment(
        self,
        path: str | os.PathLike[str],
        segment: Segment,
        *,
        video_stream: int | None = None,
        audio_stream: int | None = None,
    ) -> Prediction:
        """Predict a part of a video file: the maps of its frames are those that `predict_file` gives.

        Args:
            path: the video.
            segment: of it, from `segments` of a predictor with this one's engine and options.
            video_stream: as for `predict_file`, and as it was for the segment.
            audio_stream: see there.

        Raises:
            SegmentError: the video is damaged, and cannot be read in parts; raised while iterating.
            MediaError: as for `predict_file`.
        """
        return self._predict_file(path, video_stream, audio_stream, segment=segment)

    def _predict_file(
        self,
        path: str | os.PathLike[str],
        video_stream: int | None,
        audio_stream: int | None,
        *,
        mirrored: bool = False,
        muted: bool = False,
        segment: Segment | None = None,
    ) -> Prediction:
        clock = StageClock()
        runner = self._runner_type(self.engine)
        chunks: Iterator[npt.NDArray[np.float32]] = iter(())
        with contextlib.ExitStack() as stack, clock.stage("decode"):
            reader = stack.enter_context(
                VideoReader(
                    path,
                    size=(self.clip.height, self.clip.width),
                    video_stream=video_stream,
                    audio_stream=audio_stream,
                )
            )
            if segment is not None:
                reader.restrict(segment.part)
                chunks = segment.chunks()
            audio_reader: AudioReader | None = None
            sound: Sound = "unused"
            if self.audio is not None:
                sound = "used" if reader.info.has_audio and not muted else "silence"
            if sound == "used" and self.audio is not None and segment is None:
                audio_reader = stack.enter_context(
                    AudioReader(
                        path,
                        self.audio.sample_rate_hz,
                        start_seconds=reader.info.start_seconds,
                        video_stream=video_stream,
                        audio_stream=audio_stream,
                    )
                )
                chunks = iter(audio_reader)
            resources = stack.pop_all()
        decoded: Iterable[Frame | PictureFrame]
        if mirrored:
            decoded = mirrored_frames(reader, pictures=runner.takes_pictures)
        else:
            decoded = reader.pictures() if runner.takes_pictures else reader
        pictures = read_ahead(clock.timed("decode", decoded))
        resources.callback(pictures.close)
        interval = reader.info.frame_interval_seconds
        ahead = runner.looks_ahead
        taken = pictures if ahead else clock.timed("wait", pictures)
        frames = self._predict(runner, taken, interval, chunks, clock, resources, ahead=ahead, segment=segment)
        if mirrored:
            frames = mirrored_maps(frames)
        return Prediction(frames, resources, clock, sound, reader=reader, audio_reader=audio_reader)

    def predict_frames(
        self,
        frames: Iterable[Rgb | DLPackArray],
        *,
        frame_rate_hz: float | None = None,
        timestamps: Sequence[float] | npt.NDArray[np.float64] | None = None,
        samples: npt.ArrayLike | DLPackArray | None = None,
        sample_rate_hz: float | None = None,
        color: Color = "rgb",
    ) -> Prediction:
        """Predict frames that come one after another, e.g. from a camera or another decoder.

        Each frame is shrunk as it comes, and maps come out as soon as the frames that they need have: about half a
        clip later for a model that predicts its clip's centre.

        Args:
            frames: (H, W, 3) uint8 each, of any size; NumPy's, or tensors in the host's memory.
            frame_rate_hz: frames per second; frame i is at i / frame_rate_hz.
            timestamps: instead of it, each frame's time in seconds, increasing.
            samples: the sound, (n,) or (n, channels), in [-1, 1] or signed integers; its first sample is at time 0.
            sample_rate_hz: samples per second of the sound.
            color: the order of the frames' channels, "rgb" or, as OpenCV has it, "bgr".

        Raises:
            UsageError: an argument doesn't fit; for a frame, while iterating.
        """
        clock = StageClock()
        stamps: Iterable[float]
        if (frame_rate_hz is None) == (timestamps is None):
            raise UsageError("give either frame_rate_hz or timestamps, and not both")
        if timestamps is None:
            if not (frame_rate_hz and 0 < frame_rate_hz <= 1e6):
                raise UsageError(f"frame_rate_hz must be positive, not {frame_rate_hz!r}")
            interval = 1 / frame_rate_hz
            stamps = (index / frame_rate_hz for index in itertools.count())
        else:
            times = np.asarray(timestamps, np.float64)
            if times.ndim != 1 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
                raise UsageError("timestamps must be finite seconds that increase from frame to frame")
            interval = float(np.median(np.diff(times))) if len(times) > 1 else 1 / self.clip.frame_rate_hz
            stamps = times.tolist()
        chunks, sound = self._chunks(samples, sample_rate_hz)
        resources = contextlib.ExitStack()
        runner = self._runner_type(self.engine)
        pictures = (rgb_frame(frame, color) for frame in frames)
        timed = clock.timed("decode", self._timed(pictures, stamps, shrink=not runner.takes_pictures))
        return Prediction(self._predict(runner, timed, interval, chunks, clock, resources), resources, clock, sound)

    def predict_arrays(
        self,
        video: Rgb | DLPackArray,
        frame_rate_hz: float,
        samples: npt.ArrayLike | DLPackArray | None = None,
        sample_rate_hz: float | None = None,
        *,
        color: Color = "rgb",
    ) -> SaliencyMap:
        """Predict a whole video in memory.

        Args:
            video: (N, H, W, 3) uint8; NumPy's, or a tensor in the host's memory.
            frame_rate_hz: frames per second.
            samples: the sound, (n,) or (n, channels), in [-1, 1] or signed integers, or None for silence.
            sample_rate_hz: samples per second of the sound.
            color: the order of the video's channels, "rgb" or, as OpenCV has it, "bgr".

        Returns:
            (N, H, W) float32 at the video's resolution, in the predictor's normalisation.

        Raises:
            UsageError: an argument doesn't fit.
        """
        frames = host_array(video, "video")
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise UsageError(f"video must be (N, H, W, 3) uint8, not {frames.shape} {frames.dtype}")
        count, height, width = frames.shape[:3]
        maps = np.empty((count, height, width), np.float32)
        with self.predict_frames(
            frames, frame_rate_hz=frame_rate_hz, samples=samples, sample_rate_hz=sample_rate_hz, color=color
        ) as prediction:
            for frame in prediction:
                maps[frame.index] = normalise_map(resize_map(frame.saliency_map, height, width), self.normalisation)
        return maps

    def close(self) -> None:
        """Close the engine if this predictor opened it."""
        if self._owns_engine:
            self.engine.close()

    def __enter__(self) -> SaliencyPredictor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _chunks(
        self, samples: npt.ArrayLike | DLPackArray | None, sample_rate_hz: float | None
    ) -> tuple[Iterator[npt.NDArray[np.float32]], Sound]:
        if samples is None:
            if sample_rate_hz is not None:
                raise UsageError("sample_rate_hz is given without samples")
            return iter(()), "unused" if self.audio is None else "silence"
        if sample_rate_hz is None:
            raise UsageError("samples need their sample_rate_hz")
        if self.audio is None:
            return iter(()), "unused"
        return resampled_chunks(mono_samples(samples), sample_rate_hz, self.audio.sample_rate_hz), "used"

    def _timed(self, frames: Iterable[Rgb], stamps: Iterable[float], *, shrink: bool) -> Iterator[Frame]:
        times = iter(stamps)
        for index, rgb in enumerate(frames):
            time_seconds = next(times, None)
            if time_seconds is None:
                raise UsageError(f"there are only {index} timestamps, and frame {index} needs one")
            picture = resize_frame(rgb, self.clip.height, self.clip.width) if shrink else rgb
            yield Frame(index, time_seconds, picture)

    def _predict(
        self,
        runner: WindowRunner,
        frames: Iterable[Frame | PictureFrame],
        interval_seconds: float,
        chunks: Iterator[npt.NDArray[np.float32]],
        clock: StageClock,
        resources: contextlib.ExitStack,
        *,
        ahead: bool = False,
        segment: Segment | None = None,
    ) -> Generator[tuple[SaliencyFrame, bool], None, None]:
        """Every frame's map in order, and whether the engine computed it (or it lies between two that it did).

        With `ahead`, another thread gets the frames, and a window is begun while the one before it is computed.
        """
        maps = FrameMaps(self.stride, self.normalisation)

        def passing() -> Iterator[ReadyFrame]:
            for frame in frames:
                if segment is None or frame.index in segment.windows:
                    maps.add_frame(frame.index, frame.time_seconds)
                yield runner.ready(frame)

        with resources:
            slices = None if self.audio is None else MelSlices(self.audio, clock.timed("decode", chunks))
            windows = iter_windows(
                passing(),
                self.clip,
                source_interval_seconds=interval_seconds,
                padding=self.padding,
                stride=self.stride,
                part=None if segment is None else segment.window_part,
            )
            pairs: Iterator[tuple[ClipWindow[ReadyFrame], ClipWindow[ReadyFrame] | None]]
            if ahead:
                resources.callback(runner.close)
                coming = read_pairs(windows, depth=2)
                resources.callback(coming.close)
                pairs = clock.timed("wait", coming)
            else:
                pairs = ((window, None) for window in clock.timed("preprocess", windows))
            for window, following in pairs:
                frames_of_it = maps.take_until(window.index)
                for frame, computed in maps.add_window(
                    frames_of_it, self._run(runner, window, slices, clock, following)
                ):
                    if segment is None or frame.index in segment.frames:
                        yield frame, computed

    def _run(
        self,
        runner: WindowRunner,
        window: ClipWindow[ReadyFrame],
        slices: MelSlices | None,
        clock: StageClock,
        following: ClipWindow[ReadyFrame] | None,
    ) -> SaliencyMap:
        saliency_map = finite_map(runner, window, slices, clock, following)
        with clock.stage("smooth"):
            return smooth_map(saliency_map, self.smoothing_sigma)
