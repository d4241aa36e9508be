"""DTFSal's parts against the paper's equations written out, and the whole against the paper's tables."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dtfsal.engines.bundle.specs import ClipSpec
from dtfsal.engines.errors import UsageError
from dtfsal.training import PRESETS, build_model
from dtfsal.training.model.blocks import AMFB, DLTFB, LTEB, Decoder, TemporalConv, TopDown, shift
from dtfsal.training.model.seeded import seeded_model, synthetic_window

FLOAT64 = 1e-10  # two orders of the same float64 sums


def randomised(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.fixture(scope="module")
def tiny():
    return seeded_model("tiny")


@pytest.mark.parametrize(("preset", "millions"), [("dtfsal-v", 40.73), ("dtfsal", 49.08)])
def test_parameter_counts_of_table_1(preset, millions):
    with torch.device("meta"):
        model = build_model(preset)
    assert count(model) == pytest.approx(millions, rel=0.005)
    assert count(model.decoders) == pytest.approx(1.74, rel=0.03)  # Table 5


@pytest.mark.parametrize("preset", PRESETS)
def test_shapes_and_range(preset):
    with torch.device("meta"):
        model = build_model(preset)
        clip, audio = model.config.clip, model.config.audio
        video = torch.empty(2, 3, clip.frames, clip.height, clip.width)
        slices = None if audio is None else torch.empty(2, 9, 1, clip.height // 2, clip.width // 2)
        saliency_map, side_maps = model(video, slices, return_side_maps=True)
    assert saliency_map.shape == (2, 1, clip.height, clip.width)
    assert side_maps.shape == (2, 4, clip.height, clip.width)


def test_maps_are_in_the_unit_interval(tiny):
    video, audio = synthetic_window(tiny.config)
    with torch.no_grad():
        saliency_map, side_maps = tiny(video, audio, return_side_maps=True)
    for maps in (saliency_map, side_maps):
        assert maps.min() >= 0
        assert maps.max() <= 1


def test_final_fusion_is_equation_16(tiny):
    video, audio = synthetic_window(tiny.config)
    with torch.no_grad():
        saliency_map, side_maps = tiny(video, audio, return_side_maps=True)
        weight, bias = tiny.final.weight[0, :, 0, 0], tiny.final.bias
        expected = ((weight[:, None, None] * side_maps[0]).sum(0) + bias).sigmoid()
    torch.testing.assert_close(saliency_map[0, 0], expected, rtol=0, atol=1e-6)


def test_windows_of_a_batch_do_not_see_each_other(tiny):
    (a, sound_a), (b, sound_b) = synthetic_window(tiny.config), synthetic_window(tiny.config)
    with torch.no_grad():
        both = tiny(torch.cat((a, b)), torch.cat((sound_a, sound_b)))
        apart = torch.cat((tiny(a, sound_a), tiny(b, sound_b)))
    torch.testing.assert_close(both, apart, rtol=0, atol=1e-5)  # kernels differ with the batch


def test_no_sound_is_digital_silence(tiny):
    video, audio = synthetic_window(tiny.config)
    silence = torch.full_like(audio, tiny.config.audio.silence)
    with torch.no_grad():
        torch.testing.assert_close(tiny(video), tiny(video, silence), rtol=0, atol=0)
        assert (tiny(video) - tiny(video, audio)).abs().max() > 0.01


@pytest.mark.parametrize(("frames", "height", "width"), [(2, 32, 32), (4, 64, 96), (8, 32, 64), (48, 32, 32)])
def test_other_sizes_by_configuration_and_by_input(tiny, frames, height, width):
    config = tiny.config.resized(frames=frames, height=height, width=width)
    video, audio = synthetic_window(config)
    with torch.no_grad():
        assert build_model(config).eval()(video, audio).shape == (1, 1, height, width)
        assert tiny(video, audio).shape == (1, 1, height, width)


def test_every_parameter_learns_but_taps_on_padding(tiny):
    model = build_model(tiny.config)
    torch.nn.init.normal_(model.fusion.adaptive_stream.conv.offset_mask.weight, std=0.01)
    video, audio = synthetic_window(model.config)
    model(video, audio).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
        unused = name.startswith("decoders.") and ".conv.weight" in name
        if unused and name.split(".")[3] in ("2", "3"):  # one time is left: only the central tap meets a frame
            assert (parameter.grad[:, :, [0, 2]] == 0).all()


@pytest.mark.parametrize(
    ("video", "audio", "match"),
    [
        ((1, 3, 15, 96, 160), None, "multiple of 2"),
        ((1, 3, 16, 90, 160), None, "multiples of 32"),
        ((1, 4, 16, 96, 160), None, "video must be"),
        ((3, 16, 96, 160), None, "video must be"),
        ((1, 3, 0, 96, 160), None, "do not fit"),
        ((1, 3, 16, 96, 160), (1, 9, 1, 96, 160), "audio must be"),
        ((2, 3, 16, 96, 160), (1, 9, 1, 48, 80), "audio must be"),
        ((0, 3, 16, 96, 160), None, "do not fit"),
    ],
)
def test_wrong_shapes_are_said(tiny, video, audio, match):
    with pytest.raises(UsageError, match=match):
        tiny(torch.zeros(video), None if audio is None else torch.zeros(audio))


def test_frames_that_are_not_normalised_yet_are_said(tiny):
    with pytest.raises(UsageError, match="floating point"):
        tiny(torch.zeros(1, 3, 16, 96, 160, dtype=torch.uint8))


def test_the_visual_model_takes_no_sound():
    model = build_model("tiny-v")
    with pytest.raises(UsageError, match="visual only"):
        model(torch.zeros(1, 3, 16, 96, 160), torch.zeros(1, 9, 1, 48, 80))


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(UsageError, match="dtfsal-v"):
        build_model("huge")


def test_shift_by_index():
    x, s = randn(2, 11, 4, 5), 2
    sizes = [group.shape[1] for group in x.tensor_split(5, dim=1)]
    for dim in (2, 3):
        expected, start = torch.zeros_like(x), 0
        for step, size in zip(range(-s, s + 1), sizes, strict=True):
            for position in range(x.shape[dim]):
                if 0 <= position - step < x.shape[dim]:
                    moved = x[:, start : start + size].select(dim, position - step)
                    expected[:, start : start + size].select(dim, position).copy_(moved)
            start += size
        torch.testing.assert_close(shift(x, s, dim), expected, rtol=0, atol=0)


def test_shift_further_than_the_map_leaves_zeros():
    assert shift(torch.ones(1, 5, 1, 1), 2, 3).flatten().tolist() == [0, 0, 1, 0, 0]


def test_top_down_is_equation_3():
    module = randomised(TopDown((3, 4, 5, 6), 8))
    pyramid = [randn(2, c, 16 // 2**i, 24 // 2**i) for i, c in enumerate((3, 4, 5, 6))]

    def up(x, factor):
        return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)

    with torch.no_grad():
        lateral = [conv(level) for conv, level in zip(module.lateral, pyramid, strict=True)]
        f4 = lateral[3]
        f3 = lateral[2] + up(f4, 2)
        f2 = lateral[1] + up(f3, 2) + up(f4, 4)
        f1 = lateral[0] + up(f2, 2) + up(f4, 8)
        expected = [module.refine[0](f1), module.refine[1](f2), module.refine[2](f3), f4]
        for ours, theirs in zip(module(pyramid), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=FLOAT64)


def token_path(block, x):
    """Eq. 4-7, one mixture of tokens per time."""
    gate = F.conv2d(x, block.gate.weight, block.gate.bias, padding=1).sigmoid()
    embedding = gate.mean((2, 3))
    weights = F.linear(embedding, block.weights.weight, block.weights.bias).softmax(1)
    maps = []
    for w in weights:
        mixture = sum(w_i * token for w_i, token in zip(w, block.tokens, strict=True))
        mixture = F.interpolate(mixture[None], size=x.shape[-2:], mode="bilinear", align_corners=False)
        maps.append(F.conv2d(mixture, block.token_conv.weight, block.token_conv.bias, padding=1))
    return torch.cat(maps)


@pytest.mark.parametrize("folded", [False, True])
def test_lteb_is_equations_4_to_8(folded):
    block, x = randomised(LTEB(6, 3, (2, 3), (8, 12))), randn(4, 6, 8, 12)
    with torch.no_grad():
        if folded:
            block.fold_tokens()
        torch.testing.assert_close(block(x), x * token_path(block, x) + x, rtol=0, atol=FLOAT64)


def test_dltfb_is_equations_9_to_11():
    block, x = randomised(DLTFB(7, 3, (4, 6), (4, 6), 2)), randn(4, 7, 4, 6)
    with torch.no_grad():
        y = F.conv2d(shift(x, 2, 3), block.conv_in.weight, block.conv_in.bias)
        y = F.conv2d(F.gelu(y), block.conv_mid.weight, block.conv_mid.bias, padding=1)
        y = shift(y, 2, 2)
        mean, var = y.mean(1, keepdim=True), y.var(1, unbiased=False, keepdim=True)
        y = (y - mean) / (var + 1e-5).sqrt() * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]
        shifted = x + F.conv2d(y, block.conv_out.weight, block.conv_out.bias)
        torch.testing.assert_close(block(x), x * token_path(block, x) + shifted, rtol=0, atol=FLOAT64)


def test_amfb_is_equations_12_to_14():
    block, times = randomised(AMFB(4)), 3
    visual, audio = randn(2 * times, 4, 5, 6), randn(2 * times, 4, 5, 6, seed=2)
    with torch.no_grad():
        x = torch.cat((visual, audio), 1)
        streams = [stream(x) for stream in (block.local_stream, block.global_stream, block.adaptive_stream)]
        expected = torch.empty_like(streams[0])
        for b in range(2):
            of_window = slice(b * times, (b + 1) * times)
            pooled = torch.cat([stream[of_window].mean((0, 2, 3)) for stream in streams])
            scores = F.linear(pooled, block.scores.weight, block.scores.bias).sigmoid()
            expected[of_window] = sum(w * stream[of_window] for w, stream in zip(scores, streams, strict=True))
        torch.testing.assert_close(block(visual, audio, times), expected, rtol=0, atol=FLOAT64)


def definitional_temporal_conv(conv, clip):
    """The rule of docs/explanation/model.md in words, on (B, C, times, h, w).

    Crop, centre in 3, 7, 15 or 31 times, convolve, crop.
    """
    times = clip.shape[2]
    if times % 2 == 0:
        clip = clip[:, :, 1:]
    if clip.shape[2] == 1:
        return F.conv3d(clip, conv.weight, conv.bias, padding=1)
    whole = next(size for size in (3, 7, 15, 31, 63) if size >= clip.shape[2])
    zeros = (whole - clip.shape[2]) // 2
    padded = F.pad(clip, (0, 0, 0, 0, zeros, zeros))
    y = F.conv3d(padded, conv.weight, conv.bias, stride=(2, 1, 1), padding=(0, 1, 1))
    # Output time t sees padded times 2 t to 2 t + 2: those that see zeros only are no times of the window.
    seen = [t for t in range(y.shape[2]) if 2 * t + 2 >= zeros and 2 * t < zeros + clip.shape[2]]
    return y[:, :, seen]


@pytest.mark.parametrize("times", range(1, 41))
@pytest.mark.parametrize("folded", [False, True])
def test_temporal_convolution_is_conv3d(times, folded):
    conv, clip = randomised(TemporalConv(3, 4)), randn(2, 3, times, 5, 6)
    with torch.no_grad():
        if folded:
            conv.fold(times)
        expected = definitional_temporal_conv(conv, clip)
        ours = conv(clip.transpose(1, 2).flatten(0, 1), times).unflatten(0, (2, -1)).transpose(1, 2)
    torch.testing.assert_close(ours, expected, rtol=0, atol=FLOAT64)


def with_statistics(module, seed=5):
    """Random parameters, and batch statistics as after training."""
    generator = torch.Generator().manual_seed(seed)
    for norm in randomised(module).modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.copy_(torch.randn(norm.num_features, generator=generator))
            norm.running_var.copy_(0.5 + torch.rand(norm.num_features, generator=generator))
    return module


def norm_act(x, norm):
    """Batch normalisation by its formula and ReLU, on (B, C, ...)."""

    def column(values):
        return values.reshape(-1, *[1] * (x.ndim - 2))

    scaled = (x - column(norm.running_mean)) / column(norm.running_var + 1e-5).sqrt()
    return (scaled * column(norm.weight) + column(norm.bias)).clamp_min(0)


def test_amfb_streams_are_convolutions_normalised():
    block, x = with_statistics(AMFB(4)), randn(3, 8, 5, 6)
    with torch.no_grad():
        for stream, padding in ((block.local_stream, 1), (block.global_stream, 2)):
            expected = norm_act(F.conv2d(x, stream.conv.weight, stream.conv.bias, padding=padding), stream.norm)
            torch.testing.assert_close(stream(x), expected, rtol=0, atol=FLOAT64)


@pytest.mark.parametrize("times", [1, 3, 5, 8, 16, 24, 40])
def test_a_decoder_is_four_3d_convolutions_and_two_doublings(times):
    decoder, x = with_statistics(Decoder(5, (6, 5, 4, 3))), randn(2 * times, 5, 3, 4)
    with torch.no_grad():
        y = x.unflatten(0, (2, times)).transpose(1, 2)  # (B, C, T', h, w)
        for index, block in enumerate(decoder.blocks):
            y = norm_act(definitional_temporal_conv(block.conv, y), block.norm)
            if index in (1, 2):
                y = F.interpolate(y, scale_factor=(1, 2, 2), mode="trilinear", align_corners=False)
        assert y.shape == (2, 3, 3 if times > 32 else 1, 12, 16)
        y = F.conv3d(y.mean(2, keepdim=True), decoder.predict.weight[:, :, None], decoder.predict.bias)
        expected = F.interpolate(y, size=(1, 96, 128), mode="trilinear", align_corners=False)[:, :, 0]
        torch.testing.assert_close(decoder(x, times, (96, 128)), expected, rtol=0, atol=FLOAT64)


def target_token(times, target):
    """The token time of the target frame where a token is two frames (MViTv2) or one."""
    clips = [ClipSpec(frames=stride * times, height=32, width=32, target=target) for stride in (1, 2)]
    (token,) = {clip.target_index // stride for clip, stride in zip(clips, (1, 2), strict=True)}
    return token


@given(times=st.integers(1, 80), target=st.sampled_from(["centre", "last"]), seed=st.integers(0, 2**16))
def test_a_decoder_reads_its_target_and_all_of_the_window(times, target, seed):
    """A gradient at every token time; none at the first of an even number, which is the farthest from the target."""
    torch.manual_seed(seed)
    decoder = Decoder(2, (3, 3, 3, 3)).double().eval()
    for norm in decoder.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.bias.data.fill_(10.0)  # no ReLU is shut, which would hide a time
    x = torch.rand(times, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    decoder(x, times, (12, 12)).sum().backward()
    read = [bool(x.grad[time].abs().max() > 0) for time in range(times)]
    assert read == [times % 2 == 1 or time > 0 for time in range(times)]
    token = target_token(times, target)
    assert read[token]
    if target == "centre":  # as many times before the target as after it
        assert sum(read[:token]) == sum(read[token + 1 :])


@pytest.mark.parametrize("times", [1, 2, 8, 16, 24, 64])
def test_decoders_consume_any_number_of_times(times):
    decoder = randomised(Decoder(3, (4, 4, 4, 4)))
    with torch.no_grad():
        assert decoder(randn(times, 3, 2, 3), times, (64, 96)).shape == (1, 1, 64, 96)


def test_a_batch_size_may_differ_from_one_in_training(tiny):
    model = build_model(dataclasses.replace(tiny.config, name="other")).train()
    video, audio = synthetic_window(tiny.config)
    assert model(video.expand(2, -1, -1, -1, -1), audio.expand(2, -1, -1, -1, -1)).shape[0] == 2
