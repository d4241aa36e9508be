"""Areas over time, and their sums."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfsal.applications.areas.model import Area, Key, check_areas, check_times
from dtfsal.applications.areas.shares import AreaShares
from dtfsal.engines.errors import UsageError

STILL = ((0.0, 0.0), (0.5, 1.0))


def moving(*keys, **options):
    return Area("it", "box", tuple(Key(*key) for key in keys), **options)


@given(st.lists(st.floats(0, 60), min_size=2, max_size=6, unique_by=lambda t: round(t, 3)), st.data())
def test_a_moving_box_follows_its_keys(times, data):
    """At each key it is the key's box, and at any share of the way it is that far from one to the next."""
    times = sorted(times)
    numbers = st.floats(-0.5, 0.5)
    corners = [(data.draw(numbers), data.draw(numbers)) for _ in times]
    boxes = [((x, y), (x + 0.3, y + 0.4)) for x, y in corners]
    area = moving(*zip(times, boxes, strict=True))
    for time, box in zip(times, boxes, strict=True):
        np.testing.assert_allclose(area.at(time).points, box)
    share = data.draw(st.floats(0, 1))
    for i in range(len(times) - 1):
        between = (1 - share) * np.array(boxes[i]) + share * np.array(boxes[i + 1])
        time = times[i] + share * (times[i + 1] - times[i])
        # A time's last digit may be a good part of the way between two close keys.
        slack = 1e-12 / (times[i + 1] - times[i])
        np.testing.assert_allclose(area.at(time).points, between, atol=1e-9 + slack)


def test_before_and_after_its_keys_an_area_is_hidden_unless_it_holds():
    far = ((0.5, 0.0), (1.0, 1.0))
    hidden, held = moving((1, STILL), (2, far)), moving((1, STILL), (2, far), outside="hold")
    assert [hidden.at(time) is None for time in (0.99, 1, 2, 2.01)] == [True, False, False, True]
    assert (held.at(0).points, held.at(3).points) == (STILL, far)
    assert moving((1, STILL)).at(-5).points == STILL


def test_a_key_can_hide_an_area_until_the_next():
    area = moving((0, STILL), (1, STILL, False), (2, STILL), (3, STILL, False), outside="hold")
    assert [area.at(time) is not None for time in (0, 0.9, 1, 1.9, 2, 2.9, 3, 9)] == [
        True, True, False, False, True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": " "}, "printable"),
        ({"name": "a\x1b[2J"}, "printable"),
        ({"shape": "star"}, "must be one of"),
        ({"keys": ()}, "0 keys"),
        ({"keys": (Key(1, STILL), Key(1, STILL))}, "must increase"),
        ({"keys": (Key(0, ((0.5, 0), (0.5, 1))),)}, "has no size"),
        ({"shape": "polygon"}, "has 2 points"),
        (
            {"shape": "polygon", "keys": (Key(0, (*STILL, (0, 1))), Key(1, (*STILL, (0, 1), (0, 0.5))))},
            "4 points and 3",
        ),
    ],
)
def test_an_area_that_cannot_work_is_refused(change, said):
    with pytest.raises(UsageError, match=said):
        Area(**{"name": "it", "shape": "box", "keys": (Key(0, STILL),)} | change)


def test_areas_of_a_file_go_together():
    outside = Area("far", "box", (Key(0, ((2, 2), (3, 3))),))
    with pytest.raises(UsageError, match="two areas called 'it'"):
        check_areas([moving((0, STILL)), moving((1, STILL))], "a.json")
    with pytest.raises(UsageError, match="'far' lies outside the frame"):
        check_areas([outside], "a.json")
    with pytest.raises(UsageError, match="has 0 areas"):
        check_areas([], "a.json")


def test_an_area_after_the_end_is_refused():
    late = moving((10, STILL), (12, STILL))
    check_times([late], None)
    check_times([moving((10, STILL))], 5.0)
    with pytest.raises(UsageError, match=r"from 10.00 to 12.00 s, and the video begins at 0 and ends at 5.00 s"):
        check_times([late], 5.0)


def test_sums_weigh_frames_by_how_long_they_are_shown():
    """Two areas side by side on a map whose left half holds a quarter, then three quarters of its attention."""
    left = Area("left", "box", (Key(0, STILL),))
    right = Area("right", "box", (Key(0.5, ((0.5, 0), (1, 1))), Key(9, ((0.5, 0), (1, 1)))))
    shares = AreaShares([left, right], level=0.5)
    for quarter, time, shown in ((1, 0.0, 1.0), (3, 1.0, 3.0)):
        measured = shares.measure(np.array([[quarter, 4 - quarter]], np.float32), time)
        shares.add(measured, time, shown)
    first, second = shares.summaries()
    assert (first.share, first.peak_share, first.peak_seconds) == pytest.approx((0.25 * 0.25 + 0.75 * 0.75, 0.75, 1))
    assert (first.first_above_seconds, first.visible_seconds, first.rank) == (1.0, 4.0, 1)
    assert second.share == pytest.approx(0.75 * 0.25)  # hidden in the first frame
    assert second.share_while_visible == pytest.approx(0.25)
    assert (first.share_of_picture, second.share_of_picture) == pytest.approx((0.5, 0.5))
    assert (second.first_above_seconds, second.visible_seconds, second.rank) == (None, 3.0, 2)
