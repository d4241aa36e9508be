"""Random weights that behave like trained ones: for demos, builds without weights, and parity tests.

Plain initialisation makes every map the same grey: batch normalisation has no statistics, offsets are zero, and the
decoders' logits hardly vary. Here the statistics are taken from a synthetic clip, and each part whose output range
matters is scaled to the range it has in a trained network. The weights know nothing: their maps follow contrast and
texture at best.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtfsal.training.model.blocks import Decoder
from dtfsal.training.model.config import ModelConfig
from dtfsal.training.model.deform_conv import ModulatedDeformConv2d
from dtfsal.training.model.network import DTFSal, build_model

OFFSET_STD_PIXELS = 1.0  # of the deformable convolution: fractional, and past the border at the edges
SIDE_LOGIT_MEAN, SIDE_LOGIT_STD = -2.0, 2.0  # side maps: mostly dark, some bright
FINAL_GAIN, FINAL_THRESHOLD = 10.0, 0.3  # the final map: a soft threshold of the side maps' mean


def seeded_model(preset_or_config: str | ModelConfig, *, seed: int = 0) -> DTFSal:
    """A model with random but non-degenerate weights, in evaluation mode; the same for the same seed and torch.

    Args:
        preset_or_config: as `build_model`.
        seed: of weights and calibration clip.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = build_model(preset_or_config)
        video, audio = synthetic_window(model.config)
        _calibrate_offsets(model)
        if audio is not None:
            _calibrate_sound(model, audio)
        _calibrate_statistics(model, video, audio)
        _calibrate_logits(model, video, audio)
    return model.eval()


def synthetic_window(config: ModelConfig) -> tuple[Tensor, Tensor | None]:
    """Moving bright and coloured spots over noise, and changing bands of sound over noise, from torch's random state.

    Returns:
        video (1, 3, T, H, W) normalised, and audio (1, S, 1, h, w) log-mel or None.
    """
    clip = config.clip
    rows, columns = torch.linspace(-1, 1, clip.height)[:, None], torch.linspace(-1, 1, clip.width)[None, :]
    time = torch.linspace(0, 1, clip.frames)[:, None, None]
    video = 0.3 * torch.randn(3, 1, clip.height, clip.width).expand(3, clip.frames, -1, -1).clone()
    for _ in range(6):
        (y, x, vy, vx), radius = torch.rand(4) * 2 - 1, 0.05 + 0.25 * torch.rand(())
        spot = torch.exp(-((rows - y - vy * time) ** 2 + (columns - x - vx * time) ** 2) / (2 * radius**2))
        video += 2 * torch.randn(3, 1, 1, 1) * spot
    audio = None
    if config.audio is not None:
        slices, height, width = config.audio.slices, config.audio.height, config.audio.width
        bands = F.interpolate(torch.randn(1, slices, 4, 8), (height, width), mode="bilinear", align_corners=False)
        mel = 2 * bands + 0.5 * torch.randn(1, slices, height, width) - 1.5
        audio = mel[:, :, None].clamp_min(config.audio.silence)
    return video.clamp(-2, 2)[None], audio


def _calibrate_offsets(model: DTFSal) -> None:
    for module in model.modules():
        if isinstance(module, ModulatedDeformConv2d):
            fan_in = math.prod(module.offset_mask.weight.shape[1:])
            nn.init.normal_(module.offset_mask.weight, std=OFFSET_STD_PIXELS / math.sqrt(fan_in))


def _calibrate_sound(model: DTFSal, audio: Tensor) -> None:
    """Have the sound encoder tell sounds apart: plain initialisation lets its biases drown the slices."""
    x = audio.flatten(0, 1)
    for layer in model.audio.vggish.features:
        if isinstance(layer, nn.Conv2d):
            _standardise(layer, x)
        x = layer(x)
    _standardise(model.audio.enhance.embed, x)


def _standardise(conv: nn.Conv2d, x: Tensor) -> None:
    """Scale and shift a convolution so that its channels have mean 0 and variance 1 on this input."""
    y = conv(x)
    gain = 1 / y.std(dim=(0, 2, 3)).clamp_min(1e-6)
    assert conv.bias is not None
    conv.bias.sub_(y.mean(dim=(0, 2, 3))).mul_(gain)
    conv.weight.mul_(gain[:, None, None, None])


def _calibrate_statistics(model: DTFSal, video: Tensor, audio: Tensor | None) -> None:
    """Give every batch normalisation the statistics of one window, its own kind of momentum left as it was."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # cumulative average: after one batch, that batch's statistics
    model.train()(video, audio)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def _calibrate_logits(model: DTFSal, video: Tensor, audio: Tensor | None) -> None:
    """Scale each decoder's last convolution to the logits' wanted spread, and set the final fusion."""
    _, side_maps = model(video, audio, return_side_maps=True)
    for decoder, logits in zip(model.decoders, side_maps[0].logit(), strict=True):
        gain = SIDE_LOGIT_STD / logits.std().clamp_min(1e-6)
        assert isinstance(decoder, Decoder)
        assert decoder.predict.bias is not None
        decoder.predict.weight.mul_(gain)
        decoder.predict.bias.sub_(logits.mean()).mul_(gain).add_(SIDE_LOGIT_MEAN)
    model.final.weight.fill_(FINAL_GAIN / len(model.decoders))
    assert model.final.bias is not None
    model.final.bias.fill_(-FINAL_GAIN * FINAL_THRESHOLD)
