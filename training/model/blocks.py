"""The blocks of DTFSal: top-down pathway, local temporal enhancement, fusion, decoder (paper, sections 3.2 to 3.4).

Token maps of T' times are 2-D images of a batch B*T', so that every convolution along space is a 2-D one; see
`dtfsal.training.model.network`.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtfsal.engines.errors import UsageError
from dtfsal.training.model.deform_conv import ModulatedDeformConv2d
from dtfsal.training.model.precision import EnginePrecision, with_precision


class TopDown(nn.Module):
    """Lateral convolutions, top-down injection and refinement (eq. 2-3)."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(c, width, 1) for c in channels])
        self.refine = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in channels[:-1]])

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        """Four levels (N, C_i, h_i, w_i) to F_1^R..F_4^R, each (N, C*, h_i, w_i)."""
        f1, f2, f3, f4 = (conv(level) for conv, level in zip(self.lateral, pyramid, strict=True))
        f3 = f3 + upsample(f4, f3.shape[-2:])
        f2 = f2 + upsample(f3, f2.shape[-2:]) + upsample(f4, f2.shape[-2:])
        f1 = f1 + upsample(f2, f1.shape[-2:]) + upsample(f4, f1.shape[-2:])
        return [conv(level) for conv, level in zip(self.refine, (f1, f2, f3), strict=True)] + [f4]


class LTEB(nn.Module):
    """Learnable Token Enhancement Block (eq. 4-8).

    Softmax weights sum to one, and interpolation and convolution are linear, so the convolution of eq. 7 over the
    mixture of eq. 6 equals the mixture of the N convolved tokens, bias included: Conv(Interp(sum_i w_i P_i)) =
    sum_i w_i Conv(Interp(P_i)). The N token maps are convolved once instead of one mixture for each time, and
    `fold_tokens` makes them constants of a graph. `tokens_for` is where the benchmarks put the definitional form.
    """

    def __init__(self, width: int, tokens: int, token_grid: tuple[int, int], grid: tuple[int, int]) -> None:
        super().__init__()
        self.gate = nn.Conv2d(width, width, 3, padding=1)
        self.weights = nn.Linear(width, tokens)
        self.tokens = nn.Parameter(torch.empty(tokens, width, *token_grid))
        self.token_conv = nn.Conv2d(width, width, 3, padding=1)
        self.folded: Tensor | None = None
        self.nominal_grid = grid
        self.tokens_for: Callable[[LTEB, Tensor, tuple[int, int]], Tensor] = mix_token_maps
        nn.init.trunc_normal_(self.tokens, std=0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C*, h, w) -> (N, C*, h, w)."""
        return x * self.token_map(x) + x  # eq. 8

    def token_map(self, x: Tensor) -> Tensor:
        """P'' of eq. 7, (N, C*, h, w)."""
        embedding = self.gate(x).sigmoid().mean(dim=(2, 3))  # eq. 4 and E(t): (N, C*)
        return self.tokens_for(self, self.weights(embedding).softmax(dim=1), (x.shape[2], x.shape[3]))

    def token_maps(self, grid: tuple[int, int]) -> Tensor:
        """Q_i = Conv(Interp(P_i)), (N, C*, h, w)."""
        if self.folded is not None and self.folded.shape[-2:] == grid:
            return self.folded
        maps: Tensor = self.token_conv(upsample(self.tokens, grid))
        return maps

    def fold_tokens(self) -> None:
        """Keep the token maps of the nominal size as a constant; for inference, undone by nothing but a new model."""
        with torch.no_grad():
            maps = self.token_maps(self.nominal_grid)
        del self.folded
        self.register_buffer("folded", maps.detach(), persistent=False)


def mix_token_maps(block: LTEB, weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """sum_i w_i Q_i: weights (N, tokens) -> (N, C*, h, w)."""
    maps = block.token_maps(grid)
    return (weights @ maps.flatten(1)).unflatten(1, maps.shape[1:])


class DLTFB(LTEB):
    """Dynamic Learnable Token Fusion Block (eq. 9-11): LTEB's token path, and a path that shifts channel groups."""

    def __init__(
        self, width: int, tokens: int, token_grid: tuple[int, int], grid: tuple[int, int], max_shift: int
    ) -> None:
        super().__init__(width, tokens, token_grid, grid)
        self.max_shift = max_shift
        self.conv_in = nn.Conv2d(width, width, 1)
        self.conv_mid = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.LayerNorm(width)
        self.conv_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C*, h, w) -> (N, C*, h, w)."""
        y = self.conv_mid(F.gelu(self.conv_in(shift(x, self.max_shift, dim=3))))  # eq. 9
        y = shift(y, self.max_shift, dim=2)
        y = self.norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # LayerNorm over channels
        shifted = x + self.conv_out(y)  # eq. 10
        return x * self.token_map(x) + shifted  # eq. 11


def shift(x: Tensor, max_shift: int, dim: int) -> Tensor:
    """Move 2 s + 1 groups of channels by -s..s positions along `dim`; zeros enter, (N, C, h, w) stays."""
    size, groups = x.shape[dim], x.tensor_split(2 * max_shift + 1, dim=1)
    moved = []
    for step, group in zip(range(-max_shift, max_shift + 1), groups, strict=True):
        before, after = min(max(step, 0), size), min(max(-step, 0), size)
        kept = group.narrow(dim, after, size - before - after)
        moved.append(F.pad(kept, (before, after) if dim == 3 else (0, 0, before, after)))
    return torch.cat(moved, dim=1)


class AMFB(nn.Module):
    """Adaptive Multimodal Fusion Block: local, global and adaptive streams, weighted by scores (eq. 12-14)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.local_stream = ConvNormAct(nn.Conv2d(2 * width, width, 3, padding=1), nn.BatchNorm2d(width))
        self.global_stream = ConvNormAct(nn.Conv2d(2 * width, width, 5, padding=2), nn.BatchNorm2d(width))
        self.adaptive_stream = ConvNormAct(ModulatedDeformConv2d(2 * width, width), nn.BatchNorm2d(width))
        self.scores = nn.Linear(3 * width, 3)

    def forward(self, visual: Tensor, audio: Tensor, times: int) -> Tensor:
        """Visual and audio features, each (B*T', C*, h, w), to the fused (B*T', C*, h, w)."""
        x = torch.cat((visual, audio), dim=1)
        streams = (self.local_stream(x), self.global_stream(x), self.adaptive_stream(x))
        pooled = torch.cat([stream.mean(dim=(2, 3)) for stream in streams], dim=1)  # (B*T', 3 C*)
        pooled = pooled.unflatten(0, (-1, times)).mean(dim=1)  # GAP is over time too: (B, 3 C*)
        scores = self.scores(pooled).sigmoid().repeat_interleave(times, dim=0)  # eq. 13: (B*T', 3)
        local_, global_, adaptive = scores[..., None, None].unbind(dim=1)  # each (B*T', 1, 1)
        return local_[:, None] * streams[0] + global_[:, None] * streams[1] + adaptive[:, None] * streams[2]  # eq. 14


