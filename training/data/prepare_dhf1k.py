"""DHF1K as it is downloaded to folders of frames: `video/001.AVI` becomes `video/0001/0001.png` and so on.

What is wrong is found before anything is decoded: counting frames takes minutes, and decoding them takes hours.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from dtfsal.engines.partial import held, partial_folder
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.media.video import VideoReader
from dtfsal.runtime.media.writer import output_error
from dtfsal.training.data.faults import problems_text
from dtfsal.training.data.frame_folders import encoded_videos
from dtfsal.training.data.layouts import numbered_files
from dtfsal.training.data.stills import DataError
from dtfsal.training.data.video_frames import count_frames

ANNOTATED = range(1, 701)  # the maps of the others are not public
JPEG_QUALITY = 95


@dataclasses.dataclass(frozen=True)
class EncodedVideo:
    """A downloaded video.

    Attributes:
        number: its number in DHF1K.
        path: the file.
        maps: how many maps there are of its frames; 0 where there are none.
    """

    number: int
    path: Path
    maps: int

    @property
    def name(self) -> str:
        """The name of its folders."""
        return f"{self.number:04d}"


def downloaded_videos(root: Path) -> list[EncodedVideo]:
    """The videos of a download, by number.

    Raises:
        DataError: there are none, or a name is not a number.
    """
    files = encoded_videos(root / "video")
    if not files:
        raise DataError(f"{root / 'video'} holds no AVI file, such as 001.AVI; give DHF1K's folder as it is downloaded")
    found: dict[int, EncodedVideo] = {}
    for path in files:
        if not path.stem.isdecimal():
            raise DataError(f"{path} is not named by a number, as DHF1K's videos are; move it away")
        number = int(path.stem)
        if number in found:
            raise DataError(f"{found[number].path} and {path.name} are both video {number}; move one away")
        maps = numbered_files(root, "annotation/{video}/maps/{frame}", f"{number:04d}")
        found[number] = EncodedVideo(number, path, len(maps))
    return [found[number] for number in sorted(found)]


def count_problems(root: Path, video: EncodedVideo) -> list[str]:
    """What does not fit between a video and its annotation, a sentence each; nothing of it is kept in memory."""
    problems = []
    folder = root / "annotation" / video.name
    if video.maps:
        try:
            frames = count_frames(video.path, video.maps)
        except MediaError as error:
            return [str(error)]
        if frames != video.maps:
            problems.append(f"{video.path} decodes to {frames} frames, and {folder / 'maps'} holds {video.maps} maps")
        if not numbered_files(root, "annotation/{video}/fixation/{frame}", video.name):
            problems.append(f"{folder} has maps and no fixation maps")
    elif video.number in ANNOTATED:
        problems.append(f"{folder / 'maps'} holds no map of {video.path.name}")
    return problems


def prepare_dhf1k(
    root: Path,
    *,
    jpeg: bool = False,
    allow_counts: bool = False,
    progress: Callable[[str], None] = lambda _what: None,
) -> tuple[int, int]:
    """Decode every video beside itself. Videos that were decoded already are passed over.

    Args:
        root: DHF1K's folder, with `video/` and `annotation/`.
        jpeg: write JPEG files of high quality in place of PNG: a third of the space.
        allow_counts: decode also where something does not fit; a map belongs to the frame of its number.
        progress: called after each video that was counted and decoded, with "videos counted" or "videos decoded".

    Returns:
        How many videos were decoded now, and their frames.

    Raises:
        DataError: there are no videos, or what is there does not fit together; nothing has been decoded then.
        OutputError: the place is not writable or full, or another run decodes there.
    """
    videos = downloaded_videos(root)
    problems: list[str] = []
    for video in videos:
        problems += count_problems(root, video)
        progress("videos counted")
    if problems and not allow_counts:
        raise DataError(f"{problems_text(problems)}; restore them, or decode as they are with --allow-counts")
    done = frames = 0
    try:
        with held(root / "video"):
            for video in videos:
                target = root / "video" / video.name
                if not target.is_dir():
                    expected = None if allow_counts or not video.maps else video.maps
                    frames += _decode(video.path, target, ".jpg" if jpeg else ".png", expected)
                    done += 1
                progress("videos decoded")
    except OSError as error:
        raise output_error(root / "video", error) from error
    return done, frames


def _decode(path: Path, target: Path, suffix: str, expected: int | None) -> int:
    """Write a video's frames to a folder that is there whole or not at all; how many there were.

    Packets may promise as many frames as are expected, and some not decode.
    """
    options = {"quality": JPEG_QUALITY, "subsampling": 0} if suffix == ".jpg" else {"compress_level": 1}
    count = 0
    try:
        with partial_folder(target) as partial, VideoReader(path) as reader:
            for frame in reader:
                count += 1
                Image.fromarray(frame.rgb).save(partial / f"{count:04d}{suffix}", **options)
            if expected is not None and count != expected:
                raise DataError(
                    f"{path} decodes to {count} frames, and there are {expected} maps; restore it, or decode as it is "
                    "with --allow-counts"
                )
            partial.rename(target)
    except MediaError as error:
        raise DataError(f"{path} cannot be decoded ({error}); restore it") from error
    except OSError as error:
        raise output_error(target, error) from error
    return count
