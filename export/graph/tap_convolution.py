"""A decoder's first convolution in two steps, so that windows share the first: each frame alone, then sums over times.

`TemporalConv` sums a 2-D convolution of each of three neighbouring frames, one for each temporal tap. Which tap a frame
meets depends on its place in the window, so a frame is convolved for every tap: for lite's window of 16 times these
are 3 convolutions once, where the windows that hold the frame would compute 3 x 7 = 21 of them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtfsal.training.model.blocks import ConvNormAct, Decoder, TemporalConv

TAP_NAMES = ("previous", "current", "next")  # which of a kernel's three times a frame is


def first_convolution(decoder: nn.Module) -> TemporalConv:
    """The convolution of a decoder's first block."""
    assert isinstance(decoder, Decoder)
    block = decoder.blocks[0]
    assert isinstance(block, ConvNormAct)
    assert isinstance(block.conv, TemporalConv)
    return block.conv


class ConvolvedTaps(nn.Module):
    """Frames alone, convolved for each tap that meets a frame in a window of so many times.

    The bias is with the central tap, if every output time has a frame there.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: TemporalConv, times: int) -> None:
        super().__init__()
        self.taps = conv.taps(times)
        kernels = conv.weight.detach()[:, :, self.taps.start : self.taps.stop]  # (C', C, taps, 3, 3)
        self.register_buffer("weight", kernels.permute(2, 0, 1, 3, 4).flatten(0, 1).contiguous())
        bias = torch.zeros(len(self.taps), len(conv.bias), dtype=conv.bias.dtype)
        if _bias_at_centre(conv, times):
            bias[self.taps.index(1)] = conv.bias.detach()
        self.register_buffer("bias", bias.flatten())

    def forward(self, level: Tensor) -> tuple[Tensor, ...]:
        """(N, C, h, w) -> for each tap (N, C', h, w)."""
        return F.conv2d(level, self.weight, self.bias, padding=1).chunk(len(self.taps), dim=1)


def _bias_at_centre(conv: TemporalConv, times: int) -> bool:
    """Whether the central tap of every output time meets a frame, and so can bring the bias."""
    return times <= 2 or conv.padding(times) < 2


def sum_convolved_taps(conv: TemporalConv, taps: Sequence[Tensor], times: int) -> Tensor:
    """A `TemporalConv` of what `ConvolvedTaps` gave: taps of (B*times, C', h, w) -> (B*output_times, C', h, w)."""
    clips = [tap.unflatten(0, (-1, times)) for tap in taps]  # each (B, times, C', h, w)
    terms = [conv.windows(clip)[place] for place, clip in enumerate(clips)]  # each (B, output_times, C', h, w)
    total = sum(terms[1:], terms[0])
    return (total if _bias_at_centre(conv, times) else total + conv.bias[:, None, None]).flatten(0, 1)


def take_convolved_taps(decoder: nn.Module) -> None:
    """Have a decoder's first convolution take what `ConvolvedTaps` gave in place of features."""
    first_convolution(decoder).operator = sum_convolved_taps
