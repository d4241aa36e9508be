"""Files of areas: those that can be read, and those that cannot, which are told of in one sentence."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfsal.applications.areas.files import areas_document, read_areas
from dtfsal.applications.areas.model import Area, Key
from dtfsal.engines.errors import UsageError

OWN = {
    "format": "dtfsal-areas",
    "version": 1,
    "coordinates": "pixels",
    "width": 200,
    "height": 100,
    "areas": [
        {
            "name": "<b>logo</b>",
            "shape": "box",
            "keys": [
                {"time_seconds": 0, "box": [20, 10, 40, 30]},
                {"time_seconds": 2, "box": [120, 10, 140, 30], "visible": False},
            ],
        },
        {"name": "roof", "shape": "polygon", "keys": [{"time_seconds": 0, "points": [[0, 0], [200, 0], [100, 50]]}]},
        {"name": "face", "shape": "ellipse", "keys": [{"time_seconds": 1, "box": [0, 0, 20, 10]}], "outside": "hidden"},
    ],
}
TOBII = {
    "Tags": [],
    "Media": {"MediaType": 1, "Height": 100, "Width": 200, "MediaCount": 1, "DurationMicroseconds": 9000000},
    "Version": 2,
    "Aois": [
        {
            "Name": "Ball",
            "Red": 1,
            "Green": 2,
            "Blue": 3,
            "Tags": [],
            "KeyFrames": [
                {"IsActive": False, "Seconds": 0, "Vertices": []},
                {
                    "IsActive": True,
                    "Seconds": 1,
                    "Vertices": [{"X": 0, "Y": 0}, {"X": 100, "Y": 0}, {"X": 0, "Y": 50}],
                },
                {
                    "IsActive": True,
                    "Seconds": 3,
                    "Vertices": [{"X": 20, "Y": 0}, {"X": 120, "Y": 0}, {"X": 20, "Y": 50}],
                },
                {"IsActive": False, "Seconds": 5, "Vertices": []},
            ],
        }
    ],
}
SMI = """<?xml version="1.0"?>
<ArrayOfDynamicAOI xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <DynamicAOI>
    <ID>1</ID><Type>Rectangle</Type><Name>Car</Name><Angle>0</Angle>
    <KeyFrames>
      <KeyFrame><Points><Point><X>20</X><Y>10</Y></Point><Point><X>60</X><Y>50</Y></Point></Points>
        <Angle>0</Angle><Visible>true</Visible><Timestamp>500000</Timestamp></KeyFrame>
      <KeyFrame><Points><Point><X>40</X><Y>10</Y></Point><Point><X>80</X><Y>50</Y></Point></Points>
        <Angle>0</Angle><Visible>false</Visible><Timestamp>1500000</Timestamp></KeyFrame>
    </KeyFrames>
  </DynamicAOI>
</ArrayOfDynamicAOI>
"""


def near(points):
    return pytest.approx(np.array(points))


@pytest.fixture
def read(tmp_path):
    def made(content, name="areas.json"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_areas(path, width=200, height=100)

    return made


def test_our_own(read):
    logo, roof, face = read(json.dumps(OWN))
    assert logo.at(1).points == near([(0.35, 0.1), (0.45, 0.3)])
    assert logo.at(2) is None
    assert roof.at(99).points == ((0, 0), (1, 0), (0.5, 0.5))
    assert (face.at(1).shape, face.at(1.1)) == ("ellipse", None)


def test_pixels_are_the_videos_where_the_file_names_no_size(read):
    document = {key: value for key, value in OWN.items() if key not in ("width", "height")}
    assert read(json.dumps(document))[0].at(0).points == near([(0.1, 0.1), (0.2, 0.3)])


def test_what_is_written_is_read_back(read):
    areas = read(json.dumps(OWN))
    assert read(json.dumps(areas_document(areas))) == areas


numbers = st.floats(-2, 3)


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20), st.data())
def test_any_area_is_read_back(tmp_path_factory, name, data):
    count = data.draw(st.integers(3, 6))
    points = [(0.5, 0.5), *(data.draw(st.tuples(numbers, numbers)) for _ in range(count - 1))]
    times = sorted(data.draw(st.sets(st.integers(0, 50), min_size=1, max_size=4)))
    area = Area(name, "polygon", tuple(Key(t / 8, ((t / 64 + 0.1, 0.5), *points[1:])) for t in times))
    path = tmp_path_factory.mktemp("areas") / "a.json"
    path.write_text(json.dumps(areas_document([area])))
    assert read_areas(path, width=7, height=5) == (area,)


def test_a_still_interest_area_set(read):
    """The examples of the manual's protocol, and a comment."""
    text = (
        "# EyeLink Interest Area Set\n"
        "ELLIPSE 1 0 0 100 100 head\n"
        "RECTANGLE\t2\t85 85 185 95 the body\n"
        "FREEHAND 3 20,10 120,10 20,60 tail\n"
    )
    head, body, tail = read(text, "set.ias")
    assert (head.shape, head.at(5).points) == ("ellipse", ((0, 0), (0.5, 1)))
    assert (body.name, body.at(0).points) == ("the body", ((0.425, 0.85), (0.925, 0.95)))
    assert tail.at(0).points == near([(0.1, 0.1), (0.6, 0.1), (0.1, 0.6)])