def use_layer_norms(module: nn.Module) -> None:
    """Put a normalisation over channels, rows and columns of each map in the place of every batch normalisation."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(module, name, nn.GroupNorm(1, child.num_features))
        else:
            use_layer_norms(child)


class ConvNormAct(nn.Module):
    """A convolution, a normalisation and ReLU; export folds a batch normalisation into the convolution."""

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, x: Tensor, *args: int) -> Tensor:
        """The convolution's input to its output's shape; further arguments are the convolution's."""
        return F.relu(self.norm(self.conv(x, *args)))


class Decoder(nn.Module):
    """One level's features to the logits of its saliency map (section 3.4): 3-D convolutions that also consume time."""

    engine_precision = EnginePrecision(int8=False)

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        blocks = []
        for width in widths:
            blocks.append(ConvNormAct(TemporalConv(channels, width), nn.BatchNorm2d(width)))
            channels = width
        self.blocks = nn.ModuleList(blocks)
        self.predict = with_precision(nn.Conv2d(channels, 1, 1), float32_after=True)

    def forward(self, x: Tensor, times: int, size: tuple[int, int], *, at_rest: bool = False, done: int = 0) -> Tensor:
        """(B*T', C*, h, w) -> logits (B, 1, H, W).

        Args:
            x: a level's features, or what the first `done` blocks made of them; at rest, where all times of a window
                are equal, (B, C*, h, w) of one.
            times: of a window.
            size: H and W.
            at_rest: the same logits at a fraction of the cost.
            done: blocks that are left out.
        """
        for index, block in enumerate(self.blocks):
            if index >= done:
                x = block(x, times, at_rest)
                times = TemporalConv.output_times(times)
            if index in (1, 2) and index >= done - 1:
                x = upsample(x, (2 * x.shape[2], 2 * x.shape[3]))
        return upsample(self.predict(x if at_rest else mean_over_times(x, times)), size)


def mean_over_times(x: Tensor, times: int) -> Tensor:
    """(B*times, C, h, w) -> (B, C, h, w)."""
    return x if times == 1 else x.unflatten(0, (-1, times)).mean(dim=1)


