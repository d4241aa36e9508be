"""The page in a real browser, opened from disk: Debian's Chromium, driven by Playwright.

apt-get install chromium && pip install playwright && make test-browser
"""

import json
import os
import shutil

import numpy as np
import pytest

from dtfsal.applications.areas.files import read_areas
from dtfsal.applications.report import packing
from dtfsal.applications.report.making import make_comparison, make_report
from dtfsal.runtime.predict.predictor import SaliencyPredictor

pytestmark = pytest.mark.browser
# It looks up nothing and sends nothing; a test's sandbox is the machine's.
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
AREA = {"name": "<b>right</b>", "shape": "box", "keys": [{"time_seconds": 0, "box": [0.5, 0, 1, 1]}]}


@pytest.fixture(scope="module")
def chromium():
    program = shutil.which("chromium")
    if not os.environ.get("DTFSAL_REQUIRE_BROWSER"):
        if program is None:
            pytest.skip("needs Debian's chromium")
        pytest.importorskip("playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def predictor(toy_visual_engine):
    with SaliencyPredictor(toy_visual_engine, device="cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def report(predictor, spot_clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "areas.json").write_text(
        json.dumps({"format": "dtfsal-areas", "version": 1, "coordinates": "fractions", "areas": [AREA]})
    )
    make_report(predictor, spot_clip, folder / "out", areas=folder / "areas.json")
    return folder / "out" / "index.html"


@pytest.fixture
def opened(chromium):
    """Open a page from disk; whatever it asks for beside itself, or complains of, is an error."""
    pages = []

    def make(path, width=1200, height=900):
        page = chromium.new_page(viewport={"width": width, "height": height}, accept_downloads=True)
        page.problems = []
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("dialog", lambda dialog: page.problems.append(f"dialog {dialog.message}"))
        own = (path.as_uri(), path.with_name("video.mp4").as_uri())
        page.on("request", lambda request: request.url.startswith(("blob:", *own)) or page.problems.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached", timeout=30000)
        pages.append(page)
        return page

    yield make
    for page in pages:
        assert page.problems == []
        page.close()


def values(page):
    """What each lane shows at the page's time, by the lane's name."""
    texts = "(lanes, part) => lanes.map(lane => lane.querySelector(part).textContent)"
    names, shown = (page.eval_on_selector_all(".lane", texts, part) for part in (".name", ".value"))
    return dict(zip(names, shown, strict=True))


def until(page, expression):
    """Wait for what is true some time; the page's policy lets no test evaluate it there again and again."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    pytest.fail(f"never true: {expression}")


def drag(page, selector, start, end):
    page.locator(selector).first.scroll_into_view_if_needed()
    box = page.locator(selector).first.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=4)
    page.mouse.up()


def test_scrub_to_a_frame_whose_map_is_known(report, opened):
    """On frame 20 the left half holds three quarters of the map, on frame 0 a half; the clip shows white there."""
    page = opened(report)
    until(page, "document.querySelector('video').readyState >= 2")
    assert values(page)["<b>right</b>"] == "50.0 %"
    page.focus("#ruler")
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    assert "frame 20 of 25" in page.text_content("#clock")
    assert page.get_attribute("#ruler", "aria-valuetext") == "0.80 seconds, frame 20"
    assert values(page)["<b>right</b>"] == "25.0 %"
    assert "<b>right</b> 25.0 %" in page.text_content("#spoken")
    until(page, "!document.querySelector('video').seeking")
    levels = page.evaluate(
        """() => {
            const canvas = document.createElement('canvas');
            const context = canvas.getContext('2d', {willReadFrequently: true});
            context.drawImage(document.querySelector('video'), 0, 0, 40, 24);
            return [5, 35].map(x => context.getImageData(x, 12, 1, 1).data[0]);
        }"""
    )
    assert levels[0] > 230
    assert levels[1] < 25
    page.keyboard.press("Home")
    assert "frame 0 of 25" in page.text_content("#clock")
    page.keyboard.press("End")
    assert "frame 24 of 25" in page.text_content("#clock")


def test_draw_a_box_read_its_share_and_export_it(report, opened, tmp_path):
    """The left quarter: a quarter of the first frame's map, and three eighths of the last one's."""
    page = opened(report)
    page.click("[data-tool=box]")
    drag(page, ".picture", (0.008, 0.008), (0.25, 0.995))
    assert float(values(page)["area 1"].removesuffix(" %")) == pytest.approx(25, abs=0.2)
    page.keyboard.press("End")
    assert float(values(page)["area 1"].removesuffix(" %")) == pytest.approx(37.5, abs=0.2)
    rows = page.locator("#table tr").all_text_contents()
    assert [row for row in rows if "≈ area 1" in row]
    # It moves: half a frame to the right at the end.
    page.click("#key")
    drag(page, ".picture", (0.1, 0.5), (0.6, 0.5))
    assert float(values(page)["area 1"].removesuffix(" %")) == pytest.approx(12.5, abs=0.3)
    page.fill("#rename", "</script>it")
    page.press("#rename", "Enter")
    page.keyboard.press("Tab")
    with page.expect_download() as download:
        page.click("#export")
    download.value.save_as(tmp_path / "areas.json")
    right, drawn = read_areas(tmp_path / "areas.json", width=1, height=1)
    assert (right.name, drawn.name, len(drawn.keys)) == ("<b>right</b>", "</script>it", 2)
    np.testing.assert_allclose(drawn.at(0).points, [(0, 0), (0.25, 1)], atol=0.01)
    np.testing.assert_allclose(drawn.at(0.96).points, [(0.5, 0), (0.75, 1)], atol=0.01)
    page.click("#delete")
    assert "</script>it" not in values(page)


def test_an_ellipse_a_polygon_and_a_box_by_keyboard(report, opened):
    page = opened(report, 420, 900)
    page.click("[data-tool=ellipse]")
    drag(page, ".picture", (0.25, 0.25), (0.75, 0.75))
    assert float(values(page)["area 1"].removesuffix(" %")) == pytest.approx(25 * np.pi / 4, abs=0.3)
    page.click("[data-tool=polygon]")
    page.locator(".picture").scroll_into_view_if_needed()
    box = page.locator(".picture").bounding_box()
    for x, y in ((0.01, 0.01), (0.99, 0.01), (0.01, 0.99)):
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Enter")
    assert float(values(page)["area 2"].removesuffix(" %")) == pytest.approx(50, abs=0.3)
    page.focus("#by-numbers summary")
    page.keyboard.press("Enter")
    page.fill("[name=name]", "typed")
    for side, number in (("left", 0), ("top", 0), ("right", 100), ("bottom", 10)):
        page.fill(f"[name={side}]", str(number))
    page.press("[name=bottom]", "Enter")
    assert values(page)["typed"] == "10.0 %"


def test_a_narrow_screen_and_names_for_a_screen_reader(report, opened):
    page = opened(report, 360, 740)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    unnamed = page.eval_on_selector_all(
        "button, input, select, [role=slider], video, canvas[role=img]",
        """found => found.filter(element => !(element.textContent.trim() || element.getAttribute('aria-label')
            || (element.labels && element.labels.length))).map(element => element.outerHTML)""",
    )
    assert unnamed == []
    assert page.title().startswith("Attention in <img src=x")
    assert page.locator("img").count() == 0


def test_a_clip_beside_the_page_plays(predictor, write_frames, tmp_path, opened, monkeypatch):
    monkeypatch.setattr(packing, "MOST_EMBEDDED_BYTES", 100)
    clip = write_frames(tmp_path / "a.mkv", np.full((40, 48, 80, 3), 90, np.uint8))
    make_report(predictor, clip, tmp_path / "out")
    page = opened(tmp_path / "out" / "index.html")
    page.click("#play")
    until(page, "document.querySelector('#clock').textContent.startsWith('0:01.60')")
    assert page.text_content("#play") == "Play"
    assert page.evaluate("document.querySelector('video').currentTime") > 1.4


def test_two_edits_side_by_side(predictor, write_frames, tmp_path, opened, report):
    """B is A with its sides changed: what the right half gains there, from frame 10 on, is a half."""
    frames = np.zeros((25, 24, 40, 3), np.uint8)
    frames[10:, :, :20] = 255
    clips = [write_frames(tmp_path / name, side) for name, side in (("a.mkv", frames), ("b.mkv", frames[:, :, ::-1]))]
    areas = report.parent.parent / "areas.json"
    make_comparison(predictor, tuple(clips), tmp_path / "out", areas=(areas, areas))
    page = opened(tmp_path / "out" / "index.html")
    assert values(page)["B − A"] == "0.0 %"
    page.keyboard.press("End")
    found = values(page)
    assert (found["<b>right</b>"], found["B − A"]) == ("25.0 %75.0 %", "+50.0 %")
    assert page.locator("video").count() == 2
    until(page, "[...document.querySelectorAll('video')].every(video => Math.abs(video.currentTime - 0.96) < 0.01)")