def test_a_dynamic_interest_area_set(read):
    """Still while a line lasts, its last millisecond included, then where the next line has it; then gone."""
    text = (
        "-0 -499 RECTANGLE 7 0 0 20 10 ball\n-500 -999 RECTANGLE 7 100 0 120 10 ball\n-2000 -2100 RECTANGLE 7 0 0 20 10"
    )
    (ball,) = read(text, "set.ias")
    lefts = [
        None if (there := ball.at(time)) is None else there.points[0][0] for time in (0, 0.4995, 0.5, 0.99, 1.5, 2)
    ]
    assert lefts == [0, 0, 0.5, 0.5, None, 0]
    assert ball.at(2.2) is None


def test_an_export_of_tobii_pro_lab(read):
    (ball,) = read(json.dumps(TOBII))
    assert [ball.at(time) is not None for time in (0.5, 1, 4.9, 5, 9)] == [False, True, True, False, False]
    assert ball.at(2).points == near([(0.05, 0), (0.55, 0), (0.05, 0.5)])
    assert ball.at(4).points == near([(0.1, 0), (0.6, 0), (0.1, 0.5)])


def test_an_export_of_smi_begaze(read):
    (car,) = read(SMI, "car.xml")
    assert (car.name, car.shape) == ("Car", "box")
    assert car.at(1.4).points == near([(0.19, 0.1), (0.39, 0.5)])
    assert car.at(1.5) is None


def edited(path, value):
    """Our own document with one place changed, or removed for ..."""
    document = json.loads(json.dumps(OWN))
    *ways, last = path
    place = document
    for way in ways:
        place = place[way]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "not text in UTF-8"),
        ("", "has 0 areas"),
        ("hello", "line 1 is not a line of an interest area set"),
        ("RECTANGLE 1 0 0 ten 10 a", "line 1 is not"),
        ("-5 -1 RECTANGLE 1 0 0 9 9 a", "line 1 is not"),
        ("RECTANGLE 1 0 0 9 9 a\nELLIPSE 1 0 0 9 9 a", "line 2 gives the area 'a' another shape"),
        ("{", "is not valid JSON"),
        ("[]", "must be an object"),
        ("[" * 10**5, "areas.json"),
        ('{"areas": 1, "areas": 2}', "occurs twice"),
        (edited(["version"], 2), '"version": 1'),
        (edited(["coordinates"], "inches"), "coordinates must be"),
        (edited(["width"], ...), "lacks the key 'width'"),
        (edited(["width"], 0), "at least 1"),
        (edited(["extra"], 0), "unknown key 'extra'"),
        (edited(["areas"], []), "has 0 areas"),
        (edited(["areas", 0, "shape"], "star"), r"areas\[0\].shape must be"),
        (edited(["areas", 0, "keys", 0, "box"], [1, 2, 3]), r"areas\[0\].keys\[0\].box must have 4 numbers, not 3"),
        (edited(["areas", 0, "keys", 0, "box", 0], "1"), r"box\[0\] must be a number"),
        (edited(["areas", 0, "keys", 0, "box", 0], 10**400), r"box\[0\] must be a finite number"),
        (edited(["areas", 0, "keys", 0, "box", 0], -1e300), "frames away"),
        (edited(["areas", 0, "keys", 0, "time_seconds"], 1e300), "time must be seconds"),
        (edited(["areas", 1, "name"], "face"), "two areas called 'face'"),
        (edited(["areas", 1, "name"], "a\nb"), "printable"),
        (edited(["areas", 2, "keys", 0, "box"], [300, 0, 400, 9]), "'face' lies outside the frame"),
        (json.dumps(TOBII | {"Media": {}}), "Width and Height"),
        (json.dumps(TOBII | {"Aois": [{"Name": "x"}]}), r"Aois\[0\] lacks its Name or its KeyFrames"),
        ("<html></html>", "ArrayOfDynamicAOI"),
        ("<a>", "is not valid XML"),
        (SMI.replace("<Angle>0", "<Angle>12"), "'Car' is turned"),
        (SMI.replace("500000", "soon"), "Timestamp 'soon"),
        ('<!DOCTYPE a [<!ENTITY b "cc">]><ArrayOfDynamicAOI/>', "declares a document type"),
        ("<ArrayOfDynamicAOI/>", "has 0 areas"),
    ],
)
def test_a_file_that_cannot_work_is_refused(read, content, said):
    with pytest.raises(UsageError, match=said) as caught:
        read(content)
    assert "areas.json" in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_areas(tmp_path / "none.json", width=1, height=1)
    with pytest.raises(UsageError, match="cannot be read"):
        read_areas(tmp_path, width=1, height=1)