class TemporalConv(nn.Module):
    """Conv3d 3x3x3 that halves the number of times, on times folded into the batch.

    The stride in time is 2. Of an even number of times the first, the one farthest from the target, is left out. 3, 7,
    15 or 31 times need no padding: 15 -> 7 -> 3 -> 1. Any other odd number is taken as the middle of the next of these,
    with zeros at both ends alike; output times that would see zeros only are not computed. One time stays one.
    docs/explanation/model.md says why.

    Each output time is a 2-D convolution over the channels of its three input times, an exact rewrite that lets every
    back end use its 2-D kernels. Where one time is left, the central tap alone meets it, and the others are left out.
    `operator` is where the benchmarks put the definitional form.
    """

    STRIDE = 2

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, channels, 3, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.folded: tuple[int, Tensor] | None = None
        self.operator: Callable[[TemporalConv, Any, int], Tensor] = convolve_in_2d
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    @staticmethod
    def first_time(times: int) -> int:
        """The first time that is read: 1 where the number of times is even, else 0."""
        return 1 - times % 2

    @classmethod
    def padding(cls, times: int) -> int:
        """Zeros before the first and after the last time that is read."""
        read = times - cls.first_time(times)
        if read == 1:
            return 1
        missing = (2 ** read.bit_length() - 1 - read) // 2  # at each end, up to 3, 7, 15 or 31 times
        return 0 if missing == 0 else 2 - missing % 2  # an output time sees at least one time, so at most two zeros

    @classmethod
    def output_times(cls, times: int) -> int:
        """Times that are left of `times`."""
        return (times - cls.first_time(times) + 2 * cls.padding(times) - 3) // cls.STRIDE + 1

    def forward(self, x: Tensor, times: int, at_rest: bool = False) -> Tensor:
        """(B*times, C, h, w) -> (B*output_times, C', h, w); at rest (B, C, h, w) -> (B, C', h, w)."""
        return self.at_rest(x, times) if at_rest else self.operator(self, x, times)

    def at_rest(self, x: Tensor, times: int) -> Tensor:
        """Any output time of a window whose times are all equal, (B, C, h, w) -> (B, C', h, w).

        Raises:
            UsageError: zeros are padded to so many times, and output times differ.
        """
        if self.padding(times) and times > 2:
            raise UsageError(f"a window of {times} times is padded: its times cannot be taken as equal")
        taps = self.taps(times)
        return F.conv2d(x, self.weight[:, :, taps.start : taps.stop].sum(dim=2), self.bias, padding=1)

    def fold(self, times: int) -> None:
        """Keep the re-arranged kernel for this many input times as a constant; for inference."""
        self.folded = (times, self.weight_2d(times).detach())

    @staticmethod
    def taps(times: int) -> range:
        """The temporal taps that meet a time, not padding: all three, or the central one where one time is read."""
        return range(3) if times > 2 else range(1, 2)

    def weight_2d(self, times: int) -> Tensor:
        """(C', C, 3, 3, 3) -> (C', taps*C, 3, 3)."""
        taps = self.taps(times)
        return self.weight[:, :, taps.start : taps.stop].transpose(1, 2).flatten(1, 2)

    def windows(self, clip: Tensor) -> list[Tensor]:
        """For each of `taps` the times that it meets, (B, times, ...) -> taps of (B, output_times, ...)."""
        times = clip.shape[1]
        start, padding, count = self.first_time(times), self.padding(times), self.output_times(times)
        if times <= 2:
            return [clip[:, start:]]
        if padding:
            clip, start = F.pad(clip[:, start:], (0, 0) * (clip.ndim - 2) + (padding, padding)), 0
        starts = [start + tap for tap in self.taps(times)]
        return [clip[:, first : first + self.STRIDE * (count - 1) + 1 : self.STRIDE] for first in starts]


def convolve_in_2d(conv: TemporalConv, x: Tensor, times: int) -> Tensor:
    """A `TemporalConv` as one 2-D convolution, (B*times, C, h, w) -> (B*output_times, C', h, w)."""
    folded = conv.folded if conv.folded is not None and conv.folded[0] == times else None
    weight = conv.weight_2d(times) if folded is None else folded[1]
    if times > 1:
        clip = x.unflatten(0, (-1, times))  # (B, times, C, h, w)
        # (B*output_times, taps*C, h, w); the three times of a single output lie side by side already.
        x = clip.flatten(1, 2) if times == 3 else torch.cat(conv.windows(clip), dim=2).flatten(0, 1)
    return F.conv2d(x, weight, conv.bias, padding=1)


def upsample(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear over rows and columns (trilinear with the time axis kept), half-pixel centres."""
    if x.shape[-2:] == torch.Size(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
