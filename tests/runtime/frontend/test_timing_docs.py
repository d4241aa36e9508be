"""The numbers of docs/explanation/timing.md, computed."""

import dataclasses
import doctest
import itertools
import re
from pathlib import Path

import pytest

from dtfsal.engines.bundle.specs import AudioSpec, ClipSpec
from dtfsal.runtime.frontend.windows import iter_windows, slice_indices, tap_interval

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "timing.md"
CLIP = ClipSpec(frames=32, height=224, width=384, target="centre")
AUDIO = AudioSpec(slices=9, height=112, width=192)


@dataclasses.dataclass(frozen=True)
class Frame:
    index: int
    time_seconds: float


def table(first_column):
    """Rows of the page's table with that first column, as lists of texts."""
    lines = iter(PAGE.read_text(encoding="utf-8").splitlines())
    next(line for line in lines if line.startswith(f"| {first_column} |"))
    rows = itertools.takewhile(lambda line: line.startswith("|"), itertools.islice(lines, 1, None))
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def windows_at(fps, count, clip=CLIP):
    frames = (Frame(index, index / fps) for index in range(count))
    return list(iter_windows(frames, clip, source_interval_seconds=1 / fps))


def turns(indices):
    """'84 ... 115', or with the frame where the order turns between: '16 ... 0 ... 15'."""
    steps = [after - before for before, after in itertools.pairwise(indices)]
    assert set(steps) <= {-1, 1}
    inner = [indices[k] for k in range(1, len(steps)) if steps[k] != steps[k - 1]]
    return " ... ".join(map(str, [indices[0], *inner, indices[-1]]))


def test_the_worked_example():
    windows = windows_at(25, 250)
    rows = table("frame")
    assert len(rows) == 5
    for frame, *cells in rows:
        window = windows[int(frame)]
        grid = slice_indices(AUDIO, window.centre_seconds)
        begin = grid.start * AUDIO.slice_hop_seconds
        end = (grid.stop - 1) * AUDIO.slice_hop_seconds + AUDIO.slice_samples / 16000
        assert cells == [
            f"{window.time_seconds:.2f} s",
            turns([frame.index for frame in window.frames]),
            f"{window.centre_seconds:.2f} s",
            f"{grid.start} ... {grid.stop - 1}",
            f"{begin:.3f} ... {end:.3f} s",
        ]


def test_the_frame_rates():
    rows = table("source")
    assert len(rows) == 9
    for source, taps, interval, span in rows:
        fps = {"29.97": 30000 / 1001}.get(source.split()[0]) or float(source.split()[0])
        seconds = tap_interval(CLIP, 1 / fps)
        assert interval == f"{1000 * seconds:.1f} ms"
        assert span == f"{31 * seconds:.3f} s"
        # The taps of a window in the middle: runs of a repeated frame, and the step to the next one.
        indices = [frame.index for frame in windows_at(fps, round(4 * fps))[round(2 * fps)].frames]
        runs = [(index, len(list(run))) for index, run in itertools.groupby(indices)][1:-1]
        (step,) = {after[0] - before[0] for before, after in itertools.pairwise(runs)}
        (times,) = {length for _, length in runs}
        expected = {"every frame": (1, 1), "each frame 3 times": (1, 3)}.get(taps)
        assert (step, times) == (expected or (int(re.fullmatch(r"every (\d)\w\w frame", taps)[1]), 1))


@pytest.mark.parametrize("row", [0, 1])
def test_the_targets(row):
    name, _place, around, presets = table("target")[row]
    clip = dataclasses.replace(CLIP, target=name.strip("`"))
    words = {"none": 0}
    before, after = (words.get(n) if n in words else int(n) for n in re.findall(r"(\d+|none) (?:before|after)", around))
    assert (before, after) == (clip.target_index, clip.frames - 1 - clip.target_index)
    config = pytest.importorskip("dtfsal.training.model.config", reason="the presets need torch", exc_type=ImportError)
    assert all(config.PRESETS[p].clip.target == clip.target for p in re.findall(r"`([\w-]+)`", presets))


def test_the_presets_are_those_of_the_example():
    config = pytest.importorskip("dtfsal.training.model.config", reason="the presets need torch", exc_type=ImportError)
    assert config.PRESETS["dtfsal"].clip == CLIP
    assert config.PRESETS["dtfsal"].audio == AUDIO
    rates = {name: preset.clip.frame_rate_hz for name, preset in config.PRESETS.items()}
    assert rates.pop("lite") == 12.5
    assert set(rates.values()) == {30.0}
    lite = config.PRESETS["lite"].clip
    assert (lite.frames, tap_interval(lite, 1 / 25)) == (16, 2 / 25)
    assert lite.frames * tap_interval(lite, 1 / 25) == CLIP.frames * tap_interval(CLIP, 1 / 25)


def test_the_lengths_in_the_text():
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    slice_seconds = AUDIO.slice_samples / AUDIO.sample_rate_hz
    assert f"({slice_seconds:.3f} s, from {64 * 160 / 16000:.2f} s of hops" in text
    assert f"they span {8 * AUDIO.slice_hop_seconds + slice_seconds:.3f} s" in text
    centre = {j: j * AUDIO.slice_hop_seconds + slice_seconds / 2 for j in (29, 33, 37)}
    assert f"29 x 0.11 + {slice_seconds / 2:.4f} = {centre[29]:.4f} s, slice 37 at {centre[37]:.4f} s" in text
    assert f"the middle one, 33, at {centre[33]:.4f} s" in text
    shared = set(slice_indices(AUDIO, 3.98)) & set(slice_indices(AUDIO, 4.02))
    assert len(shared) == 8
    assert "share eight of nine slices" in text


def test_the_python_example_runs():
    results = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert results.attempted >= 8
    assert results.failed == 0
