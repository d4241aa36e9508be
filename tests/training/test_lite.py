"""What the lite preset adds: mixing along time, pooled sound, a model in parts, clips whose frames are encoded once."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dtfsal.training.audio import PositionPool
from dtfsal.training.config import PRESETS
from dtfsal.training.data.camera import Shot
from dtfsal.training.data.clips import StillClip, clip_windows, mel_slices
from dtfsal.training.encoded_clip import encode_clip, predict_windows, window_batch
from dtfsal.training.evaluate import predict_photograph
from dtfsal.training.frames import frame_tensor
from dtfsal.training.model import TemporalMixing
from dtfsal.training.seeded import seeded_model, synthetic_window
from dtfsal.training.still_stage import predict_stills

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


def test_mixing_starts_as_nothing_and_sees_what_changes():
    torch.manual_seed(0)
    mixing = TemporalMixing(4)
    finer, x = torch.randn(6, 4, 8, 12), torch.randn(6, 4, 2, 3)
    assert torch.equal(mixing(finer, x, 3), x)
    torch.nn.init.normal_(mixing.project.weight)
    with torch.no_grad():
        moved = finer.clone()
        moved[1, :, :4, :4] += 1.0  # level 2 changes at time 1 in the cell (0, 0) of level 4
        difference = (mixing(moved, x, 3) - mixing(finer, x, 3)).abs().amax(dim=1)
    assert difference[:3, 0, 0].min() > 0  # seen by all times that the kernel of five reaches
    difference[:3, 0, 0] = 0
    assert difference.max() == 0  # and nowhere else, nor in the other clip


def test_mixing_is_the_stated_convolution():
    torch.manual_seed(1)
    mixing = TemporalMixing(3).double()
    torch.nn.init.normal_(mixing.project.weight)
    finer, x = torch.randn(5, 3, 4, 8, dtype=torch.float64), torch.randn(5, 3, 1, 2, dtype=torch.float64)
    change = torch.zeros(5, 3, 1, 2, dtype=torch.float64)
    for time in range(1, 5):
        for cell in range(2):
            step = (finer[time] - finer[time - 1]).abs()[:, :, 4 * cell : 4 * cell + 4]
            change[time, :, 0, cell] = step.mean(dim=(1, 2))
    joined = torch.cat((x, change), dim=1)
    expected = x.clone()
    for time in range(5):
        total = mixing.across.bias[:, None, None].expand(-1, 1, 2).clone()
        for tap in range(5):
            if 0 <= time + tap - 2 < 5:
                total = total + mixing.across.weight[:, 0, tap, 0, None, None] * joined[time + tap - 2]
        expected[time] += F.conv2d(total.relu()[None], mixing.project.weight, mixing.project.bias)[0]
    torch.testing.assert_close(mixing(finer, x, 5), expected, rtol=0, atol=1e-12)


def test_pooled_sound_starts_as_the_mean_at_any_size():
    pool, x = PositionPool(4, (2, 3)), torch.randn(1, 2, 4, 2, 3)
    torch.testing.assert_close(pool(x)[..., 0, 0], x.mean(dim=(3, 4)), rtol=0, atol=1e-6)
    larger = torch.randn(1, 2, 4, 5, 7)
    torch.testing.assert_close(pool(larger)[..., 0, 0], larger.mean(dim=(3, 4)), rtol=0, atol=1e-6)


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
            torch.testing.assert_close(found[number], whole, rtol=0, atol=1e-5)  # as the parts together


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


def test_the_quick_way_for_stills_differs_by_the_mixings_padding_only(model):
    rgb = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    whole = predict_photograph(model, rgb)
    with torch.no_grad():
        quick = predict_stills(model, frame_tensor(rgb[None], model.config.clip))[0, 0].numpy()
    # The projection of a model that is not trained is zero, so there is no difference but rounding.
    np.testing.assert_allclose(quick, whole, atol=1e-5)
