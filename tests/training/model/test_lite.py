"""What lite adds: mixing along time, synchrony with the sound, a model in parts, clips encoded frame by frame."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dtfsal.training.data.camera import Shot
from dtfsal.training.data.clips import CutClip, StillClip, clip_windows, mel_slices
from dtfsal.training.evaluation.encoded_clip import encode_clip, predict_windows, window_batch
from dtfsal.training.evaluation.evaluate import predict_photograph
from dtfsal.training.model.config import PRESETS
from dtfsal.training.model.frames import frame_tensor
from dtfsal.training.model.seeded import seeded_model, synthetic_window
from dtfsal.training.model.temporal import Synchrony, TemporalMixing, motion_features, standardised
from dtfsal.training.model.weights import load_weights, shipped_weights
from dtfsal.training.recipe.still_stage import predict_stills

SMALL = PRESETS["lite"].resized(frames=4, height=64, width=96)


@pytest.fixture(scope="module")
def model():
    return seeded_model(SMALL, seed=3)


@pytest.fixture
def clip():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    left = np.linspace(0, 20, 9)[:, None]
    boxes = np.concatenate((left, left / 2, left + 90, left / 2 + 70), axis=1)
    samples = (0.3 * rng.standard_normal(16000)).astype(np.float32)
    return StillClip(Shot(boxes, False, 64, 96), rgb, np.array([[50, 40]], np.float32), 12.5, samples)


def test_the_preset_is_small(model):
    parameters = sum(p.numel() for p in seeded_model("lite").parameters())
    assert parameters * 2 < 15e6  # bytes in float16


def test_the_parts_together_are_the_whole(model):
    torch.manual_seed(0)
    video, audio = synthetic_window(model.config)
    with torch.no_grad():
        whole = model(video, audio)
        features = model.encode_frames(video[0].transpose(0, 1))
        sound = model.audio.encode_slices(audio[0])[None]
        parts = model.predict(features, sound, model.config.times)[0]
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)  # float32 sums in another order


@pytest.fixture(scope="module")
def discs():
    """What the shipped model makes of a disc on the left and of one on the right, and of silence."""
    path = shipped_weights("lite")
    assert path is not None
    trained = load_weights(path)
    clip, audio = trained.config.clip, trained.config.audio
    rows, columns = np.mgrid[: clip.height, : clip.width]
    frames = np.full((2, clip.height, clip.width, 3), 90, np.uint8)
    for frame, centre in zip(frames, (90, clip.width - 90), strict=True):
        frame[(columns - centre) ** 2 + (rows - clip.height / 2) ** 2 < 26**2] = (230, 80, 60)
    with torch.no_grad():
        features = trained.encode_frames(frame_tensor(frames, clip))
        silence = torch.full((audio.slices, 1, audio.height, audio.width), audio.silence)
        sound = trained.audio.encode_slices(silence)[None]
    return trained, features, sound


def mass_on_the_right(discs, shown):
    trained, features, sound = discs
    with torch.no_grad():
        saliency_map = trained.predict([level[shown] for level in features], sound, trained.config.times)[0][0, 0]
    return float(saliency_map[:, trained.config.clip.width // 2 :].sum() / saliency_map.sum())


@pytest.mark.parametrize("jump", range(1, 16))
def test_the_map_follows_a_disc_that_jumps_at_any_time_of_the_window(discs, jump):
    """The map is the target frame's: it is on the disc's new side if and only if the disc is there at the target."""
    left, right = (mass_on_the_right(discs, torch.full((16,), side)) for side in (0, 1))
    assert left < 0.35  # a disc that stays draws most of the map to its side
    assert right > 0.65
    mass = mass_on_the_right(discs, (torch.arange(16) >= jump).long())
    target = discs[0].config.target_time
    assert (mass > (left + right) / 2) == (jump <= target), (jump, left, mass, right)


def test_a_cut_clip_is_its_parts_one_after_another(clip):
    other = dataclasses.replace(clip, rgb=255 - clip.rgb, points=clip.points + 5)
    cut = CutClip((clip.shortened(4), other.shortened(3)))
    assert len(cut.frames) == 7
    for index, (part, inside) in enumerate([(clip, i) for i in range(4)] + [(other, i) for i in range(3)]):
        np.testing.assert_array_equal(cut.frames[index], part.frames[inside])
        np.testing.assert_array_equal(cut.density(index), part.density(inside))
        np.testing.assert_array_equal(cut.fixations(index), part.fixations(inside))


def test_motion_features_are_cell_means_of_level_2_and_of_its_changes():
    torch.manual_seed(1)
    finer, x = torch.randn(2 * 5, 3, 4, 8, dtype=torch.float64), torch.randn(2 * 5, 3, 1, 2, dtype=torch.float64)
    found = motion_features(finer, x, 5)
    for clip in range(2):
        for time in range(5):
            index = 5 * clip + time
            for cell in range(2):
                here = (slice(None), slice(None), slice(4 * cell, 4 * cell + 4))
                change = torch.zeros(3, 4, 4) if time == 0 else (finer[index] - finer[index - 1])[here].abs()
                expected = torch.cat((x[index, :, 0, cell], finer[index][here].mean((1, 2)), change.mean((1, 2))))
                torch.testing.assert_close(found[index, :, 0, cell], expected, rtol=0, atol=1e-12)


def test_mixing_starts_as_nothing_and_sees_what_changes():
    torch.manual_seed(0)
    mixing = TemporalMixing(4)
    motion, x = torch.randn(6, 12, 2, 3), torch.randn(6, 4, 2, 3)
    assert torch.equal(mixing(motion, x, 3), x)
    torch.nn.init.normal_(mixing.project.weight)
    with torch.no_grad():
        moved = motion.clone()
        moved[1, :, 0, 0] += 1.0  # something happens at time 1 in the cell (0, 0)
        difference = (mixing(moved, x, 3) - mixing(motion, x, 3)).abs().amax(dim=1)
    assert difference[:3, 0, 0].min() > 0  # seen by all times that the kernel of five reaches
    difference[:3, 0, 0] = 0
    assert difference.max() == 0  # and nowhere else, nor in the other clip


def test_mixing_is_the_stated_convolution():
    torch.manual_seed(1)
    mixing = TemporalMixing(3).double()
    torch.nn.init.normal_(mixing.project.weight)
    motion, x = torch.randn(5, 9, 1, 2, dtype=torch.float64), torch.randn(5, 3, 1, 2, dtype=torch.float64)
    expected = x.clone()
    for time in range(5):
        total = mixing.across.bias[:, None, None].expand(-1, 1, 2).clone()
        for tap in range(5):
            if 0 <= time + tap - 2 < 5:
                total = total + mixing.across.weight[:, 0, tap, 0, None, None] * motion[time + tap - 2]
        expected[time] += F.conv2d(total.relu()[None], mixing.project.weight, mixing.project.bias)[0]
    torch.testing.assert_close(mixing(motion, x, 5), expected, rtol=0, atol=1e-12)


def test_standardised_courses_correlate_as_numpy_says():
    rng = np.random.default_rng(0)
    seen, heard = rng.standard_normal((2, 16, 3)), rng.standard_normal((2, 16, 1))
    found = (standardised(torch.from_numpy(seen[None]), 0.0) * standardised(torch.from_numpy(heard[None]), 0.0)).mean(2)
    for course in range(2):
        for place in range(3):
            expected = np.corrcoef(seen[course, :, place], heard[course, :, 0])[0, 1]
            assert found[0, course, place].item() == pytest.approx(expected, abs=1e-12)


@pytest.fixture(scope="module")
def synchrony():
    torch.manual_seed(0)
    return Synchrony(4).eval()


def test_synchrony_finds_the_place_that_moves_with_the_sound(synchrony):
    """Of two places that act alike at different times, the one that acts with the sound stands out."""
    torch.manual_seed(1)
    course, other = torch.rand(16), torch.rand(16)
    motion, directions = torch.zeros(16, 12, 1, 2), torch.randn(12)
    motion[:, :, 0, 0], motion[:, :, 0, 1] = course[:, None] * directions, other[:, None] * directions
    with torch.no_grad():
        kernels = torch.zeros_like(synchrony.heard.weight)
        kernels[:, 0, 3] = 1.0  # what is heard is channel 0 of the sound
        synchrony.heard.weight.copy_(kernels)
        taps = torch.zeros_like(synchrony.seen.weight)
        taps[:, :, 2] = synchrony.seen.weight[:, :, 2]
        synchrony.seen.weight.copy_(taps)
        synchrony.project.weight.zero_()
        synchrony.project.weight[:, Synchrony.COURSES :] = 1.0  # the squares' sum: how much, whichever way
        found = synchrony(100 * motion, 100 * course[None, :, None].expand(1, 16, 4), 16)
    assert (found[:, :, 0, 0] > 2 * found[:, :, 0, 1]).all()


@pytest.mark.parametrize("still", ["sight", "sound"])
def test_nothing_synchronous_where_nothing_moves_or_sounds(synchrony, still):
    motion, sound = torch.randn(16, 12, 2, 3), torch.randn(1, 16, 4)
    silent = sound[:, :1].expand(1, 16, 4) if still == "sound" else sound
    resting = motion[:1].expand(16, 12, 2, 3) if still == "sight" else motion
    with torch.no_grad():
        found = synchrony(resting, silent, 16)
    nothing = synchrony.project.bias[:, None, None].expand(4, 2, 3)
    assert torch.equal(found[0], found[15])
    # What is left of means of 16 equal floats, over the root of the floor.
    torch.testing.assert_close(found[0], nothing, rtol=0, atol=1e-5)


def test_windows_of_an_encoded_clip_are_windows_of_the_model(model, clip):
    encoded = encode_clip(model, clip)
    windows = clip_windows(9, 12.5, model.config.clip, model.config.audio)
    targets = [0, 4, 8]  # mirrored at the start, in the middle, mirrored at the end
    with torch.no_grad():
        found = predict_windows(model, *window_batch([(encoded, target) for target in targets]))
        for number, target in enumerate(targets):
            video = frame_tensor(clip.frames[windows[target].frames], model.config.clip).transpose(0, 1)[None]
            slices = mel_slices(clip.samples, windows[target].slices, model.config.audio)
            whole = model(video, torch.from_numpy(slices)[None])[0]
            # Float32 sums in another order, which random weights amplify: 2e-5 with AVX-512's kernels.
            torch.testing.assert_close(found[number], whole, rtol=0, atol=1e-4)


def test_equal_frames_are_encoded_once(model, clip):
    still = dataclasses.replace(clip, shot=Shot(np.tile(clip.shot.boxes[:1], (9, 1)), False, 64, 96))
    encoded = encode_clip(model, still)
    assert all(len(level) == 1 for level in encoded.features)
    moving = encode_clip(model, dataclasses.replace(clip, shot=Shot(clip.shot.boxes[[0] * 3 + [5] * 6], False, 64, 96)))
    assert [list(window.frames) for window in moving.windows[2:4]] == [[0, 0, 0, 1], [0, 0, 1, 1]]


def test_another_sound_changes_the_slices_and_nothing_else(model, clip):
    encoded = encode_clip(model, clip)
    muted = encoded.with_sound(None, model)
    assert muted.features is encoded.features
    assert (muted.slices == model.config.audio.silence).all()
    assert not torch.equal(encoded.slices, muted.slices)


def test_the_quick_way_for_stills_is_the_whole_model_without_sound():
    """The mixing's projection of a model that is not trained is zero; slices of sound know their place in a window."""
    model = seeded_model(dataclasses.replace(SMALL, audio=None), seed=3)
    rgb = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    whole = predict_photograph(model, rgb)
    with torch.no_grad():
        quick = predict_stills(model, frame_tensor(rgb[None], model.config.clip))[0, 0].numpy()
    np.testing.assert_allclose(quick, whole, atol=1e-5)
