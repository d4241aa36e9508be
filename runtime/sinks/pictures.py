"""Pictures of every frame: a video with the source's sound, a folder of PNG files, and the contact sheet."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from dtfsal.engines.bundle.places import require_outside_engines
from dtfsal.engines.errors import OutputError
from dtfsal.engines.partial import partial_folder, replace_folder
from dtfsal.runtime.frontend.preprocess import Rgb
from dtfsal.runtime.media.writer import VideoWriter, atomic_output, output_error
from dtfsal.runtime.predict.prediction import SaliencyFrame
from dtfsal.runtime.sinks.base import SinkContext, Write
from dtfsal.runtime.sinks.contact_sheet import ContactSheet
from dtfsal.runtime.sinks.render import grey_picture, overlay, picture_levels

PNG_NAME = re.compile(r"[0-9]{6,}\.png")
# Zlib's fastest level: PNG files of video frames grow by a tenth and take a fifth of the time.
_PNG_LEVEL = 1


@contextlib.contextmanager
def video_sink(path: Path, context: SinkContext) -> Iterator[Write]:
    """A video in the source's size, with its times and its sound: overlays, or grey maps (view "saliency")."""
    source = context.source
    video = VideoWriter(path, width=source.width, height=source.height, source=source, sound_from=Path(source.path))
    with video as writer:

        def write(frame: SaliencyFrame, rgb: Rgb | None) -> None:
            with context.clock.stage("render"):
                picture = _picture(frame, rgb, context)
            with context.clock.stage("encode"):
                writer.write(picture, frame.time_seconds)

        yield write
    context.notes.extend(video.notes)


@contextlib.contextmanager
def png_sink(path: Path, context: SinkContext) -> Iterator[Write]:
    """A folder of `000000.png` and so on in the source's size, numbered by its frames: 8-bit grey maps, or overlays."""
    from PIL import Image

    with atomic_folder(path, PNG_NAME.fullmatch, "a PNG frame") as folder:

        def write(frame: SaliencyFrame, rgb: Rgb | None) -> None:
            with context.clock.stage("render"):
                if context.view == "overlay":
                    picture = _picture(frame, rgb, context)
                else:
                    picture = picture_levels(
                        frame.saliency_map,
                        context.source.height,
                        context.source.width,
                        context.picture_normalisation,
                    )
            with context.clock.stage("encode"):
                Image.fromarray(picture).save(folder / f"{frame.index:06d}.png", compress_level=_PNG_LEVEL)

        yield write


def contact_sheet_sink(path: Path, context: SinkContext, columns: int = 6) -> contextlib.AbstractContextManager[Write]:
    """A PNG of a few frames; see `ContactSheet`."""
    sheet = ContactSheet(columns, context.picture_normalisation, pixel_aspect=context.source.pixel_aspect)

    @contextlib.contextmanager
    def opened() -> Iterator[Write]:
        with atomic_output(path) as partial:

            def write(frame: SaliencyFrame, rgb: Rgb | None) -> None:
                assert rgb is not None, "a contact sheet shows the source's frames"
                with context.clock.stage("render"):
                    sheet.add(frame, rgb)

            yield write
            with context.clock.stage("render"):
                sheet.save(partial)

    return opened()


@contextlib.contextmanager
def atomic_folder(path: Path, holds: Callable[[str], object], what: str) -> Iterator[Path]:
    """A new folder that appears under its final name, whole, when the block ends well; else nothing does.

    An existing folder of the same kind is replaced.

    Args:
        path: of the folder.
        holds: whether a file of this name is one of this kind of folder's.
        what: one of these files, for a message.

    Raises:
        OutputError: it cannot be written, the folder exists and holds something else, or another run writes it.
        UsageError: it lies in an engine's folder.
    """
    final = Path(os.path.abspath(path))  # noqa: PTH100 - a link to a folder is not followed
    try:
        check_folder(final, holds, what)
        final.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(final) as partial:
            yield partial
            check_folder(final, holds, what)
            replace_folder(partial, final)
    except OSError as error:
        raise output_error(path, error) from error


def check_png_folder(path: Path) -> None:
    """Check that a folder of PNG frames may be put there; see `check_folder`."""
    check_folder(path, PNG_NAME.fullmatch, "a PNG frame")


def check_folder(path: Path, holds: Callable[[str], object], what: str) -> None:
    """Check that a folder of results may be put there, in place of an older one; see `atomic_folder`.

    Raises:
        OutputError: something else is there.
        UsageError: it lies in an engine's folder.
    """
    require_outside_engines(path)
    if not os.path.lexists(path):
        return
    if not path.is_dir() or path.is_symlink():
        raise OutputError(f"{path} is not a folder; name another one for the results")
    foreign = sorted(entry.name for entry in path.iterdir() if not holds(entry.name))
    if foreign:
        raise OutputError(f"{path} holds {foreign[0]!r}, which is not {what}; name another folder")


def _picture(frame: SaliencyFrame, rgb: Rgb | None, context: SinkContext) -> Rgb:
    if context.view == "saliency":
        return grey_picture(
            frame.saliency_map, context.source.height, context.source.width, context.picture_normalisation
        )
    assert rgb is not None, "an overlay needs the source's frame"
    return overlay(rgb, frame.saliency_map, normalisation=context.picture_normalisation)
