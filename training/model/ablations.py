"""What the paper compares its own parts with (Tables 3 to 5), as modules that replace them.

The paper describes these in a sentence each. Where that leaves something open, what has the number of parameters that
it states was chosen: docs/explanation/ablations.md. They are for training; only the paper's own form is exported.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtfsal.training.model.blocks import AMFB, ConvNormAct, Decoder, TemporalConv, mean_over_times, upsample
from dtfsal.training.model.config import DecoderKind, FusionKind

HEADS = 8
UNET_WIDTH = 96
TAIL_WIDTHS = (32, 16)


class Concatenation(nn.Module):
    """Table 4's first row: visual and audio features side by side, mixed by a 1x1 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2 * width, width, 1)

    def forward(self, visual: Tensor, audio: Tensor, _times: int) -> Tensor:
        """Each (B*T', C*, h, w) -> (B*T', C*, h, w)."""
        return self.mix(torch.cat((visual, audio), dim=1))


class CrossAttention(nn.Module):
    """Table 4's second row: visual features as queries and values, audio features as keys, at each time."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_visual, self.norm_audio = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.project = nn.Linear(width, width)

    def forward(self, visual: Tensor, audio: Tensor, _times: int) -> Tensor:
        """Each (B*T', C*, h, w) -> (B*T', C*, h, w)."""
        seen = self.norm_visual(visual.flatten(2).transpose(1, 2))  # (B*T', h*w, C*)
        heard = self.norm_audio(audio.flatten(2).transpose(1, 2))
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(seen), self.key(heard), self.value(seen))
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return visual + self.project(attended).transpose(1, 2).unflatten(2, visual.shape[2:])


class SingleDecoder(nn.Module):
    """Table 5's first row: one decoder, of all levels on level 1's grid, one after another along time."""

    def __init__(self, width: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.decoder = Decoder(width, widths)

    def forward(self, features: list[Tensor], times: int, size: tuple[int, int]) -> Tensor:
        """Four levels (B*T', C*, h_i, w_i) -> logits (B, 1, H, W)."""
        grid = features[0].shape[2:]
        levels = [upsample(level, grid).unflatten(0, (-1, times)) for level in features]  # each (B, T', C*, h, w)
        together = torch.cat(levels, dim=1).flatten(0, 1)
        return self.decoder(together, len(features) * times, size)


class UNetDecoder(nn.Module):
    """Table 5's second row: from the deepest level up, 3-D convolutions and upsampling in turn, finer levels joined."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inputs = (width, *(UNET_WIDTH + width,) * 3)
        self.up = nn.ModuleList([nn.Conv3d(count, UNET_WIDTH, 3, padding=1) for count in inputs])
        self.norms = nn.ModuleList([nn.BatchNorm3d(UNET_WIDTH) for _ in inputs])
        first, second = TAIL_WIDTHS
        self.tail = nn.ModuleList(
            [
                ConvNormAct(TemporalConv(UNET_WIDTH, first), nn.BatchNorm2d(first)),
                ConvNormAct(TemporalConv(first, second), nn.BatchNorm2d(second)),
            ]
        )
        self.predict = nn.Conv2d(second, 1, 1)

    def forward(self, features: list[Tensor], times: int, size: tuple[int, int]) -> Tensor:
        """Four levels (B*T', C*, h_i, w_i) -> logits (B, 1, H, W)."""
        levels = [level.unflatten(0, (-1, times)).transpose(1, 2) for level in features]  # each (B, C*, T', h, w)
        x: Tensor | None = None
        for level, conv, norm in zip(reversed(levels), self.up, self.norms, strict=True):
            if x is not None:
                x = F.interpolate(x, size=level.shape[2:], mode="trilinear", align_corners=False)
                level = torch.cat((x, level), dim=1)
            x = F.relu(norm(conv(level)))
        assert x is not None
        y = x.transpose(1, 2).flatten(0, 1)  # (B*T', C, h, w)
        for block in self.tail:
            y = block(y, times)
            times = TemporalConv.output_times(times)
            y = upsample(y, (2 * y.shape[2], 2 * y.shape[3]))
        return upsample(self.predict(mean_over_times(y, times)), size)


def build_fusion(kind: FusionKind, width: int) -> nn.Module:
    """The fusion of visual and audio features that a configuration names."""
    if kind == "concatenation":
        return Concatenation(width)
    if kind == "cross-attention":
        return CrossAttention(width, HEADS if width % HEADS == 0 else 1)
    return AMFB(width)


def build_joint_decoder(kind: DecoderKind, width: int, widths: tuple[int, ...]) -> nn.Module | None:
    """A decoder of all levels at once; None for the paper's own, which has one for each level."""
    if kind == "single":
        return SingleDecoder(width, widths)
    return UNetDecoder(width) if kind == "unet" else None
