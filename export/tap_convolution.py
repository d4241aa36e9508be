"""A decoder's first convolution in two steps, so that windows share the first: each frame alone, then sums over times.

`TemporalConv` sums a 2-D convolution of each of three neighbouring frames, one for each temporal tap. Which tap a frame
meets depends on its place in the window, so a frame is convolved for every tap: for lite's window of 16 times these
are 3 convolutions once, where the windows that hold the frame would compute 3 x 7 = 21 of them.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from dtfsal.training.model import ConvNormAct, Decoder, TemporalConv


def first_convolution(decoder: nn.Module) -> TemporalConv:
    """The convolution of a decoder's first block."""
    assert isinstance(decoder, Decoder)
    block = decoder.blocks[0]
    assert isinstance(block, ConvNormAct)
    assert isinstance(block.conv, TemporalConv)
    return block.conv


def convolved_channels(conv: TemporalConv, times: int) -> int:
    """Channels of `ConvolvedTaps` for windows of so many times."""
    return len(conv.taps(times)) * conv.weight.shape[0]


class ConvolvedTaps(nn.Module):
    """Frames alone, convolved for each tap that meets a frame in a window of so many times; without the bias."""

    weight: Tensor

    def __init__(self, conv: TemporalConv, times: int) -> None:
        super().__init__()
        taps = conv.weight.detach()[:, :, list(conv.taps(times))]  # (C', C, taps, 3, 3)
        self.register_buffer("weight", taps.permute(2, 0, 1, 3, 4).flatten(0, 1).contiguous())

    def forward(self, level: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, taps * C', h, w)."""
        return F.conv2d(level, self.weight, padding=1)


def sum_convolved_taps(conv: TemporalConv, x: Tensor, times: int) -> Tensor:
    """A `TemporalConv` of what `ConvolvedTaps` gave: (B*times, taps * C', h, w) -> (B*output_times, C', h, w)."""
    clip = x.unflatten(1, (len(conv.taps(times)), -1)).unflatten(0, (-1, times))  # (B, times, taps, C', h, w)
    terms = [met[:, :, place] for place, met in enumerate(conv.windows(clip))]  # each (B, output_times, C', h, w)
    return (sum(terms[1:], terms[0]) + conv.bias[:, None, None]).flatten(0, 1)


def take_convolved_taps(decoder: nn.Module) -> None:
    """Have a decoder's first convolution take what `ConvolvedTaps` gave in place of features."""
    first_convolution(decoder).operator = sum_convolved_taps


__all__ = ["ConvolvedTaps", "convolved_channels", "first_convolution", "sum_convolved_taps", "take_convolved_taps"]
