"""A decoder's first two convolutions in steps that windows share.

`TemporalConv` sums a 2-D convolution of each of three neighbouring frames, one for each temporal tap. Which tap a frame
meets depends on its place in the window, so a frame is convolved for every tap: for lite's window of 16 times these
are 3 convolutions once, where the windows that hold the frame would compute 3 x 7 = 21 of them.

After the second convolution the window's times that are left lie 4 apart, and each depends on 7 of its times alone. A
later window has the same time nearer to its beginning. So each is computed once, from three sums of three frames'
convolutions. Zeros at a window's ends are in the way of that: a window of such a length adds up its own sums.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtfsal.training.model.blocks import ConvNormAct, Decoder, TemporalConv

TAP_NAMES = ("previous", "current", "next")  # which of a kernel's three times a frame is
SHARED_BLOCKS = 2  # of a decoder, whose results windows share
# The times of the first convolution that the second takes, from its own.
_FIRST_TIMES = (-2, 0, 2)


def shared_times(times: int) -> tuple[int, ...]:
    """The middle times of what the first two convolutions leave of a window; none where one of them sees zeros."""
    left = times
    for _ in range(SHARED_BLOCKS):
        if left < 3 or TemporalConv.padding(left):
            return ()
        left = TemporalConv.output_times(left)
    return tuple(TemporalConv.first_time(times) + 3 + 4 * place for place in range(left))


def field_taps(tap: int) -> tuple[int, ...]:
    """The frames whose convolution for a tap (0 to 2) is part of a shared time, from that time."""
    return tuple(time + tap - 1 for time in _FIRST_TIMES)


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


class SharedTime(nn.Module):
    """A decoder's first two blocks at one time that is left after them, of what `ConvolvedTaps` gave.

    Args:
        decoder: it is changed.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        first_convolution(decoder).operator = _sum_aligned_taps
        assert isinstance(decoder, Decoder)
        self.blocks = decoder.blocks[:SHARED_BLOCKS]
        second = self.blocks[1]
        assert isinstance(second, ConvNormAct)
        assert isinstance(second.conv, TemporalConv)
        second.conv.fold(len(_FIRST_TIMES))

    def forward(self, taps: Sequence[Tensor]) -> Tensor:
        """For each tap (1, 3, C', h, w), frames as `field_taps` has them -> (1, C'', h, w)."""
        return self.blocks[1](self.blocks[0](taps, len(_FIRST_TIMES)), len(_FIRST_TIMES))


def _sum_aligned_taps(conv: TemporalConv, taps: Sequence[Tensor], times: int) -> Tensor:
    """Taps of (1, times, C', h, w), those of a place belonging together -> (times, C', h, w)."""
    del conv, times  # without padding, the bias is with the central tap
    return sum(taps[1:], taps[0]).flatten(0, 1)
