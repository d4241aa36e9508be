"""One pass over a clip: its tables, its preview, and what a page shows of it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dtfsal.applications.areas.files import areas_document, read_areas
from dtfsal.applications.areas.model import Area, check_times
from dtfsal.applications.areas.shares import AreaShares, AreaSummary
from dtfsal.applications.report.measures import GENERAL, FrameMeasures, Measurer
from dtfsal.applications.report.preview import CutFinder, preview, preview_size
from dtfsal.applications.report.samples import Samples
from dtfsal.applications.report.tables import frames_csv, frames_parquet
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import VideoInfo, probe
from dtfsal.runtime.predict.maps import SaliencyMap
from dtfsal.runtime.predict.pipeline import write_behind
from dtfsal.runtime.predict.prediction import SaliencyFrame
from dtfsal.runtime.predict.predictor import SaliencyPredictor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a report is asked for.

    Attributes:
        level: the share of attention that "first above" asks for, in [0, 1].
        uncertainty: also predict mirrored frames and muted sound.
        parquet: also write the frames' table as Parquet.
        video_stream: the number of the video stream to read; None for the main one.
        audio_stream: the number of the sound stream to hear; None for the default one.
    """

    level: float = 0.1
    uncertainty: bool = False
    parquet: bool = False
    video_stream: int | None = None
    audio_stream: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Track:
    """A clip that has been gone through.

    Attributes:
        info: the clip.
        areas: that were measured.
        series: the names of the series, in the samples' order.
        samples: series and maps over time.
        summaries: of the areas.
        cuts: the times of cuts, in seconds; None where they were not looked for.
        frames: how many there are.
        seconds: from the first frame to the last one's end.
        sound: what the engine heard.
        preview: the file that a page plays.
        preview_size: its (height, width).
        notes: what was done with the clip that its user may want to know, a sentence each.
    """

    info: VideoInfo
    areas: tuple[Area, ...]
    series: tuple[str, ...]
    samples: Samples
    summaries: list[AreaSummary]
    cuts: list[float] | None
    frames: int
    seconds: float
    sound: str
    preview: Path
    preview_size: tuple[int, int]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The clip's file name; what of it is not Unicode shows as question marks."""
        return Path(self.info.path).name.encode("utf-8", "replace").decode("utf-8")

    def document(self) -> dict[str, Any]:
        """The figures of the whole clip: plain JSON values."""
        return {
            "video": self.name,
            "width": self.info.width,
            "height": self.info.height,
            "frames": self.frames,
            "seconds": round(self.seconds, 6),
            "sound": self.sound,
            "cuts_seconds": self.cuts,
            "areas": [dataclasses.asdict(summary) for summary in self.summaries],
            "areas_file": areas_document(self.areas) if self.areas else None,
            "notes": list(self.notes),
        }


def probe_with_areas(
    video: str | os.PathLike[str], areas: str | os.PathLike[str] | None, options: Options
) -> tuple[VideoInfo, tuple[Area, ...]]:
    """What is known of a clip before it is predicted, and its areas, checked against it.

    Raises:
        MediaError: the video cannot be read.
        UsageError: the areas cannot be used.
    """
    info = probe(video, video_stream=options.video_stream, audio_stream=options.audio_stream)
    if areas is None:
        return info, ()
    read = read_areas(areas, width=info.width, height=info.height)
    check_times(read, info.duration_seconds)
    return info, read


def follow(
    predictor: SaliencyPredictor,
    info: VideoInfo,
    areas: Sequence[Area],
    folder: Path,
    options: Options,
    *,
    prefix: str = "",
    on_frame: Callable[[object], object] = lambda _frame: None,
) -> Track:
    """Predict a clip, and write its table of frames and its preview while its maps come.

    Args:
        predictor: of the maps.
        info: the clip.
        areas: to measure.
        folder: where files are written.
        options: what is asked for.
        prefix: of the files' names.
        on_frame: called after each frame.

    Raises:
        MediaError: the clip cannot be decoded.
        OutputError: a file cannot be written.
    """
    shares = AreaShares(areas, options.level)
    names = [area.name for area in areas]
    measurer = Measurer(info, shares)
    banded = options.uncertainty
    samples = Samples(len(GENERAL) + len(areas), banded=banded)
    cuts = CutFinder()
    notes: list[str] = []
    clip = folder / f"{prefix}video.mp4"
    with contextlib.ExitStack() as stack:
        predictions = [
            stack.enter_context(predict(info.path, video_stream=info.video_stream, audio_stream=options.audio_stream))
            for predict in _ways(predictor, info, banded)
        ]
        tables = [stack.enter_context(frames_csv(folder / f"{prefix}frames.csv", names, banded=banded))]
        if options.parquet:
            path = folder / f"{prefix}frames.parquet"
            tables.append(stack.enter_context(frames_parquet(path, names, banded=banded)))
        show = stack.enter_context(preview(clip, info, cuts, notes))
        count = _Counting(shares, samples, info.frame_interval_seconds)

        def write(maps: tuple[SaliencyFrame, ...]) -> None:
            frame, *others = maps
            show(frame.index)
            measures = measurer.measure(frame, [other.saliency_map for other in others])
            for table in tables:
                table(measures)
            count.take(measures, frame.saliency_map)

        with write_behind(write, on_written=on_frame) as hand_over:
            for maps in zip(*predictions, strict=True):
                hand_over(maps)
        if count.last is None:
            raise MediaError(f"{info.path} has no frame that can be decoded")
        count.finish()
        first = predictions[0]
        notes = [*first.notes, *notes]
        stack.close()
    if not cuts.available:
        notes.append("cuts were not looked for: PySceneDetect is absent, and `pip install 'dtfsal[report]'` brings it")
    for summary in shares.summaries():
        if not summary.visible_seconds:
            notes.append(f"the area {summary.name!r} is never there")
    return Track(
        info=info,
        areas=tuple(areas),
        series=(*GENERAL, *names),
        samples=samples,
        summaries=shares.summaries(),
        cuts=cuts.times if cuts.available else None,
        frames=first.frames,
        seconds=count.seconds,
        sound=first.sound,
        preview=clip,
        preview_size=preview_size(info),
        notes=tuple(notes),
    )


def _ways(predictor: SaliencyPredictor, info: VideoInfo, uncertainty: bool) -> Iterator[Callable[..., Any]]:
    """How a clip is predicted: as it is, and for its uncertainty mirrored, and muted where it is heard."""
    yield predictor.predict_file
    if uncertainty:
        yield functools.partial(predictor.predict_file, mirrored=True)
        if predictor.audio is not None and info.has_audio:
            yield functools.partial(predictor.predict_file, muted=True)


class _Counting:
    """Gives each frame on when the next one tells how long it is shown."""

    def __init__(self, shares: AreaShares, samples: Samples, interval_seconds: float) -> None:
        self.last: tuple[FrameMeasures, SaliencyMap] | None = None
        self.seconds = 0.0
        self._shares, self._samples, self._interval = shares, samples, interval_seconds

    def take(self, measures: FrameMeasures, saliency_map: SaliencyMap) -> None:
        if self.last is not None:
            self._give(measures.time_seconds - self.last[0].time_seconds)
        self.last = measures, saliency_map

    def finish(self) -> None:
        self._give(self._interval)

    def _give(self, shown_seconds: float) -> None:
        assert self.last is not None, "a frame has come"
        measures, saliency_map = self.last
        self.seconds += shown_seconds
        self._shares.add(measures.values[len(GENERAL) :], measures.time_seconds, shown_seconds)
        self._samples.add(measures, saliency_map, shown_seconds)
