import numpy as np
import pytest
from PIL import Image

from dtfsal.engines.errors import UsageError
from dtfsal.runtime.media.errors import MediaError
from dtfsal.runtime.predict.prediction import SaliencyFrame
from dtfsal.runtime.sinks.contact_sheet import ContactSheet


def filled(count, columns, size=(36, 64)):
    """A sheet of frames whose grey level is their number, with the times they are at."""
    sheet = ContactSheet(columns)
    for index in range(count):
        frame = SaliencyFrame(index, index / 10, np.full((4, 6), 0.5, np.float32))
        sheet.add(frame, np.full((*size, 3), index % 256, np.uint8))
    return sheet


@pytest.mark.parametrize(("count", "columns"), [(1, 6), (5, 6), (6, 6), (13, 6), (100, 4), (1000, 6)])
def test_frames_are_spread_over_the_video(count, columns):
    sheet = filled(count, columns)
    assert len(sheet._cells) <= 8 * columns
    picture = sheet.draw()
    shown = min(count, columns)
    cell = 320
    assert picture.shape[1] == 76 + 8 + shown * (cell + 8)
    # The first row's cells are flat grey: their levels tell which frames were taken.
    levels = [int(picture[100, 76 + 8 + column * (cell + 8) + 10, 0]) for column in range(shown)]
    if count <= 256:
        assert levels == sorted(levels)
        assert len(set(levels)) == shown
        # The middles of equal parts, up to half a kept step (1/4 of a part) on either side.
        wanted = (np.arange(shown) + 0.5) * count / shown
        assert np.abs(np.array(levels) - wanted).max() <= 0.3 * count / shown + 1


def test_a_portrait_video_keeps_its_shape():
    picture = filled(3, 3, size=(1600, 90)).draw()
    assert picture.shape[0] == 3 * (480 + 8) + 8 + 26


def test_a_saved_sheet_is_a_png(tmp_path):
    filled(8, 4).save(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.format == "PNG"
        assert image.mode == "RGB"


def test_an_empty_sheet_and_impossible_columns_are_refused():
    with pytest.raises(MediaError, match="no frame"):
        ContactSheet().draw()
    for columns in (0, 101, 2.5):
        with pytest.raises(UsageError, match="columns"):
            ContactSheet(columns)


@pytest.mark.parametrize(("aspect", "cell"), [((4, 3), (320, 135)), ((3, 4), (320, 240)), ((1, 8), (107, 480))])
def test_pixels_that_are_not_square_are_shown_as_players_show_them(aspect, cell):
    sheet = ContactSheet(1, pixel_aspect=aspect)
    sheet.add(SaliencyFrame(0, 0.0, np.ones((4, 6), np.float32)), np.zeros((36, 64, 3), np.uint8))
    width, height = cell
    assert sheet.draw().shape[:2] == (3 * (height + 8) + 8 + 26, 76 + width + 16)
