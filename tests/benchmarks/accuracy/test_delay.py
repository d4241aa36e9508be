"""Delays of predictors that are late by a known number of frames, curves in closed form, and the clips themselves."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dtfsal.benchmarks.accuracy.delay import FORMS, file_maps, form_maps, measure, stream_maps
from dtfsal.benchmarks.accuracy.delay_clips import KINDS, make_clip, span_of
from dtfsal.benchmarks.accuracy.delay_curve import half_crossing, share_curve, summarise
from dtfsal.benchmarks.accuracy.delay_report import draw, markdown
from dtfsal.engines import ClipSpec, UsageError, open_engine
from dtfsal.runtime.cli import main
from dtfsal.training.synthetic import Sources, photograph

SPAN = span_of(25.0, 0.5)
REGIONS = ("jump", "appear", "move")


def photographs(count=3):
    """Smooth pictures that differ from each other."""
    rng = np.random.default_rng(5)
    small = rng.integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(picture).resize((320, 240)), np.uint8) for picture in small]


@pytest.fixture(scope="module")
def sources():
    return Sources(tuple(photograph(f"{number}.png", rgb) for number, rgb in enumerate(photographs())))


@pytest.fixture(scope="module")
def clips(sources):
    return {kind: make_clip(kind, 1, sources, SPAN, seed=3) for kind in KINDS}


def following(clip, seen):
    """Maps (N, H, W) of one that is told what it should follow, and that sees as `seen` says.

    Args:
        clip: its event is known.
        seen: (N,) how much of the new each map shows.
    """
    rng = np.random.default_rng(0)
    old, new = rng.uniform(0.1, 0.2, (2, *clip.frames.shape[1:3]))
    new = new + (0 if clip.region is None else clip.region)
    old, new = old / old.sum(), new / new.sum()
    gain = rng.uniform(0.2, 3, len(seen))  # maps are compared as distributions
    return (gain[:, None, None] * (old + np.asarray(seen)[:, None, None] * (new - old))).astype(np.float32)


def new_at(clip, late=0):
    """(N,) 1 from so many frames after the event on."""
    return (np.arange(len(clip.frames)) >= clip.span.event + late).astype(float)


def delay_of(clip, seen):
    return summarise(clip.span.times_ms, [share_curve(following(clip, seen), clip)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("late", [-3, 0, 1, 3, 6])
def test_maps_that_are_late_by_whole_frames(clips, kind, late):
    found = delay_of(clips[kind], new_at(clips[kind], late))
    # Of 86016 pixels in float32, each rounded to 6e-8 of itself: shares are within 1e-4, times within 1e-2 ms.
    assert found.delay_ms == pytest.approx(40 * late, abs=0.01)
    assert found.quartiles_ms == pytest.approx((40 * late, 40 * late), abs=0.01)
    assert found.anticipation == pytest.approx(1 if late < 0 else 0, abs=1e-4)
    assert (found.items, found.left_out, found.beyond) == (1, 0, 0)
    assert found.curve == pytest.approx([float(t > 40 * late) for t in clips[kind].span.times_ms], abs=1e-4)


@pytest.mark.parametrize("kind", ["jump", "cut"])
@pytest.mark.parametrize(("before", "after"), [(0, 3), (3, 3), (7, 0), (8, 5)], ids=lambda taps: f"{taps} frames")
def test_maps_that_average_a_window(clips, kind, before, after):
    """A mean over frames t - before to t + after is late by half of their difference, exactly."""
    clip = clips[kind]
    padded = np.pad(new_at(clip), (before, after), mode="edge")
    seen = np.convolve(padded, np.full(before + after + 1, 1 / (before + after + 1)), mode="valid")
    found = delay_of(clip, seen)
    assert found.delay_ms == pytest.approx(40 * (before - after) / 2, abs=0.05)
    assert found.anticipation == pytest.approx(after / (before + after + 1), abs=1e-4)


@given(rate=st.sampled_from([10.0, 24.0, 25.0, 30.0, 50.0, 60.0]), late_ms=st.floats(-300, 300))
def test_delay_is_in_milliseconds_at_any_rate(rate, late_ms):
    """A ramp of 400 ms about the late event, sampled at the middle of each frame."""
    times = np.array(span_of(rate, 0.5).times_ms)
    found = summarise(times, [np.clip(0.5 + (times - late_ms) / 400, 0, 1)])
    assert found.delay_ms == pytest.approx(late_ms, abs=1e-6)


@given(left=st.floats(-1, 0.499), right=st.floats(0.5, 2), start=st.floats(-500, 500), step=st.floats(1, 50))
def test_half_crossing_of_a_line(left, right, start, step):
    found = half_crossing([start, start + step], [left, right])
    # On the line through the points, solved for one half.
    assert left + (right - left) * (found - start) / step == pytest.approx(0.5, abs=1e-6)
    assert start <= found <= start + step + 1e-9


def test_half_crossing_is_the_first_and_may_be_outside():
    assert half_crossing([0, 1, 2, 3], [0, 1, 0, 1]) == 0.5
    assert half_crossing([0, 1], [0.5, 0.9]) == -math.inf
    assert half_crossing([0, 1], [0.1, 0.49]) == math.inf


def test_several_clips():
    times = SPAN.times_ms
    curves = [np.array([float(t > 40 * late) for t in times]) for late in (0, 1, 2, 3, 4)]
    found = summarise(times, [*curves, None, None])
    assert (found.items, found.left_out, found.beyond) == (5, 2, 0)
    assert found.delay_ms == pytest.approx(80)  # the third of five
    assert found.quartiles_ms == pytest.approx((40, 120))


def test_what_never_follows_is_said():
    flat, gone = np.zeros(len(SPAN.times_ms)), np.ones(len(SPAN.times_ms))
    never = summarise(SPAN.times_ms, [flat])
    assert (never.delay_ms, never.quartiles_ms, never.beyond) == (None, (SPAN.times_ms[-1],) * 2, 1)
    always = summarise(SPAN.times_ms, [gone])
    assert (always.delay_ms, always.quartiles_ms, always.beyond) == (None, (SPAN.times_ms[0],) * 2, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_clips_without_contrast_are_left_out(clips, kind):
    clip = clips[kind]
    assert share_curve(np.ones((len(clip.frames), 24, 40), np.float32), clip) is None
    assert share_curve(np.zeros((len(clip.frames), 24, 40), np.float32), clip) is None
    found = summarise(SPAN.times_ms, [None, None])
    assert (found.items, found.left_out, found.delay_ms, found.curve) == (0, 2, None, ())


@pytest.mark.parametrize("kind", REGIONS)
def test_contrast_is_the_mass_that_goes_over(clips, kind):
    """Just above 2 % a clip counts, just below it doesn't, nor where mass goes away from the target."""
    clip = clips[kind]
    inside = clip.region / clip.region.sum()
    outside = (1 - clip.region) / (1 - clip.region).sum()
    for gone, counts in ((0.021, True), (0.019, False), (-0.1, False)):
        mass = 0.3 + gone * new_at(clip)
        maps = mass[:, None, None] * inside + (1 - mass)[:, None, None] * outside
        assert (share_curve(maps.astype(np.float32), clip) is not None) == counts


