"""The sound encoder against its definition in float64."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from dtfsal.engines.bundle.specs import AudioSpec, ClipSpec
from dtfsal.training.model.audio import AudioBranch, TemporalEnhancement, VGGish, resample_matrix, timeline_matrix
from dtfsal.training.model.config import AudioBranchConfig

FLOAT64 = 1e-10  # two orders of the same float64 sums
SMALL = AudioBranchConfig(widths=(2, 3, 4, 4, 5, 6), heads=2, mlp_ratio=2.0)
CLIP = ClipSpec(frames=16, height=64, width=96, frame_rate_hz=12.5)
THREE_SLICES = AudioSpec(slices=3, height=32, width=48)


def randomised(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_vggish_is_the_convolutions_of_hershey_2017():
    module, x = randomised(VGGish(SMALL.widths)), randn(2, 1, 32, 48)
    state = module.state_dict()
    # Configuration "64, M, 128, M, 256, 256, M, 512, 512, M"; the numbers are the places in a sequence with ReLU.
    expected = x
    for number, pooled in ((0, True), (3, True), (6, False), (8, True), (11, False), (13, True)):
        weight, bias = state.pop(f"features.{number}.weight"), state.pop(f"features.{number}.bias")
        expected = F.conv2d(expected, weight, bias, padding=1).clamp_min(0)
        if pooled:
            n, c, h, w = expected.shape
            expected = expected.reshape(n, c, h // 2, 2, w // 2, 2).amax((3, 5))
    assert not state
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected, rtol=0, atol=FLOAT64)
    assert expected.shape == (2, 6, 2, 3)


def test_published_widths_have_vggishs_parameters():
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in VGGish(AudioBranchConfig().widths).parameters())
    pairs = [(1, 64), (64, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    assert count == sum(9 * a * b + b for a, b in pairs) == 4_499_712


def test_temporal_enhancement_is_a_pre_norm_transformer_layer():
    module, x = randomised(TemporalEnhancement(SMALL, slices=3, width=8)), randn(2, 3, 6, 2, 3)

    def norm(layer, v):
        v = (v - v.mean(-1, keepdim=True)) / (v.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return v * layer.weight + layer.bias

    with torch.no_grad():
        expected = torch.empty(2, 3, 8, 2, 3, dtype=torch.float64)
        for b in range(2):
            places = [(s, i, j) for s in range(3) for i in range(2) for j in range(3)]
            embed = module.embed.weight[:, :, 0, 0]
            tokens = torch.stack([embed @ x[b, s, :, i, j] + module.embed.bias + module.time[s] for s, i, j in places])
            q, k, v = F.linear(norm(module.norm1, tokens), module.qkv.weight, module.qkv.bias).split(8, dim=1)
            heads = []
            for head in (slice(0, 4), slice(4, 8)):
                scores = (q[:, head] @ k[:, head].T / math.sqrt(4)).softmax(-1)
                heads.append(scores @ v[:, head])
            tokens = tokens + F.linear(torch.cat(heads, 1), module.project.weight, module.project.bias)
            hidden = F.linear(norm(module.norm2, tokens), module.mlp[0].weight, module.mlp[0].bias)
            hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
            tokens = tokens + F.linear(hidden, module.mlp[2].weight, module.mlp[2].bias)
            for (s, i, j), token in zip(places, tokens, strict=True):
                expected[b, s, :, i, j] = token
        torch.testing.assert_close(module(x), expected, rtol=0, atol=FLOAT64)


@pytest.mark.parametrize(("slices", "times"), [(9, 16), (9, 8), (9, 1), (9, 9), (3, 24), (1, 4)])
def test_resampling_is_linear_between_half_pixel_centres(slices, times):
    matrix = resample_matrix(slices, times)
    for row in range(times):
        position = min(max((row + 0.5) * slices / times - 0.5, 0), slices - 1)
        expected = [max(0.0, 1 - abs(position - column)) for column in range(slices)]
        # Positions up to 9 in float32.
        torch.testing.assert_close(matrix[row], torch.tensor(expected, dtype=torch.float32), rtol=0, atol=2e-6)


@pytest.mark.parametrize("times", [4, 1, 7])
def test_the_branch_is_slices_encoded_enhanced_and_resampled(times):
    branch, x = randomised(AudioBranch(SMALL, THREE_SLICES, CLIP, times=4, width=8)), randn(2, 3, 1, 32, 48)
    with torch.no_grad():
        features = torch.stack([branch.encode_slices(x[:, s]) for s in range(3)], dim=1)
        enhanced = branch.enhance(features)
        # Resample channel by channel and place by place.
        signal = enhanced.permute(0, 2, 3, 4, 1).reshape(-1, 1, 3)
        resampled = F.interpolate(signal, size=times, mode="linear", align_corners=False)
        expected = resampled.reshape(2, 8, 2, 3, times).permute(0, 4, 1, 2, 3).flatten(0, 1)
        # The matrix of weights is float32.
        torch.testing.assert_close(branch(features, (2, 3), times), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("slices", "rows", "times"), [(9, 7, 16), (9, 7, 1), (9, 7, 40), (3, 2, 16), (1, 1, 4)])
def test_the_timeline_lays_rows_where_they_were_heard(slices, rows, times):
    audio = AudioSpec(slices=slices, height=16 * rows, width=48)
    matrix = timeline_matrix(audio, CLIP, slices, rows, times)
    assert matrix.min() >= 0
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(times))
    # Slices of 0.64 s every 0.11 s around the middle of a window of 1.28 s: each row's own time comes out.
    heard = torch.tensor(
        [(s - (slices - 1) / 2) * 0.11 + ((r + 0.5) / rows - 0.5) * 0.64 for s in range(slices) for r in range(rows)]
    )
    shown = torch.tensor([((t + 0.5) / times - 0.5) * 1.28 for t in range(times)])
    # A time takes rows up to a row's length away, so the mean of their times is off by less than that.
    assert (matrix @ heard - shown.clamp(heard.min(), heard.max())).abs().max() < 0.64 / rows
    inside = shown.abs() < heard.max() - 0.64 / rows
    if slices == 9 and inside.any():  # where rows are dense on both sides, much less
        assert (matrix @ heard - shown)[inside].abs().max() < 0.02


@pytest.mark.parametrize("times", [4, 1])
def test_a_timeline_branch_hands_every_place_what_is_heard_at_a_time(times):
    config = dataclasses.replace(SMALL, readout="timeline")
    branch, x = randomised(AudioBranch(config, THREE_SLICES, CLIP, times=4, width=8)), randn(2, 3, 1, 32, 48)
    with torch.no_grad():
        features = torch.stack([branch.encode_slices(x[:, s]) for s in range(3)], dim=1)
        found = branch(features, (5, 7), times)
        assert found.shape == (2 * times, 8, 5, 7)
        weighed = (branch.enhance(features) * branch.pitches[:, None]).sum(dim=4)  # (2, 3, 8, rows)
        matrix = timeline_matrix(THREE_SLICES, CLIP, 3, 2, times).double()
        expected = torch.einsum("tsr,bscr->btc", matrix.unflatten(1, (3, 2)), weighed).flatten(0, 1)
        torch.testing.assert_close(found, expected[..., None, None].expand_as(found), rtol=0, atol=1e-6)
