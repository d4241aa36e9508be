import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dtfsal.training.synthetic import KINDS, Photograph, SceneConfig, Sources, generate_scene, photograph, rendering

SMALL = SceneConfig(height=72, width=120, seconds=1.92, observers=8, cut_share=0.0)
LONG = dataclasses.replace(SMALL, seconds=5.12)


def picture(seed: int, height: int = 150, width: int = 200) -> np.ndarray:
    """A smooth coloured texture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return np.repeat(np.repeat(coarse, height // 6, 0), width // 8, 1)


@pytest.fixture(scope="module")
def sources() -> Sources:
    fixations = np.random.default_rng(9).uniform((20, 20), (180, 130), (30, 2)).astype(np.float32)
    return Sources((Photograph("seen", picture(0), fixations), photograph("unseen", picture(1))))


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_types_and_lengths(sources, kind):
    scene = generate_scene(1, sources, SMALL, kind=kind)
    frames, things = SMALL.frames, scene.things.shape[1]
    assert (scene.kind, scene.seed, scene.frame_rate_hz) == (kind, 1, 12.5)
    assert (scene.frames.shape, scene.frames.dtype) == ((frames, 72, 120, 3), np.uint8)
    assert (scene.samples.shape, scene.samples.dtype) == ((round(1.92 * 16000),), np.float32)
    assert (scene.gaze.shape, scene.gaze.dtype) == ((frames, 8, 2), np.float32)
    assert scene.things.shape == (frames, things, 3)
    assert scene.activity.shape == (frames, things)
    assert scene.density(0).shape == (72, 120)
    assert (scene.sounding >= 0).all() == (kind in ("sound_decides", "speakers"))
    assert np.array_equal(scene.fixations(2), scene.gaze[2])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**62), cut=st.booleans())
def test_any_seed_gives_finite_values_in_range(sources, seed, cut):
    scene = generate_scene(seed, sources, dataclasses.replace(SMALL, cut_share=float(cut)))
    assert len(scene.tracks) == 1 + cut
    assert np.isfinite(scene.samples).all()
    assert np.abs(scene.samples).max() <= 1
    assert np.isfinite(scene.gaze).all()
    assert ((scene.sounding >= -1) & (scene.sounding < max(1, scene.things.shape[1]))).all()
    known = np.isfinite(scene.things)
    assert (known.all(axis=2) == known.any(axis=2)).all()
    x, y = (scene.things[..., axis][known[..., axis]] for axis in (0, 1))
    assert np.isfinite(np.concatenate((x, y))).all()
    if scene.kind != "action":  # where a camera follows one of them, the others may leave the frame
        assert ((x >= 0) & (x <= 120)).all()
        assert ((y >= 0) & (y <= 72)).all()
    activity = scene.activity[np.isfinite(scene.activity)]
    assert ((activity >= 0) & (activity <= 1)).all()
    for index in range(0, len(scene.frames), 5):
        density = scene.density(index)
        assert (density >= 0).all()
        assert density.sum() == pytest.approx(1, abs=1e-4)  # float32 sum of 8640 pixels


def test_movers_draw_gaze(sources):
    scene = generate_scene(2, sources, LONG, kind="motion")
    travelled = np.abs(np.diff(scene.things[..., :2], axis=0)).sum(axis=(0, 2))
    weights = scene.tracks[0].weights[:, : len(travelled)].mean(axis=0)
    assert weights.argmax() in np.flatnonzero(travelled > 0)
    assert (travelled == 0).any()


def test_nothing_moves_before_an_onset(sources):
    scene = generate_scene(2, sources, LONG, kind="onset")
    moved = np.abs(np.diff(scene.things[..., :2], axis=0)).sum(axis=2) > 0  # (N - 1, K)
    starter = moved.any(axis=0)
    assert starter.sum() == 1
    first = int(moved[:, starter].argmax())
    assert 0.1 * LONG.frames < first < 0.7 * LONG.frames
    weights = scene.tracks[0].weights[:, : len(starter)][:, starter][:, 0]
    assert weights[first + 6] > 2 * weights[: first - 1].max()


def test_gaze_changes_at_onsets_and_cuts(sources):
    scene = generate_scene(2, sources, LONG, kind="onset")
    change = scene.gaze_change()
    assert change.shape == (LONG.frames,)
    moved = np.abs(np.diff(scene.things[..., :2], axis=0)).sum(axis=(1, 2)) > 0
    late = round(LONG.gaze.lag_seconds * LONG.frame_rate_hz)
    assert abs(int(change.argmax()) - (int(moved.argmax()) + late)) <= 1
    assert change.max() > 0.3
    assert change[: moved.argmax()].max() == pytest.approx(0, abs=1e-6)
    cut = generate_scene(2, sources, dataclasses.replace(LONG, cut_share=1.0), kind="still")
    assert cut.gaze_change()[len(cut.tracks[0].weights)] == 1


def test_fixations_follow_the_pixel_under_the_camera(monkeypatch):
    """A single red mark on grey, fixated: the background's components lie on the mark in every frame."""
    monkeypatch.setattr(rendering, "PATCH_SHARE", 0.0)  # a flickering patch may be red too
    rgb = np.full((150, 200, 3), 128, np.uint8)
    rgb[70:77, 96:103] = (255, 0, 0)
    mark = np.tile(np.array([[99.0, 73.0]], np.float32), (5, 1))
    config = dataclasses.replace(LONG, gaze=dataclasses.replace(LONG.gaze, lag_seconds=0.0))
    followed = 0
    for seed in range(12):
        scene = generate_scene(seed, Sources((Photograph("mark", rgb, mark),)), config, kind="still")
        if scene.things.shape[1]:
            continue  # a thing may hide the mark
        for index in range(0, config.frames, 9):
            frame = scene.frames[index].astype(int)
            rows, columns = np.nonzero(frame[..., 0] - frame[..., 1:].max(axis=2) > 40)
            track = scene.tracks[0]
            seen = track.means[index, :-1][track.weights[index, :-1] > 0]
            if len(rows) == 0 or len(seen) == 0 or min(rows.min(), columns.min()) < 1:
                continue
            if rows.max() > 70 or columns.max() > 118:
                continue
            # Half a pixel for the mark's own resampling, half for the threshold's edge.
            assert np.abs(seen - [columns.mean(), rows.mean()]).max() < 1
            followed += 1
    assert followed >= 10