@pytest.mark.parametrize("kind", KINDS)
def test_the_event_is_where_it_is_said(clips, kind):
    clip = clips[kind]
    changes = [bool((one != other).any()) for one, other in itertools.pairwise(clip.frames)]
    assert changes.index(True) == SPAN.event - 1
    assert len(clip.frames) == SPAN.frames
    if kind != "move":
        assert sum(changes) == 1


@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("number", range(4))
def test_what_is_new_lies_in_the_region(sources, kind, number):
    clip = make_clip(kind, number, sources, SPAN, seed=9)
    old, new = clip.frames[SPAN.event - 1].astype(int), clip.frames[SPAN.event :].astype(int)
    differs = np.abs(new - old).max(axis=(0, 3)) > 0
    if kind == "jump":
        assert clip.region[:, : clip.region.shape[1] // 2].mean() < 0.02  # but for the degree around it
        differs[:, : differs.shape[1] // 2] = False  # where it has been
    assert differs.any()
    # Of the soft edge of a thing that moves, what lies outside its half-transparent outline is within a degree of it.
    assert clip.region[differs].min() == 1
    assert 0.01 < clip.region.mean() < 0.4


def test_what_moves_goes_on_and_stays_near(sources):
    clip = make_clip("move", 0, sources, SPAN, seed=1)
    after = clip.frames[SPAN.event - 1 :].astype(int)
    assert all((one != other).any() for one, other in itertools.pairwise(after))
    assert (clip.frames[: SPAN.event] == clip.frames[0]).all()


def test_clips_come_from_the_seed(sources):
    one, same, other = (make_clip("jump", 0, sources, SPAN, seed) for seed in (1, 1, 2))
    assert (one.frames == same.frames).all()
    assert (one.frames != other.frames).any()


@given(rate=st.floats(5, 240), reach=st.floats(0, 3))
def test_ends_of_a_clip_do_not_see_the_event(rate, reach):
    span = span_of(rate, reach)
    assert (span.event - span.steady) / rate >= reach - 1e-9
    assert span.around <= span.event
    assert len(span.times_ms) == 2 * span.around
    assert span.times_ms[span.around] == pytest.approx(500 / rate)  # the first frame that shows it
    assert max(span.times_ms) == pytest.approx(480, abs=1000 / rate)


@pytest.mark.parametrize("rate", [0.0, 4.9, 1000.0, math.nan, math.inf])
def test_rates_that_cannot_be(rate):
    with pytest.raises(UsageError, match="from 5 to 240 per second"):
        span_of(rate, 0.1)


def test_a_cut_needs_two_photographs():
    with pytest.raises(UsageError, match="two photographs or more, and there are 1"):
        make_clip("cut", 0, Sources((photograph("one", photographs(1)[0]),)), SPAN, 0)


def test_streams_have_the_maps_of_files(toy_engine):
    """And a causal one, of a mirrored window, has its first map at once; the toy hears silence in all of them."""
    frames = np.random.default_rng(0).integers(0, 256, (20, 24, 40, 3), dtype=np.uint8)
    with open_engine(toy_engine, device="cpu") as engine:
        whole = file_maps(engine, frames, 25.0)
        streamed, delay = stream_maps(engine, frames, 25.0, delay_seconds=None)
        causal, none = stream_maps(engine, frames, 25.0, delay_seconds=0.0)
        assert (whole == streamed).all()
        assert causal.shape == whole.shape
        assert none == 0 < delay
        assert form_maps(engine, "file", frames, 25.0)[1] is None


def test_delays_of_an_engine_in_closed_form(make_toy_engine, sources):
    """A map that is the mean grey of taps 0, 1, 2 and 3 about target 2, weighted 0.1, 0.2, 0.4 and 0.3.

    A step at the event is seen with 0.3 at the frame before it, 0.7 at the first, 0.9 and 1 later: one half is crossed
    midway between the first two, at the event. A causal window has for its last tap its target's mirror image, the
    frame before: 0 at the frame before, 0.4 at the first, then 0.9; so it crosses at 20 + 40 * 0.1 / 0.5 ms.
    """
    clip = ClipSpec(frames=4, height=112, width=192, frame_rate_hz=25.0)
    engine = make_toy_engine(clip, None)
    report = measure([engine], sources, kinds=["jump", "cut"], items=2, device="cpu")
    found = {(row["form"], row["kind"]): row for row in report["rows"]}
    assert len(found) == 6
    for kind in ("jump", "cut"):
        for form in ("file", "stream"):
            # Plus the resize to the model's 8-bit frames: a level of 255 in contrasts of 20 and more, a few ms.
            assert found[form, kind]["delay_ms"] == pytest.approx(0, abs=4)
            assert found[form, kind]["anticipation"] == pytest.approx(0.3, abs=0.03)
        assert found["causal stream", kind]["delay_ms"] == pytest.approx(28, abs=4)
        assert found["causal stream", kind]["anticipation"] == pytest.approx(0, abs=0.03)
        assert found["file", kind]["stream_delay_ms"] is None
        assert found["stream", kind]["stream_delay_ms"] == pytest.approx(40)
        assert found["stream", kind]["after_event_ms"] == pytest.approx(40 + found["stream", kind]["delay_ms"])
        assert found["causal stream", kind]["stream_delay_ms"] == 0


def made_report():
    told = dataclasses.asdict(summarise(SPAN.times_ms, [np.array([float(t > 120) for t in SPAN.times_ms])]))
    late = dataclasses.asdict(summarise(SPAN.times_ms, [np.zeros(len(SPAN.times_ms))]))
    empty = dataclasses.asdict(summarise(SPAN.times_ms, [None]))
    rows = [
        {"engine": engine, "form": form, "kind": kind, **row, "stream_delay_ms": None if form == "file" else 560.0}
        for engine in ("old.engine", "new.engine")
        for form in FORMS[:2]
        for kind, row in (("jump", told), ("move", late), ("cut", empty))
    ]
    host = {"system": "Linux", "python": "3.11", "packages": {}, "date": "2026-01-01", "commit": None}
    facts = {"frame_rate_hz": 25.0, "items": 1, "photographs": 3, "command": ["dtfsal", "benchmark", "delay"]}
    return {"times_ms": list(SPAN.times_ms), "rows": rows, "machine": host, **facts}


def test_the_table_has_engines_beside_each_other(monkeypatch):
    monkeypatch.setattr("dtfsal.benchmarks.accuracy.delay_report.software", lambda _host, _cores: "Linux")
    lines = markdown(made_report()).splitlines()
    assert lines[0] == "| delay of the map after | jump | move | cut | comes out after |"
    assert (
        lines[2] == "| old.engine, file | 120 ms (120 to 120), 0 % | over 460 ms (460 to 460), 0 % | says nothing |  |"
    )
    assert lines[5].startswith("| new.engine, stream | 120 ms")
    assert lines[5].endswith("| 560 ms |")
    assert "left out for want of contrast: 1 of cut by old.engine (file, stream), 1 of cut by new.engine" in lines[7]


def test_the_picture_has_a_line_for_each_kind():
    figure = draw(made_report())
    assert len(figure.axes) == 4
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert "jump" in labels
    assert "move" in labels
    assert "cut" not in labels  # it says nothing


@pytest.fixture
def stills(tmp_path):
    folder = tmp_path / "stills"
    (folder / "images").mkdir(parents=True)
    lines = ["image,observer,order,x,y,duration_ms"]
    for number, rgb in enumerate(photographs()):
        Image.fromarray(rgb).save(folder / "images" / f"{number}.png")
        lines += [f"{number}.png,0,{order},{60 + 90 * order},120,200" for order in range(3)]
    (folder / "fixations.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_command_measures(toy_engine, stills, tmp_path, capsys):
    output = tmp_path / "delay.json"
    command = ["benchmark", "delay", "--engine", str(toy_engine), "--stills", str(stills), "--split", "all"]
    assert main([*command, "--items", "1", "--device", "cpu", "--output", str(output), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert json.loads(output.read_text()) == report
    assert {(row["form"], row["kind"]) for row in report["rows"]} == {(form, kind) for form in FORMS for kind in KINDS}
    words = "dtfsal benchmark delay --engine engine --stills stills --split all --items 1 --device cpu"
    assert report["command"] == words.split()  # names, no folders
    assert "| engine, causal stream |" in output.with_suffix(".md").read_text()
    assert output.with_suffix(".png").stat().st_size > 1000
    assert output.with_suffix(".svg").is_file()


def test_events_and_forms_can_be_chosen(toy_engine, stills, capsys):
    command = ["benchmark", "delay", "-e", str(toy_engine), "--stills", str(stills), "--split", "all", "--items", "1"]
    assert main([*command, "--event", "cut", "--form", "file", "--fps", "12.5", "--device", "cpu"]) == 0
    table = capsys.readouterr().out
    assert table.startswith("| delay of the map after | cut | comes out after |")
    assert "--event cut --form file --items 1 --fps 12.5 --device cpu`" in table


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--event", "jmp"], "there is no event 'jmp'; choose one of jump, appear, move, cut"),
        (["--form", "live"], "there is no form 'live'; choose one of file, stream, causal stream"),
        (["--items", "0"], "there must be at least 1 clip of each kind, not 0"),
        (["--fps", "0"], "the frame rate must be from 5 to 240 per second, not 0"),
        (["--seed", "-1"], "must be a whole number from 0 to 4294967295"),
        (["--split", "all"], "--split is of photographs with fixations; add --stills DIR"),
        (["--output", "delay.txt"], "--output must end in .json"),
        (["--engine", "other/engine"], "two engines have the same name"),
    ],
)
def test_bad_input_is_said_in_one_line(toy_engine, words, message, capsys):
    assert main(["benchmark", "delay", "--engine", str(toy_engine), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_an_engine_that_is_not_there(tmp_path, stills, capsys):
    command = ["benchmark", "delay", "--engine", str(tmp_path / "no.engine"), "--stills", str(stills)]
    assert main([*command, "--split", "all"]) == 4
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
